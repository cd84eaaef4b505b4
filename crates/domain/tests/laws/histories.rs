//! Whole histories of a lot: random operations against relays that keep their own truth, every invariant checked after
//! each step.
//!
//! The relays of the simulation decide whether they took a message before they decide what they answer, so that "the
//! answer was lost" has both meanings, as in life.

use chrono::{DateTime, Duration, Utc};
use kite_domain::event::Event;
use kite_domain::failure::FailureClass;
use kite_domain::lot::*;
use kite_domain::policy::FailoverTerms;
use kite_domain::receipt::ReceiptStatus;
use kite_domain::sending::{AdTerms, MessageClass, SendingAccepted, WindowAction};
use kite_domain::text::MessageType;
use kite_domain::time_window::NightWindow;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

use crate::world::*;

const MESSAGES: u32 = 7;

/// What happens next. Numbers pick among what is there.
#[derive(Debug, Clone)]
enum Operation {
    Route { down: u8 },
    HandOver { pick: usize, answers: Vec<u8> },
    HandOverNonsense { relay: usize, attempt: u16 },
    AnswerAgain { pick: usize, answers: Vec<u8> },
    Inquire { pick: usize, answers: Vec<u8> },
    Receipts { picks: Vec<(usize, bool)>, foreign: Vec<(u32, u16)> },
    Expire,
    Cancel,
    TakeAway { relay: usize },
    Suspend { down: u8 },
    OptOut { seq: u32 },
    Wait { minutes: i64 },
}

fn any_operation() -> impl Strategy<Value = Operation> {
    let answers = || prop::collection::vec(any::<u8>(), MESSAGES as usize);
    prop_oneof![
        3 => any::<u8>().prop_map(|down| Operation::Route { down: down & 0b11 }),
        10 => (any::<usize>(), answers()).prop_map(|(pick, answers)| Operation::HandOver { pick, answers }),
        1 => (0..5usize, 0..5u16).prop_map(|(relay, attempt)| Operation::HandOverNonsense { relay, attempt }),
        2 => (any::<usize>(), answers()).prop_map(|(pick, answers)| Operation::AnswerAgain { pick, answers }),
        2 => (any::<usize>(), answers()).prop_map(|(pick, answers)| Operation::Inquire { pick, answers }),
        6 => (
            prop::collection::vec((any::<usize>(), prop::bool::weighted(0.6)), 0..9),
            prop::collection::vec((0..12u32, 0..4u16), 0..3),
        ).prop_map(|(picks, foreign)| Operation::Receipts { picks, foreign }),
        3 => Just(Operation::Expire),
        1 => Just(Operation::Cancel),
        1 => (0..3usize).prop_map(|relay| Operation::TakeAway { relay }),
        1 => any::<u8>().prop_map(|down| Operation::Suspend { down: down & 0b11 }),
        1 => (0..MESSAGES).prop_map(|seq| Operation::OptOut { seq }),
        4 => prop_oneof![0..30i64, 60..900i64, Just(1_600i64)].prop_map(|minutes| Operation::Wait { minutes }),
    ]
}

fn any_terms() -> impl Strategy<Value = SendingAccepted> {
    let class = prop_oneof![Just(MessageClass::Otp), Just(MessageClass::Notice), Just(MessageClass::Ad)];
    let window = prop_oneof![Just(WindowAction::Hold), Just(WindowAction::Refuse)];
    (class, window, any::<[bool; 5]>(), 1..6u16, 10..3_000i64).prop_map(
        |(class, window, flags, attempts_max, life)| {
            let [night_consent, relays, email, email_after_temporary, at_least_once] = flags;
            SendingAccepted {
                class,
                expires_at: noon() + Duration::minutes(life),
                ad: (class == MessageClass::Ad).then_some(AdTerms { window, night_consent, brands: vec![] }),
                failover: FailoverTerms {
                    relays,
                    email,
                    email_after_temporary,
                    at_least_once,
                    wait_s: None,
                    retry_s: (life % 3 == 0).then_some(life as u32 * 20),
                    attempts_max,
                },
                ..terms()
            }
        },
    )
}

/// What the relays know of an attempt that they took; none: not decided yet.
type Truth = Option<ReceiptStatus>;

