//! Ids. They sort by time (UUIDv7), and names of streams are computed from them, so that nothing has to be looked up.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smol_str::{SmolStr, format_smolstr};
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

/// How many sequence numbers a lot reserves: the lot of a message is its sequence number divided by this. A lot
/// that ends early (it is also bounded in bytes) leaves the rest of its numbers unused.
pub const SEQS_PER_LOT: u32 = 1_000;

/// An id that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not {expected}")]
pub struct IdError {
    /// What was given, cut to 64 characters.
    pub value: String,
    /// What it should be, in words.
    pub expected: &'static str,
}

fn id_error(value: &str, expected: &'static str) -> IdError {
    IdError { value: value.chars().take(64).collect(), expected }
}

macro_rules! string_serde {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $expected:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(self.0.simple().encode_lower(&mut Uuid::encode_buffer()))
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Uuid::try_parse(text).map(Self).map_err(|_| id_error(text, $expected))
            }
        }

        string_serde!($name);
    };
}

uuid_id!(
    /// One request to send to 1..N recipients. Text form: 32 hexadecimal digits.
    SendingId,
    "a sending id (32 hexadecimal digits)"
);
uuid_id!(
    /// A person or address in a tenant's address book.
    ContactId,
    "a contact id (32 hexadecimal digits)"
);
uuid_id!(
    /// A group of contacts.
    GroupId,
    "a group id (32 hexadecimal digits)"
);
uuid_id!(
    /// A stored message template.
    TemplateId,
    "a template id (32 hexadecimal digits)"
);

impl SendingId {
    /// The stream of the sending: `sending-<id>`.
    pub fn stream(self) -> SmolStr {
        format_smolstr!("sending-{self}")
    }

    /// The sending of a stream named by [`SendingId::stream`].
    pub fn from_stream(stream: &str) -> Option<Self> {
        stream.strip_prefix("sending-")?.parse().ok()
    }

    /// When the id was made, by itself; none: it is none of ours.
    pub fn made_at(self) -> Option<DateTime<Utc>> {
        let (seconds, nanoseconds) = self.0.get_timestamp()?.to_unix();
        DateTime::from_timestamp(i64::try_from(seconds).ok()?, nanoseconds)
    }
}

/// A slice of one sending: `<sending>-<number>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LotId {
    /// Whose slice it is.
    pub sending: SendingId,
    /// Which slice, from 0.
    pub number: u32,
}

impl LotId {
    /// The stream of the lot: `lot-<sending>-<number>`.
    pub fn stream(self) -> SmolStr {
        format_smolstr!("lot-{}-{}", self.sending, self.number)
    }

    /// The first sequence number that belongs to the lot. A number that no sending reaches counts as the last one.
    pub fn first_seq(self) -> u32 {
        self.number.min(u32::MAX / SEQS_PER_LOT - 1) * SEQS_PER_LOT
    }

    /// The lot of a stream named by [`LotId::stream`].
    pub fn from_stream(stream: &str) -> Option<Self> {
        stream.strip_prefix("lot-")?.parse().ok()
    }
}

impl fmt::Display for LotId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.sending, self.number)
    }
}

impl FromStr for LotId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let (sending, number) = split_number(text, "a lot id (sending id, hyphen, number)")?;
        Ok(Self { sending: sending.parse()?, number })
    }
}

string_serde!(LotId);

/// One recipient's part of a sending: `<sending>-<seq>`. Names its lot, so the stream is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId {
    /// The sending.
    pub sending: SendingId,
    /// The sequence number within the sending.
    pub seq: u32,
}

impl MessageId {
    /// The lot that the message belongs to.
    pub fn lot(self) -> LotId {
        LotId { sending: self.sending, number: self.seq / SEQS_PER_LOT }
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.sending, self.seq)
    }
}

impl FromStr for MessageId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let (sending, seq) = split_number(text, "a message id (sending id, hyphen, number)")?;
        Ok(Self { sending: sending.parse()?, seq })
    }
}

string_serde!(MessageId);

/// What a relay knows an attempt by: `<sending>-<seq>-<attempt>`, at most 48 characters. The same attempt is
/// always handed over under the same reference, so that a relay can drop a repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptReference {
    /// The message.
    pub message: MessageId,
    /// Which attempt at it, from 1.
    pub attempt: u16,
}

impl fmt::Display for AttemptReference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.message, self.attempt)
    }
}

impl FromStr for AttemptReference {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        const EXPECTED: &str = "an attempt reference (message id, hyphen, attempt)";
        let (message, attempt) = split_number(text, EXPECTED)?;
        let attempt = u16::try_from(attempt).map_err(|_| id_error(text, EXPECTED))?;
        Ok(Self { message: message.parse()?, attempt })
    }
}

string_serde!(AttemptReference);

fn split_number<'t>(text: &'t str, expected: &'static str) -> Result<(&'t str, u32), IdError> {
    let (head, digits) = text.rsplit_once('-').ok_or_else(|| id_error(text, expected))?;
    let canonical =
        digits.bytes().all(|byte| byte.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    let number = digits.parse().ok().filter(|_| canonical).ok_or_else(|| id_error(text, expected))?;
    Ok((head, number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ids_read_back_as_they_were_written(id: u128, seq: u32, attempt: u16) {
            let message = MessageId { sending: SendingId(Uuid::from_u128(id)), seq };
            let reference = AttemptReference { message, attempt };
            prop_assert_eq!(message.to_string().parse::<MessageId>().unwrap(), message);
            prop_assert_eq!(reference.to_string().parse::<AttemptReference>().unwrap(), reference);
            prop_assert_eq!(LotId::from_stream(&message.lot().stream()), Some(message.lot()));
            prop_assert!(reference.to_string().len() <= 50);
        }

        #[test]
        fn nonsense_is_refused_without_a_panic(text in ".{0,80}") {
            let _ = text.parse::<MessageId>();
            let _ = text.parse::<AttemptReference>();
            let _ = LotId::from_stream(&text);
        }
    }

    #[test]
    fn a_padded_number_is_another_text_and_refused() {
        let id = "0197c0de000070008000000000000001";
        assert!(format!("{id}-7").parse::<MessageId>().is_ok());
        assert!(format!("{id}-07").parse::<MessageId>().is_err());
        assert!(format!("{id}-+7").parse::<MessageId>().is_err());
    }

    #[test]
    fn a_lot_begins_where_the_one_before_it_ends() {
        let sending = SendingId(Uuid::from_u128(1));
        let lot = |number| LotId { sending, number };
        for number in [0, 1, 294, 295, 100_000] {
            let first = lot(number).first_seq();
            assert_eq!(first, number * SEQS_PER_LOT);
            for seq in [first, first + SEQS_PER_LOT - 1] {
                assert_eq!(MessageId { sending, seq }.lot(), lot(number), "{seq}");
            }
        }
        assert!(lot(u32::MAX).first_seq() <= u32::MAX - SEQS_PER_LOT, "it is the last one, whole");
    }
}
