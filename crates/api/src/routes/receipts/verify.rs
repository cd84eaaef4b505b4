//! The signature of a pushed call: <https://www.standardwebhooks.com>.
//!
//! The signature is made again and compared in constant time; the time is the injected clock's.

use axum::http::HeaderMap;
use chrono::{DateTime, Utc};
use standardwebhooks::{HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP, Webhook};
use subtle::ConstantTimeEq;

use crate::problem::{Answer, Code, Problem};

/// How far a timestamp may be from now, in seconds.
const TOLERANCE_S: i64 = 300;

/// We have to remember ids, so their length is limited.
const ID_BYTES_MAX: usize = 255;

/// The content of a call's headers, before its body is there.
pub(crate) struct Envelope {
    webhook: Webhook,
    id: String,
    timestamp: i64,
    signatures: String,
}

/// The content of the headers, if with some body this could be a genuine call of now.
pub(crate) fn open(secret: Option<&str>, headers: &HeaderMap, now: DateTime<Utc>) -> Answer<Envelope> {
    let webhook = secret.and_then(|secret| Webhook::new(secret).ok());
    let webhook = webhook.ok_or_else(|| forged("The relay has no secret for pushed receipts."))?;
    let id = header(headers, HEADER_WEBHOOK_ID)?;
    let timestamp = header(headers, HEADER_WEBHOOK_TIMESTAMP)?;
    let signatures = header(headers, HEADER_WEBHOOK_SIGNATURE)?;
    if id.is_empty() || id.len() > ID_BYTES_MAX {
        return Err(forged("The header webhook-id must have 1 to 255 characters."));
    }
    let timestamp: i64 =
        timestamp.parse().map_err(|_| forged("The header webhook-timestamp is no number of seconds."))?;
    if now.timestamp().abs_diff(timestamp) > TOLERANCE_S.unsigned_abs() {
        return Err(forged("The timestamp is more than five minutes away from now."));
    }
    Ok(Envelope { webhook, id: id.to_owned(), timestamp, signatures: signatures.to_owned() })
}

impl Envelope {
    /// The id of the call, if this body was signed.
    pub(crate) fn verify(self, body: &[u8]) -> Answer<String> {
        let expected = self.webhook.sign(&self.id, self.timestamp, body);
        let expected = expected.map_err(|_| forged("The body is not UTF-8."))?;
        let is_genuine =
            self.signatures.split(' ').any(|given| bool::from(given.as_bytes().ct_eq(expected.as_bytes())));
        if is_genuine { Ok(self.id) } else { Err(forged("The signature is not that of this body.")) }
    }
}

fn header<'h>(headers: &'h HeaderMap, name: &'static str) -> Answer<&'h str> {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.ok_or_else(|| forged(&format!("The header {name} is missing.")))
}

fn forged(detail: &str) -> Problem {
    Problem::new(Code::SignatureInvalid, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verify(secret: Option<&str>, headers: &HeaderMap, body: &[u8], now: DateTime<Utc>) -> Answer<String> {
        open(secret, headers, now)?.verify(body)
    }

    const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    const BODY: &[u8] = br#"{"receipts":[]}"#;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    fn signed(secret: &str, id: &str, timestamp: i64, body: &[u8]) -> HeaderMap {
        let signature = Webhook::new(secret).unwrap().sign(id, timestamp, body).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("webhook-id", id.parse().unwrap());
        headers.insert("webhook-timestamp", timestamp.into());
        headers.insert("webhook-signature", format!("v1a,other {signature}").parse().unwrap());
        headers
    }

    fn is_forged(secret: Option<&str>, headers: &HeaderMap, body: &[u8]) -> bool {
        verify(secret, headers, body, now()).is_err_and(|problem| problem.code() == Code::SignatureInvalid)
    }

    #[test]
    fn a_genuine_call_gives_its_id() {
        for offset in [-300, 0, 300] {
            let headers = signed(SECRET, "msg_1", now().timestamp() + offset, BODY);
            assert_eq!(verify(Some(SECRET), &headers, BODY, now()), Ok("msg_1".to_owned()));
        }
    }

    #[test]
    fn whatever_was_touched_is_forged() {
        let genuine = signed(SECRET, "msg_1", now().timestamp(), BODY);
        assert!(is_forged(Some(SECRET), &genuine, b"{}"));
        assert!(is_forged(Some("whsec_AAAA"), &genuine, BODY));
        assert!(is_forged(None, &genuine, BODY));
        for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
            let mut without = genuine.clone();
            without.remove(name);
            assert!(is_forged(Some(SECRET), &without, BODY), "{name}");
            let mut changed = genuine.clone();
            changed.insert(name, "1800000001".parse().unwrap());
            assert!(is_forged(Some(SECRET), &changed, BODY), "{name}");
        }
        for offset in [-301, 301] {
            let late = signed(SECRET, "msg_1", now().timestamp() + offset, BODY);
            assert!(is_forged(Some(SECRET), &late, BODY), "{offset}");
        }
    }
}
