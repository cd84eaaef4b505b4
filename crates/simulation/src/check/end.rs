//! Calm and the end: nothing is forgotten, nothing is delivered twice, and the platform's own books say the same.

use kite_domain::event::Event;
use kite_domain::ids::{AttemptReference, LotId, MessageId};
use kite_domain::lot::Lot;
use kite_event_store::{EventStore, MemoryEventStore};
use kite_projections::ReadModels;

use super::message::State;
use super::{Checked, Checker};
use crate::relays::SimRelays;

impl Checker {
    /// After a calm while whatever could be handed over was: what is routed to a relay that works, was due for longer
    /// than this and is not held, is with it.
    pub(crate) fn nothing_waits(&self, now_ms: i64, calm_ms: i64) -> Checked {
        for (id, sending) in &self.sendings {
            let Some(terms) = &sending.terms else { continue };
            let due_ms = terms.scheduled_at.map_or(0, |at| at.timestamp_millis());
            if sending.cancelled.is_some() || now_ms - due_ms < calm_ms {
                continue;
            }
            for (seq, message) in sending.messages.iter().filter(|(_, message)| message.outcome.is_none()) {
                let Some(newest) = message.newest() else {
                    if !self.may_be_blocked() {
                        return Err(format!("message {id}-{seq} has no route although all is calm"));
                    }
                    continue;
                };
                let since_ms =
                    newest.not_before_ms.max(message.held_until_ms).max(newest.routed_at_ms).max(due_ms);
                let works = self.relays.get(&newest.relay).is_some_and(|relay| {
                    let rate = relay.profile.as_ref().and_then(|profile| profile.rate_parts_per_second);
                    relay.is_passing && relay.suspended_at.is_none() && rate.is_none()
                });
                let is_stuck = newest.state == State::Submitted
                    || (newest.state == State::Routed && now_ms - since_ms > calm_ms);
                if works && is_stuck {
                    return Err(format!(
                        "message {id}-{seq} is {:?} at {} for {} s although all is calm",
                        newest.state,
                        newest.relay,
                        (now_ms - since_ms) / 1_000
                    ));
                }
            }
        }
        Ok(())
    }

    /// Whether a message waits for the end of the night, or did until it ended: its place in the lane is taken until then.
    pub(crate) fn is_anything_held(&self, now_ms: i64) -> bool {
        let mut messages = self.sendings.values().flat_map(|sending| sending.messages.values());
        messages.any(|message| message.held_until_ms > now_ms)
    }

    /// Whether messages may be without a relay: somewhere a registration, a suspension or a breaker is in the way.
    fn may_be_blocked(&self) -> bool {
        let works = |relay: &super::RelayState| relay.is_passing && relay.suspended_at.is_none();
        self.registration_changed || !self.relays.values().all(works)
    }

    /// Law 2 and the end of all things: every message of every sealed sending is final, and the sending completed.
    pub(crate) fn everything_is_final(&self) -> Checked {
        for (id, sending) in self.sendings.iter().filter(|(_, sending)| sending.terms.is_some()) {
            let open: Vec<(&u32, Option<&super::message::AttemptState>)> = sending
                .messages
                .iter()
                .filter(|(_, message)| message.outcome.is_none())
                .map(|(seq, message)| (seq, message.newest()))
                .collect();
            if let Some((seq, newest)) = open.first() {
                return Err(format!(
                    "law 2: {} messages never end, such as {id}-{seq}: {newest:?}",
                    open.len()
                ));
            }
            if !sending.is_completed {
                return Err(format!("sending {id} is final and not completed"));
            }
        }
        for id in self.books.accepted() {
            if self.sendings.get(id).is_none_or(|sending| sending.terms.is_none()) {
                return Err(format!("law 2: {id} was accepted and is gone"));
            }
        }
        match self.relays.iter().find(|(_, relay)| !relay.parked.is_empty()) {
            Some((id, relay)) => Err(format!("receipts of {id} stay parked: {:?}", relay.parked)),
            None => Ok(()),
        }
    }

