//! Rows of recipients: each is good or refused with its reason, from the place where that was found out.
//!
//! Whoever has the texts of a row, from a request or from the address book, reads them once ([`RecipientInput::read`]).
//! Whoever finds that there is nothing to read says so with a [`RowRefusal`]. What comes later works on what was read, and
//! passes on what was refused.
//!
//! Deliberately absent: a row without the value that was wrong in it, for somebody later to refuse.

use chrono::{DateTime, Utc};
use kite_domain::address::{Address, AddressError, EmailAddress, EmailError};
use kite_domain::ids::ContactId;
use kite_domain::opt_out::RefusedBy;
use kite_domain::relay::Ineligible;
use kite_domain::slug::RelayId;
use kite_domain::text::{MessageType, TextPart, TextRefusal, VARIABLES_MAX};
use smol_str::SmolStr;
use std::collections::BTreeMap;

use super::limits::{AcceptLimits, FILLING_BYTES_MAX, LOT_RECIPIENTS_BYTES_MAX, TooLong, check_reference};

/// The texts of one row of recipients, as they came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipientInput {
    /// The row that the caller knows it by, from 0.
    pub row: u32,
    /// Number or e-mail address.
    pub to: SmolStr,
    /// The e-mail address to fail over to.
    pub email: Option<SmolStr>,
    /// The contact that it came from.
    pub contact: Option<ContactId>,
    /// The caller's own name for the message.
    pub reference: Option<SmolStr>,
    /// Values for variables.
    pub variables: BTreeMap<SmolStr, String>,
}

/// One row of recipients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecipientRow {
    /// As far as it can be told without the text that goes to it.
    Good(GoodRecipient),
    /// It becomes no message.
    Refused(RefusedRow),
}

/// A recipient whose row was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoodRecipient {
    pub(super) row: u32,
    /// What stood in `to`.
    pub(super) given: SmolStr,
    pub(super) to: Address,
    /// Where to fail over to.
    pub(super) email: Option<EmailAddress>,
    pub(super) contact: Option<ContactId>,
    pub(super) reference: Option<SmolStr>,
    pub(super) variables: BTreeMap<SmolStr, String>,
}

/// A row that became no message, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedRow {
    /// The caller's row, from 0.
    pub row: u32,
    /// Why.
    pub reason: RowRefusal,
    /// What stood in `to`, or would have come there from the address book.
    pub to: SmolStr,
}

/// A field of a row, or of the request as it is for that row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowField {
    /// Number or e-mail address.
    To,
    /// The e-mail address to fail over to.
    Email,
    /// The contact.
    Contact,
    /// The caller's own name for the message.
    Reference,
    /// Values for variables.
    Variables,
    /// The subject, with the row's values.
    Subject,
    /// The text, with the row's values.
    Text,
    /// The type asked for.
    Type,
    /// How long the message is worth handing over.
    Lifetime,
}