struct Simulation {
    terms: SendingAccepted,
    world: Registered,
    lot: Lot,
    /// Every event so far, as it was stored.
    stored: Vec<Event>,
    accepted: LotAccepted,
    opted_out: BTreeSet<String>,
    is_cancelled: bool,
    /// Attempts that a relay really has, by message and attempt.
    taken: BTreeMap<(u32, u16), Truth>,
    /// Attempts that the log knows to have failed.
    failed: BTreeSet<(u32, u16)>,
    /// Until when the receipt of an attempt may come.
    receipt_by: BTreeMap<(u32, u16), DateTime<Utc>>,
    ledger: SplitLedger,
}

impl Simulation {
    fn new(terms: SendingAccepted) -> Self {
        let accepted = lot_accepted(&terms, 0, MESSAGES);
        Self {
            lot: Lot::new(&accepted),
            stored: Vec::new(),
            accepted,
            terms,
            world: Registered::everywhere(),
            opted_out: BTreeSet::new(),
            is_cancelled: false,
            taken: BTreeMap::new(),
            failed: BTreeSet::new(),
            receipt_by: BTreeMap::new(),
            ledger: SplitLedger::default(),
        }
    }

    fn now(&self) -> DateTime<Utc> {
        self.world.now
    }

    /// Folds what was decided, as it comes back from the log, and checks what may never be otherwise.
    fn fold(&mut self, events: Vec<Event>) {
        let before = self.lot.clone();
        for event in events {
            let stored = Event::from_json(event.kind(), event.schema_version(), &event.to_json()).unwrap();
            assert_eq!(stored, event, "an event is read as it was written");
            self.check_event(&event);
            self.lot.evolve(&event);
            if let Event::MessagesRouted(routed) = &event {
                self.ledger.evolve(routed);
            }
            self.note_failures(&event);
            self.stored.push(stored);
        }
        self.check_state(&before);
    }

    fn note_failures(&mut self, event: &Event) {
        match event {
            Event::MessagesSubmitted(submitted) => {
                let of = |seq| ((seq, submitted.attempt), submitted.receipt_by);
                self.receipt_by.extend(submitted.messages.iter().map(of));
            }
            Event::RelayResponded(responded) => {
                for set in &responded.refused {
                    self.failed.extend(set.messages.iter().map(|seq| (seq, responded.attempt)));
                }
            }
            Event::ReceiptsRecorded(recorded) => {
                for set in recorded.sets.iter().filter(|set| set.status == ReceiptStatus::Undelivered) {
                    self.failed.extend(set.messages.iter().map(|seq| (seq, set.attempt)));
                }
            }
            _ => {}
        }
    }

    fn check_event(&self, event: &Event) {
        match event {
            Event::MessagesSubmitted(submitted) => {
                submitted.messages.iter().for_each(|seq| self.check_submitted(seq, submitted));
            }
            Event::MessagesRouted(routed) => {
                for route in &routed.routes {
                    let reach = (route.channel != MessageType::Email)
                        .then_some(kite_domain::address::PhoneKind::KoreanMobile);
                    let context = self.world.context();
                    let registered = context.registered(route.channel);
                    let eligible =
                        self.world.directory.eligible(&route.relay, route.channel, reach, registered);
                    assert!(eligible.is_ok(), "routed to {}: {eligible:?}", route.relay);
                    assert!(!route.fallbacks.contains(&route.relay));
                    route.messages.iter().for_each(|seq| self.check_routed(seq, route));
                }
            }
            _ => {}
        }
    }

    fn check_routed(&self, seq: u32, route: &RouteSet) {
        let message = self.lot.message(seq).unwrap();
        assert_eq!(message.attempts_made() + 1, route.attempt, "attempts are counted without a gap");
        assert_eq!(message.outcome, None, "what is final is not tried again");
        assert!(route.attempt <= self.terms.failover.attempts_max.max(1), "too many attempts");
        if let Some(newest) = message.attempts.last() {
            let is_over = matches!(
                newest.state,
                AttemptState::Routed | AttemptState::Refused | AttemptState::Undelivered
            );
            let deadline = self.receipt_by.get(&(seq, route.attempt - 1));
            let is_overdue = deadline.is_some_and(|until| *until <= self.now());
            let is_given_up =
                self.terms.failover.at_least_once && (newest.state == AttemptState::Unknown || is_overdue);
            assert!(
                is_over || is_given_up,
                "message {seq} goes on although its newest attempt is {:?}",
                newest.state
            );
        }
        for (number, attempt) in (1u16..).zip(&message.attempts) {
            let same = self.lot.relay_of(attempt) == &route.relay && attempt.channel == route.channel;
            assert!(!same, "attempt {number} was with {} on {} already", route.relay, route.channel);
        }
    }

