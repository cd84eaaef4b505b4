//! The workers of a process: what each role starts, wired the same way everywhere.

use kite_commands::accept::{Acceptance, LoadWatch};
use kite_commands::adviser::Adviser;
use kite_commands::directory::DirectoryFeed;
use kite_commands::lease::{InProcessLeases, LeaseHolder};
use kite_commands::refusal_keeper::RefusalKeeper;
use kite_commands::router::Router;
use kite_commands::settler::Settler;
use kite_commands::timekeeper::Timekeeper;
use kite_commands::{Awaited, TooOld, Worker, describe};
use kite_domain::advice::AdviceSettings;
use kite_domain::instance::Originality;
use kite_event_store::Position;
use kite_projections::OpenError;
use kite_relay::{
    Connector, Desk, InProcessQueue, PanicNotice, QueueFeeder, QueueLimits, RelayParts, RelaySettings,
    Relays, Sweeper, WorkQueue,
};
use std::sync::Arc;
use tokio::sync::watch;

use crate::drive::{Duty, employ};
use crate::hire::hire;
use crate::host::{Host, Place};
use crate::leased::{Leased, Post};
use crate::parts::Parts;
use crate::projecting::{Projecting, ProjectorWatch};
use crate::publishing::{Publishing, Track};

/// Starts the workers of a process.
pub struct Staff<H> {
    host: H,
    parts: Parts,
    queue: Arc<dyn WorkQueue>,
    feeder: QueueFeeder,
    sweeper: Option<Sweeper>,
    awaited: Awaited,
    /// The posts that this process holds.
    holder: LeaseHolder,
    /// Never wakes anybody: for workers that only time moves.
    quiet: watch::Sender<u64>,
}

impl<H: Host> Staff<H> {
    /// Nobody works yet. The process is alone.
    pub fn new(host: H, parts: Parts, limits: QueueLimits) -> Self {
        Self::on_queue(host, parts, Arc::new(InProcessQueue::new(limits)))
    }

    /// No worker is started yet. The work comes from this queue.
    pub fn on_queue(host: H, parts: Parts, queue: Arc<dyn WorkQueue>) -> Self {
        let feeder = QueueFeeder::new(parts.write_side.lots.clone(), queue.clone());
        let sweeper = Sweeper::new(feeder.clone(), parts.open_work.clone(), host.clock());
        let (quiet, awaited) = (watch::Sender::new(0), Awaited::default());
        let leases = Arc::new(InProcessLeases::of_one_process(host.clock()));
        let holder = LeaseHolder::new(leases, "alone", host.clock());
        Self { host, parts, queue, feeder, sweeper: Some(sweeper), awaited, holder, quiet }
    }

    /// The process is one of several, which share the work by these leases. Call it before any worker is started.
    #[must_use]
    pub fn sharing(self, holder: LeaseHolder) -> Self {
        Self { holder, ..self }
    }

    /// Where relay workers take their work from.
    pub fn queue(&self) -> &Arc<dyn WorkQueue> {
        &self.queue
    }

    /// A worker that follows the log.
    pub fn follow(&self, place: Place, worker: impl Worker + 'static) {
        self.start(place, Box::new(worker), self.head());
    }

    /// A worker that only time moves.
    pub fn timed(&self, place: Place, worker: impl Worker + 'static) {
        self.start(place, Box::new(worker), self.quiet.subscribe());
    }

    /// Like [`Staff::follow`], for work that only one process does.
    fn follow_as(&self, post: Post, place: Place, worker: impl Worker + 'static) {
        self.start(place, self.leased(post, Box::new(worker)), self.head());
    }

    /// Like [`Staff::timed`], for work that only one process does.
    pub fn timed_as(&self, post: Post, place: Place, worker: impl Worker + 'static) {
        self.start(place, self.leased(post, Box::new(worker)), self.quiet.subscribe());
    }

    fn leased(&self, post: Post, worker: Box<dyn Worker>) -> Box<dyn Worker> {
        let log = self.parts.write_side.journal.store().clone();
        Box::new(Leased::new(worker, post, self.holder.clone()).following(log).behind(self.too_old()))
    }

    /// What in the log this process is too old for, if there are other processes.
    fn too_old(&self) -> Option<TooOld> {
        let journal = &self.parts.write_side.journal;
        journal.is_shared().then(|| journal.too_old().clone())
    }

    fn start(&self, place: Place, worker: Box<dyn Worker>, wake: watch::Receiver<u64>) {
        employ(&self.host, Duty { worker, wake, dismissed: None, place });
    }

    fn head(&self) -> watch::Receiver<Position> {
        self.parts.write_side.journal.store().head()
    }

    /// The read models follow the log. In files each process has its own, and follows by itself; those that processes share
    /// are projected by one of them, each model for itself, while others stand by.
    ///
    /// # Errors
    /// If one of them cannot be opened.
    pub fn start_projectors(&self, watch: &ProjectorWatch) -> Result<(), OpenError> {
        let store = self.parts.write_side.journal.store().clone();
        let are_shared = self.parts.models.are_shared();
        for projector in self.parts.models.projectors(store.clone())? {
            let post = Post::Projector(projector.name());
            let projecting = Projecting::new(projector, self.host.clock(), watch.clone());
            match are_shared {
                true => self.follow_as(post, Place::Reading, projecting),
                false => self.follow(Place::Reading, projecting.following(&*store)),
            }
        }
        Ok(())
    }

