//! The demo's campaign: who gets which message, drawn from the seed, sent in requests of a few hundred recipients.

use futures::stream::{self, StreamExt, TryStreamExt};
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::client::Client;
use super::scene::{FROM_EMAIL, FROM_PHONE, Scene};
use crate::cli::DemoOptions;

/// Recipients in one request.
const RECIPIENTS_PER_REQUEST: u32 = 500;
/// Requests at once.
const REQUESTS_AT_ONCE: usize = 4;

const SMS_TEXT: &str = "[Kite] #{name}님, 주문하신 상품이 오늘 도착합니다.";
const LMS_TEXT: &str = "[Kite] #{name}님, 이용해 주셔서 감사합니다. 지난달 이용 내역과 이번 달 납부 안내를 보내드립니다. \
    자세한 내용은 고객센터에서 확인하실 수 있습니다. 감사합니다.";
const EMAIL_TEXT: &str = "#{name}님, 안녕하세요.\n\n영수증을 보내드립니다.\n";

/// What was sent.
pub(super) struct Sent {
    /// Messages accepted.
    pub accepted: u64,
    /// Times from request to 202, in microseconds.
    pub acceptance_us: Histogram<u64>,
}

/// The name of a recipient.
pub(super) fn name_of(seed: u64, index: u32) -> &'static str {
    const NAMES: [&str; 8] = ["지은", "민준", "서연", "도윤", "하준", "수아", "예준", "지우"];
    NAMES[(seed.wrapping_add(u64::from(index).wrapping_mul(2_654_435_761)) >> 7) as usize % NAMES.len()]
}

/// The number of a recipient: distinct for each index, and none of those that force an outcome (010-9900-…).
pub(super) fn phone_of(seed: u64, index: u32) -> String {
    const NUMBERS: u64 = 89_000_000;
    // The step shares no divisor with the count, so every number comes once.
    let number = 10_000_000 + (u64::from(index) * 7_654_321 + seed % NUMBERS * 12_347) % NUMBERS;
    format!("010{number}")
}

/// The e-mail address of a recipient; every other one has one.
pub(super) fn email_of(index: u32) -> Option<String> {
    index.is_multiple_of(2).then(|| format!("user{index}@mail.example"))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Sms,
    Lms,
    Email,
}

fn kind_of(index: u32) -> Kind {
    match index % 20 {
        4 => Kind::Email,
        7 | 13 => Kind::Lms,
        _ => Kind::Sms,
    }
}

/// Sends the whole campaign: first to the group, then to recipients named one by one. The same data directory and
/// options repeat the same requests under the same idempotency keys, so a campaign that was cut off continues.
pub(super) async fn send(client: &Client, scene: &Scene, options: &DemoOptions) -> anyhow::Result<Sent> {
    let mut requests = vec![group_request(scene)];
    for kind in [Kind::Sms, Kind::Lms, Kind::Email] {
        let indices: Vec<u32> =
            (scene.group_size..options.messages).filter(|index| kind_of(*index) == kind).collect();
        requests.extend(
            indices.chunks(RECIPIENTS_PER_REQUEST as usize).map(|chunk| request(options.seed, kind, chunk)),
        );
    }
    let sent = Sent { accepted: 0, acceptance_us: Histogram::new(3)? };
    let answers = stream::iter(requests.into_iter().enumerate().map(|(number, body)| {
        let key = format!("demo-{}-{}-{number}", options.seed, options.messages);
        async move {
            let started = now();
            let answer = client.send(&key, &body).await?;
            anyhow::Ok((answer["accepted"].as_u64().unwrap_or(0), started.elapsed()))
        }
    }));
    answers
        .buffer_unordered(REQUESTS_AT_ONCE)
        .try_fold(sent, |mut sent, (accepted, took)| async move {
            sent.accepted += accepted;
            sent.acceptance_us.record(took.as_micros() as u64)?;
            Ok(sent)
        })
        .await
}

#[expect(clippy::disallowed_methods, reason = "measures how long the demo's requests take")]
pub(super) fn now() -> std::time::Instant {
    std::time::Instant::now()
}

fn group_request(scene: &Scene) -> Value {
    json!({
        "class": "notice", "from": FROM_PHONE, "from_email": FROM_EMAIL, "text": SMS_TEXT, "groups": [scene.group],
        "client_reference": "demo: to the group",
    })
}

fn request(seed: u64, kind: Kind, indices: &[u32]) -> Value {
    let recipients: Vec<Value> = indices
        .iter()
        .map(|&index| {
            let variables = json!({ "name": name_of(seed, index) });
            match (kind, email_of(index)) {
                (Kind::Email, _) => {
                    json!({ "to": format!("user{index}@mail.example"), "variables": variables })
                }
                (_, Some(email)) => {
                    json!({ "to": phone_of(seed, index), "email": email, "variables": variables })
                }
                (_, None) => json!({ "to": phone_of(seed, index), "variables": variables }),
            }
        })
        .collect();
    let mut body = json!({
        "class": "notice", "from": FROM_PHONE, "from_email": FROM_EMAIL, "recipients": recipients,
    });
    let (subject, text) = match kind {
        Kind::Sms => (None, SMS_TEXT),
        Kind::Lms => (Some("[Kite] 이용 안내"), LMS_TEXT),
        Kind::Email => (Some("[Kite] 영수증"), EMAIL_TEXT),
    };
    body["text"] = text.into();
    if let Some(subject) = subject {
        body["subject"] = subject.into();
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_recipient_has_a_number_of_their_own() {
        let numbers: HashSet<String> = (0..200_000).map(|index| phone_of(7, index)).collect();
        assert_eq!(numbers.len(), 200_000);
        assert!(numbers.iter().all(|number| number.len() == 11 && !number.starts_with("0109900")));
    }
}
