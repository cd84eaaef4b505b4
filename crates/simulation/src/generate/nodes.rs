//! What happens to several processes, put between the steps of a case with one.

use super::{Length, generate};
use crate::case::{Case, CaseStep};
use crate::faults::{AppendFault, LeaseFault, PutFault, QueueFault, SettleFault, TakeFault};
use crate::operation::{Failover, Objective, Operation, PolicyChannel, SendOrder};
use crate::upgrade::Newer;
use kite_testkit::dice::Dice;

/// The salts of steps in which something happens to one of several processes.
const SALT_OF_NODES: u32 = 500_000;

/// The case of a seed with one to four processes, to which things happen. Rows that cannot be written and outages of all are
/// for cases with one.
pub fn generate_nodes(seed: u64, length: Length) -> Case {
    let mut case = generate(seed, length);
    let mut dice = Dice::of(seed, 0x40DE);
    case.setup.nodes = dice.between(1, 4) as u8;
    case.steps.retain(|step| !matches!(step.op, Operation::Unwritable { .. } | Operation::Outage { .. }));
    let count = dice.between(1, 1 + case.steps.len() as u64 / 4);
    for number in 0..count {
        let node = dice.below(u64::from(case.setup.nodes)) as u8;
        // From a moment to longer than a lease and a call together.
        let ms = *dice.pick(&[500, 4_000, 9_000, 20_000, 60_000]) + dice.below(3_000) as u32;
        let op = match dice.below(10) {
            0..=3 => Operation::StandStill { node, ms },
            4..=5 => Operation::CutOff { node, ms },
            6 => Operation::Down { node, ms },
            7 => Operation::Stop { node, ms },
            8 => Operation::AppendFault { skip: dice.below(12) as u8, fault: AppendFault::Stalled },
            _ => Operation::ClockOff { node, ms: dice.between(0, 20_000) as i32 - 10_000 },
        };
        let place = dice.below(1 + case.steps.len() as u64) as usize;
        let polls = *dice.pick(&[0, 0, 20, 120, 400]);
        case.steps.insert(place, CaseStep { salt: SALT_OF_NODES + number as u32, polls, op });
    }
    // A process that is alone has its log beside it.
    case.setup.remote_log = case.setup.nodes > 1 && Dice::of(seed, 0x4EAD).per_cent(50);
    case.setup.streams_apart = Dice::of(seed, 0xA9A8).per_cent(30);
    add_queue_faults(seed, &mut case);
    add_unheard(seed, &mut case);
    add_lease_faults(seed, &mut case);
    add_rush(seed, &mut case);
    add_upgrade(seed, &mut case);
    case
}

/// The salts of steps in which the work queue fails.
const SALT_OF_QUEUE: u32 = 550_000;

/// In every second case of several processes calls of the work queue fail: by dice of their own.
fn add_queue_faults(seed: u64, case: &mut Case) {
    let mut dice = Dice::of(seed, 0x90E0);
    if case.setup.nodes == 1 || dice.per_cent(50) {
        return;
    }
    for number in 0..dice.between(1, 4) {
        let fault = match dice.below(10) {
            0..=1 => QueueFault::Put(PutFault::Lost),
            2 => QueueFault::Put(PutFault::InUnanswered),
            3 => QueueFault::Put(PutFault::NotInUnanswered),
            4 => QueueFault::Put(PutFault::Late),
            5..=6 => QueueFault::Take(TakeFault::Twice),
            7 => {
                QueueFault::Settle(*dice.pick(&[SettleFault::DoneUnanswered, SettleFault::NotDoneUnanswered]))
            }
            8 => QueueFault::Settle(SettleFault::RestLost),
            _ => QueueFault::Settle(SettleFault::RestWhole),
        };
        let op = Operation::QueueFault { skip: dice.below(4) as u8, fault };
        let place = dice.below(1 + case.steps.len() as u64) as usize;
        case.steps.insert(place, CaseStep { salt: SALT_OF_QUEUE + number as u32, polls: 0, op });
    }
}

