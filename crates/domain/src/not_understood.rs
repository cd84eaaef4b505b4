//! Answers and receipts of a relay that Kite could not read: kept as they came, never guessed.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use smol_str::{SmolStr, format_smolstr};
use std::fmt;
use strum::{IntoStaticStr, VariantArray};
use uuid::Uuid;

use crate::slug::RelayId;

/// How much of the text is kept, in bytes. A receipt takes about 200.
pub const RAW_BYTES_MAX: usize = 2_048;

/// The most that is kept for one relay and one day (UTC), in events. What comes after that is counted but not
/// acknowledged.
pub const KEPT_PER_DAY_MAX: u64 = 1_000;

/// How a relay's words came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[derive(IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum SaidHow {
    /// As a pushed receipt.
    Pushed,
    /// As a pulled receipt.
    Pulled,
    /// In answer to a hand-over.
    Responded,
    /// In answer to a status query.
    Answered,
}

impl SaidHow {
    /// The word in events, metrics and the API.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Why it is not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[derive(IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum MisreadReason {
    /// It is no JSON.
    NoJson,
    /// There is something else where an object belongs.
    NoObject,
    /// A field is missing.
    Missing,
    /// A field has the wrong type.
    WrongType,
    /// A word that the protocol does not have.
    UnknownWord,
    /// A time that is not valid, or has no UTC offset.
    NoTime,
    /// A reference that is longer than any of ours.
    TooLong,
}

impl MisreadReason {
    /// The word in events, metrics and the API.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

impl fmt::Display for MisreadReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::NoJson => "it is no JSON",
            Self::NoObject => "an object belongs there",
            Self::Missing => "it is missing",
            Self::WrongType => "it has the wrong type",
            Self::UnknownWord => "it is none of the words of the protocol",
            Self::NoTime => "a time needs the form of RFC 3339, with Z or its distance from UTC",
            Self::TooLong => "it is longer than any reference of ours",
        })
    }
}

/// Something that could not be read, before it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misread {
    /// Its place in the list that it came in, from 0; none: it is the whole.
    pub row: Option<u32>,
    /// Which field of it.
    pub field: Option<SmolStr>,
    /// Why.
    pub reason: MisreadReason,
    /// As it came, however long.
    pub raw: String,
}

impl Misread {
    /// Its identity: the same words of the same relay have the same id, whenever and however often they come.
    pub fn id(&self, relay: &RelayId) -> Uuid {
        let mut hash = Sha256::new();
        hash.update(b"not understood\0");
        hash.update(relay.as_str().as_bytes());
        hash.update(b"\0");
        hash.update(self.raw.as_bytes());
        let digest: [u8; 32] = hash.finalize().into();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        uuid::Builder::from_custom_bytes(bytes).into_uuid()
    }

    /// The event that keeps it.
    pub fn kept(self, relay: &RelayId, how: SaidHow) -> RelayNotUnderstood {
        RelayNotUnderstood {
            relay: relay.clone(),
            how,
            reason: self.reason,
            row: self.row,
            field: self.field,
            raw_bytes: u32::try_from(self.raw.len()).unwrap_or(u32::MAX),
            personal: RelayWords { raw: storable(&self.raw) },
        }
    }
}

/// A relay said something that Kite could not read. It is kept as it came; nothing follows from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayNotUnderstood {
    /// Who said it.
    pub relay: RelayId,
    /// How it came.
    pub how: SaidHow,
    /// Why it is not understood.
    pub reason: MisreadReason,
    /// Its place in the list that it came in, from 0; none: it is the whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row: Option<u32>,
    /// Which field of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<SmolStr>,
    /// The original length, in bytes; more than `raw` if that is cut.
    pub raw_bytes: u32,
    /// Whom it may speak of.
    pub personal: RelayWords,
}

/// A relay's words, which may name a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayWords {
    /// As they came, cut to 2,048 bytes; `\u0000` in place of U+0000.
    pub raw: String,
}

/// The words in a form that every store takes: bounded, and without U+0000.
fn storable(raw: &str) -> String {
    let escaped = raw.replace('\0', "\\u0000");
    let end = (0..=RAW_BYTES_MAX.min(escaped.len())).rev().find(|end| escaped.is_char_boundary(*end));
    escaped[..end.unwrap_or(0)].to_owned()
}

/// The stream of a relay's unreadable answers of one day (UTC): `not-understood-<relay>-<year><month><day>`. The
/// number of its events is the number kept that day.
pub fn stream(relay: &RelayId, day: DateTime<Utc>) -> SmolStr {
    format_smolstr!("not-understood-{relay}-{}", day.format("%Y%m%d"))
}

/// When the day (UTC) of [`stream`] is over, and there is room again.
pub fn day_end(day: DateTime<Utc>) -> DateTime<Utc> {
    let next = day.date_naive().succ_opt().and_then(|date| date.and_hms_opt(0, 0, 0));
    next.map_or(DateTime::<Utc>::MAX_UTC, |midnight| midnight.and_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_again_at_midnight() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        assert_eq!(day_end(at("2026-12-31T23:59:59.999Z")), at("2027-01-01T00:00:00Z"));
        assert_eq!(day_end(at("2027-01-01T00:00:00Z")), at("2027-01-02T00:00:00Z"));
        assert_eq!(day_end(DateTime::<Utc>::MAX_UTC), DateTime::<Utc>::MAX_UTC);
    }

    fn misread(raw: &str) -> Misread {
        Misread {
            row: Some(3),
            field: Some("status".into()),
            reason: MisreadReason::UnknownWord,
            raw: raw.to_owned(),
        }
    }

    #[test]
    fn the_same_words_of_the_same_relay_have_the_same_name() {
        let (alpha, beta) = (RelayId::from_trusted("alpha"), RelayId::from_trusted("beta"));
        let elsewhere = Misread { row: None, ..misread("{}") };
        assert_eq!(misread("{}").id(&alpha), elsewhere.id(&alpha));
        assert_ne!(misread("{}").id(&alpha), misread("{}").id(&beta));
        assert_ne!(misread("{}").id(&alpha), misread("{ }").id(&alpha));
        // What is cut off tells them apart all the same.
        let long = "x".repeat(RAW_BYTES_MAX);
        assert_ne!(misread(&format!("{long}1")).id(&alpha), misread(&format!("{long}2")).id(&alpha));
    }

    #[test]
    fn words_are_kept_as_they_came_up_to_a_bound_and_between_characters() {
        let alpha = RelayId::from_trusted("alpha");
        let kept = |raw: &str| misread(raw).kept(&alpha, SaidHow::Pushed);
        assert_eq!(kept(r#"{"status" : "\u0000"}"#).personal.raw, r#"{"status" : "\u0000"}"#);
        assert_eq!(kept("a\0b").personal.raw, "a\\u0000b");
        let long = kept(&format!("x{}", "가".repeat(1_000)));
        assert_eq!((long.personal.raw.len(), long.raw_bytes), (1 + 3 * 682, 3_001));
    }
}
