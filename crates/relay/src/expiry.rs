//! Certificates of a relay that expire soon: logged while there is time to do something about it, and shown as a
//! metric.

use chrono::{DateTime, TimeDelta, Utc};
use kite_domain::certificate::{Certificate, Validity};
use kite_domain::relay::{RelayCertificate, RelayProfile};
use std::sync::Arc;

/// How often a certificate that expires soon is logged again.
const AGAIN: TimeDelta = TimeDelta::days(1);

/// The certificates of one relay.
#[derive(Default)]
pub(crate) struct Expiry {
    /// Which definition they are of.
    profile: Option<Arc<RelayProfile>>,
    certificates: Vec<RelayCertificate>,
    told_at: Option<DateTime<Utc>>,
}

impl Expiry {
    /// Reads the certificates again if the relay has another definition.
    pub(crate) fn look(&mut self, profile: &Arc<RelayProfile>) {
        if self.profile.as_ref().is_none_or(|known| !Arc::ptr_eq(known, profile)) {
            self.certificates = profile.tls.certificates();
            self.profile = Some(profile.clone());
            self.told_at = None;
        }
    }

    /// What is to be logged now: each certificate that has expired or soon will, once per day.
    pub(crate) fn news(&mut self, now: DateTime<Utc>) -> Vec<String> {
        if self.told_at.is_some_and(|at| now - at < AGAIN) {
            return Vec::new();
        }
        let news: Vec<String> = self.certificates.iter().filter_map(|one| in_words(one, now)).collect();
        if !news.is_empty() {
            self.told_at = Some(now);
        }
        news
    }

    /// Until when the certificates of each field are valid: the first that expires.
    pub(crate) fn ends(&self) -> Vec<(&'static str, DateTime<Utc>)> {
        let mut ends: Vec<(&'static str, DateTime<Utc>)> = Vec::new();
        for RelayCertificate { field, certificate } in &self.certificates {
            match ends.iter_mut().find(|(known, _)| known == field) {
                Some((_, at)) => *at = certificate.not_after.min(*at),
                None => ends.push((field, certificate.not_after)),
            }
        }
        ends
    }
}

fn in_words(one: &RelayCertificate, now: DateTime<Utc>) -> Option<String> {
    let RelayCertificate { field, certificate } = one;
    let Certificate { name, not_after, .. } = certificate;
    let verb = match certificate.validity(now) {
        Validity::Valid | Validity::NotYet => return None,
        Validity::EndsSoon => "ends",
        Validity::Ended => "ended",
    };
    Some(format!("{field}: the certificate {name} {verb} at {}", not_after.to_rfc3339()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::testing::profile;
    use kite_domain::relay::CA;
    use kite_testkit::certificates::Made;

    #[test]
    fn a_certificate_that_ends_soon_is_told_of_once_a_day_until_there_is_another() {
        let made = |year| Made::self_signed("relay.example", year).unwrap().certificate;
        let with = |ca: String| {
            let mut profile = profile("alpha");
            profile.tls.ca_pem = Some(ca);
            Arc::new(profile)
        };
        let mut expiry = Expiry::default();
        let first = with(made(2031));
        expiry.look(&first);
        let end = expiry.ends()[0].1;
        assert_eq!(expiry.ends(), [(CA, "2031-01-01T00:00:00Z".parse().unwrap())]);

        assert_eq!(expiry.news(end - TimeDelta::days(15)), Vec::<String>::new());
        let told = expiry.news(end - TimeDelta::days(10));
        assert!(told[0].contains("tls.ca_pem") && told[0].contains("ends at 2031-01-01"), "{told:?}");
        expiry.look(&first);
        assert_eq!(expiry.news(end - TimeDelta::days(10) + TimeDelta::hours(23)), Vec::<String>::new());
        assert_eq!(expiry.news(end - TimeDelta::days(9)).len(), 1);
        assert!(expiry.news(end + TimeDelta::days(1))[0].contains("ended at"));

        expiry.look(&with(made(2035)));
        assert_eq!(expiry.news(end + TimeDelta::days(1)), Vec::<String>::new());
    }

    #[test]
    fn of_several_certificates_of_a_field_the_first_that_ends_is_shown() {
        let made = |year| Made::self_signed("relay.example", year).unwrap().certificate;
        let (sooner, later) = (made(2031), made(2035));
        for ca in [format!("{sooner}{later}"), format!("{later}{sooner}")] {
            let mut profile = profile("alpha");
            profile.tls.ca_pem = Some(ca);
            let mut expiry = Expiry::default();
            expiry.look(&Arc::new(profile));
            assert_eq!(expiry.certificates.len(), 2);
            assert_eq!(expiry.ends(), [(CA, "2031-01-01T00:00:00Z".parse().unwrap())]);
        }
    }
}
