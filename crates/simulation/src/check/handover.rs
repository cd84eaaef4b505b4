//! Hand-overs and their answers: only what is allowed is handed over, and every answer belongs to an intent.

use chrono::{DateTime, TimeDelta, Utc};
use kite_domain::lot::{DeferredSet, MessagesSubmitted, RefusedSet, RelayResponded, UnknownSet};
use kite_domain::relay::{BreakerPhase, ReceiptMode, RelayProfile};
use kite_domain::sending::{MessageClass, SendingAccepted};
use kite_domain::slug::RelayId;
use kite_domain::text::MessageType;

use super::message::{MessageState, NEVER_MS, State};
use super::noted::notice;
use super::{Checked, Checker, RelayState, Told};

/// The longest pause before a relay is asked again.
const INQUIRY_MAX: TimeDelta = TimeDelta::hours(1);
/// A question of a higher round comes at least this long after the last call or question: for the first round, and so
/// on.
const PAUSES_MS: [i64; 3] = [1_000, 5_000, 30_000];
/// A call may come in this long after the caller gave up.
const ON_ITS_WAY_MS: i64 = 30_000;
/// The pauses after the third question: this many of this length, by class; then these.
const LATER_MS: [i64; 3] = [300_000, 1_800_000, 3_600_000];

fn pause_ms(round: u8, class: MessageClass) -> i64 {
    let (times, urgent_ms) = match class {
        MessageClass::Otp => (30, 5_000),
        MessageClass::Notice => (10, 30_000),
        MessageClass::Ad => (0, 0),
    };
    let asked = usize::from(round) - 1;
    match (PAUSES_MS.get(asked), asked.saturating_sub(PAUSES_MS.len())) {
        (Some(pause_ms), _) => *pause_ms,
        (None, late) if late < times => urgent_ms,
        (None, late) => LATER_MS[(late - times).min(LATER_MS.len() - 1)],
    }
}
/// From this round on, nothing is on its way any more.
const LATE_ROUND: u8 = 3;
/// How often a relay is called with a message that it does not take: less and less often,
const CALLS_AT_FIRST_MAX: i64 = 200;
/// except for passwords, whose relay is tried more often the less time they have.
const CALLS_FOR_A_PASSWORD_MAX: i64 = 300;
const CALLS_AN_HOUR_MAX: i64 = 60;

impl Checker {
    pub(super) fn submitted(&mut self, submitted: &MessagesSubmitted, told: &Told<'_>) -> Checked {
        let terms = self.terms_of(told)?;
        let time = told.time();
        if terms.expires_at <= time {
            return Err("handed over after the end of its lifetime".to_owned());
        }
        if self.sending(terms.sending)?.cancelled.is_some_and(|(at, _)| self.was_there(at))
            || self.books.is_cancelled_before(terms.sending, self.known_by(time))
        {
            return Err("handed over although its sending was cancelled".to_owned());
        }
        if self.is_known_to_be_paused(terms.sending, time)? {
            return Err("handed over although its sending is paused".to_owned());
        }
        self.is_open(submitted, time)?;
        let can_repeat = self.relays.get(&submitted.relay).is_some_and(RelayState::can_be_asked);
        for seq in &submitted.messages {
            if terms.class == MessageClass::Ad {
                self.refuses_nobody(seq, &terms, time)?;
            }
            self.is_sent_with_leave(seq, &submitted.relay, &terms, told)?;
            self.hand_over(seq, submitted, can_repeat, told)?;
            self.is_due_back(seq, submitted, &terms, told)?;
        }
        Ok(())
    }

    /// Only a sender that is approved for this relay at this time sends, whatever it was when the sending was accepted.
    fn is_sent_with_leave(
        &self,
        seq: u32,
        relay: &RelayId,
        terms: &SendingAccepted,
        told: &Told<'_>,
    ) -> Checked {
        let message = self.message_at(told, seq)?;
        let channel = message.newest().map_or(message.channel, |attempt| attempt.channel);
        match self.senders.may_send(terms, channel, Some(relay), told.time()) {
            true => Ok(()),
            false => {
                Err(format!("message {seq} is handed to {relay} with a sender that is not approved there"))
            }
        }
    }

    /// A relay that was taken out of use, or is tripped, is handed nothing.
    fn is_open(&self, submitted: &MessagesSubmitted, at: DateTime<Utc>) -> Checked {
        let is_open = self.relays.get(&submitted.relay).is_some_and(|relay| {
            relay.is_suspended.may(at, |is_suspended| !is_suspended)
                && relay.is_unattended.may(at, |is_unattended| !is_unattended)
                && relay.phase.may(at, |phase| *phase != BreakerPhase::Tripped)
        });
        if is_open { Ok(()) } else { Err(format!("{} is closed and is handed messages", submitted.relay)) }
    }

