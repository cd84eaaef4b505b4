//! What the read model knows, as its queries answer.

use chrono::{DateTime, Utc};
use kite_domain::failure::FailureClass;
use kite_domain::ids::{AttemptReference, ContactId, MessageId, SendingId};
use kite_domain::lot::{AttemptState, Outcome};
use kite_domain::relay::BillingMoment;
use kite_domain::sending::{MessageClass, PauseBy};
use kite_domain::slug::RelayId;
use kite_domain::slug::TenantId;
use kite_domain::text::{Channel, MessageType};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use smol_str::SmolStr;

use super::codes::MessageStatus;
use super::counters::Counts;

/// Where a sending stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[derive(strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum SendingState {
    /// Accepted for later, and not yet released.
    Scheduled,
    /// Being routed, handed over, or waited for.
    InProgress,
    /// Nothing of it is handed over until it is resumed; otherwise it is scheduled or in progress.
    Paused,
    /// What was not handed over before it never will be.
    Cancelled,
    /// Every message is final.
    Completed,
}

impl SendingState {
    /// The word for it, as on the wire.
    pub fn word(self) -> &'static str {
        self.into()
    }
}

/// Why nothing of a sending goes out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KnownPause {
    /// Since when.
    pub since: DateTime<Utc>,
    /// By whom.
    pub by: PauseBy,
    /// Why, in their words.
    pub reason: Option<String>,
}

/// A sending with its sums.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownSending {
    /// Which one.
    pub id: SendingId,
    /// Whose.
    pub tenant: TenantId,
    /// How urgent.
    pub class: MessageClass,
    /// Where it stands.
    pub state: SendingState,
    /// The sending number.
    pub from_phone: Option<SmolStr>,
    /// The sending address.
    pub from_email: Option<SmolStr>,
    /// With `#{variables}` still in it.
    pub subject: Option<String>,
    /// With `#{variables}` still in it.
    pub text: String,
    /// The caller's own name for it.
    pub client_reference: Option<String>,
    /// The caller's own data.
    pub custom: Option<Value>,
    /// When it was sealed.
    pub accepted_at: DateTime<Utc>,
    /// Not to be routed before.
    pub scheduled_at: Option<DateTime<Utc>>,
    /// When its scheduled time had come.
    pub released_at: Option<DateTime<Utc>>,
    /// Why nothing of it goes out.
    pub paused: Option<KnownPause>,
    /// When it was cancelled.
    pub cancelled_at: Option<DateTime<Utc>>,
    /// When the last message was known to be final.
    pub completed_at: Option<DateTime<Utc>>,
    /// Not to be handed over after.
    pub expires_at: DateTime<Utc>,
    /// How many recipients were refused and are not messages.
    pub refused_recipients: u32,
    /// Everything that is counted of it.
    pub counts: Counts,
}

/// A message with its timeline.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KnownMessage {
    /// Which one.
    pub id: MessageId,
    /// How urgent.
    pub class: MessageClass,
    /// The canonical number or address.
    pub to: SmolStr,
    /// The e-mail address to fail over to.
    pub email: Option<SmolStr>,
    /// The contact that it came from.
    pub contact: Option<ContactId>,
    /// The caller's own name for it.
    pub reference: Option<SmolStr>,
    /// sms, lms or email.
    pub message_type: MessageType,
    /// The channel of the newest attempt; without one, that of its type.
    pub channel: Channel,
    /// The number or address that it is sent from on that channel.
    pub sender: Option<SmolStr>,
    /// Message parts.
    pub parts: u16,
    /// Where it stands.
    pub status: MessageStatus,
    /// How it ended, if it has.
    pub outcome: Option<Outcome>,
    /// What ended it, or else the newest failure: the relay's code or one of Kite's own words.
    pub reason: Option<SmolStr>,
    /// The class of that failure.
    pub failure_class: Option<FailureClass>,
    /// The relay of the newest attempt.
    pub relay: Option<RelayId>,
    /// When its lot was accepted.
    pub accepted_at: DateTime<Utc>,
    /// The first hand-over.
    pub first_submitted_at: Option<DateTime<Utc>>,
    /// When its end was recorded.
    pub final_at: Option<DateTime<Utc>>,
    /// Held until then by the night window; none once it is handed over or final.
    pub held_until: Option<DateTime<Utc>>,
    /// What the relays charge so far, in thousandths of a won.
    pub cost_milliwon: i64,
    /// More than one relay says that it delivered it.
    pub delivered_twice: bool,
    /// Oldest first.
    pub attempts: Vec<KnownAttempt>,
}

/// One hand-over of a message to one relay.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KnownAttempt {
    /// From 1.
    pub attempt: u16,
    /// What the relay knows it by.
    pub reference: AttemptReference,
    /// To whom.
    pub relay: RelayId,
    /// On which channel.
    pub channel: Channel,
    /// Where it stands.
    pub state: AttemptState,
    /// The relay has it, or had it.
    pub is_taken: bool,
    /// Why this relay.
    pub reason: String,
    /// The price of a part when it was routed, in thousandths of a won.
    pub price_milliwon: i64,
    /// When that price is due.
    pub bills: BillingMoment,
    /// What the relay charges for it, in thousandths of a won.
    pub cost_milliwon: i64,
    /// When the route was made.
    pub routed_at: DateTime<Utc>,
    /// When it was handed over first.
    pub submitted_at: Option<DateTime<Utc>>,
    /// When the relay's answer was recorded.
    pub responded_at: Option<DateTime<Utc>>,
    /// The time in the receipt, by the relay's clock.
    pub receipt_at: Option<DateTime<Utc>>,
    /// When the receipt was recorded.
    pub receipt_received_at: Option<DateTime<Utc>>,
    /// How long the call took.
    pub call_ms: Option<u32>,
    /// The relay's own reference.
    pub relay_reference: Option<SmolStr>,
    /// The relay's code.
    pub code: Option<SmolStr>,
    /// What it means.
    pub failure_class: Option<FailureClass>,
    /// The relay's words, or why there is no answer, or why it was put off.
    pub detail: Option<SmolStr>,
    /// When its answer was lost for the first time, whatever became known later.
    pub unknown_since: Option<DateTime<Utc>>,
    /// Why there was no answer then.
    pub unknown_reason: Option<SmolStr>,
}

/// Sums over all tenants and times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Sealed sendings.
    pub sendings: u64,
    /// Everything that is counted.
    pub counts: Counts,
}

impl Totals {
    /// Messages that have ended.
    pub fn ended(&self) -> u64 {
        u64::try_from(self.counts.messages - self.counts.open).unwrap_or(0)
    }
}

/// The counters of a class on a channel at a relay, over all tenants and times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayTotals {
    /// None: messages that have none.
    pub relay: Option<RelayId>,
    /// The channel.
    pub channel: Channel,
    /// The class.
    pub class: MessageClass,
    /// Everything that is counted.
    pub counts: Counts,
}
