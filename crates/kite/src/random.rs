//! What nobody can guess.

/// 32 bytes for a key.
pub(crate) fn unpredictable() -> [u8; 32] {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes)
        .expect("the machine's randomness is there, or no TLS would work either");
    bytes
}
