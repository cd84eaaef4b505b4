//! The run: load, faults, looks; then calm, the end, and the trial.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, ensure};
use chrono::{TimeDelta, Utc};
use kite_testkit::metrics::metric_max;
use kite_testkit::night::Night;
use kite_testkit::wait::wait_for;
use reqwest::Method;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Plan;
use super::balance::Balance;
use super::faults::{Calm, Faults, MayDie, Turn};
use super::flat::{Disk, Look};
use super::ground::Ground;
use super::house::{ADMIN_KEY, House};
use super::minute::{Minute, Part};
use super::report::{Flatness, LoadKept, Report};
use super::traffic::Traffic;
use super::trial::Trial;
use super::villain::Villain;
use crate::load::measure::anonymous_bytes;

/// How long the read models are waited for before what they do not show counts as lost.
const CATCH_UP_WITHIN: Duration = Duration::from_secs(120);
/// How long everything may take to become final without load: deadlines of receipts, and breakers.
const FINAL_WITHIN: Duration = Duration::from_secs(600);
/// A run of less than this has no night of its own length.
const SHORT_SECONDS: i64 = 120;
/// Between two looks at the memory.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// While everything becomes final, between two lines about what is open.
const OPEN_INTERVAL: Duration = Duration::from_secs(20);
/// Between two lines about how things stand.
const MINUTE: Duration = Duration::from_secs(60);

/// Everything that takes part.
struct Soak {
    house: House,
    traffic: Traffic,
    faults: Faults,
    calm: Calm,
    balance: Balance,
    start: Instant,
    next_look: Instant,
    part: Part,
    minutes: Vec<Minute>,
}

/// Runs all of it.
#[expect(clippy::disallowed_methods, reason = "the processes under test live in real time")]
pub(super) async fn soak(plan: &Plan, directory: &Path, ground: Ground) -> anyhow::Result<Report> {
    let seconds = plan.seconds as i64;
    let now = Utc::now();
    // A night of some minutes, before the processes stop dying. In a short run it begins at once: whatever it takes until there is load.
    let (begin, end) = if seconds < SHORT_SECONDS {
        (0, plan.seconds_to_begin() + seconds)
    } else {
        (seconds / 5, seconds * 2 / 5)
    };
    let night = Night::between(now + TimeDelta::seconds(begin), now + TimeDelta::seconds(end));
    let against = plan.against();
    let house = House::start(directory, plan.seed, night, plan.agreed(), ground).await?;
    let empty = (house.files()?.closed_bytes, 0);
    let start = Instant::now();
    let mut soak = Soak {
        calm: Calm::of(&house).await?,
        traffic: Traffic::start(house.customer.clone(), plan.seed, plan.rate),
        faults: Faults::new(plan.seed, against),
        balance: Balance::default(),
        start,
        next_look: start + MINUTE,
        part: Part::FirstHalf,
        minutes: Vec::new(),
        house,
    };
    let half_length = Duration::from_secs(plan.seconds) / 2;
    soak.turns(half_length, MayDie::Yes).await?;
    let half = soak.change_over().await?;
    let before = soak.house.customer.turned_away.load(Ordering::SeqCst);
    // Always at one API: what it is answered there it may do there.
    let at_one = soak.house.customer_at_each().next().context("nobody has an API")?;
    let mut villain = Villain::start(&at_one, ADMIN_KEY).await?;
    let mut memory = JoinSet::new();
    let (stop, stopped) = watch::channel(false);
    for node in &soak.house.nodes {
        let process = node.process().with_context(|| format!("{} does not run", node.name))?;
        let watched = watch_memory(process, soak.traffic.counter(), stopped.clone());
        let name = node.name.clone();
        memory.spawn(async move { (name, watched.await) });
    }
    soak.part = Part::SecondHalf;
    soak.turns(half_length, MayDie::No).await?;
    stop.send_replace(true);
    let memory = memory.join_all().await;
    villain.is_let_in_again().await?;
    let turned_away = soak.house.customer.turned_away.load(Ordering::SeqCst) - before;
    let load = soak.calm_down(&mut villain).await?;
    let deeds = villain.deeds();
    soak.house.stop()?;
    let Soak { mut house, traffic, minutes, .. } = soak;
    let taken = traffic.into_taken();
    let end = (house.files()?.closed_bytes, taken.messages);
    let cpu_seconds = house.cpu_seconds()?;
    let trial = Trial::hold(&mut house, &taken, plan.turn_ms_max()).await?;
    let (kills, stops, server_kills) = (house.kills, house.stops, house.server_kills());
    let strikes = house.if_cluster().map(|cluster| cluster.strikes);
    house.stop_ground()?;
    Ok(Report {
        seed: plan.seed,
        messages_per_second: plan.rate,
        open_max: plan.open_max(),
        flatness: memory.into_iter().map(|(name, looks)| (name, Flatness::of(plan, &looks))).collect(),
        minutes,
        // What several processes keep is on servers.
        disk: strikes.is_none().then(|| Disk::of([empty, half, end])),
        load: LoadKept::of(&taken, load),
        kills,
        stops,
        server_kills,
        strikes,
        cpu_us_per_message: (cpu_seconds * 1e6 / taken.messages.max(1) as f64).round(),
        villain: deeds,
        turned_away,
        trial,
    })
}

