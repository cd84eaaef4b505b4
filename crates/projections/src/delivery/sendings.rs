//! The rows of `sendings`: what its own stream says is written at once, what its lots add up to once a transaction.

use chrono::{DateTime, Utc};
use kite_domain::ids::SendingId;
use kite_domain::sending::{PauseBy, SendingAccepted, SendingPaused};
use rusqlite::{Connection, OptionalExtension, Transaction};
use std::collections::HashMap;
use std::sync::LazyLock;

use super::codes::Coded;
use super::counters::{self, Counter, Counts};
use crate::sql::json;

/// Past this many the cache of release times starts anew.
const CACHED_MAX: usize = 16_384;

/// Their places are what stands in the column.
pub(super) const PAUSERS: [PauseBy; 2] = [PauseBy::Tenant, PauseBy::Operator];

/// What is known of a sending without its lots.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Facts {
    /// When a scheduled sending was released.
    pub(super) released_ms: Option<i64>,
    pub(super) is_sealed: bool,
}

static ADD_TO_SENDINGS: LazyLock<String> = LazyLock::new(|| counters::adding_to("sendings", "id"));

/// The times that a sending's row may be given.
#[derive(Debug, Clone, Copy)]
pub(super) enum Moment {
    Released,
    Cancelled,
    Completed,
    Abandoned,
}

/// The changes of one transaction, and what is known of the sendings.
#[derive(Debug, Default)]
pub(super) struct Sendings {
    changes: HashMap<SendingId, Counts>,
    facts: HashMap<SendingId, Facts>,
}

impl Sendings {
    pub(super) fn change(&mut self, sending: SendingId) -> &mut Counts {
        self.changes.entry(sending).or_default()
    }

    /// The seal. Whether it is the first.
    pub(super) fn accepted(
        &mut self,
        transaction: &Transaction<'_>,
        accepted: &SendingAccepted,
        time: DateTime<Utc>,
    ) -> rusqlite::Result<bool> {
        let facts = self.facts(transaction, accepted.sending)?;
        self.facts.insert(accepted.sending, Facts { is_sealed: true, ..facts });
        transaction
            .prepare_cached(
                "INSERT INTO sendings (id, tenant, class, accepted_ms, scheduled_ms, expires_ms, client_reference,
                     refused_recipients)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
                 ON CONFLICT DO UPDATE SET tenant = ?2, class = ?3, accepted_ms = ?4, scheduled_ms = ?5,
                     expires_ms = ?6, client_reference = ?7, refused_recipients = ?8",
            )?
            .execute((
                accepted.sending.0.as_bytes(),
                accepted.tenant.as_str(),
                accepted.class.code(),
                time.timestamp_millis(),
                accepted.scheduled_at.map(|at| at.timestamp_millis()),
                accepted.expires_at.timestamp_millis(),
                accepted.client_reference.as_deref(),
                accepted.refused,
            ))?;
        transaction
            .prepare_cached(
                "INSERT INTO contents (sending, from_phone, from_email, subject, text, custom)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING",
            )?
            .execute((
                accepted.sending.0.as_bytes(),
                accepted.from_phone.as_deref(),
                accepted.from_email.as_deref(),
                accepted.personal.subject.as_deref(),
                accepted.personal.text.as_str(),
                accepted.custom.as_ref().map(json),
            ))?;
        Ok(!facts.is_sealed)
    }

    /// Something happened to the sending as a whole.
    pub(super) fn moment(
        &mut self,
        transaction: &Transaction<'_>,
        sending: SendingId,
        moment: Moment,
        time: DateTime<Utc>,
    ) -> rusqlite::Result<()> {
        let sql = match moment {
            Moment::Released => {
                let facts = self.facts(transaction, sending)?;
                let released_ms = Some(time.timestamp_millis());
                self.facts.insert(sending, Facts { released_ms, ..facts });
                "INSERT INTO sendings (id, released_ms) VALUES (?1, ?2)
                 ON CONFLICT DO UPDATE SET released_ms = ?2"
            }
            Moment::Cancelled => {
                "INSERT INTO sendings (id, cancelled_ms) VALUES (?1, ?2)
                 ON CONFLICT DO UPDATE SET cancelled_ms = ?2"
            }
            Moment::Completed => {
                "INSERT INTO sendings (id, completed_ms) VALUES (?1, ?2)
                 ON CONFLICT DO UPDATE SET completed_ms = ?2"
            }
            Moment::Abandoned => {
                "INSERT INTO sendings (id, abandoned_ms) VALUES (?1, ?2)
                 ON CONFLICT DO UPDATE SET abandoned_ms = ?2"
            }
        };
        let mut statement = transaction.prepare_cached(sql)?;
        statement.execute((sending.0.as_bytes(), time.timestamp_millis()))?;
        Ok(())
    }

    /// Nothing of it goes out.
    pub(super) fn paused(
        &mut self,
        transaction: &Transaction<'_>,
        paused: &SendingPaused,
        time: DateTime<Utc>,
    ) -> rusqlite::Result<()> {
        let mut statement = transaction.prepare_cached(
            "INSERT INTO sendings (id, paused_ms, paused_by, pause_reason) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO UPDATE SET paused_ms = ?2, paused_by = ?3, pause_reason = ?4",
        )?;
        let by = PAUSERS.iter().position(|by| *by == paused.by).unwrap_or(0) as i64;
        statement.execute((
            paused.sending.0.as_bytes(),
            time.timestamp_millis(),
            by,
            paused.reason.as_deref(),
        ))?;
        Ok(())
    }

    /// It goes on.
    pub(super) fn resumed(
        &mut self,
        transaction: &Transaction<'_>,
        sending: SendingId,
    ) -> rusqlite::Result<()> {
        transaction
            .prepare_cached(
                "UPDATE sendings SET paused_ms = NULL, paused_by = NULL, pause_reason = NULL WHERE id = ?1",
            )?
            .execute([sending.0.as_bytes()])
            .map(drop)
    }

    /// What is known of a sending.
    pub(super) fn facts(&mut self, connection: &Connection, sending: SendingId) -> rusqlite::Result<Facts> {
        if let Some(facts) = self.facts.get(&sending) {
            return Ok(*facts);
        }
        let stored = connection
            .prepare_cached("SELECT released_ms, accepted_ms IS NOT NULL FROM sendings WHERE id = ?1")?
            .query_row([sending.0.as_bytes()], |row| {
                Ok(Facts { released_ms: row.get(0)?, is_sealed: row.get(1)? })
            })
            .optional()?;
        if self.facts.len() >= CACHED_MAX {
            self.facts.clear();
        }
        let facts = stored.unwrap_or_default();
        self.facts.insert(sending, facts);
        Ok(facts)
    }

    /// Adds all changes to the rows.
    pub(super) fn flush(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let mut statement = transaction.prepare_cached(&ADD_TO_SENDINGS)?;
        for (sending, counts) in self.changes.drain() {
            statement.raw_bind_parameter(1, sending.0.as_bytes())?;
            for (place, counter) in (2..).zip(Counter::ALL) {
                statement.raw_bind_parameter(place, counts.get(*counter))?;
            }
            statement.raw_execute()?;
        }
        Ok(())
    }
}
