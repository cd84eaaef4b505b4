//! What only the process knows of its readiness.

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use kite_api::{Readiness, ReadinessCheck};
use kite_commands::directory::Directory;
use kite_commands::seals::SealTrust;
use kite_commands::{Clock, Journal, Vault};
use kite_domain::instance::Originality;
use kite_event_store::{Position, SharedError, describe};
use kite_nats::JetStreamQueue;
use kite_projections::ReadModels;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;

use super::credentials;
use crate::log::Silence;
use crate::runtime::Supervisor;
use crate::server::ServerCertificate;
use crate::vitals::Vitals;
use kite_runtime::{ProjectorStanding, ProjectorWatch};

/// Ready as long as nothing has failed, no projector stands still, and no stop was asked for.
pub(super) struct ProcessReadiness {
    pub(super) workers: Supervisor,
    pub(super) projectors: Supervisor,
    pub(super) log_stopped: watch::Receiver<Option<SharedError>>,
    /// For how long the log has not answered, if it is on a server.
    pub(super) log_silence: Silence,
    /// How the projectors get on.
    pub(super) watch: ProjectorWatch,
    /// The read models, if they are projected wherever there is a process for it.
    pub(super) shared_models: Option<SharedModels>,
    /// Where the log ends.
    pub(super) head: watch::Receiver<Position>,
    /// How long a projector may stand still while there is something to read, and the log be silent.
    pub(super) standstill_max: TimeDelta,
    /// What is known of the log's seals.
    pub(super) trust: SealTrust,
    /// What opens the credentials of relays.
    pub(super) vault: Arc<Vault>,
    /// Which relays there are, and whether this is a copy.
    pub(super) directory: Directory,
    /// What the listener shows, if it speaks TLS.
    pub(super) certificate: Option<ServerCertificate>,
    /// Whether a newer program writes to the log, too.
    pub(super) journal: Journal,
    /// The work queue, if it is on servers and this process uses it.
    pub(super) queue: Option<Arc<JetStreamQueue>>,
    /// How the disk and the clock are.
    pub(super) vitals: Vitals,
    pub(super) clock: Arc<dyn Clock>,
}

/// Read models that some process projects.
pub(super) struct SharedModels {
    models: ReadModels,
    /// Where each was seen behind the log, and since when it has been seen there.
    behind: Mutex<BTreeMap<&'static str, (Position, DateTime<Utc>)>>,
}

impl SharedModels {
    pub(super) fn new(models: ReadModels) -> Self {
        Self { models, behind: Mutex::default() }
    }

    fn checks(&self, head: Position, now: DateTime<Utc>, most: TimeDelta) -> Vec<ReadinessCheck> {
        let mut behind = self.behind.lock();
        let checks = self.models.positions().map(|(name, position)| {
            let failure = stands_still_since(&mut behind, name, position, head, now)
                .filter(|since| now - *since > most)
                .map(|since| {
                    format!(
                        "stands still at position {position} of {head} since {}: does a process with the role projector run?",
                        since.to_rfc3339()
                    )
                });
            check(&format!("projection:{name}"), failure, &format!("at position {position}"))
        });
        checks.collect()
    }
}

/// Since when a model has been seen where it is, and behind the log; none: it has moved, or there is nothing to read.
fn stands_still_since(
    behind: &mut BTreeMap<&'static str, (Position, DateTime<Utc>)>,
    name: &'static str,
    position: Position,
    head: Position,
    now: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    if position >= head {
        behind.remove(name);
        return None;
    }
    let seen = behind.entry(name).or_insert((position, now));
    if seen.0 != position {
        *seen = (position, now);
    }
    Some(seen.1)
}

