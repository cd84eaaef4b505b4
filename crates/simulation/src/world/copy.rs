//! A backup is taken in the middle of a case. The original continues to the end of it and dies, and a copy takes its
//! place.
//!
//! The checker follows one log from its beginning and knows what a relay was given because of it; the copy's relays
//! were given messages of which its log knows nothing. So from the copy on only this is checked: nothing is handed
//! over before the operator's confirmation, everything ends after it, no relay ever takes one reference twice, and no
//! message that a relay has taken ends as if nothing had been handed over: not by a cancellation, and not if its
//! receipt has come in.

use futures::FutureExt;
use kite_commands::Cause;
use kite_commands::describe;
use kite_domain::event::Event;
use kite_domain::ids::{AttemptReference, LotId, MessageId, SendingId};
use kite_domain::instance::{InstanceCopied, Originality, STREAM};
use kite_domain::lot::{AttemptState, Lot, Outcome};
use kite_domain::slug::RelayId;
use kite_event_store::{
    Batch, BatchMode, EventStore, Expected, Filter, Gaps, Metadata, NewEvent, RecordedEvent, StreamAppend,
};
use smol_str::SmolStr;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use uuid::Uuid;

use super::World;
use crate::case::Case;
use crate::check::Checked;
use crate::platform::Platform;
use crate::store::{FaultyStore, Log, empty_log};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
/// By then every call of the dead original has come in.
const COMES_IN_MS: i64 = 15 * MINUTE_MS;
/// How long the copy waits for the operator's confirmation: long enough for everything that waits to be handed over,
/// if it could.
const WAITS_MS: i64 = 2 * MINUTE_MS;
/// Of how many sendings in a hundred the operator is told at the copy that they were cancelled.
const CANCELLED_PER_CENT: u64 = 20;
/// Longer than any lifetime, deadline and parking together.
const HOURS_MAX: i64 = 24 * 14;

impl World {
    /// Runs a case with a backup in its middle, to the end of the copy.
    pub(crate) fn run_copied(&mut self, case: &Case) -> Checked {
        let (before, after) = case.steps.split_at(case.steps.len() / 2);
        self.begin()?;
        before.iter().try_for_each(|step| self.step(case.seed, step))?;
        let backup = self.events_after(0);
        after.iter().try_for_each(|step| self.step(case.seed, step))?;
        self.die()?;
        self.heal();
        let until_ms = self.sim.now_ms() + COMES_IN_MS;
        while let Some(at_ms) = self.relays.next_action().filter(|at_ms| *at_ms < until_ms) {
            self.move_to(at_ms);
        }
        self.move_to(until_ms);
        self.settle_accounts()?;
        self.take_the_place(&backup)?;
        self.cancel_some(&backup)?;
        self.waits_for_the_word()?;
        self.goes_on_after_it(&backup)
    }

    fn events_after(&self, position: u64) -> Vec<RecordedEvent> {
        let all = self.log.read_all(position, usize::MAX, &Filter::everything()).now_or_never();
        all.and_then(Result::ok).map(|page| page.events).unwrap_or_default()
    }

    /// A process on a log that holds this, and says that it is a copy.
    fn take_the_place(&mut self, backup: &[RecordedEvent]) -> Checked {
        let log = empty_log(Gaps::Absent);
        for event in backup {
            append(&log, event.clone())?;
        }
        let until = backup.last().map_or(0, |event| event.position);
        let copied = Event::from(InstanceCopied { until, taken_at: self.sim.now() });
        let marked = RecordedEvent {
            position: until + 1,
            stream: STREAM.into(),
            version: 1,
            id: kite_commands::Ids::next(&*self.sim.clock),
            kind: SmolStr::new_static(copied.kind()),
            schema_version: copied.schema_version(),
            metadata: Metadata {
                time: self.sim.now(),
                tenant: None,
                correlation: Uuid::nil(),
                causation: None,
                actor: "simulation".into(),
                traceparent: None,
            },
            data: copied.to_json().into(),
        };
        append(&log, marked)?;
        let data_dir = self.data_dir().join("copy");
        std::fs::create_dir(&data_dir).map_err(|error| describe(&error))?;
        self.head = log.head();
        self.log = log.clone();
        let node = &mut self.nodes[0];
        node.store = Arc::new(FaultyStore::new(self.sim.clone(), log, self.upgrade.clone()));
        node.ground.store = node.store.clone();
        node.ground.data_dir = data_dir;
        self.is_copy = true;
        self.relays.arrivals.lock().clear();
        self.relays.calls.lock().clear();
        self.acknowledged.lock().clear();
        self.boot();
        Ok(())
    }

