//! A case from a seed.

mod nodes;

pub use nodes::generate_nodes;

use crate::case::{Case, CaseStep, Setup};
use crate::faults::AppendFault;
use crate::operation::{
    Class, Failover, Foreign, Kind, Objective, Operation, PolicyChannel, SendOrder, SenderStep,
};
use crate::relays::{CallFault, Mode, Question, QuestionFault, ReceiptFault};
use crate::unwritable::Rows;
use kite_testkit::dice::Dice;

/// No step that is drawn has this number.
const UNWRITABLE_SALT: u32 = 0x0B57_0000;

/// More messages than any case has.
const ALL: u64 = 100_000;

/// How long a case is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// Some ten operations: many seeds in little time.
    Short,
    /// Some fifty: more that can come together.
    Long,
}

/// The case of a seed. It is always the same, as long as nothing is added here.
pub fn generate(seed: u64, length: Length) -> Case {
    let mut dice = Dice::of(seed, 0xCA5E);
    // What was added later has dice of its own, so that a seed stays the case that it was.
    let mut later = Dice::of(seed, 0x1A7E);
    let steps = match length {
        Length::Short => dice.between(6, 18),
        Length::Long => dice.between(20, 60),
    };
    let setup = Setup {
        kept_messages_max: *dice.pick(&[ALL, ALL, ALL, ALL, ALL, ALL, 10, 1]),
        jobs_max: *dice.pick(&[1, 2, 4, 100_000, 100_000, 100_000]),
        starts_at_minute: *dice.pick(&[12 * 60, 12 * 60, 15 * 60 + 7, 20 * 60 + 58, 3 * 60, 7 * 60 + 59]),
        advises: dice.per_cent(40),
        receipt_ms_max: *dice.pick(&[4_000, 4_000, 60_000, 600_000]),
        greylisted_per_cent: *later.pick(&[0, 0, 8, 30]),
        open_messages_max: 0,
        remote_log: false,
        streams_apart: Dice::of(seed, 0xA9A7).per_cent(20),
        nodes: 1,
    };
    let mut setup = setup;
    let keeps_all = setup.kept_messages_max == ALL;
    let mut generator =
        Generator { dice, later, sent: Vec::new(), trouble: None, was_fault: false, keeps_all };
    let mut steps: Vec<CaseStep> = (0..steps).map(|number| generator.step(number as u32)).collect();
    add_unwritable(seed, &mut steps);
    operators_and_tenants(seed, &mut setup, &mut steps);
    baffle(seed, &mut steps);
    senders(seed, &mut steps);
    somebody_refuses(seed, &mut steps);
    Case { seed, setup, steps }
}

/// In one case of six some rows cannot be written from some point on. Drawn from a separate generator with a separate
/// salt, so that the rest of the case is the same as without it.
fn add_unwritable(seed: u64, steps: &mut Vec<CaseStep>) {
    let mut dice = Dice::of(seed, 0x0B57);
    if dice.below(6) != 0 {
        return;
    }
    let op = Operation::Unwritable { rows: *dice.pick(&Rows::ALL), remainder: dice.below(4) as u8 };
    let place = dice.below(steps.len() as u64 / 2) as usize;
    steps.insert(place, CaseStep { salt: UNWRITABLE_SALT, polls: 0, op });
}

/// The salts of steps that are put between others.
const SALT_BETWEEN: u32 = 100_000;
/// The salt of the step after which calling a relay makes a worker panic.
const SALT_BAFFLING: u32 = 300_000;

