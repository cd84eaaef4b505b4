//! A worker that only one process runs: it works while its process holds the lease of its post, and stands by
//! otherwise.
//!
//! The lease is a hint. Two may work at the same time for a while; what either of them writes is checked in the log.

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use kite_commands::lease::{Claim, LeaseHolder, TERM, Tenure};
use kite_commands::router::Router;
use kite_commands::{Step, TooOld, Worker, WorkerError, describe};
use kite_event_store::{Attention, EventStore, Filter, Following};
use kite_relay::Publisher;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

/// How often whoever stands by looks whether the lease is free: so long nobody works after an orderly stop.
const LOOK_EVERY: TimeDelta = TimeDelta::milliseconds(500);

/// What one process does for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Post {
    /// Gives first routes.
    Router,
    /// Gives advice on weights.
    Adviser,
    /// Does what is due by time alone, and extends refusals to all addresses of a person.
    Timekeeper,
    /// Puts into the work queue what the log says, and what the queue has lost.
    Publisher,
    /// Puts in doubt what the original of a copy had in progress.
    Settler,
    /// Seals the log.
    Sealer,
    /// Projects this read model, if all processes share it.
    Projector(&'static str),
}

impl Post {
    /// How closely it follows the log; none: only time moves it, or what it needs it reads itself.
    fn attention(self) -> Option<Attention> {
        match self {
            // Messages wait until they have seen these.
            Self::Router => Some(Attention::Close(Filter::kinds(Router::AT_ONCE))),
            Self::Publisher => Some(Attention::Close(Filter::kinds(Publisher::AT_ONCE))),
            Self::Projector(_) => Some(Attention::Steady),
            Self::Adviser | Self::Timekeeper | Self::Settler | Self::Sealer => None,
        }
    }

    /// The name of its lease.
    pub fn lease(self) -> Cow<'static, str> {
        match self {
            Self::Router => "router".into(),
            Self::Adviser => "adviser".into(),
            Self::Timekeeper => "timekeeper".into(),
            Self::Publisher => "publisher".into(),
            Self::Settler => "settler".into(),
            Self::Sealer => "sealer".into(),
            Self::Projector(model) => format!("projector/{model}").into(),
        }
    }
}

/// See the module.
pub(crate) struct Leased {
    worker: Box<dyn Worker>,
    post: Post,
    holder: LeaseHolder,
    state: LeaseState,
    /// If there are other processes: they may be newer than this one.
    too_old: Option<TooOld>,
    /// What it follows while it works.
    log: Option<Arc<dyn EventStore>>,
    following: Option<Following>,
}

/// How the lease of the post stands, as far as this process knows.
enum LeaseState {
    /// It has not asked for the lease yet.
    New,
    Holds(Tenure),
    /// Another process works. It is checked again at that time.
    StandsBy(DateTime<Utc>),
}

impl Leased {
    /// Steps this worker.
    pub(crate) fn new(worker: Box<dyn Worker>, post: Post, holder: LeaseHolder) -> Self {
        Self { worker, post, holder, state: LeaseState::New, too_old: None, log: None, following: None }
    }

    /// As one of several processes: while it is too old for the log, it lets others take the post.
    #[must_use]
    pub(crate) fn behind(self, too_old: Option<TooOld>) -> Self {
        Self { too_old, ..self }
    }

    /// Following this log, which others write, too.
    #[must_use]
    pub(crate) fn following(self, log: Arc<dyn EventStore>) -> Self {
        Self { log: Some(log), ..self }
    }

    /// Until when others may take the post. It gives back its lease.
    async fn gives_way(&mut self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let until = self.too_old.as_ref().and_then(|too_old| too_old.gives_way_until(now))?;
        self.give_back().await;
        self.stand_by(until);
        Some(until)
    }

    async fn give_back(&mut self) {
        if let LeaseState::Holds(tenure) = &self.state
            && let Err(error) = self.holder.release(&self.post.lease(), tenure).await
        {
            tracing::debug!(
                worker = self.worker.name(),
                error = describe(&error),
                "the lease was not given back"
            );
        }
    }