    /// Law 4, by the relays' own ledgers: a message reaches its recipient twice only where that was allowed.
    pub(crate) fn nothing_is_delivered_twice(&self, relays: &SimRelays) -> Checked {
        for deliveries in relays.delivered_twice() {
            let Some((_, reference)) = deliveries.first() else { continue };
            let terms =
                self.sendings.get(&reference.message.sending).and_then(|sending| sending.terms.as_ref());
            if terms.is_none_or(|terms| !terms.failover.at_least_once) {
                return Err(format!("law 4: delivered twice without leave: {deliveries:?}"));
            }
        }
        Ok(())
    }

    /// What the log says that a relay said is what it said: refused is not taken, accepted is.
    pub(crate) fn the_relays_agree(&self, relays: &SimRelays) -> Checked {
        for (id, sending) in &self.sendings {
            for (seq, message) in &sending.messages {
                for (number, attempt) in (1..).zip(&message.attempts) {
                    let reference =
                        AttemptReference { message: MessageId { sending: *id, seq: *seq }, attempt: number };
                    let entry = relays.get(&attempt.relay).and_then(|relay| relay.entry(reference));
                    let is_taken = entry.is_some_and(|entry| entry.taken > 0);
                    let is_wrong = match attempt.state {
                        State::Refused => is_taken,
                        State::Accepted => !is_taken,
                        _ => false,
                    };
                    if is_wrong {
                        let (state, relay) = (attempt.state, &attempt.relay);
                        return Err(format!("law 4: {reference} is {state:?}; taken by {relay}: {is_taken}"));
                    }
                }
            }
        }
        Ok(())
    }

    /// The platform's own fold of every lot, and its read models, say the same as this checker.
    pub(crate) fn the_books_agree(&self, store: &MemoryEventStore, models: &ReadModels) -> Checked {
        for (id, sending) in &self.sendings {
            let Some(terms) = &sending.terms else { continue };
            for number in sending.lots.keys() {
                let lot = fold(store, LotId { sending: *id, number: *number })?;
                for (seq, message) in lot.messages() {
                    let ours = sending.messages.get(&seq);
                    let states: Vec<String> =
                        message.attempts.iter().map(|attempt| format!("{:?}", attempt.state)).collect();
                    let known: Vec<String> = ours
                        .into_iter()
                        .flat_map(|ours| ours.attempts.iter().map(|attempt| format!("{:?}", attempt.state)))
                        .collect();
                    if ours.map(|ours| ours.outcome) != Some(message.outcome) || states != known {
                        return Err(format!(
                            "law 5: message {id}-{seq} is {:?} {states:?} to the platform, and {:?} {known:?} by rank",
                            message.outcome,
                            ours.and_then(|ours| ours.outcome)
                        ));
                    }
                }
            }
            self.delivery_agrees(terms, sending, models)?;
        }
        Ok(())
    }

    fn delivery_agrees(
        &self,
        terms: &kite_domain::sending::SendingAccepted,
        sending: &super::SendingState,
        models: &ReadModels,
    ) -> Checked {
        let view =
            models.delivery.sending(&terms.tenant, terms.sending).map_err(|error| error.to_string())?;
        let Some(view) = view else { return Err(format!("{} is not in the read model", terms.sending)) };
        let mut counts = kite_domain::lot::OutcomeCounts::default();
        sending.messages.values().for_each(|message| *counts.of(message.outcome) += 1);
        if view.counts != counts || view.messages != terms.messages {
            return Err(format!("law 2: the read model counts {:?}, the log has {counts:?}", view.counts));
        }
        for (seq, message) in &sending.messages {
            let id = MessageId { sending: terms.sending, seq: *seq };
            let shown = models.delivery.message(&terms.tenant, id).map_err(|error| error.to_string())?;
            if shown.as_ref().map(|shown| shown.outcome) != Some(message.outcome) {
                let shown = shown.and_then(|shown| shown.outcome);
                return Err(format!("message {id} is shown as {shown:?} and is {:?}", message.outcome));
            }
        }
        Ok(())
    }
}

fn fold(store: &MemoryEventStore, id: LotId) -> Result<Lot, String> {
    let read = futures::FutureExt::now_or_never(store.read_stream(&id.stream(), 0, usize::MAX));
    let recorded = read.expect("memory never waits").map_err(|error| error.to_string())?;
    let events: Result<Vec<Event>, _> =
        recorded.iter().map(|one| Event::from_json(&one.kind, one.schema_version, &one.data)).collect();
    let events = events.map_err(|error| error.to_string())?;
    Lot::fold(&events).ok_or_else(|| format!("{id} is no lot"))
}
