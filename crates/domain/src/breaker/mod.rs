//! The circuit breaker of a relay: a small pure state machine that stops handing over to a relay that fails, probes
//! it after a while, and lets traffic back slowly.
//!
//! ```text
//! passing ──too many failures──► tripped ──back-off over──► probing ──enough successes──► passing
//!                                   ▲────────a probe fails─────┘
//! ```
//! - Fast down: some calls in a row without an answer, or too large a share of faults among enough recent outcomes.
//! - Slow up: while probing, a few messages at a time, more with each success. Each trip that follows soon after
//!   another waits twice as long as the last.
//! - While something urgent waits for the relay, a trip ends sooner ([`Awaiting`]): a probe costs little, and a
//!   one-time password is useless in ten minutes.
//! - Every change gives its reason in words with figures, and is an event; [`Breaker::apply`] folds them after a
//!   restart.
//! - Several processes may call a relay: each counts for itself, and all follow the log ([`LoggedBreaker`]).
//! - A suspension by an operator is kept beside the phase, and nothing here ever lifts it.
//!
//! Only what is the relay's fault is counted: a handset that is off says nothing about the relay, and neither does a
//! rate limit that it enforces as agreed. Deliberately absent: the clock (time is an argument) and the calls.

mod logged;
mod probe_pause;
mod recovery;

pub use logged::LoggedBreaker;
pub use probe_pause::Awaiting;
pub use recovery::Recovery;

use std::collections::VecDeque;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::relay::BreakerPhase;

/// Slices of the sliding window.
const WINDOW_SLICES: i64 = 12;

/// When a breaker trips, how long it waits, and how it lets traffic back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BreakerSettings {
    /// Trips after this many calls in a row without an answer (connection refused, time-out).
    pub failed_calls_in_a_row: u32,
    /// Trips when at least this share of the outcomes in the window is the relay's fault, in basis points.
    pub fault_share_basis_points: u32,
    /// Judges the share only from this many outcomes in the window.
    pub outcomes_min: u32,
    /// Length of the sliding window, in milliseconds.
    pub window_ms: u64,
    /// How long the first trip lasts, in milliseconds.
    pub back_off_first_ms: u64,
    /// How long a trip lasts at most, in milliseconds. In between, each trip lasts twice as long as the one before.
    pub back_off_max_ms: u64,
    /// After passing for this long the next trip counts as a first one, in milliseconds.
    pub calm_ms: u64,
    /// Messages that may be on their way when probing begins; each success adds two.
    pub probes_first: u32,
    /// Messages that may be on their way while probing, at most.
    pub probes_max: u32,
    /// Successes after which the relay passes again.
    pub probe_successes: u32,
    /// Probes without an outcome for this long are given up, so that new ones may go, in milliseconds.
    pub probe_patience_ms: u64,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self {
            failed_calls_in_a_row: 5,
            fault_share_basis_points: 5_000,
            outcomes_min: 50,
            window_ms: 60_000,
            back_off_first_ms: 5_000,
            back_off_max_ms: 300_000,
            calm_ms: 600_000,
            probes_first: 1,
            probes_max: 64,
            probe_successes: 20,
            probe_patience_ms: 60_000,
        }
    }
}

/// What one call, or one batch of receipts, says about a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observation {
    /// The relay answered the call.
    Answered {
        /// Messages that it took, or refused for a reason that is not its own.
        worked: u32,
        /// Messages that it failed through its own fault.
        faulted: u32,
    },
    /// The call got no answer: connection refused, broken or timed out.
    NoAnswer {
        /// Messages of the call.
        messages: u32,
    },
    /// Receipts came, at any time after the call.
    Receipts {
        /// Delivered, or undelivered for a reason that is not the relay's.
        worked: u32,
        /// Undelivered through the relay's fault.
        faulted: u32,
    },
}

/// The breaker changed its phase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BreakerChange {
    /// Where it stood.
    pub from: BreakerPhase,
    /// Where it stands.
    pub to: BreakerPhase,
    /// Why, in words with figures.
    pub reason: String,
    /// When.
    #[serde(with = "chrono::serde::ts_milliseconds")]
    pub at: DateTime<Utc>,
    /// When tripped: not to be probed before.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "chrono::serde::ts_milliseconds_option"
    )]
    pub until: Option<DateTime<Utc>>,
}

