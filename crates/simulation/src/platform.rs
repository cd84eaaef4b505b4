//! One process of Kite: its parts wired as in production, each worker a future that steps it.

use kite_commands::accept::{AcceptLimits, Acceptance, BacklogLevel, LoadWatch};
use kite_commands::address_book::AddressBook;
use kite_commands::adviser::Adviser;
use kite_commands::directory::{Directory, DirectoryFeed};
use kite_commands::manage::Manage;
use kite_commands::open_work::OpenWork;
use kite_commands::receipts::ReceiptBook;
use kite_commands::refusal_keeper::RefusalKeeper;
use kite_commands::router::Router;
use kite_commands::sealer::Sealer;
use kite_commands::settler::Settler;
use kite_commands::timekeeper::Timekeeper;
use kite_commands::{Journal, Lots, Step, Worker, WorkerError};
use kite_domain::advice::AdviceSettings;
use kite_domain::instance::Standing;
use kite_event_store::EventStore;
use kite_projections::{ProjectError, ReadModels, Runner};
use kite_relay::{
    Connector, InProcessQueue, Publisher, QueueFeeder, QueueLimits, RelayParts, RelaySettings, Relays,
    Sweeper,
};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;

use crate::executor::Sim;
use crate::open_work::SimOpenWork;
use crate::operation::Setup;
use crate::relays::SIMULATED_PANIC;

/// The first pause after a failed step; it doubles up to the most.
const RETRY_FIRST_MS: u64 = 50;
const RETRY_MAX_MS: u64 = 5_000;
/// However idle, a worker looks again after this long.
const IDLE_MAX_MS: i64 = 1_000;

/// What a process is made of that outlives it.
#[derive(Clone)]
pub(crate) struct Ground {
    pub(crate) sim: Arc<Sim>,
    pub(crate) store: Arc<dyn EventStore>,
    pub(crate) connector: Arc<dyn Connector>,
    pub(crate) data_dir: PathBuf,
    pub(crate) setup: Setup,
}

/// The parts that requests go to.
#[derive(Clone)]
pub(crate) struct Platform {
    pub(crate) acceptance: Acceptance,
    pub(crate) manage: Manage,
    pub(crate) receipts: ReceiptBook,
    pub(crate) journal: Journal,
    pub(crate) address_book: AddressBook,
    pub(crate) models: ReadModels,
    pub(crate) queue: Arc<InProcessQueue>,
}

/// Starts a process on what the log and the read models hold.
pub(crate) async fn start(ground: &Ground) -> Result<Platform, String> {
    let Ground { sim, store, setup, .. } = ground;
    let journal = Journal::new(store.clone(), sim.clock.clone(), sim.clock.clone());
    let directory = Directory::default();
    directory.catch_up(&journal).await.map_err(|error| error.to_string())?;
    let models = ReadModels::open(&ground.data_dir).map_err(|error| error.to_string())?;
    let lots = Lots::new(journal.clone(), setup.kept_messages_max);
    let manage = Manage::new(journal.clone(), directory.clone(), Arc::new(|| [7; 32]));
    let receipts = ReceiptBook::new(lots.clone(), directory.clone());
    let reader = Arc::new(SimOpenWork { sim: sim.clone(), models: models.clone() });
    let open_work: Arc<dyn OpenWork> = reader.clone();
    let limits = QueueLimits { jobs_max: setup.jobs_max as usize, ..QueueLimits::default() };
    let queue = Arc::new(InProcessQueue::new(limits));
    for projector in models.projectors(store.clone()).map_err(|error| error.to_string())? {
        sim.spawn(format!("project-{}", projector.name()), project(sim.clone(), projector, store.head()));
    }
    let follow = |worker: Box<dyn Worker>| spawn(sim, worker, store.head(), None);
    follow(Box::new(DirectoryFeed::new(directory.clone(), journal.clone())));
    let router = Router::new(lots.clone(), directory.clone(), open_work.clone());
    let awaited = router.awaited();
    follow(Box::new(router));
    let feeder = QueueFeeder::new(lots.clone(), queue.clone());
    let sweeper = Sweeper::new(feeder.clone(), open_work.clone(), sim.clock.clone());
    let timekeeper =
        Timekeeper::new(lots.clone(), directory.clone(), open_work.clone(), receipts.clone(), sweeper.hint());
    follow(Box::new(Publisher::new(feeder.clone(), models.work.position())));
    let (_, quiet) = watch::channel(0);
    let timed = |worker: Box<dyn Worker>| spawn(sim, worker, quiet.clone(), None);
    timed(Box::new(timekeeper));
    // Only a copy has anything to settle; in other cases nothing is to be drawn for it.
    if directory.snapshot().instance != Standing::Original {
        follow(Box::new(Settler::new(lots.clone(), directory.clone())));
    }
    timed(Box::new(Sealer::new(journal.clone(), None)));
    timed(Box::new(RefusalKeeper::new(manage.clone(), reader)));
    timed(Box::new(sweeper));
    let acceptance = Acceptance::new(
        lots.clone(),
        directory.clone(),
        accept_limits(setup),
        Arc::new(BacklogLevel::default),
    );
    timed(Box::new(LoadWatch::new(acceptance.clone(), open_work.clone())));
    if setup.advises {
        timed(Box::new(Adviser::new(
            journal.clone(),
            directory.clone(),
            manage.clone(),
            open_work,
            AdviceSettings::default(),
        )));
    }
    let relays = Relays::new(RelayParts {
        lots: lots.clone(),
        directory: directory.clone(),
        manage: manage.clone(),
        receipts: receipts.clone(),
        queue: queue.clone(),
        feeder,
        connector: ground.connector.clone(),
        awaited,
        panics: {
            let sim = sim.clone();
            Arc::new(move |words: &str| {
                if words != SIMULATED_PANIC {
                    sim.violation(format!("a worker panicked: {words}"));
                }
            })
        },
        settings: RelaySettings::default(),
    });
    sim.spawn("relays", hire(sim.clone(), relays, directory.clone()));
    let address_book = AddressBook::new(journal.clone());
    Ok(Platform { acceptance, manage, receipts, journal, address_book, models, queue })
}

