//! What the listener accepts, and how long it waits.

use anyhow::ensure;
use ipnet::IpNet;
use kite_api::{ApiConfig, ClientRules, ForwardedHeader};
use kite_domain::keys::parse_network;
use serde::{Deserialize, Deserializer, Serialize};

use super::Room;
use super::connections::Limits;

/// Fewer bytes than this are not enough for the headers of an ordinary request; the HTTP library accepts no smaller
/// value either.
const HEADERS_BYTES_MIN: u32 = 8 << 10;
/// How much memory each connection may use without having sent anything.
const HEADERS_BYTES_MAX: u32 = 1 << 20;

/// The listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerSettings {
    /// Connections in total; fewer if there are not enough descriptors.
    pub connections_max: u32,
    /// Connections of one IPv4 address or IPv6 /64.
    pub connections_per_address_max: u32,
    /// Connections of the listener for administration, where it has one of its own.
    pub admin_connections_max: u32,
    /// Requests of one address that may be in progress at once.
    pub requests_per_address_max: u32,
    /// Wrong keys and signatures of one address in a minute.
    pub wrong_keys_per_address_max: u32,
    /// Requests at once on one HTTP/2 connection.
    pub http2_streams_max: u32,
    /// Descriptors kept back for relays and files.
    pub descriptors_reserved: u32,
    /// How long the headers of a request may take, in milliseconds.
    pub headers_timeout_ms: u64,
    /// How many bytes they may have.
    pub headers_bytes_max: u32,
    /// How long a connection may be without a request, in milliseconds.
    pub idle_timeout_ms: u64,
    /// How long nothing of an answer may be taken, in milliseconds; for a stranger's, how long it may take in total.
    pub answer_stall_timeout_ms: u64,
    /// Proxies that are believed about the client's address.
    #[serde(deserialize_with = "networks")]
    pub trusted_proxies: Vec<IpNet>,
    /// In which header they say it.
    pub forwarded_header: ForwardedHeader,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            connections_max: 4_096,
            connections_per_address_max: 256,
            admin_connections_max: 64,
            requests_per_address_max: 512,
            wrong_keys_per_address_max: 60,
            http2_streams_max: 100,
            descriptors_reserved: 512,
            headers_timeout_ms: 10_000,
            headers_bytes_max: 64 << 10,
            idle_timeout_ms: 120_000,
            answer_stall_timeout_ms: 30_000,
            trusted_proxies: Vec::new(),
            forwarded_header: ForwardedHeader::XForwardedFor,
        }
    }
}

/// Networks, or single addresses.
fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    let network = |text: &String| {
        parse_network(text).map_err(|error| serde::de::Error::custom(format!("`{text}` {error}")))
    };
    texts.iter().map(network).collect()
}

impl ServerSettings {
    /// Whether a request could come through.
    ///
    /// # Errors
    /// Names the key that keeps everything out.
    pub(crate) fn check(&self, api: &ApiConfig) -> anyhow::Result<()> {
        for (key, value) in [
            ("server.connections_max", u64::from(self.connections_max)),
            ("server.connections_per_address_max", self.connections_per_address_max.into()),
            ("server.admin_connections_max", self.admin_connections_max.into()),
            ("server.requests_per_address_max", self.requests_per_address_max.into()),
            ("server.http2_streams_max", self.http2_streams_max.into()),
            ("server.headers_timeout_ms", self.headers_timeout_ms),
            ("server.idle_timeout_ms", self.idle_timeout_ms),
            ("server.answer_stall_timeout_ms", self.answer_stall_timeout_ms),
            ("api.body_timeout_ms", api.body_timeout_ms),
            ("api.body_stall_timeout_ms", api.body_stall_timeout_ms),
        ] {
            ensure!(value > 0, "{key}: with 0 nothing would ever be served");
        }
        let bytes = self.headers_bytes_max;
        ensure!(
            (HEADERS_BYTES_MIN..=HEADERS_BYTES_MAX).contains(&bytes),
            "server.headers_bytes_max: {bytes} is not between {HEADERS_BYTES_MIN} and {HEADERS_BYTES_MAX}"
        );
        check_budgets(api)
    }

