//! What the queue promises no more than, held to it.

use super::*;
use crate::executor::{Executor, Polled};
use futures::executor::block_on;
use kite_domain::ids::{LotId, SendingId};
use kite_domain::slug::TenantId;
use kite_relay::queue::Waits;

struct Stage {
    sim: Arc<Sim>,
    broker: Arc<Broker>,
    executor: Executor,
}

impl Stage {
    fn new() -> Self {
        let sim = Sim::new(1, crate::setting::start(720));
        let broker = Arc::new(Broker::new(sim.clone(), QueueLimits::default()));
        Self { executor: Executor::new(sim.clone()), sim, broker }
    }

    fn process(&self, node: NodeIndex) -> NodeQueue {
        NodeQueue::new(self.sim.clone(), self.broker.clone(), node)
    }

    fn pass(&mut self, seconds: i64) {
        let until_ms = self.sim.now_ms() + seconds * 1_000;
        loop {
            while matches!(self.executor.poll_one(), Polled::One) {}
            let next_ms = self.sim.next_timer_ms().unwrap_or(until_ms).min(until_ms);
            if self.sim.now_ms() == until_ms {
                return;
            }
            self.sim.set_time_ms(next_ms);
        }
    }

    fn take(&self, process: &NodeQueue) -> Option<Lease> {
        let want = Want { messages_max: 10, lanes: WantedLanes::All, now: self.sim.now() };
        match block_on(process.take(&alpha(), want)).unwrap() {
            Taken::Lease(lease) => Some(lease),
            Taken::Nothing(_) => None,
        }
    }
}

fn alpha() -> RelayId {
    RelayId::from_trusted("alpha")
}

fn job(cause: Option<u128>) -> Job {
    Job {
        lot: LotId { sending: SendingId(Uuid::from_u128(1)), number: 0 },
        tenant: TenantId::from_trusted("acme"),
        class: MessageClass::Notice,
        relay: alpha(),
        attempt: 1,
        kind: JobKind::Submit,
        messages: (0..5).collect(),
        not_before_ms: 0,
        waits: Waits::default(),
        cause: cause.map(Uuid::from_u128),
    }
}

#[test]
fn who_says_nothing_is_given_no_more_time_though_it_works_and_who_works_is() {
    let mut stage = Stage::new();
    let (one, other) = (stage.process(1), stage.process(2));
    block_on(one.put(job(None))).unwrap();
    let held = stage.take(&one).unwrap();
    stage.pass(60);
    assert_eq!(stage.take(&other), None, "a long call");
    stage.executor.pause(1);
    stage.pass(11);
    let again = stage.take(&other).unwrap();
    assert_eq!(again.jobs, held.jobs);
    stage.executor.go_on(1);
    block_on(one.settle(&alpha(), held.id, Vec::new())).unwrap();
    assert_eq!(stage.sim.take_reached().times(Situation::JobGivenAgain), 1);
    block_on(other.settle(&alpha(), again.id, Vec::new())).unwrap();
    stage.pass(60);
    assert_eq!(stage.take(&one), None);
}

#[test]
fn what_the_dead_had_is_given_again_in_its_time() {
    let mut stage = Stage::new();
    let (one, other) = (stage.process(1), stage.process(2));
    block_on(one.put(job(None))).unwrap();
    let held = stage.take(&one).unwrap();
    one.is_dead(true);
    stage.executor.crash(1);
    one.abandon(&alpha(), held.id);
    assert_eq!(stage.take(&other), None, "the dead say nothing");
    stage.pass(11);
    assert_eq!(stage.take(&other).unwrap().jobs, held.jobs);
}

#[test]
fn who_is_cut_off_has_no_queue_and_loses_what_it_has() {
    let mut stage = Stage::new();
    let (one, other) = (stage.process(1), stage.process(2));
    block_on(one.put(job(None))).unwrap();
    let held = stage.take(&one).unwrap();
    one.cut_off(true);
    assert!(block_on(one.put(job(None))).is_err());
    assert!(block_on(one.settle(&alpha(), held.id, Vec::new())).is_err());
    stage.pass(11);
    assert!(stage.take(&other).is_some());
}

