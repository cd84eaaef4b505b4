//! Directories for the read models of one simulation each.

use anyhow::Context;
use kite_projections::ReadModels;
use std::path::Path;
use std::sync::OnceLock;
use tempfile::TempDir;

/// Empty read models, made once in the life of this process: SQLite takes longer to create the tables than to copy them.
static EMPTY: OnceLock<TempDir> = OnceLock::new();

/// A directory with empty read models. In memory where there is a place for that: it need not outlive the simulation.
pub(crate) fn data_dir() -> anyhow::Result<TempDir> {
    let empty = match EMPTY.get() {
        Some(empty) => empty,
        None => {
            let made = directory()?;
            drop(ReadModels::open(made.path()).context("empty read models cannot be made")?);
            EMPTY.get_or_init(|| made)
        }
    };
    let directory = directory()?;
    for file in std::fs::read_dir(empty.path())? {
        let file = file?;
        std::fs::copy(file.path(), directory.path().join(file.file_name()))?;
    }
    Ok(directory)
}

fn directory() -> std::io::Result<TempDir> {
    let mut named = tempfile::Builder::new();
    named.prefix("kite-simulation-");
    named.tempdir_in(Path::new("/dev/shm")).or_else(|_| named.tempdir())
}
