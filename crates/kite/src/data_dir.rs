//! Names and places of what Kite keeps on disk.

use std::path::{Component, Path, PathBuf};

/// The log, in a data directory and in a backup.
pub(crate) const LOG: &str = "events.db";

/// Which log the read models in a data directory are made from, if the log itself is elsewhere.
pub(crate) const LOG_ID: &str = "log-id";

/// What a backup says of itself, written last: a directory without it is not a backup.
pub(crate) const MANIFEST: &str = "backup.json";

/// Whether a directory is a backup.
pub(crate) fn is_backup(directory: &Path) -> bool {
    directory.join(MANIFEST).exists()
}

/// A backup is not a data directory: a process that ran on it would not know that it is a copy, and would send again
/// what the original has sent.
pub(crate) fn refuse_backup(directory: &Path) -> anyhow::Result<()> {
    if is_backup(directory) {
        let shown = directory.display();
        anyhow::bail!(
            "{shown} is a backup: make a data directory of it (kite restore --from {shown} --data DIR)"
        );
    }
    Ok(())
}

/// A backup must not be in the data directory: a disaster would destroy both, and a copy of the directory would
/// contain both. Nor may a restored copy be in its backup, which must not change.
pub(crate) fn refuse_inside(target: &Path, of: &Path) -> anyhow::Result<()> {
    anyhow::ensure!(
        !place_of(target)?.starts_with(place_of(of)?),
        "{} is inside {}: choose a place outside, best on another disk",
        target.display(),
        of.display()
    );
    Ok(())
}

/// Where a path leads, or will lead when it is made, with all links in the existing part of it followed.
fn place_of(path: &Path) -> std::io::Result<PathBuf> {
    let absolute = std::path::absolute(path)?;
    let there = absolute.ancestors().find_map(|part| Some((part, part.canonicalize().ok()?)));
    let Some((part, mut place)) = there else { return Ok(absolute) };
    for step in absolute.strip_prefix(part).into_iter().flat_map(Path::components) {
        match step {
            Component::ParentDir => drop(place.pop()),
            step => place.push(step),
        }
    }
    Ok(place)
}
