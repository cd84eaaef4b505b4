//! Reading. No answer holds more than a bound of data, however much was asked for at once.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use deadpool_postgres::Client;
use smol_str::SmolStr;
use std::time::Duration;
use tokio::time::timeout;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Statement};
use uuid::Uuid;

use super::flush::Shown;
use crate::envelope::{Metadata, RecordedEvent};
use crate::errors::SharedError;
use crate::port::{Filter, KeptEvent, KeptPage, Page, Position, ReadError, Tail};
use crate::queue::EVENT_OVERHEAD_BYTES;
use crate::trace_parent::TraceParent;

// The 200 in the statements below.
const _: () = assert!(EVENT_OVERHEAD_BYTES == 200);

/// What one answer brings; a call that wants more asks again.
const ANSWER_BYTES: i64 = 8 * 1024 * 1024;
/// An answer that takes longer counts as lost.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// Events that one answer brings at most.
const ANSWER_EVENTS: usize = 4_096;
/// Positions that one page with a filter looks over at most.
const LOOKED_AT_MAX: i64 = 16_384;

/// The columns of an event, as [`event`] takes them. The name of its stream is looked up, not joined: a server that does not know how
/// many streams there are would go through all of them.
macro_rules! columns {
    () => {
        columns!("(SELECT name FROM kite_log.streams WHERE id = e.stream)")
    };
    ($name:literal) => {
        concat!(
            "e.position, ",
            $name,
            " AS name, e.version, e.id, e.kind, e.schema_version, e.time, e.tenant, e.actor, e.correlation, e.causation, \
             e.data, e.trace"
        )
    };
}

/// The events found, in the order of `$order`, with what they and those before them weigh.
macro_rules! weighed {
    ($order:literal) => {
        concat!(
            "SELECT ",
            columns!(),
            ", (sum(octet_length(e.data) + 200) OVER (ORDER BY e.",
            $order,
            "))::bigint AS weight FROM found e"
        )
    };
}

const STREAM: &str = concat!(
    "WITH found AS MATERIALIZED (SELECT e.* FROM kite_log.events e
         WHERE e.stream = (SELECT id FROM kite_log.streams WHERE name = $1) AND e.version > $2
         ORDER BY e.version LIMIT $3), weighed AS (",
    weighed!("version"),
    ") SELECT * FROM weighed WHERE weight - octet_length(data) <= $4 ORDER BY version"
);

const CORRELATION: &str = concat!(
    "WITH found AS MATERIALIZED (SELECT e.* FROM kite_log.events e WHERE e.correlation = $1 AND e.position > $2
         ORDER BY e.position LIMIT $3), weighed AS (",
    weighed!("position"),
    ") SELECT * FROM weighed WHERE weight - octet_length(data) <= $4 ORDER BY position"
);

/// Everything up to `$2` positions further, and, told with each, where the log ends.
const PAGE: &str = concat!(
    "SELECT page.*, head.position AS head FROM kite_log.head LEFT JOIN LATERAL (SELECT * FROM (
         SELECT ",
    columns!(),
    ", (sum(octet_length(e.data) + 200) OVER (ORDER BY e.position))::bigint AS weight FROM kite_log.events e
         WHERE e.position > $1 AND e.position <= $1 + $2 AND ($5::text[] IS NULL OR e.kind = ANY ($5))
         ORDER BY e.position LIMIT $3) AS weighed
     WHERE weight - octet_length(data) <= $4) AS page ON true ORDER BY page.position"
);

const TAILS: &str = concat!(
    "SELECT ", columns!("t.name"), ", t.number FROM unnest($1::text[], $2::bigint[]) WITH ORDINALITY AS t (name, after, number)
     JOIN kite_log.streams s ON s.name = t.name
     CROSS JOIN LATERAL (SELECT * FROM kite_log.events WHERE stream = s.id AND version > t.after ORDER BY version LIMIT $3) AS e
     WHERE s.version > t.after ORDER BY t.number, e.version"
);

/// Events of each of several tails that one answer brings at most; a longer tail is asked for by itself.
const TAIL_EVENTS: usize = 64;

/// As `bigint` has it.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

