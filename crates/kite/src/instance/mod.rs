//! One running Kite: opens the stores, wires the parts, starts the workers, and ends them in order.

mod backlog;
mod credentials;
mod listening;
mod queue;
mod readiness;

use anyhow::Context;
use chrono::TimeDelta;
use kite_api::{ApiParts, ApiState, Clients, hash_admin_key};
use kite_commands::clock::SystemIds;
use kite_commands::key_use::KeyUseRecorder;
use kite_commands::lease::LeaseHolder;
use kite_commands::relay_desk::RelayDesk;
use kite_commands::sealer::{Sealer, Witness};
use kite_commands::seals::{SealTrust, SealWatch};
use kite_commands::{Clock, Journal, WriteSide};
use kite_domain::advice::AdviceSettings;
use kite_event_store::{AppendError, SharedError, describe};
use kite_nats::JetStreamQueue;
use kite_projections::ReadModels;
use kite_relay::{Desk, NetworkConnector, QueueLimits};
use kite_runtime::{Host, HostPauses, Place, Post, ProjectorWatch, Reading, Staff};
use metrics_exporter_prometheus::PrometheusHandle;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

use crate::backup;
use crate::config::{Config, Role};
use crate::log::{Log, ReadModelUse};
use crate::random::unpredictable;
use crate::runtime::{Background, Supervisor, Threads};
use crate::seal_file::SealFile;
use crate::server::{self, CertificateWatch, Tls};
use crate::telemetry;
use crate::vitals::{Floors, ThisMachine, Vitals, VitalsWatch};
use listening::Listeners;
use readiness::{ProcessReadiness, SharedModels};

/// How many unrouted sendings are read at once.
const UNROUTED_PAGE: usize = 10_000;

/// How long sealing may take at the end of a process. That is a few thousand events, unless the process was ended
/// while it sealed a log from before seals existed.
const SEAL_AT_END_MAX: Duration = Duration::from_secs(5);

/// A running Kite.
pub(crate) struct Instance {
    config: Config,
    log: Log,
    /// Everything except the projectors, which stop last: they have to see what the others wrote.
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
    /// Seals what is left at the end.
    last_sealer: Option<Sealer>,
}

/// What the parts share.
struct Parts {
    write_side: WriteSide,
    models: ReadModels,
    trust: SealTrust,
    vitals: Vitals,
    clock: Arc<dyn Clock>,
    /// The work queue, if other processes share it.
    queue: Option<Arc<JetStreamQueue>>,
}

