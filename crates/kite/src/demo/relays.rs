//! The demo's relays: three for sms and lms with different price, speed, failure rate and rate limit, one for e-mail
//! over real SMTP.

use anyhow::Context;
use kite_relay_sim::{RelaySim, Scenario};
use serde_json::{Value, json};

/// The relays that carry sms and lms, with their share in the demo's policy (hundredths of a per cent).
pub(super) const PHONE_RELAYS: [(&str, u32); 3] = [("alpha", 5_000), ("beta", 3_000), ("gamma", 2_000)];
/// The relay that carries e-mail.
pub(super) const MAIL_RELAY: &str = "post";

const RATES: [(&str, u32); 3] = [("alpha", 6_000), ("beta", 4_000), ("gamma", 2_500)];

/// Starts the simulated relays on free ports of this machine.
pub(super) async fn start(seed: u64) -> anyhow::Result<RelaySim> {
    let relay = |id: &str, codes: &str, behaviour: Value| {
        json!({
            "id": id, "api_key": api_key(id), "codes": codes, "channels": ["sms", "lms"], "batch_max": 500,
            "behaviour": behaviour,
        })
    };
    let scenario = json!({
        "seed": seed,
        "listen": "127.0.0.1:0",
        "ledger": "full",
        "relays": [
            relay("alpha", "solapi", json!({
                "latency_ms": { "p50": 15, "spread": 2 }, "delivery_ms": { "p50": 300, "spread": 3 },
                "rate_parts_per_second": rate("alpha"),
                "refusals": { "3032": 0.002 },
                "undelivered": { "3043": 0.006, "3032": 0.006, "3012": 0.004 },
                "receipts": { "secret": secret("alpha"), "twice": 0.01, "out_of_order": { "share": 0.02, "ms": 200 } },
            })),
            relay("beta", "nhn", json!({
                "latency_ms": { "p50": 30, "spread": 2 }, "delivery_ms": { "p50": 600, "spread": 3 },
                "rate_parts_per_second": rate("beta"),
                "refusals": { "3001": 0.004, "3015": 0.003 },
                "undelivered": { "2003": 0.01, "3001": 0.008, "3011": 0.006 },
                "faults": { "answer_lost": 0.001, "slow_answer": { "share": 0.01, "ms": 400 } },
                "receipts": { "secret": secret("beta"), "before_response": 0.01 },
            })),
            relay("gamma", "solapi", json!({
                "latency_ms": { "p50": 60, "spread": 3 }, "delivery_ms": { "p50": 1200, "spread": 3 },
                "rate_parts_per_second": rate("gamma"),
                "refusals": { "3053": 0.01 },
                "undelivered": { "3042": 0.02, "3032": 0.01, "3012": 0.03 },
                "faults": { "unavailable": 0.01 },
                "receipts": { "secret": secret("gamma"), "late": { "share": 0.01, "ms": 2000 } },
            })),
            {
                "id": MAIL_RELAY, "kind": "smtp", "api_key": "", "channels": ["email"], "smtp_listen": "127.0.0.1:0",
                "behaviour": { "latency_ms": { "p50": 4, "spread": 2 }, "refusals": { "550": 0.01 }, "dedupe": false },
            },
        ],
    });
    let scenario = Scenario::from_json(&scenario.to_string()).context("the demo's scenario")?;
    RelaySim::start(scenario).await
}

/// What the operator tells Kite of each relay.
pub(super) fn profiles(simulators: &RelaySim) -> anyhow::Result<Vec<(&'static str, Value)>> {
    let mut profiles: Vec<(&'static str, Value)> = PHONE_RELAYS
        .iter()
        .zip([(9_000, 27_000, "Alpha Telecom"), (8_200, 25_000, "Beta Mobile"), (7_100, 21_500, "Gamma Networks")])
        .map(|((id, _), (sms_milliwon, lms_milliwon, name))| {
            let profile = json!({
                "name": name,
                "endpoint": { "protocol": "http", "base_url": simulators.base_url(id) },
                "channels": {
                    "sms": { "price_milliwon": sms_milliwon, "bills": "delivered", "receipt_deadline_seconds": 60 },
                    "lms": { "price_milliwon": lms_milliwon, "bills": "delivered", "receipt_deadline_seconds": 60 },
                },
                "reaches": ["korean_mobile"],
                "batch_max": 500,
                "rate_parts_per_second": rate(id),
                "calls_in_flight_max": 8,
                "answer_timeout_ms": 3_000,
                "deduplicates": true,
                "answers_status": true,
                "receipts": "push",
                "codes": if *id == "beta" { "nhn" } else { "solapi" },
                "credentials": { "api_key": api_key(id), "receipt_secret": secret(id) },
            });
            (*id, profile)
        })
        .collect();
    let mail = simulators.smtp_address(MAIL_RELAY).context("the e-mail relay listens")?;
    let post = json!({
        "name": "Post Office",
        "endpoint": { "protocol": "smtp", "host": mail.ip().to_string(), "port": mail.port(), "security": "opportunistic" },
        "channels": { "email": { "price_milliwon": 500, "bills": "accepted", "receipt_deadline_seconds": 60 } },
        "reaches": [],
        "batch_max": 1,
        "rate_parts_per_second": null,
        "calls_in_flight_max": 16,
        "answer_timeout_ms": 5_000,
        "deduplicates": false,
        "answers_status": false,
        "receipts": "none",
        "codes": "smtp",
    });
    profiles.push((MAIL_RELAY, post));
    Ok(profiles)
}

/// Tells the simulated relays where to push their receipts.
pub(super) fn connect(simulators: &RelaySim, base_url: &str) -> anyhow::Result<()> {
    for (id, _) in PHONE_RELAYS {
        simulators.set_callback(id, &format!("{base_url}/v1/relays/{id}/receipts"), secret(id))?;
    }
    Ok(())
}

fn rate(id: &str) -> Option<u32> {
    RATES.iter().find(|(relay, _)| *relay == id).map(|(_, rate)| *rate)
}

fn api_key(id: &str) -> String {
    format!("demo-{id}-key")
}

fn secret(id: &str) -> &'static str {
    match id {
        "alpha" => "whsec_YWxwaGEtcmVjZWlwdHMtb2YtdGhlLWRlbW8hIQ==",
        "beta" => "whsec_YmV0YS1yZWNlaXB0cy1vZi10aGUtZGVtbyEhIQ==",
        _ => "whsec_Z2FtbWEtcmVjZWlwdHMtb2YtdGhlLWRlbW8hIQ==",
    }
}
