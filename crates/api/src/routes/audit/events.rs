//! `GET /v1/audit/events`

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Duration, Utc};
use futures::FutureExt;
use kite_commands::accept::ACCEPTANCE_EVENT_BYTES_MAX;
use kite_commands::event_store::{EventStore, Filter, LogIndex, RecordedEvent};
use kite_domain::ids::{MessageId, SendingId};
use serde::Deserialize;
use std::ops::ControlFlow;
use utoipa::IntoParams;
use uuid::Uuid;

use super::EventView;
use super::message::events_of;
use super::view::is_visible;
use crate::answer::{Page, Paging};
use crate::auth::Caller;
use crate::export::{Batch, FileFormat, FormatWord, export, refuse_limit};
use crate::extract::ApiQuery;
use crate::problem::{Answer, Code, Problem};
use crate::state::ApiState;

/// Which events.
#[derive(Debug, Default, Clone, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AuditQuery {
    /// Only of this stream, such as `policy-acme-sms`.
    pub stream: Option<String>,
    /// Only those that concern this message.
    pub message: Option<String>,
    /// Only what followed from this request; for a sending, its id.
    #[param(pattern = "^[0-9a-f]{32}$")]
    pub correlation: Option<String>,
    /// Only of this type, such as `relay-suspended`.
    #[serde(rename = "type")]
    #[param(rename = "type")]
    pub kind: Option<String>,
    /// At this time or later.
    pub from: Option<DateTime<Utc>>,
    /// Before this time.
    pub until: Option<DateTime<Utc>>,
    /// The `next` of the page before; none: the first page.
    pub cursor: Option<String>,
    /// How many at most on a page, 1 to 200. Not with a file, which holds all of them.
    #[param(minimum = 1, maximum = 200, default = 50)]
    pub limit: Option<usize>,
    /// All of them from the cursor on as a file: `csv` or `ndjson`. The header `accept` does the same.
    pub format: Option<FormatWord>,
}

/// Bytes of events on a page, or in a piece of a file, unless the last event is larger: both are held in memory.
const BYTES_MAX: usize = 8 << 20;
/// Events read at once of the whole log, where the store bounds what it brings in bytes too; and the most on a piece of a
/// file.
const READ: usize = 500;
/// Events read at once of a stream or a correlation, where it does not.
const READ_OF_ONE: usize = BYTES_MAX / ACCEPTANCE_EVENT_BYTES_MAX;
/// The most that one request looks at.
const LOOKED_AT_MAX: usize = 20_000;

/// Times come from whoever appends, so they follow positions only nearly: clocks are taken to differ by no more than this.
const CLOCKS_APART_MAX: Duration = Duration::minutes(5);

/// Shows the log: by stream, by message, by correlation, or by time. In the order of the log; a page may be short, even
/// empty, although there is more: only a page without `next` is the last. A page of large events ends after 8 MiB of them.
///
/// With `format=csv` (or `Accept: text/csv`) or `format=ndjson` all of it as a file of at most 1,000,000 rows and half an
/// hour; a file that would be longer is broken off.
#[utoipa::path(
    get, path = "/v1/audit/events", tag = "audit", operation_id = "list_audit_events", params(AuditQuery),
    responses((status = 200, description = "A page of events.", content(
        (Page<EventView> = "application/json"), (String = "text/csv"), (String = "application/x-ndjson")
    )))
)]
pub async fn handler(
    state: State<ApiState>,
    caller: Caller,
    ApiQuery(query): ApiQuery<AuditQuery>,
    headers: HeaderMap,
) -> Answer<Response> {
    let Some(format) = FileFormat::of(query.format, &headers) else {
        let limit = Paging::of(None, query.limit).size()?;
        return Ok(Json(page(&state, &caller, &query, limit).await?).into_response());
    };
    refuse_limit(query.limit)?;
    let (source, asking, cursor) = (state.0.clone(), caller.clone(), query.cursor.clone());
    let pages = Box::new(move |cursor: Option<String>| {
        let (state, caller) = (source.clone(), asking.clone());
        let query = AuditQuery { cursor, ..query.clone() };
        async move {
            let page = page(&state, &caller, &query, READ).await?;
            Ok(Batch { items: page.items, next: page.next })
        }
        .boxed()
    });
    export::<EventView>(&state, caller.tenant(), format, cursor, pages).await
}

