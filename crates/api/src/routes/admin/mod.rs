//! What the operator of the platform does: tenants and their sendings, keys, relays, backups, and whether
//! this instance hands over.

pub mod api_keys;
pub mod backups;
pub mod instance;
pub mod relay_now;
pub mod relay_profile;
pub mod relays;
pub mod sendings;
pub mod tenants;