    /// Laws 4 and 9, and lifetime and cancellation.
    fn check_submitted(&self, seq: u32, submitted: &MessagesSubmitted) {
        let message = self.lot.message(seq).unwrap();
        let last = message.attempts.last().unwrap();
        assert_eq!(message.attempts_made(), submitted.attempt, "only the newest attempt is handed over");
        assert_eq!(self.lot.relay_of(last), &submitted.relay);
        assert_eq!(message.outcome, None);
        assert!(self.now() < self.terms.expires_at, "handed over after its lifetime");
        assert!(!self.is_cancelled, "handed over after it was cancelled");
        if !self.terms.failover.at_least_once {
            for earlier in 1..submitted.attempt {
                let is_gone =
                    !self.taken.contains_key(&(seq, earlier)) || self.failed.contains(&(seq, earlier));
                assert!(is_gone, "message {seq}: attempt {earlier} may still be delivered");
            }
        }
        if self.terms.class == MessageClass::Ad {
            let recipient = self.lot.recipient(seq).unwrap();
            assert!(!self.opted_out.contains(recipient.to.as_str()), "to one who refused");
            let has_consent = self.terms.ad.as_ref().is_some_and(|ad| ad.night_consent);
            if last.channel != MessageType::Email && !has_consent {
                assert!(!NightWindow::default().contains(self.now()), "an advertisement at night");
            }
        }
    }

    fn check_state(&self, before: &Lot) {
        let mut counted = OutcomeCounts::default();
        self.lot.messages().for_each(|(_, message)| *counted.of(message.outcome) += 1);
        assert_eq!(self.lot.counts(), counted);
        assert_eq!(counted.total(), MESSAGES, "every message is open or has one outcome");
        for (seq, message) in self.lot.messages() {
            let earlier = before.message(seq).unwrap();
            assert!(message.outcome >= earlier.outcome, "an outcome only rises");
            for (attempt, was) in message.attempts.iter().zip(&earlier.attempts) {
                let is_back = was.state <= AttemptState::Unknown && attempt.state <= AttemptState::Unknown;
                assert!(attempt.state >= was.state || is_back, "{:?} after {:?}", attempt.state, was.state);
            }
            let delivered = message.attempts.iter().any(|attempt| attempt.state == AttemptState::Delivered);
            assert_eq!(delivered, message.outcome == Some(Outcome::Delivered));
            self.check_in_flight(seq, message);
        }
        let refolded = {
            let first = Event::from(self.accepted.clone());
            Lot::fold(std::iter::once(&first).chain(&self.stored)).unwrap()
        };
        assert_eq!(format!("{refolded:?}"), format!("{:?}", self.lot), "the stored events give the same lot");
        self.check_next_steps();
    }

    fn check_in_flight(&self, seq: u32, message: &Message) {
        let delivered = (1..=message.attempts_made()).filter(|number| {
            self.taken.get(&(seq, *number)).is_some_and(|truth| *truth == Some(ReceiptStatus::Delivered))
        });
        if !self.terms.failover.at_least_once {
            let in_flight = message.attempts.iter().filter(|attempt| attempt.state.is_in_flight()).count();
            assert!(in_flight <= 1, "message {seq} is in flight twice");
            assert!(delivered.count() <= 1, "message {seq} was delivered twice");
        }
    }

