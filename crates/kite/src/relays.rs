//! `kite relays`: what an operator wants to know of the relays, from a running instance or from the log of a stopped one.

use anyhow::{Context, bail};
use kite_commands::clock::{SystemClock, SystemIds};
use kite_commands::directory::Directory;
use kite_commands::relay_desk::{CheckReport, CheckVerdict};
use kite_commands::{Clock, Journal};
use kite_domain::relay::RelayDirectory;
use kite_relay::check_relay;
use serde_json::{Value, json};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use crate::cli::{RelaysCommand, RelaysOptions};
use crate::config::Config;
use crate::operator::open_log;
use crate::serve::runtime;

/// Holds the key of an operator who has one of his own.
const OPERATOR_KEY: &str = "KITE_KEY";
/// Longer than a check takes.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// `kite relays`.
pub(crate) fn run(command: RelaysCommand) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(async {
        match command {
            RelaysCommand::List(options) => list(&options).await,
            RelaysCommand::Check { relay, options } => check(relay.as_deref(), &options).await,
        }
    })
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
        None => Instance::of(options)?.relays().await?,
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
        Some(data) => check_from_log(relay, data).await?,
        None => Instance::of(options)?.check(relay).await?,
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

async fn check_from_log(relay: Option<&str>, data: &Path) -> anyhow::Result<Vec<(String, Value)>> {
    let relays = from_log(data).await?;
    let mut reports = Vec::new();
    for (id, entry) in relays.iter().filter(|(id, _)| relay.is_none_or(|wanted| wanted == id.as_str())) {
        let report = check_relay(&entry.profile, &SystemClock).await;
        reports.push((id.to_string(), report_json(&report)));
    }
    Ok(reports)
}

/// As the API says it.
fn report_json(report: &CheckReport) -> Value {
    let steps = report.steps.iter().map(|step| {
        let verdict = match step.verdict {
            CheckVerdict::Held => "held",
            CheckVerdict::Failed => "failed",
        };
        json!({
            "step": step.step,
            "verdict": verdict,
            "detail": step.detail,
            "took_ms": step.took.as_millis() as u64,
        })
    });
    json!({ "is_usable": report.is_usable(), "steps": steps.collect::<Vec<_>>() })
}

/// A running instance.
struct Instance {
    http: reqwest::Client,
    url: String,
    key: String,
}

impl Instance {
    fn of(options: &RelaysOptions) -> anyhow::Result<Self> {
        let config = Config::load(options.config.as_deref())?;
        let address = config.admin_address();
        let key = std::env::var(OPERATOR_KEY).unwrap_or(config.admin_key);
        if key.is_empty() {
            bail!(
                "an operator's key is needed: set {OPERATOR_KEY}, or KITE_ADMIN_KEY or admin_key in the configuration"
            );
        }
        let http = reqwest::Client::builder().timeout(ANSWER_TIMEOUT).no_proxy().build()?;
        let url = options.url.clone().unwrap_or_else(|| format!("http://{address}"));
        Ok(Self { http, url: url.trim_end_matches('/').to_owned(), key })
    }

    async fn relays(&self) -> anyhow::Result<Vec<Value>> {
        let mut answer = self.ask(reqwest::Method::GET, "/v1/admin/relays").await?;
        match answer["items"].take() {
            Value::Array(relays) => Ok(relays),
            _ => bail!("{} answered without a list of relays", self.url),
        }
    }

    async fn check(&self, relay: Option<&str>) -> anyhow::Result<Vec<(String, Value)>> {
        let relays: Vec<String> = match relay {
            Some(relay) => vec![relay.to_owned()],
            None => {
                let relays = self.relays().await?;
                relays.iter().filter_map(|relay| relay["relay"].as_str().map(str::to_owned)).collect()
            }
        };
        let mut reports = Vec::new();
        for relay in relays {
            let report = self.ask(reqwest::Method::POST, &format!("/v1/admin/relays/{relay}/check")).await?;
            reports.push((relay, report));
        }
        Ok(reports)
    }

    async fn ask(&self, method: reqwest::Method, path: &str) -> anyhow::Result<Value> {
        let request = self.http.request(method, format!("{}{path}", self.url)).bearer_auth(&self.key);
        let answer = request
            .send()
            .await
            .with_context(|| format!("{} cannot be reached; is it running?", self.url))?;
        let status = answer.status();
        let body: Value = answer.json().await.with_context(|| format!("{path} answered {status}"))?;
        match status.is_success() {
            true => Ok(body),
            false => bail!("{path} answered {status}: {}", body["detail"].as_str().unwrap_or_default()),
        }
    }
}
