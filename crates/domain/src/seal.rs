//! Seals of the log: a chain of digests over every event, so that a changed, lost, added or moved event is noticed.
//!
//! A seal covers the events since the seal before it, in the order of the log. Its digest is SHA-256 over the digest
//! of the seal before it (32 zero bytes for the first one) and the digests of the events. The log defines what an
//! event's own digest covers ([`RecordedEvent::digest`](../../kite_event_store/struct.RecordedEvent.html)). Seals are
//! events, too, and covered by the next one.
//!
//! Deliberately absent: who reads the log, and keys. Anybody who can write the log can also write new seals; only a
//! copy of the digests somewhere else reveals that.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The stream of all seals.
pub const STREAM: &str = "log-seals";
/// The most events that one seal covers.
pub const EVENTS_MAX: u32 = 4_096;
/// The mark of an event is this many bytes of its digest.
const MARK_BYTES: usize = 4;

/// An event's digest, or a seal's.
pub type Sum = [u8; 32];

/// Used as the digest of an event that cannot be read, so that the events after it can still be sealed. It must never
/// change, because seals depend on it. That the event cannot be read is reported whenever the log is checked.
pub fn unreadable() -> Sum {
    Sha256::digest(b"kite unreadable event 1\n").into()
}

/// The events up to a position, as they were.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSealed {
    /// The position up to which the seal before it goes; 0: it is the first one.
    pub after: u64,
    /// The position of the last event that it covers.
    pub until: u64,
    /// How many events those are.
    pub events: u32,
    /// The digest, in hexadecimal digits.
    pub digest: String,
    /// The first four bytes of every event's digest, in hexadecimal digits.
    pub marks: String,
}

impl LogSealed {
    /// The digest, unless somebody has changed the text.
    pub fn sum(&self) -> Option<Sum> {
        let mut sum = [0; 32];
        hex::decode_to_slice(&self.digest, &mut sum).ok()?;
        Some(sum)
    }

    /// Whether a seal at this position can be genuine: it covers something, not more than it may, and only what came
    /// before it. A forged seal that claims otherwise would end all sealing, or leave nothing to check.
    pub fn can_stand_at(&self, position: u64) -> bool {
        self.after < self.until && self.until < position && (1..=EVENTS_MAX).contains(&self.events)
    }

    fn marks(&self) -> Vec<&[u8]> {
        self.marks.as_bytes().chunks(2 * MARK_BYTES).collect()
    }
}

/// A seal in the making.
#[derive(Debug, Clone)]
pub struct Segment {
    after: u64,
    until: u64,
    events: u32,
    sum: Sha256,
    marks: String,
}

impl Segment {
    /// Continues from a seal up to this position; from none at 0.
    pub fn after(position: u64, previous: &Sum) -> Self {
        let sum = Sha256::new_with_prefix(previous);
        Self { after: position, until: position, events: 0, sum, marks: String::new() }
    }

    /// Takes the next event in.
    pub fn add(&mut self, position: u64, event: &Sum) {
        self.until = position;
        self.events += 1;
        self.sum.update(event);
        self.marks.push_str(&mark(event));
    }

    /// How many events it has.
    pub fn events(&self) -> u32 {
        self.events
    }

    /// The seal, and its digest.
    pub fn seal(self) -> (LogSealed, Sum) {
        let Self { after, until, events, sum, marks } = self;
        let sum: Sum = sum.finalize().into();
        (LogSealed { after, until, events, digest: hex::encode(sum), marks }, sum)
    }
}

/// What of the log is not as it was sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Difference {
    /// An event is not the one that was sealed.
    #[error("the event at position {position} was changed")]
    Changed {
        /// Where.
        position: u64,
    },
    /// An event cannot be read. In JSON this is shown as a changed event, with the reason in `why`.
    #[serde(rename = "changed")]
    #[error("the event at position {position} was changed: it cannot be read ({why})")]
    Unreadable {
        /// Where.
        position: u64,
        /// What is wrong with it.
        why: String,
    },
    /// The events of a seal are all there, in another order.
    #[error("the event at position {position} was moved")]
    Moved {
        /// The first that stands elsewhere.
        position: u64,
    },
    /// An event is gone.
    #[error("an event after position {after} is missing")]
    Missing {
        /// The last one before it.
        after: u64,
    },
    /// An event was not there.
    #[error("the event at position {position} was added")]
    Added {
        /// Where.
        position: u64,
    },
    /// The events are those that the seal names, but its digest differs.
    #[error("the seal of the events after position {after} up to {until} was changed")]
    Seal {
        /// The seal's.
        after: u64,
        /// The seal's.
        until: u64,
    },
    /// A seal does not continue where the one before it ends.
    #[error("a seal of events after position {after} is missing")]
    NoSeal {
        /// Up to where all is sealed.
        after: u64,
    },
    /// A seal is not the one whose digest was kept elsewhere.
    #[error("the seal up to position {until} is not the one that was kept elsewhere, or is missing")]
    NotAsKept {
        /// Up to where it goes.
        until: u64,
    },
}

