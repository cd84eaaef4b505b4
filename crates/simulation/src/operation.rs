//! What happens in a simulation: operations of users and operators, the passing of time, and faults. A case is data, so
//! that it can be printed, cut down and kept.

use kite_domain::policy::FailoverTerms;
use serde::{Deserialize, Serialize};

use crate::faults::{AppendFault, LeaseFault, QueueFault};
use crate::relays::{CallFault, Mode, Question, QuestionFault, ReceiptFault};
use crate::unwritable::Rows;
use crate::upgrade::Newer;

/// A relay by its place in the order of alpha, beta, gamma, mail, post.
pub type RelayIndex = u8;

/// Which failover terms a sending brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Failover {
    /// May be delivered twice rather than not at all.
    #[serde(default, skip_serializing_if = "is_default")]
    pub at_least_once: bool,
    /// E-mail after the relays.
    #[serde(default, skip_serializing_if = "is_default")]
    pub email: bool,
    /// E-mail after a temporary failure too.
    #[serde(default, skip_serializing_if = "is_default")]
    pub after_temporary: bool,
    /// How long to wait for a receipt, in seconds; 0: as long as the relay says.
    #[serde(default, skip_serializing_if = "is_default")]
    pub wait_s: u32,
    /// How long a relay is tried again that refuses a message for now, in seconds; 0: as long as the message lives.
    #[serde(default, skip_serializing_if = "is_default")]
    pub retry_s: u32,
}

impl Failover {
    /// As Kite is told, and as it has to be kept.
    pub(crate) fn terms(self) -> FailoverTerms {
        FailoverTerms {
            relays: true,
            email: self.email,
            email_after_temporary: self.after_temporary,
            at_least_once: self.at_least_once,
            wait_s: (self.wait_s > 0).then_some(self.wait_s),
            retry_s: (self.retry_s > 0).then_some(self.retry_s),
            attempts_max: 4,
        }
    }
}

/// How urgent a sending is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub enum Class {
    /// A one-time password.
    Otp,
    /// A notice.
    #[default]
    Notice,
    /// An advertisement that waits for the morning.
    Ad,
    /// An advertisement that is not sent at night.
    AdOrNothing,
    /// An advertisement to people who agreed to have them at night.
    NightAd,
}

/// What kind of message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub enum Kind {
    /// A short text.
    #[default]
    Sms,
    /// A long text.
    Lms,
    /// An e-mail.
    Email,
    /// Every third recipient by e-mail, the others by text message.
    Mixed,
}

/// A request to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct SendOrder {
    /// Who sends.
    pub tenant: u8,
    /// How urgent.
    #[serde(default, skip_serializing_if = "is_default")]
    pub class: Class,
    /// What kind.
    #[serde(default, skip_serializing_if = "is_default")]
    pub kind: Kind,
    /// How many recipients.
    pub recipients: u16,
    /// The first of them.
    #[serde(default, skip_serializing_if = "is_default")]
    pub first: u16,
    /// The idempotency key, if any.
    #[serde(default, skip_serializing_if = "is_default")]
    pub key: Option<u8>,
    /// Which text: another body under the same key is refused.
    #[serde(default, skip_serializing_if = "is_default")]
    pub body: u8,
    /// Not before, in seconds from now.
    #[serde(default, skip_serializing_if = "is_default")]
    pub scheduled_s: Option<u32>,
    /// The lifetime in seconds; 0: as usual.
    #[serde(default, skip_serializing_if = "is_default")]
    pub lifetime_s: u32,
    /// On failure; none: by the policy.
    #[serde(default, skip_serializing_if = "is_default")]
    pub failover: Option<Failover>,
}

pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What a policy aims at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Objective {
    /// So many hundredths of a per cent for the first and the second relay of the channel; the third gets the rest.
    Ratio(u16, u16),
    /// The least cost.
    Price,
    /// The shortest time.
    Speed,
    /// All together.
    Recommended,
}

/// A channel with a policy of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PolicyChannel {
    /// Short texts.
    Sms,
    /// Long texts.
    Lms,
    /// E-mail.
    Email,
}

/// A receipt that fits nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Foreign {
    /// No reference of ours.
    Nonsense,
    /// A reference of a sending that never was.
    UnknownSending,
    /// A reference of a message that another relay has.
    OfAnother,
    /// The next attempt at a message that another relay has: it may come, or never.
    LaterAttempt,
}

/// What is said about a sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SenderStep {
    /// The tenant asks for it.
    Ask,
    /// The operator approves it for so many seconds.
    Approve {
        /// How long.
        seconds: u32,
        /// Although another tenant may have it.
        shared: bool,
    },
    /// The operator refuses it.
    Refuse,
    /// The tenant withdraws it.
    Withdraw,
}

