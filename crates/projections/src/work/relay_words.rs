//! What relays said that asks for somebody: words that were not understood, and codes that were given no class.
//!
//! Whether a code is in a dictionary is not asked here: dictionaries get better, and the rows must follow from the events
//! alone. Who reads the codes leaves out what is known by then.

use chrono::{DateTime, Utc};
use kite_domain::failure::FailureClass;
use kite_domain::lot::{ReceiptsRecorded, RelayResponded};
use kite_domain::not_understood::{MisreadReason, RelayNotUnderstood, SaidHow};
use kite_domain::slug::RelayId;
use kite_event_store::RecordedEvent;
use rusqlite::{OptionalExtension, Row, Transaction, params};
use serde::Serialize;
use smol_str::SmolStr;

use super::WorkQueries;
use crate::error::QueryError;
use crate::listing::{Cursor, Listing, page};
use crate::sql::{from_json, json, one_more, optional_text, signed, text, time};

/// The most codes that are listed of a relay; what a relay says has a bound.
const CODES_MAX: i64 = 1_000;

/// Something that a relay said and nobody understood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotUnderstood {
    /// Where in the log it is kept.
    pub position: u64,
    /// When it was kept.
    pub kept_at: DateTime<Utc>,
    /// How it came.
    pub how: SaidHow,
    /// Why it is not understood.
    pub reason: MisreadReason,
    /// Its place in the list that it came in, from 0; none: it is the whole.
    pub row: Option<u32>,
    /// Which field of it.
    pub field: Option<SmolStr>,
    /// As it came, cut where it is long.
    pub raw: String,
    /// How long it was, in bytes.
    pub raw_bytes: u32,
}

/// How much of a relay was not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct NotUnderstoodCount {
    /// What is kept; each of the same words counts once.
    pub kept: u64,
    /// When the newest was kept.
    pub newest_at: DateTime<Utc>,
}

/// A code of a relay with which messages failed, and that had no class when it came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnclassifiedCode {
    /// As the relay gave it.
    pub code: SmolStr,
    /// How many messages it was said of.
    pub times: u64,
    /// When it was said last.
    pub newest_at: DateTime<Utc>,
}

pub(super) fn keep(
    transaction: &Transaction<'_>,
    said: &RelayNotUnderstood,
    recorded: &RecordedEvent,
) -> rusqlite::Result<()> {
    let time_ms = recorded.metadata.time.timestamp_millis();
    transaction
        .prepare_cached(
            "INSERT INTO not_understood (relay, position, kept_ms, how, reason, place, field, raw, raw_bytes)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            said.relay.as_str(),
            signed(recorded.position),
            time_ms,
            json(&said.how),
            json(&said.reason),
            said.row,
            said.field.as_deref(),
            said.personal.raw,
            said.raw_bytes
        ])?;
    transaction
        .prepare_cached(
            "INSERT INTO not_understood_counts (relay, kept, newest_ms) VALUES (?1, 1, ?2)
             ON CONFLICT DO UPDATE SET kept = kept + 1, newest_ms = max(newest_ms, excluded.newest_ms)",
        )?
        .execute(params![said.relay.as_str(), time_ms])
        .map(drop)
}

/// Counts the codes of refusals that had no class.
pub(super) fn count_responded(
    transaction: &Transaction<'_>,
    responded: &RelayResponded,
    time_ms: i64,
) -> rusqlite::Result<()> {
    let refused = responded.refused.iter().map(|set| (set.class, &set.code, set.messages.len()));
    let for_now = responded.refused_for_now.iter().map(|set| (set.class, &set.code, set.messages.len()));
    for (class, code, messages) in refused.chain(for_now) {
        if class == FailureClass::Unclassified {
            count_code(transaction, &responded.relay, code, messages, time_ms)?;
        }
    }
    Ok(())
}

