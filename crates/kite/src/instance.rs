//! One running Kite: stores opened, parts wired, workers started; and their orderly end.

mod backlog;
mod credentials;
mod listening;
mod readiness;

use anyhow::Context;
use chrono::TimeDelta;
use kite_api::{ApiParts, ApiState, Clients, hash_admin_key};
use kite_commands::accept::{Acceptance, LoadWatch};
use kite_commands::address_book::AddressBook;
use kite_commands::adviser::Adviser;
use kite_commands::clock::{SystemClock, SystemIds};
use kite_commands::directory::{Directory, DirectoryFeed};
use kite_commands::key_use::KeyUseRecorder;
use kite_commands::manage::Manage;
use kite_commands::open_work::OpenWork;
use kite_commands::receipts::ReceiptBook;
use kite_commands::refusal_keeper::{KnownPeople, RefusalKeeper};
use kite_commands::relay_desk::RelayDesk;
use kite_commands::router::Router;
use kite_commands::sealer::{Sealer, Witness};
use kite_commands::seals::{SealTrust, SealWatch};
use kite_commands::settler::Settler;
use kite_commands::timekeeper::Timekeeper;
use kite_commands::{Awaited, Clock, Journal, Lots, Worker};
use kite_domain::advice::AdviceSettings;
use kite_event_store::EventStore;
use kite_event_store::sqlite::SqliteEventStore;
use kite_projections::ReadModels;
use kite_relay::{
    Desk, InProcessQueue, NetworkConnector, Publisher, QueueFeeder, QueueLimits, RelayParts, Relays, Sweeper,
    Urgency,
};
use metrics_exporter_prometheus::PrometheusHandle;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

use crate::backup;
use crate::config::{Config, Role};
use crate::open_work::OpenWorkReader;
use crate::private::{private_directory, refuse_foreign};
use crate::random::unpredictable;
use crate::runtime::{Background, ProjectorWatch, Supervisor, drive, pause, project};
use crate::seal_file::SealFile;
use crate::server::{self, CertificateWatch, Tls};
use crate::telemetry;
use crate::vitals::{Floors, ThisMachine, Vitals, VitalsWatch};
use listening::Listeners;
use readiness::ProcessReadiness;

/// How long to wait before relay workers that could not be hired are hired again.
const HIRE_RETRY: Duration = Duration::from_secs(1);

/// How long the end of a process may take over sealing what is left. It is a few thousand events, unless the process was
/// ended while it sealed a log from before there were seals.
const SEAL_AT_END_MAX: Duration = Duration::from_secs(5);

/// A running Kite.
pub(crate) struct Instance {
    config: Config,
    store: Arc<SqliteEventStore>,
    /// Everything but the projectors, which stop last: they have to see what the others wrote.
    workers: Supervisor,
    projectors: Supervisor,
    /// How the projectors get on.
    projector_watch: ProjectorWatch,
    /// Where campaigns are worked on.
    background: Background,
    address: Option<SocketAddr>,
    /// Where administration listens, if it has an address of its own.
    admin_address: Option<SocketAddr>,
    /// What the listeners speak TLS with, if they do.
    tls: Option<Tls>,
    models: ReadModels,
    /// Wakes nobody: for workers that only time moves.
    quiet: watch::Sender<u64>,
    /// Seals what is left at the end.
    last_sealer: Option<Sealer>,
}

/// What the parts share.
struct Parts {
    journal: Journal,
    directory: Directory,
    lots: Lots,
    manage: Manage,
    receipts: ReceiptBook,
    models: ReadModels,
    open_work: Arc<dyn OpenWork>,
    people: Arc<dyn KnownPeople>,
    trust: SealTrust,
    vitals: Vitals,
    clock: Arc<dyn Clock>,
}