#[test]
fn a_put_that_nobody_answers_is_in_or_is_not_and_one_that_is_lost_is_not() {
    for (fault, is_said, is_in) in [
        (PutFault::InUnanswered, false, true),
        (PutFault::NotInUnanswered, false, false),
        (PutFault::Lost, true, false),
    ] {
        let stage = Stage::new();
        let one = stage.process(1);
        stage.broker.arm(0, QueueFault::Put(fault));
        assert_eq!(block_on(one.put(job(Some(7)))).is_ok(), is_said, "{fault:?}");
        assert_eq!(stage.take(&one).is_some(), is_in, "{fault:?}");
    }
}

#[test]
fn a_repeat_is_dropped_for_a_while_though_the_first_is_lost_and_what_comes_from_the_lot_is_not() {
    let mut stage = Stage::new();
    let one = stage.process(1);
    stage.broker.arm(0, QueueFault::Put(PutFault::Lost));
    block_on(one.put(job(Some(7)))).unwrap();
    block_on(one.put(job(Some(7)))).unwrap();
    assert_eq!(stage.take(&one), None);
    block_on(one.put(job(None))).unwrap();
    let held = stage.take(&one).unwrap();
    block_on(one.settle(&alpha(), held.id, Vec::new())).unwrap();
    stage.pass(121);
    block_on(one.put(job(Some(7)))).unwrap();
    assert!(stage.take(&one).is_some());
}

#[test]
fn a_job_that_is_there_twice_comes_to_two_at_the_same_time() {
    let stage = Stage::new();
    let (one, other) = (stage.process(1), stage.process(2));
    block_on(one.put(job(None))).unwrap();
    stage.broker.arm(0, QueueFault::Take(TakeFault::Twice));
    let (held, twin) = (stage.take(&one).unwrap(), stage.take(&other).unwrap());
    assert_eq!(held.jobs, twin.jobs);
}

#[test]
fn work_that_the_queue_does_not_hear_of_is_given_again_although_somebody_is_at_it() {
    let mut stage = Stage::new();
    let (one, other) = (stage.process(1), stage.process(2));
    block_on(one.put(job(None))).unwrap();
    stage.broker.arm(0, QueueFault::Take(TakeFault::Unheard));
    let held = stage.take(&one).unwrap();
    let again = stage.take(&other).unwrap();
    assert_eq!(held.jobs, again.jobs);
    block_on(one.settle(&alpha(), held.id, Vec::new())).unwrap();
    assert_eq!(stage.sim.take_reached().times(Situation::JobGivenAgain), 1);
    stage.pass(8);
    assert_eq!(stage.take(&one), None, "the other one is heard of");
}

#[test]
fn what_is_left_comes_again_as_it_is_or_whole_or_not() {
    let left = |fault: Option<SettleFault>| {
        let stage = Stage::new();
        let one = stage.process(1);
        block_on(one.put(job(None))).unwrap();
        let held = stage.take(&one).unwrap();
        if let Some(fault) = fault {
            stage.broker.arm(0, QueueFault::Settle(fault));
        }
        let rest = Job { messages: (3..5).collect(), ..job(None) };
        block_on(one.settle(&alpha(), held.id, vec![rest])).unwrap();
        stage.take(&one).map_or(0, |lease| lease.len())
    };
    assert_eq!([None, Some(SettleFault::RestWhole), Some(SettleFault::RestLost)].map(left), [2, 5, 0]);
}

#[test]
fn who_gives_up_while_it_is_cut_off_holds_nothing_back_for_longer_than_its_time() {
    let mut stage = Stage::new();
    let (one, other) = (stage.process(1), stage.process(2));
    block_on(one.put(job(None))).unwrap();
    let held = stage.take(&one).unwrap();
    one.cut_off(true);
    one.abandon(&alpha(), held.id);
    one.cut_off(false);
    stage.pass(11);
    assert!(stage.take(&other).is_some());
}
