//! `GET /v1/audit/events`

use axum::extract::State;
use axum::response::Response;
use chrono::{DateTime, Duration, Utc};
use kite_commands::accept::ACCEPTANCE_EVENT_BYTES_MAX;
use kite_commands::event_store::{EventStore, Filter, LogIndex, RecordedEvent};
use kite_domain::ids::{MessageId, SendingId};
use kite_projections::{Cursor, QueryError};
use serde::Deserialize;
use std::ops::ControlFlow;
use utoipa::IntoParams;
use uuid::Uuid;

use super::EventView;
use super::message::events_of;
use super::view::is_visible;
use crate::answer::Page;
use crate::auth::Caller;
use crate::extract::{List, PageOrFile, Wanted};
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
}

impl List for AuditQuery {
    const NAME: &'static str = "events";
    const PIECE: usize = READ;
}

/// Bytes of events on a page, or in a piece of a file, unless the last event is larger: both are kept in memory.
const BYTES_MAX: usize = 8 << 20;
/// Events read at once of the whole log, where the store also limits the bytes; and the most in a piece of a file.
const READ: usize = 500;
/// Events read at once of a stream or a correlation, where the store does not limit the bytes.
const READ_OF_ONE: usize = BYTES_MAX / ACCEPTANCE_EVENT_BYTES_MAX;
/// The most that one request looks at.
const LOOKED_AT_MAX: usize = 20_000;

/// Times come from the appending process, so they follow positions only roughly: clocks are assumed to differ by no
/// more than this.
const CLOCKS_APART_MAX: Duration = Duration::minutes(5);

/// Shows the log: by stream, by message, by correlation, or by time. In the order of the log; a page may be short,
/// even empty, although there is more: only a page without `next` is the last. A page of large events ends after 8
/// MiB.
///
/// With `format=csv` (or `Accept: text/csv`) or `format=ndjson` all of it as a file of at most 1,000,000 rows and
/// half an hour; a longer file is broken off.
#[utoipa::path(
    get, path = "/v1/audit/events", tag = "audit", operation_id = "list_audit_events", params(PageOrFile<AuditQuery>),
    responses((status = 200, description = "A page of events.", content(
        (Page<EventView> = "application/json"), (String = "text/csv"), (String = "application/x-ndjson")
    )))
)]
pub async fn handler(
    state: State<ApiState>,
    caller: Caller,
    list: PageOrFile<AuditQuery>,
) -> Answer<Response> {
    list.form.answer(&state, caller.tenant(), (caller.clone(), list.query), page).await
}

async fn page(
    state: ApiState,
    (caller, query): (Caller, AuditQuery),
    wanted: Wanted<AuditQuery>,
) -> Answer<Page<EventView>> {
    let named = [&query.stream, &query.message, &query.correlation].into_iter().flatten().count();
    if named > 1 {
        return Err(invalid("Only one of the parameters stream, message and correlation may be given."));
    }
    if let Some(message) = &query.message {
        let id: MessageId = message.parse().map_err(|_| Problem::not_found("message"))?;
        let events = events_of(&state, &caller, id).await?;
        let items = events.into_iter().filter(|event| query.admits(&event.kind, event.time)).collect();
        return Ok(Page { items, next: None });
    }
    let source = Source::of(&query)?;
    let after = wanted.after.as_ref().map(|cursor| source.place(cursor)).transpose()?;
    let mut search = Search::new(&caller, &query, after, wanted.limit);
    let next = search.run(&**state.write_side.journal.store(), &*state.log_index, &source).await?;
    let next = next.map(|place| Wanted::<AuditQuery>::cursor(&source.cursor(place)));
    Ok(Page { items: search.items, next })
}

fn invalid(detail: &str) -> Problem {
    Problem::new(Code::InvalidParameter, detail)
}

/// Where events are read from. A cursor contains the position of the last event that was looked at, and works only
/// with the source that issued it.
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

    fn word(&self) -> &'static str {
        match self {
            Self::Stream(_) => "stream",
            Self::Correlation(_) => "correlation",
            Self::Everything => "everything",
        }
    }

    fn cursor(&self, place: u64) -> Cursor {
        Cursor::of_text(&format!("{} {place}", self.word()))
    }

    /// The place after which to read on.
    fn place(&self, cursor: &Cursor) -> Result<u64, QueryError> {
        let (word, place) = cursor.text()?.split_once(' ').ok_or(QueryError::Cursor)?;
        if word != self.word() {
            return Err(QueryError::Cursor);
        }
        place.parse().map_err(|_| QueryError::Cursor)
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
    /// The place after which to begin; none: at the begin.
    after: Option<u64>,
    items: Vec<EventView>,
    limit: usize,
    /// Bytes of events that the page has room for.
    bytes_left: usize,
}

