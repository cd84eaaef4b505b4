//! The sealer: follows the log and writes a seal now and then, so that a change in the log is noticed.
//!
//! It costs an append nothing, because it reads behind the writers. The newest few seconds are not covered yet. What
//! is left when a process ends is sealed at its end, or when the next one begins. If two are at work, the log lets
//! only one of them write each seal.
//!
//! If the newest seal cannot be read, it continues from the newest one that can. What the broken one covered is
//! sealed again, as it is then. The broken one stays in the log and is reported whenever the log is checked.

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use kite_domain::event::EventKind;
use kite_domain::mutation;
use kite_domain::seal::{Difference, EVENTS_MAX, LogSealed, STREAM, Segment, Sum};
use kite_event_store::{AppendError, Expected, Filter, KeptPage, Position, ReadError};
use std::sync::Arc;

use crate::journal::{Cause, Entry, Journal, JournalError};
use crate::seals::{SealTrust, digest_of, newest_of};
use crate::worker::{Step, Worker, WorkerError, describe};

/// An event is sealed after this time at the latest, unless a seal becomes full before.
const AGE_MAX: TimeDelta = TimeDelta::seconds(10);
const PAGE: usize = 1_000;
const SEALER: &str = "sealer";

/// Keeps the digests in another place, which somebody who changes the log cannot reach.
pub trait Witness: Send + Sync {
    /// The seal is in the log.
    ///
    /// # Errors
    /// If it could not be kept; it is given again with the next one.
    fn keep(&self, seal: &LogSealed) -> std::io::Result<()>;
}

/// See the module.
pub struct Sealer {
    journal: Journal,
    witness: Option<Arc<dyn Witness>>,
    trust: SealTrust,
    place: Option<Place>,
    /// Where the log ended at the start: what of that is in no seal was left by a process that is gone.
    left: Position,
}

/// When it seals what it has come to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Haste {
    /// When it is enough, or old enough.
    Usual,
    /// When there is no more.
    AtTheEnd,
}

/// Where it is.
struct Place {
    /// Seals so far.
    version: u64,
    /// What comes after the last of them, up to where the log has been read.
    segment: Segment,
    position: Position,
    /// When the first event came in it that is not a seal: seals alone need no other seal.
    since: Option<DateTime<Utc>>,
    /// One of those was left by an earlier process.
    is_left: bool,
}

impl Place {
    fn after(version: u64, position: Position, sum: Sum) -> Self {
        Self { version, segment: Segment::after(position, &sum), position, since: None, is_left: false }
    }
}

impl Sealer {
    /// Seals this log.
    pub fn new(journal: Journal, witness: Option<Arc<dyn Witness>>) -> Self {
        let left = *journal.store().head().borrow();
        Self { journal, witness, trust: SealTrust::default(), place: None, left }
    }

    /// Says there what it cannot read.
    #[must_use]
    pub fn telling(self, trust: SealTrust) -> Self {
        Self { trust, ..self }
    }

    /// Seals everything that is in the log, for when no process will be there to do it later.
    ///
    /// # Errors
    /// The log. What was sealed before the error stays sealed.
    pub async fn seal_the_rest(&mut self) -> Result<(), JournalError> {
        while self.go_on(Haste::AtTheEnd).await? == Step::Worked {}
        Ok(())
    }

    /// Continues from the newest seal that can be read.
    async fn find_place(&self) -> Result<Place, JournalError> {
        let seals = self.journal.count(STREAM).await?;
        let store = &**self.journal.store();
        let newest = newest_of(store, seals, |difference| self.trust.note(difference)).await?;
        let Some((_, seal)) = newest else { return Ok(Place::after(seals, 0, Sum::default())) };
        if let Some(witness) = &self.witness {
            tell(&**witness, &seal);
        }
        // A digest that somebody has made unreadable is no worse than a wrong one: the check of the log finds it.
        Ok(Place::after(seals, seal.until, seal.sum().unwrap_or_default()))
    }

    /// Reads on; returns whether there was anything.
    async fn read(&self, place: &mut Place) -> Result<bool, JournalError> {
        let room = EVENTS_MAX.saturating_sub(place.segment.events()) as usize;
        let limit = PAGE.min(room).max(1);
        let store = self.journal.store();
        let page = match store.read_all(place.position, limit, &Filter::everything()).await {
            // One that cannot be read keeps no other from being sealed.
            Err(ReadError::Unreadable(_)) => store.read_kept(place.position, limit).await?,
            page => KeptPage::from(page?),
        };
        let now = self.journal.now();
        for kept in &page.events {
            mutation::bug!(SealSkipsAnEvent if kept.position % 50 == 49, continue);
            place.segment.add(kept.position, &digest_of(kept));
            match &kept.event {
                Ok(event) if event.kind == EventKind::LogSealed => continue,
                Ok(_) => {}
                Err(why) => {
                    self.trust.note(Difference::Unreadable { position: kept.position, why: describe(why) })
                }
            }
            place.since.get_or_insert(now);
            place.is_left |= kept.position <= self.left;
        }
        let is_any = page.next > place.position;
        place.position = page.next;
        Ok(is_any)
    }

    /// Writes a seal. None: another one was faster, or it is not known whether this one is in the log.
    async fn seal(&self, place: Place) -> Result<Option<Place>, JournalError> {
        let Place { version, segment, .. } = place;
        let (seal, sum) = segment.seal();
        let entry = Entry {
            stream: STREAM.into(),
            expected: Expected::Version(version),
            tenant: None,
            cause: Cause::new(SEALER, self.journal.next_id()),
            events: vec![seal.clone().into()],
        };
        match self.journal.append_one(entry).await {
            Ok(_) => {}
            Err(AppendError::Conflict { .. } | AppendError::AnswerLost) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        metrics::gauge!("kite_log_sealed_position").set(seal.until as f64);
        if let Some(witness) = &self.witness {
            tell(&**witness, &seal);
        }
        Ok(Some(Place::after(version + 1, seal.until, sum)))
    }

    async fn go_on(&mut self, haste: Haste) -> Result<Step, JournalError> {
        let mut place = match self.place.take() {
            Some(place) => place,
            None => self.find_place().await?,
        };
        let is_any = self.read(&mut place).await?;
        let now = self.journal.now();
        let is_full = place.segment.events() >= EVENTS_MAX;
        // A clock that was set back must not keep it from sealing.
        let is_old = |since: DateTime<Utc>| now - since >= AGE_MAX || now < since;
        let is_due = |since| haste == Haste::AtTheEnd || place.is_left || is_old(since);
        if is_full || !is_any && place.since.is_some_and(is_due) {
            self.place = self.seal(place).await?;
            return Ok(Step::Worked);
        }
        let due = place.since.map(|since| since + AGE_MAX);
        self.place = Some(place);
        Ok(if is_any { Step::Worked } else { Step::Idle(due) })
    }
}

fn tell(witness: &dyn Witness, seal: &LogSealed) {
    if let Err(error) = witness.keep(seal) {
        metrics::counter!("kite_log_seals_not_kept_total").increment(1);
        tracing::error!(
            error = describe(&error),
            until = seal.until,
            "the digest of a seal cannot be written where it is to be kept"
        );
    }
}

#[async_trait]
impl Worker for Sealer {
    fn name(&self) -> &str {
        SEALER
    }

    /// Others seal: it continues from the newest seal.
    fn stands_by(&mut self) {
        self.place = None;
    }

    async fn step(&mut self) -> Result<Step, WorkerError> {
        let step = self.go_on(Haste::Usual).await;
        self.trust.tried(SEALER, self.journal.now(), &step);
        Ok(step?)
    }
}