impl Instance {
    /// Opens the data directory and starts the parts that the configuration names.
    ///
    /// # Errors
    /// If a file or the address cannot be had; nothing is left running then.
    pub(crate) async fn start(config: Config) -> anyhow::Result<Self> {
        let roles = config.roles();
        server::raise_limit();
        // Before anything works: without its address the process is not to hand over a single message.
        let listeners = if roles.contains(&Role::Api) { Some(Listeners::open(&config).await?) } else { None };
        let tls = if roles.contains(&Role::Api) { Tls::open(&config.tls)? } else { None };
        let workers = Supervisor::new();
        let projectors = Supervisor::new();
        let background = Background::start().context("no threads for the background")?;
        let metrics = telemetry::start_metrics(&workers, &background.handle())?;
        backup::refuse_backup(&config.data_dir)?;
        refuse_foreign(&config.data_dir)?;
        private_directory(&config.data_dir)?;
        let store = Arc::new(
            SqliteEventStore::open(&config.data_dir.join("events.db"), config.store_options())
                .with_context(|| format!("cannot open the log in {}", config.data_dir.display()))?,
        );
        let parts = Parts::open(&config, store.clone()).await?;
        let quiet = watch::Sender::new(0);
        let models = parts.models.clone();
        let mut instance = Self {
            config,
            store,
            workers,
            projectors,
            projector_watch: ProjectorWatch::default(),
            background,
            address: None,
            admin_address: None,
            tls,
            models,
            quiet,
            last_sealer: None,
        };
        match instance.start_parts(&parts, &roles, listeners, metrics).await {
            Ok(()) => Ok(instance),
            Err(error) => {
                instance.shut_down().await;
                Err(error)
            }
        }
    }

    async fn start_parts(
        &mut self,
        parts: &Parts,
        roles: &BTreeSet<Role>,
        listeners: Option<Listeners>,
        metrics: PrometheusHandle,
    ) -> anyhow::Result<()> {
        self.start_vitals(parts).await?;
        if roles.contains(&Role::Projector) {
            self.start_projectors(parts)?;
        }
        self.start_sealing(parts)?;
        let desk = self.start_workers(parts, roles).await?;
        parts.vitals.listen_to(desk.clone());
        match listeners {
            Some(listeners) => self.start_api(parts, desk, metrics, listeners).await,
            None => Ok(()),
        }
    }

    /// Where the API listens, if this process runs it.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// How it is called, if this process runs it.
    pub(crate) fn url(&self) -> Option<String> {
        self.address.map(|address| self.config.url(address))
    }

    /// How administration and metrics are called, if they have an address of their own.
    pub(crate) fn admin_url(&self) -> Option<String> {
        self.admin_address.map(|address| self.config.url(address))
    }

    /// The read models.
    pub(crate) fn read_models(&self) -> &ReadModels {
        &self.models
    }

    /// Waits until the read models show everything that is in the log now, at most this long.
    pub(crate) async fn catch_up(&self, timeout: Duration) {
        let head = *self.store.head().borrow();
        self.models.delivery.wait_for(head, timeout).await;
    }

    /// Waits until a part fails in a way that only a restart can mend.
    pub(crate) async fn failed(&self) -> String {
        tokio::select! {
            reason = self.workers.failed() => reason,
            reason = self.projectors.failed() => reason,
            reason = log_stopped(self.store.stopped()) => reason,
        }
    }

    /// Brings what is under way to its end, lets the projectors catch up, and closes the log. Answers whether all of
    /// that was possible in time.
    pub(crate) async fn shut_down(self) -> bool {
        let timeout = Duration::from_secs(self.config.shutdown_s_max);
        let has_stopped = self.workers.shut_down(timeout).await;
        let has_projected = self.projectors.shut_down(timeout).await;
        seal_the_rest(self.last_sealer, timeout.min(SEAL_AT_END_MAX)).await;
        let store = self.store;
        let closed = tokio::task::spawn_blocking(move || store.close()).await;
        has_stopped && has_projected && closed.is_ok()
    }

    fn start_projectors(&self, parts: &Parts) -> anyhow::Result<()> {
        let store: Arc<dyn EventStore> = self.store.clone();
        for projector in parts.models.projectors(store)? {
            let name = format!("project-{}", projector.name());
            let work = project(
                projector,
                self.store.head(),
                self.projectors.clone(),
                parts.clock.clone(),
                self.projector_watch.clone(),
            );
            self.projectors.start_background_thread(&name, work)?;
        }
        Ok(())
    }

