//! A client for a running instance of the given configuration.
//!
//! If it uses TLS, its certificate is in a file here: exactly that certificate is trusted, whatever name the instance
//! is called by and whoever has signed it. For an instance elsewhere (`--url`) the system's authorities are used.

use reqwest::ClientBuilder;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use std::sync::Arc;

use crate::config::Config;

/// A client, and where to call: the address given, or the one that the configuration names.
///
/// # Errors
/// If the certificate of the configuration is needed and cannot be read.
pub(crate) fn client_for(config: &Config, url: Option<&str>) -> anyhow::Result<(ClientBuilder, String)> {
    let builder = reqwest::Client::builder().no_proxy();
    match url {
        Some(url) => Ok((builder, url.trim_end_matches('/').to_owned())),
        None if config.tls.is_on() => {
            let shown = config.tls.certificate()?.der;
            Ok((
                builder.tls_backend_preconfigured(believing_only(shown)?),
                config.url(config.admin_address()),
            ))
        }
        None => Ok((builder, config.url(config.admin_address()))),
    }
}

fn believing_only(certificate: CertificateDer<'static>) -> anyhow::Result<ClientConfig> {
    let provider = aws_lc_rs::default_provider();
    let algorithms = provider.signature_verification_algorithms;
    let builder =
        ClientConfig::builder_with_provider(Arc::new(provider)).with_safe_default_protocol_versions()?;
    let verifier = Arc::new(ThatVeryOne { certificate, algorithms });
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

/// Trusts one certificate, whoever has signed it; the other side must prove that it has its key.
#[derive(Debug)]
struct ThatVeryOne {
    certificate: CertificateDer<'static>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for ThatVeryOne {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match *end_entity == self.certificate {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
