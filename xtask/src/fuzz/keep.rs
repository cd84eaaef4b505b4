//! Inputs that the fuzzer found, kept for every test run: as few as cover every edge that no kept input covers.
//!
//! libFuzzer also keeps inputs that only run an edge more often than others did. Those help a fuzzer, but are far too
//! many to be kept, so they stay in `fuzz/corpus/`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use super::{INPUT_BYTES_MAX, directory, kept};
use crate::paths::root;

/// What the seeds of a target may take together, in bytes: they are run by every test run.
const SEEDS_BYTES_MAX: u64 = 64 << 10;

/// Adds to the seeds of a target. The names of those that it adds begin with `found-`.
pub(super) fn keep(binary: &Path, target: &str) -> anyhow::Result<()> {
    let merged = tempfile::tempdir()?;
    for folder in kept(target) {
        for input in fs::read_dir(folder)? {
            let input = input?;
            fs::copy(input.path(), merged.path().join(input.file_name()))?;
        }
    }
    let known = names(merged.path())?;
    merge(binary, merged.path(), &directory().join("corpus").join(target))?;
    let seeds = directory().join("seeds").join(target);
    let mut bytes_total = bytes_in(&seeds)?;
    let mut found: Vec<(u64, String)> = Vec::new();
    for name in names(merged.path())?.difference(&known) {
        found.push((fs::metadata(merged.path().join(name))?.len(), name.clone()));
    }
    // The smallest first: most edges for the bytes.
    found.sort_unstable();
    let mut added = 0;
    for (bytes, name) in &found {
        if bytes_total + bytes > SEEDS_BYTES_MAX {
            break;
        }
        // libFuzzer names an input by its digest; the beginning is enough to tell a few thousand apart.
        let short = name.get(..16).unwrap_or(name);
        fs::copy(merged.path().join(name), seeds.join(format!("found-{short}")))?;
        bytes_total += bytes;
        added += 1;
    }
    let left_out = found.len() - added;
    println!(
        "{:13} {added} inputs added to its seeds ({bytes_total} bytes now), {left_out} left out as too much",
        ""
    );
    Ok(())
}

/// Adds to the first folder as little as covers every edge that something in the other does, and nothing in the first.
fn merge(binary: &Path, into: &Path, from: &Path) -> anyhow::Result<()> {
    let mut merge = Command::new(binary);
    merge.current_dir(root()).args(["-set_cover_merge=1", "-use_counters=0"]);
    merge.arg(format!("-max_len={INPUT_BYTES_MAX}")).args([into, from]);
    let output = merge.stdin(Stdio::null()).output().context("the corpus cannot be merged")?;
    if !output.status.success() {
        bail!("the corpus cannot be merged:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

fn names(folder: &Path) -> anyhow::Result<BTreeSet<String>> {
    let entries = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    entries.collect()
}

fn bytes_in(folder: &Path) -> anyhow::Result<u64> {
    fs::read_dir(folder)?.map(|entry| Ok(entry?.metadata()?.len())).sum()
}
