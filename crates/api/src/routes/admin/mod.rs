//! What the operator of the platform does: tenants and their sendings, keys, relays.

pub mod api_keys;
mod key_bounds;
pub mod operator_keys;
pub mod relay_now;
pub mod relay_profile;
pub mod relays;
pub mod sendings;
pub mod tenants;
