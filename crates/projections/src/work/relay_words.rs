//! Answers of relays that need an operator: words that could not be read, and codes without a class.
//!
//! Whether a code is in a dictionary is not checked here: dictionaries get better, and the rows must follow from the
//! events alone. A reader of the codes leaves out those that are known by then.

use chrono::{DateTime, Utc};
use kite_domain::not_understood::{MisreadReason, SaidHow};
use kite_domain::slug::RelayId;
use serde::Serialize;
use smol_str::SmolStr;

use super::WorkQueries;
use crate::engine::{Row, values};
use crate::error::QueryError;
use crate::listing::{Cursor, Listing, page};
use crate::sql::{from_json, one_more, signed, time};

/// Something that a relay said and Kite could not read.
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

impl WorkQueries {
    /// A relay's answers that could not be read, newest first.
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
            values![relay.as_str(), before, one_more(limit)],
            not_understood,
        )?;
        Ok(page(items, limit, |last| Cursor::from_number(signed(last.position))))
    }

    /// How many answers of a relay could not be read; none: never any.
    pub fn not_understood_count(&self, relay: &RelayId) -> Result<Option<NotUnderstoodCount>, QueryError> {
        self.readers.ask(|connection| {
            let sql = "SELECT kept, newest_ms FROM not_understood_counts WHERE relay = ?1";
            let found: Option<(i64, i64)> = connection
                .first(sql, values![relay.as_str()], |row| Ok::<_, QueryError>((row.get(0)?, row.get(1)?)))?;
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
            values![relay.as_str()],
            |row| {
                Ok(UnclassifiedCode {
                    code: row.text(0)?,
                    times: row.get::<i64>(1)?.unsigned_abs(),
                    newest_at: time(row.get(2)?)?,
                })
            },
        )
    }
}

fn not_understood(row: &Row<'_>) -> Result<NotUnderstood, QueryError> {
    Ok(NotUnderstood {
        position: row.get::<i64>(0)?.unsigned_abs(),
        kept_at: time(row.get(1)?)?,
        how: from_json(row.str(2)?)?,
        reason: from_json(row.str(3)?)?,
        row: row.get(4)?,
        field: row.optional_text(5)?,
        raw: row.get(6)?,
        raw_bytes: row.get(7)?,
    })
}
