//! Bounds and secrets of the API, as whoever runs it sets them.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// SHA-256 of the admin key: all that is kept of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AdminKeyHash(pub(crate) [u8; 32]);

impl std::fmt::Debug for AdminKeyHash {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("AdminKeyHash(…)")
    }
}

/// What to keep of an admin key.
pub fn hash_admin_key(key: &str) -> AdminKeyHash {
    AdminKeyHash(Sha256::digest(key.as_bytes()).into())
}

/// Bounds and secrets of the API. Every bound has a refusal of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApiConfig {
    /// Who may use the admin endpoints; none: nobody.
    #[serde(skip)]
    pub admin_key_hash: Option<AdminKeyHash>,
    /// The most recipients in one request, groups included.
    pub recipients_max: usize,
    /// The largest body of a sending.
    pub sending_body_bytes_max: usize,
    /// The largest CSV file.
    pub import_body_bytes_max: usize,
    /// The largest body of pushed receipts.
    pub receipts_body_bytes_max: usize,
    /// The largest body anywhere else.
    pub body_bytes_max: usize,
    /// The most that all large bodies of tenants together may hold in memory; past it: 503.
    pub bytes_in_flight_max: usize,
    /// The part of it that one tenant may take, per cent; past it: 429. The same holds for each relay and its bytes.
    pub share_per_cent: u8,
    /// The most that all large bodies of operators together may hold in memory; past it: 503.
    pub admin_bytes_in_flight_max: usize,
    /// The most that receipts may hold in memory that come from where genuine ones of the same relay came from before.
    pub receipts_bytes_in_flight_max: usize,
    /// The most that bodies may hold in memory of which nobody knows yet whether they are genuine.
    pub unverified_bytes_in_flight_max: usize,
    /// How long a body may take to arrive, in milliseconds.
    pub body_timeout_ms: u64,
    /// How long a body may stand still, in milliseconds.
    pub body_stall_timeout_ms: u64,
    /// How long a read waits for a read model to catch up with a position, in milliseconds.
    pub read_wait_ms: u64,
    /// A read model that is further behind than this many positions makes the process not ready.
    pub ready_lag_events_max: u64,
    /// How long a projector may stand still while there is something to read before the process is not ready, in
    /// milliseconds.
    pub ready_standstill_ms_max: u32,
    /// With less room than this on the disk of the data directory the process is not ready and takes no new sendings, so that
    /// the results of what is under way can still be written, in bytes.
    pub ready_free_bytes_min: u64,
    /// With less room than this it says so, in bytes.
    pub ready_free_bytes_warn: u64,
    /// How far back the figures behind a recommendation reach, in minutes.
    pub figures_window_minutes: u32,
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self {
            admin_key_hash: None,
            recipients_max: 10_000,
            sending_body_bytes_max: 8 << 20,
            import_body_bytes_max: 16 << 20,
            receipts_body_bytes_max: 4 << 20,
            body_bytes_max: 1 << 20,
            bytes_in_flight_max: 64 << 20,
            share_per_cent: 50,
            admin_bytes_in_flight_max: 8 << 20,
            receipts_bytes_in_flight_max: 32 << 20,
            unverified_bytes_in_flight_max: 16 << 20,
            body_timeout_ms: 30_000,
            body_stall_timeout_ms: 10_000,
            read_wait_ms: 2_000,
            ready_lag_events_max: 100_000,
            ready_standstill_ms_max: 10_000,
            ready_free_bytes_min: 256 << 20,
            ready_free_bytes_warn: 1 << 30,
            figures_window_minutes: 60,
        }
    }
}
