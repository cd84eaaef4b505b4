//! Pushes that are wrong on purpose, so that a client can show that it refuses them.

use anyhow::Context;
use chrono::DateTime;
use serde::Deserialize;
use serde_json::Value;

use crate::relay::push::{post, sign};
use crate::relay::receipts::{Receipt, push_body};
use crate::relay::{Relay, SentPush};
use crate::shared::Shared;

/// How far an old timestamp lies back; Standard Webhooks allows five minutes.
const OLD_SECONDS: u64 = 600;
/// A well-formed secret that no client was given.
const WRONG_SECRET: &str = "whsec_bm90LXRoZS1zZWNyZXQtdGhhdC13YXMtYWdyZWVk";

/// What is wrong with a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ForgeKind {
    /// Nothing is wrong: correctly signed, with whatever receipts are given.
    Genuine,
    /// Signed with another secret.
    BadSignature,
    /// Signed well, ten minutes old.
    OldTimestamp,
    /// The last push that the client accepted, again, byte for byte.
    Replay,
}

/// A push to make.
#[derive(Clone, Debug, Deserialize)]
pub struct ForgeRequest {
    /// What is wrong with it.
    pub kind: ForgeKind,
    /// Its receipts; without any, one for an unknown reference. Not used by `replay`.
    #[serde(default)]
    pub receipts: Vec<ForgedReceipt>,
    /// Whatever else is in the list of receipts, after them and as it is: what no client understands.
    #[serde(default)]
    pub raw: Vec<Value>,
}

/// A receipt of a forged push.
#[derive(Clone, Debug, Deserialize)]
pub struct ForgedReceipt {
    /// Any reference.
    pub reference: String,
    /// `true` for delivered.
    pub delivered: bool,
    /// Result code.
    pub code: String,
    /// Time of the result; now when absent.
    #[serde(default)]
    pub at: Option<DateTime<chrono::Utc>>,
}

/// Makes the push and returns the HTTP status of the client's answer.
///
/// # Errors
/// When the relay has no callback, there is nothing to replay, or the client does not answer.
pub(crate) async fn forge(shared: &Shared, relay: &Relay, request: ForgeRequest) -> anyhow::Result<u16> {
    let decider = relay.decider();
    let receipts = &decider.behaviour.receipts;
    let url = receipts.callback_url.as_deref().context("the relay has no callback_url")?;
    let push = match request.kind {
        ForgeKind::Replay => relay.last_push().context("no push was taken yet")?,
        ForgeKind::Genuine => make(relay, request, &receipts.secret, 0)?,
        ForgeKind::BadSignature => make(relay, request, WRONG_SECRET, 0)?,
        ForgeKind::OldTimestamp => make(relay, request, &receipts.secret, OLD_SECONDS)?,
    };
    let status = post(&shared.client, url, &push).await.context("the client did not answer")?;
    Ok(status.as_u16())
}

fn make(relay: &Relay, request: ForgeRequest, secret: &str, age_seconds: u64) -> anyhow::Result<SentPush> {
    let now_us = relay.clock.now_us();
    let unknown = relay.decider().foreign_reference(&now_us.to_string());
    let mut given = request.receipts;
    if given.is_empty() && request.raw.is_empty() {
        let code = relay.scenario.codes.delivered().to_owned();
        given.push(ForgedReceipt { reference: unknown, delivered: true, code, at: None });
    }
    let receipts: Vec<Receipt> = given
        .into_iter()
        .map(|receipt| Receipt {
            relay_reference: relay.decider().relay_reference(&receipt.reference, 0),
            reference: receipt.reference.into(),
            delivered: receipt.delivered,
            code: receipt.code.into(),
            at_ms: receipt.at.map_or(now_us / 1_000, |at| at.timestamp_millis().max(0) as u64),
            gate: None,
        })
        .collect();
    let second = (now_us / 1_000_000 - age_seconds) as i64;
    let id = format!("msg_{}_forged_{now_us:x}", relay.id);
    let mut body = push_body(&receipts);
    if !request.raw.is_empty() {
        let mut whole: Value = serde_json::from_slice(&body).context("a body of ours is JSON")?;
        let list = whole["receipts"].as_array_mut().context("a body of ours has a list")?;
        list.extend(request.raw);
        body = whole.to_string().into_bytes();
    }
    sign(secret, &id, second, body.into()).context("the secret is unusable")
}