async fn page(
    state: &ApiState,
    caller: &Caller,
    query: &AuditQuery,
    limit: usize,
) -> Answer<Page<EventView>> {
    let named = [&query.stream, &query.message, &query.correlation].into_iter().flatten().count();
    if named > 1 {
        return Err(invalid("Only one of the parameters stream, message and correlation may be given."));
    }
    if let Some(message) = &query.message {
        let id: MessageId = message.parse().map_err(|_| Problem::not_found("message"))?;
        let events = events_of(state, caller, id).await?;
        let items = events.into_iter().filter(|event| query.admits(&event.kind, event.time)).collect();
        return Ok(Page { items, next: None });
    }
    let source = Source::of(query)?;
    let mut search = Search { caller, query, items: Vec::new(), limit, bytes_left: BYTES_MAX };
    let next = search.run(&**state.write_side.journal.store(), &*state.log_index, &source).await?;
    Ok(Page { items: search.items, next: next.map(|place| source.cursor(place)) })
}

fn invalid(detail: &str) -> Problem {
    Problem::new(Code::InvalidParameter, detail)
}

/// Where events are read from. A cursor holds the place of the last event that was looked at, and works only with the
/// source that gave it out.
enum Source {
    Stream(String),
    Correlation(Uuid),
    Everything,
}

impl Source {
    fn of(query: &AuditQuery) -> Answer<Self> {
        match (&query.stream, &query.correlation) {
            (Some(stream), _) => Ok(Self::Stream(stream.clone())),
            (None, Some(text)) => {
                let id: SendingId =
                    text.parse().map_err(|_| invalid("The parameter correlation must be an id."))?;
                Ok(Self::Correlation(id.0))
            }
            (None, None) => Ok(Self::Everything),
        }
    }

    fn tag(&self) -> u8 {
        match self {
            Self::Stream(_) => b's',
            Self::Correlation(_) => b'c',
            Self::Everything => b'a',
        }
    }

    fn cursor(&self, place: u64) -> String {
        let mut bytes = [self.tag(); 9];
        bytes[1..].copy_from_slice(&place.to_be_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The place after which to read on.
    fn place(&self, cursor: Option<&str>) -> Answer<Option<u64>> {
        let Some(cursor) = cursor else { return Ok(None) };
        let wrong = || Problem::new(Code::InvalidCursor, "The cursor was not given out by this list.");
        let bytes: [u8; 9] =
            URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|b| b.try_into().ok()).ok_or_else(wrong)?;
        let (tag, place) = bytes.split_first().ok_or_else(wrong)?;
        let place = place.try_into().map(u64::from_be_bytes).map_err(|_| wrong())?;
        if *tag == self.tag() { Ok(Some(place)) } else { Err(wrong()) }
    }
}

impl AuditQuery {
    fn admits(&self, kind: &str, time: DateTime<Utc>) -> bool {
        self.kind.as_deref().is_none_or(|wanted| wanted == kind)
            && self.from.is_none_or(|from| from <= time)
            && self.until.is_none_or(|until| time < until)
    }

    /// Whether nothing after an event of this time can be of interest.
    fn is_over(&self, time: DateTime<Utc>) -> bool {
        self.until
            .is_some_and(|until| until.checked_add_signed(CLOCKS_APART_MAX).is_some_and(|last| time >= last))
    }
}

struct Search<'s> {
    caller: &'s Caller,
    query: &'s AuditQuery,
    items: Vec<EventView>,
    limit: usize,
    /// Bytes of events that the page has room for.
    bytes_left: usize,
}