/// Limits and pauses, inserted between the other steps: from a separate generator, so that the others stay as they
/// are.
fn operators_and_tenants(seed: u64, setup: &mut Setup, steps: &mut Vec<CaseStep>) {
    let mut dice = Dice::of(seed, 0x7E4A);
    if dice.per_cent(10) {
        setup.open_messages_max = *dice.pick(&[40, 100]);
    }
    let mut attempts = Dice::of(seed, 0x7E17);
    let count = *dice.pick(&[0, 0, 1, 2, 3, 4]);
    for number in 0..count {
        let op = match dice.below(10) {
            0..=4 => Operation::Pause { back: dice.below(3) as u8, by_operator: dice.per_cent(40) },
            5..=7 => Operation::LetGoOn { back: dice.below(3) as u8, by_operator: dice.per_cent(50) },
            _ => Operation::Limits {
                tenant: u8::from(dice.per_cent(50)),
                open: *dice.pick(&[0, 10, 30, 60, 60]),
                scheduled: *dice.pick(&[0, 0, 1, 8]),
                requests: *dice.pick(&[0, 0, 0, 1, 3]),
            },
        };
        let polls = *dice.pick(&[0, 0, 20, 120, 400]);
        // Limits come early: what follows is held to them.
        let place = match op {
            Operation::Limits { .. } => dice.below(1 + steps.len() as u64 / 3),
            _ => dice.below(1 + steps.len() as u64),
        };
        steps.insert(place as usize, CaseStep { salt: SALT_BETWEEN + number, polls, op });
        // What is paused mostly continues some time.
        if let Operation::Pause { back, .. } = op
            && dice.per_cent(50)
        {
            let op = Operation::LetGoOn { back, by_operator: true };
            steps.insert(place as usize + 1, CaseStep { salt: SALT_BETWEEN + count + number, polls, op });
        }
        // What the operator has paused a tenant cannot resume, though it tries.
        if let Operation::Pause { back, by_operator: true } = op
            && attempts.per_cent(60)
        {
            let op = Operation::LetGoOn { back, by_operator: false };
            steps.insert(place as usize + 1, CaseStep { salt: SALT_BETWEEN + 2 * count + number, polls, op });
        }
    }
}

/// In one case of twelve a relay is handed something that makes whoever does it panic: just before somebody sends.
fn baffle(seed: u64, steps: &mut Vec<CaseStep>) {
    let mut dice = Dice::of(seed, 0xBAFF);
    let is_sent = |step: &CaseStep| matches!(step.op, Operation::Send(_));
    if dice.below(12) != 0 {
        return;
    }
    if let Some(place) = steps.iter().position(is_sent) {
        let op = Operation::Mode { relay: dice.below(3) as u8, mode: Mode::Baffling };
        steps.insert(place, CaseStep { salt: SALT_BAFFLING, polls: 0, op });
    }
}

/// The salts of steps that are about senders.
const SALT_OF_SENDERS: u32 = 400_000;

/// In two cases of five senders are withdrawn, refused, or approved for a while: from a separate generator, and so
/// that most may be used again some time.
fn senders(seed: u64, steps: &mut Vec<CaseStep>) {
    let mut dice = Dice::of(seed, 0x5E4D);
    let count = *dice.pick(&[0, 0, 0, 1, 2]);
    for number in 0..count {
        let (tenant, is_email) = (u8::from(dice.per_cent(30)), dice.per_cent(30));
        let for_a_while =
            SenderStep::Approve { seconds: *dice.pick(&[30, 120, 1_800, 40_000]), shared: dice.per_cent(70) };
        let for_long = SenderStep::Approve { seconds: 300_000_000, shared: true };
        let said: &[SenderStep] = match dice.below(5) {
            0 => &[SenderStep::Withdraw, SenderStep::Ask, for_long],
            1 => &[for_a_while, SenderStep::Ask, for_long],
            2 => &[SenderStep::Withdraw, SenderStep::Ask, for_a_while, for_long],
            3 => &[SenderStep::Ask, SenderStep::Refuse, SenderStep::Withdraw],
            _ => &[SenderStep::Withdraw, SenderStep::Ask, SenderStep::Refuse, SenderStep::Ask, for_long],
        };
        let mut place = dice.below(1 + steps.len() as u64) as usize;
        for (turn, step) in said.iter().enumerate() {
            let op = Operation::Sender { tenant, is_email, step: *step };
            let salt = SALT_OF_SENDERS + 10 * number + turn as u32;
            let polls = *dice.pick(&[0, 20, 120, 400]);
            steps.insert(place, CaseStep { salt, polls, op });
            // What follows comes a little later: something is to be sent in between.
            place = (place + 1 + dice.below(4) as usize).min(steps.len());
        }
    }
}

