//! The newest events in memory, so that readers at the end of the log (projectors, the publisher, the router) need
//! not query the database.

use parking_lot::RwLock;
use std::collections::VecDeque;
use std::sync::Arc;

use crate::envelope::RecordedEvent;
use crate::port::{Filter, Page, Position};
use crate::queue::EVENT_OVERHEAD_BYTES;

/// Data on one page, unless a single event is larger.
const PAGE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How many events one page looks at, including those that do not match.
const PAGE_SCAN_MAX: usize = 16_384;

/// A page that is being made, limited by the caller, in bytes and in events looked at.
pub(crate) struct PageBuilder {
    page: Page,
    limit: usize,
    bytes: usize,
    scanned: usize,
}

impl PageBuilder {
    pub(crate) fn new(after: Position, limit: usize) -> Self {
        Self { page: Page { events: Vec::new(), next: after }, limit, bytes: 0, scanned: 0 }
    }

    /// Whether another event may be looked at.
    pub(crate) fn has_room(&self) -> bool {
        self.page.events.len() < self.limit && self.bytes < PAGE_BYTES_MAX && self.scanned < PAGE_SCAN_MAX
    }

    /// How many more events may be looked at.
    pub(crate) fn scan_left(&self) -> usize {
        PAGE_SCAN_MAX - self.scanned
    }

    pub(crate) fn skip(&mut self, position: Position) {
        self.scanned += 1;
        self.page.next = position;
    }

    pub(crate) fn push(&mut self, event: RecordedEvent) {
        self.skip(event.position);
        self.bytes += event.data.len();
        self.page.events.push(event);
    }

    pub(crate) fn finish(self) -> Page {
        self.page
    }
}

/// A bounded ring of the newest commits.
pub struct Recent {
    ring: RwLock<Ring>,
    bytes_max: usize,
}

struct Ring {
    /// One piece a commit, none empty, adjacent.
    commits: VecDeque<Commit>,
    bytes: usize,
    /// Everything after this position is in the ring.
    before: Position,
    /// The last durable position.
    head: Position,
}

impl Ring {
    fn after(position: Position) -> Self {
        Self { commits: VecDeque::new(), bytes: 0, before: position, head: position }
    }

    /// Answers what had to go for it.
    fn push(&mut self, events: Vec<RecordedEvent>, bytes_max: usize) -> Vec<Commit> {
        let bytes = events.iter().map(|event| event.data.len() + EVENT_OVERHEAD_BYTES).sum();
        let commit = Commit { events: Arc::new(events), bytes };
        self.head = commit.last();
        self.bytes += bytes;
        self.commits.push_back(commit);
        let mut dropped = Vec::new();
        while self.bytes > bytes_max && self.commits.len() > 1 {
            if let Some(oldest) = self.commits.pop_front() {
                self.bytes -= oldest.bytes;
                self.before = oldest.last();
                dropped.push(oldest);
            }
        }
        dropped
    }
}

struct Commit {
    events: Arc<Vec<RecordedEvent>>,
    bytes: usize,
}

impl Commit {
    fn last(&self) -> Position {
        self.events.last().map_or(0, |event| event.position)
    }
}

impl Recent {
    /// Empty, of a log that ends at `head`.
    pub fn new(head: Position, bytes_max: usize) -> Self {
        Self { ring: RwLock::new(Ring::after(head)), bytes_max }
    }

    /// Adds what was just made durable. Drops the oldest commits beyond the limit; the newest stays.
    pub fn push(&self, events: Vec<RecordedEvent>) {
        let mut ring = self.ring.write();
        let dropped = ring.push(events, self.bytes_max);
        drop(ring);
        // Freeing thousands of events takes its time: not under the lock.
        drop(dropped);
    }

    /// Adds what comes after what is here; what is here already is left out. False: something between is missing, and nothing
    /// is added.
    pub(crate) fn push_next(&self, mut events: Vec<RecordedEvent>) -> bool {
        let mut ring = self.ring.write();
        let known = events.partition_point(|event| event.position <= ring.head);
        let Some(first) = events.get(known) else { return true };
        if first.position != ring.head + 1 {
            return false;
        }
        events.drain(..known);
        let dropped = ring.push(events, self.bytes_max);
        drop(ring);
        drop(dropped);
        true
    }

    /// Begins anew if the log has come further than is known here: nothing up to there is in memory.
    pub fn begin_after(&self, position: Position) {
        let mut ring = self.ring.write();
        if position > ring.head {
            *ring = Ring::after(position);
        }
    }