    /// An open message is never forgotten: it is unrouted, or somebody has to do something, or a time is set.
    fn check_next_steps(&self) {
        let pending = self.lot.pending();
        let due = self.lot.next_due_ms(self.terms.expires_at);
        assert_eq!(
            due.is_some(),
            self.lot.counts().open > 0,
            "somebody comes back as long as a message is open"
        );
        for (seq, message) in self.lot.messages().filter(|(_, message)| message.outcome.is_none()) {
            let Some(last) = message.attempts.last() else { continue };
            let is_listed = pending.iter().filter(|set| set.messages.contains(seq)).count();
            match last.state {
                AttemptState::Routed | AttemptState::Submitted => assert_eq!(is_listed, 1),
                AttemptState::Unknown => assert!(is_listed <= 1),
                AttemptState::Accepted => assert_eq!(is_listed, 0),
                other => panic!("message {seq} is open and its newest attempt is {other:?}"),
            }
        }
    }

    fn route(&mut self, down: u8) {
        self.suspend(down);
        let in_force = policy(&[("alpha", 5_000), ("beta", 3_000), ("gamma", 2_000)]);
        let decide =
            |lot: &Lot| lot.route(&mut self.ledger.ahead(), &self.world.context(), |_, _| in_force.clone());
        let (routed, blocked) = decide(&self.lot);
        assert_eq!((&routed, &blocked), (&decide(&self.lot).0, &decide(&self.lot).1), "the same again");
        assert!(blocked.is_empty());
        self.fold(routed.map(Event::from).into_iter().collect());
    }

    fn suspend(&mut self, down: u8) {
        self.world.directory = directory();
        for (bit, name) in ["alpha", "mail-b"].into_iter().enumerate() {
            if down & (1 << bit) != 0 {
                suspend(&mut self.world.directory, name);
            }
        }
    }

    fn hand_over(&mut self, name: &str, attempt: u16, candidates: &kite_domain::seq_set::SeqSet) -> Vec<u32> {
        let window = NightWindow::default();
        let now = self.now();
        let spread = std::time::Duration::from_secs(600);
        let relay = relay(name);
        let submission = {
            let closed_until = |seq: u32| {
                window
                    .contains(now)
                    .then(|| window.spread_after_open(window.next_open(now), seq.into(), spread))
            };
            let handover = Handover {
                is_asked_again: false,
                relay: &relay,
                attempt,
                is_cancelled: self.is_cancelled,
                is_paused: false,
                receipt_deadline: Duration::hours(25),
                answer_by: now + chrono::TimeDelta::seconds(15),
                holder: None,
                closed_until: &closed_until,
                unsendable: &|_| None,
                has_opted_out: &|address| self.opted_out.contains(address),
                context: &self.world.context(),
                now,
            };
            let submission = self.lot.submit(&self.terms, candidates, &handover);
            assert_eq!(submission.events, self.lot.submit(&self.terms, candidates, &handover).events);
            submission
        };
        let announced: Vec<u32> = submission
            .events
            .iter()
            .filter_map(|event| match event {
                Event::MessagesSubmitted(submitted) => Some(submitted.messages.iter().collect::<Vec<_>>()),
                _ => None,
            })
            .flatten()
            .collect();
        let seqs: Vec<u32> = submission.messages.iter().collect();
        assert_eq!(announced, seqs, "the intent names what the relay is called with");
        self.fold(submission.events);
        seqs
    }

    /// The relay gets the call, does what it does, and answers or not.
    fn call(&mut self, seqs: &[u32], attempt: u16, answers: &[u8]) -> ResponseNote {
        let mut note = ResponseNote { call_ms: Some(3), ..ResponseNote::default() };
        let (mut lost, mut later) = (Vec::new(), Vec::new());
        note.is_cancelled = self.is_cancelled;
        for seq in seqs {
            let answer = answers[*seq as usize];
            let is_known = self.taken.contains_key(&(*seq, attempt));
            match (answer % 8, is_known) {
                (0 | 1, _) | (5, true) => {
                    self.taken.entry((*seq, attempt)).or_default();
                    note.accepted.push(AcceptedMessage { seq: *seq, relay_reference: None });
                }
                (2, _) => {
                    self.taken.entry((*seq, attempt)).or_default();
                    lost.push(*seq);
                }
                (3, _) => lost.push(*seq),
                (4, _) if answer >= 128 => {
                    let class = FailureClass::ALL[usize::from(answer / 8) % FailureClass::ALL.len()];
                    note.refused_for_now.extend(refused_for_now(&[*seq], class).refused_for_now);
                }
                (4, _) => later.push(*seq),
                (_, true) => note.refused.push(refusal(*seq, FailureClass::Duplicate)),
                (_, false) => {
                    let class = FailureClass::ALL[usize::from(answer / 8) % FailureClass::ALL.len()];
                    note.refused.push(refusal(*seq, class));
                }
            }
        }
        let in_a_minute = self.now() + Duration::minutes(1);
        let may_ask = answers[0].is_multiple_of(2);
        note.asking = if may_ask { BOTH } else { Asking::default() };
        note.round = if answers[0].is_multiple_of(3) { 3 } else { answers[0] % 3 };
        note.answered_at = Some(self.now());
        if !lost.is_empty() {
            note.unknown = unknown(&lost, None).unknown;
        }
        if !later.is_empty() {
            note.deferred = deferred(&later, in_a_minute).deferred;
        }
        note
    }

