//! Whether a log is the original, or a copy of one that may still be in use.
//!
//! A copy that was made from a backup accepts and shows messages but hands nothing over, because the original may be
//! doing just that. Once the operator confirms that the original is dead, everything that it may have handed over
//! after the backup is in doubt ([`Lot::put_in_doubt`](crate::lot::Lot::put_in_doubt)), and only then does the copy
//! take its place. The log itself says so: a file beside it could be lost, and then both would send.
//!
//! Deliberately absent: any way to find out whether the original is dead. Only the operator knows.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::event::Event;
use crate::mutation::{self, Mutation};

/// The stream of what concerns the whole log.
pub const STREAM: &str = "instance";

/// Clocks differ. What was due more than this after the original's end was certainly not handed over by it.
const CLOCKS_DIFFER_MAX: TimeDelta = TimeDelta::minutes(10);

/// From here on this log is a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceCopied {
    /// The position of the last event that it has from the original.
    pub until: u64,
    /// When the backup was taken that it was made from.
    #[serde(with = "chrono::serde::ts_milliseconds")]
    pub taken_at: DateTime<Utc>,
}

/// The operator's word that the original is dead: the copy takes its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceReleased {
    /// Since when it hands nothing over any more.
    #[serde(with = "chrono::serde::ts_milliseconds")]
    pub original_dead_since: DateTime<Utc>,
    /// In the operator's words.
    pub reason: String,
}

/// Everything that the original may have handed over is in doubt by now: from here on the copy hands over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceSettled {
    /// How many messages were open and may have been handed over by the original, as counted by the process that came to the
    /// end of it.
    pub messages_in_doubt: u64,
    /// How many of them had no route yet, and have ended because nobody can say to which relay they went.
    pub messages_given_up: u64,
}

/// Whether a log is the original of what it holds, or a copy and how far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Originality {
    /// Nobody else has ever written what it holds.
    #[default]
    Original,
    /// The original may be alive.
    Copy {
        /// The position of the last event that it has from the original.
        until: u64,
        /// When the backup was taken.
        taken_at: DateTime<Utc>,
    },
    /// The original is dead, and what it may have done is being put in doubt.
    Released {
        /// The position of the last event that it has from the original.
        until: u64,
        /// When the backup was taken.
        taken_at: DateTime<Utc>,
        /// Since when the original hands nothing over any more.
        original_dead_since: DateTime<Utc>,
    },
    /// It was a copy, and is the original now.
    Settled {
        /// The position of the last event that it has from the one before.
        until: u64,
        /// When the backup was taken.
        taken_at: DateTime<Utc>,
        /// When everything that the one before may have handed over was in doubt.
        settled_at: DateTime<Utc>,
    },
}

impl Originality {
    /// Folds an event that was written at this time; other events change nothing. Returns whether it was one of
    /// these.
    pub fn evolve(&mut self, event: &Event, time: DateTime<Utc>) -> bool {
        match event {
            Event::InstanceCopied(InstanceCopied { until, taken_at }) => {
                *self = Self::Copy { until: *until, taken_at: *taken_at };
            }
            Event::InstanceReleased(InstanceReleased { original_dead_since, .. }) => {
                if let Self::Copy { until, taken_at } = *self {
                    // When the backup was taken it was alive, or nobody wrote any more.
                    let original_dead_since = (*original_dead_since).max(taken_at);
                    *self = Self::Released { until, taken_at, original_dead_since };
                }
            }
            Event::InstanceSettled(_) => {
                if let Self::Released { until, taken_at, .. } = *self {
                    *self = Self::Settled { until, taken_at, settled_at: time };
                }
            }
            _ => return false,
        }
        true
    }

    /// Whether messages may be routed, handed over and given up. Receipts are taken and requests accepted in any case.
    pub fn may_hand_over(self) -> bool {
        match self {
            Self::Original | Self::Settled { .. } => true,
            Self::Copy { .. } | Self::Released { .. } => mutation::is_active(Mutation::RestoredCopyHandsOver),
        }
    }

    /// Since when this log decides what becomes of the messages that its original left open; none: it always has, or
    /// does not yet.
    pub fn settled_at(self) -> Option<DateTime<Utc>> {
        match self {
            Self::Settled { settled_at, .. } => Some(settled_at),
            Self::Original | Self::Copy { .. } | Self::Released { .. } => None,
        }
    }

    /// The word for it, as on the wire.
    pub fn word(self) -> &'static str {
        self.into()
    }
}

/// Whether the original, dead since then, may have handed over what was not to be routed before `scheduled_at`.
pub fn may_have_been_due(scheduled_at: Option<DateTime<Utc>>, original_dead_since: DateTime<Utc>) -> bool {
    scheduled_at.is_none_or(|due| due <= original_dead_since + CLOCKS_DIFFER_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::minutes(minutes)
    }

    fn copied(until: u64) -> Event {
        InstanceCopied { until, taken_at: at(1) }.into()
    }

    fn released() -> Event {
        InstanceReleased { original_dead_since: at(2), reason: "its disk is gone".to_owned() }.into()
    }

    fn settled() -> Event {
        InstanceSettled { messages_in_doubt: 3, messages_given_up: 1 }.into()
    }

    fn standing(events: &[Event]) -> Originality {
        events.iter().fold(Originality::default(), |mut standing, event| {
            assert!(standing.evolve(event, at(9)));
            standing
        })
    }

    #[test]
    fn a_copy_hands_nothing_over_until_it_is_released_and_everything_is_in_doubt() {
        let events = [copied(7), released(), settled()];
        let may = [0, 1, 2, 3].map(|count| standing(&events[..count]).may_hand_over());
        assert_eq!(may, [true, false, false, true]);
        assert_eq!(standing(&events), Originality::Settled { until: 7, taken_at: at(1), settled_at: at(9) });
    }

    #[test]
    fn a_copy_of_a_copy_waits_for_a_word_of_its_own() {
        let again = standing(&[copied(7), released(), settled(), copied(20)]);
        assert_eq!(again, Originality::Copy { until: 20, taken_at: at(1) });
        assert!(!standing(&[copied(7), released(), copied(9), settled()]).may_hand_over());
    }

    #[test]
    fn the_original_was_not_dead_before_the_backup_was_taken() {
        let early = InstanceReleased { original_dead_since: at(-60), reason: "a slip of the pen".to_owned() };
        let Originality::Released { original_dead_since, .. } = standing(&[copied(7), early.into()]) else {
            panic!("it is not released");
        };
        assert_eq!(original_dead_since, at(1));
    }

    #[test]
    fn nobody_releases_what_is_no_copy() {
        assert_eq!(standing(&[released(), settled()]), Originality::Original);
    }

    #[test]
    fn what_is_due_well_after_the_end_of_the_original_was_not_handed_over_by_it() {
        assert!(may_have_been_due(None, at(0)));
        assert!(may_have_been_due(Some(at(10)), at(0)));
        assert!(!may_have_been_due(Some(at(11)), at(0)));
    }
}
