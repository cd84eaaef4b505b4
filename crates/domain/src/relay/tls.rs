//! How a relay and we prove our identities over TLS, if the public authorities are not enough.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::access::{ProfileFault, fault};
use super::{Credential, ENCRYPTED, Endpoint, RelayProfile, SmtpSecurity};
use crate::certificate::{Certificate, PemFault, Validity, certificates, private_key, public_certificates};

/// Which field holds the authorities.
pub const CA: &str = "tls.ca_pem";
/// Which field holds our certificate.
pub const CLIENT_CERTIFICATE: &str = "tls.client_certificate_pem";
/// Which field holds its key.
pub const CLIENT_KEY: &str = Credential::ClientKey.field();

/// The terms of TLS with a relay. The key of the certificate is among the credentials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct RelayTls {
    /// The authorities, or the relay's own certificate, that are believed; no others then. PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
    /// Our certificate, and its chain up to an authority that the relay trusts. PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificate_pem: Option<String>,
}

/// A certificate of a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayCertificate {
    /// Which field it stands in.
    pub field: &'static str,
    /// What is read from it.
    pub certificate: Certificate,
}

impl RelayTls {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        let Self { ca_pem, client_certificate_pem } = self;
        ca_pem.is_none() && client_certificate_pem.is_none()
    }

    fn texts(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let texts = [(CA, &self.ca_pem), (CLIENT_CERTIFICATE, &self.client_certificate_pem)];
        texts.into_iter().filter_map(|(field, text)| Some((field, text.as_deref()?)))
    }

    /// Every certificate that can be read.
    pub fn certificates(&self) -> Vec<RelayCertificate> {
        let of = |(field, text): (&'static str, &str)| {
            let read = certificates(text.as_bytes()).unwrap_or_default();
            read.into_iter().map(move |certificate| RelayCertificate { field, certificate })
        };
        self.texts().flat_map(of).collect()
    }
}

fn by_pem(field: &'static str, found: &PemFault) -> ProfileFault {
    fault(field, found.code(), found.to_string())
}

impl RelayProfile {
    /// What makes a connection impossible, as far as the texts show.
    pub(super) fn tls_unusable(&self) -> Vec<ProfileFault> {
        let unread = |(field, text): (&'static str, &str)| {
            public_certificates(text.as_bytes()).err().map(|found| by_pem(field, &found))
        };
        let mut faults: Vec<ProfileFault> = self.tls.texts().filter_map(unread).collect();
        if self.tls.client_certificate_pem.is_some() {
            match &self.credentials.client_key {
                None => {
                    faults.push(fault(CLIENT_KEY, "missing", "the client certificate needs its private key"))
                }
                // It was looked at before it was encrypted.
                Some(key) if key.starts_with(ENCRYPTED) => {}
                Some(key) => {
                    let unread = private_key(key.as_bytes()).err();
                    faults.extend(unread.map(|found| by_pem(CLIENT_KEY, &found)));
                }
            }
        }
        faults
    }

    /// What can only be meant otherwise.
    pub(super) fn tls_mistaken(&self) -> Vec<ProfileFault> {
        let is_without_tls = match &self.endpoint {
            Endpoint::Http { base_url } => base_url.starts_with("http://"),
            Endpoint::Smtp { security, .. } => *security == SmtpSecurity::Plain,
        };
        let unused = |field| fault(field, "not_used", "is not used: the endpoint speaks no TLS");
        let mut faults = Vec::new();
        if is_without_tls {
            faults.extend(self.tls.texts().map(|(field, _)| unused(field)));
        }
        if let Endpoint::Smtp { security: SmtpSecurity::Opportunistic, .. } = &self.endpoint {
            let detail = "is not enforced where the server decides whether there is TLS: set security to required or wrapped";
            faults.extend(self.tls.texts().map(|(field, _)| fault(field, "not_enforced", detail)));
        }
        let is_smtp = matches!(self.endpoint, Endpoint::Smtp { .. });
        let shown = self.tls.certificates().iter().filter(|one| one.field == CLIENT_CERTIFICATE).count();
        if is_smtp && shown > 1 {
            let detail =
                format!("holds {shown} certificates: a mail server is shown one, so give that one alone");
            faults.push(fault(CLIENT_CERTIFICATE, "too_many", detail));
        }
        faults
    }

