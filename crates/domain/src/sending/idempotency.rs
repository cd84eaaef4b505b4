//! Where an idempotency key is claimed, so that the same key means the same sending for ever.

use smol_str::{SmolStr, format_smolstr};

use crate::digest::short_hash;
use crate::slug::TenantId;

/// The stream of an idempotency key: `idempotency-<tenant>-<hash of the key>`.
pub fn idempotency_stream(tenant: &TenantId, key: &str) -> SmolStr {
    format_smolstr!("idempotency-{tenant}-{}", short_hash(key, 16))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_of_a_key_is_for_ever() {
        let tenant = TenantId::parse("acme").unwrap();
        assert_eq!(
            idempotency_stream(&tenant, "order-17"),
            "idempotency-acme-72a90ea3da8b5dd01bde2f27314e02e2"
        );
    }
}
