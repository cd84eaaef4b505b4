//! The real binary: a backup beside an instance at work, and a copy that takes its place without sending twice.

use anyhow::{Context, ensure};
use kite_event_store::sqlite::{SqliteEventStore, SqliteOptions};
use kite_event_store::{Batch, BatchMode, EventStore, Expected, Metadata, NewEvent, StreamAppend};
use kite_relay_sim::{RelaySim, Scenario};
use kite_testkit::customer::{Customer, FROM_PHONE};
use kite_testkit::process::Process;
use kite_testkit::relays;
use kite_testkit::wait::{free_address, wait_for};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

const WITHIN: Duration = Duration::from_secs(60);
const FINAL_WITHIN: Duration = Duration::from_secs(240);
const ADMIN_KEY: &str = "an admin key for a test of backups";
const PHONES: [&str; 4] = ["alpha", "beta", "gamma", "delta"];

struct Kite {
    process: Process,
    admin: Customer,
}

impl Kite {
    /// Starts it and waits until it answers.
    async fn start(directory: &Path, data: &Path) -> anyhow::Result<Self> {
        let address = free_address()?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_kite"));
        command.args(["serve", "--listen", &address.to_string(), "--data"]).arg(data);
        command.env("KITE_ADMIN_KEY", ADMIN_KEY).env("KITE_BACKUP_DIR", directory.join("backups"));
        let process = Process::start("kite", &mut command)?;
        let http = Client::builder().no_proxy().timeout(WITHIN).build()?;
        let kite = format!("http://{address}");
        let admin = Customer { http, kite, key: ADMIN_KEY.to_owned(), turned_away: Default::default() };
        let what = format!("the process to answer; its log:\n{}", process.log());
        wait_for(&what, WITHIN, async || admin.get("/v1/admin/instance").await.ok()).await?;
        Ok(Self { process, admin })
    }

    async fn standing(&self) -> anyhow::Result<String> {
        Ok(self.admin.get("/v1/admin/instance").await?["standing"].as_str().context("a word")?.to_owned())
    }

    /// The detail of a check of `/readyz`.
    async fn ready(&self, check: &str) -> anyhow::Result<String> {
        let request = self.admin.http.get(format!("{}/readyz", self.admin.kite)).bearer_auth(ADMIN_KEY);
        let ready: Value = request.send().await?.json().await?;
        let checks = ready["checks"].as_array().context("checks")?;
        let found = checks.iter().find(|one| one["name"] == check).context("no such check")?;
        Ok(found["detail"].to_string())
    }

    /// Like the tenant's, with another key, at this process.
    fn customer(&self, key: &str) -> Customer {
        Customer { key: key.to_owned(), ..self.admin.clone() }
    }
}

fn kite(arguments: &[&str], paths: &[(&str, &Path)]) -> anyhow::Result<Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kite"));
    command.args(arguments);
    for (flag, path) in paths {
        command.arg(flag).arg(path);
    }
    Ok(command.output()?)
}

