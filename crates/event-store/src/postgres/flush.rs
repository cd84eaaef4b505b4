//! Appends commit before they are on the disk, so that the row lock of the head is not held for as long as that takes, and one flush
//! serves many. So what is visible may not be durable yet: whoever answers an append, or has read, waits here.
//!
//! The write-ahead log has one order, and so have positions: whatever is durable, everything before it is, too.

use kite_postgres::Connector;
use std::time::Duration;
use tokio::time::timeout;
use tokio_postgres::Client;

use super::follow::Place;
use crate::envelope::RecordedEvent;
use crate::port::{KeptEvent, KeptPage, Page, Position};

/// What waits for the disk (and for a synchronous standby, if there is one): a commit of its own that has written something.
const FLUSH: &str = "SELECT pg_logical_emit_message(true, 'kite', '')";

/// Whoever only reads does not wait longer for the disk, or for a standby that is away.
const READ_WITHIN: Duration = Duration::from_secs(5);

/// Why it is not known whether something is durable.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotFlushed {
    #[error("the server cannot be asked")]
    Server(#[from] tokio_postgres::Error),
    #[error("what was read is not durable yet: the server waits for its disk, or for a standby")]
    Waits,
}

/// The disk of the server, and that of its synchronous standby.
#[derive(Clone)]
pub(super) struct Disk(Connector);

impl Disk {
    pub(super) fn new(connector: Connector) -> Self {
        Self(connector)
    }

    /// Waits until everything is durable that this session could see. Who stops waiting may not use the session any more.
    pub(super) async fn flushed(&self, client: &Client) -> Result<(), tokio_postgres::Error> {
        let cancelling = self.0.cancel_on_drop(client);
        let flushed = client.batch_execute(FLUSH).await;
        cancelling.done();
        flushed
    }

    /// The same for whoever only reads.
    pub(super) async fn flushed_soon(&self, client: &Client) -> Result<(), NotFlushed> {
        let flushed = timeout(READ_WITHIN, self.flushed(client)).await;
        Ok(flushed.map_err(|_| NotFlushed::Waits)??)
    }
}

/// Something that was read of the log.
pub(super) trait OfLog {
    /// The last position that it knows of; 0: none.
    fn until(&self) -> Position;

    /// The last of its events.
    fn last(&self) -> Option<Place>;
}

impl OfLog for Vec<RecordedEvent> {
    fn until(&self) -> Position {
        self.last().map_or(0, |place| place.position)
    }

    fn last(&self) -> Option<Place> {
        self.iter().max_by_key(|event| event.position).map(Place::from)
    }
}

impl OfLog for Vec<Vec<RecordedEvent>> {
    fn until(&self) -> Position {
        self.last().map_or(0, |place| place.position)
    }

    fn last(&self) -> Option<Place> {
        self.iter().filter_map(OfLog::last).max_by_key(|place| place.position)
    }
}

impl OfLog for Vec<KeptEvent> {
    fn until(&self) -> Position {
        self.iter().map(|kept| kept.position).max().unwrap_or(0)
    }

    fn last(&self) -> Option<Place> {
        let events = self.iter().filter_map(|kept| kept.event.as_ref().ok());
        events.max_by_key(|event| event.position).map(Place::from)
    }
}

/// A page, by how far it shows the log. That may be less than where to read on: nothing is known of a position that somebody only
/// asked for.
pub(super) struct Shown<P> {
    pub(super) page: P,
    pub(super) until: Position,
}

impl OfLog for Shown<Page> {
    fn until(&self) -> Position {
        self.until
    }

    fn last(&self) -> Option<Place> {
        OfLog::last(&self.page.events)
    }
}

impl OfLog for Shown<KeptPage> {
    fn until(&self) -> Position {
        self.until
    }

    fn last(&self) -> Option<Place> {
        OfLog::last(&self.page.events)
    }
}

impl OfLog for Position {
    fn until(&self) -> Position {
        *self
    }

    fn last(&self) -> Option<Place> {
        None
    }
}
