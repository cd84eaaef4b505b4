//! What is seen of each relay at this moment, for operators and for metrics.

use chrono::{DateTime, Utc};
use kite_commands::relay_desk::{CheckReport, LastCall, RelayDesk, RelayNow};
use kite_commands::{Clock, Vault};
use kite_domain::relay::{RelayEntry, RelayProfile};
use kite_domain::slug::RelayId;
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::sync::Arc;

use crate::attendance::Attendance;
use crate::breaker::BreakerGuard;
use crate::client::check;
use crate::expiry::Expiry;
use crate::figures;
use crate::queue::WorkQueue;

/// One relay. Outlives its definitions.
pub(crate) struct Board {
    relay: RelayId,
    breaker: Arc<BreakerGuard>,
    queue: Arc<dyn WorkQueue>,
    attendance: RwLock<Arc<Attendance>>,
    calls: Mutex<Calls>,
    expiry: Mutex<Expiry>,
}

#[derive(Debug, Clone, Default)]
struct Calls {
    last: Option<LastCall>,
    answered_at: Option<DateTime<Utc>>,
    failed_at: Option<DateTime<Utc>>,
}

impl Board {
    pub(crate) fn new(
        relay: RelayId,
        breaker: Arc<BreakerGuard>,
        queue: Arc<dyn WorkQueue>,
        attendance: Arc<Attendance>,
    ) -> Self {
        Self {
            relay,
            breaker,
            queue,
            attendance: RwLock::new(attendance),
            calls: Mutex::default(),
            expiry: Mutex::default(),
        }
    }

    /// The relay is defined anew.
    pub(crate) fn attended_by(&self, attendance: Arc<Attendance>) {
        *self.attendance.write() = attendance;
    }

    /// A call has ended.
    pub(crate) fn called(&self, call: LastCall) {
        let mut calls = self.calls.lock();
        let at = if call.is_answered { &mut calls.answered_at } else { &mut calls.failed_at };
        *at = Some(call.at);
        calls.last = Some(call);
    }

    /// Sets the gauges.
    pub(crate) fn show(&self, entry: &RelayEntry, now: DateTime<Utc>) {
        let (answered_at, failed_at) = {
            let calls = self.calls.lock();
            (calls.answered_at, calls.failed_at)
        };
        figures::relay_state(&self.relay, entry.unattended.is_none(), self.breaker.standing(now).phase);
        figures::last_calls(&self.relay, answered_at, failed_at);
        self.show_certificates(&entry.profile, now);
    }

    /// Says which certificates come to their end, and sets their gauges.
    fn show_certificates(&self, profile: &Arc<RelayProfile>, now: DateTime<Utc>) {
        let mut expiry = self.expiry.lock();
        let before = expiry.ends();
        expiry.look(profile);
        for news in expiry.news(now) {
            tracing::warn!(relay = %self.relay, "{news}");
        }
        let ends = expiry.ends();
        for (field, end) in &ends {
            figures::certificate(&self.relay, field, Some(*end - now));
        }
        for (field, _) in before.iter().filter(|(field, _)| ends.iter().all(|(other, _)| other != field)) {
            figures::certificate(&self.relay, field, None);
        }
    }

    fn now(&self, now: DateTime<Utc>) -> RelayNow {
        let standing = self.breaker.standing(now);
        let calls = self.calls.lock().clone();
        let (breaker_since, breaker_reason) = standing.changed.unzip();
        RelayNow {
            workers: self.attendance.read().workers(),
            breaker_reason,
            breaker_since,
            probes_from: standing.probes_from,
            last_call: calls.last,
            last_answer_at: calls.answered_at,
            last_failure_at: calls.failed_at,
            waiting: self.queue.waiting(&self.relay).map(|count| count as u64),
        }
    }
}

/// All relays of a process. Cheap to clone.
#[derive(Clone)]
pub struct Desk {
    boards: Arc<RwLock<HashMap<RelayId, Arc<Board>>>>,
    vault: Arc<Vault>,
    clock: Arc<dyn Clock>,
}

impl Desk {
    /// A desk that knows of no relay yet. It can check any whose credentials these keys open.
    pub fn new(vault: Arc<Vault>, clock: Arc<dyn Clock>) -> Self {
        Self { boards: Arc::default(), vault, clock }
    }

    pub(crate) fn board(&self, relay: &RelayId) -> Option<Arc<Board>> {
        self.boards.read().get(relay).cloned()
    }

    pub(crate) fn put(&self, board: Arc<Board>) {
        self.boards.write().insert(board.relay.clone(), board);
    }
}

#[async_trait::async_trait]
impl RelayDesk for Desk {
    fn now(&self, relay: &RelayId) -> Option<RelayNow> {
        Some(self.board(relay)?.now(self.clock.now()))
    }

    async fn check(&self, profile: &RelayProfile) -> CheckReport {
        check::check(profile, &self.vault, &*self.clock).await
    }
}