impl Search<'_> {
    /// Fills a page. Answers where to read on, if there may be more.
    async fn run(
        &mut self,
        store: &dyn EventStore,
        index: &dyn LogIndex,
        source: &Source,
    ) -> Answer<Option<u64>> {
        let mut place = match (source.place(self.query.cursor.as_deref())?, source, self.query.from) {
            (Some(place), _, _) => place,
            (None, Source::Everything | Source::Correlation(_), Some(from)) => {
                let from = from.checked_sub_signed(CLOCKS_APART_MAX).unwrap_or(DateTime::<Utc>::MIN_UTC);
                index.position_before(from).await?
            }
            (None, _, _) => 0,
        };
        let filter = self.query.kind.as_deref().map_or_else(Filter::everything, |kind| Filter::kinds([kind]));
        let mut looked_at = 0;
        while looked_at < LOOKED_AT_MAX {
            let (events, next, is_end) = match source {
                Source::Stream(stream) => {
                    let events = store.read_stream(stream, place, READ_OF_ONE).await?;
                    let next = events.last().map_or(place, |last| last.version);
                    let is_end = events.len() < READ_OF_ONE;
                    (events, next, is_end)
                }
                Source::Correlation(id) => {
                    let events = index.read_correlation(*id, place, READ_OF_ONE).await?;
                    let next = events.last().map_or(place, |last| last.position);
                    let is_end = events.len() < READ_OF_ONE;
                    (events, next, is_end)
                }
                Source::Everything => {
                    let page = store.read_all(place, READ, &filter).await?;
                    let is_end = page.next == place;
                    (page.events, page.next, is_end)
                }
            };
            looked_at += match source {
                Source::Stream(_) | Source::Correlation(_) => READ_OF_ONE,
                Source::Everything => READ,
            };
            match self.take(source, events) {
                ControlFlow::Break(stop) => return Ok(stop),
                ControlFlow::Continue(()) if is_end => return Ok(None),
                ControlFlow::Continue(()) => place = next,
            }
        }
        Ok(Some(place))
    }

    /// Takes what is asked for and may be seen. Stops when the page is full, with the place to read on from, or when
    /// nothing more can follow.
    fn take(&mut self, source: &Source, events: Vec<RecordedEvent>) -> ControlFlow<Option<u64>> {
        for recorded in events {
            if self.query.is_over(recorded.metadata.time) {
                return ControlFlow::Break(None);
            }
            let place = match source {
                Source::Stream(_) => recorded.version,
                Source::Correlation(_) | Source::Everything => recorded.position,
            };
            if is_visible(self.caller, &recorded) && self.query.admits(&recorded.kind, recorded.metadata.time)
            {
                self.bytes_left = self.bytes_left.saturating_sub(recorded.data.len());
                self.items.push(EventView::of(recorded));
            }
            if self.items.len() >= self.limit || self.bytes_left == 0 {
                return ControlFlow::Break(Some(place));
            }
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::AdminAuth;
    use kite_commands::event_store::{
        Batch, BatchMode, Expected, MemoryEventStore, Metadata, NewEvent, StreamAppend,
    };

    const EVENTS: u64 = 70;
    const CORRELATION: Uuid = Uuid::from_u128(7);

    /// A stream of events as large as an acceptance may be.
    async fn store_of_large_events() -> MemoryEventStore {
        let store = MemoryEventStore::new();
        let data = format!("{{\"text\":\"{}\"}}", "x".repeat(ACCEPTANCE_EVENT_BYTES_MAX - 11));
        assert_eq!(data.len(), ACCEPTANCE_EVENT_BYTES_MAX);
        let event = |number: u64| NewEvent {
            id: Uuid::from_u128(u128::from(number) + 1),
            kind: "lot-accepted".into(),
            schema_version: 1,
            data: data.clone().into(),
        };
        let append = StreamAppend {
            stream: "lot-1".into(),
            expected: Expected::Any,
            metadata: Metadata {
                time: DateTime::UNIX_EPOCH,
                tenant: None,
                correlation: CORRELATION,
                causation: None,
                actor: "router".into(),
                traceparent: None,
            },
            events: (0..EVENTS).map(event).collect(),
        };
        let answers = store.append(Batch { appends: vec![append], mode: BatchMode::Independent }).await;
        assert!(answers.iter().all(Result::is_ok));
        store
    }

    #[tokio::test]
    async fn pages_of_large_events_are_bounded_and_bring_every_event_once() {
        let store = store_of_large_events().await;
        let caller = Caller::Admin(AdminAuth { actor: "admin".into() });
        for source in
            [Source::Stream("lot-1".to_owned()), Source::Correlation(CORRELATION), Source::Everything]
        {
            let mut query = AuditQuery::default();
            let mut positions = Vec::new();
            loop {
                let mut search = Search {
                    caller: &caller,
                    query: &query,
                    items: Vec::new(),
                    limit: READ,
                    bytes_left: BYTES_MAX,
                };
                let next = search.run(&store, &store, &source).await.unwrap();
                let bytes: usize =
                    search.items.iter().map(|event| event.data["text"].as_str().unwrap().len()).sum();
                assert!(bytes <= BYTES_MAX + ACCEPTANCE_EVENT_BYTES_MAX, "{bytes}");
                positions.extend(search.items.iter().map(|event| event.position));
                let Some(place) = next else { break };
                query.cursor = Some(source.cursor(place));
            }
            assert_eq!(positions, (1..=EVENTS).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_cursor_works_only_where_it_came_from() {
        let stream = Source::Stream("policy-acme-sms".to_owned());
        let cursor = stream.cursor(7);
        assert_eq!(stream.place(Some(&cursor)), Ok(Some(7)));
        assert_eq!(stream.place(None), Ok(None));
        for (source, text) in
            [(&Source::Everything, cursor.as_str()), (&stream, ""), (&stream, "%%%"), (&stream, "AAAA")]
        {
            assert_eq!(source.place(Some(text)).unwrap_err().code(), Code::InvalidCursor);
        }
    }
}
