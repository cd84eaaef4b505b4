//! The end of a simulation: faults stop, time runs on, and everything must come to its end.

use chrono::TimeDelta;
use kite_commands::describe;
use kite_domain::load::Load;
use kite_domain::seal::STREAM as SEALS_STREAM;
use kite_event_store::{EventStore, Filter, RecordedEvent};
use kite_projections::ReadModels;
use kite_relay::queue::{Taken, Want, WantedLanes};

use super::World;
use crate::check::{Checked, the_directory_agrees};
use crate::node::Node;
use crate::platform::Platform;
use crate::relays::LEASE_MS;

const HOUR_MS: i64 = 3_600_000;
/// Longer than a projector or a sweep takes to come round.
const SETTLING_MS: i64 = 3_000;
/// How many events may come in while a projector lets them gather.
const BEHIND_MAX: u64 = 20;
/// Longer than any lifetime, deadline and parking together.
const HOURS_MAX: i64 = 24 * 14;

impl World {
    pub(super) fn finish(&mut self) -> Checked {
        self.calm()?;
        self.upgrade_all()?;
        let end_ms = self.sim.now_ms() + HOURS_MAX * HOUR_MS;
        while self.checker.everything_is_final().is_err() && self.sim.now_ms() < end_ms {
            self.pass_until(self.sim.now_ms() + 3 * HOUR_MS)?;
        }
        // Whatever the relays still say, and whatever is still to be projected.
        while self.relays.next_action().is_some() && self.sim.now_ms() < end_ms {
            self.pass_until(self.sim.now_ms() + HOUR_MS)?;
        }
        if self.relays.relays.values().any(|relay| relay.unfetched() > 0) {
            // Not acknowledged, or never seen, for a fault: they come again when their lease is over.
            self.pass_until(self.sim.now_ms() + LEASE_MS)?;
        }
        self.pass_exactly(SETTLING_MS)?;
        while self.checker.everything_is_final().is_err() && self.sim.now_ms() < end_ms {
            self.pass_until(self.sim.now_ms() + 3 * HOUR_MS)?;
        }
        self.nothing_stands_still()?;
        if self.is_unwritable {
            // Although the read models did not know how things stood.
            self.checker.everything_is_final()?;
            self.mend()?;
            self.pass_exactly(SETTLING_MS)?;
        }
        let head = *self.log.head().borrow();
        self.pass_exactly(2_000)?;
        // A relay's breaker may have changed a moment ago, or the log was sealed: then read models get another two seconds.
        let everything = Filter::everything();
        let page = self.log.read_all(head, usize::MAX, &everything);
        let page = futures::FutureExt::now_or_never(page).expect("memory never waits");
        let news = page.map_err(|error| describe(&error))?.events;
        let is_late =
            |told: &RecordedEvent| told.stream.starts_with("relay-") || &*told.stream == SEALS_STREAM;
        if !news.is_empty() && news.iter().all(is_late) {
            self.pass_exactly(2_000)?;
        }
        self.checker.everything_is_final()?;
        self.checker.refusals_bind_people(self.sim.now())?;
        self.checker.nothing_is_delivered_twice(&self.relays)?;
        self.checker.the_relays_agree(&self.relays)?;
        self.nothing_is_left()?;
        self.compare()?;
        for platform in self.platforms()? {
            self.checker.the_books_agree(&self.log, &platform.models)?;
            the_directory_agrees(&self.log, self.sim.clock.clone(), &platform.models)?;
        }
        Ok(())
    }

    fn platforms(&self) -> Checked<Vec<Platform>> {
        let platform = |node: &Node| node.slot.lock().clone().ok_or("there is no process at the end");
        Ok(self.nodes.iter().map(platform).collect::<Result<_, _>>()?)
    }

    /// Law 10: a row that cannot be written holds nothing up but its stream. And where every row can be written, nothing is
    /// parked.
    fn nothing_stands_still(&self) -> Checked {
        self.platforms()?.iter().try_for_each(|platform| self.none_stands_still(&platform.models))
    }

    fn none_stands_still(&self, models: &ReadModels) -> Checked {
        let head = *self.log.head().borrow();
        // What was appended a moment ago may be on its way.
        if let Some((name, position)) =
            models.positions().find(|(_, position)| self.log.count_after(*position) > BEHIND_MAX)
        {
            return Err(format!("law 10: the {name} model stands still at {position}, the log at {head}"));
        }
        let parked = models.parked_counts().map_err(|error| describe(&error))?;
        match parked.iter().find(|(_, count)| *count > 0 && !self.is_unwritable) {
            Some((name, count)) => {
                Err(format!("the {name} model has parked {count} events, and nothing is wrong"))
            }
            None => Ok(()),
        }
    }

    /// Empty queues, empty inboxes, and read models that have seen everything.
    fn nothing_is_left(&self) -> Checked {
        self.platforms()?.iter().try_for_each(|platform| self.nothing_is_left_at(platform))
    }

    fn nothing_is_left_at(&self, platform: &Platform) -> Checked {
        let head = *self.log.head().borrow();
        let models = &platform.models;
        for (name, position) in models.positions() {
            if position != head {
                return Err(format!("the {name} model stands at {position}, the log at {head}"));
            }
        }
        for relay in self.relays.relays.values() {
            if relay.unfetched() > 0 && !self.checker.cannot_be_called(&relay.id) {
                return Err(format!("{} keeps receipts that nobody fetches", relay.id));
            }
            let now = self.sim.now() + TimeDelta::days(400);
            let want = Want { messages_max: 1_000, lanes: WantedLanes::All, now };
            let taken = futures::FutureExt::now_or_never(platform.queue.take(&relay.id, want));
            // Jobs that have nothing left to do stay until a worker looks at them.
            if let Some(Ok(Taken::Lease(lease))) = taken {
                self.is_stale(&lease.jobs)?;
            }
        }
        let backlog = models.work.backlog().map_err(|error| describe(&error))?;
        if backlog.open_messages > 0 || backlog.open_sendings > 0 {
            return Err(format!("the work model still holds {backlog:?}"));
        }
        let workload = models.work.workload().map_err(|error| describe(&error))?;
        let counted = platform.acceptance.room().load_of_all();
        if !workload.loads.is_empty() || counted != Load::default() {
            return Err(format!("nothing is open, and {workload:?} is counted, {counted:?} in all"));
        }
        Ok(())
    }

    fn is_stale(&self, jobs: &[kite_relay::queue::Job]) -> Checked {
        for job in jobs {
            let sending = self.checker.sendings.get(&job.lot.sending);
            let is_over = |seq| {
                let message = sending.and_then(|sending| sending.messages.get(&seq));
                message.is_some_and(|message| message.outcome.is_some())
            };
            if let Some(seq) = job.messages.iter().find(|seq| !is_over(*seq)) {
                return Err(format!("{} is still queued at {}: {:?}", seq, job.relay, job.kind));
            }
        }
        Ok(())
    }
}
