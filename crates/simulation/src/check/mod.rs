//! The laws of the design, checked from the log and from the relays' own ledgers.
//!
//! This is a second, small model of what the events mean. It shares the events' shapes with the platform and none of its
//! folds or decisions: what both got wrong in the same way would go unseen otherwise.

mod arrivals;
mod books;
mod end;
mod events;
mod handover;
mod message;
mod people;
mod split;

pub(crate) use books::{Answered, Books};
pub(crate) use message::{MessageState, State};

use chrono::{DateTime, Utc};
use kite_domain::event::Event;
use kite_domain::ids::SendingId;
use kite_domain::lot::Recipient;
use kite_domain::sending::SendingAccepted;
use kite_domain::slug::{RelayId, TenantId};
use kite_event_store::{EventStore, Filter, MemoryEventStore, Position, RecordedEvent};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use people::People;
use split::Splits;

/// A sending as the log tells of it.
#[derive(Debug, Default)]
pub(crate) struct SendingState {
    pub(crate) terms: Option<Arc<SendingAccepted>>,
    pub(crate) tenant: Option<TenantId>,
    pub(crate) released: bool,
    pub(crate) is_abandoned: bool,
    /// Position and time.
    pub(crate) cancelled: Option<(Position, DateTime<Utc>)>,
    pub(crate) is_completed: bool,
    /// Messages by lot.
    pub(crate) lots: BTreeMap<u32, u32>,
    pub(crate) messages: BTreeMap<u32, MessageState>,
    pub(crate) recipients: BTreeMap<u32, Recipient>,
}

/// A relay as the log tells of it.
#[derive(Debug, Default)]
pub(crate) struct RelayState {
    pub(crate) profile: Option<kite_domain::relay::RelayProfile>,
    /// When it was suspended.
    pub(crate) suspended_at: Option<DateTime<Utc>>,
    pub(crate) is_passing: bool,
    /// Parked receipts: reference and what they say.
    pub(crate) parked: BTreeSet<(String, kite_domain::receipt::ReceiptStatus)>,
}

/// The checker.
#[derive(Default)]
pub(crate) struct Checker {
    pub(crate) position: Position,
    pub(crate) sendings: BTreeMap<SendingId, SendingState>,
    pub(crate) relays: BTreeMap<RelayId, RelayState>,
    splits: Splits,
    people: People,
    pub(crate) books: Books,
    /// A sender was registered anew: some relays may not carry its messages.
    registration_changed: bool,
    /// References of parked receipts that were given up.
    given_up: BTreeSet<String>,
    /// Where the log ended when the present process began: everybody knows what is before.
    pub(crate) process_began_at: Position,
}

pub(crate) type Checked = Result<(), String>;

/// An event with its envelope.
pub(crate) struct Told<'t> {
    pub(crate) recorded: &'t RecordedEvent,
    pub(crate) event: &'t Event,
}

impl Told<'_> {
    pub(crate) fn time(&self) -> DateTime<Utc> {
        self.recorded.metadata.time
    }
}

impl Checker {
    /// Folds what is new in the log, and checks each event against what was before it.
    pub(crate) fn catch_up(&mut self, store: &MemoryEventStore) -> Checked {
        loop {
            let page =
                futures::FutureExt::now_or_never(store.read_all(self.position, 1_000, &Filter::everything()));
            let page = page.expect("memory never waits").map_err(|error| error.to_string())?;
            if page.next == self.position {
                return Ok(());
            }
            for recorded in &page.events {
                self.position = recorded.position;
                let event = Event::from_json(&recorded.kind, recorded.schema_version, &recorded.data)
                    .map_err(|error| format!("law 1: position {}: {error}", recorded.position))?;
                let told = Told { recorded, event: &event };
                self.fold(&told).map_err(|what| {
                    format!(
                        "{what}\n  at position {}: {} {}",
                        recorded.position,
                        recorded.stream,
                        words(recorded)
                    )
                })?;
            }
        }
    }

    /// The process is started: from here on everybody knows what is in the log.
    pub(crate) fn process_begins(&mut self) {
        self.process_began_at = self.position;
    }

    pub(crate) fn message(&self, id: kite_domain::ids::MessageId) -> Option<&MessageState> {
        self.sendings.get(&id.sending)?.messages.get(&id.seq)
    }
}

fn words(recorded: &RecordedEvent) -> String {
    let data = String::from_utf8_lossy(&recorded.data);
    let short: String = data.chars().take(400).collect();
    format!("{} {} {short}", recorded.kind, recorded.metadata.time.format("%m-%d %H:%M:%S%.3f"))
}
