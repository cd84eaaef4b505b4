//! The body of a sending, and how it becomes a request to the write side.
//!
//! Read in one pass straight into what is needed: a number fits into its `SmolStr` without an allocation, and a row
//! without variables has no map.

use chrono::{DateTime, Utc};
use kite_commands::accept::{AdInput, RecipientInput, SendRequest};
use kite_domain::ids::{ContactId, GroupId, TemplateId};
use kite_domain::text::VARIABLES_MAX;
use serde::Deserialize;
use serde_json::Value;
use smol_str::SmolStr;
use std::collections::{BTreeMap, HashMap};
use utoipa::ToSchema;

use super::row_values::{RowText, RowVariables, WRONG_TYPE};
use crate::extract::{ZERO_CODE, ZERO_DETAIL};
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
    /// The dearest type that a text may be promoted to; a longer text is refused, never cut.
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
    /// What is to be said, with `#{variables}`: at most 100, in at most 200 places; not beside `template`.
    #[serde(default)]
    pub text: Option<String>,
    /// The id of a stored template; not beside `text`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub template: Option<TemplateId>,
    /// Values for variables that a recipient does not bring, at most 100. Those that neither text nor subject asks for are
    /// not kept.
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
    /// How long the messages are worth handing over, in seconds.
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
    /// Keep rows whose address came before; otherwise they are dropped and reported.
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
    /// What to do in the hours in which advertisements are forbidden.
    #[serde(default = "hold")]
    #[schema(default = "hold")]
    pub window: WindowWord,
    /// The recipients have agreed to advertisements at night too.
    #[serde(default)]
    pub night_consent: bool,
    /// Add the marking that the law asks for, where it is missing.
    #[serde(default)]
    pub mark_automatically: bool,
}

fn hold() -> WindowWord {
    WindowWord::Hold
}

impl SendingBody {
    /// How many of the rows name a contact.
    pub(super) fn names_contacts(&self) -> bool {
        self.recipients.iter().any(|recipient| recipient.contact.is_some())
    }

    /// Everything but the recipients that come from the address book.
    pub(crate) fn into_request(self) -> SendRequest {
        self.into_rows().0
    }

    /// The same, with the rows that hold what cannot be used.
    pub(super) fn into_rows(self) -> (SendRequest, HashMap<u32, WrongValue>) {
        let mut wrong = HashMap::new();
        let rows = (0..).zip(self.recipients).map(|(row, recipient)| {
            let (input, value) = recipient.into_input(row);
            wrong.extend(value.map(|value| (row, value)));
            input
        });
        let recipients = rows.collect();
        let request = SendRequest {
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
        };
        (request, wrong)
    }
}

/// What cannot be used in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WrongValue {
    pub(super) field: &'static str,
    pub(super) code: &'static str,
    pub(super) detail: String,
}

impl RecipientBody {
    /// The row, and the first of its values that cannot be used.
    fn into_input(self, row: u32) -> (RecipientInput, Option<WrongValue>) {
        let mut wrong = None;
        let mut note = |field: &'static str, code: &'static str, detail: String| {
            wrong.get_or_insert(WrongValue { field, code, detail });
        };
        let mut text = |field: &'static str, value: Option<RowText>| match value? {
            RowText::Text(text) => Some(text),
            RowText::Other(what) => {
                note(field, WRONG_TYPE, format!("it is {what}, not a text"));
                None
            }
            RowText::Zero => {
                note(field, ZERO_CODE, ZERO_DETAIL.to_owned());
                None
            }
        };
        let to = text("to", self.to).unwrap_or_default();
        let email = text("email", self.email);
        let reference = text("reference", self.reference);
        let contact = text("contact", self.contact);
        let contact = contact.and_then(|id| {
            let parsed = id.parse::<ContactId>();
            parsed.map_err(|_| note("contact", "invalid_id", "it is not the id of a contact".to_owned())).ok()
        });
        if let Some((code, detail)) = self.variables.wrong {
            note("variables", code, detail);
        }
        // Fields of a contact come on top of it.
        let count = self.variables.values.len();
        if count > VARIABLES_MAX {
            let detail = format!("{count} variables; at most {VARIABLES_MAX} are allowed");
            note("variables", "too_many_variables", detail);
        }
        (RecipientInput { row, to, email, contact, reference, variables: self.variables.values }, wrong)
    }
}
