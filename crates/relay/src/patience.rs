//! How long Kite waits before it calls a relay again that keeps answering "too many": as long as the relay asks for,
//! and once it has taken nothing for a while, longer and longer.
//!
//! Each call is in the log, before and after. If such a relay is called every second for a night, that fills the log
//! and does not help the relay.

use chrono::{DateTime, TimeDelta, Utc};
use kite_domain::mutation::{self, Mutation};
use parking_lot::Mutex;

/// The pause doubles after this many calls, so that it is about an eighth of the time in which the relay has taken
/// nothing.
const CALLS_A_DOUBLING: u32 = 8;
const FIRST: TimeDelta = TimeDelta::seconds(1);
/// The longest pause is 2⁶ seconds: a good minute.
const DOUBLINGS_MAX: u32 = 6;

/// What one relay has said since it last took a message.
#[derive(Debug, Default)]
pub(crate) struct Patience(Mutex<State>);

#[derive(Debug, Default, Clone, Copy)]
struct State {
    /// Calls in a row of which it took nothing.
    calls: u32,
    /// The pause after the last of them.
    until: DateTime<Utc>,
}

impl Patience {
    /// The relay took nothing and wants no calls until `asked`. Returns until when it gets none.
    pub(crate) fn refused(&self, now: DateTime<Utc>, asked: DateTime<Utc>) -> DateTime<Utc> {
        let mut state = self.0.lock();
        // A call that was in progress when the pause began says nothing new.
        if now < state.until || mutation::is_active(Mutation::PatienceForgotten) {
            return asked.max(state.until);
        }
        state.calls = state.calls.saturating_add(1);
        state.until = match (state.calls / CALLS_A_DOUBLING).min(DOUBLINGS_MAX) {
            0 => asked,
            doublings => asked.max(now + FIRST * (1 << doublings)),
        };
        state.until
    }

    /// The relay has decided on a message: it takes calls again.
    pub(crate) fn took(&self) {
        self.0.lock().calls = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evening() -> DateTime<Utc> {
        DateTime::from_timestamp(1_750_000_000, 0).unwrap()
    }

    /// The seconds that a relay which asks for one is left alone, call after call.
    fn pauses(patience: &Patience, calls: usize) -> Vec<i64> {
        let mut now = evening();
        let mut pause = || {
            let until = patience.refused(now, now + TimeDelta::seconds(1));
            let pause = until - now;
            now = until;
            pause.num_seconds()
        };
        (0..calls).map(|_| pause()).collect()
    }

    #[test]
    fn a_relay_that_takes_nothing_is_called_more_and_more_seldom() {
        let pauses = pauses(&Patience::default(), 700);
        assert_eq!(pauses[..16], [1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 4]);
        assert!(pauses.is_sorted() && pauses.last() == Some(&64));
        assert!(pauses.iter().sum::<i64>() > 11 * 3_600, "700 calls are more than a night");
    }

    #[test]
    fn one_that_takes_something_is_called_as_it_asks() {
        let patience = Patience::default();
        pauses(&patience, 100);
        patience.took();
        let later = evening() + TimeDelta::days(1);
        let asked = later + TimeDelta::milliseconds(300);
        assert_eq!(patience.refused(later, asked), asked);
    }

    #[test]
    fn calls_under_way_count_as_one() {
        let patience = Patience::default();
        let asked = evening() + TimeDelta::seconds(30);
        for second in 0..30 {
            assert_eq!(patience.refused(evening() + TimeDelta::seconds(second), asked), asked);
        }
        assert_eq!(patience.refused(asked, asked), asked, "the second");
        assert_eq!(patience.0.lock().calls, 2);
    }
}
