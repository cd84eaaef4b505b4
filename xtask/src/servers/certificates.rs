//! A certificate authority for one test run, and a certificate by it for `localhost`.
//!
//! The tests' own clients find their trusted authorities where every other program does, so they are told about this
//! one through `SSL_CERT_FILE`: the system's authorities and this one in one file. (Cargo reads that, too.)

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

/// Files for a server, and for those who are to trust it.
pub(crate) struct Certificates {
    /// The server's certificate.
    pub(crate) certificate: PathBuf,
    /// Its key.
    pub(crate) key: PathBuf,
    /// Everybody who is trusted while tests run.
    pub(crate) trusted: PathBuf,
}

impl Certificates {
    /// Makes all of them in a directory.
    pub(crate) fn make(directory: &Path) -> anyhow::Result<Self> {
        let mut authority = CertificateParams::new(Vec::new())?;
        authority.distinguished_name.push(DnType::CommonName, "Kite test authority");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let authority_key = KeyPair::generate()?;
        let authority_certificate = authority.self_signed(&authority_key)?;
        let issuer = Issuer::new(authority, authority_key);
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(vec!["localhost".to_owned()])?.signed_by(&key, &issuer)?;

        let made = Self {
            certificate: directory.join("certificate.pem"),
            key: directory.join("key.pem"),
            trusted: directory.join("trusted.pem"),
        };
        fs::write(&made.certificate, certificate.pem())?;
        fs::write(&made.key, key.serialize_pem())?;
        fs::write(&made.trusted, trusted_by_system()? + &authority_certificate.pem())?;
        Ok(made)
    }
}

/// Where Debian, Fedora and Alpine keep the authorities that they trust.
const SYSTEM: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// The authorities that this machine trusts; none on one without them.
fn trusted_by_system() -> anyhow::Result<String> {
    let path = match std::env::var_os("SSL_CERT_FILE") {
        Some(path) => Some(PathBuf::from(path)),
        None => SYSTEM.iter().map(PathBuf::from).find(|path| path.exists()),
    };
    let Some(path) = path else { return Ok(String::new()) };
    let mut trusted = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    trusted.push('\n');
    Ok(trusted)
}
