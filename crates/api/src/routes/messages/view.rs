//! A message as it is shown, with its timeline.

use chrono::{DateTime, Utc};
use kite_domain::ids::{AttemptReference, ContactId, MessageId};
use kite_domain::lot::Said;
use kite_projections::{KnownAttempt, KnownMessage};
use serde::Serialize;
use smol_str::SmolStr;
use utoipa::ToSchema;

use super::code_text::{CodeTextView, CodeTexts};
use crate::export::{Column, Listed, optional, time};
use crate::vocabulary::{
    AttemptStateWord, BillingWord, ChannelWord, ClassWord, FailureWord, MessageStatusWord, OutcomeWord,
};

/// The current state of a message, with all its attempts.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Message)]
pub struct MessageView {
    /// Its id: the sending's, a hyphen, a number.
    #[schema(value_type = String, example = "0197c0de000070008000000000000004-17")]
    pub id: MessageId,
    /// How urgent.
    pub class: ClassWord,
    /// The number or address in canonical form.
    #[schema(value_type = String, example = "01012345678")]
    pub to: SmolStr,
    /// The e-mail address to fail over to.
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<SmolStr>,
    /// The contact that it came from.
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contact: Option<ContactId>,
    /// Your own name for it.
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<SmolStr>,
    /// The number or address that it is sent from, on the channel of its newest attempt.
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<SmolStr>,
    /// Its subject, with the recipient's values; not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Its text, with the recipient's values and the marking of an advertisement; not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The type that its text needed.
    #[serde(rename = "type")]
    pub message_type: ChannelWord,
    /// The channel of its newest attempt; without one, that of its type.
    pub channel: ChannelWord,
    /// Message parts.
    pub parts: u16,
    /// Where it stands.
    pub status: MessageStatusWord,
    /// How it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<OutcomeWord>,
    /// Why it ended, or the newest failure: a relay's code or one of Kite's own words.
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<SmolStr>,
    /// What that means.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason_text: Option<CodeTextView>,
    /// The class of that failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_class: Option<FailureWord>,
    /// The relay of the newest attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relay: Option<String>,
    /// When it was accepted.
    pub accepted_at: DateTime<Utc>,
    /// When it was first handed over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_submitted_at: Option<DateTime<Utc>>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub final_at: Option<DateTime<Utc>>,
    /// It waits for its window to open; its status is `held`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_until: Option<DateTime<Utc>>,
    /// What it has cost so far, in thousandths of a won.
    pub cost_milliwon: i64,
    /// Two relays say that they delivered it.
    pub delivered_twice: bool,
    /// Every attempt, the oldest first.
    pub attempts: Vec<AttemptView>,
}

/// One hand-over to one relay.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Attempt)]
pub struct AttemptView {
    /// Which, from 1.
    pub attempt: u16,
    /// What the relay knows it by.
    #[schema(value_type = String, example = "0197c0de000070008000000000000004-17-1")]
    pub reference: AttemptReference,
    /// The relay.
    #[schema(example = "alpha")]
    pub relay: String,
    /// The channel.
    pub channel: ChannelWord,
    /// Where it stands.
    pub state: AttemptStateWord,
    /// Why this relay.
    pub reason: String,
    /// The price of a part when it was routed, in thousandths of a won.
    pub price_milliwon: i64,
    /// When that is due.
    pub bills: BillingWord,
    /// What it cost, in thousandths of a won.
    pub cost_milliwon: i64,
    /// When the relay was chosen.
    pub routed_at: DateTime<Utc>,
    /// When it was handed over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub submitted_at: Option<DateTime<Utc>>,
    /// When the relay answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub responded_at: Option<DateTime<Utc>>,
    /// When it ended, by the relay's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receipt_at: Option<DateTime<Utc>>,
    /// When the receipt came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receipt_received_at: Option<DateTime<Utc>>,
    /// How long the call took, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call_ms: Option<u32>,
    /// What the relay calls it.
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relay_reference: Option<SmolStr>,
    /// The relay's code.
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<SmolStr>,
    /// What the code means, by the relay's dictionary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code_text: Option<CodeTextView>,
    /// The class of the failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_class: Option<FailureWord>,
    /// The relay's words, or why it is unknown or postponed.
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<SmolStr>,
    /// When the relay's answer was lost; it stays here even if a receipt comes later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown_since: Option<DateTime<Utc>>,
    /// Why there was no answer.
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown_reason: Option<SmolStr>,
}