fn done(output: Output) -> anyhow::Result<String> {
    let (told, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{told}{errors}");
    Ok(told.into_owned())
}

fn refused(output: Output) -> anyhow::Result<String> {
    let (told, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(!output.status.success(), "it went through: {told}{errors}");
    Ok(format!("{told}{errors}"))
}

/// Relays of every kind that law 4 treats differently, all of them well-behaved, and slow.
async fn start_relays() -> anyhow::Result<RelaySim> {
    let mut scenario = relays::scenario(7);
    for relay in scenario["relays"].as_array_mut().context("relays")? {
        let behaviour = &mut relay["behaviour"];
        for trouble in ["refusals", "undelivered", "faults"] {
            behaviour[trouble] = json!({});
        }
        if let Some(receipts) = behaviour.get_mut("receipts").and_then(Value::as_object_mut) {
            for trouble in ["twice", "before_response", "foreign", "out_of_order"] {
                receipts.remove(trouble);
            }
        }
    }
    RelaySim::start(Scenario::from_json(&scenario.to_string())?).await
}

fn push_to(simulators: &RelaySim, kite: &Kite) -> anyhow::Result<()> {
    for (id, callback) in relays::callbacks(&kite.admin.kite) {
        simulators.set_behaviour(id, &callback)?;
    }
    Ok(())
}

/// What Kite is told of them: it takes seconds to hand over what is asked for.
fn profiles(simulators: &RelaySim) -> anyhow::Result<Vec<(&'static str, Value)>> {
    let mut profiles = relays::profiles(|id| match simulators.smtp_address(id) {
        Some(address) => Some(format!("smtp://{address}")),
        None => Some(simulators.base_url(id)),
    })?;
    let slow = [("alpha", 4), ("beta", 3), ("gamma", 2), ("delta", 1)];
    for (id, profile) in &mut profiles {
        let Some((_, rate)) = slow.iter().find(|(relay, _)| relay == id) else { continue };
        profile["rate_parts_per_second"] = json!(rate);
        // Whoever can be asked is believed after 36 seconds; handing over again takes its time, too.
        let is_mute = profile["answers_status"] == false && profile["deduplicates"] == false;
        let deadline = if is_mute { 10 } else { 60 };
        profile["channels"]["sms"]["receipt_deadline_seconds"] = json!(deadline);
    }
    Ok(profiles)
}

/// Messages that came in, by relay.
fn handed_over(simulators: &RelaySim) -> BTreeMap<&'static str, u64> {
    let ledger = simulators.ledger();
    PHONES.iter().map(|id| (*id, ledger.counters(id).map_or(0, |counters| counters.handovers))).collect()
}

async fn send(customer: &Customer, count: u32, first: u32) -> anyhow::Result<String> {
    let to: Vec<Value> =
        (first..first + count).map(|number| json!({ "to": format!("010{number:08}") })).collect();
    let body =
        json!({ "from": FROM_PHONE, "type": "sms", "class": "notice", "text": "hello", "recipients": to });
    let answer = customer.call(Method::POST, "/v1/sendings", &body).await?;
    ensure!(answer["accepted"] == count, "{answer}");
    Ok(answer["id"].as_str().context("an id")?.to_owned())
}

async fn wait_until_final(kite: &Kite, customer: &Customer, sending: &str) -> anyhow::Result<Value> {
    let what = format!("{sending} to be final; the log:\n{}", kite.process.log());
    wait_for(&what, FINAL_WITHIN, async || {
        let view = customer.get(&format!("/v1/sendings/{sending}")).await.ok()?;
        (view["counts"]["open"] == 0).then_some(view)
    })
    .await
}

// A thread for the relays: they go on taking what was sent to them while commands run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_accepts_and_shows_and_takes_the_place_of_its_original_without_sending_twice()
-> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let (data, copy) = (directory.path().join("data"), directory.path().join("copy"));
    let (backup, over_api) = (directory.path().join("backup"), directory.path().join("backups/by-api"));
    let simulators = start_relays().await?;
    let mut original = Kite::start(directory.path(), &data).await?;
    push_to(&simulators, &original)?;
    let admin = original.admin.clone();
    let customer =
        Customer::set_up(admin.http.clone(), admin.kite.clone(), ADMIN_KEY, profiles(&simulators)?).await?;
    let key = customer.key.clone();
    let early = send(&customer, 100, 20_000_000).await?;
    wait_for("something to be handed over everywhere", WITHIN, async || {
        handed_over(&simulators).values().all(|count| *count > 0).then_some(())
    })
    .await?;

    // Beside the process that writes; and by the process itself.
    done(kite(&["backup"], &[("--to", &backup), ("--data", &data)])?)?;
    let at_backup = handed_over(&simulators);
    let taken = admin.call(Method::POST, "/v1/admin/backups", &json!({ "to": "by-api" })).await?;
    ensure!(taken["name"] == "by-api", "{taken}");
    wait_for("the backup to be whole", WITHIN, async || {
        let listed = admin.get("/v1/admin/backups").await.ok()?;
        (listed["items"][0]["state"] == "whole").then_some(())
    })
    .await?;
    done(kite(&["backup"], &[("--verify", &over_api)])?)?;
    let again = admin.call(Method::POST, "/v1/admin/backups", &json!({ "to": "by-api" })).await;
    ensure!(again.is_err_and(|error| error.to_string().contains("there is a backup by-api already")));
    let elsewhere = admin.call(Method::POST, "/v1/admin/backups", &json!({ "to": "../data" })).await;
    ensure!(elsewhere.is_err_and(|error| error.to_string().contains("a name has")));

    // The original runs on for a while, and hands over what the copy believes to be waiting.
    wait_for("more to be handed over everywhere", WITHIN, async || {
        let now = handed_over(&simulators);
        PHONES.iter().all(|id| now[id] >= at_backup[id] + 2).then_some(())
    })
    .await?;
    original.process.kill()?;

    let refusal = refused(kite(&["serve", "--listen", "127.0.0.1:0"], &[("--data", &backup)])?)?;
    ensure!(refusal.contains("is a backup: make a data directory of it"), "{refusal}");
    done(kite(&["restore"], &[("--from", &backup), ("--data", &copy)])?)?;
    done(kite(&["backup"], &[("--verify", &backup)])?)?;
    done(kite(&["audit", "--verify"], &[("--data", &backup)])?)?;
    let before = handed_over(&simulators);
    let restored = Kite::start(directory.path(), &copy).await?;
    push_to(&simulators, &restored)?;
    let customer = restored.customer(&key);
    ensure!(restored.standing().await? == "copy");
    ensure!(restored.ready("instance").await?.contains("nothing is handed over until it is released"));
    let late = send(&customer, 10, 30_000_000).await?;
    wait_for("both sendings to be shown", WITHIN, async || {
        let late = customer.get(&format!("/v1/sendings/{late}")).await.ok()?;
        let early = customer.get(&format!("/v1/sendings/{early}")).await.ok()?;
        (late["counts"]["open"] == 10 && early["counts"]["open"].as_u64()? > 0).then_some(())
    })
    .await?;
    // A seal comes seconds after the last event: long after anything would have been routed and handed over.
    let position =
        admin_events(&restored, "instance-copied").await?[0]["position"].as_u64().context("one")?;
    wait_for("a seal over it", WITHIN, async || {
        let seals = admin_events(&restored, "log-sealed").await.ok()?;
        seals
            .iter()
            .any(|seal| seal["data"]["until"].as_u64().is_some_and(|until| until > position))
            .then_some(())
    })
    .await?;
    ensure!(handed_over(&simulators) == before, "a copy has handed over");
    let routed = admin_events(&restored, "messages-routed").await?;
    ensure!(routed.iter().all(|event| event["position"].as_u64() < Some(position)), "a copy has routed");
    let metrics =
        restored.admin.http.get(format!("{}/metrics", restored.admin.kite)).send().await?.text().await?;
    ensure!(metrics.contains("kite_copy 1"), "{metrics}");

    let release = "/v1/admin/instance/release";
    let unsure = json!({ "original_is_dead": false, "reason": "I do not know" });
    ensure!(restored.admin.call(Method::POST, release, &unsure).await.is_err());
    let word = json!({ "original_is_dead": true, "reason": "it was killed" });
    restored.admin.call(Method::POST, release, &word).await?;
    wait_for("the copy to be settled", WITHIN, async || {
        restored.standing().await.is_ok_and(|word| word == "settled").then_some(())
    })
    .await?;
    let late = wait_until_final(&restored, &customer, &late).await?;
    ensure!(late["counts"]["delivered"] == 10, "{late}");
    let early = wait_until_final(&restored, &customer, &early).await?;

    let ledger = simulators.ledger();
    for entry in ledger.all_entries() {
        ensure!(entry.deliveries <= 1, "taken twice: {entry:?}");
        let drops_repeats = ["alpha", "beta"].contains(&&*entry.relay);
        ensure!(entry.times_received == 1 || drops_repeats, "handed over twice: {entry:?}");
    }
    for (message, deliveries) in ledger.deliveries_by_message() {
        ensure!(deliveries <= 1, "{message} was delivered {deliveries} times");
    }
    // Whoever can be asked has got everything. Whoever cannot is left alone with what may be there.
    let got = |id: &str, all: u64| ledger.counters(id).is_some_and(|counters| counters.accepted == all);
    ensure!(got("alpha", 44) && got("beta", 33) && got("delta", 11), "{early} {:?}", ledger.summary());
    ensure!(early["counts"]["expired"].as_u64() > Some(0), "{early}");
    Ok(())
}