    /// What a registration is refused for at this time: our certificate is not valid, or none of the authorities is.
    pub fn outdated(&self, now: DateTime<Utc>) -> Vec<ProfileFault> {
        let certificates = self.tls.certificates();
        let of =
            |field| certificates.iter().filter(move |one| one.field == field).map(|one| &one.certificate);
        let ours = of(CLIENT_CERTIFICATE).next().into_iter();
        let newest_authority = of(CA).max_by_key(|one| one.not_after).into_iter();
        let judged = ours.map(|one| (CLIENT_CERTIFICATE, one)).chain(newest_authority.map(|one| (CA, one)));
        judged.filter_map(|(field, one)| out_of_time(field, one, now)).collect()
    }
}

fn out_of_time(field: &'static str, certificate: &Certificate, now: DateTime<Utc>) -> Option<ProfileFault> {
    let Certificate { name, not_before, not_after, .. } = certificate;
    match certificate.validity(now) {
        Validity::Valid | Validity::EndsSoon => None,
        Validity::Ended => Some(fault(
            field,
            "expired",
            format!("the certificate {name} ended at {}", not_after.to_rfc3339()),
        )),
        Validity::NotYet => {
            let detail = format!("the certificate {name} does not hold before {}", not_before.to_rfc3339());
            Some(fault(field, "not_yet_valid", detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::access::tests::{found, http, smtp};
    use chrono::TimeDelta;
    use rcgen::{CertificateParams, KeyPair};

    /// A certificate of the year 2030, and its key.
    fn made() -> (String, String) {
        let mut params = CertificateParams::new(vec!["relay.example".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2030, 1, 1);
        params.not_after = rcgen::date_time_ymd(2031, 1, 1);
        let key = KeyPair::generate().unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn at(year: i32, month: u32) -> DateTime<Utc> {
        chrono::NaiveDate::from_ymd_opt(year, month, 2).unwrap().and_time(chrono::NaiveTime::MIN).and_utc()
    }

    fn with_tls(
        mut profile: RelayProfile,
        ca: Option<&str>,
        own: Option<&str>,
        key: Option<&str>,
    ) -> RelayProfile {
        profile.tls =
            RelayTls { ca_pem: ca.map(str::to_owned), client_certificate_pem: own.map(str::to_owned) };
        profile.credentials.client_key = key.map(str::to_owned);
        profile
    }

    #[test]
    fn a_profile_without_tls_terms_reads_and_writes_as_before() {
        let before = serde_json::to_value(http("https://x", None)).unwrap();
        assert!(before.get("tls").is_none() && before["credentials"].get("client_key").is_none(), "{before}");
        let read: RelayProfile = serde_json::from_value(before).unwrap();
        assert!(read.tls.is_empty());
    }

    #[test]
    fn one_with_them_comes_back_as_it_was_written() {
        let (pem, key) = made();
        let profile = with_tls(http("https://x", None), Some(&pem), Some(&pem), Some(&key));
        assert_eq!(profile.faults(), []);
        let written = serde_json::to_string(&profile).unwrap();
        assert_eq!(serde_json::from_str::<RelayProfile>(&written).unwrap(), profile);
    }

    #[test]
    fn certificates_are_not_asked_for_where_the_server_decides_whether_there_is_tls() {
        let (pem, key) = made();
        for (security, expected) in [
            (SmtpSecurity::Opportunistic, vec![(CA, "not_enforced"), (CLIENT_CERTIFICATE, "not_enforced")]),
            (SmtpSecurity::Plain, vec![(CA, "not_used"), (CLIENT_CERTIFICATE, "not_used")]),
            (SmtpSecurity::Required, vec![]),
            (SmtpSecurity::Wrapped, vec![]),
        ] {
            let mut profile = with_tls(smtp("mail", 25, None, None), Some(&pem), Some(&pem), Some(&key));
            profile.endpoint = Endpoint::Smtp { host: "mail".to_owned(), port: 25, security };
            assert_eq!(found(profile.faults()), expected, "{security:?}");
        }
    }

    #[test]
    fn a_text_that_is_no_certificate_and_a_certificate_without_a_key_are_unusable() {
        let (pem, key) = made();
        for (ca, own, client_key, expected) in [
            (Some("no"), None, None, vec![(CA, "invalid_pem")]),
            (Some(&*key), None, None, vec![(CA, "holds_private_key")]),
            (None, Some(&*key), Some(&*key), vec![(CLIENT_CERTIFICATE, "holds_private_key")]),
            (None, Some(&*pem), None, vec![(CLIENT_KEY, "missing")]),
            (None, Some(&*pem), Some("no"), vec![(CLIENT_KEY, "invalid_pem")]),
            (Some(&*pem), Some(&*pem), Some(&*key), vec![]),
        ] {
            let profile = with_tls(http("https://x", None), ca, own, client_key);
            assert_eq!(found(profile.unusable()), expected);
            assert_eq!(found(profile.faults()), expected);
        }
    }

    #[test]
    fn a_key_that_is_encrypted_was_looked_at_before() {
        let (pem, _) = made();
        let encrypted = format!("{ENCRYPTED}c2VjcmV0");
        let profile = with_tls(http("https://x", None), None, Some(&pem), Some(&encrypted));
        assert_eq!((profile.unusable(), profile.faults()), (vec![], vec![]));
    }

    #[test]
    fn a_key_that_stayed_from_an_earlier_definition_is_no_fault() {
        let (_, key) = made();
        assert_eq!(with_tls(http("http://x", None), None, None, Some(&key)).faults(), []);
    }

    #[test]
    fn terms_that_would_not_be_used_are_a_mistake() {
        let (pem, key) = made();
        let in_the_clear = with_tls(http("http://x", None), Some(&pem), None, None);
        assert_eq!(found(in_the_clear.faults()), [(CA, "not_used")]);
        assert_eq!(in_the_clear.unusable(), []);
        let plain = with_tls(smtp("mail", 25, None, None), None, Some(&pem), Some(&key));
        assert_eq!(found(plain.faults()), [(CLIENT_CERTIFICATE, "not_used")]);
        let mut chain =
            with_tls(smtp("mail", 25, None, None), None, Some(&format!("{pem}{pem}")), Some(&key));
        chain.endpoint =
            Endpoint::Smtp { host: "mail".to_owned(), port: 465, security: SmtpSecurity::Wrapped };
        assert_eq!(found(chain.faults()), [(CLIENT_CERTIFICATE, "too_many")]);
    }

    #[test]
    fn what_has_ended_or_not_begun_is_outdated() {
        let (pem, key) = made();
        let profile = with_tls(http("https://x", None), Some(&pem), Some(&pem), Some(&key));
        assert_eq!(found(profile.outdated(at(2030, 6))), []);
        let both = |code| vec![(CLIENT_CERTIFICATE, code), (CA, code)];
        assert_eq!(found(profile.outdated(at(2031, 6))), both("expired"));
        assert_eq!(found(profile.outdated(at(2029, 6))), both("not_yet_valid"));
        let soon = profile.tls.certificates().remove(0).certificate;
        assert_eq!(soon.validity(soon.not_after - TimeDelta::days(13)), Validity::EndsSoon);
    }

    #[test]
    fn nothing_that_is_said_repeats_a_key() {
        let (pem, key) = made();
        let secret = key.lines().nth(1).unwrap();
        let broken = key.replace("-----END", "-----FIN");
        let profile = with_tls(http("https://x", None), Some(&key), Some(&pem), Some(&broken));
        for fault in profile.faults() {
            assert!(!fault.to_string().contains(secret), "{fault}");
        }
        assert_eq!(found(profile.faults()), [(CA, "holds_private_key"), (CLIENT_KEY, "invalid_pem")]);
    }
}