    /// Whether it works now; if not, until when it stands by.
    async fn looks_on_until(&mut self) -> Result<Option<DateTime<Utc>>, WorkerError> {
        let now = self.holder.now();
        if let Some(until) = self.gives_way(now).await {
            return Ok(Some(until));
        }
        match &self.state {
            LeaseState::Holds(tenure) if !tenure.is_to_be_renewed(now) => return Ok(None),
            LeaseState::Holds(tenure) => match self.holder.renew(&self.post.lease(), tenure).await {
                Ok(Some(renewed)) => {
                    self.state = LeaseState::Holds(renewed);
                    return Ok(None);
                }
                Ok(None) => {
                    tracing::warn!(worker = self.worker.name(), "another process has taken over");
                    self.stand_by(now);
                }
                Err(error) if tenure.holds(self.holder.now()) => {
                    tracing::debug!(
                        worker = self.worker.name(),
                        error = describe(&error),
                        "the lease is not renewed yet"
                    );
                    return Ok(None);
                }
                Err(error) => return Err(WorkerError::retry(error)),
            },
            // Nobody's clock may keep it waiting for longer than a lease lasts.
            LeaseState::StandsBy(until) if now < *until && *until <= now + TERM => return Ok(Some(*until)),
            LeaseState::StandsBy(_) | LeaseState::New => {}
        }
        let claim = self.holder.acquire(&self.post.lease(), TimeDelta::zero()).await;
        match claim.map_err(WorkerError::retry)? {
            Claim::Held(tenure) => {
                tracing::info!(worker = self.worker.name(), epoch = tenure.epoch, "works");
                self.state = LeaseState::Holds(tenure);
                let log = self.log.as_ref();
                self.following = log.and_then(|log| Some(log.follow(self.post.attention()?)));
                Ok(None)
            }
            Claim::Taken { until } => {
                // A lease that was given back is free before its time.
                let until = until.min(now + LOOK_EVERY);
                self.stand_by(until);
                Ok(Some(until))
            }
        }
    }

    fn stand_by(&mut self, until: DateTime<Utc>) {
        if !matches!(self.state, LeaseState::StandsBy(_)) {
            self.worker.stands_by();
        }
        self.following = None;
        self.state = LeaseState::StandsBy(until);
    }
}

#[async_trait]
impl Worker for Leased {
    fn name(&self) -> &str {
        self.worker.name()
    }

    fn finishes(&self) -> bool {
        self.worker.finishes()
    }

    fn gathers(&self) -> Duration {
        self.worker.gathers()
    }

    async fn step(&mut self) -> Result<Step, WorkerError> {
        match self.looks_on_until().await? {
            None => self.worker.step().await,
            Some(until) => Ok(Step::Idle(Some(until))),
        }
    }