    /// The operator tells the copy what the original was told after the backup, or a tenant cancels now.
    fn cancel_some(&mut self, backup: &[RecordedEvent]) -> Checked {
        for one in backup {
            let Event::SendingAccepted(accepted) = read(one)? else { continue };
            if self.sim.per_cent(CANCELLED_PER_CENT) {
                self.ask("cancel", move |platform| async move {
                    let cause = Cause::new("simulation", Uuid::nil());
                    let _ =
                        platform.acceptance.cancel(&cause, &accepted.tenant, accepted.sending, None).await;
                });
            }
        }
        Ok(())
    }

    fn waits_for_the_word(&mut self) -> Checked {
        let copied = *self.log.head().borrow();
        self.pass_exactly(WAITS_MS)?;
        if let Some(arrival) = self.relays.arrivals.lock().first() {
            let reference = arrival.message.reference;
            return Err(format!(
                "law 4: a copy has handed {reference} to {}, and its original may be alive",
                arrival.relay
            ));
        }
        if let Some((relay, _)) = self.acknowledged.lock().first() {
            return Err(format!("a copy has taken receipts away from its original, at {relay}"));
        }
        // What a receipt brings about may be another route. What was never routed stays so.
        let is_first =
            |event: &RecordedEvent| match Event::from_json(&event.kind, event.schema_version, &event.data) {
                Ok(Event::MessagesRouted(routed)) => !routed.splits.is_empty(),
                Ok(_) | Err(_) => false,
            };
        match self.events_after(copied).iter().find(|event| is_first(event)) {
            Some(event) => Err(format!("a copy has routed, at position {}", event.position)),
            None => Ok(()),
        }
    }

    fn goes_on_after_it(&mut self, backup: &[RecordedEvent]) -> Checked {
        let now = self.sim.now();
        self.ask("release", move |platform| async move {
            let cause = Cause::new("simulation", Uuid::nil());
            while platform.manage.release_instance(&cause, now, "it died".to_owned()).await.is_err() {}
        });
        self.pass_exactly(MINUTE_MS)?;
        // What is not handed over by then waits for another time, or for a relay.
        self.cancel_some(backup)?;
        let platform = self.copy()?;
        let end_ms = self.sim.now_ms() + HOURS_MAX * HOUR_MS;
        loop {
            let backlog = platform.models.work.backlog().map_err(|error| describe(&error))?;
            let head = *self.log.head().borrow();
            if backlog.open_messages == 0 && platform.models.work.position() == head {
                break;
            }
            if self.sim.now_ms() > end_ms {
                return Err(format!("law 2: the copy still holds {backlog:?}"));
            }
            self.pass_until(self.sim.now_ms() + HOUR_MS)?;
        }
        let told = self.events_after(0);
        let mut originality = Originality::default();
        for event in told.iter().filter(|event| &*event.stream == STREAM) {
            originality.evolve(&read(event)?, event.metadata.time);
        }
        if !matches!(originality, Originality::Settled { .. }) {
            return Err(format!("the copy was released and is not settled: {originality:?}"));
        }
        self.no_message_ends_beside_the_truth(&told)?;
        self.nothing_was_sent_twice(&told)
    }

