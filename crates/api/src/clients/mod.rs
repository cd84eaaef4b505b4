//! Where requests come from: which address, over which connection, and what one address may use.
//!
//! Counts per address are kept in a few atomics that a connection carries with it: no request waits for another. The
//! client's address behind a proxy is believed only from proxies that the configuration names.
//!
//! Deliberately absent: any influence on whether a key is good. A genuine key is served however many wrong ones came
//! from the same address.

mod address;
mod forwarded;
mod seldom;

pub use address::ClientAddress;
pub use forwarded::ForwardedHeader;
pub use seldom::Seldom;

use axum::http::HeaderMap;
use chrono::{DateTime, Utc};
use ipnet::IpNet;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// What one address may use, and which proxies are believed about where a request comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientRules {
    /// Proxies that are believed about the client's address.
    pub trusted_proxies: Vec<IpNet>,
    /// In which header they say it.
    pub forwarded_header: ForwardedHeader,
    /// Requests of one address that may be in progress at once; beyond that: 429.
    pub requests_per_address_max: u32,
    /// Wrong keys and signatures of one address per minute that are answered with 401; beyond that: 429.
    pub wrong_keys_per_address_max: u32,
}

impl Default for ClientRules {
    fn default() -> Self {
        Self {
            trusted_proxies: Vec::new(),
            forwarded_header: ForwardedHeader::XForwardedFor,
            requests_per_address_max: 512,
            wrong_keys_per_address_max: 60,
        }
    }
}

/// Independent parts of the list of addresses, because clients behind a proxy are looked up at each request.
const SHARDS: usize = 16;
/// Addresses in a part before those are dropped about which there is nothing to remember. (Not by last use: an address
/// with a connection must not be counted twice, however quiet it is.)
const ADDRESSES_PER_SHARD: usize = 4_096;

/// Lines of the log about wrong keys in a minute.
const WRONG_KEY_LINES_MAX: u32 = 100;

/// All addresses about which something is known. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Clients(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    rules: ClientRules,
    hasher: RandomState,
    shards: [Mutex<HashMap<ClientAddress, Arc<Client>>>; SHARDS],
    wrong_keys: Seldom,
    wrong_key_lines: PerMinute,
}

impl Default for Clients {
    fn default() -> Self {
        Self::new(ClientRules::default())
    }
}

impl Clients {
    /// Nobody yet.
    pub fn new(rules: ClientRules) -> Self {
        Self(Arc::new(Inner {
            rules,
            hasher: RandomState::new(),
            shards: Default::default(),
            wrong_keys: Seldom::default(),
            wrong_key_lines: PerMinute::default(),
        }))
    }

    /// The rules.
    pub fn rules(&self) -> &ClientRules {
        &self.0.rules
    }

    /// A connection from this address.
    pub fn peer(&self, address: IpAddr) -> Arc<Peer> {
        let address = address.to_canonical();
        let is_proxy = self.is_trusted(address);
        Arc::new(Peer {
            address,
            is_proxy,
            is_proven: AtomicBool::new(is_proxy),
            waiting: AtomicU32::new(0),
            paid_waiting: AtomicU32::new(0),
            client: self.client(address.into()),
        })
    }

    /// Where a request over this connection comes from.
    pub(crate) fn origin(&self, peer: Arc<Peer>, headers: &HeaderMap) -> Origin {
        let named = match peer.is_proxy {
            false => None,
            true => {
                forwarded::client(headers, self.0.rules.forwarded_header, |address| self.is_trusted(address))
            }
        };
        let address = named.unwrap_or(peer.address);
        let client = named.map_or_else(|| peer.client.clone(), |address| self.client(address.into()));
        Origin { peer, client, address }
    }

