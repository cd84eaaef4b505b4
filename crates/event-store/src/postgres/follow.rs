//! Following the head of the log: woken by NOTIFY, and looking by itself all the same.

use kite_postgres::{Connector, Driven};
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_postgres::{AsyncMessage, Client};
use uuid::Uuid;

use crate::errors::{SharedError, describe};
use crate::port::Position;
use crate::queue::Queue;

/// How often the head is looked at although nobody has told of anything.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Before the server is tried again.
const PAUSE: Duration = Duration::from_millis(200);
/// A look that takes longer counts as lost.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);

/// How far the log has come, as this process knows it.
pub(super) struct Head {
    log_id: Uuid,
    position: watch::Sender<Position>,
}

/// Why the log cannot be gone on with.
#[derive(Debug, thiserror::Error)]
pub(super) enum WrongLog {
    /// Another log stands where this one was.
    #[error("another log ({found}) stands where {known} was")]
    Another { known: Uuid, found: Uuid },
    /// Events that were acknowledged are not in it.
    #[error(
        "the log ends at position {found}, and events up to {known} were acknowledged: it was restored, or a standby was \
         promoted that had not got everything"
    )]
    GoneBack { known: Position, found: Position },
}

impl Head {
    pub(super) fn new(log_id: Uuid, position: Position) -> Self {
        Self { log_id, position: watch::Sender::new(position) }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Position> {
        self.position.subscribe()
    }

    /// Everything up to here can be read.
    pub(super) fn tell(&self, position: Position) {
        self.position.send_if_modified(|known| {
            let is_news = *known < position;
            *known = position.max(*known);
            is_news
        });
    }

    /// Holds what the server says against what is known of the log. To be asked of a new connection with what it said before
    /// anything else was told meanwhile.
    pub(super) fn check(
        &self,
        known: Position,
        (log_id, position): (Uuid, Position),
    ) -> Result<(), WrongLog> {
        if log_id != self.log_id {
            return Err(WrongLog::Another { known: self.log_id, found: log_id });
        }
        if position < known {
            return Err(WrongLog::GoneBack { known, found: position });
        }
        Ok(())
    }

    pub(super) fn known(&self) -> Position {
        *self.position.borrow()
    }
}

/// Why a look at the head came to nothing.
#[derive(Debug, thiserror::Error)]
enum LostLook {
    #[error("the server cannot be asked")]
    Server(#[from] tokio_postgres::Error),
    #[error("the server does not answer")]
    TooLong,
}

/// Which log it is, and where it ends.
pub(super) async fn look(client: &Client) -> Result<(Uuid, Position), tokio_postgres::Error> {
    let row = client.query_one("SELECT log_id, position FROM kite_log.head", &[]).await?;
    Ok((row.get(0), row.get::<_, i64>(1) as Position))
}

/// See the module.
pub(super) struct Follower {
    pub(super) connector: Connector,
    pub(super) queue: Arc<Queue>,
    pub(super) head: Arc<Head>,
}

impl Follower {
    /// Follows for ever, over as many connections as it takes.
    #[expect(clippy::disallowed_methods, reason = "waits for the network; nothing is decided here")]
    pub(super) async fn run(self) {
        loop {
            match self.connector.connect().await {
                Ok((client, connection)) => self.follow(client, connection).await,
                Err(error) => tracing::warn!(error = describe(&error), "nobody can be followed"),
            }
            sleep(PAUSE).await;
        }
    }

    async fn follow(&self, client: Client, mut connection: Driven) {
        let told = &self.head;
        let listening = async move {
            loop {
                match poll_fn(|context| connection.poll_message(context)).await {
                    Some(Ok(AsyncMessage::Notification(news))) => {
                        if let Ok(position) = news.payload().parse() {
                            told.tell(position);
                        }
                    }
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return,
                }
            }
        };
        tokio::select! {
            () = listening => {}
            error = self.look_again_and_again(&client) => {
                tracing::warn!(error = describe(&error), "the log is not followed any more");
            }
        }
    }

    #[expect(clippy::disallowed_methods, reason = "waits for the network; nothing is decided here")]
    async fn look_again_and_again(&self, client: &Client) -> LostLook {
        if let Err(error) = client.batch_execute("LISTEN kite_log").await {
            return error.into();
        }
        loop {
            let known = self.head.known();
            match timeout(LOOK_TIMEOUT, look(client)).await {
                Ok(Ok(found)) => {
                    if let Err(wrong) = self.head.check(known, found) {
                        self.queue.stop(&SharedError::new(wrong));
                    } else {
                        self.head.tell(found.1);
                    }
                }
                Ok(Err(error)) => return error.into(),
                Err(_) => return LostLook::TooLong,
            }
            sleep(LOOK_EVERY).await;
        }
    }
}
