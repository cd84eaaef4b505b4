//! Calls a relay as its workers would, but hands nothing over: step by step, each in a limited time, with a result
//! that an operator can act on.
//!
//! An HTTP relay is asked about a reference that nobody ever gave it. If it does not answer such questions, it is
//! handed an empty batch, which it refuses after it has checked the key. With a mail server the conversation ends
//! after the login.

use chrono::{DateTime, Utc};
use kite_commands::relay_desk::{CheckReport, CheckStep, CheckVerdict};
use kite_commands::worker::describe;
use kite_commands::{Clock, Vault};
use kite_domain::certificate::Certificate;
use kite_domain::relay::{Endpoint, RelayCertificate, RelayProfile, SmtpSecurity};
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::extension::ClientId;
use reqwest::Url;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;

use super::http::HttpRelayClient;
use super::tls;

/// How long one step may take.
const STEP_MAX: Duration = Duration::from_secs(5);

/// The steps so far.
struct CheckSteps<'c> {
    clock: &'c dyn Clock,
    report: CheckReport,
}

/// A step failed: nothing more is tried.
struct Failed;

impl CheckSteps<'_> {
    /// Notes what came of a step that began then.
    fn note<T>(
        &mut self,
        step: &'static str,
        began: DateTime<Utc>,
        came: Result<(T, String), String>,
    ) -> Result<T, Failed> {
        let took = (self.clock.now() - began).to_std().unwrap_or_default();
        let (value, verdict, detail) = match came {
            Ok((value, detail)) => (Ok(value), CheckVerdict::Held, detail),
            Err(detail) => (Err(Failed), CheckVerdict::Failed, detail),
        };
        self.report.steps.push(CheckStep { step, verdict, detail, took });
        value
    }

    /// Takes a step, in the time that it may have.
    async fn take<T>(
        &mut self,
        step: &'static str,
        work: impl Future<Output = Result<(T, String), String>>,
    ) -> Result<T, Failed> {
        let began = self.clock.now();
        let came = tokio::time::timeout(STEP_MAX, work).await;
        let came = came.unwrap_or_else(|_| Err(format!("no answer within {} s", STEP_MAX.as_secs())));
        self.note(step, began, came)
    }
}

/// Calls a relay without handing it a message; see the module.
pub async fn check(profile: &RelayProfile, vault: &Vault, clock: &dyn Clock) -> CheckReport {
    let mut steps = CheckSteps { clock, report: CheckReport::default() };
    match vault.open(profile) {
        // How far it came is in the report.
        Ok(profile) => _ = take_all(&profile, &mut steps).await,
        Err(error) => _ = steps.note::<()>("definition", clock.now(), Err(error.to_string())),
    }
    steps.report
}

async fn take_all(profile: &RelayProfile, steps: &mut CheckSteps<'_>) -> Result<(), Failed> {
    let began = steps.clock.now();
    match &profile.endpoint {
        Endpoint::Http { base_url } => {
            let (client, host, port) =
                steps.note("definition", began, http_client(base_url, profile, began))?;
            reach(&host, port, steps).await?;
            steps.take("ask", ask(&client, profile.answers_status)).await
        }
        Endpoint::Smtp { host, port, security } => {
            steps.note("definition", began, mail_client(host, profile, began))?;
            let stream = reach(host, *port, steps).await?;
            converse(profile, (host, *port), *security, stream, steps).await
        }
    }
}

/// A client can be made with an expired certificate, but the other side does not trust it.
fn usable(profile: &RelayProfile, now: DateTime<Utc>) -> Result<((), String), String> {
    let faults = profile.unusable().into_iter().chain(profile.outdated(now));
    let faults: Vec<String> = faults.map(|fault| fault.to_string()).collect();
    if !faults.is_empty() {
        return Err(faults.join("; "));
    }
    let until = |one: &RelayCertificate| {
        let Certificate { name, not_after, .. } = &one.certificate;
        format!("; {}: {name} holds until {}", one.field, not_after.to_rfc3339())
    };
    let certificates: String = profile.tls.certificates().iter().map(until).collect();
    Ok(((), format!("a client can be built{certificates}")))
}

