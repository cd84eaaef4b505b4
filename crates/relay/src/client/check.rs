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
use kite_domain::relay::{Endpoint, ProfileFault, RelayCertificate, RelayProfile, SmtpSecurity};
use lettre::transport::smtp::Error as SmtpError;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::extension::ClientId;
use reqwest::Url;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;

use super::http::HttpRelayClient;
use super::{CallFailed, ClientError, TlsError, tls};

/// How long one step may take.
const STEP_MAX: Duration = Duration::from_secs(5);

/// The steps so far.
struct CheckSteps<'c> {
    clock: &'c dyn Clock,
    report: CheckReport,
}

/// A step failed: nothing more is tried.
struct Failed;

/// What a step came to that held.
struct Held<T> {
    value: T,
    detail: String,
}

/// Without more than that it held.
fn held(detail: impl Into<String>) -> Held<()> {
    Held { value: (), detail: detail.into() }
}

/// Why a step did not hold, for the operator.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("no answer within {} s", STEP_MAX.as_secs())]
    TooLate,
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Profile(Vec<ProfileFault>),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("{host} cannot be resolved")]
    NotResolved { host: String, source: io::Error },
    #[error("{host} has no address")]
    NoAddress { host: String },
    #[error("port {port} of {host}")]
    NotConnected { host: String, port: u16, source: io::Error },
    /// There was no answer.
    #[error(transparent)]
    Call(#[from] CallFailed),
    /// There was one, and it is not as it should be.
    #[error("{what} ({words})")]
    Answer { what: &'static str, words: String },
    #[error(transparent)]
    Conversation(#[from] SmtpError),
    #[error("the server offers no TLS, which is required")]
    NoTls,
    #[error("the server offers no TLS, and the credentials are not sent without it")]
    NoTlsForLogin,
    #[error("the login is not taken")]
    Login(#[source] SmtpError),
    #[error("it answers no more")]
    Silent,
}

impl From<TlsError> for Fault {
    fn from(error: TlsError) -> Self {
        Self::Client(error.into())
    }
}

type Came<T> = Result<Held<T>, Fault>;

impl CheckSteps<'_> {
    /// Notes what came of a step that began then.
    fn note<T>(&mut self, step: &'static str, began: DateTime<Utc>, came: Came<T>) -> Result<T, Failed> {
        let took = (self.clock.now() - began).to_std().unwrap_or_default();
        let (value, verdict, detail) = match came {
            Ok(Held { value, detail }) => (Ok(value), CheckVerdict::Held, detail),
            Err(fault) => (Err(Failed), CheckVerdict::Failed, describe(&fault)),
        };
        self.report.steps.push(CheckStep { step, verdict, detail, took });
        value
    }

    /// Takes a step, in the time that it may have.
    async fn take<T>(
        &mut self,
        step: &'static str,
        work: impl Future<Output = Came<T>>,
    ) -> Result<T, Failed> {
        let began = self.clock.now();
        let came = tokio::time::timeout(STEP_MAX, work).await;
        self.note(step, began, came.unwrap_or(Err(Fault::TooLate)))
    }
}

/// Calls a relay without handing it a message; see the module.
pub async fn check(profile: &RelayProfile, vault: &Vault, clock: &dyn Clock) -> CheckReport {
    let mut steps = CheckSteps { clock, report: CheckReport::default() };
    match vault.open(profile) {
        // How far it came is in the report.
        Ok(profile) => _ = take_all(&profile, &mut steps).await,
        Err(error) => _ = steps.note::<()>("definition", clock.now(), Err(ClientError::Locked(error).into())),
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
fn usable(profile: &RelayProfile, now: DateTime<Utc>) -> Came<()> {
    let faults: Vec<ProfileFault> = profile.unusable().into_iter().chain(profile.outdated(now)).collect();
    if !faults.is_empty() {
        return Err(Fault::Profile(faults));
    }
    let until = |one: &RelayCertificate| {
        let Certificate { name, not_after, .. } = &one.certificate;
        format!("; {}: {name} holds until {}", one.field, not_after.to_rfc3339())
    };
    let certificates: String = profile.tls.certificates().iter().map(until).collect();
    Ok(held(format!("a client can be built{certificates}")))
}

fn mail_client(host: &str, profile: &RelayProfile, now: DateTime<Utc>) -> Came<()> {
    let usable = usable(profile, now)?;
    tls::mail_parameters(host, profile)?;
    Ok(usable)
}

fn http_client(
    base_url: &str,
    profile: &RelayProfile,
    now: DateTime<Utc>,
) -> Came<(HttpRelayClient, String, u16)> {
    let Held { value: (), detail } = usable(profile, now)?;
    let client = HttpRelayClient::new(base_url, profile)?;
    let url = Url::parse(base_url).map_err(ClientError::BaseUrl)?;
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = url.port_or_known_default().unwrap_or(80);
    Ok(Held { value: (client, host, port), detail })
}

/// Finds the relay and connects to it.
async fn reach(host: &str, port: u16, steps: &mut CheckSteps<'_>) -> Result<TcpStream, Failed> {
    let resolve = async {
        let found = tokio::net::lookup_host((host, port)).await;
        let not_resolved = |source| Fault::NotResolved { host: host.to_owned(), source };
        let found: Vec<SocketAddr> = found.map_err(not_resolved)?.collect();
        let first = found.first().ok_or_else(|| Fault::NoAddress { host: host.to_owned() })?;
        let detail = format!("{host} is {} and {} more", first.ip(), found.len() - 1);
        Ok(Held { value: found, detail })
    };
    let addresses = steps.take("resolve", resolve).await?;
    let connect = async {
        let connected = TcpStream::connect(&*addresses).await;
        let not_connected = |source| Fault::NotConnected { host: host.to_owned(), port, source };
        let stream = connected.map_err(not_connected)?;
        let at = stream.peer_addr().map_or_else(|_| host.to_owned(), |at| at.to_string());
        Ok(Held { value: stream, detail: format!("connected to {at}") })
    };
    steps.take("connect", connect).await
}

async fn ask(client: &HttpRelayClient, answers_status: bool) -> Came<()> {
    let (status, words) = client.knock(answers_status).await?;
    let held = |detail: &str| Ok(held(format!("{detail} ({words})")));
    let failed = |what| Err(Fault::Answer { what, words: words.clone() });
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
        let connection = greeted?;
        let detail =
            if connection.is_encrypted() { "greeted, encrypted from the first byte" } else { "greeted" };
        Ok(Held { value: connection, detail: detail.to_owned() })
    };
    let mut connection = steps.take("greet", greet).await?;
    let has_login = profile.credentials.api_key.is_some();
    let encrypt = async {
        match security {
            SmtpSecurity::Plain => Ok(held("not wanted")),
            SmtpSecurity::Wrapped => Ok(held("from the first byte")),
            SmtpSecurity::Opportunistic | SmtpSecurity::Required if connection.can_starttls() => {
                connection.starttls(tls()?, &hello).await?;
                Ok(held("STARTTLS"))
            }
            SmtpSecurity::Required => Err(Fault::NoTls),
            SmtpSecurity::Opportunistic if has_login => Err(Fault::NoTlsForLogin),
            SmtpSecurity::Opportunistic => Ok(held("not offered: mails go in the clear")),
        }
    };
    steps.take("encrypt", encrypt).await?;
    let login = async {
        let Some(password) = profile.credentials.api_key.clone() else {
            return Ok(held("no credentials"));
        };
        let user = profile.credentials.user.clone().unwrap_or_default();
        let authenticated = connection.auth(DEFAULT_MECHANISMS, &Credentials::new(user, password)).await;
        authenticated.map_err(Fault::Login)?;
        Ok(held("the login is taken"))
    };
    steps.take("login", login).await?;
    let word = async {
        let is_there = connection.test_connected().await;
        // Whether it says good-bye does not matter any more.
        let _ = connection.quit().await;
        if is_there { Ok(held("it answers")) } else { Err(Fault::Silent) }
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