    /// The receipt is waited for as long as the sending says, or else the relay.
    fn is_due_back(
        &self,
        seq: u32,
        submitted: &MessagesSubmitted,
        terms: &SendingAccepted,
        told: &Told<'_>,
    ) -> Checked {
        let channel = self.message_at(told, seq)?.newest().map(|attempt| attempt.channel);
        let deadline_s = |profile: &Option<RelayProfile>, channel: MessageType| {
            let terms = profile.as_ref().and_then(|profile| profile.channels.get(&channel));
            terms.map(|terms| terms.receipt_deadline_s)
        };
        let agreed_s = channel.and_then(|channel| {
            let relay = self.relays.get(&submitted.relay)?;
            deadline_s(relay.profile.now(), channel)
        });
        let Some(wait_s) = terms.failover.wait_s.or(agreed_s) else {
            return Err(format!("{} does not offer {channel:?}", submitted.relay));
        };
        // Its process stood still before it was written: nobody is called, so no receipt is waited for.
        if submitted.answer_by.is_some_and(|by| by < told.time()) {
            return Ok(());
        }
        // It is counted from when the hand-over was decided, a moment before.
        let latest = told.time() + TimeDelta::seconds(wait_s.into());
        let clocks_off = TimeDelta::milliseconds(2 * self.clocks_off_ms);
        if (latest - notice()..=latest + clocks_off).contains(&submitted.receipt_by) {
            return Ok(());
        }
        Err(format!("the receipt of message {seq} is due at {}, not {latest}", submitted.receipt_by))
    }

    fn hand_over(
        &mut self,
        seq: u32,
        submitted: &MessagesSubmitted,
        can_repeat: bool,
        told: &Told<'_>,
    ) -> Checked {
        let at_ms = told.time().timestamp_millis();
        let latest_ms = at_ms + 2 * self.clocks_off_ms;
        let is_back = self.is_back(&submitted.relay, told.time());
        let processes = 1 + i64::from(self.others);
        let calls_at_first = match self.terms_of(told)?.class {
            MessageClass::Otp => CALLS_FOR_A_PASSWORD_MAX,
            MessageClass::Notice | MessageClass::Ad => CALLS_AT_FIRST_MAX,
        };
        let message = self.message_mut(told, seq)?;
        if message.outcome.is_some() {
            return Err(format!("message {seq} is handed over although it is {:?}", message.outcome));
        }
        let (newest, held_until_ms) = (message.attempts_made(), message.held_until_ms);
        let Some(attempt) = message.attempts.last_mut() else {
            return Err(format!("message {seq} is handed over without a route"));
        };
        if newest != submitted.attempt || attempt.relay != submitted.relay {
            return Err(format!("law 4: message {seq} is handed over for another attempt than its newest"));
        }
        match attempt.state {
            State::Routed => {}
            State::Unknown if can_repeat => attempt.is_in_doubt = true,
            other => {
                let relay = &attempt.relay;
                return Err(format!("law 4: message {seq} is handed over to {relay} from {other:?}"));
            }
        }
        // A relay that drops repeats may be handed it again as soon as it is back after a silence.
        let may_be_early = attempt.state == State::Unknown && is_back;
        if held_until_ms > latest_ms || (attempt.not_before_ms > latest_ms && !may_be_early) {
            return Err(format!("message {seq} is handed over to {} before its time", attempt.relay));
        }
        attempt.state = State::Submitted;
        attempt.intents += 1;
        if attempt.intents == 1 {
            attempt.first_submitted_at_ms = at_ms;
        }
        let hours = (at_ms - attempt.first_submitted_at_ms) / 3_600_000;
        // Each process finds out for itself how long a relay wants to be left alone.
        let calls_max = (calls_at_first + CALLS_AN_HOUR_MAX * hours) * processes;
        if i64::from(attempt.intents) > calls_max {
            return Err(format!("message {seq} is handed over to {} time after time", attempt.relay));
        }
        attempt.submitted_at_ms = at_ms;
        attempt.answer_by_ms = submitted.answer_by.map_or(0, |by| by.timestamp_millis());
        attempt.receipt_by_ms = submitted.receipt_by.timestamp_millis();
        attempt.not_before_ms = 0;
        Ok(())
    }

