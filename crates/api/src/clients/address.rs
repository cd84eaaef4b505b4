//! By what clients are told apart.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// An IPv4 address, or the /64 of an IPv6 address, because somebody who has one address of it has them all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientAddress(IpAddr);

/// The part of an IPv6 address that is a network's and not a machine's.
const NETWORK: u128 = !0 << 64;

impl From<IpAddr> for ClientAddress {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & NETWORK)),
        })
    }
}

impl fmt::Display for ClientAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => write!(formatter, "{address}"),
            IpAddr::V6(address) => write!(formatter, "{address}/64"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(address: &str) -> String {
        ClientAddress::from(address.parse::<IpAddr>().unwrap()).to_string()
    }

    #[test]
    fn an_ipv4_address_counts_for_itself_and_an_ipv6_address_for_its_network() {
        assert_eq!(told("192.0.2.1"), "192.0.2.1");
        assert_eq!(told("::ffff:192.0.2.1"), "192.0.2.1");
        assert_eq!(told("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");
        assert_eq!(told("2001:db8:1:2:ffff::1"), told("2001:db8:1:2::9"));
    }
}
