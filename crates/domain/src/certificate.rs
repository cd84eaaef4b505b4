//! Certificates and keys as PEM text (RFC 7468): what can be read from them without using them.
//!
//! An error about a text never repeats the text: it may be a private key in the wrong place. Deliberately absent:
//! whether a key fits a certificate, and whether a chain leads anywhere. That needs cryptography, which the TLS code
//! has.

use chrono::{DateTime, TimeDelta, Utc};
use rustls_pki_types::pem::{Error as PemError, PemObject, SectionKind};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};

/// How long before its end a certificate is reported.
pub const TOLD_BEFORE: TimeDelta = TimeDelta::days(14);
/// The longest text that is read, in bytes: as many certificates as a chain or a list of authorities has, and some more.
pub const PEM_BYTES_MAX: usize = 64 << 10;
/// The longest name of a certificate that is shown, in characters.
const NAME_CHARACTERS_MAX: usize = 200;

/// A certificate that could be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Whose it is, such as `CN=relay.example` or `DNSName(relay.example)`.
    pub name: String,
    /// From when on it holds.
    pub not_before: DateTime<Utc>,
    /// The last moment at which it does.
    pub not_after: DateTime<Utc>,
    /// As it is used.
    pub der: CertificateDer<'static>,
}

/// Whether a certificate is not valid yet, valid, or expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// It holds, and will for a while.
    Valid,
    /// It holds, for less than [`TOLD_BEFORE`].
    EndsSoon,
    /// It does not hold any more.
    Ended,
    /// It does not hold yet.
    NotYet,
}

/// A text that holds no certificate or no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PemFault {
    /// Longer than [`PEM_BYTES_MAX`].
    #[error("is longer than {PEM_BYTES_MAX} bytes")]
    TooLong,
    /// There is no such thing in it.
    #[error("holds no {0}")]
    Missing(&'static str),
    /// More than one key.
    #[error("holds more than one private key")]
    Several,
    /// What begins as PEM does not continue as it.
    #[error("is no PEM: {0}")]
    Malformed(&'static str),
    /// Something that does not belong there, and may be secret.
    #[error("holds a private key, which belongs elsewhere")]
    Secret,
    /// A key behind a password.
    #[error("holds a private key that is encrypted with a password: give it without")]
    Encrypted,
    /// A certificate that cannot be read; counted from 1.
    #[error("certificate {0} in it cannot be read")]
    Unreadable(usize),
}

impl PemFault {
    /// As a word.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::Missing(_) | Self::Malformed(_) | Self::Several => "invalid_pem",
            Self::Secret => "holds_private_key",
            Self::Encrypted => "encrypted_key",
            Self::Unreadable(_) => "invalid_certificate",
        }
    }
}

impl From<PemError> for PemFault {
    fn from(error: PemError) -> Self {
        match error {
            PemError::MissingSectionEnd { .. } => Self::Malformed("an END line is missing"),
            PemError::IllegalSectionStart { .. } => Self::Malformed("a BEGIN line is not whole"),
            PemError::Base64Decode(_) => Self::Malformed("what is between BEGIN and END is no base64"),
            _ => Self::Malformed("it cannot be read"),
        }
    }
}

impl Certificate {
    /// Reads one; none: it is no certificate.
    pub fn read(der: CertificateDer<'static>) -> Option<Self> {
        let (rest, read) = X509Certificate::from_der(&der).ok()?;
        let at = |time: &ASN1Time| DateTime::from_timestamp(time.timestamp(), 0);
        let (not_before, not_after) = (at(&read.validity().not_before)?, at(&read.validity().not_after)?);
        rest.is_empty().then(|| Self { name: name_of(&read), not_before, not_after, der: der.clone() })
    }

    /// Where it is at a time.
    pub fn validity(&self, now: DateTime<Utc>) -> Validity {
        if now < self.not_before {
            Validity::NotYet
        } else if now > self.not_after {
            Validity::Ended
        } else if self.not_after - now < TOLD_BEFORE {
            Validity::EndsSoon
        } else {
            Validity::Valid
        }
    }
}

/// The subject; where there is none, as is usual by now, the first of the other names.
fn name_of(read: &X509Certificate<'_>) -> String {
    let subject = read.subject().to_string();
    let other = || {
        let names = &read.subject_alternative_name().ok()??.value.general_names;
        names.first().map(ToString::to_string)
    };
    let name = if subject.is_empty() { other().unwrap_or_default() } else { subject };
    name.chars().take(NAME_CHARACTERS_MAX).collect()
}

/// [`certificates`] of a text that everybody may read.
///
/// # Errors
/// The same, and if there is a private key in it.
pub fn public_certificates(pem: &[u8]) -> Result<Vec<Certificate>, PemFault> {
    if holds(pem, b"PRIVATE KEY-----") { Err(PemFault::Secret) } else { certificates(pem) }
}

/// All certificates of a text, in their order; at least one. What is between them is passed over, as is usual: words, or a key.
///
/// # Errors
/// If there is none, or one that cannot be read.
pub fn certificates(pem: &[u8]) -> Result<Vec<Certificate>, PemFault> {
    if pem.len() > PEM_BYTES_MAX {
        return Err(PemFault::TooLong);
    }
    let ders: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>()?;
    if ders.is_empty() {
        return Err(PemFault::Missing("certificate"));
    }
    let read = |(place, der)| Certificate::read(der).ok_or(PemFault::Unreadable(place + 1));
    ders.into_iter().enumerate().map(read).collect()
}