    /// Answers what is seen of the relays.
    async fn start_workers(
        &self,
        parts: &Parts,
        roles: &BTreeSet<Role>,
    ) -> anyhow::Result<Arc<dyn RelayDesk>> {
        let mut awaited = Awaited::default();
        self.start_follower(DirectoryFeed::new(parts.directory.clone(), parts.journal.clone()), parts);
        let standing = parts.directory.snapshot().instance;
        if !standing.may_hand_over() {
            let standing = standing.word();
            tracing::warn!(
                standing,
                "this is a copy of another instance: nothing is handed over until it is released"
            );
        }
        self.start_follower(Settler::new(parts.lots.clone(), parts.directory.clone()), parts);
        if roles.contains(&Role::Router) {
            let (lots, directory) = (parts.lots.clone(), parts.directory.clone());
            let router = Router::new(lots, directory, parts.open_work.clone());
            awaited = router.awaited();
            self.start_follower(router, parts);
            self.start_timed(
                Adviser::new(
                    parts.journal.clone(),
                    parts.directory.clone(),
                    parts.manage.clone(),
                    parts.open_work.clone(),
                    AdviceSettings::default(),
                ),
                parts,
            );
        }
        let queue = Arc::new(InProcessQueue::new(QueueLimits::default()));
        let feeder = QueueFeeder::new(parts.lots.clone(), queue.clone());
        let sweeper = Sweeper::new(feeder.clone(), parts.open_work.clone(), parts.clock.clone());
        if roles.contains(&Role::Timekeeper) {
            self.start_timed(RefusalKeeper::new(parts.manage.clone(), parts.people.clone()), parts);
            self.start_timed(
                Timekeeper::new(
                    parts.lots.clone(),
                    parts.directory.clone(),
                    parts.open_work.clone(),
                    parts.receipts.clone(),
                    sweeper.hint(),
                ),
                parts,
            );
        }
        if roles.contains(&Role::Publisher) {
            // What the work model knows is swept from it; what comes after is read from the log.
            let position = parts.models.work.position();
            self.start_publishing(Publisher::new(feeder.clone(), position), sweeper, parts);
        }
        if roles.contains(&Role::Worker) {
            let relays = Relays::new(RelayParts {
                lots: parts.lots.clone(),
                directory: parts.directory.clone(),
                manage: parts.manage.clone(),
                receipts: parts.receipts.clone(),
                queue,
                feeder,
                connector: Arc::new(NetworkConnector(parts.manage.vault().clone())),
                awaited,
                panics: Arc::new(|_| {}),
                settings: self.config.relays.clone(),
            });
            let desk = relays.desk();
            self.start_relays(relays, parts);
            return Ok(Arc::new(desk));
        }
        // A check needs no worker.
        Ok(Arc::new(Desk::new(parts.manage.vault().clone(), parts.clock.clone())))
    }

