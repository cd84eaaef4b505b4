//! Backups that a running process takes of itself, one at a time.

use async_trait::async_trait;
use kite_commands::Clock;
use kite_commands::backup_desk::{Backup, BackupDesk, BackupRefusal, BackupState, is_name};
use kite_event_store::Position;
use kite_event_store::sqlite::Progress;
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

use super::manifest::Manifest;
use super::take::take;
use crate::data_dir::refuse_inside;
use crate::runtime::Supervisor;

/// More are not listed.
const LISTED_MAX: usize = 1_000;
/// However long a piece took, the pause is no longer than this.
const REST_MAX: Duration = Duration::from_millis(500);

/// See the module.
pub(crate) struct Desk {
    data: PathBuf,
    /// Where backups go; none: nobody has said.
    directory: Option<PathBuf>,
    supervisor: Supervisor,
    clock: Arc<dyn Clock>,
    head: watch::Receiver<Position>,
    newest: Arc<Mutex<Newest>>,
}

/// What this process has done last.
#[derive(Default)]
struct Newest {
    running: Option<Backup>,
    failed: Option<Backup>,
}

impl Desk {
    /// Of this data directory, into that one.
    pub(crate) fn new(
        data: &Path,
        directory: &Path,
        supervisor: Supervisor,
        clock: Arc<dyn Clock>,
        head: watch::Receiver<Position>,
    ) -> Self {
        let directory = (!directory.as_os_str().is_empty()).then(|| directory.to_owned());
        Self { data: data.to_owned(), directory, supervisor, clock, head, newest: Arc::default() }
    }

    /// This reads the disk: not on a thread that others wait for, nor under a lock.
    async fn refuse_inside(&self, target: PathBuf) -> Result<(), BackupRefusal> {
        let data = self.data.clone();
        let looked = tokio::task::spawn_blocking(move || refuse_inside(&target, &data)).await;
        let answer = looked.map_err(anyhow::Error::from).flatten();
        answer.map_err(BackupRefusal::unusable)
    }

    fn start(&self, directory: &Path, name: String, actor: &str) -> Result<Backup, BackupRefusal> {
        let target = directory.join(&name);
        let mut newest = self.newest.lock();
        if let Some(running) = &newest.running {
            return Err(BackupRefusal::Running(running.name.clone()));
        }
        if target.exists() {
            return Err(BackupRefusal::Exists(name));
        }
        let state = BackupState::Running { position: 0 };
        let backup =
            Backup { name: name.clone(), taken_at: self.clock.now(), until: *self.head.borrow(), state };
        let (data, clock, noted) = (self.data.clone(), self.clock.clone(), self.newest.clone());
        let stop = self.supervisor.stop().clone();
        let (thread_name, actor) = ("kite-backup", actor.to_owned());
        let work = async move {
            tracing::info!(name, actor, "a backup begins");
            let taken = take(&data, &target, &*clock, &mut |progress| {
                note(&noted, progress);
                rest(progress.took);
                !stop.is_cancelled()
            });
            finish(&noted, &name, taken);
        };
        self.supervisor.start_background_thread(thread_name, work).map_err(BackupRefusal::unusable)?;
        newest.running = Some(backup.clone());
        Ok(backup)
    }
}

fn note(newest: &Mutex<Newest>, progress: Progress) {
    if let Some(running) = &mut newest.lock().running {
        running.until = progress.until;
        running.state = BackupState::Running { position: progress.position };
    }
}

fn finish(newest: &Mutex<Newest>, name: &str, taken: anyhow::Result<Manifest>) {
    let mut newest = newest.lock();
    let running = newest.running.take();
    match taken {
        Ok(manifest) => {
            metrics::counter!("kite_backups_total", "outcome" => "whole").increment(1);
            metrics::gauge!("kite_backup_newest_timestamp_seconds").set(manifest.taken_at.timestamp() as f64);
            newest.failed = None;
            tracing::info!(name, until = manifest.until, bytes = manifest.bytes(), "the backup is whole");
        }
        Err(error) => {
            metrics::counter!("kite_backups_total", "outcome" => "failed").increment(1);
            let reason = format!("{error:#}");
            tracing::error!(name, reason, "the backup came to nothing");
            newest.failed = running.map(|backup| Backup { state: BackupState::Failed { reason }, ..backup });
        }
    }
}

/// Half of the disk and of a processor is left to others.
#[expect(clippy::disallowed_methods, reason = "a thread of its own, which stops at the next piece")]
pub(super) fn rest(took: Duration) {
    std::thread::sleep(took.min(REST_MAX));
}

#[async_trait]
impl BackupDesk for Desk {
    async fn begin(&self, name: Option<String>, actor: &str) -> Result<Backup, BackupRefusal> {
        let directory = self.directory.as_deref().ok_or(BackupRefusal::NoDirectory)?;
        let name = match name {
            Some(name) if !is_name(&name) => {
                return Err(BackupRefusal::unusable(format!("{name:?} is no name of a backup")));
            }
            Some(name) => name,
            None => self.clock.now().format("kite-%Y%m%dT%H%M%SZ").to_string(),
        };
        self.refuse_inside(directory.join(&name)).await?;
        self.start(directory, name, actor)
    }

    async fn list(&self) -> Result<Vec<Backup>, BackupRefusal> {
        let directory = self.directory.clone().ok_or(BackupRefusal::NoDirectory)?;
        let found = tokio::task::spawn_blocking(move || whole(&directory)).await;
        let found = found.map_err(BackupRefusal::unusable)?;
        let mut backups = found.map_err(BackupRefusal::unusable)?;
        let newest = self.newest.lock();
        // One that has just got its name is listed once.
        let others = [&newest.running, &newest.failed].into_iter().flatten();
        let others = others.filter(|one| backups.iter().all(|known| known.name != one.name));
        let others: Vec<Backup> = others.cloned().collect();
        drop(newest);
        backups.extend(others);
        backups.sort_by(|one, other| (other.taken_at, &other.name).cmp(&(one.taken_at, &one.name)));
        backups.truncate(LISTED_MAX);
        Ok(backups)
    }
}

/// What is whole in a directory.
fn whole(directory: &Path) -> std::io::Result<Vec<Backup>> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut backups = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !is_name(&name) {
            continue;
        }
        let Ok(manifest) = Manifest::read(&entry.path()) else { continue };
        let bytes = manifest.bytes();
        let Manifest { taken_at, until, events, kite_version, .. } = manifest;
        backups.push(Backup {
            name,
            taken_at,
            until,
            state: BackupState::Whole { events, bytes, kite_version },
        });
    }
    Ok(backups)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kite_commands::clock::SystemClock;
    use kite_event_store::describe;

    #[tokio::test]
    async fn none_is_begun_while_one_is_taken_nor_inside_the_data_directory() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let head = watch::Sender::new(0);
        let desk_for = |target: &Path| {
            Desk::new(&data, target, Supervisor::new(), Arc::new(SystemClock), head.subscribe())
        };
        let desk = desk_for(&directory.path().join("backups"));
        let state = BackupState::Running { position: 1 };
        let running = Backup { name: "first".to_owned(), taken_at: SystemClock.now(), until: 2, state };
        desk.newest.lock().running = Some(running);
        let second = desk.begin(Some("second".to_owned()), "test").await;
        assert_eq!(second, Err(BackupRefusal::Running("first".to_owned())));

        let refused = desk_for(&data.join("backups")).begin(None, "test").await;
        assert!(
            matches!(&refused, Err(BackupRefusal::Unusable(why)) if describe(why).contains("is inside")),
            "{refused:?}"
        );
        assert!(!data.join("backups").exists());
    }
}
