//! Changes of lots: locked, decided, appended together, folded.

use kite_domain::event::Event;
use kite_domain::ids::{LotId, SendingId};
use kite_domain::lot::Lot;
use kite_domain::mutation::{self, Mutation};
use kite_domain::sending::MessageClass;
use kite_event_store::{AppendError, BatchMode, Expected, Urgency};
use smol_str::SmolStr;
use std::collections::BTreeMap;
use tracing::Span;

use super::{Kept, LoggedLot, Lots, LotsError, Opened, Place, SealedSending};
use crate::journal::{self, Cause, Entry};
use crate::trace;
use crate::tries::Tries;

/// A condition of a change: the stream has this many events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fence {
    /// The stream.
    pub stream: &'static str,
    /// How many events it holds. What is written behind it may be noted there: it grows by that.
    pub version: u64,
}

/// Whether the changes of several lots depend on each other.
enum Together<'f> {
    /// Each stands alone.
    Not,
    /// All or none, and only if the fence holds.
    Behind(&'f mut Fence),
}

/// A lot whose events are on their way into the log: its place among those asked for, the lot, the answer, and the span of it.
type Changing<T> = (usize, Opened, LoggedLot, T, Span);

/// A change of several lots: what is to be appended, and in which order.
struct Decided<'c, T> {
    ids: &'c [LotId],
    actor: &'c SmolStr,
    answers: &'c mut [Option<Result<T, LotsError>>],
    changing: Vec<Changing<T>>,
    entries: Vec<Entry>,
    urgency: Urgency,
    /// What was known of them when that was decided.
    sendings: BTreeMap<SendingId, u64>,
}

impl<T> Decided<'_, T> {
    /// Decides on each opened lot. Gives back those that nothing was decided of, if that may be because what is kept of them is old.
    fn decide(
        &mut self,
        opened: Vec<Place>,
        sendings: Vec<Result<SealedSending, LotsError>>,
        is_doubtful: bool,
        decide: &mut impl FnMut(usize, &Lot, &SealedSending) -> (Vec<Event>, T),
    ) -> Vec<Place> {
        let mut doubtful = Vec::new();
        for ((place, opened), sending) in opened.into_iter().zip(sendings) {
            let id = self.ids[place];
            let (sending, mut guard) = match (sending, opened) {
                (Ok(sending), Ok(guard)) => (sending, guard),
                (_, Err(error)) | (Err(error), _) => {
                    self.answers[place] = Some(Err(error));
                    continue;
                }
            };
            // Nothing is kept while it changes: a caller that goes away before it is folded leaves nothing stale.
            let Some(logged) = guard.take() else {
                self.answers[place] = Some(Err(LotsError::NotFound(id)));
                continue;
            };
            let (events, answer) = decide(place, &logged.lot, &sending);
            if events.is_empty() {
                *guard = Some(logged);
                match is_doubtful {
                    true => doubtful.push((place, Ok(guard))),
                    false => self.answers[place] = Some(Ok(answer)),
                }
                continue;
            }
            self.urgency = self.urgency.min(urgency_of(sending.terms.class));
            // What the first decision rests on: a later one may know more of the same sending.
            self.sendings.entry(id.sending).or_insert(sending.version);
            let span = span_of_change(id, &sending, self.actor, &events);
            self.entries.push(Entry {
                stream: id.stream(),
                expected: Expected::Version(logged.version),
                tenant: Some(logged.lot.tenant.clone()),
                cause: Cause::new(self.actor.clone(), id.sending.0)
                    .of(logged.last_event)
                    .in_trace(sending.traceparent),
                events,
            });
            self.changing.push((place, guard, logged, answer, span));
        }
        doubtful
    }
}

