//! Holds the log against its seals.

use kite_domain::event::Event;
use kite_domain::seal::{self, Difference, LogSealed, STREAM, Sum, compare};
use kite_event_store::{EventStore, KeptEvent, Position, ReadError, RecordedEvent};
use serde::Serialize;
use std::collections::BTreeMap;

use crate::journal::JournalError;
use crate::worker::describe;

mod watch;

pub use watch::{SealTrust, SealWatch};

const PAGE: usize = 1_000;
/// Seals that are read at once: one may have 32 KiB.
const SEALS_PAGE: usize = 64;
/// Events after which a check of the seals pauses: as many as one seal covers at most.
const EVENTS_A_LOOK: u64 = seal::EVENTS_MAX as u64;
/// How many differences are named; more are counted.
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

    /// The same position may be found twice, because a seal is also an event of the next one.
    fn note(&mut self, difference: Difference) {
        if self.first_differences.iter().any(|known| known.covers(&difference)) {
            return;
        }
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

impl SealPlace {
    fn of(version: u64, seal: &LogSealed) -> Self {
        Self { version, until: seal.until, sum: seal.sum().unwrap_or_default() }
    }
}

impl<'s> SealCheck<'s> {
    /// From the beginning, or on from a place.
    pub fn new(store: &'s dyn EventStore, place: SealPlace) -> Self {
        Self { store, place, report: SealReport { sealed_until: place.until, ..SealReport::default() } }
    }

    /// From the seal after this many. The one before, or the last readable one before that, is believed.
    ///
    /// # Errors
    /// The log.
    pub async fn from(store: &'s dyn EventStore, version: u64) -> Result<Self, JournalError> {
        let place = match newest_of(store, version, |_| {}).await? {
            Some((version, seal)) => SealPlace::of(version, &seal),
            None => SealPlace::default(),
        };
        Ok(Self::new(store, place))
    }

    /// Checks some seals, until that was enough work for one step; returns whether there may be more.
    ///
    /// # Errors
    /// The log.
    pub async fn look(&mut self) -> Result<bool, JournalError> {
        let enough = self.report.events + EVENTS_A_LOOK;
        // A full seal is large, and one is enough; where they are small, more are read each time.
        let mut most = 1;
        while most < SEALS_PAGE {
            let page = self.store.read_kept_stream(STREAM, self.place.version, most).await?;
            for kept in &page {
                self.look_at(kept).await?;
                if self.report.events >= enough {
                    return Ok(true);
                }
            }
            if page.len() < most {
                return Ok(false);
            }
            most *= 2;
        }
        Ok(true)
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
        while self.look().await? {}
        let mut after = self.place.until;
        loop {
            let page = self.store.read_kept(after, PAGE).await?;
            if page.next == after {
                return Ok(self.report);
            }
            // The newest events are in no seal yet. That one of them is gone, or is none, shows all the same.
            if let Some(after) = self.gap(after, page.events.iter().map(|event| event.position)) {
                self.report.note(Difference::Missing { after });
            }
            page.events.iter().for_each(|kept| self.note_unreadable(kept));
            self.report.unsealed += page.events.len() as u64;
            after = page.next;
        }
    }

    /// What has been found so far.
    pub fn report(&self) -> &SealReport {
        &self.report
    }

    async fn look_at(&mut self, kept: &KeptEvent) -> Result<(), JournalError> {
        let known = self.place;
        self.place.version = kept.version;
        self.report.seals += 1;
        let seal = match seal_of(kept) {
            Ok(seal) => seal,
            Err(difference) => {
                self.report.note(difference);
                return Ok(());
            }
        };
        let previous = self.sum_before(&seal, kept.version, known).await?;
        if previous.is_none() {
            self.report.note(Difference::NoSeal { after: known.until });
        }
        let events = self.events_of(&seal).await?;
        self.report.events += events.len() as u64;
        match compare(&seal, &previous.unwrap_or_default(), &events) {
            // The digest before it is not known, so only the events are compared.
            Err(Difference::Seal { .. }) if previous.is_none() => {}
            Err(difference) => self.report.note(difference),
            // Somebody may have sealed what was left.
            Ok(()) => {
                let positions = events.iter().map(|(position, _)| *position);
                if let Some(after) = self.gap(seal.after, positions) {
                    self.report.note(Difference::Missing { after });
                }
            }
        }
        self.place = SealPlace::of(kept.version, &seal);
        self.report.sealed_until = seal.until;
        Ok(())
    }

    /// The digest of the seal that this one continues from; none: it is missing. That may be an earlier one: what was sealed
    /// since could not be read at the time.
    async fn sum_before(
        &self,
        seal: &LogSealed,
        version: u64,
        known: SealPlace,
    ) -> Result<Option<Sum>, ReadError> {
        if seal.after == known.until {
            return Ok(Some(known.sum));
        }
        if seal.after == 0 || seal.after > known.until {
            return Ok((seal.after == 0).then(Sum::default));
        }
        let first = version.saturating_sub(1 + SEALS_PAGE as u64);
        let page = self.store.read_kept_stream(STREAM, first, SEALS_PAGE).await?;
        let mut earlier = page.iter().rev().filter(|kept| kept.version < version);
        let found = earlier.find_map(|kept| seal_of(kept).ok().filter(|before| before.until == seal.after));
        Ok(found.and_then(|before| before.sum()))
    }

    /// The position after which one is missing, if positions have no gaps.
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

    /// Notes an event that cannot be read.
    fn note_unreadable(&mut self, kept: &KeptEvent) {
        if let Err(why) = &kept.event {
            self.report.note(Difference::Unreadable { position: kept.position, why: describe(why) });
        }
    }

    async fn events_of(&mut self, seal: &LogSealed) -> Result<Vec<(Position, Sum)>, JournalError> {
        let mut events = Vec::new();
        let mut after = seal.after;
        // Whoever has changed a seal may have let it cover anything.
        let most = seal.events as usize + PAGE;
        while after < seal.until && events.len() < most {
            let left = usize::try_from(seal.until - after).unwrap_or(PAGE);
            let page = self.store.read_kept(after, PAGE.min(left)).await?;
            if page.next == after {
                break;
            }
            after = page.next;
            for kept in page.events.iter().take_while(|kept| kept.position <= seal.until) {
                self.note_unreadable(kept);
                events.push((kept.position, digest_of(kept)));
            }
        }
        Ok(events)
    }
}

/// The digest of an event, or what stands for it.
pub(crate) fn digest_of(kept: &KeptEvent) -> Sum {
    kept.event.as_ref().map_or_else(|_| seal::unreadable(), RecordedEvent::digest)
}

/// The seal that an event of their stream is, or what has become of it.
fn seal_of(kept: &KeptEvent) -> Result<LogSealed, Difference> {
    let unreadable = |why: &str| Difference::Unreadable { position: kept.position, why: why.to_owned() };
    let recorded = kept.event.as_ref().map_err(|why| unreadable(&describe(why)))?;
    match Event::from_json(&recorded.kind, recorded.schema_version, &recorded.data) {
        Ok(Event::LogSealed(seal)) if seal.can_stand_at(kept.position) => Ok(seal),
        Ok(Event::LogSealed(_)) => {
            Err(unreadable("it is to be a seal, of more than one can cover, or of what is not before it"))
        }
        Ok(_) => Err(unreadable("it is to be a seal, and is none")),
        Err(error) => Err(unreadable(&describe(&error))),
    }
}

/// The newest readable seal among the first so many, and its number. What is wrong with those after it is reported.
pub(crate) async fn newest_of(
    store: &dyn EventStore,
    seals: u64,
    mut told: impl FnMut(Difference) + Send,
) -> Result<Option<(u64, LogSealed)>, ReadError> {
    let (mut end, mut most) = (seals, 1);
    while end > 0 {
        let first = end.saturating_sub(most);
        let mut page = store.read_kept_stream(STREAM, first, most as usize).await?;
        // Where some are missing, later ones are answered, and were looked at before.
        page.retain(|kept| kept.version <= end);
        for kept in page.iter().rev() {
            match seal_of(kept) {
                Ok(seal) => return Ok(Some((kept.version, seal))),
                Err(difference) => told(difference),
            }
        }
        // Whoever has numbered one again may have left any number of them out.
        end = if page.is_empty() { last_up_to(store, first).await? } else { first };
        most = SEALS_PAGE as u64;
    }
    Ok(None)
}

/// The greatest version up to this one that has a seal, or something in its place, found by halving; 0: there is
/// none.
async fn last_up_to(store: &dyn EventStore, version: u64) -> Result<u64, ReadError> {
    let (mut last, mut end) = (0, version);
    while last < end {
        let middle = last + (end - last) / 2;
        match store.read_kept_stream(STREAM, middle, 1).await?.pop() {
            Some(kept) if kept.version <= version => last = kept.version.max(middle + 1),
            _ => end = middle,
        }
    }
    Ok(last)
}

/// The positions up to which the seals of a log differ from those that were kept elsewhere, or are missing.
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
        let page = store.read_kept_stream(STREAM, version, SEALS_PAGE).await?;
        let Some(last) = page.last() else { return Ok(missing.into_keys().collect()) };
        version = last.version;
        for seal in page.iter().filter_map(|kept| seal_of(kept).ok()) {
            if kept.get(&seal.until).is_some_and(|digest| *digest == seal.digest) {
                missing.remove(&seal.until);
            }
        }
    }
}