    /// Whatever its roles, a process knows what others write; and a copy of a log settles what was in progress once it is
    /// released.
    pub fn start_common(&self) {
        let write_side = &self.parts.write_side;
        let (lots, directory) = (&write_side.lots, &write_side.directory);
        self.follow(Place::Front, DirectoryFeed::new(directory.clone(), write_side.journal.clone()));
        // No log becomes a copy while it is open.
        if directory.snapshot().instance != Originality::Original {
            self.follow_as(Post::Settler, Place::Front, Settler::new(lots.clone(), directory.clone()));
        }
    }

    /// First routes, and with settings the advice that they are based on.
    pub fn start_router(&mut self, advice: Option<AdviceSettings>) {
        let write_side = self.parts.write_side.clone();
        let (journal, directory) = (write_side.journal, write_side.directory);
        let open_work = &self.parts.open_work;
        let router = Router::new(write_side.lots, directory.clone(), open_work.clone());
        self.awaited = router.awaited();
        self.follow_as(Post::Router, Place::Front, router);
        if let Some(settings) = advice {
            let manage = write_side.manage;
            let adviser = Adviser::new(journal, directory, manage, open_work.clone(), settings);
            self.timed_as(Post::Adviser, Place::Front, adviser);
        }
    }

    /// What time alone brings about.
    pub fn start_timekeeper(&self) {
        let write_side = self.parts.write_side.clone();
        let keeper = RefusalKeeper::new(write_side.manage, self.parts.people.clone());
        self.timed_as(Post::Timekeeper, Place::Front, keeper);
        let hint = self.sweeper.as_ref().map_or_else(|| Arc::new(|_| {}) as _, Sweeper::hint);
        let (lots, receipts) = (write_side.lots, write_side.receipts);
        let open_work = self.parts.open_work.clone();
        let timekeeper = Timekeeper::new(lots, write_side.directory, open_work, receipts, hint);
        self.timed_as(Post::Timekeeper, Place::Front, timekeeper);
    }

    /// From the log to the work queue.
    ///
    /// Nobody takes anything out of the queue of a copy, so nothing is put into it until the copy hands over. By then
    /// its read models, which are rebuilt, have most likely caught up, and the log need not be read from its
    /// beginning.
    pub fn start_publisher(&mut self) {
        let track = Track::new(self.parts.models.clone(), self.host.clock());
        let publisher = Publishing::new(self.feeder.clone(), track.clone());
        let Some(sweeper) = self.sweeper.take() else { return };
        self.timed(Place::Front, track);
        if self.parts.write_side.directory.snapshot().instance.may_hand_over() {
            self.follow_as(Post::Publisher, Place::Front, publisher);
            self.timed_as(Post::Publisher, Place::Front, sweeper);
            return;
        }
        let (host, head, quiet) = (self.host.clone(), self.head(), self.quiet.subscribe());
        let (directory, holder) = (self.parts.write_side.directory.clone(), self.holder.clone());
        let (too_old, log) = (self.too_old(), self.parts.write_side.journal.store().clone());
        self.host.spawn(Place::Front, "publisher-of-a-copy", async move {
            let stop = host.stop(Place::Front);
            let mut changes = directory.changes();
            loop {
                changes.mark_unchanged();
                if directory.snapshot().instance.may_hand_over() {
                    break;
                }
                let changed = std::pin::pin!(changes.changed());
                futures::future::select(changed, std::pin::pin!(stop.cancelled())).await;
                if stop.is_cancelled() {
                    return;
                }
            }
            let workers: [(Box<dyn Worker>, _); 2] =
                [(Box::new(publisher.skip()), head), (Box::new(sweeper), quiet)];
            for (worker, wake) in workers {
                let worker = Leased::new(worker, Post::Publisher, holder.clone());
                let worker = worker.following(log.clone()).behind(too_old.clone());
                let worker = Box::new(worker);
                employ(&host, Duty { worker, wake, dismissed: None, place: Place::Front });
            }
        });
    }

    /// Open messages are counted, so that acceptance knows its room: once before the first request, so that none is
    /// turned away because nothing is counted yet.
    pub async fn start_load_watch(&self, acceptance: &Acceptance) {
        let mut watch = LoadWatch::new(acceptance.clone(), self.parts.open_work.clone());
        if let Err(error) = watch.step().await {
            tracing::warn!(error = describe(&error), "what is open could not be counted yet, trying again");
        }
        self.timed(Place::Front, watch);
    }

    /// Relay workers are started and stopped. Returns the present state of the relays.
    pub fn start_relays(
        &self,
        connector: Arc<dyn Connector>,
        panics: PanicNotice,
        settings: RelaySettings,
    ) -> Desk {
        let write_side = self.parts.write_side.clone();
        let directory = write_side.directory.clone();
        let relays = Relays::new(RelayParts {
            lots: write_side.lots,
            directory: write_side.directory,
            manage: write_side.manage,
            receipts: write_side.receipts,
            queue: self.queue.clone(),
            feeder: self.feeder.clone(),
            connector,
            holder: self.holder.clone(),
            awaited: self.awaited.clone(),
            panics,
            settings,
        });
        let desk = relays.desk();
        self.host.spawn(Place::Front, "relays", hire(self.host.clone(), relays, directory));
        desk
    }
}
