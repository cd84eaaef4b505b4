//! Where the PostgreSQL server is, if the log is kept in one.

use anyhow::{Context, ensure};
use kite_postgres::Server;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;

use super::tls_to_server::tls;

/// A server.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostgresSettings {
    /// Where it is, with the user and its password.
    pub url: String,
    /// Whether it is talked to with TLS.
    pub sslmode: SslMode,
    /// The authorities that its certificate must lead to; empty: the system's.
    pub authorities_file: PathBuf,
    /// Connections for reading.
    pub connections_max: usize,
}

/// As PostgreSQL's own clients call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SslMode {
    /// TLS, with a certificate for the very name of the server.
    VerifyFull,
    /// No TLS.
    Disable,
}

impl PostgresSettings {
    /// The server that is meant.
    ///
    /// # Errors
    /// Names the key that is wrong, and never the URL.
    pub fn server(&self) -> anyhow::Result<Server> {
        ensure!(!self.url.is_empty(), "postgres.url: is empty (KITE_POSTGRES__URL)");
        ensure!(self.connections_max > 0, "postgres.connections_max: 0 would let nothing be read");
        let tls = match self.sslmode {
            SslMode::VerifyFull => {
                let tls = tls(&self.authorities_file, None).context("postgres.authorities_file")?;
                Some(Arc::new(tls))
            }
            SslMode::Disable => None,
        };
        Ok(Server { url: self.url.clone(), tls })
    }
}