/// How many messages may be handed to the relay now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Permit {
    /// As many as asked for.
    All,
    /// This many of them, as probes; above zero.
    Probes(u32),
    /// None before this time.
    NotBefore(DateTime<Utc>),
    /// None until outcomes of the probes on their way are known, or this time has come.
    ProbesOnTheirWay(DateTime<Utc>),
}

/// The breaker of one relay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breaker {
    phase: BreakerPhase,
    /// When the phase began.
    #[serde(with = "chrono::serde::ts_milliseconds")]
    since: DateTime<Utc>,
    /// When tripped: not to be probed before.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "chrono::serde::ts_milliseconds_option"
    )]
    until: Option<DateTime<Utc>>,
    /// When it first tripped since it last passed.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "chrono::serde::ts_milliseconds_option"
    )]
    troubled_since: Option<DateTime<Utc>>,
    /// How long the last trip lasted, in milliseconds; 0 before the first.
    back_off_ms: u64,
    failed_calls: u32,
    window: VecDeque<Slice>,
    probes: Probes,
}

/// Outcomes of one slice of the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Slice {
    number: i64,
    worked: u64,
    faulted: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Probes {
    on_their_way: u32,
    worked: u32,
    faulted: u32,
    /// When the last probe left, in milliseconds since 1970.
    last_at_ms: i64,
}

impl Breaker {
    /// A breaker that passes.
    pub fn new(now: DateTime<Utc>) -> Self {
        Self {
            phase: BreakerPhase::Passing,
            since: now,
            until: None,
            troubled_since: None,
            back_off_ms: 0,
            failed_calls: 0,
            window: VecDeque::new(),
            probes: Probes::default(),
        }
    }

    /// The current phase. A suspension by an operator is not a phase: the directory knows it.
    pub fn phase(&self) -> BreakerPhase {
        self.phase
    }

    /// When the phase began.
    pub fn since(&self) -> DateTime<Utc> {
        self.since
    }

    /// When [`Breaker::tick`] will have something to do; none if only outcomes can change the phase.
    pub fn due_at(&self) -> Option<DateTime<Utc>> {
        self.until
    }

    /// When a trip ends if only this waits for the relay; none: it is not tripped.
    pub fn probes_from(&self, awaiting: &[Awaiting], now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let until = self.until.filter(|_| self.phase == BreakerPhase::Tripped)?;
        Some(self.hurried_from(awaiting, now).map_or(until, |from| from.min(until)))
    }

    /// Lets time pass: a trip whose back-off is over begins to probe.
    pub fn tick(&mut self, now: DateTime<Utc>) -> Option<BreakerChange> {
        self.tick_awaited(&[], now)
    }

    /// Like [`Breaker::tick`], while this waits for the relay.
    pub fn tick_awaited(&mut self, awaiting: &[Awaiting], now: DateTime<Utc>) -> Option<BreakerChange> {
        if now < self.probes_from(awaiting, now)? {
            return None;
        }
        let waited = seconds(now - self.since);
        let hurry = if self.until.is_some_and(|until| now < until) { ", because messages wait" } else { "" };
        Some(self.change(BreakerPhase::Probing, None, now, format!("tripped for {waited}, probing{hurry}")))
    }

    /// When the relay should be tried again for the most urgent of the waiting messages.
    fn hurried_from(&self, awaiting: &[Awaiting], now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let troubled = now - self.troubled_since.unwrap_or(self.since);
        let pause = awaiting.iter().map(|one| one.pause_max(troubled, now)).min()?;
        self.since.checked_add_signed(pause)
    }

    /// Asks to hand over `wanted` messages now. Probes count as on their way until [`Breaker::observe`] reports them.
    /// Call [`Breaker::tick`] first.
    pub fn permit(&mut self, wanted: u32, settings: &BreakerSettings, now: DateTime<Utc>) -> Permit {
        match self.phase {
            BreakerPhase::Passing => Permit::All,
            BreakerPhase::Tripped => Permit::NotBefore(self.until.unwrap_or(now)),
            BreakerPhase::Probing => self.permit_probes(wanted, settings, now),
        }
    }