    fn respond(&mut self, name: &str, attempt: u16, note: ResponseNote) {
        let context = self.world.context();
        let decide = || self.lot.respond(&self.terms, &relay(name), attempt, note.clone(), &context);
        let events = decide();
        assert_eq!(events, decide());
        self.fold(events);
        // Whoever does not know whether the answer is in the log records it once more.
        let mut twice = self.lot.clone();
        let context = self.world.context();
        let again = twice.respond(&self.terms, &relay(name), attempt, note.clone(), &context);
        again.iter().for_each(|event| twice.evolve(event));
        assert!(twice.messages().eq(self.lot.messages()), "{note:?} once more: {again:?}");
    }

    fn inquire(&mut self, set: &PendingHandover, answers: &[u8]) {
        let mut note = ResponseNote { answer_to: AnswerTo::Question, ..ResponseNote::default() };
        let mut not_found = Vec::new();
        for seq in &set.messages {
            match (self.taken.get(&(seq, set.attempt)), answers[seq as usize] % 3) {
                (_, 0) => {}
                (Some(_), _) => note.accepted.push(AcceptedMessage { seq, relay_reference: None }),
                (None, _) => not_found.push(seq),
            }
        }
        if !not_found.is_empty() {
            note.deferred = deferred(&not_found, self.now()).deferred;
        }
        self.respond(set.relay.as_str(), set.attempt, note);
    }

    fn receipts(&mut self, picks: &[(usize, bool)], foreign: &[(u32, u16)]) {
        let taken: Vec<(u32, u16)> = self.taken.keys().copied().collect();
        let mut by_relay: BTreeMap<String, Vec<Note>> = BTreeMap::new();
        for (pick, is_delivered) in picks.iter().filter(|_| !taken.is_empty()) {
            let key = taken[pick % taken.len()];
            let said = if *is_delivered { ReceiptStatus::Delivered } else { ReceiptStatus::Undelivered };
            let status = *self.taken.get_mut(&key).unwrap().get_or_insert(said);
            let attempt = self.lot.message(key.0).unwrap().attempt(key.1).unwrap();
            let name = self.lot.relay_of(attempt).as_str().to_owned();
            let class = FailureClass::ALL[pick % FailureClass::ALL.len()];
            by_relay.entry(name).or_default().push(receipt(key.0, key.1, status, class));
        }
        for (seq, attempt) in foreign.iter().filter(|key| !self.taken.contains_key(key)) {
            // Forged or mistaken: of a relay that has no such attempt.
            let note = receipt(*seq, *attempt, ReceiptStatus::Delivered, FailureClass::Unclassified);
            by_relay.entry("mail-z".to_owned()).or_default().push(note);
        }
        for (name, notes) in by_relay {
            let (events, strangers) = {
                let context = self.world.context();
                let decide = || self.lot.receive(&self.terms, &relay(&name), &notes, &context);
                let decided = decide();
                assert_eq!(decided, decide());
                decided
            };
            assert_eq!(strangers.len(), if name == "mail-z" { notes.len() } else { 0 });
            self.fold(events);
        }
    }

    fn expire(&mut self) {
        let context = self.world.context();
        let decide = || match self.is_cancelled {
            true => self.lot.expire_cancelled(context.now),
            false => self.lot.expire(&self.terms, &context),
        };
        let events = decide();
        assert_eq!(events, decide());
        self.fold(events);
    }

