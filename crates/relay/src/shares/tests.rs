//! Several processes at one relay.

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use futures::FutureExt;
use kite_commands::clock::ManualClock;
use kite_commands::directory::Directory;
use kite_commands::event_store::{
    Batch, BatchMode, EventStore, Expected, MemoryEventStore, Metadata, NewEvent, StreamAppend,
};
use kite_commands::lease::{
    Acquired, HeldBy, InProcessLeases, LeaseError, LeaseHolder, Leases, Renewed, TERM,
};
use kite_commands::{Clock, Journal, Worker};
use kite_domain::relay::RelayProfile;
use kite_domain::sending::MessageClass;
use proptest::prelude::*;
use smol_str::SmolStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::attendance::Attendance;
use crate::lanes::{InProcessQueue, QueueLimits};
use crate::limits::Pace;
use crate::worker::testing::{profile, relay};

const RATE: u32 = 80;
/// A quarter of a second's worth.
const BURST: f64 = 20.0;
const TICK: TimeDelta = TimeDelta::milliseconds(250);

struct Process {
    shares: Arc<Shares>,
    pace: Pace,
    keeper: ShareKeeper,
    is_paused: bool,
}

/// Processes that share a relay of eight calls and eighty parts a second.
struct Town {
    clock: Arc<ManualClock>,
    leases: Arc<dyn Leases>,
    profile: RelayProfile,
    processes: Vec<Process>,
    made: usize,
    /// Parts over the rate, as a relay counts them that lets a quarter of a second come together.
    level: f64,
    counted_at: DateTime<Utc>,
    sent: u32,
}

impl Town {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::at(DateTime::UNIX_EPOCH + TimeDelta::days(20_000)));
        let profile =
            RelayProfile { calls_in_flight_max: 8, rate_parts_per_second: Some(RATE), ..profile("alpha") };
        Self {
            leases: Arc::new(InProcessLeases::new(clock.clone(), TERM)),
            counted_at: clock.now(),
            clock,
            profile,
            processes: Vec::new(),
            made: 0,
            level: 0.0,
            sent: 0,
        }
    }

    fn join(&mut self) {
        self.made += 1;
        let holder =
            LeaseHolder::new(self.leases.clone(), format!("process-{}", self.made), self.clock.clone());
        let shares = Arc::new(Shares::new(&self.profile, holder));
        let definition = shares.define(&self.profile);
        let pace = Pace::new(self.profile.rate_parts_per_second, 100, self.clock.clone());
        let pace = pace.sharing(shares.clone());
        let attendance = Arc::new(Attendance::of_workers(relay("alpha"), 6));
        let queue = Arc::new(InProcessQueue::new(QueueLimits::default()));
        let keeper = ShareKeeper::new(shares.clone(), definition, attendance, Directory::default(), queue);
        self.processes.push(Process { shares, pace, keeper, is_paused: false });
    }

    /// Without a word, if it dies.
    fn leave(&mut self, place: usize, is_orderly: bool) {
        let mut process = self.processes.remove(place);
        if is_orderly {
            process.keeper.retire().now_or_never().expect("memory never waits");
        }
    }

    /// Everybody looks after its shares and sends all that it may, then time passes.
    fn tick(&mut self) {
        for process in self.processes.iter_mut().filter(|process| !process.is_paused) {
            process.keeper.step().now_or_never().expect("memory never waits").unwrap();
        }
        let held: u32 = self.held().iter().sum();
        assert!(held <= 8, "{:?}", self.held());
        // Not all at the same moment.
        for _ in 0..5 {
            self.send();
            self.clock.advance(TICK / 5);
        }
    }

    fn send(&mut self) {
        let now = self.clock.now();
        let since_s = (now - self.counted_at).num_milliseconds() as f64 / 1_000.0;
        self.level = (self.level - since_s * f64::from(RATE)).max(0.0);
        self.counted_at = now;
        for process in self.processes.iter().filter(|process| !process.is_paused) {
            while process.pace.charge(MessageClass::Notice, 1, now).is_ok() {
                self.level += 1.0;
                self.sent += 1;
            }
        }
        assert!(self.level <= BURST + 0.01, "{} parts at once: {:?}", self.level, self.held());
    }

    fn held(&self) -> Vec<u32> {
        let now = self.clock.now();
        self.processes.iter().map(|process| process.shares.portion(now).held).collect()
    }

    fn ticks(&mut self, ticks: usize) {
        (0..ticks).for_each(|_| self.tick());
    }

    /// Seconds until all shares are held and nobody has two more than another; none: not within half a minute.
    fn seconds_until_fair(&mut self) -> Option<usize> {
        let is_fair = |held: &[u32]| {
            held.iter().sum::<u32>() == 8 && held.iter().max().unwrap() - held.iter().min().unwrap() <= 1
        };
        (0..120)
            .find(|_| {
                self.tick();
                is_fair(&self.held())
            })
            .map(|ticks| ticks / 4)
    }
}

