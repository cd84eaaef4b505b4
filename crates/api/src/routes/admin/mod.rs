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

use kite_commands::manage::{ManageError, ManageRefusal};
use kite_domain::slug::RelayId;

use crate::problem::{Answer, Problem};

/// The relay of this id; one that cannot be read names none.
fn relay_of(text: &str) -> Answer<RelayId> {
    text.parse().map_err(|_| Problem::not_found("relay"))
}

/// A write to a relay that is not there is answered as such.
fn relay_problem(error: ManageError) -> Problem {
    match error {
        ManageError::Refused(ManageRefusal::NoRelay(_)) => Problem::not_found("relay"),
        other => other.into(),
    }
}
