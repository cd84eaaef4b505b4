//! What is counted: each counter once, with its name, its meaning, and how it follows from what is known.
//!
//! Sendings, statistics, metrics and exports all take their columns and words from here, and all of them are fed by the
//! same two functions ([`MessageStanding::add_to`], [`AttemptStanding::add_to`]): an outcome that is in one view is in
//! all of them. A new counter is a line in this list and a line in one of those functions.
//!
//! What counts messages is at the relay and channel of the message's newest attempt, or at no relay while it has
//! none; it moves along when the message fails over. What counts attempts is at the relay and channel of the
//! attempt. So a table by relay adds up, by rows and by columns.

use kite_domain::failure::FailureClass;
use kite_domain::lot::{AttemptState, Outcome};
use kite_domain::text::MessageType;

use super::attempt::Attempt;
use super::lot::Message;
use crate::engine::{Row, StorageError};
use crate::table::{Column, integer};

/// The planned share of a message is counted in ten-thousandths.
pub(super) const PLANNED_UNIT: u64 = 10_000;

/// What a counter counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Counted {
    /// Messages: each once, at the relay and channel of its newest attempt.
    Messages,
    /// Attempts, or what belongs to one: at the relay and channel of the attempt.
    Attempts,
}

macro_rules! counters {
    ($($(#[doc = $definition:literal])+ $name:ident $field:ident: $counted:ident,)*) => {
        /// Everything that is counted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Counter { $($(#[doc = $definition])+ $name,)* }

        impl Counter {
            /// All of them, in the order in which they are shown.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Its name: of columns, fields and metrics.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$name => stringify!($field)),* }
            }

            /// What it means.
            pub const fn definition(self) -> &'static str {
                match self { $(Self::$name => concat!($($definition),+).trim_ascii()),* }
            }

            /// What it counts.
            pub const fn counted(self) -> Counted {
                match self { $(Self::$name => Counted::$counted),* }
            }
        }

        /// A value for each counter.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Counts { $($(#[doc = $definition])+ pub $field: i64,)* }

        impl Counts {
            /// The value of a counter.
            pub const fn get(&self, counter: Counter) -> i64 {
                match counter { $(Counter::$name => self.$field),* }
            }

            pub(super) fn at(&mut self, counter: Counter) -> &mut i64 {
                match counter { $(Counter::$name => &mut self.$field),* }
            }
        }
    };
}

counters! {
    /// Messages of sealed sendings: what was accepted.
    Messages messages: Messages,
    /// Messages that have not ended.
    Open open: Messages,
    /// Messages that ended delivered: a relay says that they arrived.
    Delivered delivered: Messages,
    /// Messages that ended undelivered: the last relay that was tried could not deliver them, or none could take them.
    Undelivered undelivered: Messages,
    /// Messages that ended expired: too old before they were handed over, or without a receipt in time.
    Expired expired: Messages,
    /// Messages that ended cancelled, before they were handed over.
    Cancelled cancelled: Messages,
    /// Messages that ended refused: a rule forbade handing them over.
    Refused refused: Messages,
    /// Messages that have, or had, a relay.
    Routed routed: Messages,
    /// Messages that were handed over to a relay at least once, whatever the relay's answer was. A message that the
    /// relay refused for now, or certainly never received, was not handed over.
    HandedOver handed_over: Messages,
    /// Messages that more than one relay says it delivered.
    DeliveredTwice delivered_twice: Messages,
    /// The exact share of first attempts that the weights gave, in messages.
    Planned planned: Attempts,
    /// First attempts of messages.
    FirstRouted first_routed: Attempts,
    /// Attempts, first or not: each assignment of a message to a relay.
    Attempts attempts: Attempts,
    /// Attempts that were followed by another, counted at the relay of the earlier attempt.
    Failovers failovers: Attempts,
    /// Attempts that were handed over to the relay, whatever its answer was. A message that the relay refused for
    /// now, or certainly never received, was not handed over.
    AttemptsHandedOver attempts_handed_over: Attempts,
    /// Attempts that were handed over and that the relay accepted.
    AttemptsAccepted attempts_accepted: Attempts,
    /// Attempts whose answer is lost as yet.
    AttemptsUnknown attempts_unknown: Attempts,
    /// Attempts that were handed over and that the relay refused for good.
    AttemptsRefused attempts_refused: Attempts,
    /// Attempts that the relay delivered.
    AttemptsDelivered attempts_delivered: Attempts,
    /// Attempts that the relay accepted and could not deliver.
    AttemptsUndelivered attempts_undelivered: Attempts,
    /// Attempts that were handed over and had no receipt in time.
    AttemptsExpired attempts_expired: Attempts,
    /// What relays charge, in thousandths of a won, counted at the relay that charges.
    CostMilliwon cost_milliwon: Attempts,
}

