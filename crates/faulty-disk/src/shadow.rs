//! What of a file is on the disk, and what is only in memory.

use rand::{Rng, RngExt};

/// What a disk writes as a whole.
const SECTOR_BYTES: usize = 512;

/// One file.
#[derive(Debug, Default)]
pub(crate) struct Shadow {
    /// What a restart finds for certain.
    durable: Vec<u8>,
    /// Since the last sync, in order.
    unsynced: Vec<Unsynced>,
    /// The size that everybody sees.
    size_bytes: usize,
}

#[derive(Debug)]
enum Unsynced {
    Write { offset: usize, bytes: Vec<u8> },
    Resize { size_bytes: usize },
}

impl Shadow {
    /// A file that was there before anybody looked: all of it is durable.
    pub(crate) fn of(contents: Vec<u8>) -> Self {
        Self { size_bytes: contents.len(), durable: contents, unsynced: Vec::new() }
    }

    pub(crate) fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    pub(crate) fn write(&mut self, offset: usize, bytes: &[u8]) {
        self.size_bytes = self.size_bytes.max(offset + bytes.len());
        self.unsynced.push(Unsynced::Write { offset, bytes: bytes.to_vec() });
    }

    pub(crate) fn resize(&mut self, size_bytes: usize) {
        self.size_bytes = size_bytes;
        self.unsynced.push(Unsynced::Resize { size_bytes });
    }

    /// A sync that succeeded.
    pub(crate) fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            change.apply(&mut self.durable);
        }
    }

    /// A sync that failed: what it should have written is taken for written from now on, and is not.
    pub(crate) fn fail_to_sync(&mut self) {
        self.unsynced.clear();
    }

    /// What is there after a loss of power if nothing was written by itself.
    pub(crate) fn synced(&self) -> Vec<u8> {
        self.durable.clone()
    }

    /// What is there after a loss of power if some sectors were written by themselves.
    pub(crate) fn torn(&self, random: &mut impl Rng) -> Vec<u8> {
        let mut found = self.durable.clone();
        for change in &self.unsynced {
            match change {
                Unsynced::Resize { .. } => {
                    if random.random() {
                        change.apply(&mut found);
                    }
                }
                Unsynced::Write { offset, bytes } => {
                    let mut start = 0;
                    while start < bytes.len() {
                        let sector_end = (offset + start) / SECTOR_BYTES * SECTOR_BYTES + SECTOR_BYTES;
                        let end = bytes.len().min(sector_end - offset);
                        if random.random() {
                            put(&mut found, offset + start, &bytes[start..end]);
                        }
                        start = end;
                    }
                }
            }
        }
        found
    }
}

impl Unsynced {
    fn apply(&self, contents: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => put(contents, *offset, bytes),
            Self::Resize { size_bytes } => contents.resize(*size_bytes, 0),
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
    fn a_failed_sync_never_comes_back() {
        let mut file = Shadow::default();
        file.write(0, &[1; 8]);
        file.fail_to_sync();
        file.write(2, &[2; 2]);
        file.sync();
        assert_eq!(file.synced(), [0, 0, 2, 2]);
    }

    #[test]
    fn a_torn_write_is_there_in_whole_sectors() {
        let mut file = Shadow::of(vec![0; 4 * SECTOR_BYTES]);
        file.write(100, &[7; 3 * SECTOR_BYTES]);
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let found: Vec<Vec<u8>> = (0..64).map(|_| file.torn(&mut random)).collect();
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