#[async_trait]
impl Readiness for ProcessReadiness {
    async fn checks(&self) -> Vec<ReadinessCheck> {
        let is_stopping = self.workers.stop().is_cancelled();
        let mut checks = vec![
            self.log(),
            check("seals", self.trust.difference(), &self.trust.progress()),
            check("workers", self.workers.failure(), "all run"),
            check("projectors", self.projectors.failure(), "all run"),
            check("disk", self.vitals.turns_away(), &self.vitals.disk()),
            // Told, and no reason to send requests elsewhere: there is no other clock.
            check("clock", None, &self.vitals.clock()),
            check("instance", None, &self.standing()),
            self.program(),
            check("life", is_stopping.then(|| "stopping".to_owned()), "running"),
        ];
        let standings = self.watch.standings();
        let (head, now) = (*self.head.borrow(), self.clock.now());
        checks.extend(standings.iter().map(|(name, standing)| {
            let failure = standstill(standing, head, now, self.standstill_max);
            check(&format!("projector:{name}"), failure, &format!("at position {}", standing.position))
        }));
        checks.extend(
            self.shared_models.iter().flat_map(|models| models.checks(head, now, self.standstill_max)),
        );
        // Alarms, and no reason to send requests elsewhere: everything else is as it should be.
        if let Some(queue) = &self.queue {
            let there = if queue.is_there() {
                "its servers answer"
            } else {
                "no server can be reached: nothing is handed over"
            };
            checks.push(check("queue", None, there));
        }
        let secrets = credentials::in_words(&self.vault, &self.directory.snapshot().relays);
        checks.push(check("secrets", None, secrets.as_deref().unwrap_or("credentials are encrypted")));
        checks.push(check("parked", None, &parked(standings.iter())));
        // So is this: the one before is still shown, and elsewhere there may be none better.
        if let Some(certificate) = &self.certificate {
            checks.push(check("certificate", None, &certificate.in_words(now)));
        }
        checks
    }

    fn turns_away(&self) -> Option<String> {
        self.vitals.turns_away()
    }
}

impl ProcessReadiness {
    fn log(&self) -> ReadinessCheck {
        let stopped = self.log_stopped.borrow().as_ref().map(|reason| describe(reason));
        let silence = (self.log_silence)();
        let is_away = TimeDelta::from_std(silence).is_ok_and(|silence| silence > self.standstill_max);
        let away = is_away.then(|| format!("its server has not answered for {} s", silence.as_secs()));
        check("log", stopped.or(away), "takes appends")
    }

    /// If there are other processes, requests should go to those that understand everything. Alone it does what it
    /// can, and reports it.
    fn program(&self) -> ReadinessCheck {
        let understands = "understands what it has read of the log";
        let too_old = self.journal.too_old().in_words();
        match self.journal.is_shared() {
            true => check("program", too_old, understands),
            false => check("program", None, too_old.as_deref().unwrap_or(understands)),
        }
    }

    /// A copy takes requests: it only hands nothing over.
    fn standing(&self) -> String {
        let instance = self.directory.snapshot().instance;
        match instance {
            Originality::Original => "the original".to_owned(),
            Originality::Settled { .. } => "was a copy, and has taken the place of its original".to_owned(),
            Originality::Copy { until, taken_at } => format!(
                "a copy of what was there at {} (position {until}): nothing is handed over until it is released \
                 (POST /v1/admin/instance/release)",
                taken_at.to_rfc3339()
            ),
            Originality::Released { .. } => {
                "a copy that was released: what its original may have handed over is being put in doubt"
                    .to_owned()
            }
        }
    }
}

/// Reports a projector that has had something to read for too long without making progress.
fn standstill(
    standing: &ProjectorStanding,
    head: Position,
    now: DateTime<Utc>,
    most: TimeDelta,
) -> Option<String> {
    let ProjectorStanding { position, well_at, failure, .. } = standing;
    let stands_still = head > *position && now - *well_at > most;
    stands_still.then(|| {
        let reason = failure.as_deref().unwrap_or("its step has not ended");
        format!("stands still at position {position} of {head} since {}: {reason}", well_at.to_rfc3339())
    })
}

fn parked<'s>(standings: impl Iterator<Item = (&'s &'static str, &'s ProjectorStanding)>) -> String {
    let parked: Vec<String> = standings
        .filter(|(_, standing)| standing.parked > 0)
        .map(|(name, standing)| format!("{name} {}", standing.parked))
        .collect();
    match parked.is_empty() {
        true => "no events".to_owned(),
        false => format!("events that could not be applied: {} (kite replay --parked)", parked.join(", ")),
    }
}

