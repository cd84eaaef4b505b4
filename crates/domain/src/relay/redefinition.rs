//! What a new definition of a relay takes over from the one before.
//!
//! Credentials that are not given again stay, as long as they are sent to the same place. A key that went to one
//! address is never sent to another because somebody changed the address: permission to define relays must not become
//! a way to read their keys.
//!
//! Deliberately absent: whether somebody else now answers at the same address. Certificates take care of that.

use url::Url;

use super::{Credential, Endpoint, ProfileFault, RelayProfile, SmtpSecurity};

/// A relay as it is to be from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redefinition {
    /// Its terms. Credentials that are not set stay as they are.
    pub profile: RelayProfile,
    /// Credentials that are taken away instead.
    pub without: Vec<Credential>,
}

impl From<RelayProfile> for Redefinition {
    fn from(profile: RelayProfile) -> Self {
        Self { profile, without: Vec::new() }
    }
}

/// Credentials that would be sent to a new place: they have to be given again, or removed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the endpoint is another one or less protected, and a stored credential is not sent there: give {} again, or null",
    self.fields().collect::<Vec<_>>().join(", ")
)]
pub struct GiveAgain(pub Vec<Credential>);

impl GiveAgain {
    /// Which fields, as the API names them.
    pub fn fields(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|credential| credential.field())
    }

    /// The same, one by one.
    pub fn faults(&self) -> impl Iterator<Item = ProfileFault> {
        self.fields().map(|field| ProfileFault {
            field,
            code: "give_again",
            detail:
                "the endpoint is another one or less protected, and a stored credential is not sent there: \
                     give it again, or null"
                    .to_owned(),
        })
    }
}

impl Redefinition {
    /// The whole profile, with what stays of the one before.
    ///
    /// # Errors
    /// If something would stay, and the endpoint is not the one that it was given for.
    pub fn after(&self, known: Option<&RelayProfile>) -> Result<RelayProfile, GiveAgain> {
        let mut profile = self.profile.clone();
        let Some(known) = known else { return Ok(profile) };
        let mut staying = known.credentials.clone();
        for (credential, text) in staying.each_mut() {
            if self.without.contains(&credential) || profile.credentials.get(credential).is_some() {
                *text = None;
            }
        }
        let named: Vec<Credential> =
            staying.each().filter(|(_, text)| text.is_some()).map(|(credential, _)| credential).collect();
        if !named.is_empty() && !profile.endpoint.keeps_to(&known.endpoint) {
            return Err(GiveAgain(named));
        }
        profile.credentials.complete(&staying);
        Ok(profile)
    }
}

impl Endpoint {
    /// Whether this definition sends credentials to the same place as `known`, with at least the same protection.
    fn keeps_to(&self, known: &Self) -> bool {
        match (self, known) {
            (Self::Http { base_url }, Self::Http { base_url: known }) => {
                let (new, old) = (origin(base_url), origin(known));
                // What cannot be read is the same only to the letter.
                base_url == known || new.is_some() && new == old
            }
            (
                Self::Smtp { host, port, security },
                Self::Smtp { host: known_host, port: known_port, security: known_security },
            ) => {
                host.eq_ignore_ascii_case(known_host)
                    && port == known_port
                    && security.strength() >= known_security.strength()
            }
            (Self::Http { .. }, Self::Smtp { .. }) | (Self::Smtp { .. }, Self::Http { .. }) => false,
        }
    }
}

/// Scheme, host and port.
fn origin(base_url: &str) -> Option<(String, String, Option<u16>)> {
    let url = Url::parse(base_url).ok()?;
    Some((url.scheme().to_owned(), url.host_str()?.to_owned(), url.port_or_known_default()))
}

