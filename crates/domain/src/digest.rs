//! Hashes in the names of streams, where the text itself is personal or too long. They are for ever: another hash would be
//! another stream.

use sha2::{Digest, Sha256};
use std::fmt::Write;

/// The first `bytes` of the text's SHA-256, in hexadecimal digits.
pub(crate) fn short_hash(text: &str, bytes: usize) -> String {
    let mut short = String::with_capacity(bytes * 2);
    for byte in Sha256::digest(text.as_bytes()).iter().take(bytes) {
        write!(short, "{byte:02x}").expect("writing to a string cannot fail");
    }
    short
}
