//! What is true now, and what was true a moment ago. A process that decides reads the log, and may not have read its
//! newest event yet.

use chrono::{DateTime, TimeDelta, Utc};
use std::cell::Cell;

use crate::case::{Case, CaseStep};
use crate::faults::AppendFault;
use crate::operation::Operation;

/// How long a process that reads the log may not know some news.
const NOTICE: TimeDelta = TimeDelta::seconds(5);
/// The same, however much comes together. An intent that reaches the log later than that is not carried out.
const NOTICE_MAX: TimeDelta = TimeDelta::seconds(40);
/// How long an append takes that stalls.
const STALLED: TimeDelta = TimeDelta::seconds(24);
/// How late a process learns of an append where the log is on another machine.
const HEARD_LATE: TimeDelta = TimeDelta::seconds(2);

thread_local! {
    /// A case is played and checked on one thread.
    static IN_FORCE: Cell<TimeDelta> = const { Cell::new(NOTICE) };
}

/// How long news may be unknown in the case that is played.
pub(super) fn notice() -> TimeDelta {
    IN_FORCE.get()
}

/// From now on the case has one process that knows everything.
pub(super) fn play_alone() {
    IN_FORCE.set(NOTICE);
}

/// From now on this case is played, in which several processes work.
pub(super) fn play(case: &Case) {
    IN_FORCE.set(notice_in(case));
}

/// How long the processes of a case are held up, all together.
pub(super) fn held_up_in(case: &Case) -> TimeDelta {
    let held_up = |step: &CaseStep| match step.op {
        Operation::StandStill { ms, .. } | Operation::CutOff { ms, .. } => TimeDelta::milliseconds(ms.into()),
        Operation::AppendFault { fault: AppendFault::Stalled, .. } => STALLED,
        _ => TimeDelta::zero(),
    };
    case.steps.iter().map(held_up).fold(TimeDelta::zero(), |all, one| all + one)
}

/// What happens in a case says how old a process's knowledge can be, and by how much the times of events differ.
fn notice_in(case: &Case) -> TimeDelta {
    let off_ms = |step: &CaseStep| match step.op {
        Operation::ClockOff { ms, .. } => ms.unsigned_abs(),
        _ => 0,
    };
    let clocks_off = TimeDelta::milliseconds(case.steps.iter().map(off_ms).max().unwrap_or(0).into());
    let heard_late = if case.setup.remote_log { HEARD_LATE } else { TimeDelta::zero() };
    (NOTICE + heard_late + held_up_in(case) + clocks_off * 2).min(NOTICE_MAX)
}

/// A fact that changes, with what it was before.
#[derive(Debug, Clone, Default)]
pub(crate) struct Noted<T> {
    now: T,
    /// What was so, and until when.
    before: Vec<(T, DateTime<Utc>)>,
}

impl<T> Noted<T> {
    pub(super) fn set(&mut self, value: T, at: DateTime<Utc>) {
        let before = std::mem::replace(&mut self.now, value);
        self.before.push((before, at));
    }

    pub(crate) fn now(&self) -> &T {
        &self.now
    }

    /// All that was so at some moment since then.
    fn since(&self, since: DateTime<Utc>) -> impl Iterator<Item = &T> {
        let before = self.before.iter().filter(move |(_, until)| *until >= since);
        std::iter::once(&self.now).chain(before.map(|(value, _)| value))
    }

    /// Whether a process that decides at this time may believe it.
    pub(super) fn may(&self, at: DateTime<Utc>, is_so: impl FnMut(&T) -> bool) -> bool {
        self.since(at - notice()).any(is_so)
    }

    /// Whether every process that decides at this time must know it.
    pub(super) fn must(&self, at: DateTime<Utc>, is_so: impl FnMut(&T) -> bool) -> bool {
        self.throughout(at - notice(), is_so)
    }

    /// Whether it was so all the time since then.
    pub(super) fn throughout(&self, since: DateTime<Utc>, is_so: impl FnMut(&T) -> bool) -> bool {
        self.since(since).all(is_so)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_may_be_unknown_for_a_while_and_no_longer() {
        let at = |seconds: i64| DateTime::from_timestamp(1_000 + seconds, 0).unwrap();
        let mut noted = Noted { now: 1, before: Vec::new() };
        noted.set(2, at(0));
        assert!(noted.may(at(5), |value| *value == 1) && !noted.may(at(6), |value| *value == 1));
        assert!(!noted.must(at(5), |value| *value == 2) && noted.must(at(6), |value| *value == 2));
        assert!(noted.may(at(0), |value| *value == 2), "whoever reads at once knows");
    }
}
