//! What the Kite processes of a run stand on: files, one server, or a cluster.

use std::path::Path;

use super::cluster::Cluster;
use super::node::Seat;
use super::server::SoakServer;

/// Where log, read models and work queue are.
pub(super) enum Ground {
    /// In the data directory of the only process.
    Files,
    /// Log and read models in PostgreSQL, and one process.
    Postgres(Box<SoakServer>),
    /// Log and read models in PostgreSQL, the work queue in NATS, and several processes.
    Cluster(Box<Cluster>),
}

impl Ground {
    /// The processes that stand on it.
    pub(super) fn seats(&self) -> Vec<Seat> {
        let settings = match self {
            Self::Files => String::new(),
            Self::Postgres(server) => in_postgres(&server.url(), None),
            Self::Cluster(cluster) => return cluster.seats(),
        };
        vec![Seat { name: "kite".to_owned(), role: None, settings }]
    }

    /// The configuration of an operator, if it is not that of the only process.
    pub(super) fn operator(&self, data: &Path) -> Option<String> {
        match self {
            Self::Files | Self::Postgres(_) => None,
            Self::Cluster(cluster) => Some(cluster.operator().configuration(data, None)),
        }
    }

    /// Whether there are schemas to be made first.
    pub(super) fn is_postgres(&self) -> bool {
        !matches!(self, Self::Files)
    }
}

/// Log and read models in the database at this URL, each over at most so many connections of a process.
pub(super) fn in_postgres(url: &str, connections_max: Option<usize>) -> String {
    let connections = connections_max.map_or_else(String::new, |max| format!("connections_max = {max}\n"));
    format!(
        "[store]\nengine = \"postgres\"\n[read_models]\nengine = \"postgres\"\n{connections}\
         [postgres]\nurl = {url:?}\nsslmode = \"disable\"\n{connections}"
    )
}