/// Counts the codes of failed deliveries that had no class.
pub(super) fn count_reported(
    transaction: &Transaction<'_>,
    recorded: &ReceiptsRecorded,
    time_ms: i64,
) -> rusqlite::Result<()> {
    for set in &recorded.sets {
        if set.class == Some(FailureClass::Unclassified) {
            count_code(transaction, &recorded.relay, &set.code, set.messages.len(), time_ms)?;
        }
    }
    Ok(())
}

fn count_code(
    transaction: &Transaction<'_>,
    relay: &RelayId,
    code: &str,
    messages: usize,
    time_ms: i64,
) -> rusqlite::Result<()> {
    let known = "UPDATE unclassified_codes SET times = times + ?3, newest_ms = max(newest_ms, ?4)
                 WHERE relay = ?1 AND code = ?2";
    let messages = signed(messages as u64);
    let relay = relay.as_str();
    if transaction.prepare_cached(known)?.execute(params![relay, code, messages, time_ms])? > 0 {
        return Ok(());
    }
    let new = "INSERT INTO unclassified_codes (relay, code, times, newest_ms) SELECT ?1, ?2, ?3, ?4
               WHERE (SELECT count(*) FROM unclassified_codes WHERE relay = ?1) < ?5";
    transaction.prepare_cached(new)?.execute(params![relay, code, messages, time_ms, CODES_MAX]).map(drop)
}

impl WorkQueries {
    /// What a relay said and nobody understood, the newest first.
    pub fn not_understood(
        &self,
        relay: &RelayId,
        before: Option<&Cursor>,
        limit: usize,
    ) -> Result<Listing<NotUnderstood>, QueryError> {
        let before = before.map_or(Ok(i64::MAX), Cursor::number)?;
        let items = self.rows(
            "SELECT position, kept_ms, how, reason, place, field, raw, raw_bytes FROM not_understood
             WHERE relay = ?1 AND position < ?2 ORDER BY position DESC LIMIT ?3",
            params![relay.as_str(), before, one_more(limit)],
            not_understood,
        )?;
        Ok(page(items, limit, |last| Cursor::from_number(signed(last.position))))
    }

    /// How much of a relay was not understood; none: nothing ever.
    pub fn not_understood_count(&self, relay: &RelayId) -> Result<Option<NotUnderstoodCount>, QueryError> {
        self.readers.ask(|connection| {
            let sql = "SELECT kept, newest_ms FROM not_understood_counts WHERE relay = ?1";
            let found: Option<(i64, i64)> = connection
                .prepare_cached(sql)?
                .query_row([relay.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            let count = |(kept, newest_ms): (i64, i64)| {
                Ok(NotUnderstoodCount { kept: kept.unsigned_abs(), newest_at: time(newest_ms)? })
            };
            found.map(count).transpose()
        })
    }

    /// The codes of a relay that had no class when they came, the most frequent first.
    pub fn unclassified_codes(&self, relay: &RelayId) -> Result<Vec<UnclassifiedCode>, QueryError> {
        self.rows(
            "SELECT code, times, newest_ms FROM unclassified_codes WHERE relay = ?1 ORDER BY times DESC, code",
            [relay.as_str()],
            |row| {
                Ok(UnclassifiedCode {
                    code: text(row, 0)?,
                    times: row.get::<_, i64>(1)?.unsigned_abs(),
                    newest_at: time(row.get(2)?)?,
                })
            },
        )
    }
}

fn not_understood(row: &Row<'_>) -> Result<NotUnderstood, QueryError> {
    Ok(NotUnderstood {
        position: row.get::<_, i64>(0)?.unsigned_abs(),
        kept_at: time(row.get(1)?)?,
        how: from_json(&row.get::<_, String>(2)?)?,
        reason: from_json(&row.get::<_, String>(3)?)?,
        row: row.get(4)?,
        field: optional_text(row, 5)?,
        raw: row.get(6)?,
        raw_bytes: row.get(7)?,
    })
}
