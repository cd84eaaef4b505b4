//! The situations that simulations reach. A law is only tested by what really happens: if a fault never struck, or a
//! kind of sending was always refused, every check would pass. So each simulation counts the situations that matter,
//! and a test demands that the seeds of every test run reach each of them.

use kite_domain::event::Event;
use kite_domain::lot::{MessagesRouted, Outcome, ReceiptSet};
use kite_domain::receipt::ReceiptStatus;
use kite_domain::relay::BreakerPhase;
use kite_domain::sending::MessageClass;
use kite_domain::text::MessageType;
use kite_event_store::RecordedEvent;
use smol_str::SmolStr;
use std::collections::{BTreeMap, BTreeSet};
use strum::{IntoStaticStr, VariantArray};
use uuid::Uuid;

use crate::relays::{Question, QuestionFault};

/// Something that has to happen often enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, VariantArray, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Situation {
    /// A sending is accepted under a key that was used before.
    KeyRepeated,
    /// A message is handed over again under the same reference.
    SecondCall,
    /// The relay had taken it, and says so.
    RepeatDropped,
    /// The relay had taken it, and refuses the second as a repeat.
    RepeatRefused,
    /// The relay had taken it, or may still, and does not take the second call.
    SecondCallNotTaken,
    /// A call comes in when nobody waits for its answer any more.
    LateArrival,
    /// A call had no answer.
    NoAnswer,
    /// Nobody answers what has become of messages.
    StandingUnanswered,
    /// What has become of messages is answered late.
    StandingAnsweredLate,
    /// What has become of messages cannot be asked.
    StandingRefused,
    /// Nobody answers a pull of receipts, or it is answered late or refused.
    PullFault,
    /// That receipts were stored is not answered, or late, or refused.
    AcknowledgementFault,
    /// A receipt is in the log before any answer to the hand-over.
    ReceiptFirst,
    /// A receipt says something else than the one before.
    ReceiptCorrected,
    /// A receipt that fits nothing is parked.
    ReceiptParked,
    /// A parked receipt finds its message.
    ParkedMatched,
    /// A relay refuses a message for now.
    RefusedForNow,
    /// It takes it later.
    TakenAfterAll,
    /// Or never, and the time for it is over.
    RefusedAfterAll,
    /// A call ends before it has come to all its messages.
    NotTried,
    /// A message continues to another relay.
    FailoverToRelay,
    /// A message continues by e-mail.
    FailoverToEmail,
    /// Somebody is left out of a split.
    RelayLeftOut,
    /// The carry of a split continues in another sending.
    SplitOverSendings,
    /// The weights of a split are advised.
    AdvisedSplit,
    /// A sending of several lots.
    SeveralLots,
    /// A relay is taken out of service by its breaker.
    BreakerTripped,
    /// A worker panics in the middle of a call.
    WorkerPanicked,
    /// Nobody works for a relay.
    RelayUnattended,
    /// An advertisement waits for the morning.
    AdvertisementHeld,
    /// An advertisement is refused at hand-over.
    AdvertisementRefused,
    /// An advertisement goes out by e-mail.
    AdvertisementByEmail,
    /// A message ends with its lifetime or deadline.
    Expired,
    /// A message ends because its sending was cancelled.
    Cancelled,
    /// The seal never came.
    Abandoned,
    /// An append was written, and its answer lost.
    AppendAnswerLost,
    /// Somebody else was faster.
    AppendConflict,
    /// The process dies while something is in progress.
    CrashUnderWay,
    /// The process is away for a while.
    CrashWithOutage,
    /// One of several processes dies, and is away for a while.
    NodeDown,
    /// One of several processes is asked to stop.
    NodeStopped,
    /// One of several processes stands still for a while.
    NodeStoodStill,
    /// One of several processes cannot reach the log for a while.
    NodeCutOff,
    /// The clock of one of several processes is off.
    NodeClockOff,
    /// One of several processes meets what a newer program wrote, and is too old for it.
    NodeTooOld,
    /// Its read models park that.
    NewerEventParked,
    /// A process learns late how far the log has come.
    HeadHeardLate,
    /// A lease is renewed late.
    LeaseRenewedLate,
    /// A lease is lost, and its holder does not know.
    LeaseLost,
    /// A job is lost in the work queue.
    JobLost,
    /// It comes to two.
    JobTwice,
    /// It is put, and nobody says so.
    PutUnanswered,
    /// It is given to another while the first who has it still works.
    JobGivenAgain,
    /// An append takes very long.
    AppendStalled,
    /// Another router is elected than before.
    RouterTookOver,
    /// A router tells a lot what another has claimed.
    ClaimToldByNext,
    /// A lot changes between the claim of its routes and the word of it.
    ClaimOvertaken,
    /// A relay is not called, because the time of the call is over.
    CallLetBe,
    /// A read model parks an event whose row cannot be written.
    RowParked,
    /// A sending is paused.
    Paused,
    /// A paused sending continues.
    Resumed,
    /// A tenant may not resume what an operator paused.
    ResumeRefused,
    /// A request is refused because the tenant, or all tenants together, have reached a limit.
    LimitReached,
    /// A request is refused because it comes too fast.
    TooFast,
    /// A request is refused because its sender is not approved.
    SenderNotApproved,
    /// A message is not handed over because its sender is not approved any more.
    SenderEnded,
    /// An approval is over.
    SenderExpired,
    /// An address is not approved because another tenant has it.
    AddressTaken,
}

