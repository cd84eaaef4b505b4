//! The relays that the crash test and the soak send through: of every kind that law 4 treats differently, and none of
//! them well-behaved. As JSON: what relay-sim is told to be, and what Kite is told of it.
//!
//! | relay | drops repeats | answers status | receipts |
//! | --- | --- | --- | --- |
//! | alpha | yes | yes | pushed |
//! | beta | yes | no | pulled |
//! | gamma | no | no | pushed |
//! | delta | no | yes | pushed |
//! | post | no | no | none: a mail server, whose answer is the last that it says |

use std::net::SocketAddr;

use anyhow::Context;
use serde_json::{Value, json};

/// The phone relays with their shares in hundredths of a per cent.
pub const PHONE_RELAYS: [(&str, u32); 4] =
    [("alpha", 4_000), ("beta", 3_000), ("gamma", 2_000), ("delta", 1_000)];
/// The mail server.
pub const MAIL_RELAY: &str = "post";
/// Calls at a time to a phone relay.
pub const PHONE_CALLS: u64 = 4;
/// Messages in each of them.
pub const PHONE_BATCH: u64 = 100;
/// Calls at a time to the mail server: one message each.
pub const MAIL_CALLS: u64 = 8;

/// All of them.
pub fn all() -> impl Iterator<Item = &'static str> {
    PHONE_RELAYS.iter().map(|(relay, _)| *relay).chain([MAIL_RELAY])
}

const API_KEY: &str = "crash-key";
const SECRET: &str = "whsec_Y3Jhc2gtdGVzdC1yZWNlaXB0LXNlY3JldCEhISE=";
/// How long to wait for a receipt that will most likely never come.
const SHORT_DEADLINE_SECONDS: u32 = 15;
/// Longer than three questions take (36 seconds), begun again after a kill: a relay that says "never came in" has to be
/// believed before the receipt is given up.
const DEADLINE_SECONDS: u32 = 120;

/// What a phone relay can do.
struct Abilities {
    deduplicates: bool,
    answers_status: bool,
    is_pulled: bool,
}

fn abilities(relay: &str) -> Abilities {
    let of = |deduplicates, answers_status, is_pulled| Abilities { deduplicates, answers_status, is_pulled };
    match relay {
        "alpha" => of(true, true, false),
        "beta" => of(true, false, true),
        "gamma" => of(false, false, false),
        _ => of(false, true, false),
    }
}

/// A scenario for relay-sim: relays that lose answers, are slow, refuse, report twice, late and early.
#[must_use]
pub fn scenario(seed: u64) -> Value {
    let mut relays: Vec<Value> = PHONE_RELAYS.iter().map(|(id, _)| phone_relay(id)).collect();
    relays.push(json!({
        "id": MAIL_RELAY, "kind": "smtp", "api_key": "", "channels": ["email"], "smtp_listen": "127.0.0.1:0",
        "behaviour": {
            "latency_ms": { "p50": 10, "spread": 3 }, "dedupe": false, "refusals": { "550": 0.02, "555": 0.02 },
            "faults": { "answer_lost": 0.02 },
        },
    }));
    json!({ "seed": seed, "listen": "127.0.0.1:0", "ledger": "full", "relays": relays })
}

fn phone_relay(id: &str) -> Value {
    let Abilities { deduplicates, is_pulled, .. } = abilities(id);
    json!({
        "id": id, "api_key": API_KEY, "codes": "solapi", "channels": ["sms", "lms"], "batch_max": PHONE_BATCH,
        "behaviour": {
            "latency_ms": { "p50": 10, "spread": 3 }, "delivery_ms": { "p50": 200, "spread": 3 },
            "refusals": { "3032": 0.01, "3053": 0.02 },
            "undelivered": { "3043": 0.01, "3012": 0.02 },
            "dedupe": deduplicates,
            "faults": { "answer_lost": 0.01, "slow_answer": { "share": 0.01, "ms": 2_500 } },
            "receipts": {
                "mode": if is_pulled { "pull" } else { "push" }, "lease_ms": 2_000,
                "secret": SECRET, "twice": 0.05, "before_response": 0.02, "foreign": 0.001,
                "out_of_order": { "share": 0.05, "ms": 300 },
            },
        },
    })
}

/// The definition of each relay for Kite. `address_of` gives what relay-sim prints: a base URL, or
/// `smtp://<address>`.
///
/// # Errors
/// When an address is missing or invalid.
pub fn profiles(address_of: impl Fn(&str) -> Option<String>) -> anyhow::Result<Vec<(&'static str, Value)>> {
    let address = |id: &str| address_of(id).with_context(|| format!("relay {id} has no address"));
    let mut profiles = Vec::new();
    for (id, _) in PHONE_RELAYS {
        profiles.push((id, phone_profile(id, &address(id)?)));
    }
    let mail = address(MAIL_RELAY)?;
    let mail = mail.strip_prefix("smtp://").context("the mail server is reached by SMTP")?;
    let mail: SocketAddr = mail.parse()?;
    let post = json!({
        "name": "Post Office",
        "endpoint": {
            "protocol": "smtp", "host": mail.ip().to_string(), "port": mail.port(), "security": "opportunistic",
        },
        "channels": {
            "email": {
                "price_milliwon": 500, "bills": "accepted", "receipt_deadline_seconds": SHORT_DEADLINE_SECONDS,
            },
        },
        "reaches": [], "batch_max": 1, "calls_in_flight_max": MAIL_CALLS, "answer_timeout_ms": 3_000,
        "deduplicates": false, "answers_status": false, "receipts": "none", "codes": "smtp",
    });
    profiles.push((MAIL_RELAY, post));
    Ok(profiles)
}

fn phone_profile(id: &str, base_url: &str) -> Value {
    let Abilities { deduplicates, answers_status, is_pulled } = abilities(id);
    // Whoever can neither be asked nor called again is waited for, and not for long here.
    let deadline = if deduplicates || answers_status { DEADLINE_SECONDS } else { SHORT_DEADLINE_SECONDS };
    let terms =
        json!({ "price_milliwon": 8_000, "bills": "delivered", "receipt_deadline_seconds": deadline });
    json!({
        "name": id,
        "endpoint": { "protocol": "http", "base_url": base_url },
        "channels": { "sms": terms, "lms": terms },
        "reaches": ["korean_mobile"], "batch_max": PHONE_BATCH, "rate_parts_per_second": null,
        "calls_in_flight_max": PHONE_CALLS, "answer_timeout_ms": 1_500,
        "deduplicates": deduplicates, "answers_status": answers_status,
        "receipts": if is_pulled { "pull" } else { "push" }, "codes": "solapi",
        "credentials": { "api_key": API_KEY, "receipt_secret": SECRET },
    })
}

/// What the relays that push are told of where to push to, as a change of their behaviour.
#[must_use]
pub fn callbacks(kite: &str) -> Vec<(&'static str, Value)> {
    let pushing = PHONE_RELAYS.iter().map(|(id, _)| *id).filter(|id| !abilities(id).is_pulled);
    let url = |id: &str| format!("{kite}/v1/relays/{id}/receipts");
    pushing.map(|id| (id, json!({ "receipts": { "callback_url": url(id) } }))).collect()
}