fn first_holders(town: &Town) -> usize {
    let now = town.clock.now();
    town.processes.iter().filter(|process| process.shares.holds_first(now)).count()
}

#[test]
fn a_process_that_is_alone_has_everything_at_once() {
    let mut town = Town::new();
    town.join();
    let process = &town.processes[0];
    process.shares.look(Wants::Shares).now_or_never().unwrap().unwrap();
    assert_eq!(town.held(), [8]);
    let now = town.clock.now();
    assert_eq!(process.pace.parts_max(MessageClass::Notice, now), 20, "with its burst");
    assert_eq!(process.pace.charge(MessageClass::Notice, 20, now), Ok(()));
    let seats = |seat: fn(u16) -> Seat| {
        let begun: Vec<_> = (0..8).map_while(|number| process.shares.begin_call(seat(number), now)).collect();
        begun.len()
    };
    assert_eq!((seats(Seat::Kept), seats(Seat::Open)), (2, 6));
}

#[test]
fn one_to_four_processes_come_to_equal_parts() {
    let mut town = Town::new();
    for processes in 1..=4 {
        town.join();
        let seconds = town.seconds_until_fair();
        assert!(seconds.is_some_and(|seconds| seconds <= 4), "{processes}: {seconds:?} s, {:?}", town.held());
        assert_eq!(first_holders(&town), 1);
        let before = town.held();
        town.ticks(100);
        assert_eq!(town.held(), before, "and stay there");
    }
    while town.processes.len() > 1 {
        town.leave(0, true);
        let seconds = town.seconds_until_fair();
        assert!(seconds.is_some_and(|seconds| seconds <= 4), "{seconds:?} s, {:?}", town.held());
    }
}

#[test]
fn what_a_dead_process_had_is_taken_over_after_its_time_and_the_longest_call() {
    let mut town = Town::new();
    town.join();
    town.join();
    town.seconds_until_fair().unwrap();
    town.leave(0, false);
    // Six seconds of the lease, twenty of a call and its intent; at the latest then, except for the pace of looking.
    town.ticks(4 * 23);
    assert_eq!(town.held(), [4], "it may still be calling");
    let seconds = town.seconds_until_fair();
    assert!(seconds.is_some_and(|seconds| seconds <= 6), "{seconds:?}");
}

#[test]
fn more_processes_than_shares_have_one_or_none_and_those_without_do_not_call() {
    let mut town = Town::new();
    (0..11).for_each(|_| town.join());
    town.seconds_until_fair().unwrap();
    assert_eq!(town.held().iter().filter(|held| **held == 0).count(), 3);
    let now = town.clock.now();
    let without = town.processes.iter().find(|process| process.shares.portion(now).held == 0).unwrap();
    assert!(without.pace.charge(MessageClass::Otp, 1, now).is_err());
    assert!(without.shares.begin_call(Seat::Open(0), now).is_none());
    assert!(without.shares.begin_pull(now).is_none());
}

#[test]
fn a_share_is_given_back_only_when_its_calls_are_over() {
    let mut town = Town::new();
    town.join();
    town.tick();
    let shares = town.processes[0].shares.clone();
    let now = town.clock.now();
    let seats = (0..2).map(Seat::Kept).chain((0..6).map(Seat::Open));
    let mut calls: Vec<_> = seats.filter_map(|seat| shares.begin_call(seat, now)).collect();
    assert_eq!(calls.len(), 8);
    town.join();
    town.ticks(20);
    assert_eq!(town.held(), [4, 0], "four are not used any more, and not given back");
    assert!(shares.begin_call(Seat::Open(0), town.clock.now()).is_none());
    calls.truncate(5);
    town.ticks(8);
    assert_eq!(town.held(), [4, 0]);
    calls.truncate(4);
    town.ticks(8);
    assert_eq!(town.held(), [4, 4]);
}

