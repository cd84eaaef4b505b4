//! Kite under simulation: the whole write path and the projectors in one thread, under virtual time, with faults.
//!
//! A [`Case`] is a seed and a list of operations and faults. [`run`] plays it: every worker is driven through its
//! `step()`, and the seed decides which of those that can continue is polled next. A crash drops all of them at
//! whatever await points they are. The relays are models that survive the crash and keep their own ledger. After
//! every poll a checker of its own compares the log and the ledgers with the laws (docs/laws.md).
//!
//! The same case gives the same log, byte for byte. A case that fails is reduced by [`shrink`] and can be kept as a
//! file in `tests/found`.
//!
//! With the feature `mutations`, deliberate bugs of `kite_domain::mutation` can be switched on, to show that they are
//! found.
//!
//! Deliberately absent: disks (contract and crash tests of the adapters), sockets and real relay protocols
//! (`relay-sim`), and threads within a process.

mod case;
mod check;

mod executor;
mod faults;
mod generate;
mod node;
mod operation;
mod platform;
mod queue;
mod reach;
mod relays;
mod scratch;
mod setting;
mod shrink;
mod side_by_side;
mod store;
mod unwritable;
mod upgrade;
mod world;

pub use case::{Case, CaseStep, Setup};
pub use faults::{AppendFault, LeaseFault, PutFault, QueueFault, SettleFault, TakeFault};
pub use generate::{Length, generate, generate_nodes};
pub use kite_testkit::dice::Dice;
pub use operation::{
    Class, Failover, Foreign, Kind, Objective, Operation, PolicyChannel, RelayIndex, SendOrder,
};
pub use reach::{Reached, Situation};
pub use relays::{CallFault, Mode, Question, QuestionFault, ReceiptFault};
pub use shrink::shrink;
pub use side_by_side::a_breaker_is_followed;
pub use unwritable::Rows;
pub use upgrade::Newer;

use kite_event_store::{EventStore, Filter, RecordedEvent};
use sha2::{Digest, Sha256};
use std::fmt;
use std::fmt::Write;

use crate::store::Log;

/// A case that broke a law.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The case.
    pub case: Case,
    /// What was broken, and where.
    pub what: String,
    /// The log as it stood, one event a line.
    pub log: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "seed {}: {}", self.case.seed, self.what)?;
        writeln!(
            formatter,
            "{} steps; to keep it, save this as crates/simulation/tests/found/<name>.json:",
            self.case.steps.len()
        )?;
        write!(formatter, "{}", self.case)
    }
}

impl std::error::Error for Failure {}

/// What a case came to when nothing was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    /// Events in the log at the end.
    pub events: u64,
    /// Messages that came in at relays.
    pub handed_over: usize,
    /// Of the whole log, byte for byte.
    pub log_hash: String,
    /// What it came to.
    pub reached: Reached,
}

/// Plays a case to its end.
///
/// # Errors
/// The broken law, with the case.
pub fn run(case: &Case) -> Result<Passed, Box<Failure>> {
    play(case, world::World::run)
}

/// Plays a case with a backup in its middle: the original dies at its end, and a copy takes its place.
///
/// # Errors
/// The broken law, with the case.
pub fn run_copied(case: &Case) -> Result<Passed, Box<Failure>> {
    play(case, world::World::run_copied)
}

fn play(
    case: &Case,
    run: impl FnOnce(&mut world::World, &Case) -> check::Checked,
) -> Result<Passed, Box<Failure>> {
    let failed = |what: String, log: String| Box::new(Failure { case: case.clone(), what, log });
    let directory = scratch::data_dir()
        .map_err(|error| failed(format!("no directory for the read models: {error:#}"), String::new()))?;
    let mut world = world::World::new(case, directory.path());
    let ran = run(&mut world, case);
    let log = events_of(&world.log);
    let mut reached = world.sim.take_reached();
    reached.read(&log);
    let passed = Passed {
        events: world.log.count_after(0),
        handed_over: world.relays.relays.values().map(|relay| relay.known()).sum(),
        log_hash: hash_of_log(&log),
        reached,
    };
    ran.map(|()| passed).map_err(|what| failed(what, log_in_words(&world.log)))
}

fn hash_of_log(log: &[RecordedEvent]) -> String {
    let mut hash = Sha256::new();
    for one in log {
        hash.update(format!("{} {} {} {} {:?}\n", one.stream, one.version, one.id, one.kind, one.metadata));
        hash.update(&one.data);
    }
    hex::encode(hash.finalize())
}

fn log_in_words(log: &Log) -> String {
    events_of(log).iter().fold(String::new(), |mut text, one| {
        let time = one.metadata.time.format("%m-%d %H:%M:%S%.3f");
        let data: String = String::from_utf8_lossy(&one.data).chars().take(600).collect();
        let _ = writeln!(
            text,
            "{} {time} {} {} {} {data}",
            one.position, one.metadata.actor, one.stream, one.kind
        );
        text
    })
}

fn events_of(log: &Log) -> Vec<RecordedEvent> {
    let all = futures::FutureExt::now_or_never(log.read_all(0, usize::MAX, &Filter::everything()));
    all.and_then(Result::ok).unwrap_or_default().events
}
