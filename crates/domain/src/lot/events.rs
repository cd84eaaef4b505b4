//! The events of a lot. All speak of sets of messages by sequence number.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use std::collections::BTreeMap;

use super::Outcome;
use crate::address::PhoneKind;
use crate::failure::FailureClass;
use crate::heap_size;
use crate::ids::{ContactId, SendingId};
use crate::policy::RelayWeight;
use crate::receipt::ReceiptStatus;
use crate::relay::{BillingMoment, Ineligible};
use crate::sending::MessageClass;
use crate::seq_set::SeqSet;
use crate::slug::{RelayId, TenantId};
use crate::split::Carry;
use crate::text::MessageType;

/// Messages of one lot that are alike in what decides their route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypeGroup {
    /// sms, lms or email: the channel of the first attempt.
    pub message_type: MessageType,
    /// Message parts each; relays count their rate and price in these.
    pub parts: u16,
    /// The kind of number; none for e-mail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reach: Option<PhoneKind>,
    /// Which messages.
    pub messages: SeqSet,
}

/// Who is to receive a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipient {
    /// The canonical number or e-mail address.
    pub to: SmolStr,
    /// The e-mail address to fail over to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<SmolStr>,
    /// The contact that it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contact: Option<ContactId>,
    /// The caller's own name for this message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<SmolStr>,
    /// Values for the text's variables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<SmolStr, String>,
}

impl Recipient {
    /// What it takes in memory, in bytes, about.
    pub(super) fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + heap_size::of_text(&self.to)
            + heap_size::of_optional(self.email.as_ref())
            + heap_size::of_optional(self.reference.as_ref())
            + heap_size::of_map(&self.variables)
    }
}

/// The personal part of a lot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LotPersonal {
    /// One per message, in the order of their sequence numbers from the lot's first.
    pub recipients: Vec<Recipient>,
}

/// The lot is in the log. It counts only once its sending is sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LotAccepted {
    /// Whose slice.
    pub sending: SendingId,
    /// Whose sending.
    pub tenant: TenantId,
    /// How urgent.
    pub class: MessageClass,
    /// Which slice, from 0.
    pub number: u32,
    /// Every message is in exactly one group.
    pub groups: Vec<TypeGroup>,
    /// Who.
    pub personal: LotPersonal,
}

/// Messages that go to one relay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteSet {
    /// To which relay.
    pub relay: RelayId,
    /// On which channel.
    pub channel: MessageType,
    /// Which attempt this is for all of them, from 1.
    pub attempt: u16,
    /// Which messages.
    pub messages: SeqSet,
    /// Who is tried next on the same channel, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fallbacks: Vec<RelayId>,
    /// The relay's price of a part when this was decided, in thousandths of a won.
    pub price_milliwon: i64,
    /// When that price is due.
    pub bills: BillingMoment,
    /// Why this relay, for people.
    pub reason: String,
}

/// A relay that was left out before the split, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// The relay.
    pub relay: RelayId,
    /// Why.
    pub reason: Ineligible,
}

/// How a split was made, and what it carries on to the next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitRecord {
    /// What the carry is kept by: policy, version, and the eligible relays with their weights.
    pub key: SmolStr,
    /// The channel.
    pub channel: MessageType,
    /// The policy version; 0 if the tenant has none and the recommendation is used.
    pub version: u32,
    /// ratio, price, speed or recommended.
    pub objective: SmolStr,
    /// The weights used.
    pub weights: Vec<RelayWeight>,
    /// How many first routes this split made.
    pub messages: u32,
    /// The carry afterwards.
    pub carry: Carry,
    /// Who was left out, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOut>,
}

/// Which messages go to which relay, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessagesRouted {
    /// Each message in at most one.
    pub routes: Vec<RouteSet>,
    /// Set for first routes; a failover is not part of the split.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub splits: Vec<SplitRecord>,
}

/// The intent: these messages are about to be handed over. In the log before the relay is called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessagesSubmitted {
    /// To which relay.
    pub relay: RelayId,
    /// Which attempt.
    pub attempt: u16,
    /// Which messages.
    pub messages: SeqSet,
    /// After this the outcome is unknown for good, unless a receipt still comes.
    #[serde(with = "chrono::serde::ts_milliseconds")]
    pub receipt_by: DateTime<Utc>,
    /// Until when the answer is due, if the relay is called in time. After this nobody calls any more, and whoever
    /// finds no answer may treat it as lost. None: the event is from before this field existed.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "chrono::serde::ts_milliseconds_option"
    )]
    pub answer_by: Option<DateTime<Utc>>,
    /// The process that calls; none: there is only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<SmolStr>,
}

/// Messages that the relay accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptedSet {
    /// Which messages.
    pub messages: SeqSet,
    /// The relay's reference of each, in the same order; empty where the relay gives none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub relay_references: Vec<SmolStr>,
    /// The relay gives no receipts: acceptance is the last information, and counts as delivered.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_final: bool,
}