#[test]
fn the_last_who_leaves_gives_everything_back() {
    let mut town = Town::new();
    town.join();
    town.tick();
    let shares = town.processes[0].shares.clone();
    let call = shares.begin_call(Seat::Open(0), town.clock.now()).unwrap();
    town.leave(0, true);
    town.join();
    town.ticks(4);
    assert_eq!(town.held(), [0], "a call is under way");
    drop(call);
    shares.leave().now_or_never().unwrap();
    town.ticks(8);
    assert_eq!(town.held(), [8]);
}

#[test]
fn another_definition_changes_what_a_share_is_worth_and_loses_none() {
    let mut town = Town::new();
    town.join();
    town.tick();
    let (old, shares) = (town.processes.remove(0), town.profile.clone());
    let fewer = RelayProfile { calls_in_flight_max: 4, ..shares };
    old.shares.define(&fewer);
    let mut keeper = old.keeper;
    keeper.retire().now_or_never().unwrap();
    old.shares.look(Wants::Shares).now_or_never().unwrap().unwrap();
    assert_eq!(old.shares.portion(town.clock.now()), Portion { held: 4, of: 4 });
    let held = town.leases.held("relay/alpha/").now_or_never().unwrap().unwrap();
    assert_eq!(held.len(), 5, "four shares and the wish: {held:?}");
}

#[test]
fn whoever_has_nobody_to_call_with_leaves_the_relay_to_others() {
    let mut town = Town::new();
    town.join();
    town.join();
    town.seconds_until_fair().unwrap();
    let gone = Arc::new(Attendance::of_workers(relay("alpha"), 1));
    gone.left(0, "panicked", town.clock.now());
    let Process { shares, keeper, .. } = &mut town.processes[0];
    let queue = Arc::new(InProcessQueue::new(QueueLimits::default()));
    *keeper = ShareKeeper::new(shares.clone(), 1, gone.clone(), Directory::default(), queue);
    town.ticks(20);
    assert_eq!(town.held(), [0, 8]);
    assert!(town.processes[0].shares.others_want());
    gone.works(0, town.clock.now());
    assert!(town.seconds_until_fair().is_some());
}

/// A newer program has defined a relay in a way that this one does not understand.
async fn behind(clock: &Arc<ManualClock>) -> Directory {
    let store = Arc::new(MemoryEventStore::new());
    let journal = Journal::new(store.clone(), clock.clone(), clock.clone());
    let id = journal.next_id();
    let data = b"{}".to_vec().into();
    let events = vec![NewEvent { id, kind: "relay-defined".into(), schema_version: 900, data }];
    let metadata = Metadata {
        time: clock.now(),
        tenant: None,
        correlation: id,
        causation: None,
        actor: "admin".into(),
        traceparent: None,
    };
    let append = StreamAppend { stream: "relay-alpha".into(), expected: Expected::Any, metadata, events };
    store.append(Batch::new(BatchMode::Independent, vec![append])).await;
    let directory = Directory::default();
    assert!(directory.catch_up(&journal).await.is_err() && directory.stands_still());
    directory
}

#[test]
fn whoever_does_not_understand_what_the_log_says_of_relays_leaves_them_to_others() {
    let mut town = Town::new();
    town.join();
    town.join();
    town.seconds_until_fair().unwrap();
    let directory = behind(&town.clock).now_or_never().expect("memory never waits");
    let attendance = Arc::new(Attendance::of_workers(relay("alpha"), 6));
    let Process { shares, keeper, .. } = &mut town.processes[0];
    let queue = Arc::new(InProcessQueue::new(QueueLimits::default()));
    *keeper = ShareKeeper::new(shares.clone(), 1, attendance, directory, queue);
    town.ticks(20);
    assert_eq!(town.held(), [0, 8]);
}

