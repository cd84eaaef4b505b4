//! The work queue on NATS JetStream, for several processes.
//!
//! ```text
//! publisher ──► lanes ──pump──► stream, a subject per relay and class ──intake──► lanes ──► workers
//! ```
//! - The lanes of the publisher's process order the jobs, as they do in a single process: turns of tenants, shares of classes,
//!   times. The pump (`pump.rs`) keeps the stream shallow, about two seconds of a relay's rate, so that a password never stands
//!   behind a campaign that was published before.
//! - A worker's process pulls what its idle workers can take (`intake.rs`), and says of what it holds that it is worked on. It
//!   acknowledges a parcel when everything that follows from it is in the log; what a process held that died or stands still is
//!   given to others.
//! - Nothing here is the truth. The server may lose what it acknowledged: it syncs its files to disk once in a while. What shows no
//!   progress is published again from the log.
//! - What cannot be understood goes to a stream of its own, with the reason ([`DeadLetters`]).
//!
//! Deliberately absent: what a job means (crate `kite-relay`), who publishes (a lease decides, crate `kite-runtime`).

mod connect;
mod dead;
mod held;
mod intake;
mod local;
mod metrics;
mod names;
mod parcel;
mod pauses;
mod pump;
mod queue;
mod streams;
mod window;

pub use connect::{Connection, Login, OpenError, Server};
pub use dead::{DeadLetter, DeadLetters};
pub use queue::{Driver, JetStreamQueue, QueueParts};
pub use streams::StreamLimits;
pub use window::Flow;