impl Situation {
    /// Whether it needs several processes, or what happens only to them.
    pub fn is_of_several(self) -> bool {
        matches!(
            self,
            Self::NodeDown
                | Self::NodeStopped
                | Self::NodeStoodStill
                | Self::NodeCutOff
                | Self::NodeClockOff
                | Self::NodeTooOld
                | Self::NewerEventParked
                | Self::HeadHeardLate
                | Self::LeaseRenewedLate
                | Self::LeaseLost
                | Self::JobLost
                | Self::JobTwice
                | Self::PutUnanswered
                | Self::JobGivenAgain
                | Self::AppendStalled
                | Self::RouterTookOver
                | Self::CallLetBe
        )
    }

    pub(crate) fn of_question(question: Question, fault: QuestionFault) -> Self {
        match (question, fault) {
            (Question::Standing, QuestionFault::Unanswered) => Self::StandingUnanswered,
            (Question::Standing, QuestionFault::AnsweredLate) => Self::StandingAnsweredLate,
            (Question::Standing, QuestionFault::NoConnection | QuestionFault::RateLimited) => {
                Self::StandingRefused
            }
            (Question::Pull, _) => Self::PullFault,
            (Question::Acknowledgement, _) => Self::AcknowledgementFault,
        }
    }

    /// How often the seeds of a test run, a few hundred, come to it at least. Where two or more faults have to meet it takes
    /// thousands.
    pub fn times_min(self) -> u64 {
        match self {
            several if several.is_of_several() => 0,
            Self::SecondCallNotTaken | Self::ParkedMatched | Self::Abandoned | Self::ClaimOvertaken => 0,
            Self::StandingUnanswered
            | Self::StandingAnsweredLate
            | Self::StandingRefused
            | Self::PullFault
            | Self::AcknowledgementFault
            | Self::ReceiptCorrected
            | Self::SeveralLots
            | Self::AdvertisementRefused
            | Self::BreakerTripped
            | Self::WorkerPanicked
            | Self::RelayUnattended
            | Self::ResumeRefused
            | Self::TooFast
            | Self::SenderEnded
            | Self::SenderExpired
            | Self::AddressTaken
            | Self::AppendAnswerLost
            | Self::ClaimToldByNext => 1,
            _ => 4,
        }
    }
}

/// How often each was come to.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Reached(BTreeMap<Situation, u64>);

impl Reached {
    pub(crate) fn count(&mut self, situation: Situation) {
        *self.0.entry(situation).or_default() += 1;
    }

    /// Adds those of another simulation.
    pub fn add(&mut self, other: &Self) {
        for (situation, count) in &other.0 {
            *self.0.entry(*situation).or_default() += count;
        }
    }

    /// How often this was come to.
    pub fn times(&self, situation: Situation) -> u64 {
        self.0.get(&situation).copied().unwrap_or(0)
    }

