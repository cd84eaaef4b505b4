//! TLS with a relay: which server we trust, and how we identify ourselves.
//!
//! If the profile names authorities, only they are trusted, not the system's. Names are verified in any case.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kite_commands::worker::Failure;
use kite_domain::certificate::{Certificate, PemFault, certificates, private_key};
use kite_domain::relay::{CA, CLIENT_CERTIFICATE, CLIENT_KEY, RelayProfile};
use lettre::transport::smtp::client::{self as mail, CertificateStore, TlsParameters};
use reqwest::ClientBuilder;
use rustls::AlertDescription;
use rustls::pki_types::PrivateKeyDer;
use std::error::Error;
use std::io;

/// Why TLS cannot be spoken with a relay as its profile says.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// What is to hold certificates, or the key, does not.
    #[error("{field}")]
    Pem {
        /// Which field, as the API names it.
        field: &'static str,
        /// What is wrong with it.
        source: PemFault,
    },
    /// There is a certificate of ours, and no key.
    #[error("{CLIENT_KEY}: the client certificate needs its private key")]
    NoKey,
    /// The library refuses an authority.
    #[error("{CA}: cannot be used")]
    Authority(#[source] Failure),
    /// The library refuses our certificate or its key.
    #[error("{CLIENT_CERTIFICATE}: cannot be used with its key")]
    Identity(#[source] Failure),
    /// All of it together cannot be used.
    #[error("TLS cannot be set up")]
    Setup(#[source] Failure),
}

/// What a profile says of TLS, read.
struct Terms {
    /// Empty: the system's.
    authorities: Vec<Certificate>,
    own: Option<Own>,
}

/// Our certificate with what leads to its authority, and its key as PEM.
struct Own {
    chain: Vec<Certificate>,
    key: String,
}

impl Terms {
    fn of(profile: &RelayProfile) -> Result<Self, TlsError> {
        let wrong = |field: &'static str| move |source: PemFault| TlsError::Pem { field, source };
        let read = |field, pem: &Option<String>| match pem {
            Some(pem) => certificates(pem.as_bytes()).map_err(wrong(field)),
            None => Ok(Vec::new()),
        };
        let chain = read(CLIENT_CERTIFICATE, &profile.tls.client_certificate_pem)?;
        let own = match (chain.is_empty(), &profile.credentials.client_key) {
            // A key of an earlier definition may have stayed.
            (true, _) => None,
            (false, None) => return Err(TlsError::NoKey),
            (false, Some(key)) => {
                let key = private_key(key.as_bytes()).map_err(wrong(CLIENT_KEY))?;
                Some(Own { chain, key: key_pem(&key) })
            }
        };
        Ok(Self { authorities: read(CA, &profile.tls.ca_pem)?, own })
    }
}

/// The builder of an HTTP client that keeps to the terms of the profile.
///
/// # Errors
/// If a certificate or the key cannot be used.
pub(super) fn with_terms(
    mut builder: ClientBuilder,
    profile: &RelayProfile,
) -> Result<ClientBuilder, TlsError> {
    let Terms { authorities, own } = Terms::of(profile)?;
    if !authorities.is_empty() {
        let believed = authorities.iter().map(|authority| reqwest::Certificate::from_der(&authority.der));
        let believed = believed.collect::<Result<Vec<_>, _>>();
        let believed = believed.map_err(|error| TlsError::Authority(error.into()))?;
        builder = builder.tls_certs_only(believed);
    }
    if let Some(Own { chain, key }) = own {
        let chain: String = chain.iter().map(|one| pem("CERTIFICATE", &one.der)).collect();
        let identity = reqwest::Identity::from_pem(format!("{chain}{key}").as_bytes());
        builder = builder.identity(identity.map_err(|error| TlsError::Identity(error.into()))?);
    }
    Ok(builder)
}

/// The TLS parameters for a mail server of this name.
///
/// # Errors
/// If a certificate or the key cannot be used.
pub(super) fn mail_parameters(host: &str, profile: &RelayProfile) -> Result<TlsParameters, TlsError> {
    let Terms { authorities, own } = Terms::of(profile)?;
    let mut builder = TlsParameters::builder(host.to_owned());
    if !authorities.is_empty() {
        builder = builder.certificate_store(CertificateStore::None);
    }
    for authority in authorities {
        let authority = mail::Certificate::from_der(authority.der.to_vec());
        let authority = authority.map_err(|error| TlsError::Authority(error.into()))?;
        builder = builder.add_root_certificate(authority);
    }
    if let Some(Own { chain, key }) = own
        && let Some(leaf) = chain.first()
    {
        // The library takes the bytes for one certificate as they are (DER), in spite of the name of the function.
        let identity = mail::Identity::from_pem(&leaf.der, key.as_bytes());
        builder = builder.identify_with(identity.map_err(|error| TlsError::Identity(error.into()))?);
    }
    builder.build().map_err(|error| TlsError::Setup(error.into()))
}

/// Whether the relay refused us in the handshake. With TLS 1.3 we learn that only after we have sent something, but
/// the message was not accepted.
pub(super) fn is_refused_in_handshake(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if tls_error(error).is_some_and(is_refusal) {
            return true;
        }
        next = error.source();
    }
    false
}

/// What an error is, or holds inside an error of input and output, which does not name it as its source.
fn tls_error<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e rustls::Error> {
    if let Some(found) = error.downcast_ref() {
        return Some(found);
    }
    let inner = error.downcast_ref::<io::Error>()?.get_ref()?;
    tls_error(inner)
}

/// RFC 8446, 6.2: what is said of a certificate, or where none was shown, and before anything else was read.
fn is_refusal(error: &rustls::Error) -> bool {
    use AlertDescription::{
        AccessDenied, BadCertificate, CertificateExpired, CertificateRequired, CertificateRevoked,
        CertificateUnknown, HandshakeFailure, UnknownCA, UnsupportedCertificate,
    };
    let rustls::Error::AlertReceived(alert) = error else { return false };
    matches!(
        alert,
        AccessDenied
            | BadCertificate
            | CertificateExpired
            | CertificateRequired
            | CertificateRevoked
            | CertificateUnknown
            | HandshakeFailure
            | UnknownCA
            | UnsupportedCertificate
    )
}

fn key_pem(key: &PrivateKeyDer<'_>) -> String {
    let kind = match key {
        PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
        PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
        _ => "PRIVATE KEY",
    };
    pem(kind, key.secret_der())
}

fn pem(kind: &str, der: &[u8]) -> String {
    format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", STANDARD.encode(der))
}

#[cfg(test)]
mod tests;
