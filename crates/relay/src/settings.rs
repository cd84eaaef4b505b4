//! What an operator may set for all relays. Settings of a single relay are in its profile.

use kite_domain::breaker::BreakerSettings;
use kite_domain::time_window::NightWindow;
use serde::{Deserialize, Serialize};

/// Settings of the hand-over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RelaySettings {
    /// When a relay's breaker trips and how it comes back.
    pub breaker: BreakerSettings,
    /// When advertisements may not be handed over, in Seoul time.
    pub night: NightWindow,
    /// Over how long held advertisements are spread after the night window has opened, in seconds.
    pub night_spread_s: u32,
    /// The share of a relay's rate that messages other than one-time passwords may use, in per cent (1 to 100).
    pub ordinary_rate_per_cent: u8,
    /// How long to wait before receipts are pulled again when there were none, in milliseconds.
    pub pull_interval_ms: u32,
    /// The most receipts in one pull.
    pub pull_max: u32,
    /// How long a relay is left alone after "too many" or "out of service" without a Retry-After, in milliseconds.
    pub pause_ms: u32,
    /// How long messages wait before they are tried again after there was no connection, in milliseconds.
    pub no_connection_ms: u32,
    /// How long messages of a suspended relay that no other can carry wait before they are looked at again, in
    /// milliseconds.
    pub suspended_look_ms: u32,
    /// How many sendings' parsed texts are kept in memory; long ones count for several.
    pub texts_max: u32,
}

impl Default for RelaySettings {
    fn default() -> Self {
        Self {
            breaker: BreakerSettings::default(),
            night: NightWindow::default(),
            night_spread_s: 600,
            ordinary_rate_per_cent: 85,
            pull_interval_ms: 1_000,
            pull_max: 500,
            pause_ms: 1_000,
            no_connection_ms: 1_000,
            suspended_look_ms: 30_000,
            texts_max: 10_000,
        }
    }
}
