//! What stands between one process and the servers: it cuts the one off and none of the others.

use std::net::SocketAddr;

use kite_testkit::proxy::Proxy;

/// Which servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    Postgres,
    Nats,
}

/// The ways of one process to all servers.
pub(super) struct Doors {
    postgres: Vec<Proxy>,
    nats: Vec<Proxy>,
}

impl Doors {
    pub(super) fn before(postgres: &[SocketAddr], nats: &[SocketAddr]) -> std::io::Result<Self> {
        let before = |servers: &[SocketAddr]| -> std::io::Result<Vec<Proxy>> {
            servers.iter().map(|server| Proxy::start(*server)).collect()
        };
        Ok(Self { postgres: before(postgres)?, nats: before(nats)? })
    }

    fn to(&self, peer: Peer) -> &[Proxy] {
        match peer {
            Peer::Postgres => &self.postgres,
            Peer::Nats => &self.nats,
        }
    }

    /// Where the process finds the servers.
    pub(super) fn addresses(&self, peer: Peer) -> Vec<SocketAddr> {
        self.to(peer).iter().map(Proxy::address).collect()
    }

    /// Ends all connections.
    pub(super) fn cut(&self, peer: Peer) {
        self.to(peer).iter().for_each(Proxy::cut);
    }

    /// Lets nothing pass until it is released.
    pub(super) fn hold(&self, peer: Peer) {
        self.to(peer).iter().for_each(Proxy::hold);
    }

    /// Lets everything pass.
    pub(super) fn release(&self) {
        self.postgres.iter().chain(&self.nats).for_each(Proxy::release);
    }
}
