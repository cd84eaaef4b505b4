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
pub(super) struct PageBuilder {
    page: Page,
    limit: usize,
    bytes: usize,
    scanned: usize,
}

impl PageBuilder {
    pub(super) fn new(after: Position, limit: usize) -> Self {
        Self { page: Page { events: Vec::new(), next: after }, limit, bytes: 0, scanned: 0 }
    }

    /// Whether another event may be looked at.
    pub(super) fn has_room(&self) -> bool {
        self.page.events.len() < self.limit && self.bytes < PAGE_BYTES_MAX && self.scanned < PAGE_SCAN_MAX
    }

    /// How many more events may be looked at.
    pub(super) fn scan_left(&self) -> usize {
        PAGE_SCAN_MAX - self.scanned
    }

    pub(super) fn skip(&mut self, position: Position) {
        self.scanned += 1;
        self.page.next = position;
    }

    pub(super) fn push(&mut self, event: RecordedEvent) {
        self.skip(event.position);
        self.bytes += event.data.len();
        self.page.events.push(event);
    }

    pub(super) fn finish(self) -> Page {
        self.page
    }
}

/// A bounded ring of the newest commits.
pub(super) struct Recent {
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
    pub(super) fn new(head: Position, bytes_max: usize) -> Self {
        Self { ring: RwLock::new(Ring { commits: VecDeque::new(), bytes: 0, before: head, head }), bytes_max }
    }

    /// Adds what was just made durable. Drops the oldest commits beyond the limit; the newest stays.
    pub(super) fn push(&self, events: Vec<RecordedEvent>) {
        let bytes = events.iter().map(|event| event.data.len() + EVENT_OVERHEAD_BYTES).sum();
        let commit = Commit { events: Arc::new(events), bytes };
        let mut dropped = Vec::new();
        let mut ring = self.ring.write();
        ring.head = commit.last();
        ring.bytes += bytes;
        ring.commits.push_back(commit);
        while ring.bytes > self.bytes_max && ring.commits.len() > 1 {
            if let Some(oldest) = ring.commits.pop_front() {
                ring.bytes -= oldest.bytes;
                ring.before = oldest.last();
                dropped.push(oldest);
            }
        }
        drop(ring);
        // Freeing thousands of events takes its time: not under the lock.
        drop(dropped);
    }

    /// The page after `after`, if the ring reaches back that far.
    pub(super) fn page(&self, after: Position, limit: usize, filter: &Filter) -> Option<Page> {
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