    /// What was never come to.
    pub fn missing(&self) -> Vec<Situation> {
        Situation::VARIANTS
            .iter()
            .copied()
            .filter(|situation| !situation.is_of_several() && self.times(*situation) == 0)
            .collect()
    }

    /// Counts what the log tells.
    pub(crate) fn read(&mut self, log: &[RecordedEvent]) {
        let mut reader = Reader::default();
        for one in log {
            if let Ok(event) = Event::from_json(&one.kind, one.schema_version, &one.data) {
                reader.claims(self, one.id, &event);
                reader.fold(self, &one.stream, event);
            }
        }
    }
}

impl std::fmt::Display for Reached {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for situation in Situation::VARIANTS {
            writeln!(formatter, "{:>8}  {}", self.times(*situation), <&str>::from(situation))?;
        }
        Ok(())
    }
}

/// An attempt of a message: lot's stream, sequence number, number of the attempt.
type AttemptKey = (String, u32, u16);

#[derive(Default)]
struct Reader {
    called: BTreeSet<AttemptKey>,
    answered: BTreeSet<AttemptKey>,
    put_off: BTreeSet<AttemptKey>,
    receipts: BTreeMap<AttemptKey, ReceiptStatus>,
    /// By lot's stream.
    advertisements: BTreeSet<String>,
    channels: BTreeMap<AttemptKey, MessageType>,
    /// The sending that used a split last, by its key.
    splits: BTreeMap<String, String>,
    /// The router that was elected last.
    router: Option<SmolStr>,
    /// How many were.
    elections: u64,
    /// Routes that are claimed and not told: how many, and by which router.
    claimed: BTreeMap<Uuid, (usize, u64)>,
}

impl Reader {
    /// What becomes of claims.
    fn claims(&mut self, reached: &mut Reached, id: Uuid, event: &Event) {
        let messages = |routed: &MessagesRouted| -> usize {
            routed.routes.iter().map(|route| route.messages.len()).sum()
        };
        match event {
            Event::RoutesClaimed(claim) => {
                let lots = claim.lots.iter().map(|lot| (lot.event, (messages(&lot.routed), self.elections)));
                self.claimed.extend(lots);
            }
            Event::RouterElected(_) => self.elections += 1,
            Event::MessagesRouted(routed) => {
                let Some((claimed, elections)) = self.claimed.remove(&id) else { return };
                if elections != self.elections {
                    reached.count(Situation::ClaimToldByNext);
                }
                if messages(routed) != claimed {
                    reached.count(Situation::ClaimOvertaken);
                }
            }
            _ => {}
        }
    }

