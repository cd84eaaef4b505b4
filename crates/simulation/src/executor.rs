//! One thread, virtual time: the process of Kite as a set of futures, of which a random one (by seed) is polled next.
//!
//! Time stands still while any future can continue. A crash drops all futures at whatever await points they are.

use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use kite_commands::Clock;
use kite_commands::clock::ManualClock;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use crate::reach::{Reached, Situation};
use kite_testkit::dice::Dice;

type Ready = Arc<Mutex<BTreeSet<u64>>>;

/// What all parts of a simulation share: time, chance, and reports to the outside.
pub(crate) struct Sim {
    pub(crate) clock: Arc<ManualClock>,
    /// The same time: it is asked for with every poll.
    now_ms: AtomicI64,
    dice: Mutex<Dice>,
    ready: Ready,
    timers: Mutex<Timers>,
    spawned: Mutex<Vec<(u64, Task)>>,
    tasks_made: AtomicUsize,
    /// Steps and requests that have begun and not ended.
    busy: AtomicUsize,
    violations: Mutex<Vec<String>>,
    reached: Mutex<Reached>,
}

#[derive(Default)]
struct Timers {
    made: u64,
    due: BTreeMap<(i64, u64), Waker>,
}

/// A process by its number; 0 is the only one where there is one.
pub(crate) type NodeIndex = usize;

struct Task {
    name: String,
    node: NodeIndex,
    future: BoxFuture<'static, ()>,
    waker: Waker,
    /// The moment of its last poll, and how many there were at it.
    polled: (i64, u32),
}

struct TaskWaker {
    id: u64,
    ready: Ready,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.ready.lock().insert(self.id);
    }
}

impl Sim {
    pub(crate) fn new(seed: u64, start: DateTime<Utc>) -> Arc<Self> {
        Arc::new(Self {
            clock: Arc::new(ManualClock::at(start)),
            now_ms: AtomicI64::new(start.timestamp_millis()),
            dice: Mutex::new(Dice::new(seed)),
            ready: Ready::default(),
            timers: Mutex::default(),
            spawned: Mutex::default(),
            tasks_made: AtomicUsize::new(0),
            busy: AtomicUsize::new(0),
            violations: Mutex::default(),
            reached: Mutex::default(),
        })
    }

    /// The random generator begins again, so that what came before has no effect on what follows.
    pub(crate) fn reseed(&self, dice: Dice) {
        *self.dice.lock() = dice;
    }

    pub(crate) fn below(&self, bound: u64) -> u64 {
        self.dice.lock().below(bound)
    }

    pub(crate) fn per_cent(&self, share: u64) -> bool {
        self.dice.lock().per_cent(share)
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.now_ms.load(Ordering::Relaxed)
    }

    /// Something happened that must not.
    pub(crate) fn violation(&self, what: String) {
        self.violations.lock().push(what);
    }

    /// A situation was reached that simulations are meant to reach.
    pub(crate) fn reach(&self, situation: Situation) {
        self.reached.lock().count(situation);
    }

    pub(crate) fn take_reached(&self) -> Reached {
        std::mem::take(&mut *self.reached.lock())
    }

    pub(crate) fn take_violation(&self) -> Option<String> {
        let mut violations = self.violations.lock();
        if violations.is_empty() { None } else { Some(violations.remove(0)) }
    }

    /// Starts something in a process: it is gone when that one dies.
    pub(crate) fn spawn(
        &self,
        node: NodeIndex,
        name: impl Into<String>,
        future: impl Future<Output = ()> + Send + 'static,
    ) {
        let id = self.tasks_made.fetch_add(1, Ordering::Relaxed) as u64;
        let waker = Arc::new(TaskWaker { id, ready: self.ready.clone() }).into();
        self.spawned
            .lock()
            .push((id, Task { name: name.into(), node, future: Box::pin(future), waker, polled: (0, 0) }));
        self.ready.lock().insert(id);
    }

    /// Gives way so many times.
    pub(crate) fn yields(&self, times: u64) -> Yields {
        Yields { left: times }
    }

    /// Gives way a seeded number of times, often not at all.
    pub(crate) fn some_yields(&self) -> Yields {
        let times = self.below(4).saturating_sub(1);
        self.yields(times)
    }

    pub(crate) fn sleep_until(self: &Arc<Self>, until_ms: i64) -> Sleep {
        Sleep { sim: self.clone(), until_ms, key: None }
    }

    pub(crate) fn sleep_ms(self: &Arc<Self>, ms: u64) -> Sleep {
        self.sleep_until(self.now_ms() + ms as i64)
    }