/// Something that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation {
    /// A tenant sends.
    Send(SendOrder),
    /// A tenant cancels one of the last sendings.
    Cancel {
        /// Which, counted back from the last.
        back: u8,
    },
    /// One of the last sendings is paused.
    Pause {
        /// Which, counted back from the last.
        back: u8,
        /// By an operator, not by its tenant.
        by_operator: bool,
    },
    /// One of the last sendings is resumed.
    LetGoOn {
        /// Which, counted back from the last.
        back: u8,
        /// By an operator, not by its tenant.
        by_operator: bool,
    },
    /// An operator sets what a tenant may have and do at once; 0: as usual.
    Limits {
        /// Whose.
        tenant: u8,
        /// Messages that are due.
        open: u16,
        /// Messages for later.
        scheduled: u16,
        /// Requests a second.
        requests: u8,
    },
    /// A tenant defines a policy.
    Policy {
        /// Whose.
        tenant: u8,
        /// For what.
        channel: PolicyChannel,
        /// What it aims at.
        objective: Objective,
        /// What happens on failure.
        failover: Failover,
    },
    /// An operator takes a relay out of use.
    Suspend(RelayIndex),
    /// An operator puts it back.
    Resume(RelayIndex),
    /// An operator changes the terms of a relay.
    Redefine {
        /// Which.
        relay: RelayIndex,
        /// The new price.
        price_milliwon: u32,
        /// Message parts a second; 0: unlimited.
        rate: u16,
        /// Calls at once.
        #[serde(alias = "hands")]
        calls_at_once: u8,
        /// Messages in one call.
        batch: u8,
    },
    /// A relay is defined so that nobody can call it, as was possible once, or again so that one can.
    Unusable {
        /// Which.
        relay: RelayIndex,
        /// Whether nobody can.
        is_unusable: bool,
    },
    /// A tenant's phone number is asked for, and approved for long with these relays (bits) and no others.
    Register {
        /// Whose.
        tenant: u8,
        /// One bit a relay.
        relays: u8,
    },
    /// Something is said about a sender of a tenant.
    Sender {
        /// Whose.
        tenant: u8,
        /// The e-mail address, not the number.
        is_email: bool,
        /// What.
        step: SenderStep,
    },
    /// Somebody refuses advertisements.
    OptOut {
        /// Whose.
        tenant: u8,
        /// Who.
        recipient: u16,
        /// The e-mail address, not the number.
        is_email: bool,
    },
    /// Somebody agrees to them again.
    OptIn {
        /// Whose.
        tenant: u8,
        /// Who.
        recipient: u16,
    },
    /// Contacts are saved, and one is deleted.
    Contacts {
        /// Whose.
        tenant: u8,
        /// The first.
        first: u16,
        /// How many.
        count: u8,
    },
    /// Time passes.
    Wait {
        /// How long, in milliseconds.
        ms: u32,
    },
    /// Time passes until shortly before (or after) the night begins or ends.
    Clock {
        /// The evening, 21:00; otherwise the morning, 08:00.
        is_evening: bool,
        /// Seconds from there.
        offset_s: i16,
    },
    /// The process dies, and is started again after a while.
    Outage {
        /// How long after.
        ms: u32,
    },
    /// The process dies where it stands, and is started again. Where there are several: one of them.
    Crash,
    /// One of several processes dies, and is started again after a while; the others continue.
    Down {
        /// Which.
        node: u8,
        /// How long after.
        ms: u32,
    },
    /// One of several processes is asked to stop, does, and is started again after a while.
    Stop {
        /// Which.
        node: u8,
        /// How long after.
        ms: u32,
    },
    /// One of several processes stands still for a while, and does not know it.
    StandStill {
        /// Which.
        node: u8,
        /// How long.
        ms: u32,
    },
    /// One of several processes cannot reach the log, nor the leases, for a while.
    CutOff {
        /// Which.
        node: u8,
        /// How long.
        ms: u32,
    },
    /// All processes but one are of a newer program from now on, and write what that one does not understand. After a while it is
    /// upgraded, too.
    Behind {
        /// Which.
        node: u8,
        /// What the newer ones write in another version.
        newer: Newer,
        /// How long.
        ms: u32,
    },
    /// The clock of one of several processes is off from now on.
    ClockOff {
        /// Which.
        node: u8,
        /// By so many milliseconds.
        ms: i32,
    },
    /// Faults stop for a while; whatever can be handed over has to be.
    Calm,
    /// The read models are made again and compared.
    Compare,
    /// An append will fail.
    AppendFault {
        /// How many go well before.
        skip: u8,
        /// How.
        fault: AppendFault,
    },
    /// A call of the work queue of several processes will fail.
    QueueFault {
        /// How many of its kind go well before.
        skip: u8,
        /// How.
        fault: QueueFault,
    },
    /// A renewal of a lease of several processes will fail.
    LeaseFault {
        /// How many go well before.
        skip: u8,
        /// How.
        fault: LeaseFault,
    },
    /// From now on some rows of a read model cannot be written, until the case is over or models are compared.
    Unwritable {
        /// Which.
        rows: Rows,
        /// Of which sendings: a remainder of four.
        remainder: u8,
    },
    /// A read of the log will fail.
    ReadFault {
        /// How many go well before.
        skip: u8,
    },
    /// A call of a relay will fail.
    CallFault {
        /// Which relay.
        relay: RelayIndex,
        /// How many go well before.
        skip: u8,
        /// How.
        fault: CallFault,
        /// How many in a row.
        #[serde(default = "once", skip_serializing_if = "is_once")]
        times: u8,
        /// What happens, each time, to the next question about what became of messages.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        then: Option<QuestionFault>,
    },
    /// A question to a relay will fail.
    QuestionFault {
        /// Which relay.
        relay: RelayIndex,
        /// What it is asked.
        question: Question,
        /// How many go well before.
        skip: u8,
        /// How.
        fault: QuestionFault,
        /// How many in a row.
        times: u8,
    },
    /// A relay does well, or badly, from now on.
    Mode {
        /// Which.
        relay: RelayIndex,
        /// How.
        mode: Mode,
    },
    /// The next receipts of a relay are not as usual.
    Receipts {
        /// Which relay.
        relay: RelayIndex,
        /// How.
        fault: ReceiptFault,
        /// How many.
        count: u8,
    },
    /// A receipt that fits nothing.
    Foreign {
        /// From which relay.
        relay: RelayIndex,
        /// Of which kind.
        kind: Foreign,
    },
}

pub(crate) fn once() -> u8 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
pub(crate) fn is_once(times: &u8) -> bool {
    *times == once()
}
