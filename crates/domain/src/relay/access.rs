//! Whether Kite can call a relay as it is defined: address, key, credentials.
//!
//! [`RelayProfile::unusable`] names what a client cannot be built from. Clients are built from every definition
//! without such a fault. It is checked before that: at registration, which refuses all of [`RelayProfile::faults`],
//! and for relays that were registered before this check existed. Secrets are never part of the message. Deliberately
//! absent: whether the address can be resolved and whether anybody answers there; that changes by the hour.

use std::net::IpAddr;
use url::Url;

use super::{Credential, ENCRYPTED, Endpoint, ReceiptMode, RelayProfile};
use crate::text::MessageType;

/// The longest address that is taken, in characters.
const URL_LENGTH_MAX: usize = 2_000;
/// RFC 1035: the longest name, and the longest part of one.
const NAME_LENGTH_MAX: usize = 253;
const LABEL_LENGTH_MAX: usize = 63;
/// The longest key, password or user name.
const CREDENTIAL_LENGTH_MAX: usize = 4_096;

/// Something in a profile that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {detail}")]
pub struct ProfileFault {
    /// Which field, as the API names it.
    pub field: &'static str,
    /// What is wrong with it, as a word.
    pub code: &'static str,
    /// For people; never a secret.
    pub detail: String,
}

pub(super) fn fault(field: &'static str, code: &'static str, detail: impl Into<String>) -> ProfileFault {
    ProfileFault { field, code, detail: detail.into() }
}

const BASE_URL: &str = "endpoint.base_url";
const HOST: &str = "endpoint.host";
const PORT: &str = "endpoint.port";
const API_KEY: &str = Credential::ApiKey.field();
const USER: &str = Credential::User.field();
const RECEIPT_SECRET: &str = Credential::ReceiptSecret.field();

impl RelayProfile {
    /// The longest time of a call from its beginning to its last answer. A call begins nothing new once it has taken
    /// as long as one answer may take. Over HTTP the last step is a part of the batch, with its connection. At a mail
    /// server it is a mail, which may need a connection, two conversations and four answers in each.
    pub fn longest_call(&self) -> chrono::TimeDelta {
        let answers = match &self.endpoint {
            Endpoint::Http { .. } => 1 + 2,
            Endpoint::Smtp { .. } => 1 + 1 + 2 * 4,
        };
        chrono::TimeDelta::milliseconds(self.answer_timeout_ms.into()) * answers
    }

    /// What a client cannot be built from; empty: one can.
    pub fn unusable(&self) -> Vec<ProfileFault> {
        let key = self.credentials.api_key.as_deref();
        let user = self.credentials.user.as_deref();
        let found = match &self.endpoint {
            Endpoint::Http { base_url } => [parse_url(base_url).err(), key.and_then(no_header), None],
            Endpoint::Smtp { host, port, .. } => [
                no_host(host)
                    .or_else(|| (*port == 0).then(|| fault(PORT, "out_of_range", "must be 1 to 65535"))),
                key.and_then(|key| no_login(API_KEY, key)),
                user.and_then(|user| no_login(USER, user)),
            ],
        };
        found.into_iter().flatten().chain(self.tls_unusable()).collect()
    }

    /// Everything that a registration is refused for: what is unusable, and what is certainly a mistake.
    pub fn faults(&self) -> Vec<ProfileFault> {
        let mut faults = self.unusable();
        let credentials = &self.credentials;
        let (key, user) = (credentials.api_key.as_deref(), credentials.user.as_deref());
        // A private key has lines, and is read as one.
        let lines = credentials.each().filter(|(credential, _)| *credential != Credential::ClientKey);
        faults.extend(lines.filter_map(|(credential, text)| mistaken(credential.field(), text?)));
        match &self.endpoint {
            Endpoint::Http { base_url } => {
                let has_login = |url: &Url| !url.username().is_empty() || url.password().is_some();
                if base_url.split_once("://").is_some_and(|(_, rest)| rest.starts_with('/')) {
                    // The URL standard takes the first word of the path for it.
                    faults.push(fault(BASE_URL, "invalid_url", "names no host"));
                }
                if parse_url(base_url).is_ok_and(|url| has_login(&url)) {
                    let detail =
                        "holds a user or password, and would be shown with it: give a key in credentials";
                    faults.push(fault(BASE_URL, "credentials_in_url", detail));
                }
                let has_blank_end = |key: &str| key.starts_with([' ', '\t']) || key.ends_with([' ', '\t']);
                if key.is_some_and(has_blank_end) {
                    faults.push(fault(API_KEY, "blank_at_the_end", "begins or ends with a blank"));
                }
            }
            Endpoint::Smtp { .. } if key.is_some() != user.is_some() => {
                let (missing, there) = if key.is_none() { (API_KEY, "user") } else { (USER, "api_key") };
                let detail = format!("a mail server that is given a {there} needs the other as well");
                faults.push(fault(missing, "missing", detail));
            }
            Endpoint::Smtp { .. } => {}
        }
        if self.receipts == ReceiptMode::Push && credentials.receipt_secret.is_none() {
            let detail =
                "pushed receipts are believed only if they are signed: give the secret that signs them";
            faults.push(fault(RECEIPT_SECRET, "missing", detail));
        }
        let is_smtp = matches!(self.endpoint, Endpoint::Smtp { .. });
        if let Some(channel) = self.channels.keys().find(|channel| is_smtp && **channel != MessageType::Email)
        {
            let detail = format!("a mail server carries email and no {channel}");
            faults.push(fault("channels", "not_by_mail", detail));
        }
        faults.extend(self.tls_mistaken());
        let mut seen = Vec::new();
        faults.retain(|fault| {
            let is_first = !seen.contains(&fault.field);
            seen.push(fault.field);
            is_first
        });
        faults
    }
}

