//! A simulated relay behind the port that the workers call.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use kite_domain::ids::AttemptReference;
use kite_domain::receipt::RawReceipt;
use kite_domain::relay::RelayProfile;
use kite_relay::client::{
    CallFailed, ClientError, Connector, ConnectorError, MessageAnswer, NotTaken, OutgoingMessage,
    PulledReceipts, RateLimit, RelayClient, Standing, SubmitAnswer,
};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

use super::{Action, CallFault, Mode, Question, QuestionFault, SIMULATED_PANIC, SimRelay, SimRelays, Word};
use crate::executor::Sim;
use crate::reach::Situation;
use crate::setting::LATE_MS;

/// Receipts that a relay will not say again, by relay.
pub(crate) type Acknowledged = Arc<Mutex<Vec<(kite_domain::slug::RelayId, Vec<RawReceipt>)>>>;

/// Makes clients of simulated relays.
pub(crate) struct SimConnector {
    pub(crate) sim: Arc<Sim>,
    pub(crate) relays: Arc<SimRelays>,
    pub(crate) acknowledged: Acknowledged,
}

impl Connector for SimConnector {
    fn client(&self, profile: &RelayProfile) -> Result<Arc<dyn RelayClient>, ConnectorError> {
        let failed = |source| ConnectorError { relay: profile.relay.clone(), source };
        let relay = self.relays.get(&profile.relay).ok_or_else(|| failed(ClientError::Unknown))?;
        if let Some(fault) = profile.unusable().into_iter().next() {
            return Err(failed(fault.into()));
        }
        Ok(Arc::new(SimClient {
            sim: self.sim.clone(),
            relay: relay.clone(),
            acknowledged: self.acknowledged.clone(),
            timeout_ms: i64::from(profile.answer_timeout_ms),
            batch_max: profile.batch_max as usize,
        }))
    }
}

struct SimClient {
    sim: Arc<Sim>,
    relay: Arc<SimRelay>,
    acknowledged: Acknowledged,
    timeout_ms: i64,
    batch_max: usize,
}

/// A call, from its beginning until its caller has an answer or is no more.
struct UnderWay<'c> {
    relay: &'c SimRelay,
    number: u64,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.relay.call_ends(self.number);
    }
}

/// A call on its way. If the caller dies before it has come in, it may come in all the same.
struct OnItsWay<'c> {
    client: &'c SimClient,
    messages: Option<Vec<OutgoingMessage>>,
}

impl OnItsWay<'_> {
    fn arrives(&mut self) -> Vec<Word> {
        self.messages.take().map(|messages| self.client.relay.arrive(&messages)).unwrap_or_default()
    }
}

impl Drop for OnItsWay<'_> {
    fn drop(&mut self) {
        let Some(messages) = self.messages.take() else { return };
        let sim = &self.client.sim;
        if sim.per_cent(60) {
            let at_ms = sim.now_ms() + sim.below(LATE_MS) as i64;
            self.client.relay.act_at(at_ms, Action::Arrive(messages));
        }
    }
}

fn not_taken(why: NotTaken) -> MessageAnswer {
    MessageAnswer::NotTaken { why, reason: "the simulated relay does not take it".into() }
}

fn unknown() -> MessageAnswer {
    MessageAnswer::Unknown { reason: "no answer".into() }
}

impl SimClient {
    /// A call that nobody answers: the caller waits until it gives up.
    async fn unanswered(&self, began_ms: i64, messages: &[OutgoingMessage], comes_in: bool) -> SubmitAnswer {
        if comes_in {
            let at_ms = began_ms + self.sim.below(self.timeout_ms as u64) as i64 + self.relay.late_ms();
            self.relay.act_at(at_ms, Action::Arrive(messages.to_vec()));
        }
        self.sim.sleep_until(began_ms + self.timeout_ms).await;
        SubmitAnswer::all(messages.len(), unknown())
    }