    /// By the original and the copy, except for what may be.
    fn nothing_was_sent_twice(&self, told: &[RecordedEvent]) -> Checked {
        let mut may_be: BTreeSet<SendingId> = BTreeSet::new();
        for one in told {
            if let Event::SendingAccepted(accepted) = read(one)?
                && accepted.failover.at_least_once
            {
                may_be.insert(accepted.sending);
            }
        }
        for relay in self.relays.relays.values() {
            let mut taken = relay.taken().into_iter();
            let is_forbidden = |reference: &AttemptReference| !may_be.contains(&reference.message.sending);
            if let Some((reference, entry)) =
                taken.find(|(reference, entry)| entry.taken > 1 && is_forbidden(reference))
            {
                return Err(format!("law 4: {} took {reference} {} times", relay.id, entry.taken));
            }
        }
        Ok(())
    }

    /// What was taken is not known to the copy in every case; what it was told is.
    fn no_message_ends_beside_the_truth(&self, told: &[RecordedEvent]) -> Checked {
        let mut lots: BTreeMap<LotId, Vec<Event>> = BTreeMap::new();
        let mut doubted: BTreeSet<MessageId> = BTreeSet::new();
        let mut parked: BTreeSet<(RelayId, AttemptReference)> = BTreeSet::new();
        for one in told {
            let event = read(one)?;
            if let Event::ReceiptsParked(some) = &event {
                let references = some.receipts.iter().filter_map(|one| one.reference.parse().ok());
                parked.extend(references.map(|reference| (some.relay.clone(), reference)));
            }
            let Some(lot) = LotId::from_stream(&one.stream) else { continue };
            if let Event::MessagesDoubted(some) = &event {
                let sending = lot.sending;
                doubted.extend(some.messages.iter().map(|seq| MessageId { sending, seq }));
            }
            lots.entry(lot).or_default().push(event);
        }
        let lots: BTreeMap<LotId, Lot> =
            lots.into_iter().filter_map(|(id, events)| Some((id, Lot::fold(&events)?))).collect();
        for relay in self.relays.relays.values() {
            for (reference, _) in relay.taken() {
                let message = reference.message;
                let lot = lots.get(&message.lot());
                let Some((lot, known)) = lot.and_then(|lot| Some((lot, lot.message(message.seq)?))) else {
                    continue;
                };
                // What is known to have failed may be cancelled before it is handed over again.
                let attempt = known.attempt(reference.attempt);
                let has_failed = attempt.is_some_and(|attempt| {
                    lot.relay_of(attempt) == &relay.id && attempt.state > AttemptState::Accepted
                });
                if known.outcome == Some(Outcome::Cancelled) && !has_failed {
                    return Err(format!("law 2: {message} is cancelled, and {} has taken it", relay.id));
                }
                if !known.attempts.is_empty() {
                    continue;
                }
                let is_told = parked.contains(&(relay.id.clone(), reference));
                if reference.attempt == 1 && doubted.contains(&message) && is_told {
                    return Err(format!(
                        "law 2: {} has said what became of {message}, for nothing",
                        relay.id
                    ));
                }
            }
        }
        Ok(())
    }

    fn copy(&self) -> Checked<Platform> {
        self.nodes[0].slot.lock().clone().ok_or_else(|| "there is no process".to_owned())
    }
}

fn read(event: &RecordedEvent) -> Checked<Event> {
    Event::from_json(&event.kind, event.schema_version, &event.data).map_err(|error| describe(&error))
}

/// Puts an event at the end of a log, where it stood in another.
fn append(log: &Log, event: RecordedEvent) -> Checked {
    let position = event.position;
    let append = StreamAppend {
        stream: event.stream,
        expected: Expected::Version(event.version - 1),
        metadata: event.metadata,
        events: vec![NewEvent {
            id: event.id,
            kind: event.kind,
            schema_version: event.schema_version,
            data: event.data,
        }],
    };
    let batch = Batch::new(BatchMode::Independent, vec![append]);
    let answer = log.append(batch).now_or_never().and_then(|mut answers| answers.pop());
    log.tell_head();
    match answer {
        Some(Ok(appended)) if appended.position == position => Ok(()),
        other => Err(format!("the event at position {position} cannot be copied: {other:?}")),
    }
}
