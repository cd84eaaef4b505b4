//! Each event against what was before it: the lives of sendings, and which tenants, relays and keys exist. Events of
//! messages are in `routes`, `handover` and `ends`.

use kite_domain::event::Event;
use kite_domain::ids::LotId;
use kite_domain::lot::LotAccepted;
use kite_domain::receipt::ParkedReceiptsSettled;
use kite_domain::sending::{PauseBy, SendingAccepted, SendingPaused, SendingReleased, SendingResumed};
use std::sync::Arc;

use super::message::MessageState;
use super::{Checked, Checker, Told};

impl Checker {
    pub(super) fn fold(&mut self, told: &Told<'_>) -> Checked {
        match told.event {
            Event::LotAccepted(lot) => self.lot_accepted(lot),
            Event::SendingAccepted(terms) => self.sealed(terms, told),
            Event::SendingAbandoned(abandoned) => {
                let sending = self.sendings.entry(abandoned.sending).or_default();
                if sending.terms.is_some() {
                    return Err("a sealed sending was abandoned".to_owned());
                }
                sending.is_abandoned = true;
                Ok(())
            }
            Event::SendingReleased(released) => self.released(released, told),
            Event::SendingPaused(paused) => self.paused(paused, told),
            Event::SendingResumed(resumed) => self.resumed(resumed, told),
            Event::SendingCancelled(cancelled) => {
                let sending = self.sending_mut(cancelled.sending)?;
                if sending.cancelled.is_some() || sending.is_completed {
                    return Err("cancelled although it was over".to_owned());
                }
                sending.cancelled = Some((told.recorded.position, told.time()));
                Ok(())
            }
            Event::SendingCompleted(completed) => {
                let sending = self.sending_mut(completed.sending)?;
                let open = sending.messages.values().filter(|message| message.outcome.is_none()).count();
                if open > 0 || sending.is_completed {
                    return Err(format!("law 2: completed with {open} open messages, or twice"));
                }
                sending.is_completed = true;
                Ok(())
            }
            Event::MessagesRouted(routed) => self.routed(routed, told),
            Event::RoutesClaimed(claim) => self.claimed(claim, told),
            Event::MessagesSubmitted(submitted) => self.submitted(submitted, told),
            Event::RelayResponded(responded) => self.responded(responded, told),
            Event::ReceiptsRecorded(recorded) => self.receipts(recorded, told),
            Event::MessagesHeld(held) => self.held(held, told),
            Event::MessagesFinished(finished) => self.finished(finished, told),
            Event::ReceiptsParked(parked) => {
                let relay = self.relays.entry(parked.relay.clone()).or_default();
                let known = parked.receipts.iter().map(|one| (one.reference.to_string(), one.status));
                relay.parked.extend(known);
                Ok(())
            }
            Event::ParkedReceiptsSettled(settled) => self.settled(settled),
            _ => self.directory(told),
        }
    }

    fn directory(&mut self, told: &Told<'_>) -> Checked {
        let at = told.time();
        match told.event {
            Event::RelayDefined(defined) => {
                let relay = self.relays.entry(defined.profile.relay.clone()).or_default();
                relay.profile.set(Some(defined.profile.clone()), at);
                self.pace_is_defined(&defined.profile.relay, at.timestamp_millis());
            }
            Event::RelaySuspended(suspended) => {
                self.relays.entry(suspended.relay.clone()).or_default().is_suspended.set(true, at);
            }
            Event::RelayResumed(resumed) => {
                self.relays.entry(resumed.relay.clone()).or_default().is_suspended.set(false, at);
            }
            Event::RelayUnattended(left) => {
                self.relays.entry(left.relay.clone()).or_default().is_unattended.set(true, at);
            }
            Event::RelayAttended(attended) => {
                self.relays.entry(attended.relay.clone()).or_default().is_unattended.set(false, at);
            }
            Event::RelayBreakerChanged(changed) => {
                self.relays.entry(changed.relay.clone()).or_default().phase.set(changed.to, at);
            }
            Event::PolicyDefined(defined) => self.policies.defined(defined, at)?,
            Event::WeightsAdvised(advised) => self.policies.advised(advised, at)?,
            Event::OptOutRecorded(recorded) => {
                let address = recorded.personal.address.as_str();
                self.people.refuses(&recorded.tenant, address, told.recorded.position, at);
            }
            Event::OptOutWithdrawn(withdrawn) => {
                self.people.agrees(&withdrawn.tenant, withdrawn.personal.address.as_str(), at);
            }
            Event::OptOutExtended(extended) => {
                let position = told.recorded.position;
                self.people.extended(&extended.tenant, &extended.personal, position, at)?;
            }
            Event::ContactsSaved(saved) => {
                let contacts = &saved.personal.contacts;
                contacts.iter().for_each(|contact| self.people.is_saved(&saved.tenant, contact, at));
            }
            Event::ContactDeleted(deleted) => self.people.is_deleted(&deleted.tenant, deleted.contact),
            Event::TenantLimitsSet(set) => self.limits.set(&set.tenant, set.limits, at),
            event if kite_domain::sender::about(event).is_some() => self.senders.said(event, at)?,
            Event::SendingClaimed(claimed) => {
                self.books.claimed(&told.recorded.stream, claimed.sending);
            }
            _ => {}
        }
        Ok(())
    }

