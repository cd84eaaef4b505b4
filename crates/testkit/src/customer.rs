//! A customer who sends messages of all kinds under idempotency keys, and repeats a request until it has an answer.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::carriers::{MAIL_RELAY, PHONE_RELAYS};
use crate::dice::Dice;

/// The tenant's sending number.
pub const FROM_PHONE: &str = "0212345678";
/// The tenant's sending address.
pub const FROM_EMAIL: &str = "news@acme.example";
/// The recipient whose messages are delivered and never reported, by docs/relay-protocol.md.
pub const NEVER_REPORTED: &str = "01099000060";

/// How long a request may go without an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(180);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(50);
/// Most e-mails in a request: a mail server takes one message a call.
const EMAILS_MAX: u64 = 60;
/// Recipients that force something at a phone relay: the ends of 010-9900-00NN.
const FORCED: [u8; 36] = [
    10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 50, 51, 52, 53,
    54, 60, 60, 61, 62, 63, 64, 65, 70, 71,
];

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

/// A request to send, and whether to cancel what comes of it.
pub struct Request {
    /// Names it for ever.
    pub key: String,
    /// As JSON.
    pub body: Value,
    /// Recipients.
    pub messages: u64,
    /// Whether a failover from an unknown outcome was asked for, and with it a second delivery.
    pub at_least_once: bool,
    is_cancelled: bool,
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
        let failover =
            json!({ "relays": true, "email": with_email, "at_least_once": at_least_once, "attempts_max": 4 });
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
        if count > 1 && !by_email && self.dice.per_cent(self.mix.forced_per_cent) {
            let place = self.dice.between(0, count - 1) as usize;
            recipients[place]["to"] = format!("010990000{:02}", self.dice.pick(&FORCED)).into();
        }
        recipients.into()
    }
}

/// Who sends.
#[derive(Clone)]
pub struct Customer {
    /// The client that is used for every call.
    pub http: Client,
    /// Kite's base URL.
    pub kite: String,
    /// The tenant's key.
    pub key: String,
}

