//! Which part of a file is on the disk, and which is only in memory.

use rand::{Rng, RngExt};

/// What a disk writes as a whole.
const SECTOR_BYTES: usize = 512;

/// One file.
#[derive(Debug, Default)]
pub(crate) struct Shadow {
    /// What a restart finds for certain, except for what of `changes` is certain.
    durable: Vec<u8>,
    /// What was done since, in order.
    changes: Vec<(Change, Fate)>,
    /// The size that everybody sees.
    size_bytes: usize,
}

#[derive(Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Resize { size_bytes: usize },
}

/// Whether a change is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It may be, and is after the next sync.
    Pending,
    /// A sync of it has failed: any part of it may be there, and no later sync changes that.
    Doubtful,
    /// It is.
    Certain,
}

impl Shadow {
    /// A file that was there before anybody looked: all of it is durable.
    pub(crate) fn of(contents: Vec<u8>) -> Self {
        Self { size_bytes: contents.len(), durable: contents, changes: Vec::new() }
    }

    pub(crate) fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    pub(crate) fn write(&mut self, offset: usize, bytes: &[u8]) {
        self.size_bytes = self.size_bytes.max(offset + bytes.len());
        self.changes.push((Change::Write { offset, bytes: bytes.to_vec() }, Fate::Pending));
    }

    pub(crate) fn resize(&mut self, size_bytes: usize) {
        self.size_bytes = size_bytes;
        self.changes.push((Change::Resize { size_bytes }, Fate::Pending));
    }

    /// A sync that succeeded.
    pub(crate) fn sync(&mut self) {
        self.settle(Fate::Certain);
        // What is certain and has nothing doubtful before it need not be kept apart.
        let doubt = self.changes.iter().position(|(_, fate)| *fate == Fate::Doubtful);
        for (change, _) in self.changes.drain(..doubt.unwrap_or(self.changes.len())) {
            change.apply(&mut self.durable);
        }
    }

    /// A failed sync: what it should have written counts as written from now on, but may not be on the disk.
    pub(crate) fn fail_to_sync(&mut self) {
        self.settle(Fate::Doubtful);
    }

    fn settle(&mut self, settled: Fate) {
        for (_, fate) in &mut self.changes {
            if *fate == Fate::Pending {
                *fate = settled;
            }
        }
    }

    /// Whether the next sync needs room on the disk that is not taken yet.
    pub(crate) fn needs_room(&self) -> bool {
        let taken_bytes = self.synced_bytes();
        self.changes.iter().any(|(change, fate)| match change {
            Change::Write { offset, bytes } => *fate == Fate::Pending && offset + bytes.len() > taken_bytes,
            Change::Resize { .. } => false,
        })
    }

    fn synced_bytes(&self) -> usize {
        let certain = self.changes.iter().filter(|(_, fate)| *fate == Fate::Certain);
        certain.fold(self.durable.len(), |taken_bytes, (change, _)| match change {
            Change::Write { offset, bytes } => taken_bytes.max(offset + bytes.len()),
            Change::Resize { size_bytes } => *size_bytes,
        })
    }

    /// What is there after a loss of power if nothing was written by itself, nor by a sync that failed.
    pub(crate) fn synced(&self) -> Vec<u8> {
        let mut found = self.durable.clone();
        for (change, fate) in &self.changes {
            if *fate == Fate::Certain {
                change.apply(&mut found);
            }
        }
        found
    }

    /// What is there after a loss of power if some sectors were written by themselves or by a sync that failed.
    pub(crate) fn torn(&self, random: &mut impl Rng) -> Vec<u8> {
        let mut found = self.durable.clone();
        for (change, fate) in &self.changes {
            match fate {
                Fate::Certain => change.apply(&mut found),
                Fate::Pending | Fate::Doubtful => change.apply_in_part(&mut found, random),
            }
        }
        found
    }
}