impl<'s> Search<'s> {
    fn new(caller: &'s Caller, query: &'s AuditQuery, after: Option<u64>, limit: usize) -> Self {
        Self { caller, query, after, items: Vec::new(), limit, bytes_left: BYTES_MAX }
    }

    /// Fills a page. Returns where to read on, if there may be more.
    async fn run(
        &mut self,
        store: &dyn EventStore,
        index: &dyn LogIndex,
        source: &Source,
    ) -> Answer<Option<u64>> {
        let mut place = match (self.after, source, self.query.from) {
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

    /// Takes the events that match and may be seen. Stops when the page is full, with the position to read on from,
    /// or when nothing more can follow.
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
        let answers = store.append(Batch::new(BatchMode::Independent, vec![append])).await;
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
            let query = AuditQuery::default();
            let (mut positions, mut after) = (Vec::new(), None);
            loop {
                let mut search = Search::new(&caller, &query, after, READ);
                let next = search.run(&store, &store, &source).await.unwrap();
                let bytes: usize =
                    search.items.iter().map(|event| event.data["text"].as_str().unwrap().len()).sum();
                assert!(bytes <= BYTES_MAX + ACCEPTANCE_EVENT_BYTES_MAX, "{bytes}");
                positions.extend(search.items.iter().map(|event| event.position));
                let Some(place) = next else { break };
                after = Some(place);
            }
            assert_eq!(positions, (1..=EVENTS).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_cursor_works_only_where_it_came_from() {
        let stream = Source::Stream("policy-acme-sms".to_owned());
        let cursor = stream.cursor(7);
        assert_eq!(stream.place(&cursor).unwrap(), 7);
        let texts = ["", "7", "stream", "stream ", "stream seven", "stream -1"].map(Cursor::of_text);
        for (source, cursor) in
            texts.iter().map(|text| (&stream, text)).chain([(&Source::Everything, &cursor)])
        {
            assert!(matches!(source.place(cursor), Err(QueryError::Cursor)), "{cursor}");
        }
    }

    async fn store_of_small_events(count: usize) -> MemoryEventStore {
        let store = MemoryEventStore::new();
        let event = |number: usize| NewEvent {
            id: Uuid::from_u128(number as u128 + 1),
            kind: "policy-defined".into(),
            schema_version: 1,
            data: b"{}".to_vec().into(),
        };
        let metadata = Metadata {
            time: DateTime::UNIX_EPOCH,
            tenant: None,
            correlation: CORRELATION,
            causation: None,
            actor: "test".into(),
            traceparent: None,
        };
        let append = StreamAppend {
            stream: "policy-rival-sms".into(),
            expected: Expected::Any,
            metadata,
            events: (0..count).map(event).collect(),
        };
        let answers = store.append(Batch::new(BatchMode::Independent, vec![append])).await;
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        store
    }

    #[tokio::test]
    async fn small_events_come_in_one_page_wherever_they_are_looked_for() {
        let count = 2 * READ_OF_ONE;
        let store = store_of_small_events(count).await;
        let caller = Caller::Admin(AdminAuth { actor: "admin".into() });
        let query = AuditQuery::default();
        for source in [
            Source::Stream("policy-rival-sms".to_owned()),
            Source::Correlation(CORRELATION),
            Source::Everything,
        ] {
            let mut search = Search::new(&caller, &query, None, READ);
            assert_eq!(search.run(&store, &store, &source).await.unwrap(), None);
            let positions: Vec<u64> = search.items.iter().map(|event| event.position).collect();
            assert_eq!(positions, (1..=count as u64).collect::<Vec<_>>());
        }
    }

    #[tokio::test]
    async fn a_page_looks_at_so_many_events_at_most_and_says_where_it_goes_on() {
        let store = store_of_small_events(LOOKED_AT_MAX + 10).await;
        // Nothing of it is this caller's.
        let tenant = kite_domain::slug::TenantId::from_trusted("acme");
        let caller = Caller::Tenant(crate::auth::TenantAuth { tenant, actor: "key:1".into() });
        let query = AuditQuery::default();
        let mut search = Search::new(&caller, &query, None, READ);
        let next = search.run(&store, &store, &Source::Everything).await.unwrap();
        assert_eq!((search.items.len(), next), (0, Some(LOOKED_AT_MAX as u64)));
        let mut search = Search::new(&caller, &query, next, READ);
        assert_eq!(search.run(&store, &store, &Source::Everything).await.unwrap(), None);
    }
}