/// Messages that the relay refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedSet {
    /// Which messages.
    pub messages: SeqSet,
    /// The relay's code, as it came.
    pub code: SmolStr,
    /// What it means.
    pub class: FailureClass,
    /// The relay's words, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// Whether a number is left out of an event.
fn is_zero(number: &u8) -> bool {
    *number == 0
}

/// Messages that the relay gave no answer for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnknownSet {
    /// Which messages.
    pub messages: SeqSet,
    /// What happened instead of an answer.
    pub reason: String,
    /// When to ask, or hand over again under the same reference; none: wait for the receipt or the deadline.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "chrono::serde::ts_milliseconds_option"
    )]
    pub inquire_at: Option<DateTime<Utc>>,
    /// How many pauses, growing up to an hour, will have passed since the lost call when the relay is asked.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub round: u8,
    /// The code with which the relay refused a repeated call as a duplicate: no answer to the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duplicate_code: Option<SmolStr>,
    /// The refusal of a repeated call while an earlier one may still come in. It counts once that is impossible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
    /// Set if no call is in this log, because it is a copy and the original may have made it: after this the outcome
    /// is unknown for good, unless a receipt still comes.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "chrono::serde::ts_milliseconds_option"
    )]
    pub receipt_by: Option<DateTime<Utc>>,
}

/// Messages that were open when this log was copied: the original may have handed them over since, to the relay that
/// they were routed to and to the fallbacks after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessagesDoubted {
    /// Which messages.
    pub messages: SeqSet,
}

/// What a relay refused a message with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The relay's code.
    pub code: SmolStr,
    /// What the code means.
    pub class: FailureClass,
    /// What the relay said beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// Messages that the relay certainly did not accept, and would accept later (rate limit, overload, no connection).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeferredSet {
    /// Which messages.
    pub messages: SeqSet,
    /// Why.
    pub reason: String,
    /// Not to be handed over again before.
    #[serde(with = "chrono::serde::ts_milliseconds")]
    pub until: DateTime<Utc>,
}

/// Messages that the relay refused for now, each for a reason of its own (a greylisting server, a full mailbox). They are
/// handed over to the same relay again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedForNowSet {
    /// Which messages.
    pub messages: SeqSet,
    /// The relay's code, as it came.
    pub code: SmolStr,
    /// What it means: the class of the failure, if the relay never says anything else.
    pub class: FailureClass,
    /// The relay's words, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// How often the relay has refused them for now, this time included.
    pub times: u16,
    /// When it did so for the first time.
    #[serde(with = "chrono::serde::ts_milliseconds")]
    pub since: DateTime<Utc>,
    /// Not to be handed over again before.
    #[serde(with = "chrono::serde::ts_milliseconds")]
    pub until: DateTime<Utc>,
}

/// What the relay said to a hand-over or to a status query, or that it said nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayResponded {
    /// Which relay.
    pub relay: RelayId,
    /// Which attempt.
    pub attempt: u16,
    /// How long the call took, in milliseconds; none: the process that called did not live to see the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_ms: Option<u32>,
    /// Accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<AcceptedSet>,
    /// Refused, a set a code.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<RefusedSet>,
    /// No answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<UnknownSet>,
    /// Later: the relay takes nothing at the moment, or the call did not get as far as these messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deferred: Option<DeferredSet>,
    /// Refused for now, one by one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused_for_now: Vec<RefusedForNowSet>,
}

impl RelayResponded {
    /// A response that says nothing yet.
    pub(super) fn nothing(relay: RelayId, attempt: u16) -> Self {
        Self {
            relay,
            attempt,
            call_ms: None,
            accepted: None,
            refused: Vec::new(),
            unknown: None,
            deferred: None,
            refused_for_now: Vec::new(),
        }
    }
}

/// Delivery reports that say the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptSet {
    /// Of which attempt.
    pub attempt: u16,
    /// What they say.
    pub status: ReceiptStatus,
    /// The relay's code, as it came.
    pub code: SmolStr,
    /// What it means, for a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<FailureClass>,
    /// Whether the relay charges for it although it failed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub billable_failure: bool,
    /// Which messages.
    pub messages: SeqSet,
    /// When, by the relay's clock, in milliseconds since 1970, one per message in the same order.
    pub at_ms: Vec<i64>,
}

/// Delivery reports, whatever their order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptsRecorded {
    /// From which relay.
    pub relay: RelayId,
    /// What they say.
    pub sets: Vec<ReceiptSet>,
}

/// Not now: the night window is closed for these messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessagesHeld {
    /// Which messages.
    pub messages: SeqSet,
    /// Why.
    pub reason: String,
    /// Until when, in milliseconds since 1970, one per message in the same order: they are spread out.
    pub until_ms: Vec<i64>,
}

/// Messages that are final other than by a delivery receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessagesFinished {
    /// Which messages.
    pub messages: SeqSet,
    /// How it ended.
    pub outcome: Outcome,
    /// Why: the relay's code or one of Kite's own words (`lifetime`, `opt_out`, `cancelled`, …).
    pub reason: SmolStr,
    /// The class of the failure that ended it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<FailureClass>,
}
