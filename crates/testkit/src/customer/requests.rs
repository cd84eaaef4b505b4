//! What a customer sends: messages of all kinds, by a seed.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use super::{FROM_EMAIL, FROM_PHONE};
use crate::dice::Dice;

/// Most e-mails in a request: a mail server takes one message per call.
const EMAILS_MAX: u64 = 60;
/// Recipients that force something at a phone relay: the ends of 010-9900-00NN.
const FORCED: [u8; 36] = [
    10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 50, 51, 52, 53,
    54, 60, 60, 61, 62, 63, 64, 65, 70, 71,
];

/// How long a relay that says "not now" is tried again: once, after a minute.
const RETRY_SECONDS: u32 = 90;

/// What share of what is sent.
#[derive(Clone, Copy)]
pub struct Mix {
    /// Sizes of requests, each as likely as any other.
    pub sizes: &'static [u64],
    /// Requests out of a hundred that are advertisements.
    pub ads_per_cent: u64,
    /// Requests to many out of a hundred that have a recipient who forces something at the relay.
    pub forced_per_cent: u64,
}

/// A request to send, and whether to cancel the resulting sending.
#[derive(Clone)]
pub struct Request {
    /// Names it for ever.
    pub key: String,
    /// As JSON.
    pub body: Value,
    /// Recipients.
    pub messages: u64,
    /// Whether a failover from an unknown outcome was asked for, and with it a second delivery.
    pub at_least_once: bool,
    pub(super) is_cancelled: bool,
}

/// What a customer sends; kinds and sizes follow from a seed.
pub struct Requests {
    dice: Dice,
    mix: Mix,
    number: u64,
    recipient: u64,
}

impl Requests {
    /// The requests of this seed.
    #[must_use]
    pub fn new(seed: u64, mix: Mix) -> Self {
        Self { dice: Dice::new(seed), mix, number: 0, recipient: 0 }
    }

    /// The next one. Some are scheduled a little after `now`.
    pub fn next(&mut self, now: DateTime<Utc>) -> Request {
        self.number += 1;
        let size = *self.dice.pick(self.mix.sizes);
        let with_email = self.dice.per_cent(30);
        let at_least_once = size > 1 && self.dice.per_cent(15);
        let failover = json!({ "relays": true, "email": with_email, "at_least_once": at_least_once,
            "attempts_max": 4, "retry_seconds": RETRY_SECONDS });
        let mut body = json!({
            "class": if size == 1 { "otp" } else { "notice" }, "from": FROM_PHONE, "from_email": FROM_EMAIL,
            "text": "#{code} is what this is about", "variables": { "code": self.number.to_string() },
            "lifetime_seconds": 3_600, "failover": failover,
        });
        let by_email = self.dice.per_cent(20);
        let mut is_cancelled = self.dice.per_cent(4);
        if self.dice.per_cent(self.mix.ads_per_cent) {
            let night_consent = self.dice.per_cent(30);
            body["class"] = "ad".into();
            body["ad"] =
                json!({ "window": "hold", "night_consent": night_consent, "mark_automatically": true });
            // The request names a sender for e-mail, so it has to be an advertisement by e-mail as well.
            body["subject"] = "news about #{code}".into();
        } else if self.dice.per_cent(15) {
            body["subject"] = "all about #{code}".into();
            body["text"] = "a text that needs more room than a short message has ".repeat(3).into();
        }
        if self.dice.per_cent(20) {
            body["scheduled_at"] =
                json!(now + TimeDelta::milliseconds(self.dice.between(1_000, 6_000) as i64));
            is_cancelled |= self.dice.per_cent(40);
        }
        let size = if by_email { size.min(EMAILS_MAX) } else { size };
        body["recipients"] = self.recipients(size, by_email, with_email);
        let key = format!("request-{}", self.number);
        Request { key, body, messages: size, at_least_once, is_cancelled }
    }

    fn recipients(&mut self, count: u64, by_email: bool, with_email: bool) -> Value {
        let first = self.recipient;
        self.recipient += count;
        let recipient = |number: u64| {
            let phone = format!("0102{:07}", number % 10_000_000);
            match (by_email, with_email) {
                (true, _) => json!({ "to": format!("fan{number}@example.com") }),
                (false, true) => json!({ "to": phone, "email": format!("fan{number}@example.com") }),
                (false, false) => json!({ "to": phone }),
            }
        };
        let mut recipients: Vec<Value> = (first..first + count).map(recipient).collect();
        if count > 1 && self.dice.per_cent(self.mix.forced_per_cent) {
            let place = self.dice.between(0, count - 1) as usize;
            recipients[place]["to"] = match by_email {
                true => self.put_off(first + place as u64),
                false => format!("010990000{:02}", self.dice.pick(&FORCED)),
            }
            .into();
        }
        recipients.into()
    }

    /// Somebody whose mail server says "not now": mostly once, seldom always.
    fn put_off(&mut self, number: u64) -> String {
        match self.dice.per_cent(20) {
            true => "never-now@example.com".to_owned(),
            false => format!("greylisted-{number}@example.com"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_seed_gives_the_same_requests_of_every_kind_to_different_people() {
        let mix = Mix { sizes: &[1, 5, 100], ads_per_cent: 20, forced_per_cent: 50 };
        let now = DateTime::from_timestamp(1_772_366_400, 0).unwrap();
        let draw = || {
            let mut requests = Requests::new(4, mix);
            (0..300).map(|_| requests.next(now)).collect::<Vec<_>>()
        };
        let drawn = draw();
        assert!(drawn.iter().zip(draw()).all(|(one, other)| one.key == other.key && one.body == other.body));
        let mut kinds = BTreeSet::new();
        let mut people = BTreeSet::new();
        for Request { body, messages, is_cancelled, .. } in &drawn {
            let recipients = body["recipients"].as_array().unwrap();
            assert_eq!(recipients.len() as u64, *messages);
            for recipient in recipients {
                let to = recipient["to"].as_str().unwrap();
                let is_anybody = to.starts_with("0109900") || to.starts_with("never-now");
                assert!(is_anybody || people.insert(to.to_owned()), "{to} twice");
                kinds.extend(to.starts_with("greylisted").then(|| "greylisted".to_owned()));
                kinds.insert(if to.contains('@') { "e-mail" } else { "phone" }.to_owned());
                kinds.extend(to.starts_with("0109900").then(|| "forced".to_owned()));
            }
            kinds.insert(body["class"].as_str().unwrap().to_owned());
            let is_there = |key: &str| body.get(key).is_some().then(|| key.to_owned());
            kinds.extend(["scheduled_at", "subject", "ad"].into_iter().filter_map(is_there));
            kinds.extend(is_cancelled.then(|| "cancelled".to_owned()));
        }
        let all = [
            "ad",
            "cancelled",
            "e-mail",
            "forced",
            "greylisted",
            "notice",
            "otp",
            "phone",
            "scheduled_at",
            "subject",
        ];
        assert_eq!(kinds.iter().map(String::as_str).collect::<Vec<_>>(), all);
    }
}