/// Why a row became no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowRefusal {
    /// No text stands where one belongs.
    #[error("it is {found}, not a text")]
    NotAText {
        /// Where.
        field: RowField,
        /// What stands there, in words.
        found: &'static str,
    },
    /// A text that cannot be stored.
    #[error("the text holds U+0000, which cannot be stored")]
    Zero {
        /// Where.
        field: RowField,
    },
    /// Its variables are no object.
    #[error("variables are an object, not {found}")]
    VariablesNotAnObject {
        /// What they are, in words.
        found: &'static str,
    },
    /// The value of a variable is no text.
    #[error("the value of {name} is {found}, not a text")]
    VariableNotAText {
        /// Of which.
        name: SmolStr,
        /// What it is, in words.
        found: &'static str,
    },
    /// The name or the value of a variable cannot be stored.
    #[error("{name}: the text holds U+0000, which cannot be stored")]
    ZeroInVariable {
        /// Of which, as far as that can be shown.
        name: SmolStr,
    },
    /// It brings more variables than a text may have.
    #[error("{count} variables; at most {} are allowed", VARIABLES_MAX)]
    TooManyVariables {
        /// How many.
        count: usize,
    },
    /// Its contact is not named by an id.
    #[error("it is not the id of a contact")]
    NotAContactId,
    /// It names nobody.
    #[error("a recipient needs `to` or `contact`")]
    RecipientMissing,
    /// It names only where to fail over to.
    #[error("give the e-mail address in `to`; `email` is only where to fail over to")]
    OnlyFailoverEmail,
    /// It names somebody twice.
    #[error("a recipient has either `to` or `contact`, not both")]
    ToAndContact,
    /// The tenant has no such contact.
    #[error("there is no such contact")]
    ContactNotFound,
    /// The contact cannot be reached with the type asked for.
    #[error("the contact has no address for this type")]
    ContactWithoutAddress,
    /// What stands in `to` is no address.
    #[error(transparent)]
    Address(AddressError),
    /// Where to fail over to is no e-mail address.
    #[error(transparent)]
    FailoverEmail(EmailError),
    /// The caller's own name for the message is too long.
    #[error(transparent)]
    ReferenceTooLong(TooLong),
    /// The values of the request are too much to be filled in.
    #[error(
        "the values of one request may come to {} bytes, each counted wherever it stands in a text",
        FILLING_BYTES_MAX
    )]
    ValuesTooLarge,
    /// Its text cannot be sent.
    #[error(transparent)]
    Text(TextRefusal),
    /// The request names no sender for the type that the row needs.
    #[error("an {message_type} needs a sender (`{}`)", sender_field(*.message_type))]
    SenderMissing {
        /// The type.
        message_type: MessageType,
    },
    /// No relay could ever carry it.
    #[error(transparent)]
    NoRelay(NoCarrier),
    /// It would be held for the night until it had expired.
    #[error("the advertisement would be held until {opens} and have expired by then")]
    LifetimeEndsInWindow {
        /// When advertisements may go out again.
        opens: DateTime<Utc>,
    },
    /// The recipient refuses advertisements.
    #[error("{}", opted_out(*.by))]
    OptedOut {
        /// Which of the row's addresses gets none.
        field: RowField,
        /// Who refused.
        by: RefusedBy,
    },
    /// It is larger than a lot may be.
    #[error("the row would take {bytes} bytes; at most {} are stored", LOT_RECIPIENTS_BYTES_MAX)]
    RowTooLarge {
        /// What it would take.
        bytes: usize,
    },
}

impl RecipientInput {
    /// Reads the texts of the row. The first that is wrong refuses it.
    #[must_use]
    pub fn read(self, limits: &AcceptLimits) -> RecipientRow {
        match self.parse(limits) {
            Ok((to, email)) => RecipientRow::Good(GoodRecipient {
                row: self.row,
                given: self.to,
                to,
                email,
                contact: self.contact,
                reference: self.reference,
                variables: self.variables,
            }),
            Err(reason) => RecipientRow::Refused(RefusedRow { row: self.row, reason, to: self.to }),
        }
    }

    fn parse(&self, limits: &AcceptLimits) -> Result<(Address, Option<EmailAddress>), RowRefusal> {
        let to = Address::parse(&self.to).map_err(RowRefusal::Address)?;
        let email = self.email.as_deref().map(EmailAddress::parse).transpose();
        let email = email.map_err(RowRefusal::FailoverEmail)?;
        if let Some(reference) = &self.reference {
            check_reference(reference, limits).map_err(RowRefusal::ReferenceTooLong)?;
        }
        // The fields of a contact come on top of what a caller brings.
        let count = self.variables.len();
        if self.contact.is_none() && count > VARIABLES_MAX {
            return Err(RowRefusal::TooManyVariables { count });
        }
        Ok((to, email))
    }
}

impl From<RefusedRow> for RecipientRow {
    fn from(refused: RefusedRow) -> Self {
        Self::Refused(refused)
    }
}

impl RowField {
    /// Its name in a request.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::To => "to",
            Self::Email => "email",
            Self::Contact => "contact",
            Self::Reference => "reference",
            Self::Variables => "variables",
            Self::Subject => "subject",
            Self::Text => "text",
            Self::Type => "type",
            Self::Lifetime => "lifetime_seconds",
        }
    }
}

