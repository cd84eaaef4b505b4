//! A wrapper around another store: positions have gaps, and the head is reported late. For tests: it exposes callers
//! that count with positions, or take the head for the end.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use std::sync::Arc;
use tokio::sync::watch;
use uuid::Uuid;

use crate::envelope::RecordedEvent;
use crate::port::{
    AppendError, Appended, Attention, Batch, EventStore, Filter, Following, KeptEvent, KeptPage, LogIndex,
    Page, Position, ReadError, Tail,
};

/// See the module. Positions of the inner store are multiplied, and some are left out.
#[derive(Debug)]
pub struct GappyEventStore<S> {
    inner: Arc<S>,
    gaps: Gaps,
    head: watch::Sender<Position>,
}

/// How positions are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gaps {
    /// As they are within.
    Absent,
    /// With gaps of differing widths.
    Present,
}

/// The distance between two positions, more or less.
const STRIDE: u64 = 7;

impl Gaps {
    /// The position as it is told.
    fn told(self, position: Position) -> Position {
        match self {
            Self::Absent => position,
            Self::Present => {
                position.saturating_mul(STRIDE).saturating_add(position.wrapping_mul(position) % 5)
            }
        }
    }

    /// The last position of the inner store that is reported as this one or an earlier one.
    fn within(self, position: Position) -> Position {
        match self {
            Self::Absent => position,
            Self::Present => {
                let most = position / STRIDE;
                if self.told(most) <= position { most } else { most - 1 }
            }
        }
    }

    /// Where to read on: a reader that finds nothing stays where it was.
    fn next(self, after: Position, next: Position) -> Position {
        if next == self.within(after) { after } else { self.told(next) }
    }

    fn recorded(self, event: RecordedEvent) -> RecordedEvent {
        RecordedEvent { position: self.told(event.position), ..event }
    }

    fn all_recorded(self, events: Vec<RecordedEvent>) -> Vec<RecordedEvent> {
        events.into_iter().map(|event| self.recorded(event)).collect()
    }

    fn kept(self, event: KeptEvent) -> KeptEvent {
        KeptEvent {
            position: self.told(event.position),
            version: event.version,
            event: event.event.map(|event| self.recorded(event)),
        }
    }
}

impl<S: EventStore> GappyEventStore<S> {
    /// Around this store. Its head is reported only when [`GappyEventStore::tell_head`] is called.
    pub fn new(inner: Arc<S>, gaps: Gaps) -> Self {
        let head = watch::Sender::new(gaps.told(*inner.head().borrow()));
        Self { inner, gaps, head }
    }

    /// Tells how far the log has come by now.
    pub fn tell_head(&self) {
        let head = self.gaps.told(*self.inner.head().borrow());
        self.head.send_if_modified(|known| std::mem::replace(known, head) != head);
    }

    /// The head of the inner store, as it is reported there.
    pub fn head_within(&self) -> watch::Receiver<Position> {
        self.inner.head()
    }
}

#[async_trait]
impl<S: EventStore> EventStore for GappyEventStore<S> {
    async fn append(&self, batch: Batch) -> Vec<Result<Appended, AppendError>> {
        let answers = self.inner.append(batch).await.into_iter();
        answers
            .map(|answer| {
                answer.map(|appended| Appended { position: self.gaps.told(appended.position), ..appended })
            })
            .collect()
    }

    fn is_atomic_over_streams(&self) -> bool {
        self.inner.is_atomic_over_streams()
    }

    fn positions_have_no_gaps(&self) -> bool {
        self.gaps == Gaps::Absent
    }

    async fn read_stream(
        &self,
        stream: &str,
        after_version: u64,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, ReadError> {
        Ok(self.gaps.all_recorded(self.inner.read_stream(stream, after_version, limit).await?))
    }

    async fn read_many(
        &self,
        tails: &[Tail<'_>],
        limit: usize,
    ) -> Result<Vec<Vec<RecordedEvent>>, ReadError> {
        Ok(self
            .inner
            .read_many(tails, limit)
            .await?
            .into_iter()
            .map(|events| self.gaps.all_recorded(events))
            .collect())
    }

    async fn read_all(&self, after: Position, limit: usize, filter: &Filter) -> Result<Page, ReadError> {
        let page = self.inner.read_all(self.gaps.within(after), limit, filter).await?;
        Ok(Page { events: self.gaps.all_recorded(page.events), next: self.gaps.next(after, page.next) })
    }

    async fn read_told(&self, after: Position, limit: usize, filter: &Filter) -> Result<Page, ReadError> {
        let page = self.inner.read_told(self.gaps.within(after), limit, filter).await?;
        Ok(Page { events: self.gaps.all_recorded(page.events), next: self.gaps.next(after, page.next) })
    }

    async fn read_kept(&self, after: Position, limit: usize) -> Result<KeptPage, ReadError> {
        let page = self.inner.read_kept(self.gaps.within(after), limit).await?;
        Ok(KeptPage {
            events: page.events.into_iter().map(|event| self.gaps.kept(event)).collect(),
            next: self.gaps.next(after, page.next),
        })
    }

    async fn read_kept_stream(
        &self,
        stream: &str,
        after_version: u64,
        limit: usize,
    ) -> Result<Vec<KeptEvent>, ReadError> {
        let events = self.inner.read_kept_stream(stream, after_version, limit).await?;
        Ok(events.into_iter().map(|event| self.gaps.kept(event)).collect())
    }

    fn follow(&self, attention: Attention) -> Following {
        self.inner.follow(attention)
    }

    fn count_after(&self, after: Position) -> u64 {
        self.inner.count_after(self.gaps.within(after))
    }

    fn head(&self) -> watch::Receiver<Position> {
        self.head.subscribe()
    }
}

#[async_trait]
impl<S: EventStore + LogIndex> LogIndex for GappyEventStore<S> {
    async fn read_correlation(
        &self,
        correlation: Uuid,
        after: Position,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, ReadError> {
        Ok(self
            .gaps
            .all_recorded(self.inner.read_correlation(correlation, self.gaps.within(after), limit).await?))
    }

    async fn position_before(&self, time: DateTime<Utc>) -> Result<Position, ReadError> {
        Ok(self.gaps.told(self.inner.position_before(time).await?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(position: Position) -> Position {
        Gaps::Present.told(position)
    }

    fn within(position: Position) -> Position {
        Gaps::Present.within(position)
    }

    #[test]
    fn positions_keep_their_order_and_lead_back() {
        assert_eq!((told(0), within(0)), (0, 0));
        for position in 1..10_000 {
            assert!(told(position) > told(position - 1) + 1, "there is a gap before {position}");
            assert_eq!(within(told(position)), position);
            assert_eq!(within(told(position) - 1), position - 1, "one below its own reads on from it");
        }
        assert_eq!(within(Position::MAX), Position::MAX / STRIDE);
    }
}
