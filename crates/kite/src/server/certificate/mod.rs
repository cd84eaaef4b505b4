//! The certificate that the listener shows: two files, read again when they change.
//!
//! One file is replaced before the other, or may be half written: until they fit each other, the certificate in use
//! stays. Deliberately absent: a watch on the file system, which misses changes behind a link to a directory. The
//! files are small and are read and compared once a second.

use anyhow::{Context, bail, ensure};
use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use kite_commands::{Clock, Step, Worker, WorkerError};
use kite_domain::certificate::{Certificate, PEM_BYTES_MAX, PemFault, Validity, certificates, private_key};
use parking_lot::RwLock;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How often a certificate that expires soon is logged again.
const AGAIN: TimeDelta = TimeDelta::days(1);

/// The files of the listener's certificate; both empty: no TLS.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsSettings {
    /// The certificate, then its chain up to an authority. PEM.
    pub certificate_file: PathBuf,
    /// Its private key, without a password. PEM.
    pub key_file: PathBuf,
}

impl TlsSettings {
    /// Whether TLS is spoken.
    pub fn is_on(&self) -> bool {
        !self.certificate_file.as_os_str().is_empty()
    }

    /// Whether both files are named, or none.
    ///
    /// # Errors
    /// Names the key that is missing.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let has_key = !self.key_file.as_os_str().is_empty();
        match (self.is_on(), has_key) {
            (true, false) => bail!("tls.key_file: is missing; tls.certificate_file is set"),
            (false, true) => bail!("tls.certificate_file: is missing; tls.key_file is set"),
            (true, true) | (false, false) => Ok(()),
        }
    }

    /// Our certificate, for callers that must not have its key.
    ///
    /// # Errors
    /// Names the key of the configuration and the file that cannot be read.
    pub(crate) fn certificate(&self) -> anyhow::Result<Certificate> {
        let text = read("tls.certificate_file", &self.certificate_file)?;
        let first = certificates(&text).map(|chain| chain.into_iter().next());
        let first = first.map_err(|fault| self.wrong_certificate(&fault))?;
        first.context("tls.certificate_file: holds no certificate")
    }

    fn wrong_certificate(&self, fault: &PemFault) -> anyhow::Error {
        anyhow::anyhow!("tls.certificate_file: {} {fault}", self.certificate_file.display())
    }

    /// Whether the files can be used now, for a check before anything runs.
    ///
    /// # Errors
    /// Names the key and the file, and what is wrong: it cannot be read, the key does not fit, the certificate has
    /// expired or is not valid yet.
    pub(crate) fn check_files(&self, now: DateTime<Utc>) -> anyhow::Result<()> {
        self.check()?;
        if !self.is_on() {
            return Ok(());
        }
        let shown = Shown::load(Texts::read(self)?, self)?;
        let Certificate { name, not_before, not_after, .. } = &shown.certificate;
        let file = self.certificate_file.display();
        match shown.certificate.validity(now) {
            Validity::Valid | Validity::EndsSoon => Ok(()),
            Validity::Ended => {
                bail!("tls.certificate_file: {file}: {name} ended at {}", not_after.to_rfc3339())
            }
            Validity::NotYet => {
                bail!("tls.certificate_file: {file}: {name} does not hold before {}", not_before.to_rfc3339())
            }
        }
    }
}

/// What is in the files.
#[derive(PartialEq, Eq)]
struct Texts {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Texts {
    fn read(settings: &TlsSettings) -> anyhow::Result<Self> {
        Ok(Self {
            certificate: read("tls.certificate_file", &settings.certificate_file)?,
            key: read("tls.key_file", &settings.key_file)?,
        })
    }
}

fn read(setting: &str, path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut text = Vec::new();
    // One byte more than may be, so that a file that is longer is seen to be.
    File::open(path)
        .and_then(|file| file.take(PEM_BYTES_MAX as u64 + 1).read_to_end(&mut text))
        .with_context(|| format!("{setting}: cannot read {}", path.display()))?;
    Ok(text)
}

/// A certificate that can be shown.
struct Shown {
    texts: Texts,
    certified: Arc<CertifiedKey>,
    /// The first of the chain: ours.
    certificate: Certificate,
}

impl Shown {
    fn load(texts: Texts, settings: &TlsSettings) -> anyhow::Result<Self> {
        let (certificate_file, key_file) = (&settings.certificate_file, &settings.key_file);
        let chain = certificates(&texts.certificate).map_err(|fault| settings.wrong_certificate(&fault))?;
        let key = private_key(&texts.key)
            .map_err(|fault| anyhow::anyhow!("tls.key_file: {} {fault}", key_file.display()))?;
        let certificate = chain.first().cloned().context("tls.certificate_file: holds no certificate")?;
        let ders = chain.into_iter().map(|one| one.der).collect();
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let certified = CertifiedKey::from_der(ders, key, &provider).map_err(|error| {
            let file = key_file.display();
            match error {
                rustls::Error::InconsistentKeys(_) => anyhow::anyhow!(
                    "tls.key_file: {file} is not the key of the certificate in {}",
                    certificate_file.display()
                ),
                error => anyhow::anyhow!("tls.key_file: {file} cannot be used: {error}"),
            }
        })?;
        Ok(Self { texts, certified: Arc::new(certified), certificate })
    }
}

/// What a look at the files came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Looked {
    /// They are as they were.
    Same,
    /// There is another certificate, and it is in use from now on.
    Taken,
    /// They cannot be used as they are; whether the reason was reported before.
    Refused {
        /// Why.
        reason: String,
        /// For the first time.
        is_news: bool,
    },
}

/// The certificate in use. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ServerCertificate(Arc<InUse>);

