//! Where an idempotency key is claimed, so that the same key means the same sending for ever.

use sha2::{Digest, Sha256};
use smol_str::{SmolStr, format_smolstr};
use std::fmt::Write;

use crate::slug::TenantId;

/// The stream of an idempotency key: `idempotency-<tenant>-<hash of the key>`.
pub fn idempotency_stream(tenant: &TenantId, key: &str) -> SmolStr {
    let hash = Sha256::digest(key.as_bytes());
    let mut short = String::with_capacity(32);
    for byte in hash.iter().take(16) {
        write!(short, "{byte:02x}").expect("writing to a string cannot fail");
    }
    format_smolstr!("idempotency-{tenant}-{short}")
}
