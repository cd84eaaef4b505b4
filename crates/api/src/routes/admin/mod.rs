//! What the operator of the platform does: tenants and their sendings, keys, relays.

pub mod api_keys;
pub mod not_understood;
pub mod relay_codes;
pub mod relay_now;
pub mod relay_profile;
pub mod relays;
pub mod sendings;
pub mod tenants;