fn mail_client(host: &str, profile: &RelayProfile, now: DateTime<Utc>) -> Result<((), String), String> {
    let usable = usable(profile, now)?;
    tls::mail_parameters(host, profile)?;
    Ok(usable)
}

fn http_client(
    base_url: &str,
    profile: &RelayProfile,
    now: DateTime<Utc>,
) -> Result<((HttpRelayClient, String, u16), String), String> {
    let ((), detail) = usable(profile, now)?;
    let client = HttpRelayClient::new(base_url, profile)?;
    let url = Url::parse(base_url).map_err(|error| error.to_string())?;
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = url.port_or_known_default().unwrap_or(80);
    Ok(((client, host, port), detail))
}

/// Finds the relay and connects to it.
async fn reach(host: &str, port: u16, steps: &mut CheckSteps<'_>) -> Result<TcpStream, Failed> {
    let resolve = async {
        let found = tokio::net::lookup_host((host, port)).await;
        let found: Vec<SocketAddr> =
            found.map_err(|error| format!("{host} cannot be resolved: {error}"))?.collect();
        match found.first() {
            Some(first) => {
                let detail = format!("{host} is {} and {} more", first.ip(), found.len() - 1);
                Ok((found, detail))
            }
            None => Err(format!("{host} has no address")),
        }
    };
    let addresses = steps.take("resolve", resolve).await?;
    let connect = async {
        let connected = TcpStream::connect(&*addresses).await;
        let stream = connected.map_err(|error| format!("port {port} of {host}: {error}"))?;
        let at = stream.peer_addr().map_or_else(|_| host.to_owned(), |at| at.to_string());
        Ok((stream, format!("connected to {at}")))
    };
    steps.take("connect", connect).await
}

async fn ask(client: &HttpRelayClient, answers_status: bool) -> Result<((), String), String> {
    let (status, words) = client.knock(answers_status).await.map_err(|reason| reason.to_string())?;
    let held = |detail: &str| Ok(((), format!("{detail} ({words})")));
    let failed = |detail: &str| Err(format!("{detail} ({words})"));
    match status {
        200 => held("it answers and takes the key"),
        400 | 413 | 422 if !answers_status => {
            held("it answers, takes the key, and refuses an empty hand-over")
        }
        429 => held("it answers, and says that it is too much just now"),
        401 | 403 => failed("it does not take the key: set credentials.api_key"),
        404 | 405 if answers_status => {
            failed("nobody answers status queries there: check base_url and answers_status")
        }
        404 | 405 => failed("nobody takes hand-overs there: check base_url"),
        300..=399 => failed("it sends elsewhere, which is not followed: give the final address as base_url"),
        503 => failed("it is out of service"),
        _ => failed("it answers otherwise than the relay protocol says"),
    }
}

