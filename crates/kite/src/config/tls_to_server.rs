//! TLS to a server that Kite calls.

use anyhow::{Context, ensure};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;
use std::path::Path;
use std::sync::Arc;

/// With the authorities that a server's certificate must lead to (none: the system's), and this side's certificate and key.
pub(super) fn tls(authorities: &Path, own: Option<(&Path, &Path)>) -> anyhow::Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let builder = match authorities.as_os_str().is_empty() {
        true => builder.with_platform_verifier()?,
        false => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(authorities)? {
                roots.add(certificate)?;
            }
            builder.with_root_certificates(roots)
        }
    };
    Ok(match own {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let read = PrivateKeyDer::from_pem_file(key)
                .with_context(|| format!("cannot read {}", key.display()))?;
            builder.with_client_auth_cert(certificates(certificate)?, read)?
        }
    })
}

fn certificates(file: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let read =
        CertificateDer::pem_file_iter(file).with_context(|| format!("cannot read {}", file.display()))?;
    let all = read.collect::<Result<Vec<_>, _>>()?;
    ensure!(!all.is_empty(), "{} holds no certificate", file.display());
    Ok(all)
}