impl SmtpSecurity {
    /// The higher, the better a password is protected.
    fn strength(self) -> u8 {
        match self {
            Self::Plain => 0,
            Self::Opportunistic => 1,
            Self::Required | Self::Wrapped => 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::access::tests::{http, smtp};

    fn mail(host: &str, port: u16, security: SmtpSecurity) -> RelayProfile {
        let mut profile = smtp(host, port, None, None);
        profile.endpoint = Endpoint::Smtp { host: host.to_owned(), port, security };
        profile
    }

    fn with_secrets(mut profile: RelayProfile) -> RelayProfile {
        profile.credentials.api_key = Some("key".to_owned());
        profile.credentials.receipt_secret = Some("secret".to_owned());
        profile
    }

    fn given_again(known: RelayProfile, new: RelayProfile) -> Vec<Credential> {
        let after = Redefinition::from(new).after(Some(&with_secrets(known)));
        after.err().map_or_else(Vec::new, |GiveAgain(credentials)| credentials)
    }

    #[test]
    fn a_stored_credential_does_not_follow_the_endpoint_to_another_address() {
        use SmtpSecurity::{Opportunistic, Plain, Required, Wrapped};
        let both = [Credential::ApiKey, Credential::ReceiptSecret];
        let elsewhere = [
            (http("https://x/a", None), http("https://y/a", None)),
            (http("https://x", None), http("http://x", None)),
            (http("http://x", None), http("https://x", None)),
            (http("https://x", None), http("https://x:8443", None)),
            (http("https://x", None), http("https://x.example", None)),
            (http("https://x", None), http("https://x@y", None)),
            (http("https://x", None), mail("x", 443, Wrapped)),
            (mail("x", 443, Wrapped), http("https://x", None)),
            (mail("x", 25, Plain), mail("y", 25, Plain)),
            (mail("x", 25, Plain), mail("x", 26, Plain)),
            (mail("x", 25, Required), mail("x", 25, Opportunistic)),
            (mail("x", 25, Opportunistic), mail("x", 25, Plain)),
            (mail("x", 465, Wrapped), mail("x", 465, Plain)),
        ];
        for (known, new) in elsewhere {
            assert_eq!(
                given_again(known.clone(), new.clone()),
                both,
                "{:?} {:?}",
                known.endpoint,
                new.endpoint
            );
        }
        let the_same = [
            (http("https://x/a", None), http("https://X:443/b", None)),
            (mail("x", 25, Plain), mail("X", 25, Required)),
            (mail("x", 25, Required), mail("x", 25, Wrapped)),
        ];
        for (known, new) in the_same {
            assert_eq!(
                given_again(known.clone(), new.clone()),
                [],
                "{:?} {:?}",
                known.endpoint,
                new.endpoint
            );
        }
    }

    #[test]
    fn what_is_given_again_or_taken_away_is_not_asked_for() {
        let known = with_secrets(http("https://x", None));
        let mut new = Redefinition::from(http("https://y", Some("other")));
        assert_eq!(new.after(Some(&known)), Err(GiveAgain(vec![Credential::ReceiptSecret])));
        new.without.push(Credential::ReceiptSecret);
        let after = new.after(Some(&known)).unwrap().credentials;
        assert_eq!((after.api_key.as_deref(), after.receipt_secret), (Some("other"), None));
    }

    #[test]
    fn at_the_same_address_what_is_left_out_stays_and_what_is_taken_away_is_gone() {
        let known = with_secrets(http("https://x", None));
        let new = Redefinition { profile: http("https://x", None), without: vec![Credential::ApiKey] };
        let after = new.after(Some(&known)).unwrap().credentials;
        assert_eq!((after.api_key, after.receipt_secret.as_deref()), (None, Some("secret")));
        assert_eq!(new.after(None).unwrap(), new.profile);
    }

    #[test]
    fn what_is_to_be_given_again_is_named_field_by_field() {
        let both = GiveAgain(vec![Credential::ApiKey, Credential::ReceiptSecret]);
        let fields = ["credentials.api_key", "credentials.receipt_secret"];
        assert_eq!(both.fields().collect::<Vec<_>>(), fields);
        let faults: Vec<_> = both.faults().map(|fault| (fault.field, fault.code)).collect();
        assert_eq!(faults, fields.map(|field| (field, "give_again")));
        assert!(
            both.to_string().ends_with("give credentials.api_key, credentials.receipt_secret again, or null")
        );
    }
}
