//! Puts jobs back into the work queue that the queue has lost: all of them after a restart, and whatever else the log
//! says is waiting. Goes through all open lots again and again, a page at a time.

use async_trait::async_trait;
use chrono::{DateTime, Duration, Utc};
use kite_commands::open_work::OpenWork;
use kite_commands::timekeeper::LotHint;
use kite_commands::{Clock, Step, Worker, WorkerError};
use kite_domain::ids::LotId;
use std::sync::Arc;
use tokio::sync::mpsc;

use crate::publisher::{FeedError, Fit, QueueFeeder};

/// Lots looked at in one step.
const PAGE: usize = 256;
/// Hints that may wait; more are dropped, because the next round finds those lots anyway.
const HINTS_MAX: usize = 10_000;
/// How long it rests between two rounds.
const REST: Duration = Duration::seconds(30);
/// The shortest pause: after a round in which jobs did not fit into the queue. A long round is followed by a longer
/// pause, so that very many lots are not read all the time.
const SHORT_REST: Duration = Duration::seconds(1);
const REST_BY_ROUND: i32 = 3;

/// A way through all open lots.
#[derive(Debug, Clone, Copy)]
struct Round {
    began: DateTime<Utc>,
    /// Whether all jobs fitted into the queue.
    fit: Fit,
}

impl Round {
    fn rest(self, now: DateTime<Utc>) -> Duration {
        match self.fit {
            Fit::Whole => REST,
            Fit::Left => ((now - self.began) * REST_BY_ROUND).clamp(SHORT_REST, REST),
        }
    }
}

/// See the module.
pub struct Sweeper {
    feeder: QueueFeeder,
    open_work: Arc<dyn OpenWork>,
    after: Option<LotId>,
    round: Option<Round>,
    rests_until: Option<DateTime<Utc>>,
    hints: mpsc::Receiver<LotId>,
    hint: mpsc::Sender<LotId>,
    clock: Arc<dyn Clock>,
}

impl Sweeper {
    /// Feeds what is waiting according to this.
    pub fn new(feeder: QueueFeeder, open_work: Arc<dyn OpenWork>, clock: Arc<dyn Clock>) -> Self {
        let (hint, hints) = mpsc::channel(HINTS_MAX);
        Self { feeder, open_work, after: None, round: None, rests_until: None, hints, hint, clock }
    }

    /// For a worker that knows a lot which may be waiting.
    pub fn hint(&self) -> LotHint {
        let hint = self.hint.clone();
        Arc::new(move |lot| {
            let _ = hint.try_send(lot);
        })
    }

    async fn feed(&self, lot: LotId) -> Result<Fit, FeedError> {
        self.feeder.feed_if_there(lot).await
    }
}

#[async_trait]
impl Worker for Sweeper {
    fn name(&self) -> &str {
        "sweeper"
    }

    /// Drops the hints: they are for the process that works now, which finds those lots by itself.
    fn stands_by(&mut self) {
        while self.hints.try_recv().is_ok() {}
        (self.after, self.round, self.rests_until) = (None, None, None);
    }