async fn admin_events(kite: &Kite, kind: &str) -> anyhow::Result<Vec<Value>> {
    let page = kite.admin.get(&format!("/v1/audit/events?type={kind}&limit=200")).await?;
    Ok(page["items"].as_array().context("events")?.clone())
}

/// A log of so many events that mean nothing.
async fn fill(data: &Path, events: u64) -> anyhow::Result<()> {
    std::fs::create_dir_all(data)?;
    let store = SqliteEventStore::open(&data.join("events.db"), SqliteOptions::default())?;
    for first in (0..events).step_by(1_000) {
        let event = |number: u64| NewEvent {
            id: uuid::Uuid::from_u128(u128::from(number) + 1),
            kind: "Happened".into(),
            schema_version: 1,
            data: format!("{{\"number\":{number}}}").into_bytes().into(),
        };
        let append = StreamAppend {
            stream: format!("s-{first}").into(),
            expected: Expected::Any,
            metadata: Metadata {
                time: chrono::DateTime::UNIX_EPOCH,
                tenant: None,
                correlation: uuid::Uuid::from_u128(1),
                causation: None,
                actor: "test".into(),
                traceparent: None,
            },
            events: (first..first + 1_000).map(event).collect(),
        };
        let answers = store.append(Batch::new(BatchMode::Independent, vec![append])).await;
        ensure!(answers.iter().all(Result::is_ok), "{answers:?}");
    }
    store.close();
    Ok(())
}

