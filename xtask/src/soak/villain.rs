//! A hostile tenant, beside everything else: it schedules as much as it can for months ahead, sends bursts beyond its
//! rates, repeats at once whatever is refused, and stores contacts beyond its limit. It has to be refused, and nobody
//! else may be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use chrono::{TimeDelta, Utc};
use kite_testkit::customer::{Customer, FROM_PHONE, Sent};
use kite_testkit::oracle::Cancel;
use kite_testkit::relays::PHONE_RELAYS;
use kite_testkit::senders::{approval, approval_path};
use reqwest::Method;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

const TENANT: &str = "bolt";
/// Between two bursts.
const PAUSE: Duration = Duration::from_millis(250);
/// How long something may take that is to be seen at once.
const PATIENCE: Duration = Duration::from_secs(10);
/// Requests of a burst.
const BURST: usize = 20;
/// The limits that it has to reach; otherwise they do not work.
const REFUSALS: [&str; 3] = ["limit-reached", "too-many-requests", "contacts_limit"];

/// What it did.
#[derive(Clone, Default, Serialize)]
pub(super) struct Deeds {
    /// Requests that were taken.
    pub(super) taken: u64,
    /// Those of them that sent something.
    #[serde(skip)]
    sendings: BTreeSet<String>,
    /// Refusals by their code.
    pub(super) refused: BTreeMap<String, u64>,
}

impl Deeds {
    /// What should have been refused, and never was.
    pub(super) fn missing(&self) -> Vec<&'static str> {
        REFUSALS.into_iter().filter(|code| !self.refused.contains_key(*code)).collect()
    }
}

/// It, while it is at work.
pub(super) struct Villain {
    tenant: Customer,
    operator: Customer,
    deeds: Arc<Mutex<Deeds>>,
    stop: watch::Sender<bool>,
    work: JoinSet<anyhow::Result<()>>,
}

impl Villain {
    /// Lets it in, with limits, and sets it to work.
    pub(super) async fn start(customer: &Customer, admin_key: &str) -> anyhow::Result<Self> {
        let operator = Customer { key: admin_key.to_owned(), ..customer.clone() };
        operator
            .call(Method::POST, "/v1/admin/tenants", &json!({ "tenant": TENANT, "name": "Bolt" }))
            .await?;
        let limits = json!({
            "open_messages_max": 200, "scheduled_messages_max": 500, "requests_per_second": 20,
            "recipients_per_second": 500, "contacts_max": 300,
        });
        operator.call(Method::PUT, &format!("/v1/admin/tenants/{TENANT}/limits"), &limits).await?;
        let keys = format!("/v1/admin/tenants/{TENANT}/keys");
        let issued = operator.call(Method::POST, &keys, &json!({ "label": "soak" })).await?;
        let key = issued["key"].as_str().context("a key")?.to_owned();
        let tenant = Customer { key, turned_away: Arc::default(), ..customer.clone() };
        let relays: Vec<&str> = PHONE_RELAYS.iter().map(|(id, _)| *id).collect();
        let sender = json!({ "address": FROM_PHONE, "relays": relays });
        tenant.call(Method::POST, "/v1/senders", &sender).await?;
        // The address is the customer's too, and the operator knows it.
        let mut approved = approval(&relays);
        approved["shared"] = json!(true);
        operator.call(Method::POST, &approval_path(TENANT, FROM_PHONE), &approved).await?;
        let shares = PHONE_RELAYS.iter().map(|(relay, weight)| json!({ "relay": relay, "weight": weight }));
        let policy = json!({ "objective": "ratio", "weights": shares.collect::<Vec<Value>>() });
        for channel in ["sms", "lms"] {
            tenant.call(Method::PUT, &format!("/v1/policies/{channel}"), &policy).await?;
        }
        let (stop, stopped) = watch::channel(false);
        let deeds = Arc::<Mutex<Deeds>>::default();
        let mut work = JoinSet::new();
        work.spawn(misbehave(tenant.clone(), deeds.clone(), stopped));
        Ok(Self { tenant, operator, deeds, stop, work })
    }

    pub(super) fn deeds(&self) -> Deeds {
        lock(&self.deeds).clone()
    }

    /// No more of it. The operator cancels what it has scheduled. Returns all of its sendings, for the judge.
    pub(super) async fn end(&mut self) -> anyhow::Result<Vec<Sent>> {
        self.stop.send_replace(true);
        while let Some(ended) = self.work.join_next().await {
            ended??;
        }
        // The operator's list may be a moment behind.
        let deadline = Instant::now() + PATIENCE;
        loop {
            let sendings = self.sendings().await?;
            let missing = |id: &&String| !sendings.iter().any(|sending| sending["id"].as_str() == Some(id));
            let Some(missing) = self.deeds().sendings.iter().find(missing).cloned() else {
                let mut settled = Vec::new();
                for sending in &sendings {
                    settled.push(self.settle(sending).await?);
                }
                return Ok(settled);
            };
            ensure!(Instant::now() < deadline, "sending {missing} was taken and is in no list");
            tokio::time::sleep_until(Instant::now() + PAUSE).await;
        }
    }

