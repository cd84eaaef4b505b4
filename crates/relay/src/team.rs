//! All relays and their workers: started, and stopped again when a relay's definition changes.

use kite_commands::{Worker, describe};
use kite_domain::relay::{ReceiptMode, RelayProfile};
use kite_domain::slug::RelayId;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

use crate::attendance::Attendance;
use crate::board::Board;
use crate::breaker::BreakerGuard;
use crate::client::RelayClient;
use crate::client::observed::{NoClient, ObservedClient};
use crate::content::Texts;
use crate::desk::Desk;
use crate::limits::Pace;
use crate::parts::RelayParts;
use crate::queue::WantedLanes;
use crate::receipts::ReceiptPuller;
use crate::shares::{OfTheFirstShare, ShareKeeper, Shares, Wants, kept_for_passwords};
use crate::steward::Steward;
use crate::watched::Watched;
use crate::worker::{ActiveRelay, RelayWorker};

/// A worker to be driven: step after step until it is stopped. A step must not be cancelled while it runs; if it is,
/// nothing is lost, but its call is unknown and has to be asked about.
pub struct Hired {
    /// The worker.
    pub worker: Box<dyn Worker>,
    /// Moves when an idle worker should look again.
    pub wake: watch::Receiver<u64>,
    /// Becomes true when it must not be stepped any more. Others find what it had not finished.
    pub dismissed: watch::Receiver<bool>,
    /// Whether it may be made to wait.
    pub urgency: Urgency,
}

/// Whether a worker may be made to wait for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// It only carries one-time passwords: it goes before the others.
    Urgent,
    /// It may wait for others. It shares no connection with an urgent one, so it may run where it has to wait.
    Ordinary,
}

/// The workers of one relay under one definition.
struct Team {
    profile: Arc<RelayProfile>,
    breaker: Arc<BreakerGuard>,
    pace: Arc<Pace>,
    shares: Arc<Shares>,
    /// The number of the relay's definition, for its shares.
    definition: u64,
    dismissed: watch::Sender<bool>,
    /// Keeps workers that nothing wakes from being woken by its end.
    quiet: watch::Sender<u64>,
}

/// All relays.
pub struct Relays {
    parts: Arc<RelayParts>,
    texts: Arc<Texts>,
    desk: Desk,
    teams: HashMap<RelayId, Team>,
}

impl Relays {
    /// No workers yet: [`Relays::reconcile`] starts them.
    pub fn new(parts: RelayParts) -> Self {
        let texts = Arc::new(Texts::new(parts.settings.texts_max));
        let desk = Desk::new(parts.manage.vault().clone(), parts.lots.journal().clock().clone());
        Self { parts: Arc::new(parts), texts, desk, teams: HashMap::new() }
    }

    /// What is seen of each relay.
    pub fn desk(&self) -> Desk {
        self.desk.clone()
    }

    /// Compares the teams with the directory: stops the workers of relays that are gone or defined again, and returns
    /// those that are started now. Call it at start and whenever the directory has changed.
    ///
    /// No workers are started for a copy of a log that may be in use: nothing is handed over, and no receipts are
    /// pulled from relays, because the original would miss them.
    ///
    /// A relay's pace, shares and breaker survive a change of its definition, except the pace if its rate changes.
    pub async fn reconcile(&mut self) -> Vec<Hired> {
        let state = self.parts.directory.snapshot();
        if !state.instance.may_hand_over() {
            return Vec::new();
        }
        self.teams.retain(|relay, team| {
            let stays = state.relays.get(relay).is_some();
            if !stays {
                team.dismissed.send_replace(true);
            }
            stays
        });
        let mut hired = Vec::new();
        for (relay, entry) in state.relays.iter() {
            if self.teams.get(relay).is_none_or(|team| team.profile != entry.profile) {
                hired.extend(self.hire(relay, entry.profile.clone()).await);
            }
        }
        hired
    }