/// What happens in a town.
#[derive(Debug, Clone)]
enum Act {
    Join,
    Leave { place: usize, is_orderly: bool },
    Pause { place: usize },
    Wait { ticks: usize },
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        2 => Just(Act::Join),
        2 => (0..4_usize, any::<bool>()).prop_map(|(place, is_orderly)| Act::Leave { place, is_orderly }),
        2 => (0..4_usize).prop_map(|place| Act::Pause { place }),
        4 => (1..60_usize).prop_map(|ticks| Act::Wait { ticks }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whoever comes, goes, dies and stands still: all together never call faster than the relay's rate, nor hold more
    /// than its shares; and they come to equal parts.
    #[test]
    fn the_rate_of_all_is_the_relays_while_shares_move(acts in proptest::collection::vec(act(), 1..30)) {
        let mut town = Town::new();
        town.join();
        for act in acts {
            let processes = town.processes.len();
            match act {
                Act::Join if processes < 4 => town.join(),
                Act::Leave { place, is_orderly } if place < processes => town.leave(place, is_orderly),
                Act::Pause { place } if place < processes => {
                    town.processes[place].is_paused ^= true;
                }
                Act::Wait { ticks } => town.ticks(ticks),
                Act::Join | Act::Leave { .. } | Act::Pause { .. } => town.tick(),
            }
        }
        town.processes.iter_mut().for_each(|process| process.is_paused = false);
        if town.processes.is_empty() {
            town.join();
        }
        prop_assert!(town.seconds_until_fair().is_some(), "{:?}", town.held());
    }
}

#[test]
fn what_was_taken_without_hearing_of_it_is_had_all_the_same() {
    let mut town = Town::new();
    let name = "process-1";
    let own = |number: u32| format!("relay/alpha/{number}");
    for number in 0..3 {
        town.leases.acquire(&own(number), name, TimeDelta::zero()).now_or_never().unwrap().unwrap();
    }
    town.join();
    town.tick();
    assert_eq!(town.held(), [8]);
}

/// Counts how often somebody asks what all have.
struct Asked {
    leases: Arc<dyn Leases>,
    times: AtomicUsize,
}

#[async_trait]
impl Leases for Asked {
    async fn acquire(&self, lease: &str, holder: &str, after: TimeDelta) -> Result<Acquired, LeaseError> {
        self.leases.acquire(lease, holder, after).await
    }

    async fn renew(&self, lease: &str, holder: &str, epoch: u64) -> Result<Renewed, LeaseError> {
        self.leases.renew(lease, holder, epoch).await
    }

    async fn release(&self, lease: &str, holder: &str, epoch: u64) -> Result<(), LeaseError> {
        self.leases.release(lease, holder, epoch).await
    }

    async fn held(&self, prefix: &str) -> Result<Vec<HeldBy>, LeaseError> {
        self.times.fetch_add(1, Ordering::Relaxed);
        self.leases.held(prefix).await
    }
}

#[test]
fn who_has_its_part_asks_every_two_seconds_what_others_have_and_who_lacks_some_asks_each_time() {
    let mut town = Town::new();
    let asked = Arc::new(Asked { leases: town.leases.clone(), times: AtomicUsize::new(0) });
    town.leases = asked.clone();
    let times_in = |town: &mut Town, ticks| {
        let before = asked.times.load(Ordering::Relaxed);
        town.ticks(ticks);
        asked.times.load(Ordering::Relaxed) - before
    };
    town.join();
    assert_eq!(times_in(&mut town, 1), 1);
    assert_eq!(times_in(&mut town, 16), 2, "in four seconds");
    town.leave(0, false);
    town.join();
    assert_eq!(times_in(&mut town, 16), 16, "the other one may still be calling");
    assert_eq!(town.held(), [0]);
}

#[test]
fn the_first_share_is_given_back_when_no_pull_is_in_progress_and_the_others_do_not_wait_for_that() {
    let mut town = Town::new();
    town.join();
    town.tick();
    let shares = town.processes[0].shares.clone();
    let pull = shares.begin_pull(town.clock.now()).unwrap();
    town.leave(0, true);
    let held = |town: &Town| -> Vec<SmolStr> {
        let rows = town.leases.held("relay/alpha/").now_or_never().unwrap().unwrap();
        rows.into_iter().map(|row| row.lease).collect()
    };
    assert_eq!(held(&town), ["relay/alpha/0"]);
    drop(pull);
    shares.leave().now_or_never().unwrap();
    assert_eq!(held(&town), [""; 0]);
}
