//! The task of each relay that produces results and pushes receipts.
//!
//! A push that is not answered with 2xx is kept and tried again with back-off for as long as the simulator runs,
//! under the same webhook-id and freshly signed. While the client does not answer (or answers with 5xx), new receipts
//! are collected instead of piling up as many small pushes; a push that is refused with 4xx delays nothing else.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use reqwest::StatusCode;
use standardwebhooks::{HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP, Webhook};
use tokio_util::sync::CancellationToken;

use super::receipts::{Gate, push_body};
use super::{Relay, SentPush};

/// How long a client may take to answer a push.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the task sleeps when nothing is due; it is woken earlier by whoever adds something.
const IDLE: Duration = Duration::from_secs(60);

struct Push {
    id: String,
    body: Bytes,
    count: usize,
    gates: Vec<Arc<Gate>>,
    tries: u32,
}

/// What a client made of a push.
enum Answered {
    Taken(SentPush),
    /// 4xx or 3xx: this push is at fault.
    Refused,
    /// No answer, or 5xx: the client is.
    Down,
}

struct Pusher {
    relay: Arc<Relay>,
    client: reqwest::Client,
    /// Makes webhook ids differ between runs with the same seed: a client remembers them.
    run: u64,
    in_flight: FuturesUnordered<BoxFuture<'static, (Push, Answered)>>,
    /// Failed pushes with the time of their next try.
    failed: Vec<(u64, Push)>,
    client_is_down: bool,
}

/// Runs until cancelled.
pub(crate) async fn run(relay: Arc<Relay>, client: reqwest::Client, cancelled: CancellationToken) {
    let run = relay.clock.now_us();
    let mut pusher = Pusher {
        relay,
        client,
        run,
        in_flight: FuturesUnordered::new(),
        failed: Vec::new(),
        client_is_down: false,
    };
    while !cancelled.is_cancelled() {
        let next_ms = pusher.relay.advance();
        pusher.start_pushes();
        let pause = pusher.pause(next_ms);
        let relay = pusher.relay.clone();
        tokio::select! {
            () = cancelled.cancelled() => {}
            Some((push, answered)) = pusher.in_flight.next() => pusher.settle(push, answered),
            () = relay.wake.notified() => {}
            () = relay.clock.wait(pause) => {}
        }
    }
}

impl Pusher {
    fn pause(&self, next_due_ms: Option<u64>) -> Duration {
        let retry_ms = self.failed.iter().map(|(at_ms, _)| *at_ms).min();
        let Some(next_ms) = next_due_ms.into_iter().chain(retry_ms).min() else { return IDLE };
        Duration::from_millis(next_ms.saturating_sub(self.relay.clock.now_ms()).max(1)).min(IDLE)
    }

    fn start_pushes(&mut self) {
        let decider = self.relay.decider();
        let receipts = &decider.behaviour.receipts;
        let Some(url) = &receipts.callback_url else { return };
        while self.in_flight.len() < receipts.concurrency {
            let Some(push) = self.next_push(receipts.batch_max) else { return };
            self.in_flight.push(Box::pin(send(
                self.client.clone(),
                url.clone(),
                receipts.secret.clone(),
                self.relay.clock.now_ms() / 1_000,
                push,
            )));
        }
    }

    fn next_push(&mut self, batch_max: usize) -> Option<Push> {
        let now_ms = self.relay.clock.now_ms();
        if let Some(due) = self.failed.iter().position(|(at_ms, _)| *at_ms <= now_ms) {
            return Some(self.failed.swap_remove(due).1);
        }
        if self.client_is_down {
            return None;
        }
        let (number, receipts) = self.relay.take_for_push(batch_max)?;
        Some(Push {
            id: format!("msg_{}_{:x}_{number}", self.relay.id, self.run),
            body: push_body(&receipts).into(),
            count: receipts.len(),
            gates: receipts.into_iter().filter_map(|receipt| receipt.gate).collect(),
            tries: 0,
        })
    }