/// What is kept for passwords is much here, so that it matters.
pub(crate) fn accept_limits(setup: &Setup) -> AcceptLimits {
    let usual = AcceptLimits::default();
    let open_messages_max = match setup.open_messages_max {
        0 => usual.open_messages_max,
        few => few.into(),
    };
    AcceptLimits { open_messages_max, password_reserve_per_cent: 30, ..usual }
}

fn spawn(
    sim: &Arc<Sim>,
    worker: Box<dyn Worker>,
    wake: watch::Receiver<u64>,
    dismissed: Option<watch::Receiver<bool>>,
) {
    let name = worker.name().to_owned();
    sim.spawn(name, drive(sim.clone(), worker, wake, dismissed));
}

/// The loop over a worker's step.
async fn drive(
    sim: Arc<Sim>,
    mut worker: Box<dyn Worker>,
    mut wake: watch::Receiver<u64>,
    dismissed: Option<watch::Receiver<bool>>,
) {
    let mut retry_ms = RETRY_FIRST_MS;
    loop {
        if dismissed.as_ref().is_some_and(|dismissed| *dismissed.borrow()) {
            return;
        }
        wake.mark_unchanged();
        let under_way = sim.begin();
        let stepped = worker.step().await;
        drop(under_way);
        match stepped {
            Ok(Step::Worked) => {
                retry_ms = RETRY_FIRST_MS;
                sim.yields(1).await;
            }
            Ok(Step::Idle(until)) => {
                retry_ms = RETRY_FIRST_MS;
                wait(&sim, &mut wake, until.map(|until| until.timestamp_millis())).await;
            }
            Err(WorkerError::Retry(_)) => {
                sim.sleep_ms(retry_ms).await;
                retry_ms = (retry_ms * 2).min(RETRY_MAX_MS);
            }
            Err(WorkerError::Fatal(reason)) => {
                sim.violation(format!("{} cannot go on: {reason}", worker.name()));
                return;
            }
        }
    }
}

/// Until something wakes, or the time has come. As in production it looks again after a second in any case.
async fn wait(sim: &Arc<Sim>, wake: &mut watch::Receiver<u64>, until_ms: Option<i64>) {
    let now_ms = sim.now_ms();
    let cap_ms = now_ms + IDLE_MAX_MS;
    // A step that is idle until a moment that is over must not spin.
    let until_ms = until_ms.map_or(cap_ms, |until_ms| until_ms.clamp(now_ms + 1, cap_ms));
    let time = sim.sleep_until(until_ms);
    let woken = async {
        if wake.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    futures::pin_mut!(time, woken);
    futures::future::select(time, woken).await;
}

/// Hires and dismisses relay workers as the directory changes.
async fn hire(sim: Arc<Sim>, mut relays: Relays, directory: Directory) {
    let mut changes = directory.changes();
    loop {
        changes.mark_unchanged();
        let under_way = sim.begin();
        let (hired, failure) = relays.reconcile().await;
        drop(under_way);
        for one in hired {
            spawn(&sim, one.worker, one.wake, Some(one.dismissed));
        }
        let again = async {
            match failure {
                Some(_) => sim.sleep_ms(1_000).await,
                None => std::future::pending().await,
            }
        };
        let changed = async {
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        futures::pin_mut!(again, changed);
        futures::future::select(again, changed).await;
    }
}

/// The loop over a projector's step.
async fn project(sim: Arc<Sim>, mut projector: Box<dyn Runner>, mut head: watch::Receiver<u64>) {
    loop {
        let under_way = sim.begin();
        let stepped = projector.step(sim.now()).await;
        drop(under_way);
        match stepped {
            Ok(kite_projections::Step::Advanced { has_more: true, .. }) => sim.yields(1).await,
            Ok(
                kite_projections::Step::Advanced { position, .. } | kite_projections::Step::Idle { position },
            ) => {
                if *head.borrow_and_update() <= position && head.changed().await.is_err() {
                    return;
                }
                sim.sleep_ms(kite_projections::COALESCING.as_millis() as u64).await;
            }
            Err(ProjectError::TakenOver { .. }) => {
                sim.violation(format!("the projector {} was taken over", projector.name()));
                return;
            }
            Err(_) => sim.sleep_ms(500).await,
        }
    }
}
