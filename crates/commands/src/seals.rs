//! Holds the log against its seals.

use async_trait::async_trait;
use chrono::TimeDelta;
use kite_domain::event::Event;
use kite_domain::seal::{Difference, LogSealed, STREAM, Sum, compare};
use kite_event_store::{EventStore, Filter, Position, RecordedEvent};
use parking_lot::Mutex;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::journal::{Journal, JournalError};
use crate::worker::{Step, Worker, WorkerError};

const PAGE: usize = 1_000;
/// So many differences are named; more are counted.
const TOLD_MAX: usize = 100;

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SealReport {
    /// Seals that were looked at.
    pub seals: u64,
    /// Events that they cover.
    pub events: u64,
    /// Up to here the log is sealed.
    pub sealed_until: Position,
    /// Events after that: the newest ones.
    pub unsealed: u64,
    /// How many differences there are.
    pub differences: u64,
    /// The first of them.
    pub first_differences: Vec<Difference>,
}

impl SealReport {
    /// Whether everything that is sealed is as it was.
    pub fn is_clean(&self) -> bool {
        self.differences == 0
    }

    fn note(&mut self, difference: Difference) {
        self.differences += 1;
        if self.first_differences.len() < TOLD_MAX {
            self.first_differences.push(difference);
        }
    }
}

/// A look at one seal after another.
pub struct SealCheck<'s> {
    store: &'s dyn EventStore,
    /// The last seal that was looked at: its version, up to where it goes, and its digest.
    place: SealPlace,
    report: SealReport,
}

/// Where a look at the seals is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SealPlace {
    /// Seals up to here.
    pub version: u64,
    until: Position,
    sum: Sum,
}

impl<'s> SealCheck<'s> {
    /// From the beginning, or on from a place.
    pub fn new(store: &'s dyn EventStore, place: SealPlace) -> Self {
        Self { store, place, report: SealReport { sealed_until: place.until, ..SealReport::default() } }
    }

    /// From the seal after so many; the one before is believed.
    ///
    /// # Errors
    /// The log.
    pub async fn from(store: &'s dyn EventStore, version: u64) -> Result<Self, JournalError> {
        let mut place = SealPlace::default();
        if let Some(before) = version.checked_sub(1)
            && let Some(recorded) = store.read_stream(STREAM, before, 1).await?.pop()
            && let Some(seal) = seal_of(&recorded)
        {
            place = SealPlace { version, until: seal.until, sum: seal.sum().unwrap_or_default() };
        }
        Ok(Self::new(store, place))
    }

    /// Looks at so many seals; answers whether there may be more.
    ///
    /// # Errors
    /// The log.
    pub async fn look(&mut self, seals: usize) -> Result<bool, JournalError> {
        let page = self.store.read_stream(STREAM, self.place.version, seals).await?;
        for recorded in &page {
            self.look_at(recorded).await?;
        }
        Ok(page.len() == seals)
    }

    /// Where it is.
    pub fn place(&self) -> SealPlace {
        self.place
    }

    /// All of the rest, and what comes after the last seal.
    ///
    /// # Errors
    /// The log.
    pub async fn finish(mut self) -> Result<SealReport, JournalError> {
        while self.look(PAGE).await? {}
        let mut after = self.place.until;
        loop {
            let page = self.store.read_all(after, PAGE, &Filter::everything()).await?;
            if page.next == after {
                return Ok(self.report);
            }
            // The newest events are in no seal yet. That one of them is gone shows all the same.
            if let Some(after) = self.gap(after, page.events.iter().map(|event| event.position)) {
                self.report.note(Difference::Missing { after });
            }
            self.report.unsealed += page.events.len() as u64;
            after = page.next;
        }
    }

    /// What has been found so far.
    pub fn report(&self) -> &SealReport {
        &self.report
    }

    async fn look_at(&mut self, recorded: &RecordedEvent) -> Result<(), JournalError> {
        let known = self.place;
        self.place.version = recorded.version;
        self.report.seals += 1;
        let Some(seal) = seal_of(recorded) else {
            self.report.note(Difference::Changed { position: recorded.position });
            return Ok(());
        };
        let mut previous = known.sum;
        if seal.after != known.until {
            self.report.note(Difference::NoSeal { after: known.until });
            // The digest before it is not known, so only the events are compared.
            previous = Sum::default();
        }
        let events = self.events_of(&seal).await?;
        self.report.events += events.len() as u64;
        match compare(&seal, &previous, &events) {
            Err(Difference::Seal { .. }) if seal.after != known.until => {}
            Err(difference) => self.report.note(difference),
            // Somebody may have sealed what was left.
            Ok(()) => {
                let positions = events.iter().map(|(position, _)| *position);
                if let Some(after) = self.gap(seal.after, positions) {
                    self.report.note(Difference::Missing { after });
                }
            }
        }
        self.place.until = seal.until;
        self.place.sum = seal.sum().unwrap_or_default();
        self.report.sealed_until = seal.until;
        Ok(())
    }