    /// Nobody takes anything out of the queue of a copy, so nothing is put into it until the copy hands over. By then its
    /// read models, which are made anew, have most likely caught up, and the log need not be read from its beginning.
    fn start_publishing(&self, publisher: Publisher, sweeper: Sweeper, parts: &Parts) {
        if parts.directory.snapshot().instance.may_hand_over() {
            self.start_follower(publisher, parts);
            self.start_timed(sweeper, parts);
            return;
        }
        let (head, quiet, supervisor) = (self.store.head(), self.quiet.subscribe(), self.workers.clone());
        let (directory, models, clock) = (parts.directory.clone(), parts.models.clone(), parts.clock.clone());
        let stop = supervisor.stop().clone();
        self.workers.start(async move {
            let mut changes = directory.changes();
            loop {
                changes.mark_unchanged();
                if directory.snapshot().instance.may_hand_over() {
                    break;
                }
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = changes.changed() => {}
                }
            }
            let publisher = publisher.skip_to(models.work.position());
            let publishing =
                drive(Box::new(publisher), head, stop.clone(), supervisor.clone(), clock.clone());
            supervisor.start(publishing);
            supervisor.start(drive(Box::new(sweeper), quiet, stop, supervisor.clone(), clock));
        });
    }

    /// Looks at the disk and the clock, once before anything works, and then again and again.
    async fn start_vitals(&self, parts: &Parts) -> anyhow::Result<()> {
        let head = *self.store.head().borrow();
        let newest = self.store.read_kept(head.saturating_sub(1), 1).await?;
        let newest_event = newest.events.last().and_then(|kept| kept.event.as_ref().ok());
        let newest_event = newest_event.map(|event| event.metadata.time);
        let api = &self.config.api;
        let floors = Floors { warn_bytes: api.ready_free_bytes_warn, refuse_bytes: api.ready_free_bytes_min };
        let mut watch = VitalsWatch::new(
            ThisMachine::new(self.config.data_dir.clone()),
            parts.vitals.clone(),
            floors,
            parts.clock.clone(),
            parts.directory.clone(),
            newest_event,
        );
        watch.look();
        self.start_timed(watch, parts);
        Ok(())
    }

    /// Seals the log, and looks at the seals that there are. On the threads that give way: neither is urgent. Whatever the
    /// roles are: nobody else can seal what this process writes.
    fn start_sealing(&mut self, parts: &Parts) -> anyhow::Result<()> {
        let path = &self.config.seals_file;
        let file = match path.as_os_str().is_empty() {
            true => None,
            false => Some(Arc::new(SealFile::open(path)?)),
        };
        // As they are before this process adds to them.
        let kept = file.as_ref().map(|file| file.newest()).unwrap_or_default();
        let sealer = || {
            let witness = file.clone().map(|file| file as Arc<dyn Witness>);
            Sealer::new(parts.journal.clone(), witness).telling(parts.trust.clone())
        };
        self.last_sealer = Some(sealer());
        let watch = SealWatch::new(parts.journal.clone(), parts.trust.clone()).with_kept(kept);
        let sealer = sealer();
        for worker in [Box::new(sealer) as Box<dyn Worker>, Box::new(watch)] {
            let (wake, stop) = (self.quiet.subscribe(), self.workers.stop().clone());
            let work = drive(worker, wake, stop, self.workers.clone(), parts.clock.clone());
            self.workers.start_on(&self.background.handle(), work);
        }
        Ok(())
    }

    /// Follows the files of the certificate, if there is one. On the threads that give way: reading a file may take a while.
    fn start_certificate_watch(&self, parts: &Parts) {
        let Some(tls) = &self.tls else { return };
        let worker = Box::new(CertificateWatch::new(tls.certificate().clone(), parts.clock.clone()));
        let (wake, stop) = (self.quiet.subscribe(), self.workers.stop().clone());
        let work = drive(worker, wake, stop, self.workers.clone(), parts.clock.clone());
        self.workers.start_on(&self.background.handle(), work);
    }

    /// Starts a worker that follows the log.
    fn start_follower(&self, worker: impl Worker + 'static, parts: &Parts) {
        self.start_worker(worker, self.store.head(), parts);
    }

    /// Starts a worker that only time moves.
    fn start_timed(&self, worker: impl Worker + 'static, parts: &Parts) {
        self.start_worker(worker, self.quiet.subscribe(), parts);
    }

    fn start_worker(&self, worker: impl Worker + 'static, wake: watch::Receiver<u64>, parts: &Parts) {
        let stop = self.workers.stop().clone();
        let work = drive(Box::new(worker), wake, stop, self.workers.clone(), parts.clock.clone());
        self.workers.start(work);
    }

    /// Hires and dismisses relay workers as the directory changes.
    fn start_relays(&self, mut relays: Relays, parts: &Parts) {
        let supervisor = self.workers.clone();
        let background = self.background.handle();
        let clock = parts.clock.clone();
        let mut changes = parts.directory.changes();
        self.workers.start(async move {
            loop {
                changes.mark_unchanged();
                let (hired, failure) = relays.reconcile().await;
                for one in hired {
                    tracing::info!(worker = one.worker.name(), "hired");
                    let stop = supervisor.stop().child_token();
                    supervisor.start(cancel_when(one.dismissed, stop.clone()));
                    let work = drive(one.worker, one.wake, stop, supervisor.clone(), clock.clone());
                    match one.urgency {
                        Urgency::Urgent => supervisor.start(work),
                        Urgency::Ordinary => supervisor.start_on(&background, work),
                    }
                }
                let again = async {
                    match failure {
                        Some(error) => {
                            tracing::error!(%error, "relay workers could not be hired, trying again");
                            pause(HIRE_RETRY).await;
                        }
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = supervisor.stop().cancelled() => return,
                    _ = changes.changed() => {}
                    () = again => {}
                }
            }
        });
    }

    async fn start_api(
        &mut self,
        parts: &Parts,
        relay_desk: Arc<dyn RelayDesk>,
        metrics: PrometheusHandle,
        listeners: Listeners,
    ) -> anyhow::Result<()> {
        let gauge = backlog::gauge(parts.models.clone(), self.store.head());
        let limits = self.config.accept_limits();
        let acceptance = Acceptance::new(parts.lots.clone(), parts.directory.clone(), limits, gauge);
        let mut load = LoadWatch::new(acceptance.clone(), parts.open_work.clone());
        // Before the first request, so that none is turned away because nothing is counted yet.
        if let Err(error) = load.step().await {
            tracing::warn!(%error, "what is open could not be counted yet, trying again");
        }
        self.start_timed(load, parts);
        self.start_timed(KeyUseRecorder::new(parts.journal.clone(), parts.directory.clone()), parts);
        let mut api = self.config.api.clone();
        let key = &self.config.admin_key;
        api.admin_key_hash = (!key.is_empty()).then(|| hash_admin_key(key));
        let settings = self.config.server.clone();
        let clients = Clients::new(settings.client_rules());
        let state = ApiState::new(ApiParts {
            journal: parts.journal.clone(),
            directory: parts.directory.clone(),
            manage: parts.manage.clone(),
            address_book: AddressBook::new(parts.journal.clone()),
            acceptance,
            receipts: parts.receipts.clone(),
            relay_desk,
            backups: Arc::new(backup::Desk::new(
                &self.config.data_dir,
                &self.config.backup_dir,
                self.workers.clone(),
                parts.clock.clone(),
                self.store.head(),
            )),
            read_models: parts.models.clone(),
            metrics_text: Arc::new(move || metrics.render()),
            readiness: Arc::new(ProcessReadiness {
                workers: self.workers.clone(),
                projectors: self.projectors.clone(),
                log_stopped: self.store.stopped(),
                watch: self.projector_watch.clone(),
                head: self.store.head(),
                trust: parts.trust.clone(),
                vault: parts.manage.vault().clone(),
                directory: parts.directory.clone(),
                certificate: self.tls.as_ref().map(|tls| tls.certificate().clone()),
                vitals: parts.vitals.clone(),
                standstill_max: TimeDelta::milliseconds(api.ready_standstill_ms_max.into()),
                clock: parts.clock.clone(),
            }),
            advice: AdviceSettings::default(),
            clients: clients.clone(),
            background: self.background.handle(),
            config: api,
        });
        self.start_certificate_watch(parts);
        self.start_listeners(listeners, state, clients)
    }
}