/// As [`differ_from`] for a few digests, without going through all seals: they are found by halving.
///
/// # Errors
/// The log.
pub async fn few_differ_from(
    store: &dyn EventStore,
    seals: u64,
    kept: &BTreeMap<Position, String>,
) -> Result<Vec<Position>, JournalError> {
    let mut missing = Vec::new();
    for (until, digest) in kept {
        let (mut before, mut end) = (0, seals);
        while before < end {
            let middle = before + (end - before) / 2;
            match next_seal(store, middle, end).await? {
                Some((version, seal)) if seal.until < *until => before = version,
                _ => end = middle,
            }
        }
        let found = next_seal(store, before, seals).await?;
        if !found.is_some_and(|(_, seal)| seal.until == *until && seal.digest == *digest) {
            missing.push(*until);
        }
    }
    Ok(missing)
}

/// The first seal after so many, and up to so many, that can be read.
async fn next_seal(
    store: &dyn EventStore,
    mut after: u64,
    end: u64,
) -> Result<Option<(u64, LogSealed)>, ReadError> {
    while after < end {
        let Some(kept) = store.read_kept_stream(STREAM, after, 1).await?.pop() else { break };
        if kept.version > end {
            break;
        }
        if let Ok(seal) = seal_of(&kept) {
            return Ok(Some((kept.version, seal)));
        }
        after = kept.version;
    }
    Ok(None)
}

/// Compares a whole log with its seals.
///
/// # Errors
/// The log.
pub async fn verify(store: &dyn EventStore) -> Result<SealReport, JournalError> {
    SealCheck::new(store, SealPlace::default()).finish().await
}