    fn settle(&mut self, mut push: Push, answered: Answered) {
        match answered {
            Answered::Taken(sent) => {
                self.client_is_down = false;
                self.relay.push_taken(push.count, sent);
                push.gates.iter().for_each(|gate| gate.leave());
                return;
            }
            Answered::Refused => self.client_is_down = false,
            Answered::Down => self.client_is_down = true,
        }
        self.relay.push_failed();
        let retry = self.relay.decider().behaviour.receipts.retry;
        let pause_ms =
            retry.first_ms.saturating_mul(1 << push.tries.min(20)).min(retry.max_ms.max(retry.first_ms));
        push.tries += 1;
        self.failed.push((self.relay.clock.now_ms() + pause_ms, push));
    }
}

async fn send(
    client: reqwest::Client,
    url: String,
    secret: String,
    second: u64,
    push: Push,
) -> (Push, Answered) {
    let Some(signed) = sign(&secret, &push.id, second as i64, push.body.clone()) else {
        return (push, Answered::Refused);
    };
    let answered = match post(&client, &url, &signed).await {
        Ok(status) if status.is_success() => Answered::Taken(signed),
        Ok(status) if status.is_server_error() => Answered::Down,
        Ok(_) => Answered::Refused,
        Err(error) => {
            tracing::debug!(%error, url, "push failed");
            Answered::Down
        }
    };
    (push, answered)
}

/// Signs a body; `None` when the secret is unusable.
pub(crate) fn sign(secret: &str, id: &str, second: i64, body: Bytes) -> Option<SentPush> {
    let signature = Webhook::new(secret).ok()?.sign(id, second, &body).ok()?;
    Some(SentPush { headers: [id.to_owned(), second.to_string(), signature], body })
}

/// Posts a signed body and returns the answer's status.
pub(crate) async fn post(
    client: &reqwest::Client,
    url: &str,
    push: &SentPush,
) -> reqwest::Result<StatusCode> {
    let [id, timestamp, signature] = &push.headers;
    let response = client
        .post(url)
        .header("content-type", "application/json")
        .header(HEADER_WEBHOOK_ID, id)
        .header(HEADER_WEBHOOK_TIMESTAMP, timestamp)
        .header(HEADER_WEBHOOK_SIGNATURE, signature)
        .timeout(ANSWER_TIMEOUT)
        .body(push.body.clone())
        .send()
        .await?;
    let status = response.status();
    // Reading the body to its end lets the connection be used again.
    let _ = response.bytes().await;
    Ok(status)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use chrono::DateTime;
    use serde_json::Value;

    use super::sign;
    use crate::relay::receipts::{Receipt, push_body};

    const FIXTURE: &str = include_str!("../../../../docs/relay-protocol/receipts-push.json");

    fn receipt(wire: &Value) -> Receipt {
        let text = |key: &str| wire[key].as_str().unwrap();
        Receipt {
            reference: text("reference").into(),
            relay_reference: u64::from_str_radix(text("relay_reference"), 16).unwrap(),
            delivered: text("status") == "delivered",
            code: text("code").into(),
            at_ms: DateTime::parse_from_rfc3339(text("at")).unwrap().timestamp_millis() as u64,
            gate: None,
        }
    }

    #[test]
    fn a_push_is_written_and_signed_as_the_fixture_says() {
        let fixture: Value = serde_json::from_str(FIXTURE).unwrap();
        let request = &fixture["request"];
        let receipts: Vec<Receipt> =
            request["body"]["receipts"].as_array().unwrap().iter().map(receipt).collect();
        let body = push_body(&receipts);
        assert_eq!(std::str::from_utf8(&body).unwrap(), request["body_text"].as_str().unwrap());

        let header = |name: &str| request["headers"][name].as_str().unwrap();
        let second = header("webhook-timestamp").parse().unwrap();
        let secret = fixture["secret"].as_str().unwrap();
        let signed = sign(secret, header("webhook-id"), second, Bytes::from(body)).unwrap();
        assert_eq!(signed.headers[2], header("webhook-signature"));
    }
}