    async fn step(&mut self) -> Result<Step, WorkerError> {
        for _ in 0..PAGE {
            let Ok(lot) = self.hints.try_recv() else { break };
            self.feed(lot).await.map_err(WorkerError::retry)?;
        }
        let now = self.clock.now();
        if let Some(until) = self.rests_until.filter(|until| *until > now) {
            return Ok(Step::Idle(Some(until)));
        }
        let mut round = self.round.unwrap_or(Round { began: now, fit: Fit::Whole });
        let page = self.open_work.lots_to_sweep(self.after, PAGE).await;
        let page = page.map_err(WorkerError::retry)?;
        self.after = page.last().copied();
        let mut failure = None;
        for lot in &page {
            // One lot that cannot be read must not hide those after it.
            match self.feed(*lot).await {
                Ok(Fit::Whole) => {}
                Ok(Fit::Left) => round.fit = Fit::Left,
                Err(error) => {
                    // A log or a queue that is away is back soon. What nobody can understand waits for the next round.
                    if !error.is_of_the_lot() {
                        round.fit = Fit::Left;
                    }
                    failure = Some(WorkerError::retry(error));
                }
            }
        }
        self.round = Some(round);
        if let Some(error) = failure {
            return Err(error);
        }
        match page.is_empty() {
            true => {
                self.round = None;
                let until = now + round.rest(now);
                self.rests_until = Some(until);
                Ok(Step::Idle(Some(until)))
            }
            false => Ok(Step::Worked),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::testing::{Sent, World, profile, relay, start};
    use kite_commands::open_work::{OpenWorkError, RouterMemory, Workload};
    use kite_domain::advice::RelayFigures;
    use kite_domain::ids::SendingId;
    use kite_domain::receipt::{ParkedReceipt, ParkedStretch};
    use kite_domain::slug::RelayId;
    use kite_domain::text::Channel;
    use smol_str::SmolStr;
    use std::collections::BTreeSet;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn it_rests_shortly_after_a_short_round_that_did_not_fit() {
        let rest = |fit, length_ms| {
            let began = DateTime::UNIX_EPOCH;
            Round { began, fit }.rest(began + Duration::milliseconds(length_ms)).num_milliseconds()
        };
        assert_eq!([0, 60_000].map(|length_ms| rest(Fit::Whole, length_ms)), [30_000, 30_000]);
        let after = [0, 400, 5_000, 60_000, -5_000].map(|length_ms| rest(Fit::Left, length_ms));
        assert_eq!(after, [1_000, 1_200, 15_000, 30_000, 1_000], "the last: a clock that was set back");
    }

    /// A read model that says which lots are open, and counts how often it was asked.
    struct Open {
        lots: Vec<LotId>,
        asked: AtomicUsize,
    }

    #[async_trait]
    impl OpenWork for Open {
        async fn router_memory(&self, _: Vec<SmolStr>) -> Result<RouterMemory, OpenWorkError> {
            Ok(RouterMemory::default())
        }

        async fn workload(&self) -> Result<Workload, OpenWorkError> {
            Ok(Workload::default())
        }

        async fn due_sendings(&self, _: DateTime<Utc>, _: usize) -> Result<Vec<SendingId>, OpenWorkError> {
            Ok(Vec::new())
        }

        async fn due_lots(&self, _: DateTime<Utc>, _: usize) -> Result<Vec<LotId>, OpenWorkError> {
            Ok(Vec::new())
        }

        async fn lots_to_sweep(
            &self,
            after: Option<LotId>,
            limit: usize,
        ) -> Result<Vec<LotId>, OpenWorkError> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let rest = self.lots.iter().copied().filter(|lot| Some(*lot) > after);
            Ok(rest.take(limit).collect())
        }

        async fn cancelled_lots(&self, _: usize) -> Result<Vec<LotId>, OpenWorkError> {
            Ok(Vec::new())
        }

        async fn finished_sendings(&self, _: usize) -> Result<Vec<SendingId>, OpenWorkError> {
            Ok(Vec::new())
        }

        async fn parked_sendings(
            &self,
            _: Option<SendingId>,
            _: usize,
        ) -> Result<Vec<SendingId>, OpenWorkError> {
            Ok(Vec::new())
        }

        async fn parked_relays(&self) -> Result<Vec<RelayId>, OpenWorkError> {
            Ok(Vec::new())
        }

        async fn parked_receipts(
            &self,
            _: ParkedStretch,
            _: usize,
        ) -> Result<Vec<ParkedReceipt>, OpenWorkError> {
            Ok(Vec::new())
        }

        async fn figures(
            &self,
            _: BTreeSet<Channel>,
            _: DateTime<Utc>,
        ) -> Result<Vec<RelayFigures>, OpenWorkError> {
            Ok(Vec::new())
        }
    }

    #[tokio::test]
    async fn it_goes_through_all_open_lots_and_rests_until_the_moment_that_it_names() {
        let (mut world, _) = World::scripted(vec![profile("alpha")]).await;
        let mut lots = Vec::new();
        for _ in 0..3 {
            lots.push(world.send(Sent::default()).await);
        }
        let open = Arc::new(Open { lots, asked: AtomicUsize::new(0) });
        let mut sweeper = Sweeper::new(world.feeder.clone(), open.clone(), world.clock.clone());
        let asked = || open.asked.load(Ordering::Relaxed);
        assert_eq!(sweeper.step().await.unwrap(), Step::Worked);
        assert_eq!(world.queue.waiting(&relay("alpha")), [0, 3, 0]);
        let until = start() + REST;
        assert_eq!(sweeper.step().await.unwrap(), Step::Idle(Some(until)));
        assert_eq!(asked(), 2, "the second time there were no more");
        world.clock.set(until - Duration::milliseconds(1));
        assert_eq!(sweeper.step().await.unwrap(), Step::Idle(Some(until)));
        assert_eq!(asked(), 2, "it rests");
        world.clock.set(until);
        assert_eq!(sweeper.step().await.unwrap(), Step::Worked);
        assert_eq!(asked(), 3);
        sweeper.step().await.unwrap();
        sweeper.stands_by();
        assert_eq!(sweeper.step().await.unwrap(), Step::Worked, "another process may have worked meanwhile");
    }
}