/// The salts of steps in which somebody refuses.
const SALT_REFUSING: u32 = 450_000;

/// In one case of eight somebody who is known by two addresses refuses by one of them, and an advertisement that goes to
/// the other is accepted before or after that.
fn somebody_refuses(seed: u64, steps: &mut Vec<CaseStep>) {
    let mut dice = Dice::of(seed, 0x9E09);
    if dice.below(8) != 0 {
        return;
    }
    let tenant = u8::from(dice.per_cent(50));
    // Those with even numbers have an e-mail address, and the last one is deleted again.
    let first = 2 * dice.below(20) as u16;
    let contacts = Operation::Contacts { tenant, first, count: 5 };
    let by_email = dice.per_cent(50);
    let refusal = Operation::OptOut { tenant, recipient: first + 2, is_email: by_email };
    let is_accepted_before = dice.per_cent(50);
    let advertisement = Operation::Send(SendOrder {
        tenant,
        class: Class::NightAd,
        kind: if by_email { Kind::Sms } else { Kind::Email },
        recipients: 4,
        first,
        scheduled_s: is_accepted_before.then_some(40),
        ..SendOrder::default()
    });
    let settling = Operation::Wait { ms: dice.between(8_000, 20_000) as u32 };
    let mut story = if dice.per_cent(50) { vec![contacts, refusal] } else { vec![refusal, contacts] };
    story.insert(if is_accepted_before { 0 } else { 2 }, advertisement);
    story.insert(if is_accepted_before { 3 } else { 2 }, settling);
    let place = dice.below(1 + steps.len() as u64) as usize;
    let salts = SALT_REFUSING..;
    let story = story.into_iter().zip(salts).map(|(op, salt)| CaseStep { salt, polls: 60, op });
    steps.splice(place..place, story);
}

struct Generator {
    dice: Dice,
    later: Dice,
    sent: Vec<SendOrder>,
    /// The relay that had a fault last. Trouble seldom comes alone: only two faults in a row at one relay show whether
    /// the second is handled with the first in mind.
    trouble: Option<u8>,
    /// Whether the last operation was a fault: it needs messages to strike, and time for what follows from it.
    was_fault: bool,
    /// No lot is forgotten while the process lives.
    keeps_all: bool,
}

impl Generator {
    fn step(&mut self, number: u32) -> CaseStep {
        let op = match self.dice.below(100) {
            0..=34 if self.was_fault => Operation::Wait { ms: self.dice.between(1_000, 30_000) as u32 },
            35..=54 if self.was_fault => Operation::Send(self.send()),
            _ => self.operation(),
        };
        self.was_fault = matches!(
            op,
            Operation::CallFault { .. }
                | Operation::QuestionFault { .. }
                | Operation::Mode { .. }
                | Operation::AppendFault { .. }
                | Operation::Crash
        );
        let polls = match self.dice.below(10) {
            0..=2 => 0,
            3..=7 => self.dice.between(1, 120),
            _ => self.dice.between(100, 900),
        };
        CaseStep { salt: number, polls: polls as u16, op }
    }