    async fn retire(&mut self) {
        self.worker.retire().await;
        self.give_back().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kite_commands::clock::ManualClock;
    use kite_commands::lease::{Acquired, HeldBy, InProcessLeases, LeaseError, Leases, Renewed};
    use kite_commands::{Clock, Journal};
    use kite_event_store::{
        Batch, BatchMode, EventStore, Expected, MemoryEventStore, Metadata, NewEvent, StreamAppend,
    };
    use parking_lot::Mutex;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// Processes of other versions hold them under these names.
    #[test]
    fn the_names_of_leases_stay() {
        let posts = [
            (Post::Router, "router"),
            (Post::Adviser, "adviser"),
            (Post::Timekeeper, "timekeeper"),
            (Post::Publisher, "publisher"),
            (Post::Settler, "settler"),
            (Post::Sealer, "sealer"),
            (Post::Projector("work"), "projector/work"),
        ];
        for (post, name) in posts {
            assert_eq!(post.lease(), name);
        }
    }

    /// Leases that cannot be reached at times.
    struct Remote {
        leases: InProcessLeases,
        is_away: AtomicBool,
    }

    impl Remote {
        fn reach(&self) -> Result<&InProcessLeases, LeaseError> {
            match self.is_away.load(Ordering::Relaxed) {
                true => Err(LeaseError::unavailable("cut off")),
                false => Ok(&self.leases),
            }
        }
    }

    #[async_trait]
    impl Leases for Remote {
        async fn acquire(&self, lease: &str, holder: &str, after: TimeDelta) -> Result<Acquired, LeaseError> {
            self.reach()?.acquire(lease, holder, after).await
        }

        async fn renew(&self, lease: &str, holder: &str, epoch: u64) -> Result<Renewed, LeaseError> {
            self.reach()?.renew(lease, holder, epoch).await
        }

        async fn release(&self, lease: &str, holder: &str, epoch: u64) -> Result<(), LeaseError> {
            self.reach()?.release(lease, holder, epoch).await
        }

        async fn held(&self, prefix: &str) -> Result<Vec<HeldBy>, LeaseError> {
            self.reach()?.held(prefix).await
        }
    }

    /// Notes what happens to it.
    struct Noting(&'static str, Arc<Mutex<Vec<String>>>);

    impl Noting {
        fn note(&self, what: &str) {
            self.1.lock().push(format!("{} {what}", self.0));
        }
    }

    #[async_trait]
    impl Worker for Noting {
        fn name(&self) -> &str {
            self.0
        }

        async fn step(&mut self) -> Result<Step, WorkerError> {
            self.note("works");
            Ok(Step::Idle(None))
        }

        fn stands_by(&mut self) {
            self.note("stands by");
        }
    }

    struct Stage {
        clock: Arc<ManualClock>,
        remote: Arc<Remote>,
        told: Arc<Mutex<Vec<String>>>,
    }

    impl Stage {
        fn new() -> Self {
            let clock = Arc::new(ManualClock::at(DateTime::UNIX_EPOCH));
            let leases = InProcessLeases::new(clock.clone(), TERM);
            let remote = Arc::new(Remote { leases, is_away: AtomicBool::new(false) });
            Self { clock, remote, told: Arc::default() }
        }

        fn worker(&self, name: &'static str) -> Leased {
            let holder = LeaseHolder::new(self.remote.clone(), name, self.clock.clone());
            Leased::new(Box::new(Noting(name, self.told.clone())), Post::Router, holder)
        }

        /// A log in which a newer program has written to the stream `x`.
        async fn journal(&self) -> Journal {
            let store = Arc::new(MemoryEventStore::new());
            let journal = Journal::new(store.clone(), self.clock.clone(), self.clock.clone()).shared();
            let (id, data) = (journal.next_id(), b"{}".to_vec().into());
            let metadata = Metadata {
                time: self.clock.now(),
                tenant: None,
                correlation: id,
                causation: None,
                actor: "router".into(),
                traceparent: None,
            };
            let events = vec![NewEvent { id, kind: "of-tomorrow".into(), schema_version: 1, data }];
            let append = StreamAppend { stream: "x".into(), expected: Expected::Any, metadata, events };
            store.append(Batch::new(BatchMode::Independent, vec![append])).await;
            journal
        }

        fn pass(&self, seconds: i64) {
            self.clock.advance(TimeDelta::seconds(seconds));
        }

        fn told(&self) -> Vec<String> {
            std::mem::take(&mut *self.told.lock())
        }
    }

    #[tokio::test]
    async fn the_first_step_takes_the_lease_and_works() {
        let stage = Stage::new();
        assert_eq!(stage.worker("a").step().await.unwrap(), Step::Idle(None));
        assert_eq!(stage.told(), ["a works"]);
    }

    #[tokio::test]
    async fn one_works_and_renews_while_others_stand_by() {
        let stage = Stage::new();
        let (mut a, mut b) = (stage.worker("a"), stage.worker("b"));
        for second in 0..60 {
            a.step().await.unwrap();
            assert!(matches!(b.step().await.unwrap(), Step::Idle(Some(_))), "second {second}");
            stage.pass(1);
        }
        let told = stage.told();
        assert_eq!(told.iter().filter(|told| *told == "a works").count(), 60);
        assert_eq!(told.iter().filter(|told| told.starts_with('b')).collect::<Vec<_>>(), ["b stands by"]);
    }

    #[tokio::test]
    async fn a_process_that_dies_is_followed_within_ten_seconds_whenever_that_is() {
        for died_at in 0..12 {
            let stage = Stage::new();
            let (mut a, mut b) = (stage.worker("a"), stage.worker("b"));
            let mut waited = 0;
            for second in 0..40 {
                if second < died_at + 1 {
                    a.step().await.unwrap();
                } else {
                    waited += 1;
                }
                b.step().await.unwrap();
                if stage.told().contains(&"b works".to_owned()) {
                    break;
                }
                stage.pass(1);
            }
            assert!((1..10).contains(&waited), "{waited} s after {died_at} s");
        }
    }

    #[tokio::test]
    async fn whoever_stood_still_forgets_when_it_learns_that_another_works() {
        let stage = Stage::new();
        let (mut a, mut b) = (stage.worker("a"), stage.worker("b"));
        a.step().await.unwrap();
        stage.pass(60);
        b.step().await.unwrap();
        assert!(matches!(a.step().await.unwrap(), Step::Idle(Some(_))));
        assert_eq!(stage.told(), ["a works", "b works", "a stands by"]);
        b.retire().await;
        stage.pass(6);
        a.step().await.unwrap();
        assert_eq!(stage.told(), ["a works"]);
    }

    #[tokio::test]
    async fn what_nobody_has_taken_meanwhile_is_not_lost() {
        let stage = Stage::new();
        let mut a = stage.worker("a");
        a.step().await.unwrap();
        stage.pass(3_600);
        a.step().await.unwrap();
        assert_eq!(stage.told(), ["a works", "a works"], "it knows what it knew");
    }

    #[tokio::test]
    async fn who_cannot_renew_works_until_its_time_is_over() {
        let stage = Stage::new();
        let (mut a, mut b) = (stage.worker("a"), stage.worker("b"));
        a.step().await.unwrap();
        stage.remote.is_away.store(true, Ordering::Relaxed);
        for second in 1..6 {
            stage.pass(1);
            a.step().await.unwrap_or_else(|error| panic!("{second}: {error}"));
        }
        stage.pass(1);
        assert!(matches!(a.step().await, Err(WorkerError::Retry(_))));
        assert!(matches!(b.step().await, Err(WorkerError::Retry(_))));
        stage.remote.is_away.store(false, Ordering::Relaxed);
        a.step().await.unwrap();
        assert_eq!(stage.told(), vec!["a works"; 7], "nobody was faster");
    }

    #[tokio::test]
    async fn at_an_orderly_end_another_follows_at_once() {
        let stage = Stage::new();
        let (mut a, mut b) = (stage.worker("a"), stage.worker("b"));
        a.step().await.unwrap();
        a.retire().await;
        b.step().await.unwrap();
        assert_eq!(stage.told(), ["a works", "b works"]);
    }

    #[tokio::test]
    async fn whoever_stands_by_notices_an_orderly_end_long_before_the_lease_would_have_ended() {
        let stage = Stage::new();
        let (mut a, mut b) = (stage.worker("a"), stage.worker("b"));
        a.step().await.unwrap();
        let Step::Idle(Some(until)) = b.step().await.unwrap() else { panic!("b works, too") };
        a.retire().await;
        assert!(until <= stage.clock.now() + TimeDelta::seconds(1));
        stage.clock.advance(until - stage.clock.now());
        b.step().await.unwrap();
        assert_eq!(stage.told(), ["a works", "b stands by", "b works"]);
    }

    #[tokio::test]
    async fn who_is_too_old_for_the_log_lets_others_go_first_and_does_what_it_can_where_there_are_none() {
        let stage = Stage::new();
        let journal = stage.journal().await;
        let mut a = stage.worker("a").behind(Some(journal.too_old().clone()));
        let mut b = stage.worker("b");
        a.step().await.unwrap();
        assert!(journal.read_stream("x", 0).await.is_err());
        a.step().await.unwrap();
        b.step().await.unwrap();
        assert_eq!(stage.told(), ["a works", "a stands by", "b works"]);
        stage.pass(12);
        a.step().await.unwrap();
        assert_eq!(stage.told(), ["a works"], "the newer one is gone");
        stage.pass(8);
        a.step().await.unwrap();
        b.step().await.unwrap();
        assert_eq!(stage.told(), ["a stands by", "b stands by", "b works"], "and is back");
    }

    #[tokio::test]
    async fn two_workers_of_one_post_work_in_the_same_process() {
        let stage = Stage::new();
        let holder = LeaseHolder::new(stage.remote.clone(), "a", stage.clock.clone());
        let worker =
            |name| Leased::new(Box::new(Noting(name, stage.told.clone())), Post::Publisher, holder.clone());
        let (mut publisher, mut sweeper) = (worker("publisher"), worker("sweeper"));
        for _ in 0..20 {
            publisher.step().await.unwrap();
            sweeper.step().await.unwrap();
            stage.pass(1);
        }
        assert_eq!(stage.told().len(), 40);
    }
}