struct InUse {
    settings: TlsSettings,
    shown: RwLock<Shown>,
    /// Why what is in the files now is not in use, if it is not.
    refused: RwLock<Option<String>>,
}

impl ServerCertificate {
    /// Reads the files. An expired certificate is accepted: accepted messages are still sent, and callers notice it.
    ///
    /// # Errors
    /// Names the key and the file that cannot be used, and why.
    pub(crate) fn open(settings: &TlsSettings) -> anyhow::Result<Self> {
        ensure!(settings.is_on(), "tls.certificate_file: is not set");
        let shown = Shown::load(Texts::read(settings)?, settings)?;
        let refused = RwLock::default();
        Ok(Self(Arc::new(InUse { settings: settings.clone(), shown: RwLock::new(shown), refused })))
    }

    /// Checks whether the files hold another certificate, and if so uses it.
    pub(super) fn look(&self, now: DateTime<Utc>) -> Looked {
        match self.renewed(now) {
            Ok(None) => {
                *self.0.refused.write() = None;
                Looked::Same
            }
            Ok(Some(shown)) => {
                *self.0.shown.write() = shown;
                *self.0.refused.write() = None;
                Looked::Taken
            }
            Err(error) => {
                let reason = format!("{error:#}");
                let before = self.0.refused.write().replace(reason.clone());
                Looked::Refused { is_news: before.as_ref() != Some(&reason), reason }
            }
        }
    }

    /// What is in the files, if that is another certificate.
    fn renewed(&self, now: DateTime<Utc>) -> anyhow::Result<Option<Shown>> {
        let settings = &self.0.settings;
        let texts = Texts::read(settings)?;
        if texts == self.0.shown.read().texts {
            return Ok(None);
        }
        let shown = Shown::load(texts, settings)?;
        let (ends, known_ends) = (shown.certificate.not_after, self.0.shown.read().certificate.not_after);
        ensure!(
            ends >= now || ends > known_ends,
            "tls.certificate_file: {} ended at {}",
            settings.certificate_file.display(),
            ends.to_rfc3339()
        );
        Ok(Some(shown))
    }

    /// The certificate in use.
    pub(super) fn certificate(&self) -> Certificate {
        self.0.shown.read().certificate.clone()
    }

    /// For operators: until when it is valid, and what is wrong.
    pub(crate) fn in_words(&self, now: DateTime<Utc>) -> String {
        let refused =
            self.0.refused.read().as_ref().map(|reason| format!("; a new one is not taken: {reason}"));
        format!("{}{}", end_in_words(&self.certificate(), now), refused.unwrap_or_default())
    }
}

fn end_in_words(certificate: &Certificate, now: DateTime<Utc>) -> String {
    let Certificate { name, not_before, not_after, .. } = certificate;
    let days = (*not_after - now).num_days();
    let until = not_after.to_rfc3339();
    match certificate.validity(now) {
        Validity::Valid => format!("{name} holds until {until}"),
        Validity::EndsSoon => format!("{name} ends in {days} days, at {until}"),
        Validity::Ended => format!("{name} ended at {until}: callers do not believe it"),
        Validity::NotYet => format!("{name} does not hold before {}", not_before.to_rfc3339()),
    }
}

impl std::fmt::Debug for InUse {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("InUse").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for ServerCertificate {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(formatter)
    }
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.shown.read().certified.clone())
    }
}

/// Checks the files again and again, and reports what it finds.
pub(crate) struct CertificateWatch {
    certificate: ServerCertificate,
    clock: Arc<dyn Clock>,
    told_at: Option<DateTime<Utc>>,
}

impl CertificateWatch {
    /// Of this certificate.
    pub(crate) fn new(certificate: ServerCertificate, clock: Arc<dyn Clock>) -> Self {
        Self { certificate, clock, told_at: None }
    }

    fn look(&mut self, now: DateTime<Utc>) -> Looked {
        let looked = self.certificate.look(now);
        let count = |result: &'static str| {
            metrics::counter!("kite_tls_certificate_changes_total", "result" => result).increment(1);
        };
        match &looked {
            Looked::Same => {}
            Looked::Taken => {
                count("taken");
                self.told_at = None;
                tracing::info!(certificate = self.certificate.in_words(now), "a new certificate is in use");
            }
            Looked::Refused { reason, is_news } => {
                if *is_news {
                    count("refused");
                    tracing::error!(
                        reason,
                        "the certificate cannot be taken in, the one before stays in use"
                    );
                }
            }
        }
        let is_refused = matches!(looked, Looked::Refused { .. });
        metrics::gauge!("kite_tls_certificate_refused").set(f64::from(u8::from(is_refused)));
        looked
    }

    /// Says that it comes to its end, once a day.
    fn tell_end(&mut self, now: DateTime<Utc>) {
        let certificate = self.certificate.certificate();
        let left_s = (certificate.not_after - now).num_seconds();
        metrics::gauge!("kite_tls_certificate_ends_in_seconds").set(left_s as f64);
        if certificate.validity(now) == Validity::Valid || self.told_at.is_some_and(|at| now - at < AGAIN) {
            return;
        }
        self.told_at = Some(now);
        tracing::warn!("the certificate of the listener: {}", end_in_words(&certificate, now));
    }
}

#[async_trait]
impl Worker for CertificateWatch {
    fn name(&self) -> &'static str {
        "certificate"
    }

    async fn step(&mut self) -> Result<Step, WorkerError> {
        let now = self.clock.now();
        self.look(now);
        self.tell_end(now);
        // Whoever drives it lets it look again in a second in any case.
        Ok(Step::Idle(None))
    }
}

#[cfg(test)]
mod tests;