    /// Gives back probes that were permitted and not handed over, so that others may go instead.
    pub fn give_back(&mut self, messages: u32) {
        self.probes.on_their_way = self.probes.on_their_way.saturating_sub(messages);
    }

    fn permit_probes(&mut self, wanted: u32, settings: &BreakerSettings, now: DateTime<Utc>) -> Permit {
        let now_ms = now.timestamp_millis();
        let given_up_at_ms = self.probes.last_at_ms.saturating_add_unsigned(settings.probe_patience_ms);
        if now_ms >= given_up_at_ms {
            self.probes.on_their_way = 0;
        }
        let width = settings
            .probes_first
            .max(1)
            .saturating_add(self.probes.worked.saturating_mul(2))
            .min(settings.probes_max.max(1));
        let granted = wanted.min(width.saturating_sub(self.probes.on_their_way));
        if granted == 0 {
            return Permit::ProbesOnTheirWay(DateTime::from_timestamp_millis(given_up_at_ms).unwrap_or(now));
        }
        self.probes.on_their_way += granted;
        self.probes.last_at_ms = now_ms;
        Permit::Probes(granted)
    }

    /// Records what a call or receipts say, and returns whether the phase changed.
    pub fn observe(
        &mut self,
        observation: Observation,
        settings: &BreakerSettings,
        now: DateTime<Utc>,
    ) -> Option<BreakerChange> {
        match self.phase {
            BreakerPhase::Passing => self.observe_passing(observation, settings, now),
            // Answers to calls that began before the trip: they neither shorten nor lengthen it.
            BreakerPhase::Tripped => None,
            BreakerPhase::Probing => self.observe_probing(observation, settings, now),
        }
    }

    fn observe_passing(
        &mut self,
        observation: Observation,
        settings: &BreakerSettings,
        now: DateTime<Utc>,
    ) -> Option<BreakerChange> {
        let (worked, faulted) = match observation {
            Observation::Answered { worked, faulted } => {
                self.failed_calls = 0;
                (worked, faulted)
            }
            Observation::NoAnswer { messages } => {
                self.failed_calls = self.failed_calls.saturating_add(1);
                (0, messages)
            }
            Observation::Receipts { worked, faulted } => (worked, faulted),
        };
        self.count(worked, faulted, settings, now);
        if self.failed_calls >= settings.failed_calls_in_a_row.max(1) {
            let reason = format!("{} calls in a row without an answer", self.failed_calls);
            return Some(self.trip(reason, settings, now));
        }
        let (worked, faulted) = self.window_counts();
        let outcomes = worked + faulted;
        if outcomes < u64::from(settings.outcomes_min) || !is_share(faulted, outcomes, settings) {
            return None;
        }
        let reason = format!(
            "{} % of the last {outcomes} outcomes within {} were its fault",
            percent(faulted, outcomes),
            seconds(milliseconds(settings.window_ms)),
        );
        Some(self.trip(reason, settings, now))
    }

    fn observe_probing(
        &mut self,
        observation: Observation,
        settings: &BreakerSettings,
        now: DateTime<Utc>,
    ) -> Option<BreakerChange> {
        match observation {
            Observation::NoAnswer { .. } => {
                return Some(self.trip("a probe got no answer".to_owned(), settings, now));
            }
            Observation::Answered { worked, faulted } => {
                let known = worked.saturating_add(faulted);
                self.probes.on_their_way = self.probes.on_their_way.saturating_sub(known);
                self.probes.worked = self.probes.worked.saturating_add(worked);
                self.probes.faulted = self.probes.faulted.saturating_add(faulted);
            }
            // They may be of messages from before the trip: good news proves nothing, bad news is old.
            Observation::Receipts { .. } => return None,
        }
        let Probes { worked, faulted, .. } = self.probes;
        let outcomes = u64::from(worked) + u64::from(faulted);
        if faulted > 0 && is_share(u64::from(faulted), outcomes, settings) {
            let reason = format!("{faulted} of {outcomes} probes were failed by the relay");
            return Some(self.trip(reason, settings, now));
        }
        if worked < settings.probe_successes.max(1) {
            return None;
        }
        let reason = format!("{worked} of {outcomes} probes worked");
        Some(self.change(BreakerPhase::Passing, None, now, reason))
    }