impl RowRefusal {
    /// Which field it is about.
    #[must_use]
    pub fn field(&self) -> RowField {
        match self {
            Self::NotAText { field, .. } | Self::Zero { field } | Self::OptedOut { field, .. } => *field,
            Self::VariablesNotAnObject { .. }
            | Self::VariableNotAText { .. }
            | Self::ZeroInVariable { .. }
            | Self::TooManyVariables { .. }
            | Self::ValuesTooLarge
            | Self::RowTooLarge { .. } => RowField::Variables,
            Self::NotAContactId
            | Self::ToAndContact
            | Self::ContactNotFound
            | Self::ContactWithoutAddress => RowField::Contact,
            Self::RecipientMissing
            | Self::OnlyFailoverEmail
            | Self::Address(_)
            | Self::SenderMissing { .. }
            | Self::NoRelay(_) => RowField::To,
            Self::FailoverEmail(_) => RowField::Email,
            Self::ReferenceTooLong(_) => RowField::Reference,
            Self::Text(refusal) => field_of_text(refusal),
            Self::LifetimeEndsInWindow { .. } => RowField::Lifetime,
        }
    }

    /// Stable word for the reason.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotAText { .. } | Self::VariablesNotAnObject { .. } | Self::VariableNotAText { .. } => {
                "wrong_type"
            }
            Self::Zero { .. } | Self::ZeroInVariable { .. } => "character_not_allowed",
            Self::TooManyVariables { .. } => "too_many_variables",
            Self::NotAContactId => "invalid_id",
            Self::RecipientMissing | Self::OnlyFailoverEmail => "recipient_missing",
            Self::ToAndContact => "to_and_contact",
            Self::ContactNotFound => "contact_not_found",
            Self::ContactWithoutAddress => "contact_without_address",
            Self::Address(error) => error.code(),
            Self::FailoverEmail(error) => error.code(),
            Self::ReferenceTooLong(_) => "too_long",
            Self::ValuesTooLarge => "values_too_large",
            Self::Text(refusal) => refusal.code(),
            Self::SenderMissing { .. } => "sender_missing",
            Self::NoRelay(_) => "no_relay",
            Self::LifetimeEndsInWindow { .. } => "lifetime_ends_in_window",
            Self::OptedOut { .. } => "opted_out",
            Self::RowTooLarge { .. } => "row_too_large",
        }
    }
}

fn field_of_text(refusal: &TextRefusal) -> RowField {
    match refusal {
        TextRefusal::MissingVariable { .. }
        | TextRefusal::PlaceholderInResult { .. }
        | TextRefusal::FilledInTooLong { .. } => RowField::Variables,
        TextRefusal::SubjectTooLong { .. }
        | TextRefusal::SubjectLineBreak
        | TextRefusal::SubjectNotForType { .. }
        | TextRefusal::ControlCharacter { part: TextPart::Subject, .. } => RowField::Subject,
        TextRefusal::AddressNotForType { .. } => RowField::To,
        TextRefusal::TypeNotSupported { .. } | TextRefusal::PromotionRefused { .. } => RowField::Type,
        TextRefusal::UnmappableCharacters { .. }
        | TextRefusal::TextEmpty
        | TextRefusal::ControlCharacter { part: TextPart::Text, .. }
        | TextRefusal::TextTooLong { .. }
        | TextRefusal::TooManyParts { .. } => RowField::Text,
    }
}

/// The field of a request that names the sender of such a message.
fn sender_field(message_type: MessageType) -> &'static str {
    match message_type {
        MessageType::Email => "from_email",
        MessageType::Sms | MessageType::Lms | MessageType::Mms | MessageType::Alimtalk => "from",
    }
}

fn opted_out(by: RefusedBy) -> &'static str {
    match by {
        RefusedBy::Itself => "the recipient refuses advertisements",
        RefusedBy::SamePerson => "the recipient refuses advertisements, by another address",
    }
}

/// Why no relay could ever carry a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoCarrier {
    /// The policy names none that can.
    #[error("the policy gives no share to a relay that can carry this {0}")]
    NoShare(MessageType),
    /// None has the channel.
    #[error("no relay offers {0}")]
    NotOffered(MessageType),
    /// Those that have it cannot.
    #[error("no relay can carry this {channel} ({})", .of.iter().map(in_words).collect::<Vec<_>>().join("; "))]
    NoneCan {
        /// The channel.
        channel: MessageType,
        /// Of each relay that offers it.
        of: Vec<(RelayId, Ineligible)>,
    },
}

fn in_words((relay, why): &(RelayId, Ineligible)) -> String {
    format!("{relay}: {why}")
}
