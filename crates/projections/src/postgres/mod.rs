//! The read models in PostgreSQL, where several processes share them and people can use their own SQL.
//!
//! One process projects a read model at a time, in transactions that move its checkpoint; all others read. Each read model has a
//! schema of its own for each generation of its tables, so that it can be rebuilt beside the one that is shown
//! ([`crate::replay::rebuild`]) while queries go on.

mod batch;
mod follow;
mod generation;
mod io;
mod rebuild;
mod session;
mod writer;

pub(crate) use batch::Batch;
pub use generation::{SCHEMA, make_first};
pub(crate) use rebuild::Rebuild;
pub(crate) use session::{Session, Snapshot, Transaction};
pub(crate) use writer::{Showing, Writer, Written};

use kite_event_store::Position;
use kite_postgres::{Connector, Server};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::engine::StorageError;
use crate::error::{OpenError, QueryError};
use crate::pool::{Caller, Pool};
use crate::read_models::ReadModels;
use follow::Followed;
use io::Io;

/// How a session for queries is: none may take the server for long, and none is long enough to be worth compiling.
const READING: &str = "SET statement_timeout = '20s'; SET jit = off";

/// Where read models are kept in PostgreSQL.
#[derive(Clone)]
pub struct PostgresOptions {
    /// The server, and the database on it.
    pub server: Server,
    /// Connections for queries of users, of all read models together.
    pub connections_max: usize,
    /// The log that they are made from.
    pub log_id: Uuid,
    /// Where a model is made again for a comparison.
    pub scratch_dir: PathBuf,
}

/// Read models on a server. Cheap to clone.
#[derive(Clone)]
pub struct Postgres(Arc<Shared>);

struct Shared {
    io: Arc<Io>,
    connector: Connector,
    followed: Vec<Arc<Followed>>,
    /// To be told when a look at where they are is due.
    look_is_due: Arc<Notify>,
    sessions: Pool<Session>,
    scratch_dir: PathBuf,
    following: AbortHandle,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.following.abort();
    }
}

impl Postgres {
    /// Connects to read models that are there (`kite postgres migrate`), and are made from this log, or have not begun to be.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(options: PostgresOptions) -> Result<Self, OpenError> {
        Self::open_with(options, false).await
    }

    /// Connects to read models that are to be rebuilt, so that it does not matter in which version they are.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open_to_rebuild(options: PostgresOptions) -> Result<Self, OpenError> {
        Self::open_with(options, true).await
    }

    async fn open_with(options: PostgresOptions, in_any_version: bool) -> Result<Self, OpenError> {
        let connector = Connector::new(&options.server, "kite").map_err(OpenError::server)?;
        let checking = async |client: &mut Client| check(client, options.log_id, in_any_version).await;
        let followed = connector.open(checking).await.map_err(OpenError::server)??;
        let io = Arc::new(Io::start()?);
        let look_is_due = Arc::new(Notify::new());
        let following =
            follow::follow(connector.clone(), followed.clone(), look_is_due.clone(), io.silence());
        let following = io.spawn(following);
        // All of them stay open.
        let sessions = Pool::new(options.connections_max.max(1), usize::MAX);
        Ok(Self(Arc::new(Shared {
            io,
            connector,
            followed,
            look_is_due,
            sessions,
            scratch_dir: options.scratch_dir,
            following,
        })))
    }

    fn followed(&self, model: &str) -> &Arc<Followed> {
        let found = self.0.followed.iter().find(|followed| followed.model == model);
        found.expect("every model in the list is followed")
    }

    /// A connection of one's own.
    pub(crate) fn session(&self, setup: &str) -> Result<Session, StorageError> {
        Session::open(&self.0.io, &self.0.connector, setup)
    }

    /// Where the projector of a model tells its position.
    pub(crate) fn positions(&self, model: &str) -> watch::Sender<Position> {
        self.followed(model).positions()
    }

    /// Somebody begins to wait for a position.
    pub(crate) fn is_waited_for(&self) {
        self.0.look_is_due.notify_one();
    }

    /// The schema of the generation of a model that is shown, as far as is known.
    pub(crate) fn schema(&self, model: &str) -> String {
        self.followed(model).schema()
    }

    /// Where a model is made again for a comparison.
    pub(crate) fn scratch_dir(&self) -> &Path {
        &self.0.scratch_dir
    }

    /// Asks about one moment of a model.
    pub(crate) fn ask<T>(
        &self,
        model: &str,
        caller: Caller,
        question: impl Fn(&Snapshot<'_>) -> Result<T, QueryError>,
    ) -> Result<T, QueryError> {
        let mut turn = self.0.sessions.turn(caller)?;
        let mut is_again = false;
        loop {
            let session = match turn.take().filter(Session::is_open) {
                Some(session) => session,
                None => self.session(READING)?,
            };
            let answer = question(&session.snapshot(&self.followed(model).schema()));
            let is_lost = matches!(&answer, Err(QueryError::Storage(error)) if error.is_of_the_connection());
            let is_for_others =
                matches!(&answer, Err(QueryError::Storage(error)) if error.is_for_another_try());
            if !is_lost {
                turn.keep(session);
            }
            match answer {
                // Another generation is shown since.
                Err(QueryError::Storage(error)) if error.is_of_a_missing_table() && !is_again => {
                    self.look()?
                }
                // The server has ended the connection while nobody used it; or it is another one now; or others were in the way.
                Err(QueryError::Storage(_)) if is_for_others && !is_again => {}
                answer => return answer,
            }
            is_again = true;
        }
    }

    /// Learns which generations are shown.
    fn look(&self) -> Result<(), StorageError> {
        let followed = self.0.followed.clone();
        let looking = async move |client: &mut Client| Ok(follow::look(client, &followed).await?);
        self.0.io.wait(async { self.0.connector.once(looking).await.map_err(StorageError::unusable) })
    }
}

/// Whether all read models are there, and of this log.
async fn check(
    client: &Client,
    log_id: Uuid,
    in_any_version: bool,
) -> Result<Result<Vec<Arc<Followed>>, OpenError>, kite_postgres::OpenError> {
    kite_postgres::check_server(client).await?;
    SCHEMA.check(client).await?;
    let sql = "UPDATE kite_read_models.log SET log_id = $1 WHERE log_id IS NULL";
    client.execute(sql, &[&log_id]).await?;
    let known: Uuid = client.query_one("SELECT log_id FROM kite_read_models.log", &[]).await?.get(0);
    if known != log_id {
        return Ok(Err(OpenError::OtherLog { known, log: log_id }));
    }
    let mut followed = Vec::new();
    for model in ReadModels::each() {
        let generation = match generation::check(client, *model).await? {
            // What is shown of it is learned when it is shown.
            Err(OpenError::OtherSchema { .. }) if in_any_version => 0,
            Err(error) => return Ok(Err(error)),
            Ok(generation) => generation,
        };
        followed.push(Arc::new(Followed::new(*model, generation)));
    }
    follow::look(client, &followed).await?;
    Ok(Ok(followed))
}