    fn trip(&mut self, cause: String, settings: &BreakerSettings, now: DateTime<Utc>) -> BreakerChange {
        let was_calm =
            self.phase == BreakerPhase::Passing && now - self.since >= milliseconds(settings.calm_ms);
        let doubled_ms = if was_calm { 0 } else { self.back_off_ms.saturating_mul(2) };
        let wait =
            milliseconds(doubled_ms.max(settings.back_off_first_ms).min(settings.back_off_max_ms).max(1));
        let until = now.checked_add_signed(wait).unwrap_or(DateTime::<Utc>::MAX_UTC);
        let reason = format!("{cause}; no messages for {}", seconds(wait));
        self.change(BreakerPhase::Tripped, Some(until), now, reason)
    }

    fn change(
        &mut self,
        to: BreakerPhase,
        until: Option<DateTime<Utc>>,
        at: DateTime<Utc>,
        reason: String,
    ) -> BreakerChange {
        let change = BreakerChange { from: self.phase, to, reason, at, until };
        self.apply(&change);
        change
    }

    /// Folds a stored change; never fails. After a restart the changes of a relay, in order, give its breaker back,
    /// with empty counters.
    pub fn apply(&mut self, change: &BreakerChange) {
        if let Some(until) = change.until {
            self.back_off_ms = u64::try_from((until - change.at).num_milliseconds()).unwrap_or(0);
        }
        if change.to == BreakerPhase::Probing && self.until.is_some_and(|until| change.at < until) {
            // It was not waited out, so the next trip is no longer than this one.
            self.back_off_ms /= 2;
        }
        self.troubled_since = match change.to {
            BreakerPhase::Passing => None,
            BreakerPhase::Tripped | BreakerPhase::Probing => self.troubled_since.or(Some(change.at)),
        };
        self.phase = change.to;
        self.since = change.at;
        self.until = change.until;
        self.failed_calls = 0;
        self.window.clear();
        self.probes = Probes::default();
    }

    fn count(&mut self, worked: u32, faulted: u32, settings: &BreakerSettings, now: DateTime<Utc>) {
        let slice_ms = (i64::try_from(settings.window_ms).unwrap_or(i64::MAX) / WINDOW_SLICES).max(1);
        let number = now.timestamp_millis().div_euclid(slice_ms);
        while self.window.front().is_some_and(|slice| slice.number <= number - WINDOW_SLICES) {
            self.window.pop_front();
        }
        // A clock that stepped back counts into the newest slice.
        if self.window.back().is_none_or(|slice| slice.number < number) {
            self.window.push_back(Slice { number, worked: 0, faulted: 0 });
        }
        if let Some(slice) = self.window.back_mut() {
            slice.worked += u64::from(worked);
            slice.faulted += u64::from(faulted);
        }
    }

    fn window_counts(&self) -> (u64, u64) {
        self.window
            .iter()
            .fold((0, 0), |(worked, faulted), slice| (worked + slice.worked, faulted + slice.faulted))
    }
}

/// Whether `faulted` of `outcomes` reaches the share at which a breaker trips. A share of nothing never does.
fn is_share(faulted: u64, outcomes: u64, settings: &BreakerSettings) -> bool {
    faulted > 0 && faulted * 10_000 >= outcomes * u64::from(settings.fault_share_basis_points)
}

/// Whole and tenths of a per cent, rounded down.
fn percent(part: u64, whole: u64) -> String {
    let thousandths = part * 1_000 / whole.max(1);
    format!("{}.{}", thousandths / 10, thousandths % 10)
}

fn milliseconds(count: u64) -> TimeDelta {
    i64::try_from(count).ok().and_then(TimeDelta::try_milliseconds).unwrap_or(TimeDelta::MAX)
}

fn seconds(duration: TimeDelta) -> String {
    let tenths = duration.num_milliseconds() / 100;
    if tenths % 10 == 0 { format!("{} s", tenths / 10) } else { format!("{}.{} s", tenths / 10, tenths % 10) }
}

#[cfg(test)]
mod tests;
