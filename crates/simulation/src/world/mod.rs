//! A simulation as it runs: the process, its store, the relays, the checker, and the time.

mod copy;
mod end;
mod nodes;
mod requests;
mod sends;

use futures::FutureExt;
use kite_commands::describe;
use kite_commands::seals::{self, SealReport};
use kite_event_store::{EventStore, Filter, Gaps, Position, RecordedEvent};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::watch;

use crate::case::{Case, CaseStep};
use crate::check::{Answered, Checked, Checker};
use crate::executor::{Executor, NodeIndex, Polled, Sim};
use crate::node::{KeptLeases, Node};
use crate::operation::{Foreign, Operation};
use crate::platform::{Platform, accept_limits};
use crate::queue::Broker;
use crate::reach::Situation;
use crate::relays::{Acknowledged, Action, Begun, CallFault, Fate, Mode, SimConnector, SimRelay, SimRelays};
use crate::setting::{self, RELAYS};
use crate::store::{Log, empty_log};
use crate::unwritable;
use crate::upgrade::Upgrade;
use kite_domain::event::EventKind;
use kite_domain::ids::SendingId;
use kite_domain::relay::ReceiptMode;
use kite_domain::slug::{RelayId, TenantId};
use kite_testkit::dice::Dice;

/// More polls than this at one moment: they never come to rest.
const POLLS_AT_ONCE_MAX: u32 = 200_000;
/// How long faults stop in a calm.
const CALM_MS: i64 = 15_000;
/// The same where lanes are so small that they are full at times.
const CALM_WITHOUT_ROOM_MS: i64 = 70_000;
/// The same where another process may have to take over what one had of a relay: after the time of its lease and the longest call.
const CALM_OF_SEVERAL_MS: i64 = 45_000;
/// How much longer where a process is too old for the log: what falls free it may do first, for its turn, and leave undone what it
/// does not understand.
const TURN_OF_THE_OLD_MS: i64 = 25_000;
/// The log of a case has some hundreds of events, and some thousands where many messages are sent.
const EVENTS_MAX: u64 = 10_000;
/// From so many jobs on a lane is never full here.
const ROOM_JOBS_MIN: u32 = 1_000;
/// The log says after this long which addresses a refusal applies to, if nothing prevents it.
const BOUND_WITHIN: chrono::TimeDelta = chrono::TimeDelta::seconds(10);
/// What is older than this is sealed after a calm.
const SEALED_MS_MAX: i64 = 13_000;
/// How long it takes until another process takes over a post.
const TAKES_OVER_MS_MAX: i64 = 12_000;
/// The longest leap while nothing is in progress.
const LEAP_MS_MAX: i64 = 3_600_000;

/// Where requests find the process, while there is one.
pub(crate) type Slot = Arc<Mutex<Option<Platform>>>;

/// Bodies by tenant and key.
type KeysUsed = Arc<Mutex<BTreeMap<(u8, u8), BTreeSet<String>>>>;

pub(crate) struct World {
    pub(crate) sim: Arc<Sim>,
    pub(crate) log: Arc<Log>,
    /// Where it ends.
    head: watch::Receiver<Position>,
    pub(crate) relays: Arc<SimRelays>,
    /// What several processes take their work from.
    queue: Option<Arc<Broker>>,
    /// And what says who does what.
    leases: Arc<KeptLeases>,
    /// What newer processes have written that an older one does not understand.
    upgrade: Arc<Upgrade>,
    /// One, mostly.
    nodes: Vec<Node>,
    executor: Executor,
    pub(crate) checker: Checker,
    answers: Arc<Mutex<Vec<Answered>>>,
    acknowledged: Acknowledged,
    /// Sendings that were answered with 202.
    sent: Arc<Mutex<Vec<(TenantId, SendingId)>>>,
    polls_at_once: u32,
    /// No process, and none that will be there in a moment.
    is_down: bool,
    /// The bodies that were sent under each tenant's keys.
    keys_used: KeysUsed,
    /// Some rows of the read models cannot be written.
    is_unwritable: bool,
    /// The log is a copy of one that the relays know more of: it is held to what `copy.rs` says.
    is_copy: bool,
}