    async fn hire(&mut self, relay: &RelayId, profile: Arc<RelayProfile>) -> Vec<Hired> {
        let journal = self.parts.lots.journal();
        let settings = &self.parts.settings;
        let before = self.teams.get(relay);
        let breaker = match before {
            Some(team) => team.breaker.clone(),
            None => {
                let (breaker, awaited) = (settings.breaker.clone(), self.parts.awaited.clone());
                let directory = self.parts.directory.clone();
                Arc::new(BreakerGuard::new(relay.clone(), breaker, awaited, directory, journal.now()))
            }
        };
        let shares = match before {
            Some(team) => team.shares.clone(),
            None => Arc::new(Shares::new(&profile, self.parts.holder.clone())),
        };
        let definition = shares.define(&profile);
        let rate = profile.rate_parts_per_second;
        let pace = match before.filter(|team| team.profile.rate_parts_per_second == rate) {
            Some(team) => team.pace.clone(),
            None => {
                let pace = Pace::new(rate, settings.ordinary_rate_per_cent, journal.clock().clone());
                Arc::new(pace.sharing(shares.clone()))
            }
        };
        let team = Team {
            profile: profile.clone(),
            breaker,
            pace,
            shares,
            definition,
            dismissed: watch::Sender::new(false),
            quiet: watch::Sender::new(0),
        };
        let connector = &self.parts.connector;
        // A connection is served where it was made, so the urgent workers have their own.
        let clients = connector.client(&profile).and_then(|one| Ok((one, connector.client(&profile)?)));
        if clients.is_ok() {
            // Whoever is alone has all of them before the first worker looks.
            if let Err(error) = team.shares.look(Wants::Shares).await {
                tracing::warn!(%relay, error = describe(&error), "no shares of the relay yet");
            }
        }
        let hired = match clients {
            Ok(clients) => self.workers(&team, clients),
            // Its messages go elsewhere, or wait for a definition that works.
            Err(error) => self.stewards_of_nobody(&team, describe(&error.source)),
        };
        if let Some(before) = self.teams.insert(relay.clone(), team) {
            before.dismissed.send_replace(true);
        }
        hired
    }

    fn active(&self, team: &Team, client: Arc<dyn RelayClient>) -> Arc<ActiveRelay> {
        Arc::new(ActiveRelay::new(
            (*team.profile).clone(),
            client,
            (team.pace.clone(), team.shares.clone()),
            team.breaker.clone(),
            self.texts.clone(),
            self.parts.clone(),
        ))
    }

    /// The board of a relay, which stays when its definition changes.
    fn board(&self, team: &Team, attendance: &Arc<Attendance>) -> Arc<Board> {
        let relay = &team.profile.relay;
        if let Some(board) = self.desk.board(relay) {
            board.attended_by(attendance.clone());
            return board;
        }
        let queue = self.parts.queue.clone();
        let board = Arc::new(Board::new(relay.clone(), team.breaker.clone(), queue, attendance.clone()));
        self.desk.put(board.clone());
        board
    }

    /// A worker that is restarted when it panics.
    fn watched(
        &self,
        make: impl Fn() -> Box<dyn Worker> + Send + Sync + 'static,
        place: Option<(Arc<Attendance>, usize)>,
    ) -> Box<dyn Worker> {
        let clock = self.parts.lots.journal().clock().clone();
        Box::new(Watched::new(make, place, clock, self.parts.panics.clone()))
    }

    /// For a relay that cannot be called.
    fn stewards_of_nobody(&self, team: &Team, reason: String) -> Vec<Hired> {
        let relay = team.profile.relay.clone();
        let now = self.parts.lots.journal().now();
        let attendance = Arc::new(Attendance::unusable(relay.clone(), reason, now));
        let board = self.board(team, &attendance);
        let arrivals = self.parts.queue.arrivals(&relay);
        let steward =
            self.steward(team, self.active(team, Arc::new(NoClient)), &attendance, &board, arrivals);
        vec![steward, self.share_keeper(team, &attendance)]
    }

