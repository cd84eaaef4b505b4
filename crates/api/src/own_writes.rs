//! The position of each caller's last write through this process, so that the caller finds it when it reads.
//!
//! Limited in number: callers whose writes are in every read model need no waiting and are dropped first. If there
//! are still too many, the oldest are dropped, and an unknown caller then waits as if it had made the newest of those
//! writes. So this is not a cache by last use: which entries may be dropped depends on positions in the log.

use kite_domain::slug::TenantId;
use parking_lot::Mutex;
use smol_str::SmolStr;
use std::collections::HashMap;

/// Who writes, and reads what it wrote.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Writer {
    /// A tenant, with whichever of its keys.
    Tenant(TenantId),
    /// An operator, by the name under which it acts.
    Operator(SmolStr),
}

/// Callers that are remembered.
const WRITERS_MAX: usize = 4_096;

/// The positions.
#[derive(Debug, Default)]
pub(crate) struct OwnWrites(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    positions: HashMap<Writer, u64>,
    /// The newest dropped write that could not be read everywhere yet.
    forgotten: u64,
}

impl OwnWrites {
    /// Records a write. `read_everywhere` is the position that all read models have reached.
    pub(crate) fn note(&self, writer: Writer, position: u64, read_everywhere: impl FnOnce() -> u64) {
        let mut known = self.0.lock();
        if let Some(last) = known.positions.get_mut(&writer) {
            *last = position.max(*last);
            return;
        }
        if known.positions.len() >= WRITERS_MAX {
            known.make_room(read_everywhere());
        }
        known.positions.insert(writer, position);
    }

    /// The position of the caller's last write; 0: it need not wait.
    pub(crate) fn of(&self, writer: &Writer) -> u64 {
        let known = self.0.lock();
        known.positions.get(writer).copied().unwrap_or(known.forgotten)
    }
}

impl Known {
    fn make_room(&mut self, read_everywhere: u64) {
        self.positions.retain(|_, position| *position > read_everywhere);
        if self.positions.len() < WRITERS_MAX {
            return;
        }
        let mut positions: Vec<u64> = self.positions.values().copied().collect();
        let (_, middle, _) = positions.select_nth_unstable(WRITERS_MAX / 2);
        self.forgotten = self.forgotten.max(*middle);
        let forgotten = self.forgotten;
        self.positions.retain(|_, position| *position > forgotten);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer(number: usize) -> Writer {
        Writer::Operator(number.to_string().into())
    }

    #[test]
    fn the_newest_write_of_each_counts() {
        let writes = OwnWrites::default();
        for position in [5, 9, 7] {
            writes.note(writer(1), position, || 0);
        }
        let tenant = Writer::Tenant(TenantId::from_trusted("1"));
        writes.note(tenant.clone(), 3, || 0);
        assert_eq!([writer(1), tenant, writer(2)].map(|writer| writes.of(&writer)), [9, 3, 0]);
    }

    #[test]
    fn whose_writes_are_read_everywhere_is_forgotten_first() {
        let writes = OwnWrites::default();
        for number in 0..WRITERS_MAX {
            writes.note(writer(number), number as u64, || unreachable!("there is room"));
        }
        writes.note(writer(WRITERS_MAX), 1_000_000, || 100);
        assert_eq!(
            [writer(100), writer(101), writer(WRITERS_MAX)].map(|w| writes.of(&w)),
            [0, 101, 1_000_000]
        );
    }

    #[test]
    fn it_has_a_bound_although_nothing_is_read_and_nobody_waits_for_too_little() {
        let writes = OwnWrites::default();
        for number in 0..5 * WRITERS_MAX {
            writes.note(writer(number), number as u64, || 0);
        }
        assert!(writes.0.lock().positions.len() <= WRITERS_MAX);
        for number in [0, WRITERS_MAX, 5 * WRITERS_MAX - 1] {
            assert!(writes.of(&writer(number)) >= number as u64, "{number}");
        }
    }
}
