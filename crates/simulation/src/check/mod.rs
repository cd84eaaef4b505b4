//! The laws (docs/laws.md), checked from the log and from the relays' own ledgers.
//!
//! This is a second, small model of what the events mean. It shares the shapes of the events with the platform, but
//! none of its folds or decisions: otherwise an error in both would go unnoticed.

mod arrivals;
mod books;
mod calm;
mod claims;
mod directory;
mod end;
mod ends;
mod events;
mod failures;
mod handover;
mod ledgers;
mod limits;
mod message;
mod noted;
mod orders;
mod pace;
mod people;
mod policies;
mod put_off;
mod relays;
mod routes;
mod senders;
mod split;
#[cfg(test)]
mod tests;
mod views;

pub(crate) use books::{Answered, Books};
pub(crate) use directory::the_directory_agrees;
pub(crate) use limits::Limited;
pub(crate) use message::{MessageState, State};
pub(crate) use relays::RelayState;

use chrono::{DateTime, TimeDelta, Utc};
use kite_commands::accept::AcceptLimits;
use kite_commands::describe;
use kite_domain::event::Event;
use kite_domain::ids::{LotId, MessageId, SendingId};
use kite_domain::lot::Recipient;
use kite_domain::sending::{PauseBy, SendingAccepted};
use kite_domain::slug::RelayId;
use kite_event_store::{EventStore, Filter, Position, RecordedEvent};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::case::Case;
use crate::relays::SimRelays;
use crate::store::Log;
use claims::Claims;
use limits::Limits;
use noted::notice;
use people::People;
use policies::Policies;
use senders::Senders;
use split::Splits;

/// A sending as the log tells of it.
#[derive(Debug, Default)]
pub(crate) struct SendingState {
    pub(crate) terms: Option<Arc<SendingAccepted>>,
    pub(crate) sealed_at: DateTime<Utc>,
    pub(crate) released: bool,
    pub(crate) is_abandoned: bool,
    /// Since which position, and by whom.
    pub(crate) paused: Option<(Position, PauseBy)>,
    /// When it was last resumed.
    pub(crate) resumed_at: Option<DateTime<Utc>>,
    /// Position and time.
    pub(crate) cancelled: Option<(Position, DateTime<Utc>)>,
    pub(crate) is_completed: bool,
    /// Messages by lot.
    pub(crate) lots: BTreeMap<u32, u32>,
    pub(crate) messages: BTreeMap<u32, MessageState>,
    pub(crate) recipients: BTreeMap<u32, Recipient>,
}

/// How long a wrong clock or a lost lease may mislead a process: longer than a lease and a call together.
const UNSURE_MS: i64 = 60_000;

/// The checker.
#[derive(Default)]
pub(crate) struct Checker {
    pub(crate) position: Position,
    pub(crate) sendings: BTreeMap<SendingId, SendingState>,
    pub(crate) relays: BTreeMap<RelayId, RelayState>,
    senders: Senders,
    policies: Policies,
    splits: Splits,
    claims: Claims,
    people: People,
    pub(crate) books: Books,
    pub(super) limits: Limits,
    /// References of parked receipts that were given up.
    given_up: BTreeSet<String>,
    /// Where the log ended when the present process began: every process knows what is before.
    pub(crate) process_began_at: Position,
    /// What the relays know; none: only the log is compared with itself.
    ledgers: Option<Arc<SimRelays>>,
    /// Several processes write. Each learns what the others do only some time later, and their clocks differ: no
    /// decision is judged by what its process cannot have known, nor to the exact moment.
    is_shared: bool,
    /// How long the processes are held up, all together.
    held_up: TimeDelta,
    /// How many other processes there are: each of them may be the caller.
    others: u8,
    /// By how much the clocks of processes differ from the time at most.
    clocks_off_ms: i64,
    /// Until when no span of time can be trusted, because a clock is moved.
    spans_unsure_until_ms: i64,
    /// The read model of open work may have parked sendings, which count against no limit then.
    pub(crate) counts_are_parked: bool,
}

/// What a check came to. A verdict is read by a human, once, and nobody acts on which it is: so it is words, with the sources of
/// whatever error led to it.
pub(crate) type Checked<T = ()> = Result<T, String>;

/// An event with its envelope.
pub(crate) struct Told<'t> {
    pub(crate) recorded: &'t RecordedEvent,
    pub(crate) event: &'t Event,
    /// Whose stream it is in, if a lot's.
    lot: Option<LotId>,
}

impl<'t> Told<'t> {
    fn new(recorded: &'t RecordedEvent, event: &'t Event) -> Self {
        Self { recorded, event, lot: LotId::from_stream(&recorded.stream) }
    }

    pub(crate) fn time(&self) -> DateTime<Utc> {
        self.recorded.metadata.time
    }

    fn lot(&self) -> Checked<LotId> {
        self.lot.ok_or_else(|| "not in a lot's stream".to_owned())
    }

    /// The message of this number, which must be of the lot.
    fn message(&self, seq: u32) -> Checked<MessageId> {
        let lot = self.lot()?;
        let id = MessageId { sending: lot.sending, seq };
        if id.lot() == lot { Ok(id) } else { Err(format!("message {seq} is not of lot {lot}")) }
    }
}

impl Checker {
    /// A checker that compares the log with what the relays know.
    pub(crate) fn beside(ledgers: Arc<SimRelays>, limits: AcceptLimits) -> Self {
        noted::play_alone();
        Self { ledgers: Some(ledgers), limits: Limits::of(limits), ..Self::default() }
    }