    fn share_keeper(&self, team: &Team, attendance: &Arc<Attendance>) -> Hired {
        let (shares, definition, attendance) = (team.shares.clone(), team.definition, attendance.clone());
        let (queue, directory) = (self.parts.queue.clone(), self.parts.directory.clone());
        let make = move || {
            let (attendance, directory) = (attendance.clone(), directory.clone());
            let keeper = ShareKeeper::new(shares.clone(), definition, attendance, directory, queue.clone());
            Box::new(keeper) as Box<dyn Worker>
        };
        Hired {
            worker: self.watched(make, None),
            wake: team.quiet.subscribe(),
            dismissed: team.dismissed.subscribe(),
            // What it renews late nobody may use.
            urgency: Urgency::Urgent,
        }
    }

    fn steward(
        &self,
        team: &Team,
        active: Arc<ActiveRelay>,
        attendance: &Arc<Attendance>,
        board: &Arc<Board>,
        wake: watch::Receiver<u64>,
    ) -> Hired {
        let (attendance, board) = (attendance.clone(), board.clone());
        let make = move || {
            Box::new(Steward::new(active.clone(), attendance.clone(), board.clone())) as Box<dyn Worker>
        };
        Hired {
            worker: self.watched(make, None),
            wake,
            dismissed: team.dismissed.subscribe(),
            urgency: Urgency::Ordinary,
        }
    }

    fn workers(
        &self,
        team: &Team,
        (urgent, ordinary): (Arc<dyn RelayClient>, Arc<dyn RelayClient>),
    ) -> Vec<Hired> {
        let profile = &team.profile;
        let queue = &self.parts.queue;
        let clock = self.parts.lots.journal().clock().clone();
        let workers = profile.calls_in_flight_max.max(1);
        // Those who are kept for passwords do not make a relay one that takes messages.
        let kept = usize::from(kept_for_passwords(workers));
        let seats = usize::from(workers) - kept;
        let attendance = Arc::new(Attendance::of_workers(profile.relay.clone(), seats));
        let board = self.board(team, &attendance);
        let observed = |client| -> Arc<dyn RelayClient> {
            Arc::new(ObservedClient::new(client, board.clone(), clock.clone()))
        };
        let (urgent, ordinary) = (observed(urgent), observed(ordinary));
        let (urgent, others) = (self.active(team, urgent), self.active(team, ordinary.clone()));
        let worker = |number: u16| {
            let urgency = urgency_of(number, workers);
            let (active, lanes) = match urgency {
                Urgency::Urgent => (urgent.clone(), WantedLanes::OtpOnly),
                Urgency::Ordinary => (others.clone(), WantedLanes::All),
            };
            let make = move || Box::new(RelayWorker::new(active.clone(), number, lanes)) as Box<dyn Worker>;
            Hired {
                worker: self.watched(
                    make,
                    usize::from(number).checked_sub(kept).map(|seat| (attendance.clone(), seat)),
                ),
                wake: queue.arrivals(&profile.relay),
                dismissed: team.dismissed.subscribe(),
                urgency,
            }
        };
        let mut hired: Vec<Hired> = (0..workers).map(worker).collect();
        if profile.receipts == ReceiptMode::Pull {
            let (relay, settings) = (profile.relay.clone(), &self.parts.settings);
            let interval = Duration::from_millis(settings.pull_interval_ms.max(1).into());
            let (receipts, pull_max) = (self.parts.receipts.clone(), settings.pull_max);
            let shares = team.shares.clone();
            let make = move || {
                let (client, clock) = (ordinary.clone(), clock.clone());
                let puller =
                    ReceiptPuller::new(relay.clone(), client, receipts.clone(), clock, interval, pull_max);
                Box::new(OfTheFirstShare::new(Box::new(puller), shares.clone())) as Box<dyn Worker>
            };
            hired.push(Hired {
                worker: self.watched(make, None),
                wake: team.quiet.subscribe(),
                dismissed: team.dismissed.subscribe(),
                urgency: Urgency::Ordinary,
            });
        }
        hired.push(self.steward(team, others, &attendance, &board, team.quiet.subscribe()));
        hired.push(self.share_keeper(team, &attendance));
        hired
    }
}

/// Workers reserved for one-time passwords go before the others.
fn urgency_of(number: u16, workers: u16) -> Urgency {
    if number < kept_for_passwords(workers) { Urgency::Urgent } else { Urgency::Ordinary }
}
