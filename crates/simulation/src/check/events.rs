//! Each event against what was before it.

use kite_domain::event::Event;
use kite_domain::failure::FailureClass;
use kite_domain::ids::{LotId, SendingId};
use kite_domain::lot::{LotAccepted, MessagesFinished, MessagesRouted, Outcome, ReceiptsRecorded, RouteSet};
use kite_domain::receipt::{ParkedReceiptsSettled, ReceiptStatus};
use kite_domain::relay::BreakerPhase;
use kite_domain::sending::{MessageClass, SendingAccepted};
use std::sync::Arc;

use super::message::{AttemptState, MessageState, State, may_change_channel, may_change_relay};
use super::{Checked, Checker, Told};

/// How long the suspension of a relay may be unknown to a router that reads the log.
const NOTICE_MS: i64 = 5_000;

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
            Event::SendingReleased(released) => {
                let sending = self.sending(released.sending)?;
                let scheduled = sending.terms.as_ref().and_then(|terms| terms.scheduled_at);
                if scheduled.is_none_or(|at| at > told.time()) || sending.released {
                    return Err("released before its time, or twice".to_owned());
                }
                self.sendings.entry(released.sending).or_default().released = true;
                Ok(())
            }
            Event::SendingCancelled(cancelled) => {
                self.sending(cancelled.sending)?;
                let sending = self.sendings.entry(cancelled.sending).or_default();
                if sending.cancelled.is_some() || sending.is_completed {
                    return Err("cancelled although it was over".to_owned());
                }
                sending.cancelled = Some((told.recorded.position, told.time()));
                Ok(())
            }
            Event::SendingCompleted(completed) => {
                let open = self.sending(completed.sending)?.messages.values();
                let open = open.filter(|message| message.outcome.is_none()).count();
                let sending = self.sendings.entry(completed.sending).or_default();
                if open > 0 || sending.is_completed {
                    return Err(format!("law 2: completed with {open} open messages, or twice"));
                }
                sending.is_completed = true;
                Ok(())
            }
            Event::MessagesRouted(routed) => self.routed(routed, told),
            Event::MessagesSubmitted(submitted) => self.submitted(submitted, told),
            Event::RelayResponded(responded) => self.responded(responded, told),
            Event::ReceiptsRecorded(recorded) => self.receipts(recorded, told),
            Event::MessagesHeld(held) => {
                for (seq, until_ms) in held.messages.iter().zip(&held.until_ms) {
                    self.message_of(told, seq)?.held_until_ms = *until_ms;
                }
                Ok(())
            }
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
        match told.event {
            Event::RelayDefined(defined) => {
                let relay = self.relays.entry(defined.profile.relay.clone()).or_default();
                relay.is_passing |= relay.profile.is_none();
                relay.profile = Some(defined.profile.clone());
            }
            Event::RelaySuspended(suspended) => {
                let relay = self.relays.entry(suspended.relay.clone()).or_default();
                relay.suspended_at.get_or_insert(told.time());
            }
            Event::RelayResumed(resumed) => {
                self.relays.entry(resumed.relay.clone()).or_default().suspended_at = None;
            }
            Event::RelayBreakerChanged(changed) => {
                let relay = self.relays.entry(changed.relay.clone()).or_default();
                relay.is_passing = changed.to == BreakerPhase::Passing;
            }
            Event::PolicyDefined(defined) => self.splits.policy(defined)?,
            Event::OptOutRecorded(recorded) => {
                let address = recorded.personal.address.as_str();
                self.people.refuses(&recorded.tenant, address, told.recorded.position);
            }
            Event::OptOutWithdrawn(withdrawn) => {
                self.people.agrees(&withdrawn.tenant, withdrawn.personal.address.as_str());
            }
            Event::SenderRegistered(registered) => {
                self.registration_changed |= registered.relays.len() < crate::setting::RELAYS.len();
            }
            Event::SendingClaimed(claimed) => {
                self.books.claimed(&told.recorded.stream, claimed.sending);
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn sending(&self, id: SendingId) -> Result<&super::SendingState, String> {
        let sending = self.sendings.get(&id).filter(|sending| sending.terms.is_some());
        sending.ok_or_else(|| format!("sending {id} is not sealed"))
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
                if sending.messages.insert(seq, MessageState::default()).is_some() {
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
        sending.tenant = Some(terms.tenant.clone());
        sending.terms = Some(Arc::new(terms.clone()));
        self.books.sealed(terms.sending, told.recorded.position)
    }

    pub(super) fn message_of(&mut self, told: &Told<'_>, seq: u32) -> Result<&mut MessageState, String> {
        let lot = LotId::from_stream(&told.recorded.stream).ok_or("not in a lot's stream")?;
        if LotId::from_stream(&told.recorded.stream).map(|lot| lot.number) != Some(seq / 1_000) {
            return Err(format!("message {seq} is not of lot {lot}"));
        }
        self.sending(lot.sending)?;
        let sending = self.sendings.entry(lot.sending).or_default();
        sending.messages.get_mut(&seq).ok_or_else(|| format!("there is no message {seq}"))
    }

    pub(super) fn terms_of(&self, told: &Told<'_>) -> Result<Arc<SendingAccepted>, String> {
        let lot = LotId::from_stream(&told.recorded.stream).ok_or("not in a lot's stream")?;
        self.sending(lot.sending)?.terms.clone().ok_or_else(|| "not sealed".to_owned())
    }

    fn routed(&mut self, routed: &MessagesRouted, told: &Told<'_>) -> Checked {
        let terms = self.terms_of(told)?;
        let sending = self.sending(terms.sending)?;
        let is_first = routed.routes.iter().any(|route| route.attempt == 1);
        let is_early = terms.scheduled_at.is_some_and(|at| at > told.time()) && !sending.released;
        if is_first && is_early {
            return Err("routed before its time".to_owned());
        }
        for route in &routed.routes {
            self.check_relay(route, told, &terms)?;
            for seq in &route.messages {
                self.route_one(route, seq, told, &terms)?;
            }
        }
        if is_first { self.splits.routed(&terms.tenant, routed) } else { Ok(()) }
    }

    fn check_relay(&self, route: &RouteSet, told: &Told<'_>, terms: &SendingAccepted) -> Checked {
        let relay = self.relays.get(&route.relay);
        let profile = relay.and_then(|relay| relay.profile.as_ref());
        let Some(profile) = profile else { return Err(format!("{} is not defined", route.relay)) };
        if !profile.channels.contains_key(&route.channel) {
            return Err(format!("{} does not offer {}", route.relay, route.channel));
        }
        let suspended_at = relay.and_then(|relay| relay.suspended_at);
        let known_for_ms = suspended_at.map_or(0, |at| (told.time() - at).num_milliseconds());
        if known_for_ms > NOTICE_MS {
            return Err(format!(
                "{} was routed to although it is suspended ({})",
                route.relay, terms.sending
            ));
        }
        Ok(())
    }

    /// Law 4: the attempt before is over, and over in a way that lets another follow.
    fn route_one(&mut self, route: &RouteSet, seq: u32, told: &Told<'_>, terms: &SendingAccepted) -> Checked {
        let message = self.message_of(told, seq)?;
        if message.outcome.is_some() {
            return Err(format!("message {seq} is routed although it is {:?}", message.outcome));
        }
        if usize::from(route.attempt) != message.attempts.len() + 1 {
            return Err(format!(
                "attempt {} of message {seq} follows {}",
                route.attempt,
                message.attempts.len()
            ));
        }
        let at_least_once = terms.failover.at_least_once;
        if let Some(before) = message.newest() {
            let is_over = matches!(before.state, State::Refused | State::Undelivered)
                || (before.state == State::Routed && !before.is_in_doubt);
            if !is_over && !at_least_once {
                return Err(format!("law 4: message {seq} fails over from {:?}", before.state));
            }
            let class = match before.state {
                State::Refused | State::Undelivered => before.failure.unwrap_or(FailureClass::Unclassified),
                State::Routed => FailureClass::RelayFault,
                _ => FailureClass::Unknown,
            };
            let is_allowed = match route.channel == before.channel {
                true => may_change_relay(class, at_least_once),
                false => may_change_channel(class, at_least_once),
            };
            if !is_allowed {
                return Err(format!("message {seq} goes to {} after {class}", route.relay));
            }
            if route.attempt > terms.failover.attempts_max {
                return Err(format!("message {seq} has too many attempts"));
            }
        }
        message.attempts.push(AttemptState {
            relay: route.relay.clone(),
            channel: route.channel,
            state: State::Routed,
            intents: 0,
            is_in_doubt: false,
            receipt_by_ms: 0,
            not_before_ms: 0,
            failure: None,
            routed_at_ms: told.time().timestamp_millis(),
        });
        Ok(())
    }

    fn receipts(&mut self, recorded: &ReceiptsRecorded, told: &Told<'_>) -> Checked {
        for set in &recorded.sets {
            let state = match set.status {
                ReceiptStatus::Delivered => State::Delivered,
                ReceiptStatus::Undelivered => State::Undelivered,
            };
            for seq in &set.messages {
                let message = self.message_of(told, seq)?;
                let attempt = message.attempt(set.attempt).filter(|one| one.relay == recorded.relay);
                if attempt.is_none_or(|attempt| attempt.intents == 0) {
                    return Err(format!("a receipt for message {seq} from a relay that never had it"));
                }
                message.raise(set.attempt, state, set.class);
            }
        }
        Ok(())
    }

    fn finished(&mut self, finished: &MessagesFinished, told: &Told<'_>) -> Checked {
        let terms = self.terms_of(told)?;
        let is_cancelled = self.sending(terms.sending)?.cancelled.is_some();
        let now_ms = told.time().timestamp_millis();
        for seq in &finished.messages {
            let message = self.message_of(told, seq)?;
            let before = message.outcome;
            let newest = message.attempts.last().map(|attempt| (attempt.state, attempt.receipt_by_ms));
            let is_with_relay =
                matches!(newest, Some((State::Submitted | State::Unknown | State::Accepted, _)));
            let is_right = match finished.outcome {
                Outcome::Cancelled => is_cancelled && !is_with_relay,
                Outcome::Expired if finished.reason == "lifetime" => {
                    !is_with_relay && terms.expires_at <= told.time()
                }
                Outcome::Expired => newest.is_some_and(|(_, by_ms)| by_ms <= now_ms),
                Outcome::Refused => terms.class == MessageClass::Ad && !is_with_relay,
                Outcome::Undelivered => {
                    matches!(newest, Some((State::Refused | State::Undelivered, _)))
                }
                Outcome::Delivered => false,
            };
            let corrects = before == Some(Outcome::Expired) && finished.outcome == Outcome::Undelivered;
            if !is_right || (before.is_some() && !corrects) {
                return Err(format!(
                    "law 5: message {seq} ({before:?}, newest attempt {newest:?}) ends as {:?} ({})",
                    finished.outcome, finished.reason
                ));
            }
            if finished.outcome == Outcome::Expired
                && let Some(attempt) = message.attempts.last_mut()
                && matches!(attempt.state, State::Submitted | State::Unknown | State::Accepted)
            {
                attempt.state = State::Expired;
            }
            message.end(finished.outcome);
        }
        Ok(())
    }

    fn settled(&mut self, settled: &ParkedReceiptsSettled) -> Checked {
        self.given_up.extend(settled.given_up.iter().map(|one| one.reference.to_string()));
        let relay = self.relays.entry(settled.relay.clone()).or_default();
        relay.parked.retain(|(known, status)| !settled.settles(known, *status));
        Ok(())
    }
}
