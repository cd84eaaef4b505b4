//! What the operator of the platform does: tenants with their sendings and senders, keys, relays, backups, and
//! whether this instance hands over.

pub mod api_keys;
pub mod backups;
pub mod instance;
mod key_bounds;
pub mod messages;
pub mod not_understood;
pub mod operator_keys;
pub mod relay_codes;
pub mod relay_now;
pub mod relay_profile;
pub mod relay_tls;
pub mod relays;
pub mod secrets;
pub mod senders;
pub mod sendings;
pub mod tenants;