    fn fold(&mut self, reached: &mut Reached, stream: &str, event: Event) {
        match event {
            Event::LotAccepted(lot) => {
                if lot.number == 1 {
                    reached.count(Situation::SeveralLots);
                }
                if lot.class == MessageClass::Ad {
                    self.advertisements.insert(stream.to_owned());
                }
            }
            Event::RouterElected(elected) => {
                let before = self.router.replace(elected.node);
                if before.is_some_and(|before| Some(before) != self.router) {
                    reached.count(Situation::RouterTookOver);
                }
            }
            Event::SendingPaused(_) => reached.count(Situation::Paused),
            Event::SendingResumed(_) => reached.count(Situation::Resumed),
            Event::SendingAbandoned(_) => reached.count(Situation::Abandoned),
            Event::MessagesRouted(routed) => self.routed(reached, stream, &routed),
            Event::MessagesSubmitted(submitted) => {
                for seq in &submitted.messages {
                    let key = (stream.to_owned(), seq, submitted.attempt);
                    if self.advertisements.contains(stream)
                        && self.channels.get(&key) == Some(&MessageType::Email)
                    {
                        reached.count(Situation::AdvertisementByEmail);
                    }
                    if !self.called.insert(key) {
                        reached.count(Situation::SecondCall);
                    }
                }
            }
            Event::RelayResponded(responded) => {
                let attempt = responded.attempt;
                let key = |seq| (stream.to_owned(), seq, attempt);
                if let Some(accepted) = &responded.accepted {
                    let late = accepted.messages.iter().map(key).filter(|key| self.put_off.contains(key));
                    late.for_each(|_| reached.count(Situation::TakenAfterAll));
                    self.answered.extend(accepted.messages.iter().map(key));
                }
                for refused in &responded.refused {
                    let late = refused.messages.iter().map(key).filter(|key| self.put_off.contains(key));
                    late.for_each(|_| reached.count(Situation::RefusedAfterAll));
                    self.answered.extend(refused.messages.iter().map(key));
                }
                if responded.unknown.is_some() {
                    reached.count(Situation::NoAnswer);
                }
                for set in &responded.refused_for_now {
                    reached.count(Situation::RefusedForNow);
                    set.messages.iter().map(key).for_each(|key| {
                        self.called.remove(&key);
                        self.put_off.insert(key);
                    });
                }
                let not_called = |reason: &str| reason.starts_with("not called");
                let is_let_be = responded.deferred.as_ref().is_some_and(|set| not_called(&set.reason))
                    || responded.unknown.as_ref().is_some_and(|set| not_called(&set.reason));
                if is_let_be {
                    reached.count(Situation::CallLetBe);
                }
                if let Some(deferred) = &responded.deferred {
                    deferred.messages.iter().map(key).for_each(|key| {
                        self.called.remove(&key);
                    });
                }
            }
            Event::ReceiptsRecorded(recorded) => {
                recorded.sets.iter().for_each(|set| self.receipts(reached, stream, set));
            }
            Event::MessagesHeld(held) if !held.messages.is_empty() => {
                reached.count(Situation::AdvertisementHeld);
            }
            Event::MessagesFinished(finished) => match finished.outcome {
                Outcome::Expired => reached.count(Situation::Expired),
                Outcome::Cancelled => reached.count(Situation::Cancelled),
                Outcome::Refused if finished.reason.starts_with("sender_") => {
                    reached.count(Situation::SenderEnded);
                }
                Outcome::Refused => reached.count(Situation::AdvertisementRefused),
                Outcome::Delivered | Outcome::Undelivered => {}
            },
            Event::SenderExpired(_) => reached.count(Situation::SenderExpired),
            Event::ReceiptsParked(_) => reached.count(Situation::ReceiptParked),
            Event::ParkedReceiptsSettled(settled) if !settled.matched.is_empty() => {
                reached.count(Situation::ParkedMatched);
            }
            Event::RelayUnattended(_) => reached.count(Situation::RelayUnattended),
            Event::RelayBreakerChanged(changed) if changed.to == BreakerPhase::Tripped => {
                reached.count(Situation::BreakerTripped);
            }
            _ => {}
        }
    }

    fn routed(&mut self, reached: &mut Reached, stream: &str, routed: &MessagesRouted) {
        for route in &routed.routes {
            for seq in &route.messages {
                let before = (stream.to_owned(), seq, route.attempt.saturating_sub(1));
                match self.channels.get(&before) {
                    Some(channel) if *channel == route.channel => reached.count(Situation::FailoverToRelay),
                    Some(_) => reached.count(Situation::FailoverToEmail),
                    None => {}
                }
                self.channels.insert((stream.to_owned(), seq, route.attempt), route.channel);
            }
        }
        for split in &routed.splits {
            if !split.left_out.is_empty() {
                reached.count(Situation::RelayLeftOut);
            }
            if split.objective != "ratio" {
                reached.count(Situation::AdvisedSplit);
            }
            let before = self.splits.insert(split.key.to_string(), stream.to_owned());
            if before.is_some_and(|before| before != stream) {
                reached.count(Situation::SplitOverSendings);
            }
        }
    }

    fn receipts(&mut self, reached: &mut Reached, stream: &str, set: &ReceiptSet) {
        for seq in &set.messages {
            let key = (stream.to_owned(), seq, set.attempt);
            if !self.answered.contains(&key) {
                reached.count(Situation::ReceiptFirst);
            }
            if self.receipts.insert(key, set.status).is_some_and(|before| before != set.status) {
                reached.count(Situation::ReceiptCorrected);
            }
        }
    }
}
