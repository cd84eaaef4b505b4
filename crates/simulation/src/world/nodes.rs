//! The processes of a simulation: started, killed, stopped, cut off, with clocks that are wrong.

use kite_relay::{Connector, QueueLimits};
use smol_str::format_smolstr;
use std::path::Path;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

use super::World;
use crate::case::Setup;
use crate::check::Checked;
use crate::executor::{NodeIndex, Sim};
use crate::node::{KeptLeases, Links, Node, NodeClock, SimLeases};
use crate::platform::{Ground, SharedGround, start};
use crate::queue::{Broker, NodeQueue};
use crate::reach::Situation;
use crate::store::{FaultyStore, Log};
use crate::upgrade::{Newer, Upgrade};

/// How long a process that is asked to stop gets for it.
const STOPS_MS: i64 = 5_000;

/// What several processes take their work from.
pub(super) fn queue(sim: &Arc<Sim>, setup: Setup) -> Option<Arc<Broker>> {
    let limits = QueueLimits { jobs_max: setup.jobs_max as usize, ..QueueLimits::default() };
    (setup.nodes > 1).then(|| Arc::new(Broker::new(sim.clone(), limits)))
}

/// What several processes share beside the log.
pub(super) struct Shared<'s> {
    pub(super) queue: Option<&'s Arc<Broker>>,
    pub(super) leases: &'s Arc<KeptLeases>,
    pub(super) upgrade: &'s Arc<Upgrade>,
}

/// Processes over one log, each with read models of its own.
pub(super) fn nodes(
    sim: &Arc<Sim>,
    log: &Arc<Log>,
    shared: Shared<'_>,
    connector: Arc<dyn Connector>,
    data_dir: &Path,
    setup: Setup,
) -> Vec<Node> {
    let count = NodeIndex::from(setup.nodes.max(1));
    let Shared { queue, leases, upgrade } = shared;
    let node = |node: NodeIndex| {
        let store = FaultyStore::new(sim.clone(), log.clone(), upgrade.clone());
        let store = if setup.streams_apart { store.with_streams_apart() } else { store };
        let store = Arc::new(if setup.remote_log { store.heard_late() } else { store });
        let links = queue.map(|queue| Links {
            leases: Arc::new(SimLeases::new(sim.clone(), leases.clone())),
            queue: Arc::new(NodeQueue::new(sim.clone(), queue.clone(), node)),
        });
        let shared = links.as_ref().map(|links| SharedGround {
            leases: links.leases.clone(),
            queue: links.queue.clone(),
            name: format_smolstr!("node-{node}"),
        });
        let ground = Ground {
            sim: sim.clone(),
            node,
            clock: Arc::new(NodeClock::new(sim.clock.clone())),
            stop: CancellationToken::new(),
            shared,
            store: store.clone(),
            connector: connector.clone(),
            data_dir: if node == 0 { data_dir.to_owned() } else { data_dir.join(format!("node-{node}")) },
            setup,
        };
        Node {
            slot: Default::default(),
            store,
            ground,
            links,
            lives: 0,
            stands_still_until_ms: None,
            is_cut_off_until_ms: None,
            is_down_until_ms: None,
            is_behind_until_ms: None,
        }
    };
    (0..count).map(node).collect()
}

impl World {
    /// Where the read models of the first process are.
    pub(super) fn data_dir(&self) -> &Path {
        &self.nodes[0].ground.data_dir
    }

    /// One of them.
    pub(super) fn any_node(&self) -> NodeIndex {
        match self.nodes.len() {
            1 => 0,
            count => self.sim.below(count as u64) as NodeIndex,
        }
    }

    /// One of those that are to be hit. It may be any number: there are only so many.
    fn node(&self, index: u8) -> NodeIndex {
        NodeIndex::from(index) % self.nodes.len()
    }

    /// Starts a process on what there is.
    pub(super) fn boot_one(&mut self, node: NodeIndex) {
        self.checker.process_begins(self.sim.now());
        let life = &mut self.nodes[node];
        life.is_down_until_ms = None;
        life.lives += 1;
        life.ground.stop = CancellationToken::new();
        life.is_dead(false);
        if let Some(shared) = &mut life.ground.shared {
            shared.name = format_smolstr!("node-{node}-{}", life.lives);
        }
        if life.ground.setup.remote_log {
            self.sim.spawn(node, "head", life.store.clone().tell_head());
        }
        let (ground, slot, sim) = (life.ground.clone(), life.slot.clone(), self.sim.clone());
        self.sim.spawn(node, "boot", async move {
            let _under_way = sim.begin();
            loop {
                match start(&ground).await {
                    Ok(platform) => {
                        *slot.lock() = Some(platform);
                        return;
                    }
                    Err(_) => sim.sleep_ms(100).await,
                }
            }
        });
    }

    /// A process dies.
    pub(super) fn die_one(&mut self, node: NodeIndex) -> Checked {
        if self.sim.is_busy() {
            self.sim.reach(Situation::CrashUnderWay);
        }
        *self.nodes[node].slot.lock() = None;
        self.nodes[node].stands_still_until_ms = None;
        self.nodes[node].is_dead(true);
        self.executor.crash(node);
        self.settle_accounts()
    }