/// Waits until the log takes nothing any more. A failed copy of its write-ahead log is nobody's append, and after a
/// failed append it may be long until the next one: without this the process would look as if it could work.
async fn log_stopped(mut stopped: watch::Receiver<Option<String>>) -> String {
    match stopped.wait_for(Option::is_some).await {
        Ok(reason) => format!("the event store has stopped: {}", reason.clone().unwrap_or_default()),
        Err(_) => "the event store is gone".to_owned(),
    }
}

/// Nobody writes any more: what is in no seal yet is sealed, so that it is not open to everybody until the next start.
async fn seal_the_rest(sealer: Option<Sealer>, timeout: Duration) {
    let Some(mut sealer) = sealer else { return };
    match tokio::time::timeout(timeout, sealer.seal_the_rest()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the newest events are in no seal"),
        Err(_) => tracing::warn!("the newest events are in no seal: there was no time for all of them"),
    }
}

async fn cancel_when(mut dismissed: watch::Receiver<bool>, stop: tokio_util::sync::CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        _ = dismissed.wait_for(|dismissed| *dismissed) => stop.cancel(),
    }
}

impl Parts {
    async fn open(config: &Config, store: Arc<SqliteEventStore>) -> anyhow::Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let journal = Journal::new(store, clock.clone(), Arc::new(SystemIds));
        let directory = Directory::default();
        directory.catch_up(&journal).await.context("the log cannot be read")?;
        let vault = Arc::new(config.vault()?);
        if let Some(warning) = credentials::in_words(&vault, &directory.snapshot().relays) {
            tracing::warn!("{warning}");
        }
        let models = ReadModels::open(&config.data_dir)?;
        let lots = Lots::new(journal.clone(), config.lots_in_memory_messages_max);
        let figures_window = chrono::Duration::minutes(config.api.figures_window_minutes.into());
        let reader = Arc::new(OpenWorkReader::new(models.clone(), figures_window));
        Ok(Self {
            manage: Manage::new(journal.clone(), directory.clone(), Arc::new(unpredictable))
                .with_vault(vault),
            receipts: ReceiptBook::new(lots.clone(), directory.clone()),
            open_work: reader.clone(),
            people: reader,
            journal,
            directory,
            lots,
            models,
            trust: SealTrust::default(),
            vitals: Vitals::default(),
            clock,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_log_that_stops_is_heard_of_although_nobody_appends() {
        let stopped = watch::Sender::new(None);
        let (reason, _) = tokio::join!(log_stopped(stopped.subscribe()), async {
            stopped.send_replace(Some("copying the write-ahead log failed: disk I/O error".to_owned()))
        });
        assert_eq!(reason, "the event store has stopped: copying the write-ahead log failed: disk I/O error");
    }
}