    fn operation(&mut self) -> Operation {
        match self.dice.below(100) {
            0..=29 => Operation::Send(self.send()),
            30..=35 => Operation::Cancel { back: self.dice.below(3) as u8 },
            36..=40 => self.policy(),
            41..=49 => self.operator(),
            50..=56 => self.people(),
            57..=67 => self.time(),
            68..=74 => Operation::Crash,
            75 => Operation::Outage {
                ms: match self.dice.below(4) {
                    0..=2 => self.dice.between(1_000, 90_000) as u32,
                    _ => self.dice.between(90_000, 40_000_000) as u32,
                },
            },
            76..=77 => Operation::Calm,
            78 => Operation::Compare,
            79..=85 => Operation::AppendFault {
                skip: self.dice.below(12) as u8,
                fault: *self.dice.pick(&[
                    AppendFault::Busy,
                    AppendFault::WrittenAnswerLost,
                    AppendFault::PartlyWrittenAnswerLost,
                    AppendFault::NotWrittenAnswerLost,
                    AppendFault::Rival,
                    AppendFault::Rival,
                    AppendFault::Slow,
                ]),
            },
            86 => Operation::ReadFault { skip: self.dice.below(40) as u8 },
            87..=90 => self.call_fault(),
            91..=92 => Operation::QuestionFault {
                relay: self.troubled_relay(),
                question: *self.dice.pick(&[Question::Standing, Question::Pull, Question::Acknowledgement]),
                skip: self.dice.below(2) as u8,
                fault: self.question_fault(),
                times: *self.dice.pick(&[1, 1, 2, 6]),
            },
            93..=94 => Operation::Mode { relay: self.troubled_relay(), mode: *self.dice.pick(&Mode::ALL) },
            95..=98 => Operation::Receipts {
                relay: self.troubled_relay(),
                fault: *self.dice.pick(&[
                    ReceiptFault::Early,
                    ReceiptFault::Early,
                    ReceiptFault::Late,
                    ReceiptFault::Twice,
                    ReceiptFault::Never,
                    ReceiptFault::Corrected,
                ]),
                count: self.dice.between(1, 10) as u8,
            },
            _ => Operation::Foreign {
                relay: self.relay(),
                kind: *self.dice.pick(&[
                    Foreign::Nonsense,
                    Foreign::UnknownSending,
                    Foreign::OfAnother,
                    Foreign::LaterAttempt,
                    Foreign::LaterAttempt,
                ]),
            },
        }
    }

    fn relay(&mut self) -> u8 {
        self.dice.below(5) as u8
    }

    /// Often the one that is in trouble already.
    fn troubled_relay(&mut self) -> u8 {
        let relay = match self.trouble {
            Some(relay) if self.dice.per_cent(60) => relay,
            _ => self.relay(),
        };
        self.trouble = Some(relay);
        relay
    }

    fn call_fault(&mut self) -> Operation {
        let fault = *self.dice.pick(&[
            CallFault::RequestLost,
            CallFault::AnswerLost,
            CallFault::AnswerLostThenTooMany,
            CallFault::ArrivesLate,
            CallFault::NoConnection,
            CallFault::RateLimited,
        ]);
        // Only where there was no answer somebody asks.
        let is_answered = matches!(fault, CallFault::NoConnection | CallFault::RateLimited);
        Operation::CallFault {
            relay: self.troubled_relay(),
            skip: self.dice.below(3) as u8,
            fault,
            times: *self.dice.pick(&[1, 1, 2, 6]),
            then: (!is_answered && self.dice.per_cent(60)).then(|| self.question_fault()),
        }
    }

    fn question_fault(&mut self) -> QuestionFault {
        *self.dice.pick(&[
            QuestionFault::Unanswered,
            QuestionFault::Unanswered,
            QuestionFault::Unanswered,
            QuestionFault::AnsweredLate,
            QuestionFault::AnsweredLate,
            QuestionFault::NoConnection,
            QuestionFault::RateLimited,
        ])
    }

    fn tenant(&mut self) -> u8 {
        u8::from(self.dice.per_cent(25))
    }

    fn failover(&mut self) -> Failover {
        Failover {
            at_least_once: self.dice.per_cent(25),
            email: self.dice.per_cent(35),
            after_temporary: self.dice.per_cent(50),
            wait_s: *self.dice.pick(&[0, 0, 0, 60, 600]),
            retry_s: *self.later.pick(&[0, 0, 0, 90, 700, 20_000]),
        }
    }

