//! The run: load, faults, looks; then calm, the end, and the trial.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use chrono::{TimeDelta, Utc};
use kite_testkit::wait::wait_for;
use reqwest::Method;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Plan;
use super::balance::Balance;
use super::faults::{Calm, Faults, KiteFault, MayDie, Turn};
use super::flat::{Disk, Memory};
use super::house::House;
use super::minute::{Files, Minute, metric_sum};
use super::traffic::Traffic;
use super::trial::{self, Report};
use crate::load::measure::{directory_bytes, metric_max, resident_bytes};

/// How long the read models may take to show what got a 202.
const CATCH_UP_WITHIN: Duration = Duration::from_secs(30);
/// How long everything may take to become final after the load: deadlines of receipts, and breakers.
const FINAL_WITHIN: Duration = Duration::from_secs(600);
/// Between two looks at the memory.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// The share of its life in which a process fills its caches; what it grows then is not looked at.
const WARM_UP_SHARE: f64 = 0.4;

/// Everything that takes part.
struct Soak {
    house: House,
    traffic: Traffic,
    faults: Faults,
    calm: Calm,
    balance: Balance,
    start: Instant,
    minutes: Vec<Minute>,
}

/// Runs all of it.
#[expect(clippy::disallowed_methods, reason = "the processes under test live in real time")]
pub(super) async fn soak(plan: &Plan, directory: &Path) -> anyhow::Result<Report> {
    let seconds = plan.seconds as i64;
    let now = Utc::now();
    // A night of some minutes, before the processes stop dying.
    let night = (now + TimeDelta::seconds(seconds / 5), now + TimeDelta::seconds(seconds * 2 / 5));
    let house = House::start(directory, plan.seed, night).await?;
    let empty = (directory_bytes(&house.data())?, 0);
    let mut soak = Soak {
        calm: Calm::of(&house).await?,
        traffic: Traffic::start(house.customer.clone(), plan.seed, plan.rate),
        faults: Faults::new(plan.seed),
        balance: Balance::default(),
        start: Instant::now(),
        minutes: Vec::new(),
        house,
    };
    let length = Duration::from_secs(plan.seconds);
    soak.turns_until(length / 2, MayDie::Yes).await?;
    soak.house.stop()?;
    let half = (directory_bytes(&soak.house.data())?, soak.traffic.taken().messages);
    soak.house.restart().await?;
    let mut memory = JoinSet::new();
    memory.spawn(watch_memory(soak.house.process.clone()));
    soak.turns_until(length, MayDie::No).await?;
    soak.house.process.store(0, Ordering::SeqCst);
    let memory = memory.join_next().await.context("memory was watched")??;
    soak.calm_down().await?;
    let mut house = soak.house;
    house.stop()?;
    let taken = soak.traffic.into_taken();
    let end = (directory_bytes(&house.data())?, taken.messages);
    let warm = (memory.len() as f64 * WARM_UP_SHARE) as usize;
    let (verdict, replay_differs) = trial::hold(&house, &taken).await?;
    Ok(Report {
        seed: plan.seed,
        minutes: soak.minutes,
        memory: Memory::of(&memory[warm..]),
        disk: Disk::of([empty, half, end]),
        kills: house.kills,
        stops: house.stops,
        cpu_us_per_message: (house.cpu_seconds_of_all() * 1e6 / taken.messages.max(1) as f64).round(),
        verdict,
        replay_differs,
    })
}

/// Seconds and bytes, until there is no process any more.
async fn watch_memory(process: Arc<AtomicU32>) -> Vec<(f64, f64)> {
    let start = Instant::now();
    let mut samples = Vec::new();
    loop {
        let process = process.load(Ordering::SeqCst);
        if process == 0 {
            return samples;
        }
        // It may end between the two looks.
        if let Ok(bytes) = resident_bytes(process) {
            samples.push((start.elapsed().as_secs_f64(), bytes as f64));
        }
        tokio::time::sleep_until(Instant::now() + LOOK_INTERVAL).await;
    }
}

