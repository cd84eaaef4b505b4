//! Up to where the read models are, whoever projects them: told by NOTIFY, and looked at all the same.

use kite_event_store::{Position, describe};
use kite_postgres::Connector;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_postgres::{AsyncMessage, Client};

use super::generation::schema_of;
use crate::register::Registered;

/// What is listened to.
pub(super) const CHANNEL: &str = "kite_read_models";
/// How often the positions are looked at although nobody has told of any.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Before the server is tried again; and what a look may take.
const PAUSE: Duration = Duration::from_millis(200);
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a server that was reached may take until it can be asked.
const CONNECT_WITHIN: Duration = Duration::from_secs(15);

/// What is known of a read model.
pub(super) struct Followed {
    pub(super) model: &'static str,
    /// Of the tables that this program reads.
    schema_version: i64,
    generation: AtomicI64,
    position: watch::Sender<Position>,
}

impl Followed {
    pub(super) fn new(model: &dyn Registered, generation: i64) -> Self {
        Self {
            model: model.name(),
            schema_version: model.schema_version(),
            generation: AtomicI64::new(generation),
            position: watch::Sender::new(0),
        }
    }

    /// The schema that is shown.
    pub(super) fn schema(&self) -> String {
        schema_of(self.model, self.generation.load(Ordering::Acquire))
    }

    pub(super) fn positions(&self) -> watch::Sender<Position> {
        self.position.clone()
    }

    /// What is there after nothing was known for a while: a server may have lost its last moments.
    fn tell_anew(&self, generation: i64, position: Position) {
        self.generation.store(generation, Ordering::Release);
        self.position.send_if_modified(|known| std::mem::replace(known, position) != position);
    }

    /// A generation is shown from now on, up to this position at least.
    pub(super) fn tell(&self, generation: i64, position: Position) {
        // Whoever waits for the position is to find it in the tables.
        self.generation.fetch_max(generation, Ordering::AcqRel);
        self.position.send_if_modified(|known| {
            let is_news = *known < position;
            *known = position.max(*known);
            is_news
        });
    }
}

/// Follows them for as long as it is let.
#[expect(clippy::disallowed_methods, reason = "this is the loop that waits")]
pub(super) async fn follow(connector: Connector, followed: Vec<Arc<Followed>>) {
    let mut was_lost = false;
    loop {
        let lost = follow_once(&connector, &followed, &mut was_lost).await;
        if !std::mem::replace(&mut was_lost, true) {
            let error =
                lost.map_or_else(|error| describe(&error), |()| "the connection has ended".to_owned());
            tracing::warn!(error, "where the read models are is not known at the moment");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Over one connection.
async fn follow_once(
    connector: &Connector,
    followed: &[Arc<Followed>],
    was_lost: &mut bool,
) -> Result<(), tokio_postgres::Error> {
    let Ok(connected) = tokio::time::timeout(CONNECT_WITHIN, connector.connect()).await else {
        return Ok(());
    };
    let (client, mut connection) = connected?;
    let (tells, mut told) = mpsc::unbounded_channel();
    let driving = async {
        while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notification(notification) = message? {
                let _ = tells.send(notification);
            }
        }
        Ok(())
    };
    let looking = async {
        let listen = format!("LISTEN {CHANNEL}");
        let Ok(listened) = tokio::time::timeout(LOOK_TIMEOUT, client.batch_execute(&listen)).await else {
            return Ok(());
        };
        listened?;
        let mut tell: fn(&Followed, i64, Position) = Followed::tell_anew;
        loop {
            let Ok(looked) = tokio::time::timeout(LOOK_TIMEOUT, look_and(&client, followed, tell)).await
            else {
                return Ok(());
            };
            looked?;
            tell = Followed::tell;
            if std::mem::take(was_lost) {
                tracing::info!("where the read models are is known again");
            }
            // Anybody who can connect can say anything: a word is a reason to look, and no more.
            if let Ok(Some(_)) = tokio::time::timeout(LOOK_EVERY, told.recv()).await {
                while told.try_recv().is_ok() {}
            }
        }
    };
    tokio::select! {
        ended = driving => ended,
        ended = looking => ended,
    }
}

/// Looks which generations are shown, and up to where they are.
pub(super) async fn look(client: &Client, followed: &[Arc<Followed>]) -> Result<(), tokio_postgres::Error> {
    look_and(client, followed, Followed::tell).await
}

async fn look_and(
    client: &Client,
    followed: &[Arc<Followed>],
    tell: fn(&Followed, i64, Position),
) -> Result<(), tokio_postgres::Error> {
    let sql = "SELECT name, generation, schema_version
               FROM kite_read_models.models JOIN kite_read_models.generations USING (generation) WHERE model = name";
    let rows = client.query_typed(sql, &[]).await?;
    let mut questions = Vec::new();
    let mut asked = Vec::new();
    for row in &rows {
        let (model, generation): (&str, i64) = (row.try_get(0)?, row.try_get(1)?);
        let schema_version: i64 = row.try_get(2)?;
        // Tables of another version are not for this program: it stays with those that it knows, until they are gone.
        let is_it =
            |followed: &&Arc<Followed>| followed.model == model && followed.schema_version == schema_version;
        if let Some(followed) = followed.iter().find(is_it) {
            let schema = schema_of(followed.model, generation);
            questions.push(format!("(SELECT position FROM {schema}.checkpoint WHERE id = 1)"));
            asked.push((followed, generation));
        }
    }
    if asked.is_empty() {
        return Ok(());
    }
    let row = client.query_typed(&format!("SELECT {}", questions.join(", ")), &[]).await?;
    let Some(row) = row.first() else { return Ok(()) };
    for (place, (followed, generation)) in asked.into_iter().enumerate() {
        let position: Option<i64> = row.try_get(place)?;
        tell(followed, generation, position.unwrap_or(0).unsigned_abs());
    }
    Ok(())
}
