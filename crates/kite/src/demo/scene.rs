//! What has to be set up before anything can be sent: relays, a tenant with a key, senders, contacts in a group, a
//! policy. All of it through the public API; on a kept data directory existing entries are used again.

use anyhow::Context;
use chrono::TimeDelta;
use kite_commands::Clock;
use kite_commands::clock::SystemClock;
use kite_domain::slug::TenantId;
use kite_relay_sim::RelaySim;
use reqwest::Method;
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::Path;

use super::campaign::{email_of, name_of, phone_of};
use super::client::Client;
use super::relays::{self, MAIL_RELAY, PHONE_RELAYS};
use crate::cli::DemoOptions;

/// The operator's key of the demo. It listens on this machine only.
pub(super) const ADMIN_KEY: &str = "demo-admin-key";
/// The demo's sending number.
pub(super) const FROM_PHONE: &str = "0212345678";
/// The demo's sending address.
pub(super) const FROM_EMAIL: &str = "hello@kite.example";

const TENANT: &str = "demo";
/// How long the demo's senders are approved. A data directory is not kept for longer.
const APPROVED_DAYS: i64 = 3_650;
/// Where a kept data directory remembers the key and the group.
const KEPT_FILE: &str = "demo.json";
/// How many contacts the group has at most.
const GROUP_MAX: u32 = 1_000;

/// The scene, set.
pub(super) struct Scene {
    /// The tenant.
    pub tenant: TenantId,
    /// Its key.
    pub api_key: String,
    /// Its group.
    pub group: String,
    /// How many contacts are in the group: the first recipients of the campaign.
    pub group_size: u32,
}

/// Sets the scene.
pub(super) async fn set_up(
    admin: &Client,
    simulators: &RelaySim,
    base_url: &str,
    data: &Path,
    options: &DemoOptions,
) -> anyhow::Result<Scene> {
    relays::connect(simulators, base_url)?;
    for (relay, profile) in relays::profiles(simulators)? {
        admin.json(Method::PUT, &format!("/v1/admin/relays/{relay}"), &profile).await?;
    }
    let kept = data.join(KEPT_FILE);
    let group_size = (options.messages / 10).clamp(1, GROUP_MAX).min(options.messages);
    let tenant = TenantId::parse(TENANT)?;
    if let Ok(text) = std::fs::read_to_string(&kept) {
        let known: Value = serde_json::from_str(&text).context("the kept demo.json cannot be read")?;
        let of = |key: &str| {
            known[key].as_str().map(str::to_owned).with_context(|| format!("demo.json lacks {key}"))
        };
        return Ok(Scene { tenant, api_key: of("api_key")?, group: of("group")?, group_size });
    }
    let created = admin
        .try_json(Method::POST, "/v1/admin/tenants", &json!({ "tenant": TENANT, "name": "Kite demo" }))
        .await?;
    if !created.0.is_success() && created.0 != reqwest::StatusCode::CONFLICT {
        anyhow::bail!("the tenant cannot be created: {} {}", created.0, created.1);
    }
    let issued = admin
        .json(Method::POST, &format!("/v1/admin/tenants/{TENANT}/keys"), &json!({ "label": "demo" }))
        .await?;
    let api_key = issued["key"].as_str().context("the answer holds the key")?.to_owned();
    let client = admin.with_key(&api_key);
    senders(&client, admin).await?;
    policy(&client).await?;
    let group = address_book(&client, options.seed, group_size).await?;
    std::fs::write(&kept, json!({ "api_key": api_key, "group": group }).to_string())?;
    Ok(Scene { tenant, api_key, group, group_size })
}

/// The tenant asks for its senders, and the operator approves them.
async fn senders(client: &Client, admin: &Client) -> anyhow::Result<()> {
    let phone_relays: Vec<&str> = PHONE_RELAYS.iter().map(|(id, _)| *id).collect();
    let phone = json!({
        "address": FROM_PHONE, "brand": "Kite", "refusal_number": "080-123-4567", "relays": phone_relays,
    });
    let mail = json!({ "address": FROM_EMAIL, "relays": [MAIL_RELAY] });
    let expires_at = SystemClock.now() + TimeDelta::days(APPROVED_DAYS);
    for (address, wanted) in [(FROM_PHONE, &phone), (FROM_EMAIL, &mail)] {
        client.json(Method::POST, "/v1/senders", wanted).await?;
        let approval = json!({
            "document": "demo certificate", "expires_at": expires_at, "relays": wanted["relays"],
        });
        let path = format!("/v1/admin/tenants/{TENANT}/senders/{address}/approve");
        admin.json(Method::POST, &path, &approval).await?;
    }
    Ok(())
}

async fn policy(client: &Client) -> anyhow::Result<()> {
    let weights: Vec<Value> =
        PHONE_RELAYS.iter().map(|(relay, weight)| json!({ "relay": relay, "weight": weight })).collect();
    let policy =
        json!({ "objective": "ratio", "weights": weights, "failover": { "relays": true, "email": true } });
    for channel in ["sms", "lms"] {
        client.json(Method::PUT, &format!("/v1/policies/{channel}"), &policy).await?;
    }
    let mail = json!({ "objective": "ratio", "weights": [{ "relay": MAIL_RELAY, "weight": 10_000 }] });
    client.json(Method::PUT, "/v1/policies/email", &mail).await?;
    Ok(())
}

async fn address_book(client: &Client, seed: u64, size: u32) -> anyhow::Result<String> {
    let made = client.json(Method::POST, "/v1/groups", &json!({ "name": "회원" })).await?;
    let group = made["id"].as_str().context("the answer holds the group's id")?.to_owned();
    let mut csv = String::from("name,phone,email,tags\n");
    for index in 0..size {
        let email = email_of(index).unwrap_or_default();
        writeln!(csv, "{},{},{email},demo", name_of(seed, index), phone_of(seed, index))?;
    }
    client.csv(&format!("/v1/contacts/import?group={group}"), csv).await?;
    Ok(group)
}

impl Scene {
    /// Where to continue.
    pub(super) fn hints(&self, base_url: &str, options: &DemoOptions) -> String {
        let mut text = format!(
            "\nAPI            {base_url}\nDocumentation  {base_url}/docs\nMetrics        {base_url}/metrics\n\n\
             Try it:\n  curl -s {base_url}/v1/sendings -H 'Authorization: Bearer {}' -H 'Content-Type: application/json' \\\n\
             \x20   -d '{{\"class\":\"notice\",\"from\":\"{FROM_PHONE}\",\"text\":\"#{{name}}님, 안녕하세요\",\
             \"recipients\":[{{\"to\":\"010-1234-5678\",\"variables\":{{\"name\":\"지은\"}}}}]}}'\n  \
             curl -s '{base_url}/v1/routing/recommendation?channel=sms&objective=recommended' -H 'Authorization: Bearer {}'\n",
            self.api_key, self.api_key,
        );
        if !options.exit {
            text.push_str("\nServing until Ctrl-C.");
        }
        text
    }
}