#[tokio::test]
async fn half_a_backup_never_looks_like_a_whole_one() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let (data, to) = (directory.path().join("data"), directory.path().join("backup"));
    fill(&data, 60_000).await?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_kite"));
    command.arg("backup").arg("--to").arg(&to).arg("--data").arg(&data);
    let mut taking = Process::start("kite backup", &mut command)?;
    let partial = directory.path().join(".backup.partial/events.db");
    wait_for("the copy to begin", WITHIN, async || partial.exists().then_some(())).await?;
    taking.pause()?;
    ensure!(!to.exists(), "it was whole already: the log is too short for this test");
    let rival = refused(kite(&["backup"], &[("--to", &to), ("--data", &data)])?)?;
    ensure!(rival.contains("somebody else is writing"), "{rival}");
    taking.kill()?;
    ensure!(!to.exists());
    for half in [&to, &directory.path().join(".backup.partial")] {
        let told = refused(kite(&["backup"], &[("--verify", half)])?)?;
        ensure!(told.contains("is no backup, or not a whole one"), "{told}");
        let copy = directory.path().join("copy");
        refused(kite(&["restore"], &[("--from", half), ("--data", &copy)])?)?;
        ensure!(!copy.exists());
    }

    // The next try cleans up, whatever it is called, and what is whole is not overwritten.
    done(kite(&["backup"], &[("--to", &directory.path().join("another")), ("--data", &data)])?)?;
    ensure!(!directory.path().join(".backup.partial").exists());
    done(kite(&["backup"], &[("--to", &to), ("--data", &data)])?)?;
    let told = done(kite(&["backup"], &[("--verify", &to)])?)?;
    ensure!(told.starts_with("60000 events up to position 60000"), "{told}");
    refused(kite(&["backup"], &[("--to", &to), ("--data", &data)])?)?;
    Ok(())
}