    fn send(&mut self) -> SendOrder {
        if !self.sent.is_empty() && self.dice.per_cent(20) {
            // Again under the same key: the same body, or another.
            let mut again = *self.dice.pick(&self.sent);
            if again.key.is_some() {
                again.body += u8::from(self.dice.per_cent(15));
                return again;
            }
        }
        let class = *self.dice.pick(&[
            Class::Otp,
            Class::Notice,
            Class::Notice,
            Class::Notice,
            Class::Ad,
            Class::Ad,
            Class::AdOrNothing,
            Class::NightAd,
        ]);
        let kind = *self.dice.pick(&[Kind::Sms, Kind::Sms, Kind::Sms, Kind::Lms, Kind::Email, Kind::Mixed]);
        let recipients = match self.dice.below(200) {
            // Several lots. To read so many again for each receipt would show nothing that a few do not.
            0..=1 if self.keeps_all => self.dice.between(1_001, 1_030),
            0..=60 => 1,
            61..=150 => self.dice.between(2, 12),
            _ => self.dice.between(13, 70),
        };
        let send = SendOrder {
            tenant: self.tenant(),
            class,
            kind,
            recipients: recipients as u16,
            first: self.dice.below(40) as u16,
            key: self.dice.per_cent(40).then(|| self.dice.below(4) as u8),
            body: self.dice.below(3) as u8,
            scheduled_s: self.dice.per_cent(12).then(|| self.dice.between(1, 7_200) as u32),
            lifetime_s: *self.dice.pick(&[0, 0, 0, 0, 30, 3_600, 50_000]),
            failover: self.dice.per_cent(50).then(|| self.failover()),
        };
        self.sent.push(send);
        send
    }

    fn policy(&mut self) -> Operation {
        let objective = match self.dice.below(6) {
            0 => Objective::Price,
            1 => Objective::Speed,
            2 => Objective::Recommended,
            _ => *self.dice.pick(&[
                Objective::Ratio(5_000, 3_000),
                Objective::Ratio(7_000, 3_000),
                Objective::Ratio(3_333, 3_333),
                Objective::Ratio(1, 21),
                Objective::Ratio(10_000, 0),
            ]),
        };
        Operation::Policy {
            tenant: self.tenant(),
            channel: *self.dice.pick(&[
                PolicyChannel::Sms,
                PolicyChannel::Sms,
                PolicyChannel::Lms,
                PolicyChannel::Email,
            ]),
            objective,
            failover: self.failover(),
        }
    }

    fn operator(&mut self) -> Operation {
        match self.dice.below(12) {
            9..=10 => Operation::Unusable { relay: self.relay(), is_unusable: true },
            11 => Operation::Unusable { relay: self.relay(), is_unusable: false },
            0..=2 => Operation::Suspend(self.relay()),
            3..=5 => Operation::Resume(self.relay()),
            6..=7 => Operation::Redefine {
                relay: self.relay(),
                price_milliwon: self.dice.between(5_000, 12_000) as u32,
                rate: *self.dice.pick(&[0, 0, 5, 40, 400]),
                calls_at_once: self.dice.between(1, 4) as u8,
                batch: *self.dice.pick(&[1, 3, 20, 100]),
            },
            _ => Operation::Register {
                tenant: self.tenant(),
                relays: *self.dice.pick(&[0b111, 0b111, 0b11111, 0b011, 0b101, 0b001]),
            },
        }
    }

    fn people(&mut self) -> Operation {
        match self.dice.below(7) {
            0..=3 => Operation::OptOut {
                tenant: self.tenant(),
                recipient: self.dice.below(60) as u16,
                is_email: self.dice.per_cent(25),
            },
            4 => Operation::OptIn { tenant: self.tenant(), recipient: self.dice.below(60) as u16 },
            _ => Operation::Contacts {
                tenant: self.tenant(),
                first: self.dice.below(60) as u16,
                count: self.dice.between(1, 9) as u8,
            },
        }
    }

    fn time(&mut self) -> Operation {
        match self.dice.below(10) {
            0..=3 => Operation::Wait { ms: self.dice.between(1, 3_000) as u32 },
            4..=5 => Operation::Wait { ms: self.dice.between(3_000, 90_000) as u32 },
            6 => Operation::Wait { ms: self.dice.between(90_000, 30_000_000) as u32 },
            _ => Operation::Clock {
                is_evening: self.dice.per_cent(65),
                offset_s: self.dice.between(0, 20) as i16 - 12,
            },
        }
    }
}
