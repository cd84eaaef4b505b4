//! How long a hand-over may take. Its intent states that, and shares of a relay are kept for at least as long.

use chrono::TimeDelta;
use kite_domain::relay::RelayProfile;

/// How long the intent may take to be durable, in addition to the call. If it takes longer, the relay is not called.
pub(crate) const HANDOVER_LEAD: TimeDelta = TimeDelta::seconds(5);

/// How long a hand-over takes at most, from when it is decided on until its last answer.
pub(crate) fn longest_handover(profile: &RelayProfile) -> TimeDelta {
    HANDOVER_LEAD + profile.longest_call()
}