/// How many calls go well before each of several faults in a row.
fn in_a_row(skip: u8, times: u8) -> impl Iterator<Item = u32> {
    std::iter::once(skip.into()).chain((1..times).map(|_| 0))
}

impl World {
    /// An empty log, and nothing started.
    pub(crate) fn new(case: &Case, data_dir: &Path) -> Self {
        let sim = Sim::new(case.seed, setting::start(case.setup.starts_at_minute));
        let log = empty_log(if case.setup.remote_log { Gaps::Present } else { Gaps::Absent });
        let arrivals = Arc::new(Mutex::new(Vec::new()));
        let calls = Begun::default();
        let traits = setting::traits_of(case.seed);
        let relays: BTreeMap<RelayId, Arc<SimRelay>> = (0..RELAYS.len())
            .map(|index| {
                let id = setting::relay(index as u8);
                let (arrivals, calls) = (arrivals.clone(), calls.clone());
                let relay = SimRelay::new(id.clone(), traits[index], case, sim.clone(), arrivals, calls);
                (id, Arc::new(relay))
            })
            .collect();
        let relays = Arc::new(SimRelays { relays, arrivals, calls });
        let acknowledged = Acknowledged::default();
        let connector =
            SimConnector { sim: sim.clone(), relays: relays.clone(), acknowledged: acknowledged.clone() };
        let queue = nodes::queue(&sim, case.setup);
        let upgrade = Arc::new(Upgrade::default());
        let leases = Arc::new(KeptLeases::new(&sim));
        let shared = nodes::Shared { queue: queue.as_ref(), leases: &leases, upgrade: &upgrade };
        let nodes = nodes::nodes(&sim, &log, shared, Arc::new(connector), data_dir, case.setup);
        let checker = Checker::beside(relays.clone(), accept_limits(&case.setup));
        Self {
            executor: Executor::new(sim.clone()),
            sim,
            head: log.head(),
            log,
            checker: if case.has_nodes() { checker.of_several_processes(case) } else { checker },
            relays,
            queue,
            leases,
            upgrade,
            nodes,
            answers: Arc::default(),
            acknowledged,
            sent: Arc::default(),
            polls_at_once: 0,
            is_down: false,
            keys_used: KeysUsed::default(),
            is_unwritable: false,
            is_copy: false,
        }
    }

    /// Starts all processes on what there is.
    fn boot(&mut self) {
        (0..self.nodes.len()).for_each(|node| self.boot_one(node));
    }

    /// One process dies, and is started again.
    fn crash(&mut self) -> Checked {
        let node = self.any_node();
        self.die_one(node)?;
        self.boot_one(node);
        Ok(())
    }

    /// All processes die.
    fn die(&mut self) -> Checked {
        (0..self.nodes.len()).try_for_each(|node| self.die_one(node))
    }

    /// The process dies, and nobody starts it for a while. The world continues without it.
    fn outage(&mut self, ms: u32) -> Checked {
        self.sim.reach(Situation::CrashWithOutage);
        self.die()?;
        self.is_down = true;
        let until_ms = self.sim.now_ms() + i64::from(ms);
        while let Some(at_ms) = self.relays.next_action().filter(|at_ms| *at_ms < until_ms) {
            self.move_to(at_ms);
        }
        self.is_down = false;
        self.move_to(until_ms);
        self.settle_accounts()?;
        self.boot();
        Ok(())
    }

    /// Runs a case from beginning to end.
    pub(crate) fn run(&mut self, case: &Case) -> Checked {
        self.begin()?;
        for step in &case.steps {
            self.step(case.seed, step)?;
        }
        self.sim.reseed(Dice::of(case.seed, 0xE17D));
        self.finish()
    }

    fn begin(&mut self) -> Checked {
        self.boot();
        self.set_up()
    }

    fn step(&mut self, seed: u64, step: &CaseStep) -> Checked {
        self.sim.reseed(Dice::of(seed, u64::from(step.salt)));
        self.apply(&step.op)?;
        for _ in 0..step.polls {
            if !self.tick()? {
                break;
            }
        }
        Ok(())
    }