#[tokio::test]
async fn a_backup_that_somebody_has_changed_is_found_out_and_not_restored() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let (data, to) = (directory.path().join("data"), directory.path().join("backup"));
    fill(&data, 1_000).await?;
    done(kite(&["backup"], &[("--to", &to), ("--data", &data)])?)?;
    let mode = |path: &Path| path.metadata().map(|found| found.permissions().mode() & 0o777);
    ensure!(
        mode(&to)? == 0o700
            && mode(&to.join("events.db"))? == 0o600
            && mode(&to.join("backup.json"))? == 0o600
    );
    rusqlite::Connection::open(to.join("events.db"))?
        .execute_batch("UPDATE events SET time = time + 1 WHERE position = 7")?;
    let told = refused(kite(&["backup"], &[("--verify", &to)])?)?;
    ensure!(told.contains("events.db is not as it was"), "{told}");
    let copy = directory.path().join("copy");
    let told = refused(kite(&["restore"], &[("--from", &to), ("--data", &copy)])?)?;
    ensure!(told.contains("events.db is not as it was"), "{told}");
    ensure!(!copy.exists());
    Ok(())
}

#[tokio::test]
async fn a_log_that_is_not_as_it_was_sealed_is_restored_only_knowingly() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let (data, to) = (directory.path().join("data"), directory.path().join("backup"));
    let copy = directory.path().join("copy");
    let mut original = Kite::start(directory.path(), &data).await?;
    original
        .admin
        .call(Method::POST, "/v1/admin/tenants", &json!({ "tenant": "acme", "name": "Acme" }))
        .await?;
    wait_for("a seal", WITHIN, async || {
        admin_events(&original, "log-sealed").await.is_ok_and(|seals| !seals.is_empty()).then_some(())
    })
    .await?;
    original.process.terminate(WITHIN)?;
    rusqlite::Connection::open(data.join("events.db"))?
        .execute_batch("UPDATE events SET time = time + 1 WHERE position = 1")?;
    done(kite(&["backup"], &[("--to", &to), ("--data", &data)])?)?;
    let told = refused(kite(&["restore"], &[("--from", &to), ("--data", &copy)])?)?;
    ensure!(told.contains("the log is not as it was sealed") && told.contains("1 differences"), "{told}");
    ensure!(!copy.exists());
    done(kite(&["restore", "--unverified"], &[("--from", &to), ("--data", &copy)])?)?;
    ensure!(copy.join("events.db").exists());
    Ok(())
}

#[tokio::test]
async fn backups_and_copies_are_not_put_inside_what_they_are_of() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let (data, to) = (directory.path().join("data"), directory.path().join("backup"));
    fill(&data, 1_000).await?;
    let told = refused(kite(&["backup"], &[("--to", &data.join("backup")), ("--data", &data)])?)?;
    ensure!(told.contains("is inside"), "{told}");
    done(kite(&["backup"], &[("--to", &to), ("--data", &data)])?)?;
    let told = refused(kite(&["restore"], &[("--from", &to), ("--data", &to.join("copy"))])?)?;
    ensure!(told.contains("is inside"), "{told}");
    done(kite(&["backup"], &[("--verify", &to)])?)?;
    Ok(())
}

#[test]
fn a_process_makes_nothing_in_a_directory_that_is_somebody_elses() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let letter = directory.path().join("letter.txt");
    std::fs::write(&letter, "dear")?;
    std::fs::set_permissions(&letter, std::fs::Permissions::from_mode(0o644))?;
    let told = refused(kite(&["serve", "--listen", "127.0.0.1:0"], &[("--data", directory.path())])?)?;
    ensure!(told.contains("is no data directory of Kite") && told.contains("letter.txt"), "{told}");
    ensure!(
        std::fs::read_dir(directory.path())?.count() == 1
            && letter.metadata()?.permissions().mode() & 0o777 == 0o644
    );
    Ok(())
}