impl Soak {
    async fn turns_until(&mut self, end: Duration, may_die: MayDie) -> anyhow::Result<()> {
        while self.start.elapsed() < end {
            let turn = self.faults.turn(may_die);
            eprintln!("{:>6.1} s: {}", self.start.elapsed().as_secs_f64(), turn.describe());
            self.take(&turn).await?;
            self.traffic.check()?;
            self.house.check_alive()?;
            if self.start.elapsed().as_secs() / 60 > self.minutes.len() as u64 {
                self.look().await?;
            }
        }
        Ok(())
    }

    async fn take(&mut self, turn: &Turn) -> anyhow::Result<()> {
        turn.begin(&mut self.house).await?;
        tokio::time::sleep_until(Instant::now() + turn.half()).await;
        match turn.kite {
            None => {}
            Some(KiteFault::Kill) => {
                self.house.kill()?;
                self.house.restart().await?;
            }
            Some(KiteFault::Stop) => {
                self.house.stop()?;
                self.house.restart().await?;
            }
        }
        tokio::time::sleep_until(Instant::now() + turn.half()).await;
        turn.end(&mut self.house, &self.calm).await
    }

    /// Prints how things stand.
    async fn look(&mut self) -> anyhow::Result<()> {
        self.balance.read_on(&self.house).await?;
        let accepted = self.traffic.taken().messages;
        let lost = self.not_in_read_models(accepted).await?;
        let text = self.house.metrics().await?;
        let doubles = self.balance.doubles(&self.traffic.taken());
        let process = self.house.process.load(Ordering::SeqCst);
        let minute = Minute {
            minute: self.minutes.len() as u64 + 1,
            accepted,
            lost,
            open: metric_max(&text, "kite_open_messages").context("no kite_open_messages")? as u64,
            doubles,
            resident_mb: resident_bytes(process)? / 1_000_000,
            files: Files::of(&self.house.data())?,
            projector_lag_events: metric_max(&text, "kite_projector_lag_events").unwrap_or(0.0) as u64,
            projector_lag_ms: (metric_max(&text, "kite_projector_lag_seconds").unwrap_or(0.0) * 1e3) as u64,
            queue_depth: metric_sum(&text, "kite_queue_depth") as u64,
            kills: self.house.kills,
            stops: self.house.stops,
            cpu_us_per_message: (self.house.cpu_seconds()? * 1e6 / accepted.max(1) as f64) as u64,
        };
        println!("{minute}");
        self.minutes.push(minute);
        Ok(())
    }

    /// How many of so many messages the read models still do not show.
    async fn not_in_read_models(&self, accepted: u64) -> anyhow::Result<u64> {
        let mut missing = accepted;
        let shown = wait_for("the read models", CATCH_UP_WITHIN, async || {
            let statistics = self.house.customer.get("/v1/statistics").await.ok()?;
            missing = accepted.saturating_sub(statistics["rows"][0]["messages"].as_u64().unwrap_or(0));
            (missing == 0).then_some(())
        });
        // Those that are missing are the answer; that they were waited for in vain is not an error of its own.
        let _ = shown.await;
        Ok(missing)
    }

    /// The load stops, faults stop, the process dies once more; then everything has to become final.
    async fn calm_down(&mut self) -> anyhow::Result<()> {
        eprintln!("{:>6.1} s: calm", self.start.elapsed().as_secs_f64());
        self.calm.restore_all(&self.house).await?;
        self.traffic.end().await?;
        self.house.kill()?;
        self.house.restart().await?;
        let accepted = self.traffic.taken().messages;
        let mut seen = String::new();
        let waited = wait_for("every message to be final", FINAL_WITHIN, async || {
            let text = self.house.metrics().await.ok()?;
            let open = metric_max(&text, "kite_open_messages");
            let missing = self.house.customer.get("/v1/statistics").await.ok()?;
            let missing = accepted.checked_sub(missing["rows"][0]["messages"].as_u64()?)?;
            seen = format!("{open:?} are open, {missing} are missing");
            (open == Some(0.0) && missing == 0).then_some(())
        });
        waited.await.with_context(|| format!("{seen}\n{}", self.house.log()))?;
        let flushed =
            self.house.relay(Method::POST, "/receipts/flush", &json!({ "timeout_ms": 25_000 })).await?;
        ensure!(flushed["pending"] == 0, "receipts were never taken: {flushed}\n{}", self.house.log());
        self.look().await
    }
}
