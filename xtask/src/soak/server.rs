//! The PostgreSQL server that everything is in, and what may go wrong with it.

use kite_testkit::postgres::Database;
use kite_testkit::proxy::Proxy;

use crate::servers::PostgresServer;

/// A server of the run's own, reached over a proxy.
pub(super) struct SoakServer {
    server: PostgresServer,
    database: Database,
    proxy: Proxy,
    pub(super) kills: u64,
}

impl SoakServer {
    /// With an empty database.
    pub(super) async fn start() -> anyhow::Result<Self> {
        let server = PostgresServer::start()?;
        let database = Database::at(server.url()).await;
        Ok(Self { proxy: Proxy::start(server.address())?, server, database, kills: 0 })
    }

    /// Where Kite finds the database.
    pub(super) fn url(&self) -> String {
        self.database.url_at(&self.proxy.address().to_string())
    }

    /// Ends all connections.
    pub(super) fn cut(&self) {
        self.proxy.cut();
    }

    /// Lets nothing pass until it is released.
    pub(super) fn hold(&self) {
        self.proxy.hold();
    }

    /// Lets everything pass.
    pub(super) fn release(&self) {
        self.proxy.release();
    }

    /// SIGKILL, and a start on the same data.
    pub(super) fn kill_and_start_again(&mut self) -> anyhow::Result<()> {
        self.kills += 1;
        self.server.kill_and_start_again()
    }

    /// Stops it. One that has ended by itself is an error.
    pub(super) fn stop(self) -> anyhow::Result<()> {
        self.server.stop()
    }
}