    fn apply(&mut self, op: &Operation) -> Checked {
        match *op {
            Operation::Wait { ms } => return self.pass_until(self.sim.now_ms() + i64::from(ms)),
            Operation::Clock { is_evening, offset_s } => {
                let target = next_boundary_ms(self.sim.now_ms(), is_evening) + i64::from(offset_s) * 1_000;
                return self.pass_until(target);
            }
            Operation::Crash => return self.crash(),
            Operation::Outage { ms } => return self.outage(ms),
            Operation::Calm => return self.calm(),
            Operation::Compare => {
                self.mend()?;
                return self.compare();
            }
            Operation::Unwritable { rows, remainder } => {
                self.is_unwritable = true;
                self.checker.counts_are_parked |= rows.are_counted();
                return unwritable::break_rows(self.data_dir(), rows, remainder)
                    .map_err(|error| format!("the trigger cannot be made: {error}"));
            }
            Operation::AppendFault { skip, fault } => {
                self.nodes[self.any_node()].store.append_faults.arm(skip.into(), fault);
            }
            Operation::ReadFault { skip } => {
                self.nodes[self.any_node()].store.read_faults.arm(skip.into(), ());
            }
            Operation::QueueFault { skip, fault } => {
                if let Some(queue) = &self.queue {
                    queue.arm(skip.into(), fault);
                }
            }
            Operation::LeaseFault { skip, fault } => self.leases.arm(skip.into(), fault),
            Operation::Down { node, ms } => return self.goes_down(node, ms),
            Operation::Stop { node, ms } => return self.stops(node, ms),
            Operation::StandStill { node, ms } => self.stands_still(node, ms),
            Operation::Behind { node, newer, ms } => self.is_behind(node, newer, ms),
            Operation::CutOff { node, ms } => self.is_cut_off(node, ms),
            Operation::ClockOff { node, ms } => self.clock_is_off(node, ms),
            Operation::CallFault { relay, skip, fault, times, then } => {
                let relay = self.relay(relay);
                for skip in in_a_row(skip, times) {
                    match fault {
                        CallFault::AnswerLostThenTooMany => {
                            relay.call_faults.arm(skip, (CallFault::AnswerLost, then));
                            relay.call_faults.arm(0, (CallFault::RateLimited, None));
                        }
                        _ => relay.call_faults.arm(skip, (fault, then)),
                    }
                }
            }
            Operation::QuestionFault { relay, question, skip, fault, times } => {
                let relay = self.relay(relay);
                for skip in in_a_row(skip, times) {
                    relay.question_faults(question).arm(skip, fault);
                }
            }
            Operation::Mode { relay, mode } => self.relay(relay).set_mode(mode),
            Operation::Receipts { relay, fault, count } => self.relay(relay).arm_receipts(fault, count),
            Operation::Foreign { relay, kind } => self.report_foreign(relay, kind),
            _ => self.request(op),
        }
        Ok(())
    }

    fn relay(&self, index: u8) -> Arc<SimRelay> {
        let id = setting::relay(index);
        self.relays.get(&id).expect("every relay of the setting is simulated").clone()
    }

    fn report_foreign(&self, index: u8, kind: Foreign) {
        let relay = self.relay(index);
        let of_others = || {
            let others = self.relays.relays.values().filter(|other| other.id != relay.id);
            others.flat_map(|other| other.taken()).collect::<Vec<_>>()
        };
        let any_of_others = || {
            let taken = of_others();
            let place = self.sim.below(taken.len() as u64) as usize;
            taken.get(place).map(|(reference, _)| *reference)
        };
        // As often as not the newest that will fail: it may continue to this relay, and then the receipt was only early.
        let fails_next = || {
            let failing = of_others().into_iter().filter(|(_, entry)| matches!(entry.fate, Fate::Failed(_)));
            let newest = failing.map(|(reference, _)| reference).max();
            newest.filter(|_| self.sim.per_cent(50))
        };
        let reference = match kind {
            Foreign::Nonsense => "no reference of ours".to_owned(),
            Foreign::UnknownSending => "0197c0de000070008000000000000001-7-1".to_owned(),
            Foreign::OfAnother => any_of_others().map_or_else(|| "nobody".to_owned(), |one| one.to_string()),
            Foreign::LaterAttempt => fails_next()
                .or_else(any_of_others)
                .map_or_else(|| "nobody".to_owned(), |one| format!("{}-{}", one.message, one.attempt + 1)),
        };
        relay.report_foreign(reference.into());
    }

