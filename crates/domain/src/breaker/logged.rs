//! A breaker as the log has it: what all processes that call a relay agree on.

use chrono::{DateTime, Utc};

use super::{Breaker, BreakerChange};

/// See the module. Its counters are empty: each process counts for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedBreaker {
    breaker: Breaker,
    changed: BreakerChange,
    version: u64,
}

impl LoggedBreaker {
    /// Folds a change that has this `version` in the relay's stream onto what was `known` before; none: it is the
    /// first change.
    pub fn fold(known: Option<&Self>, change: BreakerChange, version: u64) -> Self {
        let mut breaker = known.map_or_else(|| Breaker::new(change.at), |known| known.breaker.clone());
        breaker.apply(&change);
        Self { breaker, changed: change, version }
    }

    /// Version of the last change in the relay's stream, from 1. A decision on this state is appended only if nobody
    /// has changed it since.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The last change.
    pub fn changed(&self) -> &BreakerChange {
        &self.changed
    }

    /// The breaker, for a process that sees it now. A phase that began by a clock which is ahead of its own begins now.
    pub fn seen_at(&self, now: DateTime<Utc>) -> Breaker {
        Breaker { since: self.breaker.since.min(now), ..self.breaker.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::BreakerPhase::{self, Passing, Probing, Tripped};
    use chrono::TimeDelta;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
    }

    fn change(from: BreakerPhase, to: BreakerPhase, at_s: i64, until_s: Option<i64>) -> BreakerChange {
        BreakerChange { from, to, reason: "test".to_owned(), at: at(at_s), until: until_s.map(at) }
    }

    #[test]
    fn the_changes_of_all_processes_are_one_history() {
        let first = LoggedBreaker::fold(None, change(Passing, Tripped, 10, Some(15)), 3);
        let second = LoggedBreaker::fold(Some(&first), change(Tripped, Probing, 15, None), 5);
        let third = LoggedBreaker::fold(Some(&second), change(Probing, Tripped, 16, Some(26)), 6);
        assert_eq!((third.version(), third.changed().at), (6, at(16)));
        let breaker = third.seen_at(at(17));
        assert_eq!((breaker.phase(), breaker.since(), breaker.due_at()), (Tripped, at(16), Some(at(26))));
    }

    #[test]
    fn a_phase_that_began_in_the_future_begins_when_it_is_seen() {
        let logged = LoggedBreaker::fold(None, change(Passing, Tripped, 10, Some(15)), 3);
        assert_eq!(logged.seen_at(at(4)).since(), at(4));
    }
}