impl Instance {
    /// Opens the log and the read models, and starts the roles that the configuration names.
    ///
    /// # Errors
    /// If the log or the read models cannot be opened, or the address cannot be used; then nothing is left running.
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
        let log = Log::open(&config).await?;
        let threads = Threads {
            workers: workers.clone(),
            projectors: projectors.clone(),
            background: background.handle(),
        };
        let (parts, staff) = Box::pin(furnish(&config, &log, threads)).await?;
        let models = parts.models.clone();
        let mut instance = Self {
            config,
            log,
            workers,
            projectors,
            projector_watch: ProjectorWatch::default(),
            background,
            address: None,
            admin_address: None,
            tls,
            models,
            last_sealer: None,
        };
        match instance.start_parts(&parts, staff, &roles, listeners, metrics).await {
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
        mut staff: Staff<Threads>,
        roles: &BTreeSet<Role>,
        listeners: Option<Listeners>,
        metrics: PrometheusHandle,
    ) -> anyhow::Result<()> {
        self.start_vitals(parts, &staff).await?;
        self.start_sealing(parts, &staff)?;
        let desk = self.start_workers(parts, &mut staff, roles)?;
        parts.vitals.listen_to(desk.clone());
        match listeners {
            Some(listeners) => self.start_api(parts, &staff, desk, metrics, listeners).await,
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
        let head = *self.log.store().head().borrow();
        self.models.delivery.wait_for(head, timeout).await;
    }

    /// Waits until a part fails in a way that only a restart can cure.
    pub(crate) async fn failed(&self) -> String {
        tokio::select! {
            reason = self.workers.failed() => reason,
            reason = self.projectors.failed() => reason,
            reason = log_stopped(self.log.stopped()) => reason,
        }
    }

    /// Finishes the work in progress, lets the projectors catch up, and closes the log. Returns whether all of that
    /// was possible in time.
    pub(crate) async fn shut_down(self) -> bool {
        let timeout = Duration::from_secs(self.config.shutdown_s_max);
        let has_stopped = self.workers.shut_down(timeout).await;
        let has_projected = self.projectors.shut_down(timeout).await;
        seal_the_rest(self.last_sealer, timeout.min(SEAL_AT_END_MAX)).await;
        let has_closed = tokio::time::timeout(timeout, self.log.close()).await.unwrap_or(false);
        has_stopped && has_projected && has_closed
    }

    /// Returns what is seen of the relays.
    fn start_workers(
        &self,
        parts: &Parts,
        staff: &mut Staff<Threads>,
        roles: &BTreeSet<Role>,
    ) -> anyhow::Result<Arc<dyn RelayDesk>> {
        if roles.contains(&Role::Projector) {
            staff.start_projectors(&self.projector_watch)?;
        }
        let standing = parts.write_side.directory.snapshot().instance;
        if !standing.may_hand_over() {
            let standing = standing.word();
            tracing::warn!(
                standing,
                "this is a copy of another instance: nothing is handed over until it is released"
            );
        }
        staff.start_common();
        if roles.contains(&Role::Router) {
            staff.start_router(Some(AdviceSettings::default()));
        }
        if roles.contains(&Role::Timekeeper) {
            staff.start_timekeeper();
        }
        if roles.contains(&Role::Publisher) {
            staff.start_publisher();
        }
        let vault = parts.write_side.manage.vault().clone();
        if roles.contains(&Role::Worker) {
            let connector = Arc::new(NetworkConnector(vault));
            let settings = self.config.relays.clone();
            return Ok(Arc::new(staff.start_relays(connector, Arc::new(|_| {}), settings)));
        }
        // A check needs no worker.
        Ok(Arc::new(Desk::new(vault, parts.clock.clone())))
    }

    /// Checks the disk and the clock, once before anything works, and then again and again.
    async fn start_vitals(&self, parts: &Parts, staff: &Staff<Threads>) -> anyhow::Result<()> {
        let head = *self.log.store().head().borrow();
        let newest = self.log.store().read_kept(head.saturating_sub(1), 1).await?;
        let newest_event = newest.events.last().and_then(|kept| kept.event.as_ref().ok());
        let newest_event = newest_event.map(|event| event.metadata.time);
        let api = &self.config.api;
        let floors = Floors { warn_bytes: api.ready_free_bytes_warn, refuse_bytes: api.ready_free_bytes_min };
        let mut watch = VitalsWatch::new(
            ThisMachine::new(self.config.data_dir.clone()),
            parts.vitals.clone(),
            floors,
            parts.clock.clone(),
            parts.write_side.directory.clone(),
            newest_event,
        );
        watch.look();
        staff.timed(Place::Front, watch);
        Ok(())
    }

    /// Seals the log, and checks the existing seals. On threads of lower priority: neither is urgent. Whatever its
    /// roles are: nobody else can seal what this process writes.
    fn start_sealing(&mut self, parts: &Parts, staff: &Staff<Threads>) -> anyhow::Result<()> {
        let path = &self.config.seals_file;
        let file = match path.as_os_str().is_empty() {
            true => None,
            false => Some(Arc::new(SealFile::open(path)?)),
        };
        // As they are before this process adds to them.
        let kept = file.as_ref().map(|file| file.newest()).unwrap_or_default();
        let sealer = || {
            let witness = file.clone().map(|file| file as Arc<dyn Witness>);
            Sealer::new(parts.write_side.journal.clone(), witness).telling(parts.trust.clone())
        };
        self.last_sealer = Some(sealer());
        let watch = SealWatch::new(parts.write_side.journal.clone(), parts.trust.clone());
        staff.timed_as(Post::Sealer, Place::Background, sealer());
        staff.timed(Place::Background, watch.with_kept(kept));
        Ok(())
    }

    /// Follows the files of the certificate, if there is one. On threads of lower priority: reading a file may take a
    /// while.
    fn start_certificate_watch(&self, parts: &Parts, staff: &Staff<Threads>) {
        let Some(tls) = &self.tls else { return };
        let watch = CertificateWatch::new(tls.certificate().clone(), parts.clock.clone());
        staff.timed(Place::Background, watch);
    }

    async fn start_api(
        &mut self,
        parts: &Parts,
        staff: &Staff<Threads>,
        relay_desk: Arc<dyn RelayDesk>,
        metrics: PrometheusHandle,
        listeners: Listeners,
    ) -> anyhow::Result<()> {
        let gauge = backlog::gauge(parts.models.clone(), self.log.store());
        let write_side = parts.write_side.clone();
        let acceptance = write_side.acceptance(self.config.accept_limits(), gauge);
        staff.start_load_watch(&acceptance).await;
        let (journal, directory) = (write_side.journal.clone(), write_side.directory.clone());
        staff.timed(Place::Front, KeyUseRecorder::new(journal, directory.clone()));
        let mut api = self.config.api.clone();
        let key = &self.config.admin_key;
        api.admin_key_hash = (!key.is_empty()).then(|| hash_admin_key(key));
        let settings = self.config.server.clone();
        let clients = Clients::new(settings.client_rules());
        let state = ApiState::new(ApiParts {
            write_side: write_side.clone(),
            acceptance,
            relay_desk,
            backups: Arc::new(backup::Desk::new(
                &self.config.data_dir,
                &self.config.backup_dir,
                self.workers.clone(),
                parts.clock.clone(),
                self.log.store().head(),
            )),
            read_models: parts.models.clone(),
            log_index: self.log.index(),
            metrics_text: Arc::new(move || metrics.render()),
            readiness: Arc::new(ProcessReadiness {
                workers: self.workers.clone(),
                projectors: self.projectors.clone(),
                log_stopped: self.log.stopped(),
                log_silence: self.log.silence(),
                watch: self.projector_watch.clone(),
                shared_models: parts.models.are_shared().then(|| SharedModels::new(parts.models.clone())),
                head: self.log.store().head(),
                trust: parts.trust.clone(),
                vault: write_side.manage.vault().clone(),
                directory,
                certificate: self.tls.as_ref().map(|tls| tls.certificate().clone()),
                journal: write_side.journal.clone(),
                queue: parts.queue.clone(),
                vitals: parts.vitals.clone(),
                standstill_max: TimeDelta::milliseconds(api.ready_standstill_ms_max.into()),
                clock: parts.clock.clone(),
            }),
            advice: AdviceSettings::default(),
            clients: clients.clone(),
            background: self.background.handle(),
            config: api,
        });
        self.start_certificate_watch(parts, staff);
        self.start_listeners(listeners, state, clients)
    }
}

/// Waits until the log accepts nothing any more. A failed copy of its write-ahead log belongs to no append, and after
/// a failed append it may be long until the next one: without this the process would look as if it could work.
async fn log_stopped(mut stopped: watch::Receiver<Option<SharedError>>) -> String {
    let reason = stopped.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
    reason.map_or_else(
        || "the event store is gone".to_owned(),
        |reason| describe(&AppendError::Stopped(reason)),
    )
}

/// Nobody writes any more: what is in no seal yet is sealed, so that it is not unprotected until the next start.
async fn seal_the_rest(sealer: Option<Sealer>, timeout: Duration) {
    let Some(mut sealer) = sealer else { return };
    match tokio::time::timeout(timeout, sealer.seal_the_rest()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(error = describe(&error), "the newest events are in no seal"),
        Err(_) => tracing::warn!("the newest events are in no seal: there was no time for all of them"),
    }
}

/// Opens the read models over the log, with nobody at work yet.
async fn furnish(config: &Config, log: &Log, threads: Threads) -> anyhow::Result<(Parts, Staff<Threads>)> {
    let clock = threads.clock();
    let pauses = Arc::new(HostPauses(threads.clone()));
    let journal = Journal::new(log.store(), clock.clone(), Arc::new(SystemIds)).with_pauses(pauses);
    let journal = match log.shared() {
        Some((_, life)) => journal.of_node(life).shared(),
        None => journal,
    };
    let vault = Arc::new(config.vault()?);
    let lots_max = config.lots_in_memory_messages_max;
    let write_side = WriteSide::new(journal, lots_max, Arc::new(unpredictable)).with_vault(vault.clone());
    let models = ReadModels::open(log.read_models(config, ReadModelUse::AsTheyAre).await?)?;
    log.refuse_to_go_back(&models).await?;
    let figures_window = TimeDelta::minutes(config.api.figures_window_minutes.into());
    let reading = Reading { figures_window, unrouted_page: UNROUTED_PAGE };
    let shared = kite_runtime::Parts::open(&threads, write_side.clone(), models.clone(), reading).await;
    let shared = shared.context("the log cannot be read")?;
    if let Some(warning) = credentials::in_words(&vault, &write_side.directory.snapshot().relays) {
        tracing::warn!("{warning}");
    }
    let queue = queue::open(config, &write_side.directory, &threads).await?;
    let staff = match queue.clone() {
        None => Staff::new(threads, shared, QueueLimits::default()),
        Some(queue) => Staff::on_queue(threads, shared, queue),
    };
    let staff = match log.shared() {
        Some((leases, life)) => staff.sharing(LeaseHolder::new(leases, life, clock.clone())),
        None => staff,
    };
    let (trust, vitals) = (SealTrust::default(), Vitals::default());
    Ok((Parts { write_side, models, trust, vitals, clock, queue }, staff))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_log_that_stops_is_heard_of_although_nobody_appends() {
        let stopped = watch::Sender::new(None);
        let (reason, _) = tokio::join!(log_stopped(stopped.subscribe()), async {
            let reason = SharedError::new("copying the write-ahead log failed");
            stopped.send_replace(Some(reason))
        });
        assert_eq!(reason, "the event store has stopped: copying the write-ahead log failed");
    }
}
