//! Hashes in the names of streams, for texts that are personal or too long. They must never change: another hash
//! would be another stream.

use sha2::{Digest, Sha256};

/// The first `bytes` of the text's SHA-256, in hexadecimal digits.
pub(crate) fn short_hash(text: &str, bytes: usize) -> String {
    hex::encode(&Sha256::digest(text.as_bytes())[..bytes])
}
