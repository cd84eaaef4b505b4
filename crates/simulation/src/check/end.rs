//! The end: nothing is forgotten, and the platform's own state equals this checker's.

use crate::store::Log;
use kite_commands::describe;
use kite_domain::event::Event;
use kite_domain::ids::{LotId, MessageId};
use kite_domain::lot::{Lot, OutcomeCounts};
use kite_domain::sending::SendingAccepted;
use kite_event_store::EventStore;
use kite_projections::{KnownAttempt, ReadModels};

use super::message::AttemptState;
use super::{Checked, Checker, MessageState, SendingState, views};

impl Checker {
    /// Law 2 at the end: every message of every sealed sending is final, and the sending is completed.
    pub(crate) fn everything_is_final(&self) -> Checked {
        for (id, sending) in self.sendings.iter().filter(|(_, sending)| sending.terms.is_some()) {
            let open: Vec<(&u32, Option<&AttemptState>)> = sending
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

    /// The platform's own fold of every lot, its read models, and what its router continues with say the same as this
    /// checker.
    pub(crate) fn the_books_agree(&self, store: &Log, models: &ReadModels) -> Checked {
        for (id, sending) in &self.sendings {
            let Some(terms) = &sending.terms else { continue };
            for number in sending.lots.keys() {
                lot_agrees(&fold(store, LotId { sending: *id, number: *number })?, sending)?;
            }
            sending_agrees(terms, sending, models)?;
            for (seq, message) in &sending.messages {
                message_agrees(terms, MessageId { sending: *id, seq: *seq }, message, models)?;
            }
        }
        self.views_agree(models)?;
        let place = models.router_place(0, None).map_err(|error| describe(&error))?;
        self.splits.carries_agree(&place.carries.into_iter().collect())
    }
}

fn lot_agrees(lot: &Lot, sending: &SendingState) -> Checked {
    let mut counts = OutcomeCounts::default();
    for (seq, theirs) in lot.messages() {
        let id = lot.message_id(seq);
        let Some(ours) = sending.messages.get(&seq) else {
            return Err(format!("law 2: the platform knows a message {id}"));
        };
        *counts.of(ours.outcome) += 1;
        let states = theirs.attempts.iter().map(|attempt| format!("{:?}", attempt.state));
        let known = ours.attempts.iter().map(|attempt| format!("{:?}", attempt.state));
        let relays = theirs.attempts.iter().map(|attempt| lot.relay_of(attempt));
        if ours.outcome != theirs.outcome
            || !states.eq(known)
            || !relays.eq(ours.attempts.iter().map(|attempt| &attempt.relay))
        {
            return Err(format!("law 5: message {id} is {theirs:?} to the platform, and {ours:?} by rank"));
        }
    }
    match lot.counts() == counts && lot.len() as u32 == counts.total() {
        true => Ok(()),
        false => Err(format!("law 2: lot {} counts {:?}, the log has {counts:?}", lot.id, lot.counts())),
    }
}

fn sending_agrees(terms: &SendingAccepted, sending: &SendingState, models: &ReadModels) -> Checked {
    let view = models.delivery.sending(&terms.tenant, terms.sending).map_err(|error| describe(&error))?;
    let Some(view) = view else { return Err(format!("{} is not in the read model", terms.sending)) };
    if view.paused.as_ref().map(|pause| pause.by) != sending.paused.map(|(_, by)| by) {
        return Err(format!("the read model shows {:?} of {}", view.paused, terms.sending));
    }
    let known = views::counted(sending.messages.values());
    let shown = views::comparable(&view.counts);
    let messages = i64::from(terms.messages);
    if shown != known || shown.messages != messages || view.refused_recipients != terms.refused {
        return Err(format!("law 11: {} is shown with {shown:?}, the log has {known:?}", terms.sending));
    }
    Ok(())
}

fn message_agrees(
    terms: &SendingAccepted,
    id: MessageId,
    message: &MessageState,
    models: &ReadModels,
) -> Checked {
    let shown = models.delivery.message(&terms.tenant, id).map_err(|error| describe(&error))?;
    let Some(shown) = shown else { return Err(format!("message {id} is not shown")) };
    let is_same = |(theirs, ours): (&KnownAttempt, &AttemptState)| {
        let failed = ours.failure.as_ref();
        theirs.relay == ours.relay
            && theirs.channel == ours.channel
            && format!("{:?}", theirs.state) == format!("{:?}", ours.state)
            && failed.is_none_or(|(code, class)| {
                theirs.code.as_ref() == Some(code) && theirs.failure_class == Some(*class)
            })
    };
    if shown.outcome != message.outcome
        || shown.delivered_twice != message.is_delivered_twice()
        || shown.attempts.len() != message.attempts.len()
        || !shown.attempts.iter().zip(&message.attempts).all(is_same)
    {
        return Err(format!("message {id} is shown as {shown:?} and is {message:?}"));
    }
    Ok(())
}

fn fold(store: &Log, id: LotId) -> Checked<Lot> {
    let read = futures::FutureExt::now_or_never(store.read_stream(&id.stream(), 0, usize::MAX));
    let recorded = read.expect("memory never waits").map_err(|error| describe(&error))?;
    let events: Result<Vec<Event>, _> =
        recorded.iter().map(|one| Event::from_json(&one.kind, one.schema_version, &one.data)).collect();
    let events = events.map_err(|error| describe(&error))?;
    Lot::fold(&events).ok_or_else(|| format!("{id} is no lot"))
}
