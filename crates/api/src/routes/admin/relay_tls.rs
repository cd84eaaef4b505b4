//! TLS with a relay, as an operator writes and sees it. Certificates are shown; the key among the credentials is not.

use chrono::{DateTime, Utc};
use kite_domain::certificate::{Validity, certificates, private_key};
use kite_domain::relay::{CLIENT_KEY, RelayProfile, RelayTls};
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::problem::FieldError;

/// Which certificates of the relay are trusted, and which certificate Kite shows.
#[derive(Clone, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RelayTlsBody {
    /// The trusted authorities, or the relay's own certificate: one or more certificates as PEM. If they are given,
    /// the authorities of the system are not trusted.
    #[schema(max_length = 65_536, example = "-----BEGIN CERTIFICATE-----\n…\n-----END CERTIFICATE-----\n")]
    pub ca_pem: Option<String>,
    /// Kite's certificate, then its chain up to an authority of the relay, as PEM; a mail server is shown only one
    /// certificate. Its key is `credentials.client_key`.
    #[schema(max_length = 65_536)]
    pub client_certificate_pem: Option<String>,
}

impl From<RelayTlsBody> for RelayTls {
    fn from(body: RelayTlsBody) -> Self {
        Self { ca_pem: body.ca_pem, client_certificate_pem: body.client_certificate_pem }
    }
}

/// Whether a certificate is not valid yet, valid, or expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CertificateStandingWord {
    /// It holds, and will for a while.
    Valid,
    /// It ends within 14 days.
    EndsSoon,
    /// It does not hold any more.
    Ended,
    /// It does not hold yet.
    NotYet,
}

impl From<Validity> for CertificateStandingWord {
    fn from(validity: Validity) -> Self {
        match validity {
            Validity::Valid => Self::Valid,
            Validity::EndsSoon => Self::EndsSoon,
            Validity::Ended => Self::Ended,
            Validity::NotYet => Self::NotYet,
        }
    }
}

/// A certificate.
#[derive(Debug, Serialize, ToSchema)]
pub struct RelayCertificateView {
    /// Which field it stands in.
    #[schema(example = "tls.ca_pem")]
    pub field: &'static str,
    /// Whose it is.
    #[schema(example = "CN=Relay Authority")]
    pub name: String,
    /// Until when it holds.
    pub not_after: DateTime<Utc>,
    /// Where that is from now.
    pub standing: CertificateStandingWord,
}

/// TLS with a relay.
#[derive(Debug, Serialize, ToSchema)]
pub struct RelayTlsView {
    /// The trusted authorities; left out: the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
    /// Our certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificate_pem: Option<String>,
    /// All of them, one by one.
    pub certificates: Vec<RelayCertificateView>,
}

impl RelayTlsView {
    /// The current TLS terms; none: the definition has none.
    pub(crate) fn of(tls: &RelayTls, now: DateTime<Utc>) -> Option<Self> {
        let view = |one: kite_domain::relay::RelayCertificate| RelayCertificateView {
            field: one.field,
            standing: one.certificate.validity(now).into(),
            not_after: one.certificate.not_after,
            name: one.certificate.name,
        };
        (!tls.is_empty()).then(|| Self {
            ca_pem: tls.ca_pem.clone(),
            client_certificate_pem: tls.client_certificate_pem.clone(),
            certificates: tls.certificates().into_iter().map(view).collect(),
        })
    }
}

/// Whether the key belongs to the certificate. An unreadable text is ignored here: it is an error of its own.
pub(crate) fn misfit(profile: &RelayProfile) -> Option<FieldError> {
    let chain = certificates(profile.tls.client_certificate_pem.as_deref()?.as_bytes()).ok()?;
    let key = private_key(profile.credentials.client_key.as_deref()?.as_bytes()).ok()?;
    let chain = chain.into_iter().map(|one| one.der).collect();
    let fault = |code, detail: String| FieldError::new(CLIENT_KEY, code, detail);
    match CertifiedKey::from_der(chain, key, &rustls::crypto::aws_lc_rs::default_provider()) {
        Ok(_) => None,
        Err(rustls::Error::InconsistentKeys(_)) => {
            Some(fault("does_not_fit", "is not the key of tls.client_certificate_pem".to_owned()))
        }
        Err(error) => Some(fault("unusable_key", format!("cannot be used: {error}"))),
    }
}
