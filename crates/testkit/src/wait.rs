//! Waiting for something that happens elsewhere: in another process, behind a socket, after a retry.
//!
//! A test waits for a *condition*, with a timeout that only limits a failure; it never sleeps in the hope that
//! something has happened meanwhile. This is the only place in which tests and tools sleep, between two looks.

use std::fmt::Debug;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use crate::dice::{Dice, any_seed};

/// First pause between two looks; it doubles up to [`PAUSE_MAX`].
const PAUSE_FIRST: Duration = Duration::from_millis(1);
/// Longest pause between two looks.
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// The pauses between looks, and the time after which to give up.
struct Patience {
    started: Instant,
    timeout: Duration,
    pause: Duration,
}

impl Patience {
    #[expect(
        clippy::disallowed_methods,
        reason = "what is waited for happens in real time, in another process"
    )]
    fn new(timeout: Duration) -> Self {
        Self { started: Instant::now(), timeout, pause: PAUSE_FIRST }
    }

    /// The next pause, or that time is up.
    fn pause(&mut self, what: &str) -> anyhow::Result<Duration> {
        if self.started.elapsed() >= self.timeout {
            bail!("waited {:?} in vain for {what}", self.timeout);
        }
        let pause = self.pause;
        self.pause = (pause * 2).min(PAUSE_MAX);
        Ok(pause)
    }
}

/// Looks again and again until there is a value, and gives it back.
///
/// # Errors
/// When the timeout is over; `what` says what was waited for.
#[expect(clippy::disallowed_methods, reason = "between two looks at a condition outside of this process")]
pub async fn wait_for<T>(
    what: &str,
    timeout: Duration,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> anyhow::Result<T> {
    let mut patience = Patience::new(timeout);
    loop {
        if let Some(value) = look().await {
            return Ok(value);
        }
        tokio::time::sleep(patience.pause(what)?).await;
    }
}

/// Looks again and again until the condition holds.
///
/// # Errors
/// When the timeout is over; `what` says what was waited for.
pub async fn wait_until(
    what: &str,
    timeout: Duration,
    mut look: impl AsyncFnMut() -> bool,
) -> anyhow::Result<()> {
    wait_for(what, timeout, async || look().await.then_some(())).await
}

/// Like [`wait_for`], for code that is not asynchronous.
///
/// # Errors
/// When the timeout is over; `what` says what was waited for.
#[expect(clippy::disallowed_methods, reason = "between two looks at a condition outside of this process")]
pub fn block_for<T>(what: &str, timeout: Duration, mut look: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
    let mut patience = Patience::new(timeout);
    loop {
        if let Some(value) = look() {
            return Ok(value);
        }
        std::thread::sleep(patience.pause(what)?);
    }
}

/// Waits until a GET of this URL is answered with 2xx.
///
/// # Errors
/// When the timeout is over; says what the last answer was.
pub async fn wait_until_ready(url: &str, timeout: Duration) -> anyhow::Result<()> {
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(2)).build()?;
    let last = Mutex::new(String::from("none"));
    let look = async || match client.get(url).send().await {
        Ok(response) if response.status().is_success() => Some(()),
        other => {
            *last.lock().unwrap_or_else(PoisonError::into_inner) = describe(other);
            None
        }
    };
    let waited = wait_for(url, timeout, look).await;
    waited.with_context(|| format!("the last answer was {last:?}"))
}

fn describe(answer: Result<reqwest::Response, impl Debug>) -> String {
    match answer {
        Ok(response) => response.status().to_string(),
        Err(error) => format!("{error:?}"),
    }
}

/// Ports below those that the system gives to whoever connects: a program that is restarted finds its port as it left it.
const PORT_FIRST: u64 = 15_000;
const PORT_LAST: u64 = 32_000;
/// How many of them are tried.
const PORT_TRIES: usize = 100;

/// An address on this machine on which nothing listens right now, and which no outgoing connection is given. Another
/// test may take it before it is used: prefer port 0 where the program under test can say which port it got.
///
/// # Errors
/// When no port can be had.
pub fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(free_addresses(1)?[0])
}

/// So many of them at once, no two the same. See [`free_address`].
///
/// # Errors
/// When not so many ports can be had.
pub fn free_addresses(count: usize) -> anyhow::Result<Vec<SocketAddr>> {
    let mut dice = Dice::new(any_seed());
    let ports = (0..PORT_TRIES + count).map(|_| dice.between(PORT_FIRST, PORT_LAST) as u16);
    let listeners = ports.filter_map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok());
    // They are closed only when there are enough: until then none is found twice.
    let listeners: Vec<TcpListener> = listeners.take(count).collect();
    ensure!(listeners.len() == count, "no free port");
    Ok(listeners.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[tokio::test]
    async fn it_returns_as_soon_as_the_condition_holds() {
        let mut looks = 0;
        let looking = async || {
            looks += 1;
            (looks == 3).then_some("there")
        };
        assert_eq!(wait_for("the third look", Duration::from_secs(60), looking).await.unwrap(), "there");
        assert_eq!(looks, 3);
    }

    #[test]
    fn it_gives_up_and_says_on_what() {
        let error = block_for("rain", Duration::from_millis(5), || None::<()>).unwrap_err();
        assert!(error.to_string().contains("in vain for rain"), "{error}");
    }

    #[test]
    fn no_two_free_addresses_are_the_same() {
        let addresses = free_addresses(20).unwrap();
        assert_eq!(addresses.iter().collect::<HashSet<_>>().len(), 20, "{addresses:?}");
    }

    #[tokio::test]
    async fn readiness_names_the_last_answer() {
        let address = free_address().unwrap();
        let error = wait_until_ready(&format!("http://{address}/readyz"), Duration::from_millis(20))
            .await
            .unwrap_err();
        assert!(format!("{error:#}").contains("/readyz"), "{error:#}");
    }
}
