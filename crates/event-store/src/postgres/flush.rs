//! Appends commit before they are on the disk, so that the row lock of the head is not held for as long as that takes, and one flush
//! serves many. So what is visible may not be durable yet: whoever answers an append, or has read, waits here.
//!
//! The write-ahead log has one order, and so have positions: whatever is durable, everything before it is, too.

use tokio_postgres::{Client, Error};

use super::follow::Place;
use crate::envelope::RecordedEvent;
use crate::port::{KeptEvent, KeptPage, Page, Position};

/// What waits for the disk (and for a synchronous standby, if there is one): a commit of its own that has written something.
const FLUSH: &str = "SELECT pg_logical_emit_message(true, 'kite', '')";

/// Waits until everything is durable that this session could see.
pub(super) async fn flushed(client: &Client) -> Result<(), Error> {
    client.batch_execute(FLUSH).await
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

impl OfLog for Page {
    fn until(&self) -> Position {
        self.next
    }

    fn last(&self) -> Option<Place> {
        OfLog::last(&self.events)
    }
}

impl OfLog for KeptPage {
    fn until(&self) -> Position {
        self.next
    }

    fn last(&self) -> Option<Place> {
        OfLog::last(&self.events)
    }
}