    /// One poll; or, while something is in progress, the next moment. False: nothing is in progress.
    fn tick(&mut self) -> Checked<bool> {
        if self.poll()? {
            return Ok(true);
        }
        if !self.sim.is_busy() {
            return Ok(false);
        }
        match self.next_moment() {
            Some(at_ms) => {
                self.move_to(at_ms);
                Ok(true)
            }
            None => Err(format!("a deadlock among {}", self.executor.names())),
        }
    }

    fn poll(&mut self) -> Checked<bool> {
        match self.executor.poll_one() {
            Polled::Nothing => Ok(false),
            Polled::One => {
                self.polls_at_once += 1;
                if self.polls_at_once > POLLS_AT_ONCE_MAX {
                    return Err(format!("they never come to rest: {}", self.executor.busiest()));
                }
                self.settle_accounts()?;
                Ok(true)
            }
            Polled::Panicked(name, words) => Err(format!("{name} panicked: {words}")),
        }
    }

    /// Checks what has happened since the last poll.
    fn settle_accounts(&mut self) -> Checked {
        if self.is_copy {
            return self.sim.take_violation().map_or(Ok(()), Err);
        }
        if *self.head.borrow() != self.checker.position {
            self.checker.catch_up(&self.log)?;
        }
        for lease in self.leases.take_lost() {
            self.checker.lease_was_lost(&lease, self.sim.now_ms());
        }
        let calls = std::mem::take(&mut *self.relays.calls.lock());
        calls.iter().try_for_each(|call| self.checker.called(call))?;
        let arrivals = std::mem::take(&mut *self.relays.arrivals.lock());
        for arrival in &arrivals {
            self.checker.arrived(arrival)?;
        }
        let acknowledged = std::mem::take(&mut *self.acknowledged.lock());
        let taken = acknowledged.into_iter().map(|(relay, receipts)| Answered::Receipts { relay, receipts });
        let answers = std::mem::take(&mut *self.answers.lock());
        for answered in answers.into_iter().chain(taken) {
            self.checker.answered(answered, self.sim.now())?;
        }
        self.sim.take_violation().map_or(Ok(()), Err)
    }

    fn next_moment(&self) -> Option<i64> {
        let of_nodes = self.nodes.iter().filter_map(Node::next_moment).min();
        let moments = [self.sim.next_timer_ms(), self.relays.next_action(), of_nodes];
        moments.into_iter().flatten().min()
    }

    /// Moves the clock, and lets the relays do what is due.
    fn move_to(&mut self, at_ms: i64) {
        self.polls_at_once = 0;
        self.sim.set_time_ms(at_ms);
        self.mend_nodes();
        let relays: Vec<Arc<SimRelay>> = self.relays.relays.values().cloned().collect();
        for relay in relays {
            while let Some(action) = relay.due_action() {
                match action {
                    Action::Arrive(messages) => {
                        self.sim.reach(Situation::LateArrival);
                        relay.arrive(&messages);
                    }
                    Action::Report(receipts) if relay.traits.receipts == ReceiptMode::Pull => {
                        relay.keep(receipts);
                    }
                    Action::Report(receipts) => self.push(&relay, receipts),
                }
            }
        }
    }