    /// The last position that it knows.
    pub(crate) fn head(&self) -> Position {
        self.ring.read().head
    }

    /// The page after `after`, if the ring reaches back that far.
    pub fn page(&self, after: Position, limit: usize, filter: &Filter) -> Option<Page> {
        let mut builder = PageBuilder::new(after, limit);
        for events in self.commits_after(after, limit)? {
            let start = events.partition_point(|event| event.position <= after);
            for event in &events[start..] {
                if !builder.has_room() {
                    return Some(builder.finish());
                }
                if filter.admits(&event.kind) {
                    builder.push(event.clone());
                } else {
                    builder.skip(event.position);
                }
            }
        }
        Some(builder.finish())
    }

    /// How many events are after a position, if the ring reaches back that far.
    pub fn count_after(&self, after: Position) -> Option<u64> {
        let ring = self.ring.read();
        if after < ring.before {
            return None;
        }
        let start = ring.commits.partition_point(|commit| commit.last() <= after);
        let count = |commit: &Commit| {
            let known = commit.events.partition_point(|event| event.position <= after);
            (commit.events.len() - known) as u64
        };
        Some(ring.commits.range(start..).map(count).sum())
    }

    /// The commits that a page can come from. The lock is held only for that.
    fn commits_after(&self, after: Position, limit: usize) -> Option<Vec<Arc<Vec<RecordedEvent>>>> {
        let ring = self.ring.read();
        if after < ring.before {
            return None;
        }
        if after >= ring.head || limit == 0 {
            return Some(Vec::new());
        }
        let start = ring.commits.partition_point(|commit| commit.last() <= after);
        let mut pieces = Vec::new();
        let mut enough = 0;
        for commit in ring.commits.range(start..) {
            if enough > PAGE_SCAN_MAX {
                break;
            }
            // The first piece may begin before `after`: it counts for nothing.
            enough += if pieces.is_empty() { 0 } else { commit.events.len() };
            pieces.push(Arc::clone(&commit.events));
        }
        Some(pieces)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::Metadata;
    use bytes::Bytes;
    use chrono::DateTime;
    use uuid::Uuid;

    fn events(positions: impl IntoIterator<Item = u64>) -> Vec<RecordedEvent> {
        let metadata = Metadata {
            time: DateTime::UNIX_EPOCH,
            tenant: None,
            correlation: Uuid::nil(),
            causation: None,
            actor: "router".into(),
            traceparent: None,
        };
        let event = |position| RecordedEvent {
            position,
            stream: "a".into(),
            version: position,
            id: Uuid::from_u128(position.into()),
            kind: "Happened".into(),
            schema_version: 1,
            metadata: metadata.clone(),
            data: Bytes::from_static(b"{}"),
        };
        positions.into_iter().map(event).collect()
    }

    fn read(recent: &Recent, after: Position) -> Option<Vec<u64>> {
        let page = recent.page(after, 100, &Filter::everything())?;
        Some(page.events.iter().map(|event| event.position).collect())
    }

    #[test]
    fn what_comes_twice_is_there_once_and_nothing_is_added_beyond_a_gap() {
        let recent = Recent::new(10, 1_000_000);
        assert!(recent.push_next(events(11..14)));
        assert!(recent.push_next(events(11..14)), "all of it is known");
        assert!(recent.push_next(events(12..16)), "half of it is");
        assert!(!recent.push_next(events(17..20)), "16 is missing");
        assert_eq!(recent.head(), 15);
        assert_eq!(read(&recent, 10), Some(vec![11, 12, 13, 14, 15]));
        assert_eq!(read(&recent, 13), Some(vec![14, 15]));
        assert_eq!(read(&recent, 9), None, "it is from before");
    }

    #[test]
    fn what_begins_anew_knows_nothing_of_what_was() {
        let recent = Recent::new(0, 1_000_000);
        assert!(recent.push_next(events(1..4)));
        recent.begin_after(7);
        assert_eq!(read(&recent, 3), None);
        assert!(recent.push_next(events(8..9)));
        assert_eq!(read(&recent, 7), Some(vec![8]));
    }

    #[test]
    fn the_oldest_go_when_there_is_no_room() {
        let recent = Recent::new(0, 3 * (EVENT_OVERHEAD_BYTES + 2));
        for position in 1..6 {
            assert!(recent.push_next(events([position])));
        }
        assert_eq!(read(&recent, 1), None);
        assert_eq!(read(&recent, 2), Some(vec![3, 4, 5]));
    }
}
