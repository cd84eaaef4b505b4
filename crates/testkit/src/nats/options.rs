//! What a server is to be like, and its configuration file. NATS reads JSON.

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};

use super::accounts::Accounts;
use crate::certificates::Made;

/// What a server is to be like. By default it has JetStream, and takes whoever comes, without TLS.
#[derive(Clone)]
pub struct Options {
    /// Whether it keeps messages.
    pub has_jetstream: bool,
    /// How many bytes all streams in files may take together; none: as many as there is room for. What is published beyond it is refused.
    pub file_store_bytes_max: Option<u64>,
    /// Whether what is acknowledged has been forced to the disk. (Whatever was acknowledged is there after [`kill`](super::Server::kill) all
    /// the same: the system has it.)
    pub is_forced_to_disk: bool,
    /// Who alone is taken; none: whoever comes.
    pub login: Option<Login>,
    /// The operator whose accounts and users are taken; none: there is none.
    pub accounts: Option<Arc<Accounts>>,
    /// How connections are encrypted; none: they are not.
    pub tls: Option<Tls>,
}

/// Who is taken.
#[derive(Debug, Clone)]
pub struct Login {
    /// The user's name.
    pub user: String,
    /// The user's password.
    pub password: String,
}

/// How connections are encrypted.
#[derive(Debug, Clone)]
pub struct Tls {
    /// The server's own certificate, which is for `localhost`.
    pub server: Made,
    /// The authority (PEM) by which each client needs a certificate; none: clients need no certificate.
    pub clients: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            has_jetstream: true,
            file_store_bytes_max: None,
            is_forced_to_disk: false,
            login: None,
            accounts: None,
            tls: None,
        }
    }
}

/// Which server of its cluster a server is, if it is in one, and where it listens.
#[derive(Debug, Clone)]
pub(super) struct Seat {
    /// No two servers of a cluster have the same.
    pub(super) name: String,
    /// For clients.
    pub(super) address: SocketAddr,
    /// For questions how it is.
    pub(super) monitoring: SocketAddr,
    /// For the other servers of the cluster.
    pub(super) routes: Option<Routes>,
}

/// Where servers of a cluster find each other.
#[derive(Debug, Clone)]
pub(super) struct Routes {
    pub(super) own: SocketAddr,
    /// With its own.
    pub(super) all: Vec<SocketAddr>,
}

/// The name of every cluster: no two of them ever meet.
const CLUSTER: &str = "kite";

impl Options {
    /// Writes the configuration, and what belongs to it, into a directory that is the server's own.
    pub(super) fn write(&self, seat: &Seat, directory: &Path) -> anyhow::Result<PathBuf> {
        let mut configuration = json!({
            "server_name": seat.name,
            "listen": seat.address.to_string(),
            "http": seat.monitoring.to_string(),
            // Whoever leaves in peace (lame duck) gives its clients this long to go elsewhere.
            "lame_duck_grace_period": "1s",
            "lame_duck_duration": "30s",
        });
        if self.has_jetstream {
            configuration["jetstream"] = self.jetstream(directory);
        }
        if let Some(Login { user, password }) = &self.login {
            configuration["authorization"] = json!({ "user": user, "password": password });
        }
        if let Some(accounts) = &self.accounts {
            accounts.configure(&mut configuration);
        }
        if let Some(tls) = &self.tls {
            configuration["tls"] = tls.write(directory)?;
        }
        if let Some(Routes { own, all }) = &seat.routes {
            let all: Vec<String> = all.iter().map(|route| format!("nats://{route}")).collect();
            // Whoever comes through something between is not told of a way around it.
            configuration["cluster"] = json!({
                "name": CLUSTER, "listen": own.to_string(), "routes": all, "no_advertise": true,
            });
        }
        let file = directory.join("nats.json");
        fs::write(&file, serde_json::to_string_pretty(&configuration)?)?;
        Ok(file)
    }

    fn jetstream(&self, directory: &Path) -> Value {
        let mut jetstream = json!({ "store_dir": directory.join("data") });
        if let Some(bytes_max) = self.file_store_bytes_max {
            jetstream["max_file_store"] = json!(bytes_max);
        }
        if self.is_forced_to_disk {
            jetstream["sync_interval"] = json!("always");
        }
        jetstream
    }
}

impl Tls {
    fn write(&self, directory: &Path) -> anyhow::Result<Value> {
        let write = |name: &str, content: &str| -> anyhow::Result<PathBuf> {
            let file = directory.join(name);
            fs::write(&file, content)?;
            fs::set_permissions(&file, Permissions::from_mode(0o600))?;
            Ok(file)
        };
        let mut tls = json!({
            "cert_file": write("server.crt", &self.server.certificate)?,
            "key_file": write("server.key", &self.server.key)?,
        });
        if let Some(authority) = &self.clients {
            tls["ca_file"] = json!(write("clients.crt", authority)?);
            tls["verify"] = json!(true);
        }
        Ok(tls)
    }
}
