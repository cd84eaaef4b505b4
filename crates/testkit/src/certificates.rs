//! Certificate authorities and certificates, made for a test.

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

/// Who signs certificates.
pub struct Authority {
    /// Its own certificate, PEM.
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, PEM.
#[derive(Debug, Clone)]
pub struct Made {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

impl Authority {
    /// A root authority.
    ///
    /// # Errors
    /// None that a test could do anything about; the same for the others.
    pub fn new(name: &str) -> Result<Self> {
        let (params, key) = authority_params(name)?;
        Ok(Self { pem: params.self_signed(&key)?.pem(), issuer: Issuer::new(params, key) })
    }

    /// An authority below this one: a client that should trust it must be shown its certificate, too.
    ///
    /// # Errors
    /// See [`Authority::new`].
    pub fn delegate(&self, name: &str) -> Result<Self> {
        let (params, key) = authority_params(name)?;
        Ok(Self { pem: params.signed_by(&key, &self.issuer)?.pem(), issuer: Issuer::new(params, key) })
    }

    /// A certificate for this host, named after it, that holds for longer than any test lives.
    ///
    /// # Errors
    /// See [`Authority::new`].
    pub fn sign(&self, host: &str) -> Result<Made> {
        self.sign_until(host, host, 2090)
    }

    /// A certificate for this host under another name, from the beginning of 2020 to the beginning of this year.
    ///
    /// # Errors
    /// See [`Authority::new`].
    pub fn sign_until(&self, host: &str, name: &str, year: i32) -> Result<Made> {
        let (params, key) = params_until(host, name, year)?;
        Ok(Made { certificate: params.signed_by(&key, &self.issuer)?.pem(), key: key.serialize_pem() })
    }
}

impl Made {
    /// A self-signed certificate, from the beginning of 2020 to the beginning of this year.
    ///
    /// # Errors
    /// See [`Authority::new`].
    pub fn self_signed(host: &str, year: i32) -> Result<Self> {
        let (params, key) = params_until(host, host, year)?;
        Ok(Self { certificate: params.self_signed(&key)?.pem(), key: key.serialize_pem() })
    }
}

fn params_until(host: &str, name: &str, year: i32) -> Result<(CertificateParams, KeyPair)> {
    let mut params = CertificateParams::new(vec![host.to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(year, 1, 1);
    Ok((params, KeyPair::generate()?))
}

fn authority_params(name: &str) -> Result<(CertificateParams, KeyPair)> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    Ok((params, KeyPair::generate()?))
}