    /// For a log that several processes write, or one to which happens what happens to several.
    pub(crate) fn of_several_processes(self, case: &Case) -> Self {
        noted::play(case);
        Self {
            is_shared: true,
            held_up: noted::held_up_in(case),
            others: case.setup.nodes.saturating_sub(1),
            ..self
        }
    }

    /// Folds what is new in the log, and checks each event against what was before it.
    pub(crate) fn catch_up(&mut self, store: &Log) -> Checked {
        loop {
            let page =
                futures::FutureExt::now_or_never(store.read_all(self.position, 1_000, &Filter::everything()));
            let page = page.expect("memory never waits").map_err(|error| describe(&error))?;
            if page.next == self.position {
                return Ok(());
            }
            page.events.iter().try_for_each(|recorded| self.read(recorded))?;
        }
    }

    /// Folds one event.
    fn read(&mut self, recorded: &RecordedEvent) -> Checked {
        self.position = recorded.position;
        let event = Event::from_json(&recorded.kind, recorded.schema_version, &recorded.data)
            .map_err(|error| format!("law 1: position {}: {error}", recorded.position))?;
        self.fold(&Told::new(recorded, &event)).map_err(|what| {
            format!("{what}\n  at position {}: {} {}", recorded.position, recorded.stream, words(recorded))
        })
    }

    /// The process is started: from here on everybody knows what is in the log.
    pub(crate) fn process_begins(&mut self, at: DateTime<Utc>) {
        self.limits.process_begins(at);
        if !self.is_shared {
            self.paces_begin(at.timestamp_millis());
        }
        self.process_began_at = self.position;
        // Requests to the others continue.
        if !self.is_shared {
            self.books.process_begins();
        }
    }

    pub(crate) fn clocks_are_off_by(&mut self, ms: i64) {
        self.clocks_off_ms = self.clocks_off_ms.max(ms);
        self.spans_unsure_until_ms = i64::MAX;
    }

    /// All clocks are right from now on. Leases that a process with a wrong clock had may remain for a while.
    pub(crate) fn clocks_are_right(&mut self, now_ms: i64) {
        if self.spans_unsure_until_ms == i64::MAX {
            self.spans_unsure_until_ms = now_ms + UNSURE_MS;
        }
    }

    /// A lease was lost then, and its holder does not know: two processes may have the share of that relay.
    pub(crate) fn lease_was_lost(&mut self, lease: &str, at_ms: i64) {
        for (relay, state) in &mut self.relays {
            if lease.split('/').any(|part| part == relay.as_str()) {
                state.shares_unsure_until_ms = at_ms + UNSURE_MS;
            }
        }
    }

    /// Whether everybody knows of it because they began after it. Of several some began before.
    fn was_there(&self, position: Position) -> bool {
        !self.is_shared && position <= self.process_began_at
    }

    /// A process that decides at `time` knows what happened until then.
    fn known_by(&self, time: DateTime<Utc>) -> DateTime<Utc> {
        if self.is_shared { time - notice() } else { time }
    }

    pub(crate) fn message(&self, id: MessageId) -> Option<&MessageState> {
        self.sendings.get(&id.sending)?.messages.get(&id.seq)
    }

    /// A message of a sealed sending that an event of its lot speaks of.
    fn message_at(&self, told: &Told<'_>, seq: u32) -> Checked<&MessageState> {
        let id = told.message(seq)?;
        self.sending(id.sending)?.messages.get(&seq).ok_or_else(|| format!("there is no message {seq}"))
    }

    fn message_mut(&mut self, told: &Told<'_>, seq: u32) -> Checked<&mut MessageState> {
        let id = told.message(seq)?;
        let messages = &mut self.sending_mut(id.sending)?.messages;
        messages.get_mut(&seq).ok_or_else(|| format!("there is no message {seq}"))
    }

    /// Whom refusals bind is in the log, as far as that was known by then.
    pub(crate) fn refusals_bind_people(&self, known_by: DateTime<Utc>) -> Checked {
        self.people.are_extended(known_by)
    }

    /// Whether whoever decides at `time` must know that the sending is paused.
    fn is_known_to_be_paused(&self, id: SendingId, time: DateTime<Utc>) -> Checked<bool> {
        let Some((position, _)) = self.sending(id)?.paused else { return Ok(false) };
        Ok(self.was_there(position) || self.books.is_paused_before(id, position, self.known_by(time)))
    }

    fn sending(&self, id: SendingId) -> Checked<&SendingState> {
        let sending = self.sendings.get(&id).filter(|sending| sending.terms.is_some());
        sending.ok_or_else(|| format!("sending {id} is not sealed"))
    }

    fn sending_mut(&mut self, id: SendingId) -> Checked<&mut SendingState> {
        let sending = self.sendings.get_mut(&id).filter(|sending| sending.terms.is_some());
        sending.ok_or_else(|| format!("sending {id} is not sealed"))
    }

    fn terms_of(&self, told: &Told<'_>) -> Checked<Arc<SendingAccepted>> {
        self.sending(told.lot()?.sending)?.terms.clone().ok_or_else(|| "not sealed".to_owned())
    }
}

fn words(recorded: &RecordedEvent) -> String {
    let data = String::from_utf8_lossy(&recorded.data);
    let short: String = data.chars().take(400).collect();
    format!("{} {} {short}", recorded.kind, recorded.metadata.time.format("%m-%d %H:%M:%S%.3f"))
}