/// The address of an HTTP relay. The URL standard ignores line breaks and tabs; here they are an error.
fn parse_url(text: &str) -> Result<Url, ProfileFault> {
    let invalid = |detail: String| Err(fault(BASE_URL, "invalid_url", detail));
    if let Some(place) = text.chars().position(|letter| letter.is_control() || letter.is_whitespace()) {
        return invalid(format!("holds a blank or control character at place {}", place + 1));
    }
    if !(text.starts_with("http://") || text.starts_with("https://")) {
        return invalid("must begin with http:// or https://".to_owned());
    }
    if text.len() > URL_LENGTH_MAX {
        return invalid(format!("is longer than {URL_LENGTH_MAX} characters"));
    }
    let url = match Url::parse(text) {
        Ok(url) => url,
        Err(error) => return invalid(format!("is no address: {error}")),
    };
    if url.query().is_some() || url.fragment().is_some() {
        return invalid("ends with the path: nothing may follow a ? or #".to_owned());
    }
    if url.port() == Some(0) {
        return invalid("port 0 cannot be called".to_owned());
    }
    Ok(url)
}

/// A key goes into a header, which takes printable ASCII.
fn no_header(key: &str) -> Option<ProfileFault> {
    let cannot = |letter: char| !(letter == '\t' || letter == ' ' || letter.is_ascii_graphic());
    let detail = |place: usize| format!("holds a character that a header cannot at place {}", place + 1);
    key.chars().position(cannot).map(|place| fault(API_KEY, "invalid_characters", detail(place)))
}

/// The mechanism PLAIN takes any character except U+0000, which ends a part.
fn no_login(field: &'static str, text: &str) -> Option<ProfileFault> {
    let detail = |place: usize| format!("holds a zero character at place {}", place + 1);
    text.chars()
        .position(|letter| letter == '\0')
        .map(|place| fault(field, "invalid_characters", detail(place)))
}

/// A credential that could be sent but is certainly a mistake. An encrypted one was checked before it was encrypted.
fn mistaken(field: &'static str, text: &str) -> Option<ProfileFault> {
    if text.starts_with(ENCRYPTED) {
        return None;
    }
    if text.is_empty() {
        return Some(fault(field, "empty", "is empty: leave it out"));
    }
    if text.len() > CREDENTIAL_LENGTH_MAX {
        let detail = format!("is longer than {CREDENTIAL_LENGTH_MAX} characters");
        return Some(fault(field, "too_long", detail));
    }
    let place = text.chars().position(char::is_control)?;
    let detail = format!("holds a line break or control character at place {}", place + 1);
    Some(fault(field, "invalid_characters", detail))
}

