//! Sendings in memory, with what may still change of them: whoever looks at a lot looks at its sending, too.

use kite_domain::event::Event;
use kite_domain::ids::SendingId;
use kite_domain::sending::{Sending, SendingAccepted};
use kite_event_store::{ReadError, Tail, TraceParent};
use parking_lot::Mutex;
use quick_cache::sync::GuardResult;
use smol_str::SmolStr;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Lots;
use crate::journal::{JournalError, Told};
use crate::recent::Weighed;

/// A sending that is kept.
pub(super) struct KeptSending {
    pub(super) sending: Sending,
    /// The trace that it was accepted in.
    traceparent: Option<TraceParent>,
    /// Up to which event of its stream nothing can be missing; it may know of later ones.
    pub(super) version: u64,
    /// Whether nothing can have been missed between reading and caching. Until then nobody else sees it.
    is_certain: bool,
}

/// With the size of its terms, which are the only large part.
fn sending_cell(kept: KeptSending) -> Weighed<Arc<Mutex<KeptSending>>> {
    let bytes = kept.sending.accepted.as_ref().map_or(0, |terms| terms.memory_bytes());
    Weighed::new(Arc::new(Mutex::new(kept)), bytes)
}

/// A sealed sending, with what may still change of it.
#[derive(Debug, Clone)]
pub struct SealedSending {
    /// What it was accepted with.
    pub terms: Arc<SendingAccepted>,
    /// Whether it was cancelled.
    pub is_cancelled: bool,
    /// Whether it is paused: nothing of it is routed or handed over.
    pub is_paused: bool,
    /// The trace that it was accepted in, and that what follows goes on with.
    pub traceparent: Option<TraceParent>,
    /// Up to which event of its stream nothing of that can be missing.
    pub(super) version: u64,
}

impl Lots {
    /// Caches a sending that is about to be sealed, by the first event of its stream. Call it before the seal is written.
    pub fn remember_sending(&self, terms: Arc<SendingAccepted>, traceparent: Option<TraceParent>) {
        let id = terms.sending;
        let sending = Sending { accepted: Some(terms), ..Sending::default() };
        let kept = KeptSending { sending, traceparent, version: 1, is_certain: true };
        self.inner.sendings.insert(id, sending_cell(kept));
    }

    /// Drops a cached sending, because the log may say something else.
    pub fn forget_sending(&self, id: SendingId) {
        // In this order: whoever has just read it either sees that something was told, or has it removed.
        self.inner.changes_told.fetch_add(1, Ordering::SeqCst);
        self.inner.sendings.remove(&id);
    }

    /// Folds an event of a sending's stream that is in the log into what is kept of it.
    pub fn note_sending(&self, id: SendingId, event: &Event) {
        // First, as in `forget_sending`. Nothing else of a sending is asked for here.
        if matches!(event, Event::SendingCancelled(_) | Event::SendingPaused(_) | Event::SendingResumed(_)) {
            self.inner.changes_told.fetch_add(1, Ordering::SeqCst);
        }
        if let Some(sending) = self.inner.sendings.get(&id) {
            sending.value.lock().sending.evolve(event, self.inner.journal.now());
        }
    }

    /// The sending, if it is sealed.
    pub async fn sending(&self, id: SendingId) -> Result<Option<SealedSending>, JournalError> {
        if let Some(sealed) = self.kept(id) {
            return Ok(Some(sealed));
        }
        let before = self.inner.changes_told.load(Ordering::SeqCst);
        let told = self.inner.journal.read_stream(&id.stream(), 0).await?;
        let Some(kept) = self.keep_sending(id, &told, before) else { return Ok(None) };
        let version = {
            let kept = kept.lock();
            if kept.is_certain {
                return Ok(sealed(&kept));
            }
            kept.version
        };
        // Whoever wrote between the reading and the keeping found nothing to tell.
        let missed = self.inner.journal.read_stream(&id.stream(), version).await?;
        let mut kept = kept.lock();
        missed.iter().for_each(|told| kept.sending.evolve(&told.event, told.recorded.metadata.time));
        kept.is_certain = true;
        Ok(sealed(&kept))
    }

    /// Keeps a sending as its whole stream says, if it is sealed. That is certain if nobody was told of a change of any sending
    /// since `before`, from when the stream had not been read.
    pub(super) fn keep_sending(
        &self,
        id: SendingId,
        told: &[Told],
        before: u64,
    ) -> Option<Arc<Mutex<KeptSending>>> {
        let mut sending = Sending::default();
        told.iter().for_each(|told| sending.evolve(&told.event, told.recorded.metadata.time));
        sending.accepted.as_ref()?;
        let version = told.last().map_or(0, |last| last.recorded.version);
        let traceparent = trace_of(told);
        let cell = sending_cell(KeptSending { sending, traceparent, version, is_certain: false });
        let kept = cell.value.clone();
        self.inner.sendings.insert(id, cell);
        if self.inner.changes_told.load(Ordering::SeqCst) == before {
            kept.lock().is_certain = true;
        }
        Some(kept)
    }

    /// Keeps a sending as its first event says, unless it is kept already: then more may be known of it.
    pub(super) fn keep_told(&self, id: SendingId, first: &Told) {
        let mut sending = Sending::default();
        sending.evolve(&first.event, first.recorded.metadata.time);
        let traceparent = first.recorded.metadata.traceparent;
        let kept = KeptSending { sending, traceparent, version: first.recorded.version, is_certain: true };
        if let GuardResult::Guard(place) = self.inner.sendings.get_value_or_guard(&id, None) {
            let _ = place.insert(sending_cell(kept));
        }
    }

    /// Keeps those of these sendings that are not kept yet, read together.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub async fn gather_sendings(&self, ids: impl IntoIterator<Item = SendingId>) -> Result<(), ReadError> {
        let missing: BTreeSet<SendingId> =
            ids.into_iter().filter(|id| self.inner.sendings.peek(id).is_none()).collect();
        let streams: Vec<(SendingId, SmolStr)> = missing.into_iter().map(|id| (id, id.stream())).collect();
        let tails: Vec<Tail<'_>> =
            streams.iter().map(|(_, stream)| Tail { stream, after_version: 0 }).collect();
        if tails.is_empty() {
            return Ok(());
        }
        let before = self.inner.changes_told.load(Ordering::SeqCst);
        let read = self.inner.journal.read_tails(&tails).await?;
        for ((id, _), told) in streams.iter().zip(read) {
            // Whoever asks for one that cannot be read gets the reason.
            if let Ok(told) = told {
                self.keep_sending(*id, &told, before);
            }
        }
        Ok(())
    }

    /// One that may be relied on.
    pub(super) fn kept(&self, id: SendingId) -> Option<SealedSending> {
        let kept = self.inner.sendings.get(&id)?;
        let kept = kept.value.lock();
        if kept.is_certain { sealed(&kept) } else { None }
    }
}

/// The trace that a stream began in: of a sending, the one that it was accepted in.
pub(crate) fn trace_of(stream: &[Told]) -> Option<TraceParent> {
    stream.first().and_then(|first| first.recorded.metadata.traceparent)
}

fn sealed(kept: &KeptSending) -> Option<SealedSending> {
    let sending = &kept.sending;
    let terms = sending.accepted.clone()?;
    Some(SealedSending {
        terms,
        is_cancelled: sending.cancelled_at.is_some(),
        is_paused: sending.paused.is_some(),
        traceparent: kept.traceparent,
        version: kept.version,
    })
}
