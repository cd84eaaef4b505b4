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
    Postgres(SoakServer),
    /// Log and read models in PostgreSQL, the work queue in NATS, and several processes.
    Cluster(Box<Cluster>),
}

impl Ground {
    /// The processes that stand on it.
    pub(super) fn seats(&self) -> Vec<Seat> {
        let settings = match self {
            Self::Files => String::new(),
            Self::Postgres(server) => in_postgres(&server.url()),
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

/// Log and read models in the database at this URL.
pub(super) fn in_postgres(url: &str) -> String {
    format!(
        "[store]\nengine = \"postgres\"\n[read_models]\nengine = \"postgres\"\n[postgres]\nurl = {url:?}\nsslmode = \"disable\"\n"
    )
}