    fn lot_accepted(&mut self, lot: &LotAccepted) -> Checked {
        let sending = self.sendings.entry(lot.sending).or_default();
        if sending.terms.is_some() {
            return Err("a lot came after the seal".to_owned());
        }
        let first = LotId { sending: lot.sending, number: lot.number }.first_seq();
        let count = lot.personal.recipients.len() as u32;
        if sending.lots.insert(lot.number, count).is_some() {
            return Err("a lot was accepted twice".to_owned());
        }
        sending.recipients.extend((first..).zip(lot.personal.recipients.iter().cloned()));
        for group in &lot.groups {
            for seq in &group.messages {
                let message = MessageState::new(group.message_type, group.reach);
                if sending.messages.insert(seq, message).is_some() {
                    return Err(format!("message {seq} is in two groups"));
                }
            }
        }
        Ok(())
    }

    /// The seal: everything that it counts is in the log.
    fn sealed(&mut self, terms: &SendingAccepted, told: &Told<'_>) -> Checked {
        let sending = self.sendings.entry(terms.sending).or_default();
        let messages: u32 = sending.lots.values().sum();
        let is_whole = sending.lots.keys().copied().eq(0..terms.lots)
            && messages == terms.messages
            && sending.messages.len() as u32 == messages;
        if !is_whole || sending.is_abandoned || sending.terms.is_some() {
            return Err(format!(
                "law 2: the seal counts {} messages in {} lots; the log has {messages} in {:?} (abandoned: {})",
                terms.messages, terms.lots, sending.lots, sending.is_abandoned
            ));
        }
        sending.terms = Some(Arc::new(terms.clone()));
        sending.sealed_at = told.time();
        self.senders.may_be_accepted(terms, told.time(), self.held_up)?;
        self.books.sealed(terms.sending)
    }

    fn released(&mut self, released: &SendingReleased, told: &Told<'_>) -> Checked {
        let sending = self.sending_mut(released.sending)?;
        let scheduled = sending.terms.as_ref().and_then(|terms| terms.scheduled_at);
        if scheduled.is_none_or(|at| at > told.time()) || sending.released {
            return Err("released before its time, or twice".to_owned());
        }
        sending.released = true;
        Ok(())
    }

    /// What is paused is not paused again, except by somebody with higher priority.
    fn paused(&mut self, paused: &SendingPaused, told: &Told<'_>) -> Checked {
        let sending = self.sending_mut(paused.sending)?;
        if sending.cancelled.is_some() || sending.is_completed {
            return Err("paused although it was over".to_owned());
        }
        if sending.paused.is_some_and(|(_, by)| by == PauseBy::Operator || paused.by == PauseBy::Tenant) {
            return Err("paused although it was".to_owned());
        }
        // Whoever knew of the pause before knows that it is paused.
        let since = sending.paused.map_or(told.recorded.position, |(since, _)| since);
        sending.paused = Some((since, paused.by));
        Ok(())
    }

    fn resumed(&mut self, resumed: &SendingResumed, told: &Told<'_>) -> Checked {
        let sending = self.sending_mut(resumed.sending)?;
        match sending.paused.take() {
            None => return Err("resumed although it was not paused".to_owned()),
            Some((_, PauseBy::Operator)) if resumed.by == PauseBy::Tenant => {
                return Err("a tenant resumes what an operator paused".to_owned());
            }
            Some(_) => {}
        }
        sending.resumed_at = Some(told.time());
        Ok(())
    }

    fn settled(&mut self, settled: &ParkedReceiptsSettled) -> Checked {
        self.given_up.extend(settled.given_up.iter().map(|one| one.reference.to_string()));
        let relay = self.relays.entry(settled.relay.clone()).or_default();
        relay.parked.retain(|(known, status)| !settled.settles(known, *status));
        Ok(())
    }
}