impl Lots {
    /// Decides on each lot, appends what was decided in one batch, and folds it. One result per lot, in order.
    /// `decide` gets the index in `ids`; it is called again, after a pause, when another process was faster. `ids`
    /// are distinct.
    pub async fn change<T>(
        &self,
        ids: &[LotId],
        actor: &SmolStr,
        mut decide: impl FnMut(usize, &Lot, &SealedSending) -> (Vec<Event>, T),
    ) -> Vec<Result<T, LotsError>> {
        let mut answers: Vec<Option<Result<T, LotsError>>> = ids.iter().map(|_| None).collect();
        let mut left: Vec<usize> = (0..ids.len()).collect();
        let mut tries = Tries::of(&self.inner.journal);
        loop {
            left = self.change_once(ids, left, Together::Not, actor, &mut decide, &mut answers).await;
            if left.is_empty() || !tries.again().await {
                break;
            }
        }
        answered(ids, answers)
    }

    /// [`Lots::change`] for decisions that build on each other: the events of all lots are in the log, or none, and
    /// only if the fence holds ([`LotsError::Fenced`]). Where the log cannot write to several lots at once, first routes are claimed
    /// and then told ([`kite_domain::election`]). It goes ahead of what is ordinary: nothing more urgent can be decided before. Tried
    /// once: if another process has changed one of the lots, the result for all that were to be changed is
    /// [`LotsError::Contended`].
    pub async fn change_together<T>(
        &self,
        fence: &mut Fence,
        ids: &[LotId],
        actor: &SmolStr,
        mut decide: impl FnMut(usize, &Lot, &SealedSending) -> (Vec<Event>, T),
    ) -> Vec<Result<T, LotsError>> {
        let mut answers: Vec<Option<Result<T, LotsError>>> = ids.iter().map(|_| None).collect();
        let places = (0..ids.len()).collect();
        self.change_once(ids, places, Together::Behind(fence), actor, &mut decide, &mut answers).await;
        answered(ids, answers)
    }

    /// [`Lots::change`] for one lot.
    pub async fn change_one<T>(
        &self,
        id: LotId,
        actor: &SmolStr,
        mut decide: impl FnMut(&Lot, &SealedSending) -> (Vec<Event>, T),
    ) -> Result<T, LotsError> {
        let mut answers = self.change(&[id], actor, |_, lot, sending| decide(lot, sending)).await;
        answers.pop().unwrap_or(Err(LotsError::NotFound(id)))
    }

    /// Locks, decides, appends, folds. Returns the places that met a conflict and may be tried again.
    async fn change_once<T>(
        &self,
        ids: &[LotId],
        places: Vec<usize>,
        together: Together<'_>,
        actor: &SmolStr,
        decide: &mut impl FnMut(usize, &Lot, &SealedSending) -> (Vec<Event>, T),
        answers: &mut [Option<Result<T, LotsError>>],
    ) -> Vec<usize> {
        let mut decided = Decided {
            ids,
            actor,
            answers,
            changing: Vec::new(),
            entries: Vec::with_capacity(places.len()),
            urgency: Urgency::Urgent,
            sendings: BTreeMap::new(),
        };
        let mut opened = self.open_all(ids, places).await;
        // Who follows the log closely has been told of most lots, and learns by a conflict if one of them was old.
        // Routes that are claimed are told in any case: what they are decided on is read.
        let mut kept = match together {
            Together::Behind(_) if self.is_atomic() => Kept::Counts,
            Together::Not | Together::Behind(_) => Kept::MayBeOld,
        };
        loop {
            self.read_on(ids, &mut opened, kept).await;
            let sendings = self.sendings_of(ids, &opened).await;
            let is_doubtful = matches!(kept, Kept::Counts) && self.inner.journal.is_shared();
            opened = decided.decide(opened, sendings, is_doubtful, decide);
            if opened.is_empty() {
                break;
            }
            // Nothing was decided of these, so there will be no conflict.
            kept = Kept::MayBeOld;
        }
        let Decided { answers, changing, entries, urgency, sendings, .. } = decided;
        let (results, is_fenced) = match together {
            Together::Not => {
                let journal = &self.inner.journal;
                (journal.append_keeping(urgency, BatchMode::Independent, entries).await, false)
            }
            Together::Behind(fence) => {
                // Nothing more urgent can be decided before.
                let urgency = urgency.max(Urgency::Ahead);
                match self.is_atomic() {
                    true => self.append_behind(fence, urgency, sendings, entries).await,
                    false => self.claim_and_tell(fence, urgency, sendings, entries).await,
                }
            }
        };
        let mut again = Vec::new();
        for ((place, mut guard, mut logged, answer, _span), kept) in changing.into_iter().zip(results) {
            match kept.answer {
                // Others were there before it was told: it is read again.
                Ok(appended) if appended.version != logged.version + kept.events.len() as u64 => {
                    answers[place] = Some(Ok(answer));
                }
                Ok(appended) => {
                    kept.events.iter().for_each(|event| logged.lot.evolve(event));
                    logged.version = appended.version;
                    logged.last_event = Some(kept.last_id);
                    *guard = Some(logged);
                    answers[place] = Some(Ok(answer));
                }
                Err(AppendError::NotTried) => {
                    *guard = Some(logged);
                    match is_fenced {
                        true => answers[place] = Some(Err(LotsError::Fenced)),
                        false => again.push(place),
                    }
                }
                // Another process was faster: it is read again before it is decided again.
                Err(AppendError::Conflict { .. }) => again.push(place),
                // What is in the log is not certain any more.
                Err(error) => answers[place] = Some(Err(error.into())),
            }
        }
        again
    }

