//! Handing messages over to relays (중계사): the work queue, the workers that take from it, the two relay clients.
//!
//! ```text
//! log ──publisher──► work queue ──workers─► intent in the log ──► relay ──► response in the log
//! ```
//! - The queue is derived from the log ([`publisher`]) and can be derived again at any time: losing it loses nothing.
//! - It gives out jobs at least once ([`queue`]). A worker ([`worker`]) looks at the lot before it acts, so a job that is
//!   stale, or there twice, does nothing.
//! - A relay is called by as many processes as have shares of it.
//! - The intent is in the log before the relay is called. An answer that did not come is *unknown*, not failed.
//! - Nothing here sleeps: a step says until when it is idle, and the loop outside waits.
//!
//! Deliberately absent: which relay a message goes to (the router and the lot decide), what a failure leads to (the
//! lot decides), tasks and their life (crate `kite`), the HTTP route for pushed receipts (crate `kite-api`).

mod attendance;
mod board;
mod breaker;
mod call_trace;
pub mod client;
mod content;
mod desk;
mod expiry;
mod handover_time;
pub mod lanes;
mod limits;
mod metrics;
mod parts;
mod patience;
pub mod publisher;
pub mod queue;
pub mod receipts;
mod settings;
mod shares;
mod slowdown;
mod steward;
mod sweeper;
mod team;
mod watched;
pub mod worker;

pub use breaker::BreakerGuard;
pub use client::check::check as check_relay;
pub use client::{Connector, NetworkConnector, RelayClient};
pub use content::Texts;
pub use desk::Desk;
pub use lanes::{InProcessQueue, QueueLimits};
pub use limits::Pace;
pub use parts::RelayParts;
pub use publisher::{FeedError, Publisher, QueueFeeder};
pub use queue::WorkQueue;
pub use settings::RelaySettings;
pub use sweeper::Sweeper;
pub use team::{Hired, Relays, Urgency};
pub use watched::PanicNotice;
