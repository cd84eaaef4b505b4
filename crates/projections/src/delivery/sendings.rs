//! The rows of `sendings`: what its own stream says is written at once, what its lots add up to once a transaction.

use chrono::{DateTime, Utc};
use kite_domain::ids::SendingId;
use kite_domain::lot::Outcome;
use kite_domain::sending::{PauseBy, SendingAccepted, SendingPaused};
use rusqlite::{Connection, OptionalExtension, Transaction};
use std::collections::HashMap;

use super::codes::Coded;
use super::statistics::ended_place;
use crate::sql::json;

/// Past this many the cache of release times starts anew.
const CACHED_MAX: usize = 16_384;

/// Their places are what stands in the column.
pub(super) const PAUSERS: [PauseBy; 2] = [PauseBy::Tenant, PauseBy::Operator];

/// What the lots of a sending add to its row.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SendingChange {
    pub(super) messages: i64,
    ended: [i64; 5],
    pub(super) routed: i64,
    pub(super) handed_over: i64,
    pub(super) attempts: i64,
    pub(super) failovers: i64,
    pub(super) delivered_twice: i64,
    pub(super) cost_milliwon: i64,
}

impl SendingChange {
    /// A message ended, or ended otherwise than was thought.
    pub(super) fn ended(&mut self, before: Option<Outcome>, after: Outcome) {
        if let Some(before) = before {
            self.ended[ended_place(before)] -= 1;
        }
        self.ended[ended_place(after)] += 1;
    }
}

/// The times that a sending's row may be given.
#[derive(Debug, Clone, Copy)]
pub(super) enum Moment {
    Released,
    Cancelled,
    Completed,
    Abandoned,
}

/// The changes of one transaction, and the release times.
#[derive(Debug, Default)]
pub(super) struct Sendings {
    changes: HashMap<SendingId, SendingChange>,
    released: HashMap<SendingId, Option<i64>>,
}

impl Sendings {
    pub(super) fn change(&mut self, sending: SendingId) -> &mut SendingChange {
        self.changes.entry(sending).or_default()
    }

    /// The seal.
    pub(super) fn accepted(
        &mut self,
        transaction: &Transaction<'_>,
        accepted: &SendingAccepted,
        time: DateTime<Utc>,
    ) -> rusqlite::Result<()> {
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
        Ok(())
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
                self.released.insert(sending, Some(time.timestamp_millis()));
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

    /// When a scheduled sending was released.
    pub(super) fn released_ms(
        &mut self,
        connection: &Connection,
        sending: SendingId,
    ) -> rusqlite::Result<Option<i64>> {
        if let Some(released) = self.released.get(&sending) {
            return Ok(*released);
        }
        let released: Option<Option<i64>> = connection
            .prepare_cached("SELECT released_ms FROM sendings WHERE id = ?1")?
            .query_row([sending.0.as_bytes()], |row| row.get(0))
            .optional()?;
        if self.released.len() >= CACHED_MAX {
            self.released.clear();
        }
        self.released.insert(sending, released.flatten());
        Ok(released.flatten())
    }

    /// Adds all changes to the rows.
    pub(super) fn flush(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let mut statement = transaction.prepare_cached(
            "INSERT INTO sendings (id, messages, delivered, undelivered, expired, cancelled, refused, routed,
                 handed_over, attempts, failovers, delivered_twice, cost_milliwon)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
             ON CONFLICT DO UPDATE SET messages = messages + ?2, delivered = delivered + ?3,
                 undelivered = undelivered + ?4, expired = expired + ?5, cancelled = cancelled + ?6,
                 refused = refused + ?7, routed = routed + ?8, handed_over = handed_over + ?9,
                 attempts = attempts + ?10, failovers = failovers + ?11,
                 delivered_twice = delivered_twice + ?12, cost_milliwon = cost_milliwon + ?13",
        )?;
        for (sending, change) in self.changes.drain() {
            let [delivered, undelivered, expired, cancelled, refused] = change.ended;
            statement.execute((
                sending.0.as_bytes(),
                change.messages,
                delivered,
                undelivered,
                expired,
                cancelled,
                refused,
                change.routed,
                change.handed_over,
                change.attempts,
                change.failovers,
                change.delivered_twice,
                change.cost_milliwon,
            ))?;
        }
        Ok(())
    }
}
