//! A customer who sends messages of all kinds under idempotency keys, and repeats a request until it has an answer.

mod requests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::oracle::{Cancel, End, Oracle};
use crate::relays::{MAIL_RELAY, PHONE_RELAYS};
use crate::senders::{approval, approval_path};
pub use requests::{Mix, Request, Requests};

/// The tenant's sending number.
pub const FROM_PHONE: &str = "0212345678";
/// The tenant's sending address.
pub const FROM_EMAIL: &str = "news@acme.example";
/// The recipient whose messages are delivered and never reported, by docs/relay-sim.md.
pub const NEVER_REPORTED: &str = "01099000060";

/// How long a request may go without an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(180);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(50);

/// A sending that got a 202.
#[derive(Debug, Clone)]
pub struct Sent {
    /// Its id.
    pub id: String,
    /// Recipients.
    pub messages: u64,
    /// Whether a second delivery was agreed to.
    pub at_least_once: bool,
    /// What became of the wish to cancel it.
    pub cancel: Cancel,
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
    /// Answers that said "too much" (429); the requests were sent again.
    pub turned_away: Arc<AtomicU64>,
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
        let admin = Self { http, kite, key: admin_key.to_owned(), turned_away: Arc::default() };
        for (id, profile) in profiles {
            admin.call(Method::PUT, &format!("/v1/admin/relays/{id}"), &profile).await?;
        }
        admin.call(Method::POST, "/v1/admin/tenants", &json!({ "tenant": "acme", "name": "Acme" })).await?;
        let keys = "/v1/admin/tenants/acme/keys";
        let issued = admin.call(Method::POST, keys, &json!({ "label": "test" })).await?;
        let key = issued["key"].as_str().context("a key")?.to_owned();
        let customer = Self { key, ..admin.clone() };
        let phones: Vec<&str> = PHONE_RELAYS.iter().map(|(id, _)| *id).collect();
        for (address, relays) in [(FROM_PHONE, &phones[..]), (FROM_EMAIL, &[MAIL_RELAY])] {
            let sender = json!({
                "address": address, "relays": relays, "brand": "카이트", "refusal_number": "080-123-4567",
            });
            customer.call(Method::POST, "/v1/senders", &sender).await?;
            admin.call(Method::POST, &approval_path("acme", address), &approval(relays)).await?;
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

    /// Sends; returns `None` if the time of day, or the time that it was scheduled for, does not allow it.
    ///
    /// # Errors
    /// When it is refused, or not accepted as a whole, or there is no answer for minutes.
    pub async fn send(&self, request: &Request) -> anyhow::Result<Option<Sent>> {
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
        let cancel = if request.is_cancelled { self.cancel(&id).await? } else { Cancel::NotAsked };
        let Request { messages, at_least_once, .. } = *request;
        Ok(Some(Sent { id, messages, at_least_once, cancel }))
    }

    async fn cancel(&self, id: &str) -> anyhow::Result<Cancel> {
        let path = format!("/v1/sendings/{id}/cancel");
        let (status, answer) = self.insist(&path, None, &json!({ "reason": "changed my mind" })).await?;
        match status {
            // It may be over, also by an earlier try whose answer was lost.
            StatusCode::CONFLICT => Ok(Cancel::Asked),
            status if status.is_success() => Ok(Cancel::Acknowledged),
            status => bail!("{path} answered {status}: {answer}"),
        }
    }

    /// Law 6: repeats an answered request. The same key and body give the same sending, the same key with another
    /// body is refused.
    ///
    /// # Errors
    /// When that is not so.
    pub async fn repeat(&self, request: &Request, id: &str) -> anyhow::Result<()> {
        let path = "/v1/sendings";
        let (status, answer) = self.insist(path, Some(&request.key), &request.body).await?;
        ensure!(
            status == StatusCode::ACCEPTED && answer["id"] == *id,
            "{} was answered with {id}, and then with {status}: {answer}",
            request.key
        );
        let mut other = request.body.clone();
        other["text"] = "something else".into();
        let (status, answer) = self.insist(path, Some(&request.key), &other).await?;
        ensure!(
            status == StatusCode::UNPROCESSABLE_ENTITY
                && answer.to_string().contains("idempotency-key-reused"),
            "{} with another body was answered with {status}: {answer}",
            request.key
        );
        Ok(())
    }

    /// The end of every message of a sending, by the API.
    ///
    /// # Errors
    /// When it is not answered, or not as documented.
    pub async fn ends_of(&self, sending: &str) -> anyhow::Result<Vec<End>> {
        let mut ends = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = self.get(&format!("/v1/sendings/{sending}/messages?limit=200{cursor}")).await?;
            for message in page["items"].as_array().context("a list of messages")? {
                ends.push(end_of(message).with_context(|| format!("not understood: {message}"))?);
            }
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Ok(ends),
            }
        }
    }

    /// Compares what the API says about a sending's messages with the log, one by one.
    ///
    /// # Errors
    /// When they differ.
    pub async fn compare(&self, oracle: &Oracle, sending: &str) -> anyhow::Result<()> {
        let mut told = self.ends_of(sending).await?;
        told.sort_by_key(|end| end.seq);
        let logged: Vec<End> = oracle.ends_of(sending).collect();
        ensure!(
            told.len() == logged.len(),
            "{sending}: {} messages told, {} logged",
            told.len(),
            logged.len()
        );
        match told.iter().zip(&logged).find(|(told, logged)| told != logged) {
            None => Ok(()),
            Some((told, logged)) => bail!("{sending}: the API tells {told:?}, and the log {logged:?}"),
        }
    }

    /// Whether a sending is not recorded as completed yet. That comes a moment after its last message is final.
    ///
    /// # Errors
    /// When it is not answered.
    pub async fn has_open_sendings(&self) -> anyhow::Result<bool> {
        for state in ["scheduled", "in_progress"] {
            let page = self.get(&format!("/v1/sendings?state={state}&limit=1")).await?;
            if !page["items"].as_array().context("a list of sendings")?.is_empty() {
                return Ok(true);
            }
        }
        // A cancelled one is called so before and after.
        let mut cursor = String::new();
        loop {
            let page = self.get(&format!("/v1/sendings?state=cancelled&limit=200{cursor}")).await?;
            let sendings = page["items"].as_array().context("a list of sendings")?;
            if sendings.iter().any(|sending| sending["completed_at"].is_null()) {
                return Ok(true);
            }
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Ok(false),
            }
        }
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
        if status == StatusCode::TOO_MANY_REQUESTS {
            self.turned_away.fetch_add(1, Ordering::Relaxed);
        }
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

fn end_of(message: &Value) -> Option<End> {
    let seq = message["id"].as_str()?.rsplit_once('-')?.1.parse().ok()?;
    let outcome = serde_json::from_value(message["outcome"].clone()).ok()?;
    Some(End { seq, outcome, attempts: message["attempts"].as_array()?.len() })
}
