//! Whether any worker serves a relay, as reported by the workers themselves, and why none does.
//!
//! Decisions follow the log (`relay-unattended`), which is written only when the state has lasted: a worker that
//! panics is back in a second, and a process that starts has not started the workers of any relay yet. Until its
//! workers run, a relay counts as the log says.

use chrono::{DateTime, TimeDelta, Utc};
use kite_domain::relay::{RelayUnattended, UnattendedCause};
use kite_domain::slug::RelayId;
use parking_lot::Mutex;

/// How long a relay must be without workers, or have some again, before it is recorded.
const LASTING: TimeDelta = TimeDelta::seconds(10);
/// After every relapse within [`RELAPSE`] of the last return, workers have to be there for twice as long, up to about
/// five minutes.
const DOUBLINGS_MAX: u32 = 5;
/// After this long without an absence, the next absence is not a relapse.
const RELAPSE: TimeDelta = TimeDelta::hours(1);

/// The workers' places at a relay. Shared by those who hold one and the steward of the relay.
pub(crate) struct Attendance {
    relay: RelayId,
    state: Mutex<State>,
    relapses: Mutex<Relapses>,
}

/// How often the workers have gone shortly after they were back. Working without being handed anything proves little.
#[derive(Debug, Default)]
struct Relapses {
    count: u32,
    attended_at: Option<DateTime<Utc>>,
}

enum State {
    /// No client can be built.
    Unusable { reason: String, since: DateTime<Utc> },
    /// One a worker.
    Seats(Vec<Seat>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Seat {
    /// It has not been there yet.
    Expected,
    /// It works.
    Taken { since: DateTime<Utc> },
    /// It has ended, and comes back after a while.
    Left { since: DateTime<Utc>, reason: String },
}

/// What is to be written about a relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum News {
    Unattended(RelayUnattended),
    Attended,
}

impl Attendance {
    /// A relay with so many workers.
    pub(crate) fn of_workers(relay: RelayId, workers: usize) -> Self {
        Self {
            relay,
            state: Mutex::new(State::Seats(vec![Seat::Expected; workers])),
            relapses: Mutex::default(),
        }
    }

    /// A relay that cannot have any.
    pub(crate) fn unusable(relay: RelayId, reason: String, since: DateTime<Utc>) -> Self {
        Self { relay, state: Mutex::new(State::Unusable { reason, since }), relapses: Mutex::default() }
    }

    /// A worker does its work.
    pub(crate) fn works(&self, seat: usize, now: DateTime<Utc>) {
        self.set(seat, |seat| {
            if !matches!(seat, Seat::Taken { .. }) {
                *seat = Seat::Taken { since: now };
            }
        });
    }

    /// A worker has ended.
    pub(crate) fn left(&self, seat: usize, reason: &str, now: DateTime<Utc>) {
        self.set(seat, |seat| match seat {
            Seat::Left { reason: known, .. } => reason.clone_into(known),
            Seat::Expected | Seat::Taken { .. } => {
                *seat = Seat::Left { since: now, reason: reason.to_owned() };
            }
        });
    }

    fn set(&self, seat: usize, change: impl FnOnce(&mut Seat)) {
        if let State::Seats(seats) = &mut *self.state.lock()
            && let Some(seat) = seats.get_mut(seat)
        {
            change(seat);
        }
    }

    /// The news are in the log.
    pub(crate) fn told(&self, news: &News, now: DateTime<Utc>) {
        let mut relapses = self.relapses.lock();
        match news {
            News::Attended => relapses.attended_at = Some(now),
            News::Unattended(_) => {
                let is_relapse = relapses.attended_at.is_some_and(|at| now - at < RELAPSE);
                relapses.count = if is_relapse { (relapses.count + 1).min(DOUBLINGS_MAX) } else { 0 };
            }
        }
    }

    /// How long workers have to be back before it is recorded.
    fn lasting(&self) -> TimeDelta {
        LASTING * (1 << self.relapses.lock().count)
    }

    /// Workers that are there and take everything; those reserved for passwords are not counted.
    pub(crate) fn workers(&self) -> u32 {
        match &*self.state.lock() {
            State::Unusable { .. } => 0,
            State::Seats(seats) => {
                seats.iter().filter(|seat| matches!(seat, Seat::Taken { .. })).count() as u32
            }
        }
    }

    /// Whether there is a client to call with.
    pub(crate) fn can_be_called(&self) -> bool {
        matches!(&*self.state.lock(), State::Seats(_))
    }

    /// Whether no worker is there, and none is expected soon.
    pub(crate) fn is_deserted(&self) -> bool {
        match &*self.state.lock() {
            State::Unusable { .. } => true,
            State::Seats(seats) => last_left(seats).is_some(),
        }
    }

