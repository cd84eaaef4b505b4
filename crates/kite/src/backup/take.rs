//! Takes a backup beside a process that writes, or of a stopped one.

use anyhow::{Context, ensure};
use kite_commands::Clock;
use kite_domain::event::Event;
use kite_domain::seal;
use kite_event_store::ReadError;
use kite_event_store::sqlite::{CopyError, Progress, SqliteLogFile, copy_log};
use std::path::Path;

use super::Partial;
use super::manifest::{FileDigest, Manifest, NewestSeal};
use crate::data_dir::{LOG, refuse_inside};

/// Kept free on the disk that a backup goes to, in bytes: it may be the one that the log is on.
const FREE_BYTES_MIN: u64 = 256 << 20;

/// Copies the log of a data directory, which may be in use, into a new backup. `goes_on` is told the progress; it may
/// pause, and may stop the backup.
///
/// # Errors
/// Whatever keeps the backup from being complete. Then nothing is left.
pub(crate) fn take(
    data: &Path,
    target: &Path,
    clock: &dyn Clock,
    goes_on: &mut dyn FnMut(Progress) -> bool,
) -> anyhow::Result<Manifest> {
    refuse_inside(target, data)?;
    let partial = Partial::begin(target)?;
    match fill(data, &partial, clock, goes_on) {
        Ok(manifest) => partial.finish().map(|()| manifest),
        Err(error) => {
            partial.give_up();
            Err(error)
        }
    }
}

fn fill(
    data: &Path,
    partial: &Partial,
    clock: &dyn Clock,
    goes_on: &mut dyn FnMut(Progress) -> bool,
) -> anyhow::Result<Manifest> {
    let log = data.join(LOG);
    let needed = log.metadata().map_or(0, |found| found.len());
    has_room(&partial.path, needed)?;
    // Before the end of the log is looked for: whatever came before this moment is in it.
    let taken_at = clock.now();
    let mut full = None;
    let copied = copy_log(&log, &partial.file(LOG), &mut |progress| {
        full = has_room(&partial.path, 0).err();
        full.is_none() && goes_on(progress)
    });
    if let Some(full) = full {
        return Err(full);
    }
    let copied = match copied {
        Err(CopyError::NoLog(_)) => anyhow::bail!("there is no log in {}", data.display()),
        copied => copied.with_context(|| format!("the log in {} cannot be copied", data.display()))?,
    };
    let files = vec![FileDigest::of(&partial.path, LOG)?];
    let mut manifest = Manifest::new(taken_at, copied.until, copied.events, files);
    manifest.newest_seal = newest_seal(&partial.file(LOG))?;
    manifest.write(&partial.path)?;
    Ok(manifest)
}

fn has_room(directory: &Path, needed: u64) -> anyhow::Result<()> {
    // Without an answer it is tried.
    let Ok(room) = rustix::fs::statvfs(directory) else { return Ok(()) };
    let free_bytes = room.f_bavail.saturating_mul(room.f_frsize);
    let least = needed.saturating_add(FREE_BYTES_MIN);
    ensure!(free_bytes >= least, "{free_bytes} bytes are free where it goes to, at least {least} are needed");
    Ok(())
}

/// The newest seal in the log of a backup. None if somebody has changed it: the backup shows that the log differs
/// from its seals, and it can still be taken.
pub(super) fn newest_seal(log: &Path) -> anyhow::Result<Option<NewestSeal>> {
    let log = SqliteLogFile::open(log)?;
    let recorded = match log.last_of(seal::STREAM) {
        Ok(Some(recorded)) => recorded,
        Ok(None) | Err(ReadError::Unreadable(_) | ReadError::Unavailable(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let event = Event::from_json(&recorded.kind, recorded.schema_version, &recorded.data);
    let Ok(Event::LogSealed(sealed)) = event else { return Ok(None) };
    Ok(Some(NewestSeal { seals: recorded.version, until: sealed.until, digest: sealed.digest }))
}