impl Counter {
    /// The possible states of a message, in the order in which they are shown: these add up to [`Counter::Messages`].
    pub const STANDINGS: [Self; 6] =
        [Self::Open, Self::Delivered, Self::Undelivered, Self::Expired, Self::Cancelled, Self::Refused];

    /// The counter of messages with this outcome; none: of those that are open.
    pub const fn of_outcome(outcome: Option<Outcome>) -> Self {
        match outcome {
            None => Self::Open,
            Some(Outcome::Delivered) => Self::Delivered,
            Some(Outcome::Undelivered) => Self::Undelivered,
            Some(Outcome::Expired) => Self::Expired,
            Some(Outcome::Cancelled) => Self::Cancelled,
            Some(Outcome::Refused) => Self::Refused,
        }
    }
}

/// How many counters there are.
pub(super) const COUNTERS: usize = Counter::ALL.len();

/// The results of attempts that were handed over in a minute. Their columns have these names without "attempts".
pub(super) const OF_A_MINUTE: [Counter; 7] = [
    Counter::AttemptsHandedOver,
    Counter::AttemptsAccepted,
    Counter::AttemptsUnknown,
    Counter::AttemptsRefused,
    Counter::AttemptsUndelivered,
    Counter::AttemptsDelivered,
    Counter::AttemptsExpired,
];

/// The name of such a column.
pub(super) const fn word_of_a_minute(counter: Counter) -> &'static str {
    counter.word().split_at("attempts_".len()).1
}

/// A column for each counter of a minute.
pub(super) const fn counted_minutes() -> [Column; OF_A_MINUTE.len()] {
    let mut columns = [integer(""); OF_A_MINUTE.len()];
    let mut place = 0;
    while place < columns.len() {
        columns[place] = integer(word_of_a_minute(OF_A_MINUTE[place])).added();
        place += 1;
    }
    columns
}

/// These columns, and one for each counter.
pub(super) const fn with_counters<const OWN: usize, const ALL: usize>(own: [Column; OWN]) -> [Column; ALL] {
    assert!(OWN + COUNTERS == ALL, "every counter has a column");
    let mut all = [own[0]; ALL];
    let mut place = 0;
    while place < ALL {
        all[place] = match place.checked_sub(OWN) {
            Some(counter) => integer(Counter::ALL[counter].word()).added().or_zero(),
            None => own[place],
        };
        place += 1;
    }
    all
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        for counter in Counter::ALL {
            *self.at(*counter) += other.get(*counter);
        }
    }
}

/// The share that `part` is of `whole`; none if the whole is zero.
fn share(part: i64, whole: i64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

impl Counts {
    /// [`Counts::planned`] in messages.
    pub fn planned_messages(&self) -> f64 {
        self.planned as f64 / PLANNED_UNIT as f64
    }

    /// Messages delivered, of those that ended delivered, undelivered or expired. Cancelled and refused messages do
    /// not count, because they were never meant to be delivered. None if none ended like that.
    pub fn success_rate(&self) -> Option<f64> {
        share(self.delivered, self.delivered + self.undelivered + self.expired)
    }

    /// Attempts delivered, of those that the relay refused, delivered, could not deliver, or left without a receipt.
    pub fn attempt_success_rate(&self) -> Option<f64> {
        let failed = self.attempts_refused + self.attempts_undelivered + self.attempts_expired;
        share(self.attempts_delivered, self.attempts_delivered + failed)
    }

    /// Attempts followed by another, of all attempts.
    pub fn failover_rate(&self) -> Option<f64> {
        share(self.failovers, self.attempts)
    }

    /// What a delivered attempt cost on average, in thousandths of a won, including the cost of attempts without
    /// success.
    pub fn cost_per_delivered_milliwon(&self) -> Option<f64> {
        share(self.cost_milliwon, self.attempts_delivered)
    }
}

/// What of a message is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MessageStanding {
    /// Of the newest attempt; 0: it has none.
    pub(super) relay: u32,
    /// Of the newest attempt; without one, that of its type.
    pub(super) channel: MessageType,
    pub(super) outcome: Option<Outcome>,
    /// Why it ended.
    pub(super) reason: u32,
    pub(super) is_handed_over: bool,
    is_delivered_twice: bool,
}

impl MessageStanding {
    pub(super) fn of(message: &Message) -> Self {
        let newest = message.attempts.last();
        let delivered = |attempt: &&Attempt| attempt.state == AttemptState::Delivered;
        Self {
            relay: newest.map_or(0, |attempt| attempt.relay),
            channel: newest.map_or(message.message_type, |attempt| attempt.channel),
            outcome: message.outcome,
            reason: message.reason,
            is_handed_over: message.attempts.iter().any(|attempt| attempt.submitted_ms != 0),
            is_delivered_twice: message.attempts.len() > 1
                && message.attempts.iter().filter(delivered).count() > 1,
        }
    }