    /// The position after which one is missing, where positions have no gaps.
    fn gap(&self, after: Position, mut positions: impl Iterator<Item = Position>) -> Option<Position> {
        let mut last = after;
        let is_gap = |position: Position| {
            let is_gap = position != last + 1;
            if !is_gap {
                last = position;
            }
            is_gap
        };
        (self.store.positions_have_no_gaps() && positions.any(is_gap)).then_some(last)
    }

    async fn events_of(&self, seal: &LogSealed) -> Result<Vec<(Position, Sum)>, JournalError> {
        let mut events = Vec::new();
        let mut after = seal.after;
        // Whoever has changed a seal may have let it cover anything.
        let most = seal.events as usize + PAGE;
        while after < seal.until && events.len() < most {
            let page = self.store.read_all(after, PAGE, &Filter::everything()).await?;
            if page.next == after {
                break;
            }
            after = page.next;
            let covered = page.events.iter().take_while(|event| event.position <= seal.until);
            events.extend(covered.map(|event| (event.position, event.digest())));
        }
        Ok(events)
    }
}

fn seal_of(recorded: &RecordedEvent) -> Option<LogSealed> {
    match Event::from_json(&recorded.kind, recorded.schema_version, &recorded.data) {
        Ok(Event::LogSealed(seal)) => Some(seal),
        Ok(_) | Err(_) => None,
    }
}

/// Up to which positions the seals of a log are not those that were kept elsewhere: others, or none.
///
/// # Errors
/// The log.
pub async fn differ_from(
    store: &dyn EventStore,
    kept: &BTreeMap<Position, String>,
) -> Result<Vec<Position>, JournalError> {
    let mut missing = kept.clone();
    let mut version = 0;
    loop {
        let page = store.read_stream(STREAM, version, PAGE).await?;
        let Some(last) = page.last() else { return Ok(missing.into_keys().collect()) };
        version = last.version;
        for seal in page.iter().filter_map(seal_of) {
            if kept.get(&seal.until).is_some_and(|digest| *digest == seal.digest) {
                missing.remove(&seal.until);
            }
        }
    }
}

/// What the process knows of its log. Cheap to clone.
#[derive(Clone, Default)]
pub struct SealTrust(Arc<Mutex<Trust>>);

#[derive(Default)]
struct Trust {
    verified_until: Position,
    differences: BTreeSet<String>,
}

impl SealTrust {
    /// What is not as it was sealed, in words; none: nothing is known of.
    pub fn difference(&self) -> Option<String> {
        let trust = self.0.lock();
        let first = trust.differences.first()?;
        Some(match trust.differences.len() {
            1 => format!("{first} (kite audit --verify)"),
            count => format!("{first}, and {} more (kite audit --verify)", count - 1),
        })
    }

    /// Up to where the log was looked through from its beginning by this process.
    pub fn verified_until(&self) -> Position {
        self.0.lock().verified_until
    }

    fn note(&self, report: &SealReport) {
        for difference in &report.first_differences {
            let difference = difference.to_string();
            if self.0.lock().differences.insert(difference.clone()) {
                metrics::counter!("kite_log_differences_total").increment(1);
                tracing::error!(difference, "the log is not as it was sealed (kite audit --verify)");
            }
        }
    }
}

/// Looks at the newest seals first, and then slowly at all of them, once in the life of a process.
pub struct SealWatch {
    journal: Journal,
    trust: SealTrust,
    place: Option<SealPlace>,
}

/// The newest seals, which a process looks at when it begins.
const NEWEST: u64 = 16;
/// Between two looks.
const PAUSE: TimeDelta = TimeDelta::milliseconds(250);
/// Between two looks once all has been looked at: what is sealed since then was sealed by a process that lives.
const LONG_PAUSE: TimeDelta = TimeDelta::seconds(60);

impl SealWatch {
    /// Looks at this log, and says there what it finds.
    pub fn new(journal: Journal, trust: SealTrust) -> Self {
        Self { journal, trust, place: None }
    }

    async fn look(&mut self) -> Result<TimeDelta, JournalError> {
        let store = &**self.journal.store();
        let Some(place) = self.place else {
            let newest = self.journal.count(STREAM).await?.saturating_sub(NEWEST);
            let mut check = SealCheck::from(store, newest).await?;
            check.look(NEWEST as usize).await?;
            self.trust.note(check.report());
            self.place = Some(SealPlace::default());
            return Ok(PAUSE);
        };
        let mut check = SealCheck::new(store, place);
        check.look(1).await?;
        let is_over = check.report().seals == 0;
        self.trust.note(check.report());
        let place = check.place();
        self.trust.0.lock().verified_until = place.until;
        metrics::gauge!("kite_log_verified_position").set(place.until as f64);
        self.place = Some(place);
        Ok(if is_over { LONG_PAUSE } else { PAUSE })
    }
}

#[async_trait]
impl Worker for SealWatch {
    fn name(&self) -> &str {
        "seal-watch"
    }

    async fn step(&mut self) -> Result<Step, WorkerError> {
        let pause = self.look().await?;
        Ok(Step::Idle(Some(self.journal.now() + pause)))
    }
}

/// Holds a whole log against its seals.
///
/// # Errors
/// The log.
pub async fn verify(store: &dyn EventStore) -> Result<SealReport, JournalError> {
    SealCheck::new(store, SealPlace::default()).finish().await
}
