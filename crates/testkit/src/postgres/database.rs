//! A database of its own for one test, on the server that `cargo xtask test` starts.

use std::net::{SocketAddr, ToSocketAddrs};
use tokio_postgres::NoTls;
use uuid::Uuid;

use super::server::Server;

/// The URL of the server without a database.
const SERVER: &str = "TEST_POSTGRES";

/// A database. It goes with its server.
#[derive(Debug)]
pub struct Database {
    server: String,
    name: String,
}

impl Server {
    /// What tests read to find this server, the shared one.
    pub fn environment(&self) -> (&'static str, String) {
        (SERVER, self.url(""))
    }
}

impl Database {
    /// An empty database on the shared server.
    ///
    /// # Panics
    /// If there is no server: run the tests with `cargo xtask test`.
    pub async fn make() -> Self {
        let server = std::env::var(SERVER)
            .expect("TEST_POSTGRES says where the server is: run the tests with `cargo xtask test`");
        Self::at(server).await
    }

    /// An empty database on a server of one's own.
    ///
    /// # Panics
    /// If the server refuses.
    pub async fn on(server: &Server) -> Self {
        Self::at(server.url("")).await
    }

    /// An empty database on the server at this URL, which ends with a slash.
    ///
    /// # Panics
    /// If the server refuses.
    #[expect(clippy::disallowed_methods, reason = "the server is real, and outlives the process of the test")]
    pub async fn at(server: String) -> Self {
        // Not the number of the process: numbers come back while the server still has the databases of those before.
        let name = format!("test_{}", Uuid::now_v7().simple());
        // Nobody may be connected to the database that a new one is a copy of; this one is never used otherwise.
        execute(
            &format!("{server}postgres"),
            &format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'"),
        )
        .await;
        Self { server, name }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is, for its owner.
    pub fn url(&self) -> String {
        format!("{}{}", self.server, self.name)
    }

    /// Where it is, for somebody else.
    ///
    /// # Panics
    /// If the server's URL is none.
    pub fn url_for(&self, user: &str, password: &str) -> String {
        let (_, address) = self.server.rsplit_once('@').expect("the server's URL has a user");
        self.url_for_at(user, password, address.trim_end_matches('/'))
    }

    /// Where it is, for its owner, over something between (or on another server).
    ///
    /// # Panics
    /// If the server's URL is none.
    pub fn url_at(&self, address: &str) -> String {
        let (user, _) = self.server.rsplit_once('@').expect("the server's URL has a user");
        format!("{user}@{address}/{}", self.name)
    }

    /// Where it is, for somebody else, over something between.
    pub fn url_for_at(&self, user: &str, password: &str, address: &str) -> String {
        format!("postgres://{user}:{password}@{address}/{}", self.name)
    }

    /// The address of its server.
    ///
    /// # Panics
    /// If the server's URL is none.
    pub fn address(&self) -> SocketAddr {
        let (_, rest) = self.server.rsplit_once('@').expect("the server's URL has a user");
        let host = rest.trim_end_matches('/');
        let mut found = host.to_socket_addrs().expect("the server has an address");
        found.find(SocketAddr::is_ipv4).expect("the server listens on IPv4")
    }

    /// Does something in it, as its owner.
    ///
    /// # Panics
    /// If the server refuses.
    pub async fn execute(&self, sql: &str) {
        execute(&self.url(), sql).await;
    }

    /// Whether this is so in it.
    pub async fn is_so(&self, condition: &str) -> bool {
        is_so(&self.url(), condition).await
    }

    /// Tries something in it at a URL of it: what the server says if it refuses.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn attempt(url: &str, sql: &str) -> Result<(), tokio_postgres::Error> {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        let (done, _) = tokio::join!(
            async move {
                // The connection ends with its client.
                let client = client;
                client.batch_execute(sql).await
            },
            connection
        );
        done
    }
}

/// Whether this is so in the database at this URL. One that cannot be asked is not.
pub(super) async fn is_so(url: &str, condition: &str) -> bool {
    Database::attempt(url, &format!("DO $$ BEGIN ASSERT ({condition}); END $$")).await.is_ok()
}

async fn execute(url: &str, sql: &str) {
    Database::attempt(url, sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}