impl Difference {
    /// Where it is, or after what.
    pub fn position(&self) -> u64 {
        match *self {
            Self::Changed { position }
            | Self::Unreadable { position, .. }
            | Self::Moved { position }
            | Self::Added { position } => position,
            Self::Missing { after } | Self::Seal { after, .. } | Self::NoSeal { after } => after,
            Self::NotAsKept { until } => until,
        }
    }

    /// Whether another difference says nothing that this one does not say.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Unreadable { position, .. }, Self::Changed { position: other }) => position == other,
            _ => self == other,
        }
    }
}

/// Compares events with their seal: all that are in the log after `seal.after` up to `seal.until`, in order, each
/// with its position.
///
/// # Errors
/// The first difference.
pub fn compare(seal: &LogSealed, previous: &Sum, events: &[(u64, Sum)]) -> Result<(), Difference> {
    let marks = seal.marks();
    let found: Vec<String> = events.iter().map(|(_, sum)| mark(sum)).collect();
    let agree = marks.iter().zip(&found).take_while(|(mark, found)| **mark == found.as_bytes()).count();
    if agree == marks.len() && agree == found.len() {
        let mut segment = Segment::after(seal.after, previous);
        events.iter().for_each(|(position, sum)| segment.add(*position, sum));
        let (computed, _) = segment.seal();
        let is_equal = computed.digest == seal.digest && computed.events == seal.events;
        return if is_equal {
            Ok(())
        } else {
            Err(Difference::Seal { after: seal.after, until: seal.until })
        };
    }
    let before = agree.checked_sub(1).map_or(seal.after, |last| events[last].0);
    let position = events.get(agree).map_or(before, |(position, _)| *position);
    Err(match found.len().cmp(&marks.len()) {
        std::cmp::Ordering::Less => Difference::Missing { after: before },
        std::cmp::Ordering::Greater => Difference::Added { position },
        std::cmp::Ordering::Equal => {
            let mut sealed: Vec<&[u8]> = marks[agree..].to_vec();
            let mut there: Vec<&[u8]> = found[agree..].iter().map(String::as_bytes).collect();
            sealed.sort_unstable();
            there.sort_unstable();
            if sealed == there { Difference::Moved { position } } else { Difference::Changed { position } }
        }
    })
}

