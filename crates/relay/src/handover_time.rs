//! How long a hand-over may take: its intent says so, and shares of a relay are kept for at least as long.

use chrono::TimeDelta;
use kite_domain::relay::RelayProfile;

/// How long the intent may take to be durable, beside the call itself. If it takes longer, there is no call.
pub(crate) const HANDOVER_LEAD: TimeDelta = TimeDelta::seconds(5);

/// How long a hand-over takes at most, from when it is decided on until its last answer.
pub(crate) fn longest_handover(profile: &RelayProfile) -> TimeDelta {
    HANDOVER_LEAD + profile.longest_call()
}