impl Change {
    fn apply(&self, contents: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => put(contents, *offset, bytes),
            Self::Resize { size_bytes } => contents.resize(*size_bytes, 0),
        }
    }

    fn apply_in_part(&self, contents: &mut Vec<u8>, random: &mut impl Rng) {
        let Self::Write { offset, bytes } = self else {
            if random.random() {
                self.apply(contents);
            }
            return;
        };
        let mut start = 0;
        while start < bytes.len() {
            let sector_end = (offset + start) / SECTOR_BYTES * SECTOR_BYTES + SECTOR_BYTES;
            let end = bytes.len().min(sector_end - offset);
            if random.random() {
                put(contents, offset + start, &bytes[start..end]);
            }
            start = end;
        }
    }
}

fn put(contents: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if contents.len() < end {
        contents.resize(end, 0);
    }
    contents[offset..end].copy_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    /// What may be found, of many tries.
    fn torn(file: &Shadow) -> Vec<Vec<u8>> {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        (0..64).map(|_| file.torn(&mut random)).collect()
    }

    #[test]
    fn only_what_was_synced_is_certain() {
        let mut file = Shadow::of(vec![1; 4]);
        file.write(2, &[2; 4]);
        assert_eq!((file.synced(), file.size_bytes()), (vec![1; 4], 6));
        file.sync();
        assert_eq!(file.synced(), [1, 1, 2, 2, 2, 2]);
        file.resize(1);
        file.write(3, &[3]);
        assert_eq!((file.synced().len(), file.size_bytes()), (6, 4));
        file.sync();
        assert_eq!(file.synced(), [1, 0, 0, 3]);
    }

    #[test]
    fn what_a_failed_sync_should_have_written_stays_in_doubt() {
        let mut file = Shadow::of(vec![0; 2 * SECTOR_BYTES]);
        file.write(0, &[1; 2 * SECTOR_BYTES]);
        file.fail_to_sync();
        for _ in 0..2 {
            assert_eq!(file.synced(), [0; 2 * SECTOR_BYTES], "no sync makes up for it");
            let found: Vec<_> = torn(&file).iter().map(|found| (found[0], found[SECTOR_BYTES])).collect();
            for each in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                assert!(found.contains(&each), "{each:?} is possible");
            }
            file.sync();
        }

        file.write(0, &[2; 2]);
        file.sync();
        assert_eq!(file.synced()[..3], [2, 2, 0]);
        assert!(torn(&file).iter().all(|found| found[..2] == [2, 2]), "what was written again is certain");
        file.resize(SECTOR_BYTES);
        file.sync();
        assert!(torn(&file).iter().all(|found| found.len() == SECTOR_BYTES));
    }

    #[test]
    fn only_growth_that_no_sync_has_settled_needs_room() {
        let mut file = Shadow::of(vec![0; 8]);
        file.write(4, &[1; 4]);
        assert!(!file.needs_room(), "there is room where something stands");
        file.write(4, &[1; 5]);
        assert!(file.needs_room());
        file.fail_to_sync();
        assert!(!file.needs_room(), "it will not be tried again");
        file.write(8, &[2]);
        assert!(file.needs_room(), "nobody has made room for it yet");
        file.sync();
        file.write(8, &[3]);
        assert!(!file.needs_room());
    }

    #[test]
    fn a_torn_write_is_there_in_whole_sectors() {
        let mut file = Shadow::of(vec![0; 4 * SECTOR_BYTES]);
        file.write(100, &[7; 3 * SECTOR_BYTES]);
        let found = torn(&file);
        for contents in &found {
            for (number, sector) in contents.chunks(SECTOR_BYTES).enumerate() {
                let written = sector.iter().filter(|byte| **byte == 7).count();
                let whole = [SECTOR_BYTES - 100, SECTOR_BYTES, SECTOR_BYTES, 100][number];
                assert!(written == 0 || written == whole, "{written} bytes of sector {number}");
            }
        }
        assert!(
            found.iter().any(|contents| contents[100] == 0 && contents[SECTOR_BYTES] == 7),
            "in any order"
        );
    }
}