    fn refuses_nobody(&self, seq: u32, terms: &SendingAccepted, time: DateTime<Utc>) -> Checked {
        let recipient = self.sending(terms.sending)?.recipients.get(&seq);
        for address in recipient.into_iter().flat_map(|one| std::iter::once(&one.to).chain(&one.email)) {
            let began_at = if self.is_shared { 0 } else { self.process_began_at };
            if self.people.is_known(&terms.tenant, address, time, began_at) {
                return Err(format!("law 9: an advertisement for {address}, who refused (message {seq})"));
            }
        }
        Ok(())
    }

    pub(super) fn responded(&mut self, responded: &RelayResponded, told: &Told<'_>) -> Checked {
        let number = responded.attempt;
        let took_something = responded.accepted.is_some()
            || !responded.refused.is_empty()
            || !responded.refused_for_now.is_empty();
        let state = self.relays.entry(responded.relay.clone()).or_default();
        state.answered(took_something, told.time().timestamp_millis());
        let relay = self.relays.get(&responded.relay).and_then(RelayState::profile);
        let is_final_relay = relay.is_some_and(|profile| profile.receipts == ReceiptMode::None);
        if let Some(accepted) = &responded.accepted {
            if accepted.is_final != is_final_relay {
                return Err(format!("accepted is final: {}, at {}", accepted.is_final, responded.relay));
            }
            let state = if accepted.is_final { State::Delivered } else { State::Accepted };
            for seq in &accepted.messages {
                self.handed_over(told, seq, responded)?.raise(number, state, None);
                self.was_taken(told, seq, responded)?;
            }
        }
        for set in &responded.refused {
            self.refused(set, responded, told)?;
        }
        if let Some(unknown) = &responded.unknown {
            self.unknown(unknown, responded, told)?;
        }
        if let Some(deferred) = &responded.deferred {
            self.deferred(deferred, responded, told)?;
        }
        for set in &responded.refused_for_now {
            self.refused_for_now(set, responded, told)?;
        }
        Ok(())
    }

    fn refused(&mut self, set: &RefusedSet, responded: &RelayResponded, told: &Told<'_>) -> Checked {
        let class = self.class_told(&responded.relay, &set.code);
        if class != set.class {
            return Err(format!("{} of {} is taken for {}", set.code, responded.relay, set.class));
        }
        for seq in &set.messages {
            let is_put_off = self.put_off_with(told, seq, responded)?.as_deref() == Some(set.code.as_str());
            if is_put_off {
                self.has_no_time_left(seq, responded, told)?;
            }
            let failure = Some((set.code.clone(), class));
            let message = self.handed_over(told, seq, responded)?;
            let attempt = message.attempt(responded.attempt);
            if attempt
                .is_some_and(|one| one.state <= State::Unknown && one.is_in_doubt && one.round < LATE_ROUND)
            {
                return Err(format!(
                    "law 4: message {seq} is refused, and an earlier call may still come in"
                ));
            }
            message.raise(responded.attempt, State::Refused, failure);
            // Where more is known, a second call may have been refused for having been the second.
            if message.attempt(responded.attempt).is_some_and(|attempt| attempt.state == State::Refused) {
                if !is_put_off {
                    self.was_refused(told, seq, responded, &set.code)?;
                }
                self.nothing_is_on_its_way(told, seq, responded)?;
            }
        }
        Ok(())
    }

    fn unknown(&mut self, set: &UnknownSet, responded: &RelayResponded, told: &Told<'_>) -> Checked {
        let at_ms = told.time().timestamp_millis();
        let inquire_ms = set.inquire_at.map_or(NEVER_MS, |at| at.timestamp_millis());
        if set.inquire_at.is_some_and(|at| at > told.time() + INQUIRY_MAX + notice()) {
            return Err(format!("{} is asked only at {:?}", responded.relay, set.inquire_at));
        }
        let class = self.terms_of(told)?.class;
        let held_up_ms = self.held_up.num_milliseconds();
        let latest_ms = at_ms + 2 * self.clocks_off_ms;
        for seq in &set.messages {
            self.is_time_over(seq, set, responded, told)?;
            if set.inquire_at.is_none() {
                self.may_be_left_alone(seq, responded, told)?;
            }
            let message = self.handed_over(told, seq, responded)?;
            let attempt = message.attempt(responded.attempt);
            if let Some(attempt) = attempt.filter(|one| one.state <= State::Unknown) {
                // The same event again: it was not known whether the first was in the log.
                let is_repeat = attempt.not_before_ms == inquire_ms;
                // What was answered before a process stood still is recorded after it.
                let recorded_ms = latest_ms + held_up_ms;
                let is_early = attempt.not_before_ms != NEVER_MS && attempt.not_before_ms > recorded_ms;
                let is_asked = set.inquire_at.is_some();
                if attempt.state == State::Unknown && is_early && !is_repeat && is_asked {
                    return Err(format!("{} is asked about message {seq} before its time", responded.relay));
                }
                if set.inquire_at.is_some() && set.round > attempt.round {
                    let last_ms = match attempt.not_before_ms {
                        NEVER_MS => attempt.submitted_at_ms,
                        asked_ms => attempt.submitted_at_ms.max(asked_ms),
                    };
                    // What is believed from the third question on has to be true of the last call, too.
                    let of_call_ms = if set.round >= LATE_ROUND { ON_ITS_WAY_MS } else { 0 };
                    let earliest_ms =
                        (last_ms + pause_ms(set.round, class)).max(attempt.submitted_at_ms + of_call_ms);
                    if inquire_ms < earliest_ms {
                        return Err(format!(
                            "law 4: question {} about message {seq} comes too early",
                            set.round
                        ));
                    }
                }
                attempt.round = set.round;
                attempt.state = State::Unknown;
                attempt.not_before_ms = inquire_ms;
            }
        }
        Ok(())
    }