    /// What the mode of the relay makes of a call, where that is not an ordinary one.
    fn out_of_order(&self, count: usize) -> Option<SubmitAnswer> {
        let all = |why, retry_after| SubmitAnswer { messages: vec![not_taken(why); count], retry_after };
        match self.relay.mode() {
            Mode::Dead => Some(all(NotTaken::NoConnection, None)),
            Mode::OutOfService => Some(all(NotTaken::OutOfService, None)),
            Mode::RateLimited => Some(all(NotTaken::RateLimited, Some(self.relay.asks_to_wait()))),
            Mode::Up | Mode::Stalled | Mode::Flapping | Mode::Faulting | Mode::Baffling => None,
        }
    }

    /// Asks the relay something that it answers at once, unless it or the network is out of order.
    async fn ask<T>(&self, question: Question, answer: impl FnOnce() -> T) -> Result<T, CallFailed> {
        let until_ms = self.sim.now_ms() + self.timeout_ms;
        let failed = |retry_after, is_rate_limit| {
            Err(CallFailed { reason: "a simulated fault".into(), retry_after, is_rate_limit })
        };
        // What is sent to it meanwhile waits only if it was a question of what became of messages.
        let rate_limited = || match question {
            Question::Standing => failed(Some(self.relay.asks_to_wait()), RateLimit::Yes),
            Question::Pull | Question::Acknowledgement => {
                failed(Some(Duration::from_millis(1_500)), RateLimit::Yes)
            }
        };
        match self.relay.mode() {
            Mode::Up | Mode::Flapping | Mode::Faulting | Mode::Baffling => {}
            Mode::RateLimited => return rate_limited(),
            Mode::Dead | Mode::Stalled | Mode::OutOfService => return failed(None, RateLimit::No),
        }
        let Some(fault) = self.relay.question_faults(question).strike() else {
            self.relay.note_answer();
            return Ok(answer());
        };
        self.sim.reach(Situation::of_question(question, fault));
        match fault {
            QuestionFault::Unanswered => {
                if self.sim.per_cent(50) {
                    let _lost = answer();
                }
                self.sim.sleep_until(until_ms).await;
                failed(None, RateLimit::No)
            }
            QuestionFault::AnsweredLate => {
                let answer = answer();
                self.sim.sleep_until(until_ms - 1).await;
                self.relay.note_answer();
                Ok(answer)
            }
            QuestionFault::NoConnection => failed(None, RateLimit::No),
            QuestionFault::RateLimited => rate_limited(),
        }
    }

    fn answer(&self, reference: AttemptReference, word: Word) -> MessageAnswer {
        match word {
            Word::Accepted { is_repeat } => MessageAnswer::Accepted {
                relay_reference: Some(self.relay.relay_reference(reference)),
                duplicate: is_repeat,
            },
            Word::Refused(code) => MessageAnswer::Refused { code, general_code: None, text: None },
            Word::ForNow(code) => {
                MessageAnswer::RefusedForNow { code, general_code: None, text: None, retry_after: None }
            }
        }
    }

