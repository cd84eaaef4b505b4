//! The PostgreSQL server of a cluster and its standby, of which one may be written to.

use std::net::SocketAddr;

use kite_testkit::postgres::{Database, Server};

use crate::servers::PostgresServer;

/// Whether the standby is there and has whatever is in the server.
const HAS_STANDBY: &str =
    "SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync' AND state = 'streaming'
     AND flush_lsn >= pg_current_wal_flush_lsn()";

/// Both servers.
pub(super) struct Pair {
    primary: PostgresServer,
    /// It has whatever the primary has acknowledged.
    standby: Server,
    is_promoted: bool,
    database: Database,
}

impl Pair {
    /// With an empty database.
    pub(super) async fn start() -> anyhow::Result<Self> {
        let mut primary = PostgresServer::start()?;
        let database = Database::at(primary.url()).await;
        let standby = primary.server().synchronous_standby().await?;
        Ok(Self { primary, standby, is_promoted: false, database })
    }

    pub(super) fn addresses(&self) -> [SocketAddr; 2] {
        [self.primary.address(), self.standby.address()]
    }

    /// The database at the one of these addresses that may be written to.
    pub(super) fn url_at(&self, addresses: &[SocketAddr]) -> String {
        let addresses: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
        self.database.url_at(&addresses.join(","))
    }

    /// The one that may be written to loses its power, and comes back.
    pub(super) fn kill_and_start_again(&mut self) -> anyhow::Result<()> {
        let server = if self.is_promoted { &mut self.standby } else { self.primary.server() };
        server.kill()?;
        server.start_again()
    }

    /// The primary loses its power for good, and the standby takes its place.
    pub(super) async fn promote(&mut self) -> anyhow::Result<()> {
        // What a primary had not acknowledged when it was killed, it shows once it is started again, and the standby may not have it yet.
        self.primary.server().wait_until(HAS_STANDBY).await?;
        self.primary.server().kill()?;
        self.is_promoted = true;
        self.standby.promote()
    }

    /// Stops what runs. One that has ended by itself is an error.
    pub(super) fn stop(self) -> anyhow::Result<()> {
        self.standby.stop()?;
        if self.is_promoted { Ok(()) } else { self.primary.stop() }
    }
}
