//! Receipts that fit no message yet: kept, tried again, and settled. Receipts that fit are events of their lot.

mod reading;

pub use reading::{REFERENCE_LENGTH_MAX, WrittenReceipt, read_receipt};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use smol_str::{SmolStr, format_smolstr};
use strum::{EnumString, IntoStaticStr, VariantArray};

use crate::slug::RelayId;

/// The longest code of a relay that is kept, in characters. No known code has more than ten.
pub const CODE_LENGTH_MAX: usize = 64;

/// The longest reference of a relay that is kept, in characters.
pub const RELAY_REFERENCE_LENGTH_MAX: usize = 255;

/// The text, cut to this many characters: what a relay says goes into the log, and the log has a bound for everything.
/// U+0000, which not every database can store, becomes U+FFFD.
#[must_use]
pub fn bounded(text: SmolStr, characters_max: usize) -> SmolStr {
    let text = match text.char_indices().nth(characters_max) {
        Some((end, _)) => SmolStr::from(&text[..end]),
        None => text,
    };
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text }
}

/// The time of a relay's clock, limited to the years that every reader of ours can write and read: 1970 to 9999.
#[must_use]
pub fn bounded_time(at: DateTime<Utc>) -> DateTime<Utc> {
    const LAST_SECOND: i64 = 253_402_300_799;
    at.clamp(DateTime::UNIX_EPOCH, DateTime::from_timestamp(LAST_SECOND, 0).unwrap_or(DateTime::UNIX_EPOCH))
}

/// What a receipt says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[derive(EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum ReceiptStatus {
    /// It is on the handset, or in the mailbox.
    Delivered,
    /// It never will be.
    Undelivered,
}

/// A receipt as the relay gave it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RawReceipt {
    /// Our reference, as the relay repeats it; it may not be one of ours.
    pub reference: SmolStr,
    /// The relay's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay_reference: Option<SmolStr>,
    /// What it says.
    pub status: ReceiptStatus,
    /// The relay's code.
    #[serde(default)]
    pub code: SmolStr,
    /// When, by the relay's clock.
    #[serde(with = "chrono::serde::ts_milliseconds")]
    pub at: DateTime<Utc>,
}

/// Receipts for references that nobody knows (yet).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptsParked {
    /// Who sent them.
    pub relay: RelayId,
    /// As they came.
    pub receipts: Vec<RawReceipt>,
}

/// Parked receipts found their message, or were given up after the longest deadline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParkedReceiptsSettled {
    /// Who sent them.
    pub relay: RelayId,
    /// Those that were matched; their lots have them now.
    pub matched: Vec<SettledReceipt>,
    /// Those that were given up.
    pub given_up: Vec<SettledReceipt>,
}

impl ParkedReceiptsSettled {
    /// Whether it settles what was parked under this reference with this status.
    pub fn settles(&self, reference: &str, status: ReceiptStatus) -> bool {
        let is_it = |one: &SettledReceipt| {
            one.reference == reference && one.status.is_none_or(|settled| settled == status)
        };
        self.matched.iter().chain(&self.given_up).any(is_it)
    }
}

/// A parked receipt that no longer waits. Reference and status identify a receipt of a relay: a second one with both
/// brings nothing new.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SettledReceipt {
    /// Our reference, as the relay repeated it.
    pub reference: SmolStr,
    /// What it said. None in events of schema version 1, which settled everything parked under the reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<ReceiptStatus>,
}

impl From<&RawReceipt> for SettledReceipt {
    fn from(receipt: &RawReceipt) -> Self {
        Self { reference: receipt.reference.clone(), status: Some(receipt.status) }
    }
}

/// A receipt that fits no message yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedReceipt {
    /// As it came.
    pub receipt: RawReceipt,
    /// When it was parked.
    pub parked_at: DateTime<Utc>,
}

/// A range of a relay's parked receipts, in the order in which they were parked; those of the same moment in the
/// order of reference and status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedStretch {
    /// Whose.
    pub relay: RelayId,
    /// Parked at this time or later,
    pub from: DateTime<Utc>,
    /// and of those that were parked at `from` only what comes after this one, which names its status.
    pub after: Option<SettledReceipt>,
    /// Parked at this time at the latest.
    pub until: DateTime<Utc>,
}

/// The stream of a relay's parked receipts: `receipts-<relay>`.
pub fn parked_stream(relay: &RelayId) -> SmolStr {
    format_smolstr!("receipts-{relay}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_is_cut_between_characters() {
        assert_eq!(bounded("3043".into(), 4), "3043");
        assert_eq!(bounded("3043".into(), 3), "304");
        assert_eq!(bounded("가나다".into(), 2), "가나");
        assert_eq!(bounded("".into(), 0), "");
    }

    #[test]
    fn a_zero_that_a_relay_says_is_replaced() {
        assert_eq!(bounded("3\u{0}4".into(), 9), "3\u{fffd}4");
    }

    #[test]
    fn a_relays_clock_cannot_leave_the_years_that_can_be_written() {
        let time = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        assert_eq!(bounded_time(DateTime::<Utc>::MAX_UTC), time("9999-12-31T23:59:59Z"));
        assert_eq!(bounded_time(DateTime::<Utc>::MIN_UTC), DateTime::UNIX_EPOCH);
        assert_eq!(bounded_time(time("2027-01-15T08:00:05Z")), time("2027-01-15T08:00:05Z"));
    }
}
