//! Wrong routines of [deliberate bugs](kite_domain::mutation).

use async_trait::async_trait;
use kite_commands::lots::SealedSending;
use kite_domain::lot::{AttemptState, Lot};
use kite_domain::slug::RelayId;
use std::sync::Arc;
use tokio::sync::watch;

use super::RelayWorker;
use super::active_relay::Held;
use super::hasten::{Looked, Round};
use super::intent::{LotWork, Room, plan, still};
use super::refusals::CallRefusals;
use crate::client::{MessageAnswer, NotTaken, SubmitAnswer};
use crate::queue::{Hasten, Job, Put, QueueError, Taken, Want, WorkQueue};

impl RelayWorker {
    /// `IntentAfterCall`.
    pub(super) async fn call_before_intent(
        &self,
        works: &[LotWork],
        refusals: &CallRefusals,
        state: AttemptState,
    ) {
        let active = &self.active;
        let now = active.now();
        let mut messages = Vec::new();
        for work in works {
            let mut room = Room::new(1, 1, active.pace.turn(now));
            let look = |lot: &Lot, sending: &SealedSending| {
                let refusals = refusals.now(active, lot);
                plan(active, lot, sending, (0, work), state, (&mut room, refusals.as_deref()), now).1
            };
            let Ok(planned) = active.parts.lots.read(work.lot, look).await else { continue };
            let writer = active.texts.of(&planned.terms);
            for going in &planned.going {
                messages.extend(going.messages.iter().filter_map(|(seq, channel, place)| {
                    let recipient = planned.recipients.get(*place)?;
                    writer.write(*seq, going.attempt, *channel, recipient, &mut String::new()).ok()
                }));
            }
        }
        if !messages.is_empty() {
            active.client.submit(&messages).await;
        }
    }
}

/// `LostAnswerTakenAsRefused`.
pub(super) fn lost_taken_as_refused(mut answer: SubmitAnswer) -> SubmitAnswer {
    for message in &mut answer.messages {
        if matches!(message, MessageAnswer::Unknown { .. }) {
            *message = MessageAnswer::Refused { code: "3053".into(), general_code: None, text: None };
        }
    }
    answer
}

/// `OneAnswerForAll`.
pub(super) fn one_for_all(mut answer: SubmitAnswer) -> SubmitAnswer {
    let is_for_now = |message: &MessageAnswer| matches!(message, MessageAnswer::RefusedForNow { .. });
    if answer.messages.iter().any(is_for_now) {
        answer.messages.fill_with(|| MessageAnswer::NotTaken {
            why: NotTaken::RateLimited,
            reason: "refused for now".into(),
        });
    }
    answer
}

/// `StaleJobBelieved`: all of it now, whatever the log says.
pub(super) fn all_now(relay: &RelayId, lot: &Lot, job: &Job, state: AttemptState) -> Looked {
    let candidates = still(lot, relay, job, state);
    let round = Round::InTime(lot.round_of(&candidates, job.attempt));
    Looked { candidates, round, later: Vec::new(), is_stale: false }
}

/// `JobAcknowledgedFirst`.
pub(super) async fn acknowledged_first(mut held: Held, lease: u64) -> Held {
    let queue = held.queue.clone();
    held.queue = Arc::new(Acknowledged(queue.clone()));
    // Whatever comes of it: the log has it.
    let _ = queue.settle(&held.relay, lease, std::mem::take(&mut held.surplus)).await;
    held
}

/// The queue of a lease that is settled already.
struct Acknowledged(Arc<dyn WorkQueue>);

#[async_trait]
impl WorkQueue for Acknowledged {
    async fn settle(&self, _: &RelayId, _: u64, rest: Vec<Job>) -> Result<(), QueueError> {
        for job in rest {
            let _ = self.0.put(job).await;
        }
        Ok(())
    }

    fn abandon(&self, _: &RelayId, _: u64) {}

    async fn put(&self, job: Job) -> Result<Put, QueueError> {
        self.0.put(job).await
    }

    async fn take(&self, relay: &RelayId, want: Want) -> Result<Taken, QueueError> {
        self.0.take(relay, want).await
    }

    fn arrivals(&self, relay: &RelayId) -> watch::Receiver<u64> {
        self.0.arrivals(relay)
    }

    fn nudge(&self, relay: &RelayId) {
        self.0.nudge(relay);
    }

    fn hasten(&self, relay: &RelayId, what: Hasten) {
        self.0.hasten(relay, what);
    }

    fn waiting(&self, relay: &RelayId) -> [usize; 3] {
        self.0.waiting(relay)
    }
}