    /// Appends what was decided, all or nothing, if the fence holds. If others write to the log, too, none of the sendings may have changed
    /// since: a pause that was confirmed holds. Returns whether the fence kept it out.
    async fn append_behind(
        &self,
        fence: &Fence,
        urgency: Urgency,
        sendings: BTreeMap<SendingId, u64>,
        entries: Vec<Entry>,
    ) -> (Vec<journal::Kept>, bool) {
        let journal = &self.inner.journal;
        let append =
            async |entries: Vec<Entry>| journal.append_keeping(urgency, BatchMode::Atomic, entries).await;
        if entries.is_empty() || mutation::is_active(Mutation::FenceIgnored) {
            return (append(entries).await, false);
        }
        let asked: Vec<SendingId> = match journal.is_shared() {
            true => sendings.keys().copied().collect(),
            false => Vec::new(),
        };
        let fence = Entry::check(fence.stream, fence.version);
        let unchanged = asked.iter().map(|id| Entry::check(id.stream(), sendings[id]));
        let mut results = append([fence].into_iter().chain(unchanged).chain(entries).collect()).await;
        let kept = results.split_off(1 + asked.len());
        let mut checks = results.into_iter().map(|kept| kept.answer);
        let has_changed = |answer: &_| matches!(answer, Err(AppendError::Conflict { .. }));
        let is_fenced = checks.next().is_some_and(|answer| has_changed(&answer));
        for (id, answer) in asked.into_iter().zip(checks) {
            if has_changed(&answer) {
                self.forget_sending(id);
            }
        }
        (kept, is_fenced)
    }
}

/// Of appends for messages of a class. A password takes three of them, one after the other, until it is handed over.
pub(crate) fn urgency_of(class: MessageClass) -> Urgency {
    match class {
        MessageClass::Otp => Urgency::Urgent,
        MessageClass::Notice | MessageClass::Ad => Urgency::Ordinary,
    }
}

/// From the decision until it is in the log, in the trace of the lot's sending: a change of many lots belongs to as many traces.
fn span_of_change(id: LotId, sending: &SealedSending, actor: &SmolStr, events: &[Event]) -> Span {
    let first = events.first().map_or("", Event::kind);
    let span = tracing::debug_span!(
        parent: None, "lot", otel.name = first, lot = %id, tenant = %sending.terms.tenant, %actor, events = events.len()
    );
    if let Some(traceparent) = sending.traceparent {
        trace::adopt(&span, traceparent);
    }
    span
}

fn answered<T>(ids: &[LotId], answers: Vec<Option<Result<T, LotsError>>>) -> Vec<Result<T, LotsError>> {
    let answers = answers.into_iter().zip(ids);
    answers.map(|(answer, id)| answer.unwrap_or(Err(LotsError::Contended(*id)))).collect()
}