fn check(name: &str, failure: Option<String>, otherwise: &str) -> ReadinessCheck {
    ReadinessCheck {
        name: name.to_owned(),
        is_ready: failure.is_none(),
        detail: failure.unwrap_or_else(|| otherwise.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vitals::tests::SaidMachine;
    use crate::vitals::{Floors, VitalsWatch};
    use kite_commands::clock::ManualClock;
    use kite_event_store::{
        Batch, BatchMode, EventStore, Expected, MemoryEventStore, Metadata, NewEvent, StreamAppend,
    };
    use kite_projections::{ProjectError, Projected, Runner};
    use std::time::Duration;

    /// A projector that stands somewhere.
    struct StandIn {
        position: Position,
        parked: u64,
    }

    #[async_trait]
    impl Runner for StandIn {
        fn name(&self) -> &'static str {
            "delivery"
        }

        fn position(&self) -> Position {
            self.position
        }

        fn parked(&self) -> u64 {
            self.parked
        }

        async fn step(&mut self, _now: DateTime<Utc>) -> Result<Projected, ProjectError> {
            Ok(Projected::Idle { position: self.position })
        }

        fn stands_by(&mut self) {}
    }

    struct House {
        log_stopped: watch::Sender<Option<SharedError>>,
        silence: Arc<Mutex<Duration>>,
        head: watch::Sender<Position>,
        clock: Arc<ManualClock>,
        store: Arc<MemoryEventStore>,
        readiness: ProcessReadiness,
    }

    impl House {
        fn new() -> Self {
            let (log_stopped, head) = (watch::Sender::new(None), watch::Sender::new(0));
            let store = Arc::new(MemoryEventStore::new());
            let silence = Arc::new(Mutex::new(Duration::ZERO));
            let said = silence.clone();
            let clock = Arc::new(ManualClock::at(DateTime::UNIX_EPOCH));
            let journal = Journal::new(store.clone(), clock.clone(), clock.clone()).shared();
            let readiness = ProcessReadiness {
                shared_models: None,
                workers: Supervisor::new(),
                projectors: Supervisor::new(),
                log_stopped: log_stopped.subscribe(),
                log_silence: Box::new(move || *said.lock()),
                watch: ProjectorWatch::default(),
                head: head.subscribe(),
                standstill_max: TimeDelta::seconds(10),
                trust: SealTrust::default(),
                vault: Arc::default(),
                directory: Directory::default(),
                certificate: None,
                journal: journal.clone(),
                queue: None,
                vitals: Vitals::default(),
                clock: clock.clone(),
            };
            Self { log_stopped, silence, head, clock, store, readiness }
        }

        fn stepped(&self, position: Position, parked: u64, failure: Option<&str>) {
            let projector = StandIn { position, parked };
            self.readiness.watch.note(&projector, failure.map(str::to_owned), self.clock.now());
        }

        /// Name and detail of the checks that fail.
        async fn failing(&self) -> Vec<(String, String)> {
            let checks = self.readiness.checks().await.into_iter();
            checks.filter(|check| !check.is_ready).map(|check| (check.name, check.detail)).collect()
        }
    }

    #[test]
    fn a_shared_model_stands_still_only_if_it_was_seen_behind_at_the_same_place_before() {
        let (mut behind, at) = (BTreeMap::new(), |second| DateTime::UNIX_EPOCH + TimeDelta::seconds(second));
        let mut since =
            |position, head, second| stands_still_since(&mut behind, "work", position, head, at(second));
        assert_eq!(since(5, 5, 0), None);
        // However long nobody has asked.
        assert_eq!(since(5, 6, 60), Some(at(60)));
        assert_eq!(since(5, 7, 70), Some(at(60)));
        assert_eq!(since(6, 7, 80), Some(at(80)), "it has moved");
        assert_eq!(since(7, 7, 90), None);
        assert_eq!(since(7, 8, 100), Some(at(100)));
    }

    #[tokio::test]
    async fn a_log_that_takes_nothing_makes_the_process_unready_and_says_why() {
        let house = House::new();
        assert_eq!(house.failing().await, []);
        house.log_stopped.send_replace(Some(SharedError::new("a commit failed: database or disk is full")));
        let expected = ("log".to_owned(), "a commit failed: database or disk is full".to_owned());
        assert_eq!(house.failing().await, [expected]);
    }

    #[tokio::test]
    async fn so_does_a_log_whose_server_has_not_answered_for_some_seconds() {
        let house = House::new();
        *house.silence.lock() = Duration::from_secs(10);
        assert_eq!(house.failing().await, [], "a hiccup is none");
        *house.silence.lock() = Duration::from_secs(11);
        let expected = ("log".to_owned(), "its server has not answered for 11 s".to_owned());
        assert_eq!(house.failing().await, [expected]);
    }

    #[tokio::test]
    async fn so_does_a_log_that_a_newer_program_writes_beside_this_one_which_lives_on() {
        let house = House::new();
        let new = NewEvent {
            id: uuid::Uuid::from_u128(1),
            kind: "of-tomorrow".into(),
            schema_version: 1,
            data: b"{}".to_vec().into(),
        };
        let metadata = Metadata {
            time: house.clock.now(),
            tenant: None,
            correlation: uuid::Uuid::nil(),
            causation: None,
            actor: "admin".into(),
            traceparent: None,
        };
        let append =
            StreamAppend { stream: "lot-x".into(), expected: Expected::Any, metadata, events: vec![new] };
        house.store.append(Batch::new(BatchMode::Independent, vec![append])).await;
        assert_eq!(house.failing().await, [], "nobody has read it yet");
        assert!(house.readiness.journal.read_stream("lot-x", 0).await.is_err());
        let failing = house.failing().await;
        assert_eq!(failing[0].0, "program");
        assert!(failing[0].1.contains("of-tomorrow of schema version 1 (first in lot-x)"), "{failing:?}");
    }

    #[tokio::test]
    async fn so_does_a_projector_that_has_given_up() {
        let house = House::new();
        house.readiness.projectors.fail("projector delivery: its file is damaged".to_owned());
        assert_eq!(house.failing().await[0].0, "projectors");
    }

    #[tokio::test]
    async fn so_does_a_projector_that_stands_still_for_some_seconds_while_there_is_something_to_read() {
        let house = House::new();
        house.stepped(7, 0, None);
        house.head.send_replace(9);
        house.clock.advance(TimeDelta::seconds(10));
        house.stepped(7, 0, Some("database or disk is full"));
        assert_eq!(house.failing().await, [], "a hiccup is none");

        house.clock.advance(TimeDelta::seconds(1));
        let failing = house.failing().await;
        assert_eq!(failing[0].0, "projector:delivery");
        assert_eq!(
            failing[0].1,
            "stands still at position 7 of 9 since 1970-01-01T00:00:00+00:00: database or disk is full"
        );

        house.stepped(9, 0, None);
        assert_eq!(house.failing().await, [], "it goes on");
        house.clock.advance(TimeDelta::days(1));
        assert_eq!(house.failing().await, [], "there is nothing to read");
    }

    #[tokio::test]
    async fn so_does_one_whose_step_does_not_end() {
        let house = House::new();
        house.stepped(7, 0, None);
        house.head.send_replace(8);
        house.clock.advance(TimeDelta::seconds(11));
        assert!(house.failing().await[0].1.ends_with("its step has not ended"));
    }

    #[tokio::test]
    async fn so_does_a_disk_without_room() {
        let house = House::new();
        let machine = SaidMachine::default();
        machine.free_bytes.store(99, std::sync::atomic::Ordering::SeqCst);
        let floors = Floors { warn_bytes: 500, refuse_bytes: 100 };
        let vitals = house.readiness.vitals.clone();
        let clock = house.clock.clone();
        VitalsWatch::new(machine, vitals, floors, clock, Directory::default(), None).look();
        let failing = house.failing().await;
        assert_eq!(failing, [("disk".to_owned(), "99 bytes are free, at least 100 are needed".to_owned())]);
        assert_eq!(house.readiness.turns_away(), Some(failing[0].1.clone()));
    }

    #[tokio::test]
    async fn parked_events_are_told_and_leave_it_ready() {
        let house = House::new();
        house.stepped(7, 3, None);
        assert_eq!(house.failing().await, []);
        let checks = house.readiness.checks().await;
        let parked = checks.iter().find(|check| check.name == "parked").unwrap();
        assert_eq!(parked.detail, "events that could not be applied: delivery 3 (kite replay --parked)");
    }
}