async fn rows(client: &Client, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, ReadError> {
    let answer = async {
        let statement = client.prepare_cached(sql).await?;
        client.query(&statement, parameters).await
    };
    timeout(ANSWER_WITHIN, answer).await.map_err(ReadError::unavailable)?.map_err(read_error)
}

/// A server that is away, starts, ends or is no primary any more is asked again later.
fn read_error(error: tokio_postgres::Error) -> ReadError {
    match error.code() {
        Some(code) if !matches!(&code.code()[..2], "08" | "53" | "57" | "40") => ReadError::unreadable(error),
        Some(_) | None => ReadError::unavailable(error),
    }
}

/// Why a row is no event: somebody, or the disk, has changed it.
#[derive(Debug, thiserror::Error)]
enum Damage {
    #[error("it cannot be read")]
    Column(#[from] tokio_postgres::Error),
    #[error("its stream has no name")]
    Stream,
    #[error("its time is out of range")]
    Time,
    #[error("its trace is none")]
    Trace,
}

fn event(row: &Row) -> Result<RecordedEvent, Damage> {
    let word = |column: usize| row.try_get::<_, &str>(column).map(SmolStr::new);
    let trace = row.try_get::<_, Option<&[u8]>>(12)?;
    Ok(RecordedEvent {
        position: row.try_get::<_, i64>(0)? as u64,
        stream: row.try_get::<_, Option<&str>>(1)?.map(SmolStr::new).ok_or(Damage::Stream)?,
        version: row.try_get::<_, i64>(2)? as u64,
        id: row.try_get(3)?,
        kind: word(4)?,
        schema_version: row.try_get::<_, i32>(5)? as u16,
        metadata: Metadata {
            time: DateTime::from_timestamp_millis(row.try_get(6)?).ok_or(Damage::Time)?,
            tenant: row.try_get::<_, Option<&str>>(7)?.map(SmolStr::new),
            actor: word(8)?,
            correlation: row.try_get(9)?,
            causation: row.try_get(10)?,
            traceparent: trace
                .map(|trace| TraceParent::from_bytes(trace).ok_or(Damage::Trace))
                .transpose()?,
        },
        data: Bytes::copy_from_slice(row.try_get(11)?),
    })
}

fn kept(row: &Row) -> KeptEvent {
    KeptEvent {
        position: row.get::<_, i64>(0) as u64,
        version: row.get::<_, i64>(2) as u64,
        event: event(row).map_err(SharedError::new),
    }
}

/// As they have to be for whoever goes on from them.
fn all_readable(events: Vec<KeptEvent>) -> Result<Vec<RecordedEvent>, ReadError> {
    events.into_iter().map(|kept| kept.event.map_err(ReadError::Unreadable)).collect()
}

/// Whether there may be more than the events of an answer, of which so many were wanted.
fn is_cut(events: &[Row], wanted: i64) -> bool {
    let weight = events.last().map_or(0, |last| last.get::<_, i64>("weight"));
    events.len() as i64 == wanted || weight + EVENT_OVERHEAD_BYTES as i64 > ANSWER_BYTES
}

/// Reads on and on, from where the last event was, until there are `limit` or no more.
async fn in_answers(
    client: &Client,
    limit: usize,
    sql: &str,
    of: &(dyn ToSql + Sync),
    after: u64,
    place: impl Fn(&KeptEvent) -> u64,
) -> Result<Vec<KeptEvent>, ReadError> {
    let mut events: Vec<KeptEvent> = Vec::new();
    while events.len() < limit {
        let after = signed(events.last().map_or(after, &place));
        let wanted = (limit - events.len()).min(ANSWER_EVENTS) as i64;
        let rows = rows(client, sql, &[of, &after, &wanted, &ANSWER_BYTES]).await?;
        events.extend(rows.iter().map(kept));
        if !is_cut(&rows, wanted) {
            break;
        }
    }
    Ok(events)
}

pub(super) async fn kept_stream(
    client: &Client,
    stream: &str,
    after_version: u64,
    limit: usize,
) -> Result<Vec<KeptEvent>, ReadError> {
    in_answers(client, limit, STREAM, &stream, after_version, |event| event.version).await
}

pub(super) async fn stream(
    client: &Client,
    stream: &str,
    after_version: u64,
    limit: usize,
) -> Result<Vec<RecordedEvent>, ReadError> {
    all_readable(kept_stream(client, stream, after_version, limit).await?)
}

pub(super) async fn correlation(
    client: &Client,
    correlation: Uuid,
    after: Position,
    limit: usize,
) -> Result<Vec<RecordedEvent>, ReadError> {
    all_readable(in_answers(client, limit, CORRELATION, &correlation, after, |event| event.position).await?)
}

pub(super) async fn tails(
    client: &Client,
    tails: &[Tail<'_>],
    limit: usize,
) -> Result<Vec<Vec<RecordedEvent>>, ReadError> {
    if tails.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<&str> = tails.iter().map(|tail| tail.stream).collect();
    let after: Vec<i64> = tails.iter().map(|tail| signed(tail.after_version)).collect();
    let most = limit.min(TAIL_EVENTS);
    let rows = rows(client, TAILS, &[&names, &after, &(most as i64)]).await?;
    let mut read: Vec<Vec<RecordedEvent>> = vec![Vec::new(); tails.len()];
    for row in &rows {
        read[row.get::<_, i64>("number") as usize - 1].push(event(row).map_err(ReadError::unreadable)?);
    }
    for (tail, events) in tails.iter().zip(&mut read) {
        if events.len() == most && most < limit {
            let known = events.last().map_or(tail.after_version, |last| last.version);
            events.extend(stream(client, tail.stream, known, limit - most).await?);
        }
    }
    Ok(read)
}

pub(super) async fn page(
    client: &Client,
    after: Position,
    limit: usize,
    filter: &Filter,
) -> Result<Shown<Page>, ReadError> {
    let Shown { page: KeptPage { events, next }, until } = kept_page(client, after, limit, filter).await?;
    Ok(Shown { page: Page { events: all_readable(events)?, next }, until })
}

/// To be asked with [`news`].
pub(super) async fn prepare_news(
    client: &tokio_postgres::Client,
) -> Result<Statement, tokio_postgres::Error> {
    client.prepare(PAGE).await
}

/// What comes after a position, and where the log ends.
pub(super) async fn news(
    client: &tokio_postgres::Client,
    statement: &Statement,
    after: Position,
    limit: usize,
) -> Result<(Vec<RecordedEvent>, Position), ReadError> {
    let everything = Filter::everything();
    let asked = Asked::of(after, limit, &everything);
    let rows = client.query(statement, &asked.parameters()).await.map_err(read_error)?;
    let (page, head) = asked.page(&rows);
    Ok((all_readable(page.events)?, head))
}

pub(super) async fn kept_page(
    client: &Client,
    after: Position,
    limit: usize,
    filter: &Filter,
) -> Result<Shown<KeptPage>, ReadError> {
    let asked = Asked::of(after, limit, filter);
    let (page, head) = asked.page(&rows(client, PAGE, &asked.parameters()).await?);
    let until = page.next.min(head);
    Ok(Shown { page, until })
}

/// A page that is asked for.
struct Asked<'f> {
    after: Position,
    from: i64,
    looked_at: i64,
    wanted: i64,
    kinds: Option<Vec<&'f str>>,
}

impl<'f> Asked<'f> {
    fn of(after: Position, limit: usize, filter: &'f Filter) -> Self {
        let kinds: Option<Vec<&str>> =
            filter.kinds.as_ref().map(|kinds| kinds.iter().map(SmolStr::as_str).collect());
        let wanted = limit.min(ANSWER_EVENTS) as i64;
        let looked_at = if kinds.is_some() { LOOKED_AT_MAX } else { wanted };
        // What lies beyond every position has nothing after it.
        let from = signed(after).min(i64::MAX - LOOKED_AT_MAX);
        Self { after, from, looked_at, wanted, kinds }
    }

    fn parameters(&self) -> [&(dyn ToSql + Sync); 5] {
        [&self.from, &self.looked_at, &self.wanted, &ANSWER_BYTES, &self.kinds]
    }

    /// What the answer says, and where the log ends; 0: it does not say.
    fn page(&self, rows: &[Row]) -> (KeptPage, Position) {
        let after = self.after;
        let Some(first) = rows.first() else {
            return (KeptPage { events: Vec::new(), next: after }, 0);
        };
        let head = first.get::<_, i64>("head");
        // Without an event there is one row, which says where the log ends.
        let rows = if first.get::<_, Option<i64>>(0).is_some() { rows } else { &[] };
        let is_cut = is_cut(rows, self.wanted);
        let events: Vec<KeptEvent> = rows.iter().map(kept).collect();
        let looked_up_to = head.min(self.from.saturating_add(self.looked_at)) as u64;
        let next = match events.last() {
            Some(last) if is_cut => last.position,
            _ if is_cut => after,
            _ => looked_up_to.max(after),
        };
        (KeptPage { events, next }, head as Position)
    }
}

pub(super) async fn position_before(client: &Client, time: DateTime<Utc>) -> Result<Position, ReadError> {
    let rows = rows(client, "SELECT kite_log.position_before($1)", &[&time.timestamp_millis()]).await?;
    Ok(rows.first().map_or(0, |row| row.get::<_, i64>(0)) as Position)
}
