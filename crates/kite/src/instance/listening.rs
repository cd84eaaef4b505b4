//! Where the API is called: at one address, or administration and metrics at one of their own.

use anyhow::Context;
use kite_api::{ApiState, Clients};
use std::net::SocketAddr;
use tokio::net::TcpListener;

use super::Instance;
use crate::config::{Config, ServerSettings};
use crate::server;

/// Where this process is called, and how many connections there may be.
pub(super) struct Listeners {
    public: TcpListener,
    admin: Option<TcpListener>,
    rooms: server::Rooms,
}

impl Listeners {
    pub(super) async fn open(config: &Config) -> anyhow::Result<Self> {
        let rooms = server::rooms(&config.server, config.admin_listen.is_some())?;
        let public = listen("listen", config.listen).await?;
        let admin = match config.admin_listen {
            Some(address) => Some(listen("admin_listen", address).await?),
            None => None,
        };
        Ok(Self { public, admin, rooms })
    }
}

async fn listen(key: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    listener.with_context(|| format!("{key}: cannot listen on {address}"))
}

impl Instance {
    /// Serves the API at one listener, or administration at one of its own.
    pub(super) fn start_listeners(
        &mut self,
        listeners: Listeners,
        state: ApiState,
        clients: Clients,
    ) -> anyhow::Result<()> {
        let settings = self.config.server.clone();
        let tls = self.tls.clone();
        let server::Rooms { public: room, admin: admin_room } = listeners.rooms;
        self.address = Some(listeners.public.local_addr()?);
        let mut router = kite_api::router(state.clone());
        if let (Some(listener), Some(room)) = (listeners.admin, admin_room) {
            self.admin_address = Some(listener.local_addr()?);
            router = kite_api::public_router(state.clone());
            let settings =
                ServerSettings { connections_per_address_max: room.connections_max, ..settings.clone() };
            let routes = kite_api::admin_router(state);
            let workers = self.workers.clone();
            let serving =
                server::serve(listener, tls.clone(), routes, clients.clone(), settings, room, workers);
            self.workers.start(serving);
        }
        let server::Room { descriptors, connections_max, .. } = room;
        let kept_back = settings.descriptors_reserved;
        tracing::info!(descriptors, kept_back, connections_max, "takes connections");
        if connections_max < settings.connections_max {
            let asked = settings.connections_max;
            tracing::warn!(
                asked,
                connections_max,
                "fewer connections than asked for: raise the limit of descriptors"
            );
        }
        let serving =
            server::serve(listeners.public, tls, router, clients, settings, room, self.workers.clone());
        self.workers.start(serving);
        Ok(())
    }
}
