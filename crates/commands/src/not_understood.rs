//! Keeps answers of relays that Kite could not read: the same words once per day, and no more per day than the limit.
//! Everything is counted. What exceeds the limit is not kept, and its bringer does not acknowledge it.
//!
//! Only what certainly comes from the relay is kept: a pushed call whose signature is right, or an answer to a call
//! of ours.

use chrono::{DateTime, Utc};
use kite_domain::not_understood::{KEPT_PER_DAY_MAX, Misread, MisreadReason, SaidHow, day_end, stream};
use kite_domain::slug::RelayId;
use kite_event_store::{AppendError, BatchMode, Expected, Urgency};
use parking_lot::Mutex;
use smol_str::format_smolstr;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use uuid::Uuid;

use crate::journal::{Cause, Entry, Journal, JournalError};
use crate::trace;

/// So many are appended at once.
const APPENDS_MAX: usize = 250;
/// The last words that were kept are remembered, so that a relay that repeats itself costs nothing: 400 KB in memory.
/// What is forgotten here is found in the stream of the day.
const REMEMBERED_MAX: usize = 16_384;

/// What became of words that were not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeptSummary {
    /// In the log now.
    pub kept: usize,
    /// In the log since earlier.
    pub known: usize,
    /// Not kept, because the day's bound is reached: it must not be acknowledged.
    pub beyond: usize,
}

/// Keeps it. Cheap to clone.
#[derive(Clone)]
pub struct NotUnderstoodBook {
    journal: Journal,
    remembered: Arc<Mutex<HashSet<Uuid>>>,
}

impl NotUnderstoodBook {
    /// Writes to this log.
    pub fn new(journal: Journal) -> Self {
        Self { journal, remembered: Arc::default() }
    }

    /// Keeps these words of a relay. When this returns `Ok`, all of it is in the log except what it names as beyond
    /// the limit; on an error some of it may be. What is not in the log can be given again.
    ///
    /// # Errors
    /// The log accepts nothing.
    pub async fn keep(
        &self,
        relay: &RelayId,
        how: SaidHow,
        misread: Vec<Misread>,
    ) -> Result<KeptSummary, JournalError> {
        let mut summary = KeptSummary::default();
        if misread.is_empty() {
            return Ok(summary);
        }
        count(relay, how, &misread);
        let mut new = self.new_ones(relay, misread, &mut summary);
        let day = stream(relay, self.journal.now());
        while !new.is_empty() {
            let stands = self.journal.count(&day).await?;
            let room = usize::try_from(KEPT_PER_DAY_MAX.saturating_sub(stands)).unwrap_or(usize::MAX);
            if room == 0 {
                summary.beyond += new.len();
                tell_of_bound(relay, new.len());
                break;
            }
            let rest = new.split_off(new.len().min(room).min(APPENDS_MAX));
            self.append(relay, how, &day, std::mem::replace(&mut new, rest), &mut summary).await?;
        }
        tracing::warn!(
            %relay, how = how.as_str(), kept = summary.kept, known = summary.known, beyond = summary.beyond,
            "a relay said what is not understood"
        );
        Ok(summary)
    }

    /// Until when nothing more of this relay is kept, if the bound of the day is reached.
    ///
    /// # Errors
    /// The log cannot be asked.
    pub async fn full_until(&self, relay: &RelayId) -> Result<Option<DateTime<Utc>>, JournalError> {
        let now = self.journal.now();
        let is_full = self.journal.count(&stream(relay, now)).await? >= KEPT_PER_DAY_MAX;
        Ok(is_full.then(|| day_end(now)))
    }

    /// Those that are not known to be in the log, each once.
    fn new_ones(
        &self,
        relay: &RelayId,
        misread: Vec<Misread>,
        summary: &mut KeptSummary,
    ) -> Vec<(Uuid, Misread)> {
        let total = misread.len();
        let remembered = self.remembered.lock();
        let mut seen = HashSet::new();
        let new: Vec<(Uuid, Misread)> = misread
            .into_iter()
            .map(|one| (one.id(relay), one))
            .filter(|(id, _)| !remembered.contains(id) && seen.insert(*id))
            .collect();
        summary.known += total - new.len();
        new
    }

    async fn append(
        &self,
        relay: &RelayId,
        how: SaidHow,
        day: &str,
        some: Vec<(Uuid, Misread)>,
        summary: &mut KeptSummary,
    ) -> Result<(), JournalError> {
        let ids: Vec<Uuid> = some.iter().map(|(id, _)| *id).collect();
        let cause = Cause::new(format_smolstr!("relay:{relay}"), self.journal.next_id());
        let cause = cause.in_trace(trace::current_parent());
        let entry = |(id, misread): (Uuid, Misread)| {
            let entry = Entry {
                stream: day.into(),
                expected: Expected::Any,
                tenant: None,
                cause: cause.clone(),
                events: vec![misread.kept(relay, how).into()],
            };
            (id, entry)
        };
        let entries = some.into_iter().map(entry).collect();
        let answers = self.journal.append_as(Urgency::Ordinary, BatchMode::Independent, entries).await;
        for (id, kept) in ids.into_iter().zip(answers) {
            match kept.answer {
                Ok(appended) if !appended.repeated => summary.kept += 1,
                // Its id is taken: the same words stand there already.
                Ok(_) | Err(AppendError::Conflict { .. }) => summary.known += 1,
                Err(error) => return Err(error.into()),
            }
            self.remember(id);
        }
        Ok(())
    }

    fn remember(&self, id: Uuid) {
        let mut remembered = self.remembered.lock();
        if remembered.len() >= REMEMBERED_MAX {
            remembered.clear();
        }
        remembered.insert(id);
    }
}

/// Counts what came, repeats included.
fn count(relay: &RelayId, how: SaidHow, misread: &[Misread]) {
    let mut by_reason: BTreeMap<MisreadReason, u64> = BTreeMap::new();
    misread.iter().for_each(|one| *by_reason.entry(one.reason).or_default() += 1);
    for (reason, number) in by_reason {
        let (relay, how, reason) = (relay.to_string(), how.as_str(), reason.as_str());
        metrics::counter!("kite_relay_not_understood_total", "relay" => relay, "how" => how, "reason" => reason)
            .increment(number);
    }
}

fn tell_of_bound(relay: &RelayId, number: usize) {
    metrics::counter!("kite_relay_not_understood_beyond_total", "relay" => relay.to_string())
        .increment(number as u64);
    tracing::error!(%relay, number, "more than is kept of a relay in a day was not understood: what is beyond is not kept and not acknowledged");
}
