//! `kite relays`: information about the relays, from a running instance or from the log of a stopped one.

use anyhow::{Context, bail};
use kite_commands::clock::{SystemClock, SystemIds};
use kite_commands::directory::Directory;
use kite_commands::relay_desk::CheckReport;
use kite_commands::{Clock, Journal, Vault};
use kite_domain::relay::RelayDirectory;
use kite_relay::check_relay;
use reqwest::Method;
use serde_json::{Value, json};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use crate::cli::{RelaysCommand, RelaysOptions};
use crate::config::Config;
use crate::log::open_log;
use crate::running::Running;
use crate::serve::runtime;

/// `kite relays`.
pub(crate) fn run(command: RelaysCommand) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(async {
        match command {
            RelaysCommand::List(options) => list(&options).await,
            RelaysCommand::Check { relay, options } => check(relay.as_deref(), &options).await,
        }
    })
}

fn running(options: &RelaysOptions) -> anyhow::Result<Running> {
    Running::of(&Config::load(options.config.as_deref())?, options.url.as_deref())
}

async fn list(options: &RelaysOptions) -> anyhow::Result<ExitCode> {
    let relays = match &options.data {
        Some(data) => from_log(data)
            .await?
            .iter()
            .map(|(_, entry)| {
                let left = entry.unattended.as_ref();
                json!({
                    "relay": entry.profile.relay,
                    "suspended": entry.suspended,
                    "unattended": left.map(|left| json!({"reason": left.reason, "since": left.since})),
                    "breaker": entry.breaker,
                })
            })
            .collect(),
        None => relays(&running(options)?).await?,
    };
    if options.json {
        println!("{}", json!({ "relays": relays }));
        return Ok(ExitCode::SUCCESS);
    }
    for relay in &relays {
        let words = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let trouble = match (&relay["suspended"], &relay["unattended"]) {
            (Value::String(reason), _) => format!("suspended: {reason}"),
            (_, Value::Object(left)) => {
                format!("nobody works for it since {}: {}", words(&left["since"]), words(&left["reason"]))
            }
            _ => words(&relay["now"]["breaker_reason"]),
        };
        println!("{:<20} {:<8} {trouble}", words(&relay["relay"]), words(&relay["breaker"]));
    }
    Ok(ExitCode::SUCCESS)
}

async fn check(relay: Option<&str>, options: &RelaysOptions) -> anyhow::Result<ExitCode> {
    let reports = match &options.data {
        Some(data) => {
            let vault = Config::load(options.config.as_deref())?.vault()?;
            check_from_log(relay, data, &vault).await?
        }
        None => check_over_api(relay, &running(options)?).await?,
    };
    if reports.is_empty() {
        bail!("there is no such relay");
    }
    let is_usable = reports.iter().all(|(_, report)| report["is_usable"] == true);
    if options.json {
        let relays: serde_json::Map<_, _> = reports.into_iter().collect();
        println!("{}", json!({ "is_usable": is_usable, "relays": relays }));
    } else {
        for (relay, report) in &reports {
            print_report(relay, report);
        }
    }
    Ok(if is_usable { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print_report(relay: &str, report: &Value) {
    let verdict = if report["is_usable"] == true { "can be used" } else { "cannot be used" };
    println!("{relay}: {verdict}");
    for step in report["steps"].as_array().into_iter().flatten() {
        let words = |key: &str| step[key].as_str().unwrap_or_default();
        println!(
            "  {:<11} {:<7} {:>6} ms  {}",
            words("step"),
            words("verdict"),
            step["took_ms"],
            words("detail")
        );
    }
}

/// The relays as the log of a stopped instance has them.
async fn from_log(data: &Path) -> anyhow::Result<RelayDirectory> {
    let store = open_log(data)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let directory = Directory::default();
    let read = directory.catch_up(&Journal::new(store.clone(), clock, Arc::new(SystemIds))).await;
    store.close();
    read.context("the log cannot be read")?;
    Ok(directory.snapshot().relays.clone())
}

async fn check_from_log(
    relay: Option<&str>,
    data: &Path,
    vault: &Vault,
) -> anyhow::Result<Vec<(String, Value)>> {
    let relays = from_log(data).await?;
    let mut reports = Vec::new();
    for (id, entry) in relays.iter().filter(|(id, _)| relay.is_none_or(|wanted| wanted == id.as_str())) {
        let report = check_relay(&entry.profile, vault, &SystemClock).await;
        reports.push((id.to_string(), report_json(&report)));
    }
    Ok(reports)
}

/// As the API says it.
fn report_json(report: &CheckReport) -> Value {
    let steps = report.steps.iter().map(|step| {
        let verdict: &str = step.verdict.into();
        json!({
            "step": step.step,
            "verdict": verdict,
            "detail": step.detail,
            "took_ms": step.took.as_millis() as u64,
        })
    });
    json!({ "is_usable": report.is_usable(), "steps": steps.collect::<Vec<_>>() })
}

async fn relays(instance: &Running) -> anyhow::Result<Vec<Value>> {
    let mut answer = instance.ask(Method::GET, "/v1/admin/relays").await?;
    match answer["items"].take() {
        Value::Array(relays) => Ok(relays),
        _ => bail!("it answered without a list of relays"),
    }
}

async fn check_over_api(relay: Option<&str>, instance: &Running) -> anyhow::Result<Vec<(String, Value)>> {
    let relays: Vec<String> = match relay {
        Some(relay) => vec![relay.to_owned()],
        None => {
            let relays = relays(instance).await?;
            relays.iter().filter_map(|relay| relay["relay"].as_str().map(str::to_owned)).collect()
        }
    };
    let mut reports = Vec::new();
    for relay in relays {
        let report = instance.ask(Method::POST, &format!("/v1/admin/relays/{relay}/check")).await?;
        reports.push((relay, report));
    }
    Ok(reports)
}
