//! The workers of a relay: each is a loop over [`RelayWorker::step`], and all of one relay share its lanes, pace and
//! breaker.
//!
//! ```text
//! lease ─► look at the lots, intent in the log ─► call ─► response in the log ─► settle the lease
//! ```
//! There is one append for the intents of all lots of a lease, and one for the responses, failovers included. If
//! something breaks in between, the next worker that looks finds it: an intent without a response is asked about (law
//! 4).

mod active_relay;
mod answer;
mod call;
mod hasten;
mod intent;
#[cfg(feature = "mutations")]
mod mutations;
#[cfg(test)]
mod network_tests;
mod question;
mod refusals;
mod retreat;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use kite_commands::{Step, Worker, WorkerError};
use kite_domain::breaker::Permit;
use kite_domain::lot::AttemptState;
use kite_domain::mutation::{self, Mutation};
use kite_domain::relay::BreakerPhase;
use kite_domain::sending::MessageClass;
use std::sync::Arc;

use crate::metrics;
use crate::queue::{Job, JobKind, Lease, Taken, Want, WantedLanes};
use crate::shares::{Seat, kept_for_passwords};
pub use active_relay::ActiveRelay;
use active_relay::Held;
use answer::Answered;

/// Messages that are looked at in one step when they are only to be moved elsewhere.
const RETREAT_MAX: u32 = 1_000;
/// Why messages are moved away from a relay without workers.
pub(crate) const UNATTENDED: &str = "relay_unattended";
/// The same of a relay whose breaker has tripped.
const BREAKER_TRIPPED: &str = "breaker_tripped";
/// How long a lot waits after it could not be read or written.
const LOG_PAUSE: TimeDelta = TimeDelta::seconds(1);
/// The most messages taken while a relay is being probed.
const PROBES_MAX: u32 = 64;
/// How long messages that cannot be probes now wait for the outcome of the probes.
const PROBE_PAUSE: TimeDelta = TimeDelta::milliseconds(250);

/// One worker of a relay: at most one call at a time.
pub struct RelayWorker {
    name: String,
    active: Arc<ActiveRelay>,
    lanes: WantedLanes,
    /// Whose calls are its own.
    seat: Seat,
    /// Answers of the relay that the log has not accepted yet.
    unrecorded: Option<Answered>,
}

/// Whether the relay may be called.
enum Gate {
    Open {
        messages_max: u32,
    },
    /// Not before that time; waiting messages go elsewhere if possible.
    Closed {
        until: DateTime<Utc>,
        reason: &'static str,
    },
    /// Another process tries out whether the relay is back.
    TriedOut,
}

impl RelayWorker {
    /// A worker that serves these lanes. If a relay has more than one worker, one of them is reserved for one-time
    /// passwords.
    pub fn new(active: Arc<ActiveRelay>, number: u16, lanes: WantedLanes) -> Self {
        let seat = match lanes {
            WantedLanes::OtpOnly => Seat::Kept(number),
            WantedLanes::All => {
                Seat::Open(number.saturating_sub(kept_for_passwords(active.profile.calls_in_flight_max)))
            }
        };
        Self { name: format!("worker:{}:{number}", active.relay()), active, lanes, seat, unrecorded: None }
    }

    /// One step for a relay without workers: waiting messages go elsewhere if possible.
    pub(crate) async fn take_in_place_of_nobody(&mut self) -> Result<Step, WorkerError> {
        if let Some(answered) = self.unrecorded.take() {
            return self.record(answered).await;
        }
        let now = self.active.now();
        let until = now + TimeDelta::milliseconds(self.active.parts.settings.suspended_look_ms.into());
        self.retreat(until, UNATTENDED, now).await
    }

    /// Writes the breaker's proposals, and looks at messages that it no longer holds up.
    async fn write_breaker(&self) -> Result<(), WorkerError> {
        let active = &self.active;
        let has_unwritten = active.breaker.has_unwritten();
        if has_unwritten {
            let written = active.breaker.write(&active.parts.manage, &active.cause()).await;
            active.parts.queue.nudge(active.relay());
            written?;
        }
        if let Some(what) = active.breaker.hasten() {
            active.parts.queue.hasten(active.relay(), what);
        }
        Ok(())
    }

    /// While the log does not accept a change of the breaker, the relay is not called.
    async fn gate(&self, now: DateTime<Utc>) -> Result<Gate, WorkerError> {
        let active = &self.active;
        let snapshot = active.parts.directory.snapshot();
        let closed = |reason| {
            let until = now + TimeDelta::milliseconds(active.parts.settings.suspended_look_ms.into());
            Ok(Gate::Closed { until, reason })
        };
        match snapshot.relays.get(active.relay()) {
            Some(entry) if entry.suspended.is_none() => {
                if entry.unattended.is_some() && !mutation::is_active(Mutation::UnusableStaysEligible) {
                    return closed(UNATTENDED);
                }
            }
            Some(_) | None => return closed("relay_suspended"),
        }
        active.breaker.tick(now);
        self.write_breaker().await?;
        let standing = active.breaker.standing(now);
        Ok(match standing.phase {
            BreakerPhase::Tripped => {
                Gate::Closed { until: standing.probes_from.unwrap_or(now), reason: BREAKER_TRIPPED }
            }
            BreakerPhase::Probing if !active.shares.holds_first(now) => Gate::TriedOut,
            BreakerPhase::Probing => Gate::Open { messages_max: active.profile.batch_max.min(PROBES_MAX) },
            BreakerPhase::Passing => Gate::Open { messages_max: active.profile.batch_max },
        })
    }