    /// For a request whose connection is not known.
    pub(crate) fn nowhere(&self) -> Arc<Peer> {
        self.peer(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    }

    /// For the log line about too many wrong keys.
    pub(crate) fn wrong_keys(&self) -> &Seldom {
        &self.0.wrong_keys
    }

    /// Whether a line is logged about a wrong key, which has this number for its address in this minute: the first of
    /// each address, as long as there are not too many addresses.
    pub(crate) fn is_told(&self, of_address: u32, now: DateTime<Utc>) -> bool {
        of_address == 1 && self.0.wrong_key_lines.count(now) <= WRONG_KEY_LINES_MAX
    }

    fn is_trusted(&self, address: IpAddr) -> bool {
        self.0.rules.trusted_proxies.iter().any(|network| network.contains(&address))
    }

    fn client(&self, address: ClientAddress) -> Arc<Client> {
        let shard = self.0.hasher.hash_one(address) as usize % SHARDS;
        let mut clients = self.0.shards[shard].lock();
        if let Some(client) = clients.get(&address) {
            return client.clone();
        }
        if clients.len() >= ADDRESSES_PER_SHARD {
            clients.retain(|_, client| Arc::strong_count(client) > 1);
        }
        let client = Arc::new(Client::new(address));
        clients.insert(address, client.clone());
        client
    }
}

/// One address. What is counted of it survives its connections.
#[derive(Debug)]
pub struct Client {
    address: ClientAddress,
    requests: Requests,
    wrong_keys: PerMinute,
}

impl Client {
    fn new(address: ClientAddress) -> Self {
        Self { address, requests: Requests::default(), wrong_keys: PerMinute::default() }
    }

    /// Which.
    pub fn address(&self) -> ClientAddress {
        self.address
    }

    /// Counts a request as in progress until the permit is dropped; none if there are too many.
    pub(crate) fn begin(&self, requests_max: u32) -> Option<RequestPermit> {
        self.requests.begin(requests_max)
    }

    /// Counts a wrong key; returns how many came in this minute.
    pub(crate) fn count_wrong_key(&self, now: DateTime<Utc>) -> u32 {
        self.wrong_keys.count(now)
    }
}

/// How often something happened in this minute.
///
/// The minute since 1970 in the upper half, the count in the lower.
#[derive(Debug, Default)]
struct PerMinute(AtomicU64);

impl PerMinute {
    /// Once more; answers how often it was.
    fn count(&self, now: DateTime<Utc>) -> u32 {
        let minute = u64::try_from(now.timestamp() / 60).unwrap_or(0) << 32;
        let after = |before: u64| if before >> 32 << 32 == minute { before + 1 } else { minute | 1 };
        let before = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |before| Some(after(before)));
        after(before.unwrap_or_else(|before| before)) as u32
    }
}

/// How many requests of somebody are in progress.
#[derive(Debug, Clone, Default)]
pub(crate) struct Requests(Arc<AtomicU32>);

impl Requests {
    /// One more, until the permit is dropped; none if there are too many.
    pub(crate) fn begin(&self, requests_max: u32) -> Option<RequestPermit> {
        let permit = RequestPermit(self.clone());
        (self.0.fetch_add(1, Ordering::Relaxed) < requests_max).then_some(permit)
    }

