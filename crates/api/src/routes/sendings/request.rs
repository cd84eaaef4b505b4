//! The body of a sending, and how it becomes a request to the write side.
//!
//! Read in one pass straight into what is needed: a number fits into its `SmolStr` without an allocation, and a row
//! without variables has no map. A row is good or refused from here on, but for one that names a contact: that is known
//! when the contact is.

use chrono::{DateTime, Utc};
use kite_commands::accept::{
    AcceptLimits, AdInput, RecipientInput, RecipientRow, RefusedRow, RowField, RowRefusal, SendRequest,
};
use kite_domain::ids::{ContactId, GroupId, TemplateId};
use kite_domain::text::VARIABLES_MAX;
use serde::Deserialize;
use serde_json::Value;
use smol_str::SmolStr;
use std::collections::BTreeMap;
use utoipa::ToSchema;

use super::row_values::{RowText, RowVariables};
use crate::routes::policies::FailoverBody;
use crate::vocabulary::{ClassWord, MaxTypeWord, RequestedTypeWord, WindowWord};

/// A request to send.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "class": "notice", "from": "0212345678", "text": "#{name}님, 상품이 발송되었습니다.",
    "recipients": [{"to": "010-1234-5678", "variables": {"name": "홍길동"}}]
}))]
pub struct SendingBody {
    /// How urgent, and which rules bind it.
    pub class: ClassWord,
    /// The type of message; `auto`: whatever each recipient's address and text need.
    #[serde(default = "automatic", rename = "type")]
    #[schema(default = "auto")]
    pub message_type: RequestedTypeWord,
    /// The most expensive type that a text may be promoted to; a longer text is refused, never cut.
    #[serde(default)]
    pub max_type: Option<MaxTypeWord>,
    /// The sending number, for sms and lms; a registered sender identity.
    #[serde(default)]
    #[schema(example = "0212345678")]
    pub from: Option<String>,
    /// The sending address, for e-mail; a registered sender identity.
    #[serde(default)]
    pub from_email: Option<String>,
    /// For lms and e-mail.
    #[serde(default)]
    pub subject: Option<String>,
    /// The text, with `#{variables}`: at most 100, in at most 200 places; not beside `template`.
    #[serde(default)]
    pub text: Option<String>,
    /// The id of a stored template; not beside `text`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub template: Option<TemplateId>,
    /// Values for variables that a recipient does not bring, at most 100. Values that neither text nor subject uses
    /// are not kept.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, String>)]
    pub variables: BTreeMap<SmolStr, String>,
    /// To whom.
    #[serde(default)]
    pub recipients: Vec<RecipientBody>,
    /// Groups whose contacts are recipients too.
    #[serde(default)]
    #[schema(value_type = Vec<String>, max_items = 100)]
    pub groups: Vec<GroupId>,
    /// Not before this time; none: at once.
    #[serde(default)]
    pub scheduled_at: Option<DateTime<Utc>>,
    /// How long it is useful to hand the messages over, in seconds.
    #[serde(default)]
    pub lifetime_seconds: Option<u32>,
    /// What happens on failure; none: as the policy says.
    #[serde(default)]
    pub failover: Option<FailoverBody>,
    /// What an advertisement needs.
    #[serde(default)]
    pub ad: Option<AdBody>,
    /// Refuse everything if one row is bad; otherwise the good rows are accepted and the bad ones reported.
    #[serde(default)]
    pub strict: bool,
    /// Keep rows whose address came before, in whatever spelling; otherwise they are dropped and reported.
    #[serde(default)]
    pub allow_duplicates: bool,
    /// Your own name for the sending.
    #[serde(default)]
    #[schema(max_length = 200)]
    pub client_reference: Option<String>,
    /// Your own data, given back as it came; as JSON at most 4,096 bytes.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub custom: Option<Value>,
}

fn automatic() -> RequestedTypeWord {
    RequestedTypeWord::Auto
}

/// One recipient: an address, or a contact.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RecipientBody {
    /// A phone number or an e-mail address, as people write it; not beside `contact`.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "010-1234-5678")]
    pub to: Option<RowText>,
    /// The e-mail address to fail over to.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub email: Option<RowText>,
    /// The id of a contact, which brings its address and its fields as variables.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub contact: Option<RowText>,
    /// Your own name for this message.
    #[serde(default)]
    #[schema(value_type = Option<String>, max_length = 200)]
    pub reference: Option<RowText>,
    /// Values for the text's variables, at most 100.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, String>)]
    pub variables: RowVariables,
}

