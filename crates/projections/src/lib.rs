//! The read side: the content of the log, in tables for queries.
//!
//! Every read model is one SQLite file, or one schema in PostgreSQL ([`postgres`]), with one projector ([`Runner`]) that
//! folds events into it. Rows and checkpoint are written in one transaction, so a crash at any moment leaves a model that simply continues. A table is
//! described once (`table`); folds and queries know no engine (`engine`). A fold takes its time from the events,
//! never from a clock, and no row depends on where a page of the log ended. So a model that is rebuilt from position
//! 0 has the same rows as the live one, and [`replay::verify`] compares them. An event that cannot be applied is
//! parked with its reason and stops only the rest of its stream.
//!
//! - [`AddressBookQueries`]: contacts, groups, senders, opt-outs, templates, tenants;
//! - [`DirectoryQueries`]: where in the log the events in force are, from which relays, policies, senders and keys
//!   follow;
//! - [`RoutingQueries`]: relays, policies, splits with their carries, live figures for advice;
//! - [`DeliveryQueries`]: sendings, messages with their timelines, search, statistics;
//! - [`WorkQueries`]: what the write side looks through for forgotten work.
//!
//! Queries block for as long as a short read of a local file, or of a server, takes. A caller that must not block calls them on a
//! blocking thread.
//!
//! Deliberately absent: decisions, calls to relays (replaying must never cause any), a clock, and threads: the owner
//! of a projector drives its `step` and waits between steps.

mod address_book;
mod cache;
mod database;
mod delivery;
mod directory;
mod engine;
mod error;
mod files;
mod histogram;
mod listing;
mod parked;
mod pool;
pub mod postgres;
mod projector;
mod read_model;
mod read_models;
mod readers;
mod register;
pub mod replay;
mod routing;
mod sql;
mod storage;
mod table;
#[cfg(test)]
mod tests;
mod work;

pub use address_book::{
    AddressBookQueries, Bond, Contact, ContactFilter, Group, OptOut, StoredRefusals, Template, Tenant,
};
pub use delivery::{
    Counted, Counter, Counts, DeliveryQueries, Dimension, KnownAttempt, KnownMessage, KnownPause,
    KnownSending, MessageFilter, MessageSearch, MessageStatus, RelayTotals, SendingFilter, SendingState,
    StatisticsQuery, StatisticsRow, Totals,
};
pub use directory::{DirectoryQueries, InForce};
pub use engine::StorageError;
pub use error::{ApplyError, OpenError, ProjectError, QueryError};
pub use listing::{Cursor, Listing};
pub use parked::{Cause, ParkedEvent};
pub use projector::{COALESCING, Projected, Runner, catch_up};
pub use read_models::{ReadModels, RouterPlace};
pub use routing::{Carries, KnownAdvice, KnownPolicy, KnownRelay, KnownSplit, RoutingQueries, SplitShare};
pub use storage::Storage;
pub use work::{
    Backlog, NotUnderstood, NotUnderstoodCount, OpenLot, OpenSending, UnclassifiedCode, WorkQueries, Workload,
};