/// The name or address of a mail server.
fn no_host(host: &str) -> Option<ProfileFault> {
    if host.parse::<IpAddr>().is_ok() {
        return None;
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    let is_label = |label: &str| {
        (1..=LABEL_LENGTH_MAX).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_name = name.len() <= NAME_LENGTH_MAX && name.split('.').all(is_label);
    let detail = "must be a host name (letters, digits, - and .) or an IP address, without scheme or port";
    (!is_name).then(|| fault(HOST, "invalid_host", detail))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::relay::{RelayCredentials, RelayTls, SmtpSecurity};
    use crate::slug::RelayId;
    use std::collections::BTreeMap;

    fn profile(endpoint: Endpoint, key: Option<&str>, user: Option<&str>) -> RelayProfile {
        RelayProfile {
            relay: RelayId::from_trusted("alpha"),
            name: "Alpha".to_owned(),
            endpoint,
            channels: BTreeMap::new(),
            reaches: Vec::new(),
            batch_max: 100,
            rate_parts_per_second: None,
            calls_in_flight_max: 8,
            answer_timeout_ms: 5_000,
            deduplicates: false,
            answers_status: false,
            receipts: ReceiptMode::None,
            codes: "solapi".into(),
            tls: RelayTls::default(),
            credentials: RelayCredentials {
                api_key: key.map(str::to_owned),
                user: user.map(str::to_owned),
                ..RelayCredentials::default()
            },
        }
    }

    pub(in crate::relay) fn http(base_url: &str, key: Option<&str>) -> RelayProfile {
        profile(Endpoint::Http { base_url: base_url.to_owned() }, key, None)
    }

    pub(in crate::relay) fn smtp(
        host: &str,
        port: u16,
        key: Option<&str>,
        user: Option<&str>,
    ) -> RelayProfile {
        let security = SmtpSecurity::Plain;
        profile(Endpoint::Smtp { host: host.to_owned(), port, security }, key, user)
    }

    pub(in crate::relay) fn found(faults: Vec<ProfileFault>) -> Vec<(&'static str, &'static str)> {
        faults.into_iter().map(|fault| (fault.field, fault.code)).collect()
    }

    #[test]
    fn a_call_may_take_as_many_answers_as_its_protocol_may_need() {
        let web = http("http://relay.example.com", None);
        let mail = smtp("mail.example.com", 25, None, None);
        assert_eq!(web.longest_call(), chrono::TimeDelta::seconds(15), "three answers of five seconds");
        assert_eq!(mail.longest_call(), chrono::TimeDelta::seconds(50), "ten");
        let patient = RelayProfile { answer_timeout_ms: 20_000, ..web };
        assert_eq!(patient.longest_call(), chrono::TimeDelta::seconds(60));
    }

    #[test]
    fn an_address_that_no_request_can_go_to_is_unusable() {
        for base_url in [
            "",
            " ",
            "relay.example.com",
            "ftp://relay.example.com",
            "http://",
            "http://[::1",
            "http://a b",
            "http://relay.example.com\r\n",
            "http://rel\nay.example.com",
            "http://\u{a0}x",
            "http://x:99999",
            "http://x:0",
            "http://x/?key=1",
            "http://x/#top",
            "http://x\u{0}",
        ] {
            assert_eq!(found(http(base_url, None).unusable()), [(BASE_URL, "invalid_url")], "{base_url:?}");
        }
        for base_url in ["http:///relay.example.com", "https:///v1"] {
            assert_eq!(found(http(base_url, None).faults()), [(BASE_URL, "invalid_url")], "{base_url:?}");
        }
        for base_url in [
            "http://127.0.0.1:9",
            "https://relay.example.com/",
            "http://[::1]:80/kite",
            "https://중계.example",
        ] {
            assert_eq!(http(base_url, None).faults(), [], "{base_url:?}");
        }
    }

    #[test]
    fn an_address_is_bounded() {
        let of = |length: usize| format!("http://x/{}", "a".repeat(length - "http://x/".len()));
        assert_eq!(http(&of(URL_LENGTH_MAX), None).unusable(), []);
        for length in [URL_LENGTH_MAX + 1, URL_LENGTH_MAX * 2] {
            let faults = http(&of(length), None).unusable();
            assert_eq!(found(faults), [(BASE_URL, "invalid_url")], "{length}");
        }
    }

    #[test]
    fn a_credential_is_bounded() {
        let of = |length: usize| http("http://x", Some(&"k".repeat(length)));
        assert_eq!(of(CREDENTIAL_LENGTH_MAX).faults(), []);
        for length in [CREDENTIAL_LENGTH_MAX + 1, CREDENTIAL_LENGTH_MAX * 2] {
            assert_eq!(found(of(length).faults()), [(API_KEY, "too_long")], "{length}");
        }
        let encrypted = format!("{ENCRYPTED}{}", "k".repeat(CREDENTIAL_LENGTH_MAX));
        assert_eq!(
            http("http://x", Some(&encrypted)).faults(),
            [],
            "it was looked at before it was encrypted"
        );
    }

    #[test]
    fn the_name_of_a_mail_server_is_bounded() {
        let label = |length: usize| "m".repeat(length);
        let of = |host: String| found(smtp(&host, 25, None, None).unusable());
        assert_eq!(of(label(63)), []);
        assert_eq!(of(label(64)), [(HOST, "invalid_host")]);
        let labels = [label(63), label(63), label(63)].join(".");
        assert_eq!(of(format!("{labels}.{}", label(61))), [], "253 in all");
        assert_eq!(of(format!("{labels}.{}.", label(61))), [], "and the dot of the root");
        assert_eq!(of(format!("{labels}.{}", label(62))), [(HOST, "invalid_host")]);
        for host in ["mail-", "mail.-example", "mail.example-"] {
            assert_eq!(of(host.to_owned()), [(HOST, "invalid_host")], "{host}");
        }
    }

    #[test]
    fn a_key_that_no_header_can_carry_is_unusable() {
        for key in ["k\n", "k\r\nX-Other: 1", "열쇠", "k\u{0}", "k\u{7f}"] {
            assert_eq!(
                found(http("http://x", Some(key)).unusable()),
                [(API_KEY, "invalid_characters")],
                "{key:?}"
            );
        }
        for (key, code) in [
            ("", "empty"),
            (" k", "blank_at_the_end"),
            ("k ", "blank_at_the_end"),
            ("k\t", "invalid_characters"),
        ] {
            let profile = http("http://x", Some(key));
            assert_eq!(
                (found(profile.unusable()), found(profile.faults())),
                (vec![], vec![(API_KEY, code)]),
                "{key:?}"
            );
        }
        assert_eq!(http("http://x", Some("a-key_1.2~+/=")).faults(), []);
    }

    #[test]
    fn a_mail_server_needs_a_host_a_port_and_a_whole_login() {
        for host in [
            "",
            " ",
            "mail server",
            "mail\r\n",
            "http://mail",
            "mail:25",
            "-mail",
            "mail..example",
            "메일.example",
            "[::1]",
        ] {
            assert_eq!(found(smtp(host, 25, None, None).unusable()), [(HOST, "invalid_host")], "{host:?}");
        }
        for host in
            ["localhost", "127.0.0.1", "::1", "mail-1.example.com", "mail.example.com.", "a_b.example"]
        {
            assert_eq!(smtp(host, 25, Some("pass word"), Some("user")).faults(), [], "{host:?}");
        }
        assert_eq!(found(smtp("mail", 0, None, None).unusable()), [(PORT, "out_of_range")]);
        assert_eq!(
            found(smtp("mail", 25, Some("a\0b"), Some("u")).unusable()),
            [(API_KEY, "invalid_characters")]
        );
        assert_eq!(
            found(smtp("mail", 25, Some("p\n"), Some("u\n")).faults()),
            [(API_KEY, "invalid_characters"), (USER, "invalid_characters")]
        );
        assert_eq!(found(smtp("mail", 25, Some("p"), None).faults()), [(USER, "missing")]);
        assert_eq!(found(smtp("mail", 25, None, Some("u")).faults()), [(API_KEY, "missing")]);
    }

    #[test]
    fn a_mail_server_carries_mail_only() {
        let terms: crate::relay::ChannelTerms =
            serde_json::from_value(serde_json::json!({"price_milliwon": 1, "receipt_deadline_s": 60}))
                .unwrap();
        let mut profile = smtp("mail", 25, None, None);
        profile.channels.insert(MessageType::Email, terms.clone());
        assert_eq!(profile.faults(), []);
        profile.channels.insert(MessageType::Sms, terms);
        assert_eq!(found(profile.faults()), [("channels", "not_by_mail")]);
    }

    #[test]
    fn pushed_receipts_need_a_secret() {
        let mut profile = http("http://x", None);
        profile.receipts = ReceiptMode::Push;
        assert_eq!(found(profile.faults()), [(RECEIPT_SECRET, "missing")]);
        assert_eq!(profile.unusable(), [], "it can be called all the same");
        profile.credentials.receipt_secret = Some("whsec_c2VjcmV0".to_owned());
        assert_eq!(profile.faults(), []);
    }

    #[test]
    fn what_is_said_of_a_fault_holds_no_secret() {
        let faulty = [
            http("http://user:secret@x", Some("sec\nret")),
            http("http://user:secret@[", Some("secret ")),
            smtp("mail", 25, Some("secret\0"), Some("secret\n")),
        ];
        for fault in faulty.iter().flat_map(RelayProfile::faults) {
            assert!(!fault.to_string().contains("secret"), "{fault}");
        }
        assert_eq!(
            found(faulty[0].faults()),
            [(API_KEY, "invalid_characters"), (BASE_URL, "credentials_in_url")]
        );
    }
}