    /// Lets time pass. While nothing is in progress it leaps: whoever waits wakes late, as on a machine that was busy.
    fn pass_until(&mut self, target_ms: i64) -> Checked {
        let mut leap_ms = 1_000;
        let mut seen = *self.log.head().borrow();
        loop {
            while self.poll()? {}
            self.is_bounded()?;
            let now_ms = self.sim.now_ms();
            if now_ms >= target_ms {
                return Ok(());
            }
            let next_ms = self.next_moment().unwrap_or(target_ms);
            let remaining_ms = target_ms - now_ms;
            if self.sim.is_busy() || remaining_ms < 20_000 {
                self.move_to(next_ms.clamp(now_ms, target_ms));
                continue;
            }
            let head = *self.log.head().borrow();
            leap_ms = if head == seen { (leap_ms * 2).min(LEAP_MS_MAX) } else { 1_000 };
            seen = head;
            let arrival_ms = self.relays.next_arrival().unwrap_or(i64::MAX);
            self.move_to((now_ms + leap_ms).max(next_ms).min(arrival_ms.max(now_ms)).min(target_ms));
        }
    }

    /// Whatever is tried again is tried less and less often: the log does not grow while nothing comes in.
    fn is_bounded(&self) -> Checked {
        let events = self.log.count_after(0);
        match events > EVENTS_MAX {
            true => Err(format!("{events} events: something goes round in circles")),
            false => Ok(()),
        }
    }

    /// No leap: every moment in its turn.
    fn pass_exactly(&mut self, ms: i64) -> Checked {
        let target_ms = self.sim.now_ms() + ms;
        loop {
            while self.poll()? {}
            let now_ms = self.sim.now_ms();
            if now_ms >= target_ms {
                return Ok(());
            }
            self.move_to(self.next_moment().unwrap_or(target_ms).clamp(now_ms, target_ms));
        }
    }

    fn heal(&mut self) {
        for node in &self.nodes {
            node.store.heal();
        }
        if let Some(queue) = &self.queue {
            queue.heal();
        }
        self.leases.heal();
        self.heal_nodes();
        self.relays.relays.values().for_each(|relay| relay.heal());
    }

    fn calm(&mut self) -> Checked {
        self.heal();
        let has_room = self.nodes[0].ground.setup.jobs_max >= ROOM_JOBS_MIN;
        // What did not fit into a lane comes with the next sweep.
        let calm_ms = match (has_room, self.nodes.len()) {
            (true, 1) => CALM_MS,
            (true, _) => CALM_OF_SEVERAL_MS,
            (false, _) => CALM_WITHOUT_ROOM_MS,
        };
        let is_any_behind = self.nodes.iter().any(|node| node.store.is_behind());
        let calm_ms = calm_ms + if is_any_behind { TURN_OF_THE_OLD_MS } else { 0 };
        let relays = self.relays.clone();
        let called_ms: Vec<i64> = relays.relays.values().map(|relay| relay.called_ms()).collect();
        self.pass_exactly(calm_ms)?;
        let now_ms = self.sim.now_ms();
        for ((id, relay), before_ms) in relays.relays.iter().zip(called_ms) {
            let calls_percent = 100 * (relay.called_ms() - before_ms) / calm_ms;
            self.checker.was_called(id, calls_percent, relay.rests_until_ms());
        }
        self.checker.the_unusable_are_known(self.sim.now(), chrono::TimeDelta::milliseconds(calm_ms))?;
        // Of several processes another one may have to take over first.
        let takes_over_ms = if self.nodes.len() > 1 { TAKES_OVER_MS_MAX } else { 0 };
        self.is_sealed(now_ms - SEALED_MS_MAX - takes_over_ms)?;
        if !self.is_unwritable {
            self.checker.refusals_bind_people(self.sim.now() - BOUND_WITHIN)?;
        }
        self.checker.nothing_waits(now_ms, calm_ms - 3_000)
    }

    /// The log is as it was sealed.
    fn holds_its_seals(&self) -> Checked<SealReport> {
        let verified = seals::verify(&*self.log).now_or_never().expect("memory never waits");
        let report = verified.map_err(|error| format!("the seals cannot be read: {error}"))?;
        match report.first_differences.first() {
            Some(difference) => {
                Err(format!("the seals do not hold, though nobody has changed the log: {difference}"))
            }
            None => Ok(report),
        }
    }

