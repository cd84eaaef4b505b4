//! Takes over for an original that is dead. After the operator's confirmation everything that it may have handed over
//! since this copy was taken is put in doubt, lot by lot, and only then is anything handed over.
//!
//! It reads the copied part of the log itself, not a read model: those of a copy are rebuilt, and what one of them
//! has not reached yet would be sent twice. It may be stopped at any moment; what is in doubt is not put in doubt
//! again.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use kite_domain::event::{Event, EventKind};
use kite_domain::ids::{LotId, SendingId};
use kite_domain::instance::{self, InstanceSettled, Originality};
use kite_domain::lot::{Cancelled, Doubted};
use kite_domain::mutation;
use kite_event_store::{AppendError, Expected, Filter, Position};
use smol_str::SmolStr;
use std::collections::BTreeSet;

use crate::directory::Directory;
use crate::journal::{Cause, Entry, JournalError};
use crate::lots::{Lots, LotsError};
use crate::worker::{Step, Worker, WorkerError};

/// Lots looked at in one step.
const PAGE: usize = 128;

/// See the module.
pub struct Settler {
    lots: Lots,
    directory: Directory,
    actor: SmolStr,
    /// How far it is; none: it has not begun.
    place: Option<Place>,
}

/// How far it is.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    position: Position,
    messages_in_doubt: u64,
    messages_given_up: u64,
}

impl Settler {
    /// For the lots of this log.
    pub fn new(lots: Lots, directory: Directory) -> Self {
        Self { lots, directory, actor: SmolStr::new_static("settler"), place: None }
    }

    async fn go_on(&mut self, until: Position, dead_since: DateTime<Utc>) -> Result<(), WorkerError> {
        let mut place = self.place.unwrap_or_default();
        let filter = Filter::kinds([EventKind::LotAccepted]);
        let journal = self.lots.journal();
        let page =
            journal.store().read_all(place.position, PAGE, &filter).await.map_err(JournalError::from)?;
        let copied = page.events.iter().filter(|event| event.position <= until);
        let mut lots: Vec<LotId> = copied.filter_map(|event| LotId::from_stream(&event.stream)).collect();
        lots.dedup();
        for doubted in self.doubt(&lots, until, dead_since).await? {
            place.messages_in_doubt += doubted.messages_in_doubt;
            place.messages_given_up += doubted.messages_given_up;
        }
        let is_end = page.next == place.position || page.next >= until;
        place.position = page.next;
        if is_end {
            self.settle(place).await?;
            self.place = None;
        } else {
            self.place = Some(place);
        }
        Ok(())
    }

    async fn doubt(
        &self,
        lots: &[LotId],
        until: Position,
        dead_since: DateTime<Utc>,
    ) -> Result<Vec<Doubted>, WorkerError> {
        let cancelled_before = self.cancelled_before(lots, until).await?;
        let snapshot = self.directory.snapshot();
        let now = self.lots.journal().now();
        let results = self
            .lots
            .change(lots, &self.actor, |index, lot, sending| {
                let terms = &sending.terms;
                if !instance::may_have_been_due(terms.scheduled_at, dead_since) {
                    return (Vec::new(), Doubted::default());
                }
                let context = snapshot.routing_context(terms, now);
                let cancelled = match cancelled_before.contains(&lots[index].sending) {
                    true => Cancelled::BeforeTheCopy,
                    false if sending.is_cancelled => Cancelled::AtTheCopy,
                    false => Cancelled::No,
                };
                mutation::bug!(CancelAtCopyBelieved if sending.is_cancelled, let cancelled = Cancelled::BeforeTheCopy);
                let mut doubted = lot.put_in_doubt(terms, cancelled, dead_since, &context);
                (std::mem::take(&mut doubted.events), doubted)
            })
            .await;
        let mut all = Vec::with_capacity(results.len());
        for result in results {
            match result {
                Ok(doubted) => all.push(doubted),
                // It was never sealed: nobody routes it, neither did the original with what it had then.
                Err(LotsError::NotFound(_)) => {}
                Err(error) => return Err(WorkerError::from(error)),
            }
        }
        Ok(all)
    }

    /// The sendings of these lots that were cancelled in what is copied.
    async fn cancelled_before(
        &self,
        lots: &[LotId],
        until: Position,
    ) -> Result<BTreeSet<SendingId>, WorkerError> {
        let mut cancelled = BTreeSet::new();
        for id in lots.iter().map(|lot| lot.sending).collect::<BTreeSet<SendingId>>() {
            if !self.lots.sending(id).await?.is_some_and(|sending| sending.is_cancelled) {
                continue;
            }
            let told = self.lots.journal().read_stream(&id.stream(), 0).await?;
            let is_it = |event: &Event| matches!(event, Event::SendingCancelled(_));
            if told.iter().any(|told| is_it(&told.event) && told.recorded.position <= until) {
                cancelled.insert(id);
            }
        }
        Ok(cancelled)
    }

    async fn settle(&self, place: Place) -> Result<(), WorkerError> {
        let Place { messages_in_doubt, messages_given_up, .. } = place;
        let journal = self.lots.journal();
        let version = journal.count(instance::STREAM).await?;
        // Between the two, somebody else may have settled it.
        self.directory.catch_up(journal).await?;
        if !matches!(self.directory.snapshot().instance, Originality::Released { .. }) {
            return Ok(());
        }
        let entry = Entry {
            stream: instance::STREAM.into(),
            expected: Expected::Version(version),
            tenant: None,
            cause: Cause::new(self.actor.clone(), journal.next_id()),
            events: vec![InstanceSettled { messages_in_doubt, messages_given_up }.into()],
        };
        match journal.append_one(entry).await {
            Ok(_) => {}
            Err(AppendError::Conflict { .. }) => {
                return Err(WorkerError::retry("the standing of the log was changed by others"));
            }
            Err(error) => return Err(JournalError::from(error).into()),
        }
        tracing::warn!(messages_in_doubt, messages_given_up, "this copy takes the place of its original");
        self.directory.catch_up(journal).await?;
        Ok(())
    }
}

#[async_trait]
impl Worker for Settler {
    fn name(&self) -> &str {
        "settler"
    }

    /// It begins again: what another settler has put in doubt meanwhile is not put in doubt again.
    fn stands_by(&mut self) {
        self.place = None;
    }

    async fn step(&mut self) -> Result<Step, WorkerError> {
        self.directory.stay_current(self.lots.journal()).await?;
        match self.directory.snapshot().instance {
            Originality::Released { until, original_dead_since, .. } => {
                self.go_on(until, original_dead_since).await?;
                Ok(Step::Worked)
            }
            Originality::Original | Originality::Copy { .. } | Originality::Settled { .. } => {
                self.place = None;
                Ok(Step::Idle(None))
            }
        }
    }
}
