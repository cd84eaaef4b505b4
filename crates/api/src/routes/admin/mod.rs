//! What the operator of the platform does: tenants and their sendings and senders, keys, relays.

pub mod api_keys;
pub mod relay_now;
pub mod relay_profile;
pub mod relays;
pub mod senders;
pub mod sendings;
pub mod tenants;
