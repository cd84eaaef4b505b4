//! Several servers that keep the same messages.

use std::ops::{Index, IndexMut};

use anyhow::Context;

use super::installation::Installation;
use super::monitoring::Led;
use super::options::{Options, Routes, Seat};
use super::server::{PATIENCE, Server};
use crate::wait::{free_addresses, wait_for, wait_until};

/// All is well with what a server knows of its cluster, apart from its streams; and with its streams too.
const KNOWS_THE_CLUSTER: &str = "/healthz?js-server-only=true";
const HAS_EVERYTHING: &str = "/healthz";

/// Servers with JetStream in one cluster. By its index each of them is killed, paused and started again like one by itself:
/// `cluster[0].kill()`. None tells clients where the others are, so that clients which come through something between do not go around
/// it.
pub struct Cluster {
    nodes: Vec<Server>,
}

impl Cluster {
    /// Makes and starts so many servers on free ports, and waits until they have a leader and any of them can be given replicas.
    ///
    /// # Errors
    /// When they do not start or find no leader; shows what they printed.
    pub async fn start(installation: &Installation, nodes: usize) -> anyhow::Result<Self> {
        Self::start_with(installation, nodes, Options::default()).await
    }

    /// The same, with options, which are those of each server.
    ///
    /// # Errors
    /// See [`Cluster::start`].
    pub async fn start_with(
        installation: &Installation,
        nodes: usize,
        options: Options,
    ) -> anyhow::Result<Self> {
        let mut cluster = Self { nodes: Vec::with_capacity(nodes) };
        for seat in seats(nodes)? {
            cluster.nodes.push(Server::launch(installation, &options, seat)?);
        }
        for node in &mut cluster.nodes {
            node.wait_until_ready().await?;
        }
        if options.has_jetstream {
            cluster.wait_until_complete().await?;
        }
        Ok(cluster)
    }

    /// How many servers it has, with those that do not run.
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The URLs of all servers, in their order.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(Server::url).collect()
    }

    /// The server that leads the cluster, as soon as one does. (It places streams and consumers.)
    ///
    /// # Errors
    /// When none does within a minute or two.
    pub async fn leader(&self) -> anyhow::Result<usize> {
        self.wait_for_leader("a leader of the cluster", Led::Cluster).await
    }

    /// The server that leads the replicas of a stream, as soon as one does.
    ///
    /// # Errors
    /// When none does within a minute or two.
    pub async fn stream_leader(&self, stream: &str) -> anyhow::Result<usize> {
        self.wait_for_leader(&format!("a leader of the stream {stream}"), Led::Stream(stream)).await
    }

    /// The server that leads the replicas of a consumer of a stream, as soon as one does.
    ///
    /// # Errors
    /// When none does within a minute or two.
    pub async fn consumer_leader(&self, stream: &str, consumer: &str) -> anyhow::Result<usize> {
        let what = format!("a leader of the consumer {consumer}");
        self.wait_for_leader(&what, Led::Consumer(stream, consumer)).await
    }

    /// Waits until every server that runs has everything that it is to have: then the next one may be taken away.
    ///
    /// # Errors
    /// When one has not within a minute or two; shows what they printed.
    pub async fn wait_until_current(&self) -> anyhow::Result<()> {
        let is_current = async || {
            for node in self.nodes.iter().filter(|node| node.runs()) {
                if !node.monitoring().is_well(HAS_EVERYTHING).await {
                    return false;
                }
            }
            true
        };
        let waited = wait_until("servers with everything", PATIENCE, is_current).await;
        waited.with_context(|| self.log())
    }

    /// What the servers have printed last, for a failure message.
    pub fn log(&self) -> String {
        self.nodes.iter().map(Server::log).collect()
    }

    /// Waits until each server knows the leader, and the leader all others.
    async fn wait_until_complete(&self) -> anyhow::Result<()> {
        let is_complete = async || {
            for node in &self.nodes {
                if !node.monitoring().is_well(KNOWS_THE_CLUSTER).await {
                    return false;
                }
            }
            let Some(leader) = self.only_leader(Led::Cluster).await else { return false };
            self.nodes[leader].monitoring().followers().await == self.nodes.len() - 1
        };
        wait_until("a cluster that is complete", PATIENCE, is_complete).await.with_context(|| self.log())
    }

    async fn wait_for_leader(&self, what: &str, of: Led<'_>) -> anyhow::Result<usize> {
        let waited = wait_for(what, PATIENCE, async || self.only_leader(of).await).await;
        waited.with_context(|| self.log())
    }

    /// The only one that says of itself that it leads. What others say may be of yesterday, and one that stood still may not know yet
    /// that it does not lead any more.
    async fn only_leader(&self, of: Led<'_>) -> Option<usize> {
        let mut leaders = Vec::new();
        for (index, node) in self.nodes.iter().enumerate().filter(|(_, node)| node.runs()) {
            if node.monitoring().leader(of).await.as_deref() == Some(node.name()) {
                leaders.push(index);
            }
        }
        (leaders.len() == 1).then(|| leaders[0])
    }
}

impl Index<usize> for Cluster {
    type Output = Server;

    fn index(&self, index: usize) -> &Server {
        &self.nodes[index]
    }
}

impl IndexMut<usize> for Cluster {
    fn index_mut(&mut self, index: usize) -> &mut Server {
        &mut self.nodes[index]
    }
}

/// Names and free ports for so many servers of one cluster.
fn seats(nodes: usize) -> anyhow::Result<Vec<Seat>> {
    let all = free_addresses(nodes * 3)?;
    let routes: Vec<_> = all.iter().skip(2).step_by(3).copied().collect();
    let seat = |(index, ports): (usize, &[_])| Seat {
        name: format!("node-{index}"),
        address: ports[0],
        monitoring: ports[1],
        routes: Some(Routes { own: ports[2], all: routes.clone() }),
    };
    Ok(all.chunks_exact(3).enumerate().map(seat).collect())
}
