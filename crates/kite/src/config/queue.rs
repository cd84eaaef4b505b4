//! Where the work queue is.

use anyhow::{Context, ensure};
use kite_nats::{Login, Server, StreamLimits};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::tls_to_server::tls;

/// The longest beginning of names.
const PREFIX_LENGTH_MAX: usize = 32;
/// Servers of one stream, at most: what JetStream allows.
const REPLICAS_MAX: usize = 5;

/// The work queue.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueueSettings {
    /// Where it is.
    pub engine: QueueEngine,
}

/// What holds the work queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QueueEngine {
    /// The process that publishes, and also hands over.
    InProcess,
    /// NATS JetStream, for several processes.
    Nats,
}

/// NATS servers of one cluster.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NatsSettings {
    /// Their addresses.
    pub servers: Vec<String>,
    /// Whether they are talked to with TLS.
    pub tls: bool,
    /// The authorities that their certificates must lead to; empty: the system's.
    pub authorities_file: PathBuf,
    /// The certificate of this side; empty: none.
    pub certificate_file: PathBuf,
    /// Its key.
    pub key_file: PathBuf,
    /// The user; empty: none.
    pub user: String,
    /// The user's password.
    pub password: String,
    /// The file with a user's JWT and key; empty: none.
    pub credentials_file: PathBuf,
    /// How the names of streams and subjects begin.
    pub prefix: String,
    /// On how many servers a stream is kept.
    pub replicas: usize,
    /// Bytes of jobs in the stream.
    pub jobs_bytes_max: i64,
    /// Bytes of jobs that were not understood.
    pub dead_bytes_max: i64,
    /// How long those are kept.
    pub dead_days_max: u32,
}

/// What does not fit into the stream at all would be tried for ever.
const JOBS_BYTES_MIN: i64 = 1 << 20;

impl NatsSettings {
    /// The servers that are meant.
    ///
    /// # Errors
    /// Names the key that is wrong, and never a password.
    pub fn server(&self) -> anyhow::Result<Server> {
        ensure!(!self.servers.is_empty(), "nats.servers: is empty (KITE_NATS__SERVERS)");
        let is_fit = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
        ensure!(
            (1..=PREFIX_LENGTH_MAX).contains(&self.prefix.len()) && self.prefix.chars().all(is_fit),
            "nats.prefix: has 1 to {PREFIX_LENGTH_MAX} of a-z, 0-9 and -"
        );
        ensure!(
            self.replicas % 2 == 1 && self.replicas <= REPLICAS_MAX,
            "nats.replicas: {} is not 1, 3 or 5",
            self.replicas
        );
        for (key, value) in [
            ("jobs_bytes_max", self.jobs_bytes_max),
            ("dead_bytes_max", self.dead_bytes_max),
            ("dead_days_max", self.dead_days_max.into()),
        ] {
            ensure!(value > 0, "nats.{key}: {value} would let nothing be kept");
        }
        ensure!(
            self.jobs_bytes_max >= JOBS_BYTES_MIN,
            "nats.jobs_bytes_max: {} is less than {JOBS_BYTES_MIN}, which one parcel of jobs may need",
            self.jobs_bytes_max
        );
        let has_certificate = given(&self.certificate_file).is_some();
        ensure!(
            has_certificate == given(&self.key_file).is_some(),
            "nats.certificate_file and nats.key_file: set both or none"
        );
        ensure!(self.tls || !has_certificate, "nats.certificate_file: needs nats.tls = true");
        let own = has_certificate.then_some((&*self.certificate_file, &*self.key_file));
        let tls = match self.tls {
            true => Some(
                tls(&self.authorities_file, own)
                    .context("nats: authorities_file, certificate_file, key_file")?,
            ),
            false => None,
        };
        Ok(Server { urls: self.servers.clone(), login: self.login()?, tls, client_name: "kite".to_owned() })
    }

    fn login(&self) -> anyhow::Result<Login> {
        let credentials = given(&self.credentials_file);
        ensure!(
            credentials.is_none() || self.user.is_empty(),
            "nats.user and nats.credentials_file are both set: leave one out"
        );
        Ok(match credentials {
            Some(file) => {
                let text = std::fs::read_to_string(file)
                    .with_context(|| format!("nats.credentials_file: cannot read {}", file.display()))?;
                Login::Credentials(text)
            }
            None if self.user.is_empty() => Login::Nobody,
            None => Login::Password { user: self.user.clone(), password: self.password.clone() },
        })
    }

    /// How the streams are kept.
    pub fn streams(&self) -> StreamLimits {
        StreamLimits {
            replicas: self.replicas,
            jobs_bytes_max: self.jobs_bytes_max,
            dead_bytes_max: self.dead_bytes_max,
            dead_kept: Duration::from_secs(u64::from(self.dead_days_max) * 24 * 3_600),
        }
    }
}

fn given(file: &Path) -> Option<&Path> {
    (!file.as_os_str().is_empty()).then_some(file)
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn what_is_wrong_is_named_and_no_password_told() {
        for (settings, told) in [
            ("servers = []", "nats.servers: is empty"),
            ("prefix = \"\"", "nats.prefix: has 1 to 32"),
            ("prefix = \"a.b\"", "nats.prefix: has 1 to 32"),
            ("replicas = 2", "nats.replicas: 2 is not 1, 3 or 5"),
            ("jobs_bytes_max = 0", "nats.jobs_bytes_max: 0 would"),
            ("jobs_bytes_max = 1000", "nats.jobs_bytes_max: 1000 is less than 1048576"),
            ("dead_days_max = 0", "nats.dead_days_max: 0 would"),
            ("tls = true\ncertificate_file = \"own.pem\"", "nats.certificate_file and nats.key_file"),
            (
                "certificate_file = \"own.pem\"\nkey_file = \"own.key\"",
                "nats.certificate_file: needs nats.tls",
            ),
            ("tls = true\nauthorities_file = \"/nowhere\"", "cannot read /nowhere"),
            ("user = \"kite\"\ncredentials_file = \"x\"", "nats.user and nats.credentials_file"),
            ("credentials_file = \"/nowhere\"", "nats.credentials_file: cannot read /nowhere"),
        ] {
            let servers = if settings.contains("servers") { "" } else { "servers = [\"nats://nats1\"]\n" };
            let text =
                format!("[queue]\nengine = \"nats\"\n[nats]\npassword = \"secret\"\n{servers}{settings}\n");
            let refusal = format!("{:#}", Config::from_text(&text).unwrap().check_store().unwrap_err());
            assert!(refusal.contains(told), "{settings}: {refusal}");
            assert!(!refusal.contains("secret"), "{refusal}");
        }
        let refusal = Config::from_text("[nats]\npassword = 12345678\n").err().unwrap().to_string();
        assert!(refusal.contains("nats.password") && !refusal.contains("1234"), "{refusal}");
    }
}
