//! One process of Kite in the simulation: the parts and loops of the binary, on one thread and chance.

use kite_commands::accept::{AcceptLimits, Acceptance, BacklogLevel};
use kite_commands::address_book::AddressBook;
use kite_commands::describe;
use kite_commands::lease::{LeaseHolder, Leases};
use kite_commands::manage::Manage;
use kite_commands::receipts::ReceiptBook;
use kite_commands::sealer::Sealer;
use kite_commands::{Clock, Journal, WriteSide};
use kite_domain::advice::AdviceSettings;
use kite_event_store::EventStore;
use kite_projections::ReadModels;
use kite_relay::{Connector, QueueLimits, RelaySettings, WorkQueue};
use kite_runtime::{BrokenOff, Host, HostPauses, Parts, Place, Post, ProjectorWatch, Reading, Staff};
use smol_str::SmolStr;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use crate::case::Setup;
use crate::check::Checked;
use crate::executor::{Busy, NodeIndex, Sim};
use crate::node::NodeClock;
use crate::queue::NodeQueue;
use crate::relays::SIMULATED_PANIC;

/// So small that there is often more than one.
const UNROUTED_PAGE: usize = 2;

/// What a process is made of that outlives it.
#[derive(Clone)]
pub(crate) struct Ground {
    pub(crate) sim: Arc<Sim>,
    /// Which process.
    pub(crate) node: NodeIndex,
    pub(crate) clock: Arc<NodeClock>,
    /// Cancelled when this life of it is to end.
    pub(crate) stop: CancellationToken,
    /// What the processes share, where there are several.
    pub(crate) shared: Option<SharedGround>,
    pub(crate) store: Arc<dyn EventStore>,
    pub(crate) connector: Arc<dyn Connector>,
    pub(crate) data_dir: PathBuf,
    pub(crate) setup: Setup,
}

/// What several processes share beside the log.
#[derive(Clone)]
pub(crate) struct SharedGround {
    pub(crate) leases: Arc<dyn Leases>,
    pub(crate) queue: Arc<NodeQueue>,
    /// The name of this life of the process.
    pub(crate) name: SmolStr,
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
    /// What waits for relays, as it is.
    pub(crate) queue: Arc<dyn WorkQueue>,
}

/// The simulation as what a process runs on. It is seldom asked to stop: mostly it crashes.
#[derive(Clone)]
struct SimHost {
    sim: Arc<Sim>,
    node: NodeIndex,
    clock: Arc<NodeClock>,
    stop: CancellationToken,
}

impl Host for SimHost {
    type UnderWay = Busy;

    fn clock(&self) -> Arc<dyn Clock> {
        self.clock.clone()
    }

    fn spawn(&self, _: Place, name: &str, task: impl Future<Output = ()> + Send + 'static) {
        self.sim.spawn(self.node, name, task);
    }

    fn sleep(&self, time: Duration) -> impl Future<Output = ()> + Send {
        self.sim.sleep_ms(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    }

    fn give_way(&self) -> impl Future<Output = ()> + Send {
        self.sim.yields(1)
    }

    /// Before and after it others continue.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, BrokenOff> {
        self.sim.some_yields().await;
        let answer = read();
        self.sim.some_yields().await;
        Ok(answer)
    }

    fn stop(&self, _: Place) -> CancellationToken {
        self.stop.clone()
    }

    fn fail(&self, _: Place, reason: String) {
        self.sim.violation(format!("the process cannot go on: {reason}"));
    }

    fn begin(&self) -> Busy {
        self.sim.begin()
    }
}

/// Starts a process on what the log and the read models hold.
pub(crate) async fn start(ground: &Ground) -> Checked<Platform> {
    let Ground { sim, store, setup, node, clock, shared, .. } = ground;
    let host = SimHost { sim: sim.clone(), node: *node, clock: clock.clone(), stop: ground.stop.clone() };
    let journal = Journal::new(store.clone(), clock.clone(), sim.clock.clone())
        .with_pauses(Arc::new(HostPauses(host.clone())));
    let journal = match shared {
        Some(shared) => journal.of_node(shared.name.clone()).shared(),
        None => journal,
    };
    let write_side = WriteSide::new(journal.clone(), setup.kept_messages_max, Arc::new(|| [7; 32]));
    let models = ReadModels::open(&ground.data_dir).map_err(|error| describe(&error))?;
    let reading = Reading { figures_window: chrono::TimeDelta::minutes(15), unrouted_page: UNROUTED_PAGE };
    let parts = Parts::open(&host, write_side.clone(), models.clone(), reading).await;
    let parts = parts.map_err(|error| describe(&error))?;
    let limits = QueueLimits { jobs_max: setup.jobs_max as usize, ..QueueLimits::default() };
    let mut staff = match shared {
        Some(shared) => {
            let holder = LeaseHolder::new(shared.leases.clone(), shared.name.clone(), clock.clone());
            Staff::on_queue(host, parts, shared.queue.clone()).sharing(holder)
        }
        None => Staff::new(host, parts, limits),
    };
    staff.start_projectors(&ProjectorWatch::default()).map_err(|error| describe(&error))?;
    staff.start_common();
    staff.start_router(setup.advises.then(AdviceSettings::default));
    staff.start_timekeeper();
    // Nothing waits for a seal.
    staff.timed_as(Post::Sealer, Place::Background, Sealer::new(journal.clone(), None));
    staff.start_publisher();
    let acceptance = write_side.acceptance(accept_limits(setup), Arc::new(BacklogLevel::default));
    staff.start_load_watch(&acceptance).await;
    let panics = {
        let sim = sim.clone();
        Arc::new(move |words: &str| {
            if words != SIMULATED_PANIC {
                sim.violation(format!("a worker panicked: {words}"));
            }
        })
    };
    staff.start_relays(ground.connector.clone(), panics, RelaySettings::default());
    let WriteSide { manage, receipts, address_book, .. } = write_side;
    let queue: Arc<dyn WorkQueue> = match shared {
        Some(shared) => shared.queue.broker().lanes().clone(),
        None => staff.queue().clone(),
    };
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