/// The salts of steps in which the work queue does not hear of work.
const SALT_OF_UNHEARD: u32 = 560_000;

/// In every second case of several processes work is given again although somebody is at it: by dice of their own.
fn add_unheard(seed: u64, case: &mut Case) {
    let mut dice = Dice::of(seed, 0x0EA2);
    if case.setup.nodes == 1 || dice.per_cent(50) {
        return;
    }
    for number in 0..dice.between(3, 8) {
        let op =
            Operation::QueueFault { skip: dice.below(2) as u8, fault: QueueFault::Take(TakeFault::Unheard) };
        let place = dice.below(1 + case.steps.len() as u64) as usize;
        case.steps.insert(place, CaseStep { salt: SALT_OF_UNHEARD + number as u32, polls: 0, op });
    }
}

/// The salts of steps in which renewals of leases fail.
const SALT_OF_LEASES: u32 = 570_000;

/// In every third case of several processes leases are lost, or renewed late: by dice of their own.
fn add_lease_faults(seed: u64, case: &mut Case) {
    let mut dice = Dice::of(seed, 0x1EA5);
    if case.setup.nodes == 1 || dice.below(3) != 0 {
        return;
    }
    for number in 0..dice.between(1, 4) {
        let fault = if dice.per_cent(50) { LeaseFault::Late } else { LeaseFault::Lost };
        let op = Operation::LeaseFault { skip: dice.below(40) as u8, fault };
        let place = dice.below(1 + case.steps.len() as u64) as usize;
        case.steps.insert(place, CaseStep { salt: SALT_OF_LEASES + number as u32, polls: 0, op });
    }
}

/// The salts of steps of a rush.
const SALT_OF_A_RUSH: u32 = 600_000;

/// In one case of five of several processes more comes for one relay, all at once, than it takes in a second: so much that
/// all processes call it for a while, and their shares matter.
fn add_rush(seed: u64, case: &mut Case) {
    let mut dice = Dice::of(seed, 0x8054);
    if case.setup.nodes == 1 || dice.below(5) != 0 {
        return;
    }
    let failover = Failover::default();
    let story = [
        Operation::Redefine {
            relay: 0,
            price_milliwon: 8_000,
            rate: 40,
            calls_at_once: dice.between(2, 4) as u8,
            batch: 20,
        },
        Operation::Policy {
            tenant: 0,
            channel: PolicyChannel::Sms,
            objective: Objective::Ratio(10_000, 0),
            failover,
        },
        // Until everybody knows, and has its shares.
        Operation::Wait { ms: 45_000 },
        Operation::Send(SendOrder { recipients: dice.between(150, 250) as u16, ..SendOrder::default() }),
        Operation::Wait { ms: 8_000 },
    ];
    let place = dice.below(1 + case.steps.len() as u64) as usize;
    let story = story.into_iter().zip(SALT_OF_A_RUSH..).map(|(op, salt)| CaseStep { salt, polls: 60, op });
    case.steps.splice(place..place, story);
}

/// The salts of steps in which a process is left behind.
const SALT_OF_UPGRADES: u32 = 650_000;

/// In one case of four of several processes one is left behind by an upgrade of the others, mostly until the end.
fn add_upgrade(seed: u64, case: &mut Case) {
    let mut dice = Dice::of(seed, 0x01D0);
    if case.setup.nodes == 1 || dice.below(4) != 0 {
        return;
    }
    let node = dice.below(u64::from(case.setup.nodes)) as u8;
    let ms = *dice.pick(&[20_000, 200_000, 40_000_000]);
    let op = Operation::Behind { node, newer: *dice.pick(&Newer::ALL), ms };
    let place = dice.below(1 + case.steps.len() as u64 / 2) as usize;
    case.steps.insert(place, CaseStep { salt: SALT_OF_UPGRADES, polls: 60, op });
}
