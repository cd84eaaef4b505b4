//! An open file on the disk. Each operation is given the function that really does it, and fails in the way that its
//! caller expects.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Inner, State};
use crate::fault::{Room, Treatment};
use crate::operation::{Cause, Failure, Kind, Operation, name_of};

/// A file that somebody has opened. Like the record of SQLite that it belongs to, it is used by one thread at a time.
pub(crate) struct OpenFile {
    disk: Arc<Inner>,
    path: PathBuf,
    /// The failed syncs of this file that its opener has been told about.
    failed_syncs_told: Cell<u64>,
}

impl OpenFile {
    /// Opens a file, and makes it if it is not there.
    pub(crate) fn open<E: From<Failure>>(
        disk: Arc<Inner>,
        path: PathBuf,
        really: impl FnOnce() -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut state = disk.state.lock();
        if !path.exists() {
            state.judge(&path, Kind::Create)?;
        }
        really()?;
        state.record(&path);
        drop(state);
        Ok(Self::of(disk, path))
    }

    /// A file that is open, however that came.
    pub(crate) fn of(disk: Arc<Inner>, path: PathBuf) -> Self {
        let failed_syncs_told = Cell::new(disk.state.lock().failed_syncs(&path));
        Self { disk, path, failed_syncs_told }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn operation(&self, kind: Kind, offset: usize, bytes: usize) -> Operation {
        Operation::new(&self.path, kind, offset, bytes)
    }

    pub(crate) fn read<T, E: From<Failure>>(
        &self,
        offset: usize,
        bytes: usize,
        really: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let operation = self.operation(Kind::Read, offset, bytes);
        let treatment = self.disk.state.lock().faults.judge(&operation, Room::Same);
        treatment.whole()?;
        really()
    }

    pub(crate) fn write<T, E: From<Failure>>(
        &self,
        offset: usize,
        bytes: &[u8],
        really: impl FnOnce(&[u8]) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut state = self.disk.state.lock();
        let grows = offset + bytes.len() > state.record(&self.path).shadow.size_bytes();
        let room = if grows { Room::More } else { Room::Same };
        let treatment = state.faults.judge(&self.operation(Kind::Write, offset, bytes.len()), room);
        let (part, failure) = match treatment {
            Treatment::Go => (bytes, None),
            Treatment::Fail(failure) => return Err(failure.into()),
            Treatment::Half(failure) => (&bytes[..bytes.len() / 2], Some(failure)),
        };
        let written = really(part)?;
        state.record(&self.path).shadow.write(offset, part);
        failure.map_or(Ok(written), |failure| Err(failure.into()))
    }

    pub(crate) fn truncate<E: From<Failure>>(
        &self,
        size_bytes: usize,
        really: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        let mut state = self.disk.state.lock();
        state.faults.judge(&self.operation(Kind::Truncate, size_bytes, 0), Room::Same).whole()?;
        really()?;
        state.record(&self.path).shadow.resize(size_bytes);
        Ok(())
    }

    /// The system's own sync is left out: nobody pulls the plug of the machine that runs the tests.
    pub(crate) fn sync<E: From<Failure>>(&self) -> Result<(), E> {
        let mut state = self.disk.state.lock();
        let needs_room = state.record(&self.path).shadow.needs_room();
        let room = if needs_room { Room::More } else { Room::Same };
        let treatment = state.faults.judge(&self.operation(Kind::Sync, 0, 0), room).whole();
        let is_off = state.faults.is_off();
        let record = state.record(&self.path);
        match treatment {
            Ok(()) => record.shadow.sync(),
            // Without power nobody takes it for written.
            Err(_) if is_off => {}
            Err(_) => {
                record.shadow.fail_to_sync();
                record.failed_syncs += 1;
            }
        }
        let failed_syncs = record.failed_syncs;
        let is_news = self.failed_syncs_told.replace(failed_syncs) < failed_syncs;
        treatment?;
        if is_news {
            state.faults.count_refused();
            return Err(Failure { kind: Kind::Sync, cause: Cause::Broken }.into());
        }
        *state.syncs.entry(name_of(&self.path)).or_default() += 1;
        Ok(())
    }

    /// Syncs a directory. What is made or removed in it is certain without that.
    pub(crate) fn sync_directory<E: From<Failure>>(&self) -> Result<(), E> {
        Ok(self.disk.state.lock().judge(&self.path, Kind::Sync)?)
    }

    /// Makes the index of the write-ahead log larger, which is in a file of its own that SQLite maps into memory.
    pub(crate) fn grow<E: From<Failure>>(
        &self,
        offset: usize,
        bytes: usize,
        really: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        let operation = self.operation(Kind::Grow, offset, bytes);
        let treatment = self.disk.state.lock().faults.judge(&operation, Room::More);
        treatment.whole()?;
        really()
    }

    /// What changes nothing and has no place in the file: [`Kind::Lock`], [`Kind::LockIndex`] and [`Kind::Size`].
    pub(crate) fn ask<E: From<Failure>>(
        &self,
        kind: Kind,
        really: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        let treatment = self.disk.state.lock().judge(&self.path, kind);
        treatment?;
        really()
    }
}

/// Removes a file.
pub(crate) fn delete<E: From<Failure>>(
    disk: &Inner,
    path: &Path,
    really: impl FnOnce() -> Result<(), E>,
) -> Result<(), E> {
    let mut state = disk.state.lock();
    state.judge(path, Kind::Delete)?;
    really()?;
    state.files.remove(path);
    Ok(())
}

impl State {
    /// Judges an operation on a file as a whole.
    fn judge(&mut self, path: &Path, kind: Kind) -> Result<(), Failure> {
        self.faults.judge(&Operation::new(path, kind, 0, 0), Room::Same).whole()
    }
}

impl Treatment {
    /// For an operation that cannot be done by halves.
    fn whole(self) -> Result<(), Failure> {
        match self {
            Self::Go => Ok(()),
            Self::Fail(failure) | Self::Half(failure) => Err(failure),
        }
    }
}
