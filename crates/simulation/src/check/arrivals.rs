//! What reaches a relay: only what was intended, never an advertisement at night.

use chrono::{DateTime, Timelike, Utc};
use kite_domain::sending::MessageClass;
use kite_domain::text::MessageType;

use super::{Checked, Checker};
use crate::relays::Arrival;

/// Forbidden from 21:00 up to 08:00 in Seoul, which is UTC+9.
fn is_night(at: DateTime<Utc>) -> bool {
    let hour = (at.hour() + 9) % 24;
    !(8..21).contains(&hour)
}

impl Checker {
    /// A message came in at a relay.
    pub(crate) fn arrived(&self, arrival: &Arrival) -> Checked {
        let reference = arrival.message.reference;
        let relay = &arrival.relay;
        let sending = self.sendings.get(&reference.message.sending);
        let Some(terms) = sending.and_then(|sending| sending.terms.as_ref()) else {
            return Err(format!("{relay} was handed {reference} of a sending that is not sealed"));
        };
        let attempts = self.message(reference.message).map(|message| message.attempts.as_slice());
        let place = usize::from(reference.attempt).checked_sub(1);
        let attempt = place.and_then(|place| attempts?.get(place)).filter(|one| &one.relay == relay);
        let Some(attempt) = attempt.filter(|attempt| attempt.intents > 0) else {
            return Err(format!("{relay} was handed {reference} and no intent is in the log"));
        };
        if attempt.channel != arrival.message.message_type {
            return Err(format!("{relay} was handed {reference} as {}", arrival.message.message_type));
        }
        let recipient = sending.and_then(|sending| sending.recipients.get(&reference.message.seq));
        let to = recipient.map(|one| match attempt.channel {
            MessageType::Email if !one.to.contains('@') => one.email.clone().unwrap_or_default(),
            _ => one.to.clone(),
        });
        if to.as_deref() != Some(arrival.message.to.as_str()) {
            return Err(format!("{relay} was handed {reference} to {}, not {to:?}", arrival.message.to));
        }
        let has_consent = terms.ad.as_ref().is_some_and(|ad| ad.night_consent);
        let at = DateTime::from_timestamp_millis(arrival.at_ms).unwrap_or_default();
        let is_bound =
            terms.class == MessageClass::Ad && !has_consent && attempt.channel != MessageType::Email;
        if is_bound && is_night(at) {
            return Err(format!("law 9: {relay} was handed the advertisement {reference} at night ({at})"));
        }
        Ok(())
    }
}