    /// The one place where a message becomes counts.
    pub(super) fn add_to(self, counts: &mut Counts, sign: i64) {
        let by = |is_so: bool| if is_so { sign } else { 0 };
        counts.messages += sign;
        *counts.at(Counter::of_outcome(self.outcome)) += sign;
        counts.routed += by(self.relay != 0);
        counts.handed_over += by(self.is_handed_over);
        counts.delivered_twice += by(self.is_delivered_twice);
    }
}

/// What of an attempt is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AttemptStanding {
    pub(super) relay: u32,
    pub(super) channel: MessageType,
    pub(super) state: AttemptState,
    is_taken: bool,
    pub(super) submitted_ms: i64,
    class: Option<FailureClass>,
}

impl AttemptStanding {
    pub(super) fn of(attempt: &Attempt) -> Self {
        Self {
            relay: attempt.relay,
            channel: attempt.channel,
            state: attempt.state,
            is_taken: attempt.is_taken,
            submitted_ms: attempt.submitted_ms,
            class: attempt.class,
        }
    }

    /// The one place where an attempt becomes counts, except for those that count that it was made.
    pub(super) fn add_to(self, counts: &mut Counts, sign: i64) {
        let by = |is_so: bool| if is_so { sign } else { 0 };
        counts.attempts_handed_over += by(self.submitted_ms != 0);
        counts.attempts_accepted += by(self.is_taken);
        counts.attempts_unknown += by(self.state == AttemptState::Unknown);
        counts.attempts_refused += by(self.state == AttemptState::Refused);
        counts.attempts_undelivered += by(self.state == AttemptState::Undelivered);
        counts.attempts_delivered += by(self.state == AttemptState::Delivered);
        counts.attempts_expired += by(self.state == AttemptState::Expired);
    }

    /// The class of a failure that the relay told.
    pub(super) fn failure(self) -> Option<FailureClass> {
        let is_told = matches!(self.state, AttemptState::Refused | AttemptState::Undelivered);
        self.class.filter(|_| is_told)
    }
}

/// `a, b, c`: the columns of all counters.
pub(super) fn columns() -> String {
    joined(|counter| counter.word().to_owned())
}

/// Each counter in words of SQL.
pub(super) fn joined(word: impl Fn(Counter) -> String) -> String {
    let words: Vec<String> = Counter::ALL.iter().map(|counter| word(*counter)).collect();
    words.join(", ")
}

/// Reads the counters that stand in a row from this column on.
pub(super) fn read(row: &Row<'_>, first: usize) -> Result<Counts, StorageError> {
    let mut counts = Counts::default();
    for (place, counter) in Counter::ALL.iter().enumerate() {
        *counts.at(*counter) = row.get::<Option<i64>>(first + place)?.unwrap_or(0);
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_has_a_word_of_its_own_and_a_sentence() {
        let mut words: Vec<&str> = Counter::ALL.iter().map(|counter| counter.word()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Counter::ALL.len());
        for counter in Counter::ALL {
            let sentence = counter.definition();
            assert!(sentence.ends_with('.') && !sentence.starts_with(' '), "{counter:?}: {sentence}");
        }
    }

    #[test]
    fn a_message_that_never_left_counts_against_the_success_and_a_cancelled_one_does_not() {
        let expired = Counts { messages: 3, expired: 2, cancelled: 1, ..Counts::default() };
        assert_eq!(expired.success_rate(), Some(0.0));
        let forbidden = Counts { messages: 3, cancelled: 1, refused: 2, ..Counts::default() };
        assert_eq!(forbidden.success_rate(), None);
        let mixed = Counts { delivered: 3, undelivered: 1, refused: 9, ..Counts::default() };
        assert_eq!(mixed.success_rate(), Some(0.75));
    }

    #[test]
    fn a_relay_is_judged_by_its_attempts() {
        let counts = Counts {
            attempts: 8,
            failovers: 2,
            attempts_delivered: 4,
            attempts_refused: 1,
            attempts_undelivered: 2,
            attempts_expired: 1,
            cost_milliwon: 36_000,
            planned: 25_000,
            ..Counts::default()
        };
        assert_eq!(counts.attempt_success_rate(), Some(0.5));
        assert_eq!(counts.failover_rate(), Some(0.25));
        assert_eq!(counts.cost_per_delivered_milliwon(), Some(9_000.0));
        assert!((counts.planned_messages() - 2.5).abs() < f64::EPSILON);
        assert_eq!(Counts::default().failover_rate(), None);
    }
}
