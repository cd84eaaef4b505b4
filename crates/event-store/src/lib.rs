//! The log: what happened, once, in order, for ever.
//!
//! This crate is the *port* ([`EventStore`]) and its adapters. It knows bytes, streams and positions, but no event of
//! the domain. Every adapter passes the same contract suite ([`contract`]).
//!
//! Deliberately absent: deleting, truncating, projections, snapshots, a clock (the appending process gives the time).

pub mod contract;
mod digest;
mod envelope;
mod errors;
mod gappy;
mod in_memory;
mod measure;
mod port;
pub mod postgres;
mod queue;
mod recent;
pub mod sqlite;
mod trace_parent;

pub use envelope::{Metadata, NewEvent, RecordedEvent, StreamName};
pub use errors::{SharedError, describe};
pub use gappy::{GappyEventStore, Gaps};
pub use in_memory::MemoryEventStore;
pub use port::{
    AppendError, Appended, Attention, Batch, BatchMode, EventStore, Expected, Filter, Following, KeptEvent,
    KeptPage, LogIndex, Page, Position, ReadError, StreamAppend, Tail, Urgency,
};
pub use postgres::PostgresEventStore;
pub use queue::weight_bytes;
pub use recent::Recent;
pub use sqlite::SqliteEventStore;
pub use trace_parent::TraceParent;
