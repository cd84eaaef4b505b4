//! What happens to several processes, put between the steps of a case with one.

use super::{Length, generate};
use crate::case::{Case, Step};
use crate::dice::Dice;
use crate::faults::{AppendFault, PutFault, QueueFault, SettleFault, TakeFault};
use crate::operation::Operation;

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
        case.steps.insert(place, Step { salt: SALT_OF_NODES + number as u32, polls, op });
    }
    add_queue_faults(seed, &mut case);
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
        case.steps.insert(place, Step { salt: SALT_OF_QUEUE + number as u32, polls: 0, op });
    }
}