/// Looks at a process until it is told to stop.
async fn watch_memory(
    process: u32,
    messages: impl Fn() -> u64,
    mut stopped: watch::Receiver<bool>,
) -> Vec<Look> {
    let start = Instant::now();
    let mut looks = Vec::new();
    loop {
        // One that has ended is told of by others.
        if let Ok(bytes) = anonymous_bytes(process) {
            let seconds = start.elapsed().as_secs_f64();
            looks.push(Look { seconds, messages: messages(), bytes: bytes as f64 });
        }
        let next = Instant::now() + LOOK_INTERVAL;
        if tokio::time::timeout_at(next, stopped.wait_for(|stopped| *stopped)).await.is_ok() {
            return looks;
        }
    }
}

impl Soak {
    async fn turns(&mut self, length: Duration, may_die: MayDie) -> anyhow::Result<()> {
        let end = Instant::now() + length;
        while Instant::now() < end {
            let turn = self.faults.turn(may_die);
            eprintln!("{:>6.1} s: {}", self.start.elapsed().as_secs_f64(), turn.describe());
            self.take(&turn).await?;
            self.traffic.check()?;
            self.house.check_alive()?;
            if Instant::now() >= self.next_look {
                self.look().await?;
                self.next_look += MINUTE;
            }
        }
        Ok(())
    }

    async fn take(&mut self, turn: &Turn) -> anyhow::Result<()> {
        turn.begin(&mut self.house).await?;
        tokio::time::sleep_until(Instant::now() + turn.half()).await;
        turn.strike(&mut self.house).await?;
        tokio::time::sleep_until(Instant::now() + turn.half()).await;
        turn.end(&mut self.house, &self.calm).await
    }

    /// Between the halves: everything becomes final and the process begins again. Answers the bytes on the disk and the
    /// messages that they are for. Several processes stop and begin again in the middle of everything: their disk is not judged.
    async fn change_over(&mut self) -> anyhow::Result<(u64, u64)> {
        self.calm.restore_all(&self.house).await?;
        let breath = self.traffic.hold_breath().await?;
        if self.house.if_cluster().is_none() {
            self.wait_until_final().await?;
        }
        self.house.stop()?;
        let half = (self.house.files()?.closed_bytes, self.traffic.taken().messages);
        self.house.restart().await?;
        self.repeat_requests().await?;
        drop(breath);
        self.next_look = Instant::now() + MINUTE;
        Ok(half)
    }

    /// Law 6, after a restart.
    async fn repeat_requests(&self) -> anyhow::Result<()> {
        let kept = std::mem::take(&mut self.traffic.taken().kept);
        ensure!(!kept.is_empty(), "no request was kept to be sent again");
        for (request, id) in &kept {
            self.house.customer.repeat(request, id).await?;
        }
        self.traffic.taken().kept = kept;
        Ok(())
    }