impl MessageView {
    /// The message in the words of the API.
    pub(crate) fn of(message: KnownMessage, texts: &CodeTexts) -> Self {
        let reason_text = message.reason.as_deref().and_then(|reason| {
            // A relay's code is that of the attempt it ended, which need not be the newest.
            let named = message.attempts.iter().rev().find(|one| one.code.as_deref() == Some(reason));
            texts.of(named.map(|one| &one.relay), reason)
        });
        Self {
            id: message.id,
            class: message.class.into(),
            to: message.to,
            email: message.email,
            contact: message.contact,
            reference: message.reference,
            from: message.sender,
            subject: None,
            text: None,
            message_type: message.message_type.into(),
            channel: message.channel.into(),
            parts: message.parts,
            status: message.status.into(),
            outcome: message.outcome.map(Into::into),
            reason: message.reason,
            reason_text,
            failure_class: message.failure_class.map(Into::into),
            relay: message.relay.map(|relay| relay.to_string()),
            accepted_at: message.accepted_at,
            first_submitted_at: message.first_submitted_at,
            final_at: message.final_at,
            held_until: message.held_until,
            cost_milliwon: message.cost_milliwon,
            delivered_twice: message.delivered_twice,
            attempts: message.attempts.into_iter().map(|attempt| AttemptView::of(attempt, texts)).collect(),
        }
    }
}

impl MessageView {
    /// The same with what it says.
    pub(super) fn saying(self, said: Option<Said>) -> Self {
        match said {
            Some(said) => Self { from: said.from, subject: said.subject, text: Some(said.text), ..self },
            None => self,
        }
    }
}

impl Listed for MessageView {
    const FILE: &'static str = "messages";

    fn columns() -> Vec<Column<Self>> {
        vec![
            Column::new("id", |message: &Self| message.id.to_string()),
            Column::new("sending", |message: &Self| message.id.sending.to_string()),
            Column::new("class", |message: &Self| message.class.to_string()),
            Column::new("to", |message: &Self| message.to.to_string()),
            Column::new("email", |message: &Self| optional(message.email.as_ref())),
            Column::new("contact", |message: &Self| optional(message.contact.as_ref())),
            Column::new("reference", |message: &Self| optional(message.reference.as_ref())),
            Column::new("from", |message: &Self| optional(message.from.as_ref())),
            Column::new("type", |message: &Self| message.message_type.to_string()),
            Column::new("channel", |message: &Self| message.channel.to_string()),
            Column::new("parts", |message: &Self| message.parts.to_string()),
            Column::new("status", |message: &Self| message.status.to_string()),
            Column::new("reason", |message: &Self| optional(message.reason.as_ref())),
            Column::new("reason_ko", |message: &Self| {
                optional(message.reason_text.as_ref().map(|text| text.ko.as_ref()))
            }),
            Column::new("reason_en", |message: &Self| {
                optional(message.reason_text.as_ref().map(|text| text.en.as_ref()))
            }),
            Column::new("failure_class", |message: &Self| optional(message.failure_class)),
            Column::new("relay", |message: &Self| optional(message.relay.as_ref())),
            Column::new("attempts", |message: &Self| message.attempts.len().to_string()),
            Column::new("accepted_at", |message: &Self| time(message.accepted_at)),
            Column::new("first_submitted_at", |message: &Self| time(message.first_submitted_at)),
            Column::new("final_at", |message: &Self| time(message.final_at)),
            Column::new("held_until", |message: &Self| time(message.held_until)),
            Column::new("cost_milliwon", |message: &Self| message.cost_milliwon.to_string()),
            Column::new("delivered_twice", |message: &Self| message.delivered_twice.to_string()),
        ]
    }
}

impl AttemptView {
    fn of(attempt: KnownAttempt, texts: &CodeTexts) -> Self {
        let code_text = attempt.code.as_deref().and_then(|code| texts.of(Some(&attempt.relay), code));
        Self {
            attempt: attempt.attempt,
            reference: attempt.reference,
            relay: attempt.relay.to_string(),
            channel: attempt.channel.into(),
            state: attempt.state.into(),
            reason: attempt.reason.to_string(),
            price_milliwon: attempt.price_milliwon,
            bills: attempt.bills.into(),
            cost_milliwon: attempt.cost_milliwon,
            routed_at: attempt.routed_at,
            submitted_at: attempt.submitted_at,
            responded_at: attempt.responded_at,
            receipt_at: attempt.receipt_at,
            receipt_received_at: attempt.receipt_received_at,
            call_ms: attempt.call_ms,
            relay_reference: attempt.relay_reference,
            code: attempt.code,
            code_text,
            failure_class: attempt.failure_class.map(Into::into),
            detail: attempt.detail,
            unknown_since: attempt.unknown_since,
            unknown_reason: attempt.unknown_reason,
        }
    }
}
