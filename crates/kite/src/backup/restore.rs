//! Makes a data directory from a backup, which knows that it is a copy: the log says so before the directory has its
//! name.

use anyhow::{Context, bail, ensure};
use kite_commands::clock::SystemIds;
use kite_commands::directory::Directory;
use kite_commands::manage::{Done, Manage};
use kite_commands::{Cause, Clock, Journal, seals};
use kite_domain::instance::Originality;
use kite_event_store::EventStore;
use kite_event_store::sqlite::{SqliteEventStore, SqliteOptions};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use crate::data_dir::{LOG, refuse_inside};
use crate::operator::print_seals;

use super::Partial;
use super::manifest::{FileDigest, Manifest};

/// Who does it, in the log.
const ACTOR: &str = "command-line";

/// Copies a backup into a new data directory, and records in its log that it is a copy.
///
/// # Errors
/// If the backup has changed, its log differs from its seals (unless `unverified`), or the directory is not empty.
/// Then nothing is left.
pub(crate) async fn restore(
    from: &Path,
    data: &Path,
    unverified: bool,
    clock: Arc<dyn Clock>,
) -> anyhow::Result<Manifest> {
    let manifest = Manifest::read(from)?;
    refuse_inside(data, from)?;
    let partial = Partial::begin(data)?;
    match fill(from, &manifest, &partial, unverified, clock).await {
        Ok(()) => partial.finish().map(|()| manifest),
        Err(error) => {
            partial.give_up();
            Err(error)
        }
    }
}

async fn fill(
    from: &Path,
    manifest: &Manifest,
    partial: &Partial,
    unverified: bool,
    clock: Arc<dyn Clock>,
) -> anyhow::Result<()> {
    for known in &manifest.files {
        let path = partial.file(&known.name);
        let mut file = File::create_new(&path)?;
        let found = FileDigest::of_copy(from, &known.name, &mut file)
            .with_context(|| format!("{} cannot be copied", known.name))?;
        file.sync_all()?;
        ensure!(found == *known, "{} is not as it was when the backup was taken", known.name);
    }
    let store = open(&partial.path)?;
    let head = *store.head().borrow();
    ensure!(
        head == manifest.until,
        "the log of the backup ends at position {head}, and its manifest says {}",
        manifest.until
    );
    let marked = async {
        if !unverified {
            verify(&*store).await?;
        }
        mark(store.clone(), manifest, clock).await.map(drop)
    };
    let marked = marked.await;
    store.close();
    marked
}

/// The files are as they were when the backup was taken. The log may have been changed before.
async fn verify(log: &dyn EventStore) -> anyhow::Result<()> {
    let report = seals::verify(log).await?;
    if !report.is_clean() {
        print_seals(&report, &[]);
        bail!(
            "the log is not as it was sealed: what is made from it would show that as true (--unverified does so)"
        );
    }
    Ok(())
}

fn open(directory: &Path) -> anyhow::Result<Arc<SqliteEventStore>> {
    let store = SqliteEventStore::open(&directory.join(LOG), SqliteOptions::default())
        .with_context(|| format!("cannot open the log in {}", directory.display()))?;
    Ok(Arc::new(store))
}

async fn mark(
    store: Arc<SqliteEventStore>,
    manifest: &Manifest,
    clock: Arc<dyn Clock>,
) -> anyhow::Result<Done<()>> {
    let (manage, cause) = manage(store, clock).await?;
    Ok(manage.mark_as_copy(&cause, manifest.until, manifest.taken_at).await?)
}

async fn manage(store: Arc<SqliteEventStore>, clock: Arc<dyn Clock>) -> anyhow::Result<(Manage, Cause)> {
    let journal = Journal::new(store, clock, Arc::new(SystemIds));
    let directory = Directory::default();
    directory.catch_up(&journal).await.context("the log cannot be read")?;
    let cause = Cause::new(ACTOR, journal.next_id());
    Ok((Manage::new(journal, directory, Arc::new(|| [0; 32])), cause))
}

/// The operator's confirmation that the original of a stopped copy is dead. Returns the state of the log before.
///
/// # Errors
/// If it is not a copy.
pub(crate) async fn release(
    store: Arc<SqliteEventStore>,
    clock: Arc<dyn Clock>,
    dead_since: chrono::DateTime<chrono::Utc>,
    reason: String,
) -> anyhow::Result<Originality> {
    let journal = Journal::new(store.clone(), clock.clone(), Arc::new(SystemIds));
    let directory = Directory::default();
    directory.catch_up(&journal).await.context("the log cannot be read")?;
    let before = directory.snapshot().instance;
    let (manage, cause) = manage(store, clock).await?;
    manage.release_instance(&cause, dead_since, reason).await?;
    Ok(before)
}