    fn apply(&mut self, operation: &Operation) {
        match operation {
            Operation::Route { down } if !self.is_cancelled => self.route(*down),
            Operation::Route { .. } => {}
            Operation::Suspend { down } => self.suspend(*down),
            Operation::HandOver { pick, answers } => {
                let now_ms = self.now().timestamp_millis();
                let mut ready = self.lot.pending();
                ready.retain(|set| set.not_before_ms <= now_ms);
                if let Some(set) = pick.checked_rem(ready.len()).map(|place| ready[place].clone()) {
                    if set.state == AttemptState::Submitted {
                        // The process died with the call: nobody knows.
                        let seqs: Vec<u32> = set.messages.iter().collect();
                        let inquire_at = (pick % 2 == 0).then(|| self.now());
                        self.respond(set.relay.as_str(), set.attempt, unknown(&seqs, inquire_at));
                        return;
                    }
                    let seqs = self.hand_over(set.relay.as_str(), set.attempt, &set.messages);
                    let note = self.call(&seqs, set.attempt, answers);
                    // Sometimes the process dies before it can write down what it heard.
                    if answers[0] % 8 != 7 {
                        self.respond(set.relay.as_str(), set.attempt, note);
                    }
                }
            }
            Operation::HandOverNonsense { relay, attempt } => {
                let name = PHONE_RELAYS.iter().chain(&EMAIL_RELAYS).nth(*relay).unwrap();
                let wanted = set(0..2 * MESSAGES);
                let seqs = self.hand_over(name, *attempt, &wanted);
                let note = self.call(&seqs, *attempt, &[0; MESSAGES as usize]);
                self.respond(name, *attempt, note);
            }
            Operation::AnswerAgain { pick, answers } => {
                // A late or repeated "accepted" of something that the relay really has.
                let taken: Vec<(u32, u16)> = self.taken.keys().copied().collect();
                if let Some((seq, attempt)) = pick.checked_rem(taken.len()).map(|place| taken[place]) {
                    let lot = &self.lot;
                    let name = lot.relay_of(lot.message(seq).unwrap().attempt(attempt).unwrap()).clone();
                    let note = if answers[0] % 2 == 0 { accepted(&[seq]) } else { unknown(&[seq], None) };
                    self.respond(name.as_str(), attempt, note);
                }
            }
            Operation::Inquire { pick, answers } => {
                let mut asked = self.lot.pending();
                asked.retain(|set| set.state == AttemptState::Unknown);
                if let Some(set) = pick.checked_rem(asked.len()).map(|place| asked[place].clone()) {
                    self.inquire(&set, answers);
                }
            }
            Operation::Receipts { picks, foreign } => self.receipts(picks, foreign),
            Operation::Expire => self.expire(),
            Operation::Cancel => {
                self.is_cancelled = true;
                let events = self.lot.cancel();
                self.fold(events);
            }
            Operation::TakeAway { relay: place } => {
                let context = self.world.context();
                let name = relay(PHONE_RELAYS[*place]);
                let all = set(0..MESSAGES);
                let events = self.lot.take_away(&self.terms, &name, &all, "breaker tripped", &context);
                self.fold(events);
            }
            Operation::OptOut { seq } => {
                let address = self.lot.recipient(*seq).unwrap().to.to_string();
                self.opted_out.insert(address);
            }
            Operation::Wait { minutes } => self.world.now += Duration::minutes(*minutes),
        }
    }

    /// Nothing accepted is lost: once every time is over, nothing is open.
    fn end(&mut self) {
        for _ in 0..3 {
            self.world.now = self.world.now.max(self.terms.expires_at) + Duration::hours(26);
            self.expire();
        }
        assert_eq!(self.lot.counts().open, 0, "something is open for ever");
        assert_eq!(self.lot.next_due_ms(self.terms.expires_at), None);
    }
}

fn refusal(seq: u32, class: FailureClass) -> RefusedMessage {
    RefusedMessage { seq, code: class.as_str().into(), class, text: None }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn every_history_keeps_the_laws(
        terms in any_terms(),
        operations in prop::collection::vec(any_operation(), 1..60),
    ) {
        let mut simulation = Simulation::new(terms);
        simulation.route(0);
        operations.iter().for_each(|operation| simulation.apply(operation));
        simulation.end();
    }
}
