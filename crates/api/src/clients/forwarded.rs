//! What proxies say about where a request comes from: `X-Forwarded-For`, or `Forwarded` (RFC 7239).
//!
//! Each proxy adds the address that called it at the right end. So from the right, the first address that is not a
//! proxy of ours is the client's; everything left of it was written by the client itself.

use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};

/// The header that the proxies write. The other one comes from the client and is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`
    XForwardedFor,
    /// `Forwarded`
    Forwarded,
}

impl ForwardedHeader {
    fn name(self) -> &'static str {
        self.into()
    }

    fn address(self, entry: &str) -> Option<IpAddr> {
        match self {
            Self::XForwardedFor => node(entry),
            Self::Forwarded => entry.split(';').find_map(|pair| {
                let (name, value) = pair.split_once('=')?;
                name.trim().eq_ignore_ascii_case("for").then(|| node(value))?
            }),
        }
    }
}

/// Entries that are read: more proxies in a row than anybody has.
const ENTRIES_MAX: usize = 32;

/// The client's address; none if the header names none. Nothing left of an unreadable entry is believed.
pub(super) fn client(
    headers: &HeaderMap,
    header: ForwardedHeader,
    is_proxy: impl Fn(IpAddr) -> bool,
) -> Option<IpAddr> {
    let lines: Vec<&str> =
        headers.get_all(header.name()).iter().map(|value| value.to_str().unwrap_or_default()).collect();
    let mut nearest = None;
    for entry in lines.iter().rev().flat_map(|line| line.rsplit(',')).take(ENTRIES_MAX) {
        let Some(address) = header.address(entry) else { break };
        nearest = Some(address);
        if !is_proxy(address) {
            break;
        }
    }
    nearest
}

/// An address, with or without quotes, brackets and a port.
fn node(text: &str) -> Option<IpAddr> {
    let text = text.trim().trim_matches('"');
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse::<IpAddr>().ok();
    address.or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip())).map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(header: ForwardedHeader, lines: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header.name(), line.parse().unwrap());
        }
        let is_proxy = |address: IpAddr| address.to_string().starts_with("10.");
        client(&headers, header, is_proxy).map(|address| address.to_string())
    }

    #[test]
    fn the_rightmost_address_that_is_no_proxy_is_the_clients() {
        let x = |lines: &[&str]| named(ForwardedHeader::XForwardedFor, lines);
        assert_eq!(x(&[]), None);
        assert_eq!(x(&["192.0.2.1"]).as_deref(), Some("192.0.2.1"));
        assert_eq!(x(&["203.0.113.1,192.0.2.1 , 10.0.0.1"]).as_deref(), Some("192.0.2.1"));
        assert_eq!(x(&["203.0.113.1", "192.0.2.1", "10.0.0.1"]).as_deref(), Some("192.0.2.1"));
        assert_eq!(x(&["10.0.0.2, 10.0.0.1"]).as_deref(), Some("10.0.0.2"));
        assert_eq!(x(&["192.0.2.1:4711"]).as_deref(), Some("192.0.2.1"));
        assert_eq!(x(&["[2001:db8::1]:4711"]).as_deref(), Some("2001:db8::1"));
        assert_eq!(x(&["2001:db8::1"]).as_deref(), Some("2001:db8::1"));
        assert_eq!(x(&["::ffff:192.0.2.1"]).as_deref(), Some("192.0.2.1"));
    }

    #[test]
    fn beyond_what_cannot_be_read_nothing_is_believed() {
        let x = |line: &str| named(ForwardedHeader::XForwardedFor, &[line]);
        assert_eq!(x("203.0.113.1, unknown, 10.0.0.1").as_deref(), Some("10.0.0.1"));
        assert_eq!(x("203.0.113.1, unknown"), None);
        assert_eq!(x(""), None);
    }

    #[test]
    fn forwarded_is_read_as_rfc_7239_writes_it() {
        let forwarded = |lines: &[&str]| named(ForwardedHeader::Forwarded, lines);
        assert_eq!(
            forwarded(&["for=203.0.113.1, For=\"[2001:db8:cafe::17]:4711\";proto=https"]).as_deref(),
            Some("2001:db8:cafe::17")
        );
        assert_eq!(forwarded(&["proto=http;for=192.0.2.60;by=10.0.0.1"]).as_deref(), Some("192.0.2.60"));
        assert_eq!(forwarded(&["for=192.0.2.60, for=_hidden"]), None);
    }
}
