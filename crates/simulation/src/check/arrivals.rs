//! What reaches a relay: only what was intended, once per intent, with the sending's content, and never an
//! advertisement at night.

use chrono::DateTime;
use kite_domain::ids::AttemptReference;
use kite_domain::lot::Recipient;
use kite_domain::sending::{MessageClass, SendingAccepted};
use kite_domain::text::MessageType;
use kite_relay::client::OutgoingMessage;

use super::ends::{is_bound, is_night};
use super::message::AttemptState;
use super::{Checked, Checker};
use crate::relays::{Arrival, Call};

impl Checker {
    /// A message came in at a relay.
    pub(crate) fn arrived(&mut self, arrival: &Arrival) -> Checked {
        let reference = arrival.message.reference;
        let relay = &arrival.relay;
        let sending = self.sendings.get(&reference.message.sending);
        let Some(terms) = sending.and_then(|sending| sending.terms.clone()) else {
            return Err(format!("{relay} was handed {reference} of a sending that is not sealed"));
        };
        let recipient = sending.and_then(|sending| sending.recipients.get(&reference.message.seq)).cloned();
        self.intended(arrival)?;
        self.taken_once(arrival)?;
        let (said, recipient) = (&arrival.message, recipient.as_ref());
        says_it(said, &terms, recipient).map_err(|what| format!("{relay} was handed {reference} {what}"))?;
        let at = DateTime::from_timestamp_millis(arrival.at_ms).unwrap_or_default();
        if is_bound(&terms, said.message_type) && is_night(at) {
            return Err(format!("law 9: {relay} was handed the advertisement {reference} at night ({at})"));
        }
        Ok(())
    }

    /// Laws 4 and 9: nobody calls when the time of the intent is over. The caller's clock may have been moved between
    /// the intent and the call.
    pub(crate) fn called(&mut self, call: &Call) -> Checked {
        self.is_within_pace(call)?;
        let off_ms = 2 * self.clocks_off_ms;
        for reference in &call.references {
            let Some(attempt) = self.attempt_mut(*reference) else { continue };
            let late_ms = call.at_ms - attempt.answer_by_ms - off_ms;
            if late_ms > 0 {
                let relay = &call.relay;
                return Err(format!("law 4: {relay} is called with {reference} {late_ms} ms after its time"));
            }
        }
        Ok(())
    }

    /// Every call is to an intent in the log, and no intent is called twice.
    fn intended(&mut self, arrival: &Arrival) -> Checked {
        let (reference, relay) = (arrival.message.reference, &arrival.relay);
        let attempt = self.attempt_mut(reference).filter(|one| &one.relay == relay && one.intents > 0);
        let Some(attempt) = attempt else {
            return Err(format!("{relay} was handed {reference} and no intent is in the log"));
        };
        attempt.arrivals += 1;
        if attempt.arrivals > attempt.intents {
            let (arrivals, intents) = (attempt.arrivals, attempt.intents);
            return Err(format!(
                "law 4: {relay} was handed {reference} {arrivals} times, with {intents} intents"
            ));
        }
        if attempt.channel != arrival.message.message_type {
            return Err(format!("{relay} was handed {reference} as {}", arrival.message.message_type));
        }
        Ok(())
    }

    fn attempt_mut(&mut self, reference: AttemptReference) -> Option<&mut AttemptState> {
        let messages = &mut self.sendings.get_mut(&reference.message.sending)?.messages;
        messages.get_mut(&reference.message.seq)?.attempt(reference.attempt)
    }

    /// Law 4: a relay that does not drop repeats gets none once it has the message.
    fn taken_once(&self, arrival: &Arrival) -> Checked {
        let (reference, relay) = (arrival.message.reference, &arrival.relay);
        let ledger = self.ledgers.as_ref().and_then(|ledgers| ledgers.get(relay));
        match ledger.and_then(|ledger| ledger.entry(reference)) {
            Some(entry) if entry.taken > 1 => Err(format!("law 4: {relay} took {reference} twice")),
            _ => Ok(()),
        }
    }
}

/// The message says what the sending says, in its name, to the recipient.
fn says_it(message: &OutgoingMessage, terms: &SendingAccepted, recipient: Option<&Recipient>) -> Checked {
    let content = &terms.personal;
    let is_email = message.message_type == MessageType::Email;
    let to = recipient.and_then(|one| match is_email && !one.to.contains('@') {
        true => one.email.as_ref(),
        false => Some(&one.to),
    });
    if to != Some(&message.to) {
        return Err(format!("to {}, not {to:?}", message.to));
    }
    let from = if is_email { &terms.from_email } else { &terms.from_phone };
    if from.as_ref() != Some(&message.from) {
        return Err(format!("from {}, not {from:?}", message.from));
    }
    if *message.text != *content.text {
        return Err(format!("saying {:?}, not {:?}", message.text, content.text));
    }
    let given = content.subject.as_deref().or_else(|| content.text.lines().next().filter(|_| is_email));
    let subject = given.filter(|_| message.message_type != MessageType::Sms);
    if message.subject.as_deref() != subject {
        return Err(format!("under {:?}, not {subject:?}", message.subject));
    }
    if terms.class != MessageClass::Ad {
        return Ok(());
    }
    let is_marked = match is_email {
        true => message.subject.as_deref().is_some_and(|subject| subject.starts_with("(광고)")),
        false => {
            message.text.starts_with("(광고)카이트") && message.text.ends_with("무료수신거부 0801234567")
        }
    };
    if is_marked { Ok(()) } else { Err(format!("as no advertisement: {:?}", message.text)) }
}