    /// Prints how things stand.
    async fn look(&mut self) -> anyhow::Result<()> {
        let breath = self.traffic.hold_breath().await?;
        let accepted = self.traffic.taken().messages;
        let began = Instant::now();
        let told = self.read_models_show(accepted).await?;
        let catch_up_ms = began.elapsed().as_millis() as u64;
        drop(breath);
        self.balance.read_on(&self.house).await?;
        let text = self.house.metrics().await?;
        let doubles = self.balance.doubles(&self.traffic.taken());
        let minute = Minute {
            minutes: self.start.elapsed().as_secs_f64() / 60.0,
            part: self.part,
            accepted,
            lost: accepted.saturating_sub(told),
            unclaimed: told.saturating_sub(accepted),
            catch_up_ms,
            open: metric_max(&text, "kite_open_messages").context("no kite_open_messages")? as u64,
            doubles,
            resident_mb: self.house.resident_bytes()? / 1_000_000,
            files: self.house.files()?,
            queue_depth: self.house.queue_depth(&text).await?,
            kills: self.house.kills,
            stops: self.house.stops,
            cpu_us_per_message: (self.house.cpu_seconds()? * 1e6 / accepted.max(1) as f64) as u64,
        };
        println!("{minute}");
        self.minutes.push(minute);
        Ok(())
    }

    /// How many messages the read models show, once they show as many as were accepted or that was waited for in vain.
    async fn read_models_show(&self, accepted: u64) -> anyhow::Result<u64> {
        let mut told = None;
        let shown = wait_for("the read models", CATCH_UP_WITHIN, async || {
            told = self.house.messages_told().await.ok();
            (told? == accepted).then_some(())
        });
        // Those that are missing are the answer; that they were waited for in vain is not an error of its own.
        let _ = shown.await;
        told.with_context(|| format!("the statistics cannot be read\n{}", self.house.log()))
    }

    /// The load stops, faults stop, the process dies once more; then everything has to become final. Returns how long
    /// there was load.
    async fn calm_down(&mut self, villain: &mut Villain) -> anyhow::Result<Duration> {
        eprintln!("{:>6.1} s: calm", self.start.elapsed().as_secs_f64());
        let load = self.start.elapsed().saturating_sub(self.traffic.held());
        self.calm.restore_all(&self.house).await?;
        self.traffic.end().await?;
        let of_villain = villain.end().await?;
        self.traffic.taken().of_others.extend(of_villain);
        self.house.kill()?;
        self.house.restart().await?;
        self.repeat_requests().await?;
        eprintln!("{:>6.1} s: only what was begun", self.start.elapsed().as_secs_f64());
        self.wait_until_final().await?;
        self.part = Part::End;
        self.look().await?;
        Ok(load)
    }

    /// Waits until every message is final and every sending completed, and no receipt is on its way.
    async fn wait_until_final(&mut self) -> anyhow::Result<()> {
        let accepted = self.traffic.taken().messages;
        let mut alive = Ok(());
        let mut seen = String::new();
        let mut next_line = Instant::now() + OPEN_INTERVAL;
        let waited = wait_for("every message to be final", FINAL_WITHIN, async || {
            // Whoever could not begin is started again here, too.
            alive = self.house.check_alive();
            if alive.is_err() {
                return Some(());
            }
            let text = self.house.metrics().await.ok()?;
            let open = metric_max(&text, "kite_open_messages");
            let told = self.house.messages_told().await.ok()?;
            seen = format!("{} are open, {told} of {accepted} told", open.unwrap_or(f64::NAN));
            if Instant::now() >= next_line {
                eprintln!("{:>6.1} s: {seen}", self.start.elapsed().as_secs_f64());
                next_line += OPEN_INTERVAL;
            }
            if open != Some(0.0) || told < accepted {
                return None;
            }
            let is_open = self.house.customer.has_open_sendings().await.ok()?;
            seen += if is_open { ", a sending is not completed" } else { "" };
            (!is_open).then_some(())
        });
        let waited = waited.await;
        waited.with_context(|| format!("{seen}\n{}", self.house.log()))?;
        alive?;
        let flushed =
            self.house.relay(Method::POST, "/receipts/flush", &json!({ "timeout_ms": 25_000 })).await?;
        ensure!(flushed["pending"] == 0, "receipts were never taken: {flushed}\n{}", self.house.log());
        Ok(())
    }
}