    /// Whether nobody but who keeps this knows it.
    pub(crate) fn is_forgotten(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

/// A request that is in progress.
#[derive(Debug)]
pub(crate) struct RequestPermit(Requests);

impl Drop for RequestPermit {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The other end of a connection: what the server and the handlers know about it.
#[derive(Debug)]
pub struct Peer {
    address: IpAddr,
    is_proxy: bool,
    is_proven: AtomicBool,
    waiting: AtomicU32,
    paid_waiting: AtomicU32,
    client: Arc<Client>,
}

impl Peer {
    /// Its address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The client that it is, or the proxy's own entry.
    pub fn client(&self) -> &Arc<Client> {
        &self.client
    }

    /// Whether it is believed about where requests come from.
    pub fn is_proxy(&self) -> bool {
        self.is_proxy
    }

    /// Whether a genuine key or signature came over it, or it is a trusted proxy.
    pub fn is_proven(&self) -> bool {
        self.is_proven.load(Ordering::Relaxed)
    }

    /// How many requests over it only wait for the rest of their bodies.
    pub fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// How many of them have a body that is counted against a known caller's budget.
    pub fn paid_waiting(&self) -> u32 {
        self.paid_waiting.load(Ordering::Relaxed)
    }

    pub(crate) fn prove(&self) {
        // Mostly it is known already, and reading costs the other threads nothing.
        if !self.is_proven() {
            self.is_proven.store(true, Ordering::Relaxed);
        }
    }

    /// A request over it waits for the rest of its body until this is dropped. `is_paid`: the body is counted against
    /// a known caller's budget.
    pub fn wait(self: &Arc<Self>, is_paid: bool) -> Waiting {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        if is_paid {
            self.paid_waiting.fetch_add(1, Ordering::Relaxed);
        }
        Waiting { peer: self.clone(), is_paid }
    }
}

/// A request that waits for its body.
#[derive(Debug)]
pub struct Waiting {
    peer: Arc<Peer>,
    is_paid: bool,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.peer.waiting.fetch_sub(1, Ordering::Relaxed);
        if self.is_paid {
            self.peer.paid_waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Where a request comes from. An extension of every request.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) peer: Arc<Peer>,
    pub(crate) client: Arc<Client>,
    /// The complete address, while `client` may be a network.
    pub(crate) address: IpAddr,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clients(proxies: &[&str]) -> Clients {
        let trusted_proxies = proxies.iter().map(|network| network.parse().unwrap()).collect();
        Clients::new(ClientRules { trusted_proxies, ..ClientRules::default() })
    }

    fn from(clients: &Clients, peer: &str, forwarded: &str) -> String {
        let headers =
            HeaderMap::from_iter([("x-forwarded-for".parse().unwrap(), forwarded.parse().unwrap())]);
        clients.origin(clients.peer(peer.parse().unwrap()), &headers).client.address().to_string()
    }

    #[test]
    fn a_clients_word_for_its_address_is_not_taken_but_a_known_proxys_is() {
        let clients = clients(&["10.0.0.0/8", "fd00::/8"]);
        assert_eq!(from(&clients, "192.0.2.1", "198.51.100.7"), "192.0.2.1");
        assert_eq!(from(&clients, "10.1.2.3", "198.51.100.7"), "198.51.100.7");
        assert_eq!(from(&clients, "::ffff:10.1.2.3", "198.51.100.7"), "198.51.100.7");
        assert_eq!(from(&clients, "fd00::1", "2001:db8:1:2:3::4"), "2001:db8:1:2::/64");
        // What a client wrote itself is left of what the proxy added.
        assert_eq!(from(&clients, "10.1.2.3", "203.0.113.9, 198.51.100.7, 10.0.0.9"), "198.51.100.7");
        assert_eq!(from(&clients, "10.1.2.3", "nonsense"), "10.1.2.3");
    }

    #[test]
    fn requests_under_way_are_counted_by_address_and_given_back() {
        let clients = clients(&[]);
        let client = clients.peer("192.0.2.1".parse().unwrap()).client().clone();
        let same = clients.peer("192.0.2.1".parse().unwrap()).client().clone();
        let first = client.begin(2).unwrap();
        let second = same.begin(2).unwrap();
        assert!(client.begin(2).is_none());
        drop(first);
        assert!(client.begin(2).is_some());
        drop(second);
        assert_eq!(client.requests.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn wrong_keys_are_counted_by_minute() {
        let client = Client::new("192.0.2.1".parse::<IpAddr>().unwrap().into());
        let at = |second: i64| DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap();
        assert_eq!([0, 1, 59].map(|second| client.count_wrong_key(at(second))), [1, 2, 3]);
        assert_eq!([60, 61].map(|second| client.count_wrong_key(at(second))), [1, 2]);
    }

    #[test]
    fn addresses_that_are_gone_are_forgotten() {
        let clients = clients(&[]);
        let kept = clients.peer("192.0.2.1".parse().unwrap());
        for number in 0..(SHARDS * ADDRESSES_PER_SHARD * 2) as u32 {
            clients.client(IpAddr::V4(number.into()).into());
        }
        let known: usize = clients.0.shards.iter().map(|shard| shard.lock().len()).sum();
        assert!(known <= SHARDS * ADDRESSES_PER_SHARD, "{known}");
        assert!(Arc::ptr_eq(kept.client(), &clients.client(kept.address().into())));
    }
}
