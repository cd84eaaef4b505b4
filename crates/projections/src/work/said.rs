//! Answers of relays that need an operator, on their way into the rows.

use kite_domain::failure::FailureClass;
use kite_domain::lot::{ReceiptsRecorded, RelayResponded};
use kite_domain::not_understood::RelayNotUnderstood;
use kite_domain::slug::RelayId;
use kite_event_store::{Position, RecordedEvent};
use smol_str::SmolStr;
use std::collections::BTreeMap;

use super::rows::{CODES_OF, CodeRow};
use super::schema::{NOT_UNDERSTOOD, NOT_UNDERSTOOD_COUNTS};
use crate::engine::{Rows, Tables};
use crate::error::ApplyError;
use crate::sql::{json, signed};
use crate::table::{Pick, Statement};

/// The most codes that are listed of a relay; what a relay says has a bound.
const CODES_MAX: usize = 1_000;
/// Past this many, what is remembered of codes starts again.
const KEPT_MAX: usize = 4_096;

static KEEP: Statement = Statement::insert_new(&NOT_UNDERSTOOD, Pick::All);
static COUNT: Statement = Statement::upsert(&NOT_UNDERSTOOD_COUNTS, Pick::All);

/// The words and codes of one transaction.
#[derive(Debug)]
pub(super) struct Said {
    /// Where in the log it is kept, when that was, and what it is.
    not_understood: Vec<(Position, i64, RelayNotUnderstood)>,
    codes: Rows<CodeRow>,
    /// How many codes there are of a relay, as far as that was asked in this transaction.
    counted: BTreeMap<RelayId, usize>,
}

impl Default for Said {
    fn default() -> Self {
        Self { not_understood: Vec::new(), codes: Rows::keeping(KEPT_MAX), counted: BTreeMap::new() }
    }
}

impl Said {
    /// Something that nobody understood.
    pub(super) fn keep(&mut self, said: &RelayNotUnderstood, recorded: &RecordedEvent) {
        let time_ms = recorded.metadata.time.timestamp_millis();
        self.not_understood.push((recorded.position, time_ms, said.clone()));
    }

    /// Counts the codes of refusals that had no class.
    pub(super) fn count_responded(
        &mut self,
        tables: Tables<'_>,
        responded: &RelayResponded,
        time_ms: i64,
    ) -> Result<(), ApplyError> {
        let refused = responded.refused.iter().map(|set| (set.class, &set.code, set.messages.len()));
        let for_now = responded.refused_for_now.iter().map(|set| (set.class, &set.code, set.messages.len()));
        for (class, code, messages) in refused.chain(for_now) {
            if class == FailureClass::Unclassified {
                self.count_code(tables, &responded.relay, code, messages, time_ms)?;
            }
        }
        Ok(())
    }

    /// Counts the codes of failed deliveries that had no class.
    pub(super) fn count_reported(
        &mut self,
        tables: Tables<'_>,
        recorded: &ReceiptsRecorded,
        time_ms: i64,
    ) -> Result<(), ApplyError> {
        for set in &recorded.sets {
            if set.class == Some(FailureClass::Unclassified) {
                self.count_code(tables, &recorded.relay, &set.code, set.messages.len(), time_ms)?;
            }
        }
        Ok(())
    }

    fn count_code(
        &mut self,
        tables: Tables<'_>,
        relay: &RelayId,
        code: &str,
        messages: usize,
        time_ms: i64,
    ) -> Result<(), ApplyError> {
        let key = |code: &str| (SmolStr::new(relay.as_str()), SmolStr::new(code));
        let times = signed(messages as u64);
        if let Some(row) = self.codes.get_mut(tables, &key(code))? {
            row.times += times;
            row.newest_ms = row.newest_ms.max(time_ms);
            return Ok(());
        }
        let codes = match self.counted.get(relay) {
            Some(codes) => *codes,
            None => {
                let all = key("")..=key("\u{10ffff}");
                self.codes.among(tables, &CODES_OF, |cells| cells.put(relay.as_str()), all)?.len()
            }
        };
        let is_new = codes < CODES_MAX;
        self.counted.insert(relay.clone(), codes + usize::from(is_new));
        if is_new {
            self.codes.put(tables, key(code), CodeRow { times, newest_ms: time_ms })?;
        }
        Ok(())
    }

    pub(super) fn flush(&mut self, tables: Tables<'_>) -> Result<(), ApplyError> {
        self.counted.clear();
        self.codes.flush(tables)?;
        if self.not_understood.is_empty() {
            return Ok(());
        }
        let mut counts: BTreeMap<SmolStr, (i64, i64)> = BTreeMap::new();
        let mut cells = tables.fill(&KEEP)?;
        for (position, time_ms, said) in self.not_understood.drain(..) {
            cells.put(said.relay.as_str());
            cells.put(signed(position));
            cells.put(time_ms);
            cells.put(&json(&said.how));
            cells.put(&json(&said.reason));
            cells.put(said.row);
            cells.put(said.field.as_ref());
            cells.put(&said.personal.raw);
            cells.put(said.raw_bytes);
            cells.end()?;
            let count = counts.entry(SmolStr::new(said.relay.as_str())).or_insert((0, time_ms));
            *count = (count.0 + 1, count.1.max(time_ms));
        }
        let mut cells = tables.fill(&COUNT)?;
        for (relay, (kept, newest_ms)) in counts {
            cells.put(&relay);
            cells.put(kept);
            cells.put(newest_ms);
            cells.end()?;
        }
        Ok(())
    }
}