#[tokio::test]
async fn a_stopped_copy_is_released_on_the_command_line() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let (data, to) = (directory.path().join("data"), directory.path().join("backup"));
    let copy = directory.path().join("copy");
    Kite::start(directory.path(), &data).await?.process.terminate(WITHIN)?;
    done(kite(&["backup"], &[("--to", &to), ("--data", &data)])?)?;
    done(kite(&["restore"], &[("--from", &to), ("--data", &copy)])?)?;
    let full = refused(kite(&["restore"], &[("--from", &to), ("--data", &copy)])?)?;
    ensure!(full.contains("is not empty"), "{full}");
    let word = ["restore", "--release", "--original-is-dead", "--reason", "its disk is gone"];
    let original = refused(kite(&word, &[("--data", &data)])?)?;
    ensure!(original.contains("this is the original"), "{original}");
    refused(kite(&word[..2], &[("--data", &copy)])?)?;
    done(kite(&word, &[("--data", &copy)])?)?;
    let kite = Kite::start(directory.path(), &copy).await?;
    wait_for("the copy to be settled", WITHIN, async || {
        kite.standing().await.is_ok_and(|word| word == "settled").then_some(())
    })
    .await?;
    let events = admin_events(&kite, "instance-released").await?;
    ensure!(
        events[0]["actor"] == "command-line" && events[0]["data"]["reason"] == "its disk is gone",
        "{events:?}"
    );
    Ok(())
}

#[tokio::test]
async fn without_a_directory_for_backups_none_is_taken_and_a_disk_that_gets_full_is_told_and_takes_nothing_new()
-> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let address = free_address()?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_kite"));
    command.args(["serve", "--listen", &address.to_string(), "--data"]).arg(directory.path().join("data"));
    // No disk has so much room.
    command.env("KITE_ADMIN_KEY", ADMIN_KEY).env("KITE_API__READY_FREE_BYTES_MIN", "9000000000000000000");
    let process = Process::start("kite", &mut command)?;
    let http = Client::builder().no_proxy().timeout(WITHIN).build()?;
    let admin = Customer {
        http,
        kite: format!("http://{address}"),
        key: ADMIN_KEY.to_owned(),
        turned_away: Default::default(),
    };
    let kite = Kite { process, admin };
    wait_for("an answer", WITHIN, async || kite.standing().await.ok()).await?;
    ensure!(kite.standing().await? == "original");
    let none = kite.admin.call(Method::POST, "/v1/admin/backups", &json!({})).await;
    ensure!(none.is_err_and(|error| error.to_string().contains("set backup_dir")));
    ensure!(kite.ready("disk").await?.contains("bytes are free, at least 9000000000000000000 are needed"));
    ensure!(kite.ready("clock").await?.contains("goes as it should"));
    kite.admin.call(Method::POST, "/v1/admin/tenants", &json!({ "tenant": "acme", "name": "Acme" })).await?;
    let keys = "/v1/admin/tenants/acme/keys";
    let issued = kite.admin.call(Method::POST, keys, &json!({ "label": "test" })).await?;
    let body = json!({
        "from": FROM_PHONE, "type": "sms", "class": "notice", "text": "hello",
        "recipients": [{ "to": "01012345678" }],
    });
    let url = format!("{}/v1/sendings", kite.admin.kite);
    let key = issued["key"].as_str().context("a key")?;
    let answer = kite.admin.http.post(url).bearer_auth(key).json(&body).send().await?;
    let (status, has_retry) = (answer.status(), answer.headers().contains_key("retry-after"));
    let problem: Value = answer.json().await?;
    ensure!(
        status == StatusCode::SERVICE_UNAVAILABLE && has_retry && problem["code"] == "no-room",
        "{problem}"
    );
    Ok(())
}