/// The one private key of a text: PKCS#8, PKCS#1 or SEC1, without a password.
///
/// # Errors
/// If there is none, more than one, or one behind a password.
pub fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, PemFault> {
    if pem.len() > PEM_BYTES_MAX {
        return Err(PemFault::TooLong);
    }
    // The second is the older way to write it.
    if holds(pem, b"ENCRYPTED PRIVATE KEY-----") || holds(pem, b"Proc-Type: 4,ENCRYPTED") {
        return Err(PemFault::Encrypted);
    }
    let is_key = |kind: &SectionKind| {
        matches!(kind, SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey)
    };
    let mut keys = Vec::new();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem) {
        let (kind, der) = section?;
        if is_key(&kind) {
            keys.extend(PrivateKeyDer::from_pem(kind, der));
        }
    }
    match keys.len() {
        0 => Err(PemFault::Missing("private key")),
        1 => Ok(keys.remove(0)),
        _ => Err(PemFault::Several),
    }
}

fn holds(text: &[u8], words: &[u8]) -> bool {
    text.windows(words.len()).any(|part| part == words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DnType, KeyPair};

    fn day(day: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::days(day)
    }

    /// A certificate for so many days after the first of 1970, and its key.
    fn made(name: &str, until: i64) -> (String, String) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = rcgen::date_time_ymd(1970, 1, 11);
        params.not_after = params.not_before + std::time::Duration::from_secs(86_400 * (until as u64 - 10));
        let key = KeyPair::generate().unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    #[test]
    fn a_chain_is_read_in_its_order_with_names_and_times() {
        let (leaf, _) = made("relay.example", 100);
        let (authority, _) = made("Authority", 1_000);
        let chain = format!("subject=relay.example\n{leaf}\r\n{authority}");
        let read = certificates(chain.as_bytes()).unwrap();
        let told: Vec<_> =
            read.iter().map(|one| (one.name.as_str(), one.not_before, one.not_after)).collect();
        assert_eq!(told, [("CN=relay.example", day(10), day(100)), ("CN=Authority", day(10), day(1_000))]);
    }

    #[test]
    fn a_certificate_is_told_of_fourteen_days_before_its_end() {
        let (pem, _) = made("relay.example", 100);
        let read = certificates(pem.as_bytes()).unwrap().remove(0);
        let moment = TimeDelta::seconds(1);
        for (now, validity) in [
            (day(10) - moment, Validity::NotYet),
            (day(10), Validity::Valid),
            (day(86), Validity::Valid),
            (day(86) + moment, Validity::EndsSoon),
            (day(100), Validity::EndsSoon),
            (day(100) + moment, Validity::Ended),
        ] {
            assert_eq!(read.validity(now), validity, "{now}");
        }
    }

    #[test]
    fn what_is_no_certificate_is_refused_with_its_reason_and_without_its_text() {
        let (pem, key) = made("relay.example", 100);
        let cut = &pem[..pem.len() / 2];
        let wrong = "-----BEGIN CERTIFICATE-----\nc2VjcmV0\n-----END CERTIFICATE-----\n";
        for (text, fault) in [
            (String::new(), PemFault::Missing("certificate")),
            ("secret".to_owned(), PemFault::Missing("certificate")),
            (cut.to_owned(), PemFault::Malformed("an END line is missing")),
            (format!("{pem}{wrong}"), PemFault::Unreadable(2)),
            (
                wrong.replace("c2VjcmV0", "sec*ret"),
                PemFault::Malformed("what is between BEGIN and END is no base64"),
            ),
            (format!("{pem}{key}"), PemFault::Secret),
            ("x".repeat(PEM_BYTES_MAX + 1), PemFault::TooLong),
        ] {
            let found = public_certificates(text.as_bytes()).unwrap_err();
            assert_eq!(found, fault);
            assert!(!found.to_string().contains("sec"), "{found}");
        }
    }

    #[test]
    fn a_key_is_one_and_without_a_password() {
        let (pem, key) = made("relay.example", 100);
        private_key(key.as_bytes()).unwrap();
        assert_eq!(certificates(format!("{key}{pem}").as_bytes()), certificates(pem.as_bytes()));
        // Many tools write both into one file, or the parameters of the curve before the key.
        private_key(
            format!(
                "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n{pem}{key}"
            )
            .as_bytes(),
        )
        .unwrap();
        let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        for (text, fault) in [
            (pem, PemFault::Missing("private key")),
            (format!("{key}{key}"), PemFault::Several),
            (encrypted, PemFault::Encrypted),
        ] {
            assert_eq!(private_key(text.as_bytes()).unwrap_err(), fault);
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_a_reader_fail(middle in ".{0,200}", place in 0_usize..400) {
            let (mut pem, _) = made("relay.example", 100);
            let place = (0..=place.min(pem.len())).rev().find(|place| pem.is_char_boundary(*place)).unwrap_or(0);
            pem.insert_str(place, &middle);
            let _ = certificates(pem.as_bytes());
            let _ = private_key(pem.as_bytes());
        }
    }
}