/// What an advertisement needs.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AdBody {
    /// What to do during the hours in which advertisements are forbidden.
    #[serde(default = "hold")]
    #[schema(default = "hold")]
    pub window: WindowWord,
    /// The recipients have also agreed to advertisements at night.
    #[serde(default)]
    pub night_consent: bool,
    /// Add the marking that the law requires, if it is missing.
    #[serde(default)]
    pub mark_automatically: bool,
}

fn hold() -> WindowWord {
    WindowWord::Hold
}

impl SendingBody {
    /// The request, to these recipients.
    pub(super) fn into_request(self, recipients: Vec<RecipientRow>) -> SendRequest {
        SendRequest {
            class: self.class.into(),
            message_type: self.message_type.into(),
            max_type: self.max_type.map(Into::into),
            from_phone: self.from,
            from_email: self.from_email,
            subject: self.subject,
            text: self.text,
            template: self.template,
            variables: self.variables,
            recipients,
            scheduled_at: self.scheduled_at,
            lifetime_s: self.lifetime_seconds,
            failover: self.failover.map(Into::into),
            ad: self.ad.map(|ad| AdInput {
                window: ad.window.into(),
                night_consent: ad.night_consent,
                mark_automatically: ad.mark_automatically,
            }),
            strict: self.strict,
            allow_duplicates: self.allow_duplicates,
            client_reference: self.client_reference,
            custom: self.custom,
        }
    }

    /// The request as it is for a tenant whose address book is empty, without the groups.
    pub(crate) fn without_book(mut self, limits: &AcceptLimits) -> SendRequest {
        let recipients = std::mem::take(&mut self.recipients);
        let requested = self.message_type.into();
        let rows = (0..).zip(recipients).map(|(row, recipient)| match recipient.read(row, limits) {
            BodyRow::Told(row) => row,
            BodyRow::OfContact(row) => row.fill(None, requested, limits),
        });
        let rows = rows.collect();
        self.into_request(rows)
    }
}

/// A row that names a contact, and what it brings itself.
pub(super) struct ContactRow {
    pub(super) row: u32,
    pub(super) contact: ContactId,
    pub(super) email: Option<SmolStr>,
    pub(super) reference: Option<SmolStr>,
    pub(super) variables: BTreeMap<SmolStr, String>,
}

/// A row of the body, as far as it can be told without the address book.
pub(super) enum BodyRow {
    /// It needs none.
    Told(RecipientRow),
    /// It names a contact.
    OfContact(ContactRow),
}

impl RecipientBody {
    /// Reads the row. The first of its values that cannot be used refuses it, whatever is missing because of it.
    pub(super) fn read(self, row: u32, limits: &AcceptLimits) -> BodyRow {
        let mut wrong = None;
        let mut note = |reason: RowRefusal| {
            wrong.get_or_insert(reason);
        };
        let mut text = |field: RowField, value: Option<RowText>| match value? {
            RowText::Text(text) => Some(text),
            RowText::Other(found) => {
                note(RowRefusal::NotAText { field, found });
                None
            }
            RowText::Zero => {
                note(RowRefusal::Zero { field });
                None
            }
        };
        let to = text(RowField::To, self.to).unwrap_or_default();
        let email = text(RowField::Email, self.email);
        let reference = text(RowField::Reference, self.reference);
        let contact = text(RowField::Contact, self.contact);
        let contact =
            contact.and_then(|id| id.parse::<ContactId>().map_err(|_| note(RowRefusal::NotAContactId)).ok());
        let RowVariables { values: variables, wrong: wrong_variables } = self.variables;
        wrong_variables.into_iter().for_each(&mut note);
        // Fields of a contact come on top of it.
        let count = variables.len();
        if count > VARIABLES_MAX {
            note(RowRefusal::TooManyVariables { count });
        }
        let reason = match (wrong, to.is_empty(), contact) {
            (Some(reason), _, _) => reason,
            (None, true, None) if email.is_some() => RowRefusal::OnlyFailoverEmail,
            (None, true, None) => RowRefusal::RecipientMissing,
            (None, false, Some(_)) => RowRefusal::ToAndContact,
            (None, true, Some(contact)) => {
                return BodyRow::OfContact(ContactRow { row, contact, email, reference, variables });
            }
            (None, false, None) => {
                let input = RecipientInput { row, to, email, contact: None, reference, variables };
                return BodyRow::Told(input.read(limits));
            }
        };
        BodyRow::Told(RefusedRow { row, reason, to }.into())
    }
}