fn mark(sum: &Sum) -> String {
    hex::encode(&sum[..MARK_BYTES])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sum(number: u64) -> Sum {
        Sha256::digest(number.to_le_bytes()).into()
    }

    fn sealed(after: u64, previous: &Sum, events: &[(u64, Sum)]) -> (LogSealed, Sum) {
        let mut segment = Segment::after(after, previous);
        events.iter().for_each(|(position, sum)| segment.add(*position, sum));
        segment.seal()
    }

    fn events(range: std::ops::RangeInclusive<u64>) -> Vec<(u64, Sum)> {
        range.map(|number| (number, sum(number))).collect()
    }

    #[test]
    fn a_seal_rests_on_the_one_before_it() {
        let (first, one) = sealed(0, &[0; 32], &events(1..=3));
        let (second, _) = sealed(3, &one, &events(4..=5));
        assert_eq!((first.sum(), second.after, second.until, second.events), (Some(one), 3, 5, 2));
        assert_eq!(compare(&second, &one, &events(4..=5)), Ok(()));
        let another = compare(&second, &sum(9), &events(4..=5));
        assert_eq!(another, Err(Difference::Seal { after: 3, until: 5 }));
    }

    #[test]
    fn a_difference_has_its_place() {
        let (seal, _) = sealed(10, &sum(0), &events(11..=15));
        let found = |events: Vec<(u64, Sum)>| compare(&seal, &sum(0), &events).unwrap_err();
        let mut changed = events(11..=15);
        changed[2].1 = sum(99);
        assert_eq!(found(changed), Difference::Changed { position: 13 });
        let mut missing = events(11..=15);
        missing.remove(2);
        assert_eq!(found(missing), Difference::Missing { after: 12 });
        assert_eq!(found(events(12..=15)), Difference::Missing { after: 10 });
        assert_eq!(found(events(11..=14)), Difference::Missing { after: 14 });
        let mut added = events(11..=15);
        added.insert(1, (12, sum(99)));
        assert_eq!(found(added), Difference::Added { position: 12 });
        let mut moved = events(11..=15);
        (moved[1].1, moved[3].1) = (moved[3].1, moved[1].1);
        assert_eq!(found(moved), Difference::Moved { position: 12 });
        let mut forged = seal.clone();
        forged.digest = hex::encode(sum(3));
        assert_eq!(
            compare(&forged, &sum(0), &events(11..=15)),
            Err(Difference::Seal { after: 10, until: 15 })
        );
        forged.digest = "é".repeat(32);
        assert_eq!(forged.sum(), None);
    }

    #[test]
    fn a_seal_covers_something_not_too_much_and_only_what_came_before_it() {
        let (seal, _) = sealed(3, &[0; 32], &events(4..=6));
        assert!(seal.can_stand_at(7) && !seal.can_stand_at(6));
        let of_nothing = LogSealed { until: 3, ..seal.clone() };
        assert!(!of_nothing.can_stand_at(7));
        let with = |events| LogSealed { events, ..seal.clone() };
        assert!(with(EVENTS_MAX).can_stand_at(7));
        assert!(!with(EVENTS_MAX + 1).can_stand_at(7) && !with(0).can_stand_at(7));
    }

    #[test]
    fn one_difference_covers_another_that_says_no_more_of_the_same_place() {
        let unreadable = |position, why: &str| Difference::Unreadable { position, why: why.to_owned() };
        let changed = |position| Difference::Changed { position };
        assert!(unreadable(4, "no id").covers(&changed(4)) && changed(4).covers(&changed(4)));
        assert!(!unreadable(4, "no id").covers(&changed(5)) && !changed(4).covers(&changed(5)));
        assert!(!changed(4).covers(&unreadable(4, "no id")), "it does not say why");
        assert!(!changed(4).covers(&Difference::Moved { position: 4 }));
    }

    #[test]
    fn a_difference_says_where_to_look() {
        let places = [
            Difference::Changed { position: 4 },
            Difference::Unreadable { position: 4, why: "no id".to_owned() },
            Difference::Moved { position: 4 },
            Difference::Added { position: 4 },
            Difference::Missing { after: 4 },
            Difference::Seal { after: 4, until: 9 },
            Difference::NoSeal { after: 4 },
            Difference::NotAsKept { until: 4 },
        ];
        assert!(places.iter().all(|difference| difference.position() == 4));
    }

    /// It is for ever: seals rest on it.
    #[test]
    fn what_stands_for_an_event_that_cannot_be_read_stays_what_it_is() {
        assert_eq!(
            hex::encode(unreadable()),
            "ac721ea80c913d372fe1d84dd627a8b4985299e4ac0ac16ecf20ebb0f2033c20"
        );
        let told = Difference::Unreadable { position: 4, why: "no id".to_owned() };
        let shown = serde_json::to_value(&told).unwrap();
        assert_eq!(shown, serde_json::json!({"what": "changed", "position": 4, "why": "no id"}));
    }

    proptest! {
        #[test]
        fn whatever_is_done_to_the_events_is_noticed(
            numbers in proptest::collection::vec(0..50_u64, 0..12),
            others in proptest::collection::vec(0..50_u64, 0..12),
        ) {
            let listed = |numbers: &[u64]| -> Vec<(u64, Sum)> {
                numbers.iter().enumerate().map(|(place, number)| (place as u64 + 1, sum(*number))).collect()
            };
            let (seal, _) = sealed(0, &[0; 32], &listed(&numbers));
            let verdict = compare(&seal, &[0; 32], &listed(&others));
            prop_assert_eq!(verdict.is_ok(), numbers == others);
        }
    }
}