    /// Everything until then is sealed.
    fn is_sealed(&self, until_ms: i64) -> Checked {
        let sealed_until = self.holds_its_seals()?.sealed_until;
        let rest = self.log.read_all(sealed_until, usize::MAX, &Filter::everything()).now_or_never();
        let rest = rest.expect("memory never waits").map_err(|error| describe(&error))?;
        let is_late = |event: &&RecordedEvent| {
            event.kind != EventKind::LogSealed && event.metadata.time.timestamp_millis() < until_ms
        };
        match rest.events.iter().find(is_late) {
            Some(event) => Err(format!("the event at position {} is in no seal", event.position)),
            None => Ok(()),
        }
    }

    /// The rows can be written again, and an operator retries what is parked. The process stands still for that.
    fn mend(&mut self) -> Checked {
        if !std::mem::take(&mut self.is_unwritable) {
            return Ok(());
        }
        self.checker.counts_are_parked = false;
        self.die()?;
        unwritable::mend(self.data_dir()).map_err(|error| describe(&error))?;
        if self.take_in_parked(self.data_dir())? > 0 {
            self.sim.reach(Situation::RowParked);
        }
        self.boot();
        Ok(())
    }

    /// An operator retries what is parked and can be applied now. Returns in how many models there was something.
    fn take_in_parked(&self, data_dir: &Path) -> Checked<usize> {
        let store: Arc<dyn EventStore> = self.log.clone();
        let retried = kite_projections::replay::retry_parked(store, data_dir);
        let retried = futures::FutureExt::now_or_never(retried).expect("memory never waits");
        let retried = retried.map_err(|error| format!("what is parked cannot be taken in: {error}"))?;
        match retried.iter().find(|retried| retried.model.parked > 0) {
            Some(retried) => Err(format!("the {} model parks what can be written", retried.model.name)),
            None => Ok(retried.len()),
        }
    }

    /// Law 8, and law 7: rebuilding the read models gives the same rows, and calls no relay.
    fn compare(&mut self) -> Checked {
        self.holds_its_seals()?;
        // One that is behind has parked what it does not understand.
        let mut known = (0..self.nodes.len()).filter(|node| !self.nodes[*node].store.is_behind());
        known.try_for_each(|node| self.compare_one(node))
    }

    fn compare_one(&self, node: NodeIndex) -> Checked {
        let known: usize = self.relays.relays.values().map(|relay| relay.known()).sum();
        let store: Arc<dyn EventStore> = self.log.clone();
        let data_dir = &self.nodes[node].ground.data_dir;
        let verified = kite_projections::replay::verify(store, data_dir).now_or_never();
        let report = verified.expect("memory never waits").map_err(|error| format!("law 8: {error}"))?;
        // It may come before a model has read anything.
        if report.models.iter().any(|model| !model.is_there || model.differences_total > 0) {
            return Err(format!("law 8: a rebuilt read model differs from the live one\n{report}"));
        }
        let known_after: usize = self.relays.relays.values().map(|relay| relay.known()).sum();
        if known != known_after { Err("law 7: a relay was called by a replay".to_owned()) } else { Ok(()) }
    }
}

/// The next 21:00 or 08:00 in Seoul, in milliseconds since 1970.
fn next_boundary_ms(now_ms: i64, is_evening: bool) -> i64 {
    const DAY_MS: i64 = 86_400_000;
    const HOUR_MS: i64 = 3_600_000;
    let hour = if is_evening { 21 - 9 } else { 8 - 9 };
    let today = now_ms.div_euclid(DAY_MS) * DAY_MS + hour * HOUR_MS;
    if today > now_ms + 60_000 { today } else { today + DAY_MS }
}

impl Mode {
    /// All of them.
    pub(crate) const ALL: [Self; 8] = [
        Self::Up,
        Self::Dead,
        Self::Stalled,
        Self::OutOfService,
        Self::Flapping,
        Self::RateLimited,
        Self::Faulting,
        Self::Baffling,
    ];
}
