//! An event with its envelope.

use chrono::{DateTime, Utc};
use kite_commands::event_store::RecordedEvent;
use kite_domain::event::redact;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::auth::Caller;
use crate::export::{Column, Listed, optional, time};

/// An event as it is in the log.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Event)]
pub struct EventView {
    /// Its place in the whole log.
    pub position: u64,
    /// The stream that it belongs to.
    #[schema(example = "lot-0197c0de000070008000000000000004-0")]
    pub stream: String,
    /// Its place in the stream, from 1.
    pub version: u64,
    /// Its id.
    #[schema(value_type = String)]
    pub id: uuid::Uuid,
    /// Its type.
    #[serde(rename = "type")]
    #[schema(example = "messages-routed")]
    pub kind: String,
    /// The version of the shape of `data`.
    pub schema_version: u16,
    /// When it happened.
    pub time: DateTime<Utc>,
    /// Whose it is; none: the platform's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The same over everything that follows from one request; for a sending, its id.
    #[schema(value_type = String)]
    pub correlation: uuid::Uuid,
    /// The event that this one answers.
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub causation: Option<uuid::Uuid>,
    /// The trace that it belongs to, as in the header `traceparent` of W3C Trace Context: the one of the request that it follows
    /// from.
    #[schema(example = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// Who did it.
    #[schema(example = "router")]
    pub actor: String,
    /// Only the part of `data` that concerns the message that was asked for.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_excerpt: bool,
    /// What happened.
    #[schema(value_type = Object)]
    pub data: Value,
}

impl EventView {
    /// As it may be shown.
    pub(super) fn of(recorded: RecordedEvent) -> Self {
        let mut data: Value = serde_json::from_slice(&recorded.data).unwrap_or(Value::Null);
        redact(&recorded.kind, &mut data);
        Self {
            position: recorded.position,
            stream: recorded.stream.to_string(),
            version: recorded.version,
            id: recorded.id,
            kind: recorded.kind.to_string(),
            schema_version: recorded.schema_version,
            time: recorded.metadata.time,
            tenant: recorded.metadata.tenant.map(|tenant| tenant.to_string()),
            correlation: recorded.metadata.correlation,
            causation: recorded.metadata.causation,
            traceparent: recorded.metadata.traceparent.map(|traceparent| traceparent.to_string()),
            actor: recorded.metadata.actor.to_string(),
            is_excerpt: false,
            data,
        }
    }
}

impl Listed for EventView {
    const FILE: &'static str = "events";

    fn columns() -> Vec<Column<Self>> {
        vec![
            Column::new("position", |event: &Self| event.position.to_string()),
            Column::new("time", |event: &Self| time(event.time)),
            Column::new("stream", |event: &Self| event.stream.clone()),
            Column::new("version", |event: &Self| event.version.to_string()),
            Column::new("id", |event: &Self| event.id.to_string()),
            Column::new("type", |event: &Self| event.kind.clone()),
            Column::new("schema_version", |event: &Self| event.schema_version.to_string()),
            Column::new("tenant", |event: &Self| optional(event.tenant.as_ref())),
            Column::new("correlation", |event: &Self| event.correlation.to_string()),
            Column::new("causation", |event: &Self| optional(event.causation)),
            Column::new("actor", |event: &Self| event.actor.clone()),
            Column::new("data", |event: &Self| event.data.to_string()),
            Column::new("traceparent", |event: &Self| optional(event.traceparent.as_ref())),
        ]
    }
}

/// Whether the caller may see the event.
pub(super) fn is_visible(caller: &Caller, recorded: &RecordedEvent) -> bool {
    caller.tenant().is_none_or(|tenant| recorded.metadata.tenant.as_deref() == Some(tenant.as_str()))
}