    /// All of its sendings, as the operator sees them.
    async fn sendings(&self) -> anyhow::Result<Vec<Value>> {
        let mut sendings = Vec::new();
        let mut cursor = String::new();
        loop {
            let path = format!("/v1/admin/sendings?tenant={TENANT}&limit=200{cursor}");
            let page = self.operator.get(&path).await?;
            let items = page["items"].as_array().context("a list of sendings")?;
            sendings.extend(items.iter().map(|item| item["sending"].clone()));
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Ok(sendings),
            }
        }
    }

    async fn settle(&self, sending: &Value) -> anyhow::Result<Sent> {
        let id = sending["id"].as_str().context("an id")?.to_owned();
        let messages = sending["messages"].as_u64().context("a number of messages")?;
        let is_scheduled = sending["state"] == "scheduled";
        if is_scheduled {
            let path = format!("/v1/admin/tenants/{TENANT}/sendings/{id}/cancel");
            self.operator.call(Method::POST, &path, &json!({ "reason": "bad faith" })).await?;
        }
        let cancel = if is_scheduled { Cancel::Acknowledged } else { Cancel::NotAsked };
        Ok(Sent { id, messages, at_least_once: false, cancel })
    }

    /// Whether its key still finds what it sent; used up limits must not keep it from that for ever.
    pub(super) async fn is_let_in_again(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.tenant.get("/v1/sendings?limit=1").await.is_err() {
            ensure!(Instant::now() < deadline, "a tenant that came too fast is never let in again");
            tokio::time::sleep_until(Instant::now() + PAUSE).await;
        }
        Ok(())
    }
}

fn lock(deeds: &Mutex<Deeds>) -> MutexGuard<'_, Deeds> {
    deeds.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn misbehave(
    tenant: Customer,
    deeds: Arc<Mutex<Deeds>>,
    mut stopped: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let mut number = 0_u64;
    loop {
        // All at once: however slow the answers are, they come faster than they may.
        let mut burst = JoinSet::new();
        for _ in 0..BURST {
            number += 1;
            burst.spawn(attempt_twice(tenant.clone(), deeds.clone(), number));
        }
        while let Some(attempted) = burst.join_next().await {
            attempted??;
        }
        let pause = Instant::now() + PAUSE;
        if tokio::time::timeout_at(pause, stopped.wait_for(|stopped| *stopped)).await.is_ok() {
            return Ok(());
        }
    }
}

/// What is refused is repeated at once, as it was.
async fn attempt_twice(tenant: Customer, deeds: Arc<Mutex<Deeds>>, number: u64) -> anyhow::Result<()> {
    attempt(&tenant, &deeds, number).await?;
    attempt(&tenant, &deeds, number).await
}

#[expect(clippy::disallowed_methods, reason = "the processes under test live in real time")]
async fn attempt(tenant: &Customer, deeds: &Mutex<Deeds>, number: u64) -> anyhow::Result<()> {
    let url = |path: &str| format!("{}{path}", tenant.kite);
    let to = |count: u64| -> Vec<Value> {
        (0..count).map(|place| json!({ "to": format!("010{:08}", number * 100 + place) })).collect()
    };
    let http = &tenant.http;
    let request = match number % 4 {
        0 => {
            let rows = (0..50).map(|place| format!("010{:08}\n", 50_000_000 + number * 50 + place));
            let file = std::iter::once("phone\n".to_owned()).chain(rows).collect::<String>();
            http.post(url("/v1/contacts/import")).header("content-type", "text/csv").body(file)
        }
        1 => {
            let at = Utc::now() + TimeDelta::days(150);
            let body = json!({
                "class": "notice", "from": FROM_PHONE, "text": "later", "recipients": to(40), "scheduled_at": at,
            });
            http.post(url("/v1/sendings")).json(&body)
        }
        _ => {
            let body = json!({ "class": "notice", "from": FROM_PHONE, "text": "now", "recipients": to(10) });
            http.post(url("/v1/sendings")).json(&body)
        }
    };
    // The process may be stopped in the middle.
    let Ok(response) = request.bearer_auth(&tenant.key).send().await else { return Ok(()) };
    let status = response.status();
    let Ok(text) = response.text().await else { return Ok(()) };
    let answer: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
    let mut deeds = lock(deeds);
    if let Some(error) = answer["errors"].as_array().and_then(|errors| errors.first()) {
        let code = error["code"].as_str().unwrap_or("unknown").to_owned();
        *deeds.refused.entry(code).or_default() += 1;
    }
    match status.as_u16() {
        200 | 202 => {
            deeds.taken += 1;
            deeds.sendings.extend(answer["id"].as_str().map(str::to_owned));
        }
        422 => {}
        429 | 503 => {
            let code = answer["code"].as_str().unwrap_or("unknown").to_owned();
            *deeds.refused.entry(code).or_default() += 1;
        }
        _ => bail!("a tenant in bad faith was answered with {status}: {text}"),
    }
    Ok(())
}
