//! Names and places of what Kite keeps on disk.

use std::path::{Component, Path, PathBuf};

/// The log, in a data directory and in a backup.
pub(crate) const LOG: &str = "events.db";

/// A backup has no place in the data directory: what befalls the one befalls the other, and a copy of the directory would have
/// both. Nor has a copy in its backup, which is to stay as it is.
pub(crate) fn refuse_inside(target: &Path, of: &Path) -> anyhow::Result<()> {
    anyhow::ensure!(
        !place_of(target)?.starts_with(place_of(of)?),
        "{} is inside {}: choose a place outside, best on another disk",
        target.display(),
        of.display()
    );
    Ok(())
}

/// Where a path leads, or will when it is made: the part of it that is there says so, whatever links there are on the way.
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
