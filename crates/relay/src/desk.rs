//! All relays as operators and metrics see them.

use chrono::TimeDelta;
use kite_commands::relay_desk::{CheckReport, RelayDesk, RelayNow};
use kite_commands::{Clock, Vault};
use kite_domain::relay::RelayProfile;
use kite_domain::slug::RelayId;
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;

use crate::board::Board;
use crate::client::check;

/// All relays of a process. Cheap to clone.
#[derive(Clone)]
pub struct Desk {
    boards: Arc<RwLock<HashMap<RelayId, Arc<Board>>>>,
    vault: Arc<Vault>,
    clock: Arc<dyn Clock>,
}

impl Desk {
    /// A desk that knows no relay yet. It can check any relay whose credentials these keys decrypt.
    pub fn new(vault: Arc<Vault>, clock: Arc<dyn Clock>) -> Self {
        Self { boards: Arc::default(), vault, clock }
    }

    pub(crate) fn board(&self, relay: &RelayId) -> Option<Arc<Board>> {
        self.boards.read().get(relay).cloned()
    }

    pub(crate) fn put(&self, board: Arc<Board>) {
        self.boards.write().insert(board.relay().clone(), board);
    }
}

#[async_trait::async_trait]
impl RelayDesk for Desk {
    fn now(&self, relay: &RelayId) -> Option<RelayNow> {
        Some(self.board(relay)?.now(self.clock.now()))
    }

    fn clocks_ahead(&self) -> Vec<TimeDelta> {
        let now = self.clock.now();
        self.boards.read().values().filter_map(|board| board.clock_ahead(now)).collect()
    }

    async fn check(&self, profile: &RelayProfile) -> CheckReport {
        check::check(profile, &self.vault, &*self.clock).await
    }
}