    /// A relay that can be asked is asked. If it can only be handed the message again, that may be forbidden.
    fn may_be_left_alone(&self, seq: u32, responded: &RelayResponded, told: &Told<'_>) -> Checked {
        let relay = self.relays.get(&responded.relay);
        if !relay.is_some_and(RelayState::can_be_asked) {
            return Ok(());
        }
        let answers = relay.and_then(RelayState::profile).is_some_and(|profile| profile.answers_status);
        let terms = self.terms_of(told)?;
        let sending = self.sending(terms.sending)?;
        let message = self.message_at(told, seq)?;
        let channel = message.newest().map_or(message.channel, |attempt| attempt.channel);
        let is_forbidden = sending.cancelled.is_some()
            || terms.expires_at <= told.time()
            || terms.class == MessageClass::Ad
            || !self.senders.must_send(&terms, channel, &responded.relay, told.time());
        let attempt = usize::from(responded.attempt).checked_sub(1).and_then(|at| message.attempts.get(at));
        let was_unknown = attempt.is_some_and(|attempt| attempt.state == State::Unknown);
        // What is known by now needs no question.
        let is_known = attempt.is_some_and(|attempt| attempt.state > State::Unknown);
        // A third call would be told what the second was told.
        let is_second = attempt.is_some_and(|one| one.is_in_doubt && one.state == State::Submitted);
        let is_told_so = responded.unknown.as_ref().is_some_and(|set| set.duplicate_code.is_some());
        let is_duplicate = is_told_so && is_second && self.says_duplicate(told, seq, responded)?;
        match is_known || (!answers && (was_unknown && is_forbidden || is_duplicate)) {
            true => Ok(()),
            false => Err(format!("{} can be asked about message {seq} and never is", responded.relay)),
        }
    }

    fn deferred(&mut self, set: &DeferredSet, responded: &RelayResponded, told: &Told<'_>) -> Checked {
        for seq in &set.messages {
            let message = self.handed_over(told, seq, responded)?;
            let attempt = message.attempt(responded.attempt);
            let Some(attempt) = attempt.filter(|one| one.state <= State::Unknown) else { continue };
            // Asked about, the relay says for certain; to a second call it only says that it did not take that one.
            if attempt.is_in_doubt && attempt.state == State::Submitted {
                return Err(format!("law 4: message {seq} is as new although an answer was lost"));
            }
            if attempt.state == State::Unknown && attempt.round < LATE_ROUND {
                return Err(format!("law 4: message {seq} is as new, and a call may still come in"));
            }
            attempt.state = State::Routed;
            attempt.is_in_doubt = false;
            attempt.round = 0;
            attempt.not_before_ms = set.until.timestamp_millis();
            self.was_not_taken(told, seq, responded)?;
            self.nothing_is_on_its_way(told, seq, responded)?;
        }
        Ok(())
    }

    pub(super) fn handed_over(
        &mut self,
        told: &Told<'_>,
        seq: u32,
        responded: &RelayResponded,
    ) -> Checked<&mut MessageState> {
        let message = self.message_mut(told, seq)?;
        let attempt = message.attempt(responded.attempt).filter(|one| one.relay == responded.relay);
        match attempt.map(|attempt| attempt.intents) {
            None => Err(format!("a response of {} for an attempt that it never had", responded.relay)),
            Some(0) => Err(format!("a response of {} without an intent", responded.relay)),
            Some(_) => Ok(message),
        }
    }
}