    /// A process dies, and is started again after a while.
    pub(super) fn goes_down(&mut self, index: u8, ms: u32) -> Checked {
        let node = self.node(index);
        self.sim.reach(Situation::NodeDown);
        self.die_one(node)?;
        self.nodes[node].is_down_until_ms = Some(self.after(ms));
        Ok(())
    }

    /// A process is asked to stop. What it has begun it brings to its end, unless that takes too long.
    pub(super) fn stops(&mut self, index: u8, ms: u32) -> Checked {
        let node = self.node(index);
        self.sim.reach(Situation::NodeStopped);
        self.nodes[node].ground.stop.cancel();
        self.pass_exactly(STOPS_MS)?;
        self.die_one(node)?;
        self.nodes[node].is_down_until_ms = Some(self.after(ms));
        Ok(())
    }

    /// A process stands still, and does not know it.
    pub(super) fn stands_still(&mut self, index: u8, ms: u32) {
        let node = self.node(index);
        self.sim.reach(Situation::NodeStoodStill);
        self.nodes[node].stands_still_until_ms = Some(self.after(ms));
        self.executor.pause(node);
    }

    /// A process cannot reach the log, nor the leases, nor the queue.
    pub(super) fn is_cut_off(&mut self, index: u8, ms: u32) {
        let node = self.node(index);
        self.sim.reach(Situation::NodeCutOff);
        self.nodes[node].is_cut_off_until_ms = Some(self.after(ms));
        self.nodes[node].cut_off(true);
    }

    pub(super) fn clock_is_off(&mut self, index: u8, ms: i32) {
        self.sim.reach(Situation::NodeClockOff);
        self.checker.clocks_are_off_by(i64::from(ms).abs());
        self.nodes[self.node(index)].ground.clock.is_off_by(ms.into());
    }

    /// All processes but this one are of a newer program from now on, and write this in another version. Not if nobody would be.
    pub(super) fn is_behind(&mut self, index: u8, newer: Newer, ms: u32) {
        let node = self.node(index);
        let mut others = self.nodes.iter().enumerate().filter(|(other, _)| *other != node);
        if !others.any(|(_, other)| !other.store.is_behind()) {
            return;
        }
        self.upgrade.begins(newer);
        self.nodes[node].is_behind_until_ms = Some(self.after(ms));
        self.nodes[node].store.set_behind(true);
    }

    /// The newer program is started in place of the older one. An operator retries what its read models could not
    /// understand: no program does that by itself.
    fn is_upgraded(&mut self, node: NodeIndex) -> Checked {
        let is_too_old =
            self.nodes[node].slot.lock().as_ref().is_some_and(|platform| platform.journal.too_old().is_so());
        if is_too_old {
            self.sim.reach(Situation::NodeTooOld);
        }
        let is_down = self.nodes[node].is_down_until_ms.is_some();
        self.die_one(node)?;
        let parked = self.take_in_parked(&self.nodes[node].ground.data_dir)?;
        if parked > 0 {
            self.sim.reach(Situation::NewerEventParked);
        }
        self.nodes[node].is_behind_until_ms = None;
        self.nodes[node].store.set_behind(false);
        if !is_down {
            self.boot_one(node);
        }
        Ok(())
    }

    /// All are of the newer program.
    pub(super) fn upgrade_all(&mut self) -> Checked {
        let behind = (0..self.nodes.len()).filter(|node| self.nodes[*node].store.is_behind());
        behind.collect::<Vec<_>>().into_iter().try_for_each(|node| self.is_upgraded(node))
    }

    fn after(&self, ms: u32) -> i64 {
        self.sim.now_ms() + i64::from(ms)
    }

    /// What was done to processes for a while is over.
    pub(super) fn mend_nodes(&mut self) {
        let now_ms = self.sim.now_ms();
        let is_over = |until: &mut Option<i64>| until.take_if(|until_ms| *until_ms <= now_ms).is_some();
        for node in 0..self.nodes.len() {
            if is_over(&mut self.nodes[node].stands_still_until_ms) {
                self.executor.go_on(node);
            }
            if is_over(&mut self.nodes[node].is_cut_off_until_ms) {
                self.nodes[node].cut_off(false);
            }
            if is_over(&mut self.nodes[node].is_down_until_ms) {
                self.boot_one(node);
            }
            if is_over(&mut self.nodes[node].is_behind_until_ms)
                && let Err(what) = self.is_upgraded(node)
            {
                self.sim.violation(what);
            }
        }
    }

    /// All of it is over now, and the clocks are right.
    pub(super) fn heal_nodes(&mut self) {
        let now_ms = self.sim.now_ms();
        for node in &mut self.nodes {
            for until in
                [&mut node.stands_still_until_ms, &mut node.is_cut_off_until_ms, &mut node.is_down_until_ms]
            {
                *until = until.map(|_| now_ms);
            }
            node.ground.clock.is_off_by(0);
        }
        self.checker.clocks_are_right(now_ms);
        self.mend_nodes();
    }
}
