//! One call of the function `kite_log.append`: what goes in, what comes out, and how a repeat is told from a conflict.

use std::collections::HashMap;
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::follow::Head;
use super::session::{CallError, Session};
use crate::port::{Appended, BatchMode, Expected, Position, StreamAppend};
use crate::trace_parent::TraceParent;

/// What the function said of one append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placed {
    /// It is written.
    Written(Appended),
    /// It had no events, and the stream is where it was expected.
    Checked(Appended),
    /// The stream is elsewhere.
    Refused {
        /// How many events it holds.
        actual: u64,
    },
    /// Another one of its group was refused.
    NotTried,
}

impl Placed {
    /// Where the last of what was written stands.
    fn written_at(&self) -> Option<Position> {
        match self {
            Self::Written(appended) => Some(appended.position),
            Self::Checked(_) | Self::Refused { .. } | Self::NotTried => None,
        }
    }
}

/// Where the events with these ids stand in these streams, in the order in which they were asked for.
const STANDING: &str = "SELECT a.number, e.version, e.position
     FROM unnest($1::bigint[], $2::text[], $3::uuid[]) WITH ORDINALITY AS a (number, name, id, place)
     JOIN kite_log.streams s ON s.name = a.name
     JOIN kite_log.events e ON e.stream = s.id AND e.id = a.id
     ORDER BY a.number, a.place";

/// The arguments of a call.
#[derive(Default)]
pub(super) struct Call<'a> {
    group: Vec<i32>,
    mode: Vec<i16>,
    stream: Vec<&'a str>,
    expected: Vec<Option<i64>>,
    events: Vec<i32>,
    time: Vec<i64>,
    tenant: Vec<Option<&'a str>>,
    actor: Vec<&'a str>,
    correlation: Vec<Uuid>,
    causation: Vec<Option<Uuid>>,
    trace: Vec<Option<[u8; 25]>>,
    of_append: Vec<i32>,
    number: Vec<i32>,
    id: Vec<Uuid>,
    kind: Vec<&'a str>,
    schema_version: Vec<i32>,
    data: Vec<&'a [u8]>,
}

impl<'a> Call<'a> {
    /// Adds an append. Those of one group come one after the other.
    pub(super) fn push(&mut self, group: usize, mode: BatchMode, append: &'a StreamAppend) {
        self.group.push(group as i32);
        self.mode.push(match mode {
            BatchMode::Independent => 0,
            BatchMode::Guarded => 1,
            BatchMode::Atomic => 2,
        });
        self.stream.push(&append.stream);
        self.expected.push(match append.expected {
            Expected::Any => None,
            Expected::Version(version) => Some(i64::try_from(version).unwrap_or(i64::MAX)),
        });
        self.events.push(append.events.len() as i32);
        self.time.push(append.metadata.time.timestamp_millis());
        self.tenant.push(append.metadata.tenant.as_deref());
        self.actor.push(&append.metadata.actor);
        self.correlation.push(append.metadata.correlation);
        self.causation.push(append.metadata.causation);
        self.trace.push(append.metadata.traceparent.map(TraceParent::to_bytes));
        let of_append = self.group.len() as i32;
        for (number, event) in (1..).zip(&append.events) {
            self.of_append.push(of_append);
            self.number.push(number);
            self.id.push(event.id);
            self.kind.push(&event.kind);
            self.schema_version.push(event.schema_version.into());
            self.data.push(&event.data);
        }
    }

