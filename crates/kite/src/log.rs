//! The log of an instance, wherever it is kept.

use anyhow::{Context, bail, ensure};
use kite_commands::clock::{Ids, SystemIds};
use kite_commands::lease::{Leases, PostgresLeases, TERM};
use kite_event_store::sqlite::SqliteOptions;
use kite_event_store::{EventStore, LogIndex, PostgresEventStore, SharedError, SqliteEventStore};
use kite_projections::ReadModels;
use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::watch;

use crate::config::{Config, Engine};
use crate::data_dir::{LOG, LOG_ID, refuse_backup};
use crate::private::{private_directory, refuse_foreign};

/// A log that is open.
pub(crate) enum Log {
    /// In the data directory. Nobody else has it.
    Sqlite(Arc<SqliteEventStore>),
    /// In a database, shared with other processes.
    Postgres {
        store: Arc<PostgresEventStore>,
        /// None for a command that only looks.
        leases: Option<Arc<PostgresLeases>>,
        /// The data directory is this process's for as long as this is there. None for a command that does not use it.
        directory: Option<File>,
        /// This life of the process, as the others know it.
        life: String,
    },
}

impl Log {
    /// Opens it as the configuration says, and makes the data directory this process's own.
    ///
    /// # Errors
    /// Says what is in the way.
    pub(crate) async fn open(config: &Config) -> anyhow::Result<Self> {
        refuse_backup(&config.data_dir)?;
        match config.store.engine {
            Engine::Sqlite => Self::in_file(config),
            Engine::Postgres => Self::in_postgres(config).await,
        }
    }

    fn in_file(config: &Config) -> anyhow::Result<Self> {
        let directory = &config.data_dir;
        refuse_foreign(directory, LOG)?;
        private_directory(directory)?;
        let store = SqliteEventStore::open(&directory.join(LOG), config.sqlite_options())
            .with_context(|| format!("cannot open the log in {}", directory.display()))?;
        Ok(Self::Sqlite(Arc::new(store)))
    }

    /// For a command of an operator: the log that is there, which nobody else may have open if it is in the data directory.
    ///
    /// # Errors
    /// Says what is in the way.
    pub(crate) async fn of_operator(config: &Config, directory: Directory) -> anyhow::Result<Self> {
        if config.store.engine == Engine::Sqlite {
            return Ok(Self::Sqlite(open_log(&config.data_dir)?));
        }
        if directory == Directory::Used {
            refuse_other(&config.data_dir)?;
        }
        let options = config.postgres_options()?;
        let store = PostgresEventStore::open(options).await.context("cannot open the log in PostgreSQL")?;
        let own = match directory {
            Directory::Used => Some(own_directory(&config.data_dir, &store.log_id().to_string(), "")?.0),
            Directory::Unused => None,
        };
        Ok(Self::Postgres { store: Arc::new(store), leases: None, directory: own, life: String::new() })
    }

    async fn in_postgres(config: &Config) -> anyhow::Result<Self> {
        let directory = &config.data_dir;
        refuse_other(directory)?;
        let options = config.postgres_options()?;
        let server = options.server.clone();
        let store = PostgresEventStore::open(options).await.context("cannot open the log in PostgreSQL")?;
        let leases = PostgresLeases::open(&server, TERM).await.context("cannot use the leases")?;
        let life = SystemIds.next().to_string();
        let (own, former) = own_directory(directory, &store.log_id().to_string(), &life)?;
        if let Some(former) = former {
            // Whose directory this was is dead: what it held need not wait for the time of its leases.
            leases.end_life(&former).await.context("cannot use the leases")?;
        }
        let (store, leases) = (Arc::new(store), Some(Arc::new(leases)));
        Ok(Self::Postgres { store, leases, directory: Some(own), life })
    }

    /// To append and to read.
    pub(crate) fn store(&self) -> Arc<dyn EventStore> {
        match self {
            Self::Sqlite(store) => store.clone(),
            Self::Postgres { store, .. } => store.clone(),
        }
    }

    /// To look things up.
    pub(crate) fn index(&self) -> Arc<dyn LogIndex> {
        match self {
            Self::Sqlite(store) => store.clone(),
            Self::Postgres { store, .. } => store.clone(),
        }
    }

    /// By what the work is shared, if there are other processes, and the name of this one.
    pub(crate) fn leases(&self) -> Option<(Arc<dyn Leases>, &str)> {
        match self {
            Self::Sqlite(_) => None,
            Self::Postgres { leases, life, .. } => Some((leases.clone()?, life)),
        }
    }