    /// What the connections are held to.
    pub(super) fn limits(&self, room: &Room) -> Limits {
        Limits {
            connections_max: room.connections_max as usize,
            connections_per_address_max: self.connections_per_address_max as usize,
            headers_timeout_ms: self.headers_timeout_ms,
            idle_timeout_ms: self.idle_timeout_ms,
            answer_stall_timeout_ms: self.answer_stall_timeout_ms,
        }
    }

    /// What the API asks of where requests come from.
    pub(crate) fn client_rules(&self) -> ClientRules {
        ClientRules {
            trusted_proxies: self.trusted_proxies.clone(),
            forwarded_header: self.forwarded_header,
            requests_per_address_max: self.requests_per_address_max,
            wrong_keys_per_address_max: self.wrong_keys_per_address_max,
        }
    }
}

/// The largest body has to fit into its sender's share, or it would never be accepted.
fn check_budgets(api: &ApiConfig) -> anyhow::Result<()> {
    let share = usize::from(api.share_per_cent);
    ensure!((1..=100).contains(&share), "api.share_per_cent: {share} is not between 1 and 100");
    let share_of = |bytes: usize| bytes.saturating_mul(share) / 100;
    for (key, bytes, of, largest) in [
        ("api.bytes_in_flight_max", share_of(api.bytes_in_flight_max), "sending", api.sending_body_bytes_max),
        ("api.bytes_in_flight_max", share_of(api.bytes_in_flight_max), "import", api.import_body_bytes_max),
        (
            "api.receipts_bytes_in_flight_max",
            share_of(api.receipts_bytes_in_flight_max),
            "receipts",
            api.receipts_body_bytes_max,
        ),
        (
            "api.unverified_bytes_in_flight_max",
            api.unverified_bytes_in_flight_max,
            "receipts",
            api.receipts_body_bytes_max,
        ),
        ("api.admin_bytes_in_flight_max", api.admin_bytes_in_flight_max, "other", api.body_bytes_max),
    ] {
        ensure!(
            bytes >= largest,
            "{key}: one caller's share is {bytes} bytes, and the largest body ({of}) has {largest}"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(server: ServerSettings, api: ApiConfig) -> String {
        server.check(&api).unwrap_err().to_string()
    }

    #[test]
    fn the_default_is_good() {
        ServerSettings::default().check(&ApiConfig::default()).unwrap();
    }

    #[test]
    fn what_would_keep_everything_out_is_refused_with_its_key() {
        let server = ServerSettings::default;
        let api = ApiConfig::default;
        for (refusal, key) in [
            (refusal(ServerSettings { connections_max: 0, ..server() }, api()), "server.connections_max: "),
            (refusal(ServerSettings { idle_timeout_ms: 0, ..server() }, api()), "server.idle_timeout_ms: "),
            (
                refusal(ServerSettings { headers_bytes_max: 100, ..server() }, api()),
                "server.headers_bytes_max: ",
            ),
            (refusal(server(), ApiConfig { share_per_cent: 101, ..api() }), "api.share_per_cent: "),
            (refusal(server(), ApiConfig { share_per_cent: 10, ..api() }), "api.bytes_in_flight_max: "),
            (
                refusal(server(), ApiConfig { unverified_bytes_in_flight_max: 1, ..api() }),
                "api.unverified_bytes_in_flight_max: ",
            ),
        ] {
            assert!(refusal.starts_with(key), "{refusal}");
        }
    }

    #[test]
    fn a_proxy_is_named_by_address_or_network() {
        let read =
            |text: &str| serde_json::from_str::<ServerSettings>(text).map_err(|error| error.to_string());
        let settings = read(r#"{"trusted_proxies":["127.0.0.1","10.0.0.0/8","fd00::/8"]}"#).unwrap();
        let told: Vec<String> = settings.trusted_proxies.iter().map(ToString::to_string).collect();
        assert_eq!(told, ["127.0.0.1/32", "10.0.0.0/8", "fd00::/8"]);
        assert!(read(r#"{"trusted_proxies":["proxy.example"]}"#).unwrap_err().contains("`proxy.example`"));
    }
}
