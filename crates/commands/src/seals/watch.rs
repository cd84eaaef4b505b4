//! What a process knows about its log's seals, and the worker that finds it out.

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use kite_domain::seal::{Difference, STREAM};
use kite_event_store::Position;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::{SealCheck, SealPlace, SealReport, TOLD_MAX, few_differ_from};
use crate::journal::{Journal, JournalError};
use crate::worker::{Step, Worker, WorkerError, describe};

/// What the process knows of its log. Cheap to clone.
#[derive(Clone, Default)]
pub struct SealTrust(Arc<Mutex<Trust>>);

#[derive(Default)]
struct Trust {
    /// The newest seals were looked at.
    has_begun: bool,
    /// The position up to which the log was checked from its beginning, by the pass that came farthest.
    verified_until: Position,
    /// Where a pass after the first one is.
    again_until: Position,
    /// When a pass last came to the end.
    whole_at: Option<DateTime<Utc>>,
    /// In the order in which they were found.
    differences: Vec<Difference>,
    /// There are more than are named.
    has_more: bool,
    /// Who does not get on, by name.
    troubles: BTreeMap<&'static str, Trouble>,
}

/// Why somebody does not get on.
struct Trouble {
    since: DateTime<Utc>,
    /// Steps that failed one after another.
    times: u64,
    why: String,
}

impl SealTrust {
    /// The known differences, in words; none: no difference is known.
    pub fn difference(&self) -> Option<String> {
        let trust = self.0.lock();
        let first = trust.differences.iter().min_by_key(|difference| difference.position())?;
        let more = if trust.has_more { "at least " } else { "" };
        Some(match trust.differences.len() {
            1 => format!("{first} (kite audit --verify)"),
            count => format!("{first}, and {more}{} more (kite audit --verify)", count - 1),
        })
    }

    /// How far the log was looked at, in words.
    pub fn progress(&self) -> String {
        let trust = self.0.lock();
        let mut words = Self::progress_of(&trust);
        // Once is a hiccup.
        for (name, Trouble { since, times, why }) in trust.troubles.iter().filter(|(_, one)| one.times > 1) {
            let since = since.to_rfc3339();
            words
                .push_str(&format!("; the {name} does not get on since {since}, after {times} tries: {why}"));
        }
        words
    }

    fn progress_of(trust: &Trust) -> String {
        if !trust.has_begun {
            return "not looked at yet".to_owned();
        }
        if trust.verified_until == 0 && trust.whole_at.is_none() {
            return "the newest seals hold, the ones before were not looked at yet".to_owned();
        }
        let mut words =
            format!("the log is as it was sealed, looked at up to position {}", trust.verified_until);
        if let Some(whole_at) = trust.whole_at {
            words.push_str(&format!(", last to the end at {}", whole_at.to_rfc3339()));
        }
        if trust.again_until > 0 {
            words.push_str(&format!(", now again at {}", trust.again_until));
        }
        words
    }

    /// The position up to which this process has checked the log from its beginning.
    pub fn verified_until(&self) -> Position {
        self.0.lock().verified_until
    }

    /// How a step of a worker on the seals went.
    pub(crate) fn tried<T>(&self, name: &'static str, now: DateTime<Utc>, step: &Result<T, JournalError>) {
        let troubles = &mut self.0.lock().troubles;
        match step {
            Ok(_) => drop(troubles.remove(name)),
            Err(error) => {
                let new = || Trouble { since: now, times: 0, why: String::new() };
                let trouble = troubles.entry(name).or_insert_with(new);
                trouble.times += 1;
                trouble.why = describe(error);
            }
        }
    }

    /// Something is not as it was sealed.
    pub fn note(&self, difference: Difference) {
        let mut trust = self.0.lock();
        if trust.differences.iter().any(|known| known.covers(&difference)) {
            return;
        }
        if trust.differences.len() == TOLD_MAX {
            trust.has_more = true;
            return;
        }
        metrics::counter!("kite_log_differences_total").increment(1);
        tracing::error!(
            %difference,
            position = difference.position(),
            "the log is not as it was sealed (kite audit --verify)"
        );
        trust.differences.push(difference);
        let first = trust.differences.iter().map(Difference::position).min().unwrap_or_default();
        metrics::gauge!("kite_log_first_difference_position").set(first as f64);
    }

    fn note_all(&self, report: &SealReport) {
        report.first_differences.iter().cloned().for_each(|difference| self.note(difference));
    }
}