    /// Why it takes nothing any more, once that is so.
    pub(crate) fn stopped(&self) -> watch::Receiver<Option<SharedError>> {
        match self {
            Self::Sqlite(store) => store.stopped(),
            Self::Postgres { store, .. } => store.stopped(),
        }
    }

    /// Read models may be behind the log, but never ahead of it: then it has lost what they show.
    ///
    /// # Errors
    /// Names the model, and what to do.
    pub(crate) fn refuse_to_go_back(&self, models: &ReadModels) -> anyhow::Result<()> {
        let Self::Postgres { store, .. } = self else { return Ok(()) };
        let head = *store.head().borrow();
        for (name, position) in models.positions() {
            ensure!(
                position <= head,
                "the read model {name} shows the log up to position {position}, and the log ends at {head}: what came \
                 after was lost, by a restore or by a standby that had not got everything. What is there now is shown \
                 again once the data directory is deleted (docs/how-to/run-on-postgresql.md)"
            );
        }
        Ok(())
    }

    /// Writes what waits and ends. Whether that was possible.
    pub(crate) async fn close(self) -> bool {
        match self {
            Self::Sqlite(store) => tokio::task::spawn_blocking(move || store.close()).await.is_ok(),
            Self::Postgres { store, directory, .. } => {
                store.close().await;
                // What its read models show is not in the log any more: no later start is to use them.
                match directory.filter(|_| store.has_lost_something()) {
                    Some(mut own) => write(&mut own, &format!("{LOST} {}", store.log_id()), "").is_ok(),
                    None => true,
                }
            }
        }
    }
}

/// In place of the id of a log that has lost what the read models show.
const LOST: &str = "something was lost of";

/// Whether a command works on the read models, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Directory {
    /// It does.
    Used,
    /// It only looks at the log.
    Unused,
}

/// The log in the data directory of a stopped instance.
pub(crate) fn open_log(data: &Path) -> anyhow::Result<Arc<SqliteEventStore>> {
    refuse_backup(data)?;
    let path = data.join(LOG);
    if !path.exists() {
        bail!("there is no log in {}", data.display());
    }
    let store = SqliteEventStore::open(&path, SqliteOptions::default()).with_context(|| {
        format!("cannot open the log in {}; is an instance running on it?", data.display())
    })?;
    Ok(Arc::new(store))
}

/// A directory for the read models of a log that is elsewhere has to be one, or nothing yet.
fn refuse_other(directory: &Path) -> anyhow::Result<()> {
    refuse_backup(directory)?;
    ensure!(
        !directory.join(LOG).exists(),
        "{} has a log of its own: with store.engine = \"postgres\" it has to be another directory",
        directory.display()
    );
    refuse_foreign(directory, LOG_ID)?;
    private_directory(directory)
}

/// Takes a data directory whose read models are made from this log, or will be, for this life of the process. Gives back its former
/// life too, which has ended.
fn own_directory(directory: &Path, log_id: &str, life: &str) -> anyhow::Result<(File, Option<String>)> {
    let path = directory.join(LOG_ID);
    let mut file = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => bail!("another process uses {}", directory.display()),
        Err(TryLockError::Error(error)) => return Err(error.into()),
    }
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    let mut lines = text.lines().map(str::trim);
    let (known, former) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    ensure!(
        known.is_empty() || known == log_id,
        "the read models in {} are of another log ({known}, and this one is {log_id}): take another directory, or delete \
         this one",
        directory.display(),
    );
    write(&mut file, log_id, life)?;
    Ok((file, (!former.is_empty()).then(|| former.to_owned())))
}

/// A line for the log, and one for the life.
fn write(file: &mut File, log_id: &str, life: &str) -> std::io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{log_id}\n{life}")?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_belongs_to_one_process_and_to_one_log() {
        let directory = tempfile::tempdir().unwrap();
        let told = |id: &str, life: &str| {
            own_directory(directory.path(), id, life).map_err(|error| error.to_string())
        };
        let (own, former) = told("one", "first").unwrap();
        assert_eq!(former, None);
        assert!(told("one", "second").unwrap_err().starts_with("another process uses "));
        drop(own);
        let other = told("other", "third").unwrap_err();
        assert!(other.contains("are of another log (one, and this one is other)"), "{other}");
        assert_eq!(told("one", "fourth").unwrap().1.as_deref(), Some("first"));
        assert_eq!(told("one", "fifth").unwrap().1.as_deref(), Some("fourth"));
    }
}