    /// The most messages of one call, so that its parts fit the pace.
    fn messages_max(&self, of_relay: u32, now: DateTime<Utc>) -> u32 {
        let class = match self.lanes {
            WantedLanes::OtpOnly => MessageClass::Otp,
            WantedLanes::All => MessageClass::Ad,
        };
        of_relay.min(self.active.pace.parts_max(class, now)).max(1)
    }

    async fn take(
        &self,
        messages_max: u32,
        lanes: WantedLanes,
        now: DateTime<Utc>,
    ) -> Result<Taken, WorkerError> {
        let taken =
            self.active.parts.queue.take(self.active.relay(), Want { messages_max, lanes, now }).await;
        taken.map_err(WorkerError::retry)
    }

    async fn work(&mut self, messages_max: u32, now: DateTime<Utc>) -> Result<Step, WorkerError> {
        // While ordinary messages have used up their part of the rate, one-time passwords may still go.
        let ordinary = self.active.pace.closed_until(MessageClass::Ad, now);
        let otp = self.active.pace.closed_until(MessageClass::Otp, now);
        let (lanes, reopens) = match (otp, ordinary) {
            (Some(until), _) => return Ok(Step::Idle(Some(until))),
            (None, Some(until)) => {
                (WantedLanes::OtpOnly, Some(until).filter(|_| self.lanes == WantedLanes::All))
            }
            (None, None) => (self.lanes, None),
        };
        let messages_max = self.messages_max(messages_max, now);
        let mut lease = match self.take(messages_max, lanes, now).await? {
            Taken::Lease(lease) => lease,
            Taken::Nothing(next) => return Ok(Step::Idle(earlier(next, reopens))),
        };
        let surplus = lease.cut(messages_max);
        let held = Held::new(&self.active, &lease, surplus);
        mutation::bug!(JobAcknowledgedFirst, let held = mutations::acknowledged_first(held, lease.id).await);
        match lease.kind {
            JobKind::Submit => self.submit(lease, held, now).await,
            JobKind::Inquire => self.inquire(lease, held, now).await,
            JobKind::Unanswered => self.admit_unanswered(lease, held, now).await,
        }
    }

    async fn submit(&mut self, lease: Lease, held: Held, now: DateTime<Utc>) -> Result<Step, WorkerError> {
        let wanted = lease.len() as u32;
        let room = match self.active.breaker.permit(wanted, now) {
            Permit::All => wanted,
            Permit::Probes(probes) => probes,
            Permit::NotBefore(_) | Permit::ProbesOnTheirWay(_) => {
                return self.put_back(lease, held, now + PROBE_PAUSE).await;
            }
        };
        self.hand_over(lease.jobs, held, AttemptState::Routed, room).await
    }

    /// Gives a whole lease back until a later time.
    async fn put_back(&self, lease: Lease, held: Held, until: DateTime<Utc>) -> Result<Step, WorkerError> {
        let not_before_ms = until.timestamp_millis();
        let rest = lease.jobs.into_iter().map(|job| Job { not_before_ms, ..job }).collect();
        held.settle(rest).await?;
        Ok(Step::Worked)
    }
}

fn earlier(one: Option<DateTime<Utc>>, other: Option<DateTime<Utc>>) -> Option<DateTime<Utc>> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[async_trait]
impl Worker for RelayWorker {
    fn name(&self) -> &str {
        &self.name
    }

    async fn step(&mut self) -> Result<Step, WorkerError> {
        let parts = &self.active.parts;
        parts.directory.stay_current(parts.lots.journal()).await.map_err(WorkerError::from)?;
        if let Some(answered) = self.unrecorded.take() {
            return self.record(answered).await;
        }
        self.write_breaker().await?;
        let now = self.active.now();
        if let Some(share) = self.active.pace.share_if_changed(now) {
            metrics::rate_share(self.active.relay(), share);
        }
        match self.gate(now).await? {
            Gate::Open { messages_max } => {
                let Some(_under_way) = self.active.shares.begin_call(self.seat, self.active.now()) else {
                    return Ok(Step::Idle(None));
                };
                self.work(messages_max, now).await
            }
            Gate::Closed { until, reason } => self.retreat(until, reason, now).await,
            Gate::TriedOut => Ok(Step::Idle(Some(now + PROBE_PAUSE))),
        }
    }

    async fn retire(&mut self) {
        self.active.shares.leave().await;
    }
}