    /// The event to write, if the log says this about the relay.
    pub(crate) fn news(&self, known: Option<&RelayUnattended>, now: DateTime<Utc>) -> Option<News> {
        let left = |cause, reason: &str, since| {
            let is_known = known.is_some_and(|known| known.cause == cause && known.reason == reason);
            let reason = reason.to_owned();
            (!is_known).then(|| {
                News::Unattended(RelayUnattended { relay: self.relay.clone(), cause, reason, since })
            })
        };
        match &*self.state.lock() {
            State::Unusable { reason, since } => left(UnattendedCause::Unusable, reason, *since),
            State::Seats(seats) => match first_taken(seats) {
                Some(since) => match known.map(|known| known.cause) {
                    None => None,
                    // It has another definition.
                    Some(UnattendedCause::Unusable) => Some(News::Attended),
                    Some(UnattendedCause::WorkersGone) => {
                        (now - since >= self.lasting()).then_some(News::Attended)
                    }
                },
                None => {
                    let (since, reason) = last_left(seats).filter(|(since, _)| now - *since >= LASTING)?;
                    // They may have ended in different ways by turns.
                    let is_known = known.is_some_and(|known| known.cause == UnattendedCause::WorkersGone);
                    if is_known { None } else { left(UnattendedCause::WorkersGone, reason, since) }
                }
            },
        }
    }
}

/// Since when the first of the present workers has been there.
fn first_taken(seats: &[Seat]) -> Option<DateTime<Utc>> {
    let since = |seat: &Seat| match seat {
        Seat::Taken { since } => Some(*since),
        Seat::Expected | Seat::Left { .. } => None,
    };
    seats.iter().filter_map(since).min()
}

/// When the last one left, and why; none: not all have.
fn last_left(seats: &[Seat]) -> Option<(DateTime<Utc>, &str)> {
    let left = |seat| match seat {
        &Seat::Left { since, ref reason } => Some((since, reason.as_str())),
        Seat::Expected | Seat::Taken { .. } => None,
    };
    let all: Option<Vec<_>> = seats.iter().map(left).collect();
    all?.into_iter().max_by_key(|(since, _)| *since)
}

#[cfg(test)]
mod tests {
    use super::*;
    use UnattendedCause::{Unusable, WorkersGone};

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
    }

    fn alpha() -> RelayId {
        RelayId::from_trusted("alpha")
    }

    fn left(cause: UnattendedCause, reason: &str, since_s: i64) -> RelayUnattended {
        RelayUnattended { relay: alpha(), cause, reason: reason.to_owned(), since: at(since_s) }
    }

    #[test]
    fn a_relay_counts_as_in_the_log_until_its_workers_are_up() {
        let attendance = Attendance::of_workers(alpha(), 2);
        assert_eq!(attendance.news(None, at(100)), None);
        assert_eq!(attendance.news(Some(&left(WorkersGone, "x", 0)), at(100)), None);
    }

    #[test]
    fn it_is_unattended_when_all_have_been_gone_for_a_while() {
        let attendance = Attendance::of_workers(alpha(), 2);
        attendance.works(0, at(0));
        attendance.left(1, "panicked: one", at(1));
        assert_eq!(attendance.news(None, at(60)), None, "one is there");
        attendance.left(0, "panicked: two", at(60));
        assert_eq!(attendance.news(None, at(69)), None, "not for long");
        let gone = left(WorkersGone, "panicked: two", 60);
        assert_eq!(attendance.news(None, at(70)), Some(News::Unattended(gone.clone())));
        assert_eq!(attendance.news(Some(&gone), at(71)), None, "it is known");
        attendance.works(1, at(80));
        assert_eq!(attendance.news(Some(&gone), at(89)), None, "it may end at once");
        attendance.left(1, "panicked: again", at(85));
        assert_eq!(attendance.news(Some(&gone), at(200)), None, "for another reason, and still");
        attendance.works(0, at(200));
        assert_eq!(attendance.news(Some(&gone), at(210)), Some(News::Attended));
        assert_eq!((attendance.news(None, at(211)), attendance.workers()), (None, 1));
    }

    #[test]
    fn one_that_goes_again_and_again_has_to_be_back_longer_and_longer() {
        let attendance = Attendance::of_workers(alpha(), 1);
        let mut now = 0;
        let mut waits = Vec::new();
        for _ in 0..5 {
            attendance.left(0, "panicked", at(now));
            let gone = attendance.news(None, at(now + 10)).unwrap();
            attendance.told(&gone, at(now + 10));
            let News::Unattended(gone) = gone else { panic!() };
            attendance.works(0, at(now + 20));
            let waited = (0..4_000).find(|wait| attendance.news(Some(&gone), at(now + 20 + wait)).is_some());
            now += 20 + waited.unwrap();
            waits.push(waited.unwrap());
            attendance.told(&News::Attended, at(now));
        }
        assert_eq!(waits, [10, 20, 40, 80, 160]);
        now += 3_601;
        attendance.left(0, "panicked", at(now));
        let gone = attendance.news(None, at(now + 10)).unwrap();
        attendance.told(&gone, at(now + 10));
        assert_eq!(attendance.lasting(), LASTING, "after a good hour it has not relapsed");
    }

    #[test]
    fn an_unusable_definition_is_said_at_once_and_so_is_a_better_one() {
        let unusable = Attendance::unusable(alpha(), "endpoint.base_url: no".to_owned(), at(5));
        let gone = left(Unusable, "endpoint.base_url: no", 5);
        assert_eq!(unusable.news(None, at(5)), Some(News::Unattended(gone.clone())));
        assert_eq!(unusable.news(Some(&gone), at(900)), None);
        assert!(unusable.news(Some(&left(Unusable, "another", 1)), at(5)).is_some());
        let better = Attendance::of_workers(alpha(), 1);
        assert_eq!(better.news(Some(&gone), at(900)), None, "not up yet");
        better.works(0, at(901));
        assert_eq!(better.news(Some(&gone), at(901)), Some(News::Attended));
    }
}