/// As the workers do: greeting, encryption, login. Then one command, and the end.
async fn converse(
    profile: &RelayProfile,
    server: (&str, u16),
    security: SmtpSecurity,
    stream: TcpStream,
    steps: &mut CheckSteps<'_>,
) -> Result<(), Failed> {
    let hello = ClientId::default();
    let tls = || tls::mail_parameters(server.0, profile);
    let greet = async {
        let greeted = match security {
            SmtpSecurity::Wrapped => {
                drop(stream);
                let tls = tls()?;
                AsyncSmtpConnection::connect_tokio1(server, Some(STEP_MAX), &hello, Some(tls), None).await
            }
            SmtpSecurity::Opportunistic | SmtpSecurity::Required | SmtpSecurity::Plain => {
                AsyncSmtpConnection::connect_with_transport(Box::new(stream), &hello).await
            }
        };
        let connection = greeted.map_err(|error| describe(&error))?;
        let detail =
            if connection.is_encrypted() { "greeted, encrypted from the first byte" } else { "greeted" };
        Ok((connection, detail.to_owned()))
    };
    let mut connection = steps.take("greet", greet).await?;
    let has_login = profile.credentials.api_key.is_some();
    let encrypt = async {
        match security {
            SmtpSecurity::Plain => Ok(((), "not wanted".to_owned())),
            SmtpSecurity::Wrapped => Ok(((), "from the first byte".to_owned())),
            SmtpSecurity::Opportunistic | SmtpSecurity::Required if connection.can_starttls() => {
                let encrypted = connection.starttls(tls()?, &hello).await;
                encrypted.map_err(|error| describe(&error))?;
                Ok(((), "STARTTLS".to_owned()))
            }
            SmtpSecurity::Required => Err("the server offers no TLS, which is required".to_owned()),
            SmtpSecurity::Opportunistic if has_login => {
                Err("the server offers no TLS, and the credentials are not sent without it".to_owned())
            }
            SmtpSecurity::Opportunistic => Ok(((), "not offered: mails go in the clear".to_owned())),
        }
    };
    steps.take("encrypt", encrypt).await?;
    let login = async {
        let Some(password) = profile.credentials.api_key.clone() else {
            return Ok(((), "no credentials".to_owned()));
        };
        let user = profile.credentials.user.clone().unwrap_or_default();
        let authenticated = connection.auth(DEFAULT_MECHANISMS, &Credentials::new(user, password)).await;
        authenticated.map_err(|error| format!("the login is not taken: {}", describe(&error)))?;
        Ok(((), "the login is taken".to_owned()))
    };
    steps.take("login", login).await?;
    let word = async {
        let is_there = connection.test_connected().await;
        // Whether it says good-bye does not matter any more.
        let _ = connection.quit().await;
        if is_there { Ok(((), "it answers".to_owned())) } else { Err("it answers no more".to_owned()) }
    };
    steps.take("ask", word).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use kite_commands::clock::SystemClock;
    use kite_relay_sim::{RelaySim, Scenario};
    use serde_json::json;

    use crate::worker::testing::profile;

    async fn steps(profile: &RelayProfile) -> Vec<(&'static str, CheckVerdict, String)> {
        let report = check(profile, &Vault::default(), &SystemClock).await;
        report.steps.into_iter().map(|step| (step.step, step.verdict, step.detail)).collect()
    }

    async fn simulated() -> RelaySim {
        let scenario = json!({ "seed": 7, "relays": [
            { "id": "alpha", "api_key": "alpha-key", "channels": ["sms"], "behaviour": {} },
        ] });
        RelaySim::start(Scenario::from_json(&scenario.to_string()).unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn a_relay_that_answers_is_usable_and_is_handed_nothing() {
        let sim = simulated().await;
        let endpoint = Endpoint::Http { base_url: sim.base_url("alpha") };
        let mut profile = RelayProfile { endpoint, ..profile("alpha") };
        for answers_status in [true, false] {
            profile.answers_status = answers_status;
            let steps = steps(&profile).await;
            let names: Vec<_> = steps.iter().map(|(step, verdict, _)| (*step, *verdict)).collect();
            let all = ["definition", "resolve", "connect", "ask"];
            assert_eq!(names, all.map(|step| (step, CheckVerdict::Held)), "{steps:?}");
        }
        profile.credentials.api_key = Some("another".to_owned());
        let (step, verdict, detail) = steps(&profile).await.pop().unwrap();
        assert_eq!((step, verdict), ("ask", CheckVerdict::Failed));
        assert!(detail.contains("credentials.api_key") && detail.contains("401"), "{detail}");
        assert!(!detail.contains("another"), "{detail}");
    }

    #[tokio::test]
    async fn what_fails_is_named_and_nothing_is_tried_after_it() {
        let mut unusable = profile("alpha");
        unusable.credentials.api_key = Some("k\n".to_owned());
        let [(step, CheckVerdict::Failed, detail)] = &*steps(&unusable).await else { panic!("one step") };
        assert_eq!(*step, "definition");
        assert!(detail.starts_with("credentials.api_key"), "{detail}");
        let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let endpoint = Endpoint::Http { base_url: format!("http://{free}") };
        let (step, verdict, detail) =
            steps(&RelayProfile { endpoint, ..profile("alpha") }).await.pop().unwrap();
        assert_eq!((step, verdict), ("connect", CheckVerdict::Failed));
        assert!(detail.contains("refused"), "{detail}");
    }
}