impl Customer {
    /// Sets up relays, a tenant with its key, its senders and its policies.
    ///
    /// # Errors
    /// When anything is not answered as it should be.
    pub async fn set_up(
        http: Client,
        kite: String,
        admin_key: &str,
        profiles: Vec<(&'static str, Value)>,
    ) -> anyhow::Result<Self> {
        let admin = Self { http, kite, key: admin_key.to_owned() };
        for (id, profile) in profiles {
            admin.call(Method::PUT, &format!("/v1/admin/relays/{id}"), &profile).await?;
        }
        admin.call(Method::POST, "/v1/admin/tenants", &json!({ "tenant": "acme", "name": "Acme" })).await?;
        let keys = "/v1/admin/tenants/acme/keys";
        let issued = admin.call(Method::POST, keys, &json!({ "label": "test" })).await?;
        let customer = Self { key: issued["key"].as_str().context("a key")?.to_owned(), ..admin };
        let phones: Vec<&str> = PHONE_RELAYS.iter().map(|(id, _)| *id).collect();
        for (address, relays) in [(FROM_PHONE, &phones[..]), (FROM_EMAIL, &[MAIL_RELAY])] {
            let sender = json!({
                "address": address, "relays": relays, "brand": "카이트", "refusal_number": "080-123-4567",
            });
            customer.call(Method::POST, "/v1/senders", &sender).await?;
        }
        let by_mail = [(MAIL_RELAY, 10_000)];
        for (channel, shares) in
            [("sms", &PHONE_RELAYS[..]), ("lms", &PHONE_RELAYS[..]), ("email", &by_mail[..])]
        {
            let weights: Vec<Value> =
                shares.iter().map(|(relay, weight)| json!({ "relay": relay, "weight": weight })).collect();
            let policy = json!({ "objective": "ratio", "weights": weights });
            customer.call(Method::PUT, &format!("/v1/policies/{channel}"), &policy).await?;
        }
        Ok(customer)
    }

    /// Sends; answers the sending's id, or `None` when the time of day or the time it was scheduled for stands against it.
    ///
    /// # Errors
    /// When it is refused, or accepted other than as a whole, or there is no answer for minutes.
    pub async fn send(&self, request: &Request) -> anyhow::Result<Option<String>> {
        let (status, answer) = self.insist("/v1/sendings", Some(&request.key), &request.body).await?;
        // At night an advertisement that would expire while it is held is not taken either.
        let by_the_clock = ["scheduled_in_the_past", "lifetime_ends_in_window"];
        let reason = answer.to_string();
        if status == StatusCode::UNPROCESSABLE_ENTITY && by_the_clock.iter().any(|code| reason.contains(code))
        {
            return Ok(None);
        }
        ensure!(status == StatusCode::ACCEPTED, "POST /v1/sendings answered {status}: {answer}");
        let id = answer["id"].as_str().context("an id")?.to_owned();
        ensure!(answer["accepted"] == request.messages, "{} messages: {answer}", request.messages);
        if request.is_cancelled {
            let path = format!("/v1/sendings/{id}/cancel");
            let (status, answer) = self.insist(&path, None, &json!({ "reason": "changed my mind" })).await?;
            // It may be over, also by an earlier try whose answer was lost.
            let is_over = status == StatusCode::CONFLICT;
            ensure!(status.is_success() || is_over, "{path} answered {status}: {answer}");
        }
        Ok(Some(id))
    }

    /// Repeats the request until there is an answer that is not "later".
    async fn insist(
        &self,
        path: &str,
        key: Option<&str>,
        body: &Value,
    ) -> anyhow::Result<(StatusCode, Value)> {
        let deadline = Instant::now() + ANSWER_WITHIN;
        while Instant::now() < deadline {
            if let Some(answer) = self.try_once(path, key, body).await {
                return Ok(answer);
            }
            tokio::time::sleep_until(Instant::now() + PAUSE).await;
        }
        bail!("{path} was never answered")
    }

    async fn try_once(&self, path: &str, key: Option<&str>, body: &Value) -> Option<(StatusCode, Value)> {
        let mut request = self.http.post(format!("{}{path}", self.kite)).bearer_auth(&self.key).json(body);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        // No answer: the process is down, or died in the middle.
        let response = request.send().await.ok()?;
        let status = response.status();
        let text = response.text().await.ok()?;
        let is_later = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
        // Two requests under one key at a time: the one whose caller gave up is still being worked on.
        let is_in_progress = status == StatusCode::CONFLICT && key.is_some();
        let answer = serde_json::from_str(&text).unwrap_or(Value::String(text));
        (!is_later && !is_in_progress).then_some((status, answer))
    }

    /// One call that has to succeed.
    ///
    /// # Errors
    /// When it does not.
    pub async fn call(&self, method: Method, path: &str, body: &Value) -> anyhow::Result<Value> {
        let url = format!("{}{path}", self.kite);
        let response = self.http.request(method, url).bearer_auth(&self.key).json(body).send().await?;
        read(path, response).await
    }

    /// Reads something.
    ///
    /// # Errors
    /// When the answer is not 2xx.
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let url = format!("{}{path}", self.kite);
        read(path, self.http.get(url).bearer_auth(&self.key).send().await?).await
    }
}

async fn read(path: &str, response: reqwest::Response) -> anyhow::Result<Value> {
    let status = response.status();
    let text = response.text().await?;
    ensure!(status.is_success(), "{path} answered {status}: {text}");
    Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
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
                assert!(to.starts_with("0109900") || people.insert(to.to_owned()), "{to} twice");
                kinds.insert(if to.contains('@') { "e-mail" } else { "phone" }.to_owned());
                kinds.extend(to.starts_with("0109900").then(|| "forced".to_owned()));
            }
            kinds.insert(body["class"].as_str().unwrap().to_owned());
            let is_there = |key: &str| body.get(key).is_some().then(|| key.to_owned());
            kinds.extend(["scheduled_at", "subject", "ad"].into_iter().filter_map(is_there));
            kinds.extend(is_cancelled.then(|| "cancelled".to_owned()));
        }
        let all =
            ["ad", "cancelled", "e-mail", "forced", "notice", "otp", "phone", "scheduled_at", "subject"];
        assert_eq!(kinds.iter().map(String::as_str).collect::<Vec<_>>(), all);
    }
}