/// Checks the newest seals first, and then slowly all of them; after a while it begins again.
pub struct SealWatch {
    journal: Journal,
    trust: SealTrust,
    /// Digests that were kept elsewhere, to be compared at the beginning.
    kept: BTreeMap<Position, String>,
    /// Where this pass is, and since when; none: the newest seals come first.
    pass: Option<Pass>,
    /// Not before, and since when it is so.
    rests: Option<(DateTime<Utc>, DateTime<Utc>)>,
}

struct Pass {
    place: SealPlace,
    /// When it came to the end; after that it only follows what is sealed.
    ended_at: Option<DateTime<Utc>>,
}

const WATCH: &str = "seal-watch";
/// The newest seals, which a process looks at when it begins.
const NEWEST: u64 = 16;
/// The shortest pause between two checks: each reads and hashes some thousand events, beside which a request may have
/// to wait.
const PAUSE: TimeDelta = TimeDelta::seconds(1);
/// The shortest pause once everything was checked, and only new seals come.
const LONG_PAUSE: TimeDelta = TimeDelta::seconds(5);
/// Between two looks, at most.
const PAUSE_MAX: TimeDelta = TimeDelta::minutes(1);
/// It pauses this many times as long as a check took: beside a campaign events are large, and the machine has other
/// work.
const RESTS: i32 = 100;
/// After this long at the end, it begins again.
const ANEW_AFTER: TimeDelta = TimeDelta::hours(1);

impl SealWatch {
    /// Looks at this log, and says there what it finds.
    pub fn new(journal: Journal, trust: SealTrust) -> Self {
        Self { journal, trust, kept: BTreeMap::new(), pass: None, rests: None }
    }

    /// Compares these digests, too, when it begins: the newest that were kept elsewhere.
    #[must_use]
    pub fn with_kept(self, kept: BTreeMap<Position, String>) -> Self {
        Self { kept, ..self }
    }

    async fn look(&mut self, now: DateTime<Utc>) -> Result<TimeDelta, JournalError> {
        let store = &**self.journal.store();
        // A clock that was set back must not keep it from beginning.
        let is_over = |at: DateTime<Utc>| now - at >= ANEW_AFTER || now < at;
        let (place, ended_at) = match &self.pass {
            Some(Pass { ended_at: Some(at), .. }) if is_over(*at) => (SealPlace::default(), None),
            Some(pass) => (pass.place, pass.ended_at),
            None => {
                self.look_at_newest().await?;
                self.pass = Some(Pass { place: SealPlace::default(), ended_at: None });
                return Ok(PAUSE);
            }
        };
        let mut check = SealCheck::new(store, place);
        let has_more = check.look().await?;
        self.trust.note_all(check.report());
        let place = check.place();
        let ended_at = if has_more { ended_at } else { ended_at.or(Some(now)) };
        self.pass = Some(Pass { place, ended_at });
        self.tell(place.until, ended_at);
        Ok(if has_more || ended_at.is_none() { PAUSE } else { LONG_PAUSE })
    }

    fn tell(&self, until: Position, ended_at: Option<DateTime<Utc>>) {
        let mut trust = self.trust.0.lock();
        trust.verified_until = trust.verified_until.max(until);
        trust.whole_at = ended_at.or(trust.whole_at);
        trust.again_until = if ended_at.is_none() && trust.whole_at.is_some() { until } else { 0 };
        metrics::gauge!("kite_log_verified_position").set(trust.verified_until as f64);
    }

    /// What was done to the log while no process ran is most likely done at its end.
    async fn look_at_newest(&self) -> Result<(), JournalError> {
        let store = &**self.journal.store();
        let seals = self.journal.count(STREAM).await?;
        let mut check = SealCheck::from(store, seals.saturating_sub(NEWEST)).await?;
        while check.look().await? {}
        self.trust.note_all(check.report());
        for until in few_differ_from(store, seals, &self.kept).await? {
            self.trust.note(Difference::NotAsKept { until });
        }
        self.trust.0.lock().has_begun = true;
        Ok(())
    }
}

#[async_trait]
impl Worker for SealWatch {
    fn name(&self) -> &str {
        WATCH
    }

    async fn step(&mut self) -> Result<Step, WorkerError> {
        let now = self.journal.now();
        // Whoever drives it comes by more often than it wants to work.
        if let Some((since, until)) = self.rests
            && (since..until).contains(&now)
        {
            return Ok(Step::Idle(Some(until)));
        }
        let looked = self.look(now).await;
        self.trust.tried(WATCH, now, &looked);
        // A clock that was set meanwhile says nothing of the work.
        let took = (self.journal.now() - now).clamp(TimeDelta::zero(), PAUSE_MAX);
        let until = now + took + (took * RESTS).min(PAUSE_MAX).max(looked?);
        self.rests = Some((now, until));
        Ok(Step::Idle(Some(until)))
    }
}
