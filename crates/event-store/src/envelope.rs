//! What the log stores beside the event's own data.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use smol_str::SmolStr;
use uuid::Uuid;

use crate::trace_parent::TraceParent;

/// The name of a stream, such as `lot-0197…-3`. At most 255 bytes of printable ASCII.
pub type StreamName = SmolStr;

/// Who, when and why, the same for all events of one append. Set from the request's context, never by a
/// handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// When it happened, by the clock of the process that appends. Folds take their time from here. The log stores
    /// whole milliseconds: fractions are cut off.
    pub time: DateTime<Utc>,
    /// The tenant; none for what belongs to the platform (relays).
    pub tenant: Option<SmolStr>,
    /// The request or scheduled run that caused this; the same for everything that follows from it.
    pub correlation: Uuid,
    /// The event that this one answers, if any.
    pub causation: Option<Uuid>,
    /// Who did it: `key:<id>`, `admin`, `router`, `worker:<relay>`, `timekeeper`, `relay:<relay>`.
    pub actor: SmolStr,
    /// The trace that it belongs to, for whoever looks for what took how long; no fold reads it. None where nobody traced, and in
    /// what was written before there were traces.
    pub traceparent: Option<TraceParent>,
}

impl Metadata {
    /// As the log keeps it.
    pub(crate) fn at_log_precision(mut self) -> Self {
        self.time = DateTime::from_timestamp_millis(self.time.timestamp_millis()).unwrap_or(self.time);
        self
    }
}

/// An event to be appended. `data` is JSON text; the store does not look into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// Time-ordered and the same when the same append is tried again.
    pub id: Uuid,
    /// The event's type: a string of ours, never a Rust path.
    pub kind: SmolStr,
    /// The version of the data's shape, from 1.
    pub schema_version: u16,
    /// JSON text.
    pub data: Bytes,
}

/// An event as the log gives it back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedEvent {
    /// Its place in the whole log. Grows; may have gaps in some adapters: compare only with `<`.
    pub position: u64,
    /// The stream it belongs to.
    pub stream: StreamName,
    /// Its place in the stream, from 1.
    pub version: u64,
    /// See [`NewEvent::id`].
    pub id: Uuid,
    /// See [`NewEvent::kind`].
    pub kind: SmolStr,
    /// See [`NewEvent::schema_version`].
    pub schema_version: u16,
    /// See [`Metadata`].
    pub metadata: Metadata,
    /// See [`NewEvent::data`].
    pub data: Bytes,
}
