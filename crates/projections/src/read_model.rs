//! What a read model is: tables, and the fold that fills them.

use kite_domain::event::Event;
use kite_event_store::{Filter, RecordedEvent, StreamName};

use crate::engine::Tables;
use crate::error::ApplyError;
use crate::table::Table;

/// What makes a file of an earlier version one of this version. Both have the same tables, so that the file can be read as
/// it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Upgrade {
    /// The version in the file.
    pub(crate) from: i64,
    /// What has to be done.
    pub(crate) sql: &'static str,
}

/// What a step can take at once, and what it needs from the log for that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// How many of the events, from the first; at least one.
    pub(crate) events: usize,
    /// Pieces of streams that have to be read again.
    pub(crate) streams: Vec<StreamPiece>,
}

/// A piece of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StreamPiece {
    /// Which stream.
    pub(crate) stream: StreamName,
    /// From the version after this one.
    pub(crate) after: u64,
    /// Up to and including this version.
    pub(crate) until: u64,
}

/// Tables and the fold that fills them.
///
/// What is in a row must follow from the events and their order alone: not from a clock, not from where a page ended,
/// not from what happened to be cached.
pub(crate) trait ReadModel: Default + Send + 'static {
    /// Names the file or the schemas, the metrics and the log lines.
    const NAME: &'static str;
    /// Of the tables. A model with another one has to be rebuilt.
    const SCHEMA_VERSION: i64;
    /// For the pages of the writing connection.
    const CACHE_BYTES: usize;
    /// What it fills.
    const TABLES: &'static [&'static Table];
    /// From the version before, if its files need not be rebuilt.
    const UPGRADE: Option<Upgrade> = None;

    /// What makes, or makes again, the views for people on the tables of this schema in PostgreSQL. A view that was released keeps its
    /// columns: more of them come at its end.
    fn views(_schema: &str) -> String {
        String::new()
    }

    /// The events that the fold looks at.
    fn filter() -> Filter;

    /// Whether later events of a stream build on events of this kind. Then they wait behind one that is parked, so that the
    /// rows show the stream as it was before it, and not something that never was.
    fn is_built_upon(_kind: &str) -> bool {
        true
    }

    /// Decides how many of the events the next transaction takes.
    fn plan(&mut self, _tables: Tables<'_>, events: &[(RecordedEvent, Event)]) -> Result<Plan, ApplyError> {
        Ok(Plan { events: events.len(), streams: Vec::new() })
    }

    /// Takes over the events of a stream that [`ReadModel::plan`] asked for.
    fn supply(&mut self, _stream: &str, _events: Vec<(RecordedEvent, Event)>) {}

    /// Folds events into the tables: reads the rows that they are about, changes them in memory, and writes each once, at
    /// the end.
    fn apply(&mut self, tables: Tables<'_>, events: &[(RecordedEvent, Event)]) -> Result<(), ApplyError>;

    /// The tables are on a server, where reading rows back costs more: it may keep more of them in memory.
    fn keep_more(&mut self) {}

    /// Drops everything that is not in the tables: the transaction was rolled back.
    fn forget(&mut self) {
        *self = Self::default();
    }
}