    /// From here until the guard is dropped something is in progress, so that time must not leap.
    pub(crate) fn begin(self: &Arc<Self>) -> Busy {
        self.busy.fetch_add(1, Ordering::Relaxed);
        Busy { sim: self.clone() }
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn next_timer_ms(&self) -> Option<i64> {
        self.timers.lock().due.first_key_value().map(|((at, _), _)| *at)
    }

    /// Moves the clock and wakes whoever waited for that.
    pub(crate) fn set_time_ms(&self, to_ms: i64) {
        if to_ms > self.now_ms() {
            self.clock.set(DateTime::from_timestamp_millis(to_ms).unwrap_or(DateTime::<Utc>::MAX_UTC));
            self.now_ms.store(to_ms, Ordering::Relaxed);
        }
        let now_ms = self.now_ms();
        loop {
            let mut timers = self.timers.lock();
            let Some(entry) = timers.due.first_entry().filter(|entry| entry.key().0 <= now_ms) else {
                return;
            };
            let waker = entry.remove();
            drop(timers);
            waker.wake();
        }
    }
}

/// See [`Sim::begin`].
pub(crate) struct Busy {
    sim: Arc<Sim>,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.sim.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

/// See [`Sim::yields`].
pub(crate) struct Yields {
    left: u64,
}

impl Future for Yields {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.left == 0 {
            return Poll::Ready(());
        }
        self.left -= 1;
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

/// See [`Sim::sleep_until`].
pub(crate) struct Sleep {
    sim: Arc<Sim>,
    until_ms: i64,
    key: Option<(i64, u64)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.sim.now_ms() >= self.until_ms {
            return Poll::Ready(());
        }
        let sim = self.sim.clone();
        let mut timers = sim.timers.lock();
        let until_ms = self.until_ms;
        let key = *self.key.get_or_insert_with(|| {
            timers.made += 1;
            (until_ms, timers.made)
        });
        timers.due.insert(key, context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.sim.timers.lock().due.remove(&key);
        }
    }
}

/// The futures of all processes.
pub(crate) struct Executor {
    sim: Arc<Sim>,
    tasks: BTreeMap<u64, Task>,
    /// Processes that stand still: none of their futures is polled.
    paused: BTreeSet<NodeIndex>,
}

/// What a poll came to.
#[derive(Debug)]
pub(crate) enum Polled {
    /// No future can continue now.
    Nothing,
    /// One was polled.
    One,
    /// One panicked: its name, and its last words.
    Panicked(String, String),
}

impl Executor {
    pub(crate) fn new(sim: Arc<Sim>) -> Self {
        Self { sim, tasks: BTreeMap::new(), paused: BTreeSet::new() }
    }

    /// Polls one of those that can continue.
    pub(crate) fn poll_one(&mut self) -> Polled {
        self.tasks.extend(std::mem::take(&mut *self.sim.spawned.lock()));
        let Some(id) = self.choose() else { return Polled::Nothing };
        let Some(task) = self.tasks.get_mut(&id) else { return Polled::One };
        let waker = task.waker.clone();
        let now_ms = self.sim.now_ms();
        let polls = if task.polled.0 == now_ms { task.polled.1 } else { 0 };
        task.polled = (now_ms, polls + 1);
        let polled =
            catch_unwind(AssertUnwindSafe(|| task.future.as_mut().poll(&mut Context::from_waker(&waker))));
        match polled {
            Ok(Poll::Pending) => Polled::One,
            Ok(Poll::Ready(())) => {
                self.tasks.remove(&id);
                Polled::One
            }
            Err(panic) => {
                let words = panic.downcast_ref::<String>().map(String::as_str);
                let words = words.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no words");
                Polled::Panicked(task.name.clone(), words.to_owned())
            }
        }
    }

    fn choose(&self) -> Option<u64> {
        if !self.paused.is_empty() {
            return self.choose_among_the_awake();
        }
        let count = self.sim.ready.lock().len() as u64;
        if count == 0 {
            return None;
        }
        let place = self.sim.below(count) as usize;
        let mut ready = self.sim.ready.lock();
        let id = *ready.iter().nth(place)?;
        ready.remove(&id);
        Some(id)
    }

    fn choose_among_the_awake(&self) -> Option<u64> {
        let is_awake = |id: &&u64| {
            let task = self.tasks.get(id);
            !task.is_some_and(|task| self.paused.contains(&task.node))
        };
        let awake: Vec<u64> = self.sim.ready.lock().iter().filter(is_awake).copied().collect();
        if awake.is_empty() {
            return None;
        }
        let id = awake[self.sim.below(awake.len() as u64) as usize];
        self.sim.ready.lock().remove(&id);
        Some(id)
    }

    /// A process dies: everything in its memory is gone.
    pub(crate) fn crash(&mut self, node: NodeIndex) {
        self.tasks.extend(std::mem::take(&mut *self.sim.spawned.lock()));
        self.paused.remove(&node);
        // What is dropped may start something: that dies, too.
        while let Some((id, _)) = self.tasks.iter().find(|(_, task)| task.node == node) {
            drop(self.tasks.remove(&id.clone()));
            self.tasks.extend(std::mem::take(&mut *self.sim.spawned.lock()));
        }
        self.sim.ready.lock().retain(|id| self.tasks.contains_key(id));
    }

    /// A process stands still, as if it had been stopped.
    pub(crate) fn pause(&mut self, node: NodeIndex) {
        self.paused.insert(node);
    }

    /// It continues.
    pub(crate) fn go_on(&mut self, node: NodeIndex) {
        self.paused.remove(&node);
    }

    /// Who does most at this moment, for a report on why it never ends.
    pub(crate) fn busiest(&self) -> String {
        let now_ms = self.sim.now_ms();
        let mut polls: Vec<(u32, &str)> = self
            .tasks
            .values()
            .filter(|task| task.polled.0 == now_ms)
            .map(|task| (task.polled.1, task.name.as_str()))
            .collect();
        polls.sort_unstable_by(|one, other| other.cmp(one));
        let told = polls.iter().take(5).map(|(polls, name)| format!("{name} ({polls} polls)"));
        told.collect::<Vec<_>>().join(", ")
    }

    /// Who is there, for a report on why nothing moves.
    pub(crate) fn names(&self) -> String {
        self.tasks.values().map(|task| task.name.as_str()).collect::<Vec<_>>().join(", ")
    }
}