    /// Makes the call: one answer for each append, in order, and only once all that was written is durable.
    pub(super) async fn make(&self, session: &Session, head: &Head) -> Result<Vec<Placed>, CallError> {
        let trace: Vec<Option<&[u8]>> =
            self.trace.iter().map(|trace| trace.as_ref().map(|trace| &trace[..])).collect();
        let call = async {
            let parameters: [&(dyn ToSql + Sync); 17] = [
                &self.group,
                &self.mode,
                &self.stream,
                &self.expected,
                &self.events,
                &self.time,
                &self.tenant,
                &self.actor,
                &self.correlation,
                &self.causation,
                &trace,
                &self.of_append,
                &self.number,
                &self.id,
                &self.kind,
                &self.schema_version,
                &self.data,
            ];
            let rows = session.client.query(&session.append, &parameters).await?;
            let placed: Vec<Placed> = rows.iter().map(placed).collect();
            head.expect(placed.iter().filter_map(Placed::written_at).max().unwrap_or(0));
            Ok::<_, tokio_postgres::Error>(placed)
        };
        // Sent together: the second waits for the disk.
        let (placed, is_flushed) = tokio::join!(biased; call, session.disk.flushed(&session.client));
        let placed = placed?;
        // It is written, whatever has become of the waiting.
        is_flushed.map_err(CallError::Lost)?;
        Ok(placed)
    }
}

fn placed(row: &tokio_postgres::Row) -> Placed {
    let (version, position) = (row.get::<_, i64>(1) as u64, row.get::<_, i64>(2) as u64);
    let appended = Appended { version, position, repeated: false };
    match row.get::<_, i16>(0) {
        0 => Placed::Written(appended),
        1 => Placed::Checked(Appended { repeated: true, ..appended }),
        2 => Placed::Refused { actual: version },
        _ => Placed::NotTried,
    }
}

/// Whether the events of an append stand in its stream already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// None of them.
    Not,
    /// All of them, one after the other: an earlier try had succeeded.
    All(Appended),
    /// Some, or in another order.
    Otherwise,
}

/// Asks where the events of these appends stand.
pub(super) async fn standing(
    client: &Client,
    appends: &[&StreamAppend],
) -> Result<Vec<Standing>, tokio_postgres::Error> {
    let (mut numbers, mut streams, mut ids) = (Vec::new(), Vec::new(), Vec::new());
    for (number, append) in (0_i64..).zip(appends) {
        for event in &append.events {
            numbers.push(number);
            streams.push(append.stream.as_str());
            ids.push(event.id);
        }
    }
    let mut found: HashMap<i64, Vec<(u64, u64)>> = HashMap::new();
    for row in client.query(STANDING, &[&numbers, &streams, &ids]).await? {
        let place = (row.get::<_, i64>(1) as u64, row.get::<_, i64>(2) as u64);
        found.entry(row.get(0)).or_default().push(place);
    }
    let of = |(number, append): (i64, &&StreamAppend)| match found.get(&number) {
        None => Standing::Not,
        Some(places) => told(places, append.events.len()),
    };
    Ok((0_i64..).zip(appends).map(of).collect())
}

/// How many events a stream holds.
pub(super) async fn version_of(client: &Client, stream: &str) -> Result<u64, tokio_postgres::Error> {
    let row = client.query_opt("SELECT version FROM kite_log.streams WHERE name = $1", &[&stream]).await?;
    Ok(row.map_or(0, |row| row.get::<_, i64>(0) as u64))
}

fn told(places: &[(u64, u64)], events: usize) -> Standing {
    let follow = |pair: &[(u64, u64)]| pair[1] == (pair[0].0 + 1, pair[0].1 + 1);
    match places.last() {
        Some(&(version, position)) if places.len() == events && places.windows(2).all(follow) => {
            Standing::All(Appended { version, position, repeated: true })
        }
        _ => Standing::Otherwise,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_all_events_one_after_the_other_are_a_repeat() {
        let all = Standing::All(Appended { version: 5, position: 12, repeated: true });
        assert_eq!(told(&[(4, 11), (5, 12)], 2), all);
        assert_eq!(told(&[(5, 12)], 1), all);
        for others in [
            &[(4, 11)][..],
            &[(5, 12), (4, 11)],
            &[(3, 10), (5, 12)],
            &[(4, 11), (5, 13)],
            &[(4, 11), (4, 11)],
        ] {
            assert_eq!(told(others, 2), Standing::Otherwise, "{others:?}");
        }
    }
}