    async fn call(&self, messages: &[OutgoingMessage]) -> SubmitAnswer {
        if messages.len() > self.batch_max {
            self.sim.violation(format!("{}: a call of {} messages", self.relay.id, messages.len()));
        }
        let began_ms = self.sim.now_ms();
        let until_ms = began_ms + self.timeout_ms;
        let number = self.relay.is_called(messages, self.timeout_ms);
        let _under_way = UnderWay { relay: &self.relay, number };
        let tried = &messages[..self.relay.comes_to(messages.len())];
        let mut on_its_way = OnItsWay { client: self, messages: Some(tried.to_vec()) };
        self.sim.yields(1 + self.sim.below(2)).await;
        let way_ms = self.sim.below(60);
        self.sim.sleep_ms(way_ms).await;
        if self.relay.mode() == Mode::Baffling {
            self.sim.reach(Situation::WorkerPanicked);
            std::panic::resume_unwind(Box::new(SIMULATED_PANIC));
        }
        let (fault, then) = self.relay.call_faults.strike().unzip();
        if let Some(then) = then.flatten() {
            self.relay.question_faults(Question::Standing).arm(0, then);
        }
        let lost = match fault {
            Some(CallFault::RequestLost) => Some(false),
            Some(CallFault::ArrivesLate) => Some(true),
            _ if self.relay.mode() == Mode::Stalled => Some(self.sim.per_cent(50)),
            _ => None,
        };
        if let Some(comes_in) = lost {
            on_its_way.messages = None;
            return self.unanswered(began_ms, messages, comes_in).await;
        }
        let out_of_order = match fault {
            Some(CallFault::NoConnection) => {
                Some(SubmitAnswer::all(messages.len(), not_taken(NotTaken::NoConnection)))
            }
            Some(CallFault::RateLimited) => Some(SubmitAnswer {
                messages: vec![not_taken(NotTaken::RateLimited); messages.len()],
                retry_after: Some(Duration::from_millis(700)),
            }),
            _ => self.out_of_order(messages.len()),
        };
        if let Some(answer) = out_of_order {
            on_its_way.messages = None;
            let is_taken = |message: &OutgoingMessage| {
                self.relay.entry(message.reference).is_some_and(|entry| entry.taken > 0)
            };
            messages.iter().filter(|message| is_taken(message)).for_each(|_| {
                self.sim.reach(Situation::SecondCallNotTaken);
            });
            return answer;
        }
        let words = on_its_way.arrives();
        self.sim.yields(1 + self.sim.below(2)).await;
        if fault == Some(CallFault::AnswerLost) {
            self.sim.sleep_until(until_ms).await;
            return SubmitAnswer::all(messages.len(), unknown());
        }
        let way_ms = self.sim.below(60);
        self.sim.sleep_ms(way_ms).await;
        self.relay.note_answer();
        let answers = tried.iter().zip(words).map(|(message, word)| self.answer(message.reference, word));
        let mut answers: Vec<MessageAnswer> = answers.collect();
        if answers.len() < messages.len() {
            self.sim.reach(Situation::NotTried);
            answers.resize(messages.len(), MessageAnswer::NotTried);
        }
        SubmitAnswer { messages: answers, retry_after: None }
    }
}

#[async_trait]
impl RelayClient for SimClient {
    async fn submit(&self, messages: &[OutgoingMessage]) -> SubmitAnswer {
        let answer = self.call(messages).await;
        self.relay.is_answered(messages);
        answer
    }

    async fn status(
        &self,
        references: &[AttemptReference],
        _now: DateTime<Utc>,
    ) -> Result<Vec<Standing>, CallFailed> {
        self.sim.yields(1).await;
        let way_ms = self.sim.below(40);
        self.sim.sleep_ms(way_ms).await;
        let standing = |reference: &AttemptReference| match self.relay.entry(*reference) {
            None => Standing::NotFound,
            Some(entry) if entry.taken == 0 && entry.put_off.is_some() => Standing::NotFound,
            Some(entry) => match (entry.refused, entry.over) {
                (Some(code), _) if entry.taken == 0 => Standing::Refused { code },
                (_, Some(receipt)) => Standing::Over(receipt),
                _ => Standing::Accepted { relay_reference: Some(self.relay.relay_reference(*reference)) },
            },
        };
        let standings = self.ask(Question::Standing, || references.iter().map(standing).collect()).await?;
        self.sim.yields(1).await;
        Ok(standings)
    }

    async fn pull_receipts(&self, limit: u32) -> Result<PulledReceipts, CallFailed> {
        self.sim.yields(1).await;
        let (lease, receipts) = self.ask(Question::Pull, || self.relay.lease(limit)).await?;
        self.sim.some_yields().await;
        Ok(PulledReceipts { lease, receipts, misread: Vec::new() })
    }

    async fn acknowledge(&self, lease: &str) -> Result<(), CallFailed> {
        self.sim.some_yields().await;
        let forget = || {
            let receipts = self.relay.forget_lease(lease);
            self.acknowledged.lock().push((self.relay.id.clone(), receipts));
        };
        self.ask(Question::Acknowledgement, forget).await?;
        self.sim.some_yields().await;
        Ok(())
    }
}
