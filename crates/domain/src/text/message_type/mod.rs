//! Which message type a recipient's text needs, after substitution.
//!
//! An e-mail address gets an e-mail. A Korean number gets an sms, or an lms if there is a subject or the text is over
//! the sms limit; a number of another country gets an sms in parts. Nothing is ever cut: a text that does not fit, or
//! that would be more expensive than `max_type` allows, is refused with the numbers.
//!
//! The limits differ between relays and rule sets, so they are data: [`TypeLimits`].
//!
//! Deliberately absent: prices, and whether any relay can carry the type.

use super::cp949::{Cp949Length, measure};
use super::international::international_parts;
use super::normalise::normalise;
use super::refusal::{TextPart, TextRefusal};
use super::template::{MeasureError, Template};
use crate::address::{Address, PhoneKind, PhoneNumber};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use strum::{EnumString, IntoStaticStr, VariantArray};

/// What a message is, which is also the channel that it goes out on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[derive(strum::Display, EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case", parse_err_ty = UnknownMessageType, parse_err_fn = UnknownMessageType::of)]
pub enum MessageType {
    /// A short text message.
    Sms,
    /// A long text message with an optional subject.
    Lms,
    /// A text message with images.
    Mms,
    /// An e-mail.
    Email,
    /// A Kakao notification by template.
    Alimtalk,
}

/// The channel (채널) of a message is its type.
pub type Channel = MessageType;

impl MessageType {
    /// Every type, in the order of declaration.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// The word for it in interfaces and stored data.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// A word that names no message type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{word:?} is not one of {}", MessageType::ALL.iter().map(|word| word.as_str()).collect::<Vec<_>>().join(", "))]
pub struct UnknownMessageType {
    /// The word.
    pub word: String,
}

impl UnknownMessageType {
    fn of(word: &str) -> Self {
        Self { word: word.to_owned() }
    }
}

/// The type that a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestedType {
    /// Whatever the address and the text need.
    #[default]
    Auto,
    /// An sms and nothing else.
    Sms,
    /// An lms, even if the text would fit into an sms.
    Lms,
    /// An mms; not supported yet.
    Mms,
    /// An e-mail.
    Email,
    /// A Kakao notification; not supported yet.
    Alimtalk,
}

/// The most expensive type that a text may be promoted to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[derive(strum::Display, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum MaxType {
    /// At most an sms.
    Sms,
    /// At most an lms.
    Lms,
    /// No bound.
    Mms,
}

/// Limits of the types, as a relay or a rule set gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct TypeLimits {
    /// CP949 bytes of an sms.
    pub sms_bytes_max: usize,
    /// CP949 bytes of an lms without its subject.
    pub lms_bytes_max: usize,
    /// CP949 bytes of the subject of an lms.
    pub subject_bytes_max: usize,
    /// Parts of an sms to another country.
    pub international_parts_max: usize,
    /// UTF-8 bytes of an e-mail without its subject.
    pub email_bytes_max: usize,
    /// UTF-8 bytes of the subject of an e-mail.
    pub email_subject_bytes_max: usize,
}

impl Default for TypeLimits {
    /// What every relay that was surveyed takes. A subject has 40, 44 or 64 bytes, so 40 is safe everywhere.
    /// The e-mail limits are ours: a lot must hold its texts.
    fn default() -> Self {
        Self {
            sms_bytes_max: 90,
            lms_bytes_max: 2_000,
            subject_bytes_max: 40,
            international_parts_max: 10,
            email_bytes_max: 100_000,
            email_subject_bytes_max: 500,
        }
    }
}

/// What is asked of all messages of a sending alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TypeRequest {
    /// The type asked for.
    pub requested: RequestedType,
    /// The most expensive type allowed; none means no limit. An e-mail is not a promotion.
    pub max_type: Option<MaxType>,
    /// How many images go with the text.
    pub images: usize,
    /// The limits that apply.
    pub limits: TypeLimits,
}

/// The type that a recipient's text was found to need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct Resolved {
    /// The type.
    pub message_type: MessageType,
    /// Bytes of the text without its subject: CP949 for Korean numbers, on the wire for others, UTF-8 for
    /// e-mail.
    pub bytes: usize,
    /// Parts that the relay counts and charges; 1 unless the number is of another country.
    pub parts: usize,
}

/// The type for one recipient of a text with variables. Where the text is the same for all, this measures
/// nothing again.
///
/// A subject of nothing but spaces counts as none.
///
/// # Errors
/// [`TextRefusal`] says what does not fit, with the numbers.
pub fn resolve<'v>(
    request: &TypeRequest,
    address: &Address,
    subject: Option<&Template>,
    text: &Template,
    lookup: impl Fn(&str) -> Option<&'v str>,
) -> Result<Resolved, TextRefusal> {
    let subject = match subject {
        Some(subject) => Some(filled_in(subject, TextPart::Subject, &lookup)?),
        None => None,
    };
    resolve_content(request, address, subject.as_deref(), &Filled { template: text, lookup })
}

/// The type for one recipient of a finished text.
///
/// # Errors
/// As [`resolve`].
pub fn resolve_text(
    request: &TypeRequest,
    address: &Address,
    subject: Option<&str>,
    text: &str,
) -> Result<Resolved, TextRefusal> {
    resolve_content(request, address, subject.map(normalise).as_deref(), &Finished(text))
}

/// A text that is rendered only if its length cannot be computed more cheaply.
trait Content {
    fn cp949_length(&self) -> Result<Cp949Length, TextRefusal>;
    fn text(&self) -> Result<Cow<'_, str>, TextRefusal>;
    /// Shows the text piece by piece, before normalisation.
    fn each_piece(&self, look: &mut impl FnMut(&str));
}

struct Finished<'a>(&'a str);

impl Content for Finished<'_> {
    fn cp949_length(&self) -> Result<Cp949Length, TextRefusal> {
        measure(self.0).map_err(|unmappable| TextRefusal::from_unmappable(TextPart::Text, unmappable))
    }

    fn text(&self) -> Result<Cow<'_, str>, TextRefusal> {
        Ok(normalise(self.0))
    }

    fn each_piece(&self, look: &mut impl FnMut(&str)) {
        look(self.0);
    }
}

struct Filled<'a, L> {
    template: &'a Template,
    lookup: L,
}

impl<'v, L: Fn(&str) -> Option<&'v str>> Content for Filled<'_, L> {
    fn cp949_length(&self) -> Result<Cp949Length, TextRefusal> {
        self.template.measure(&self.lookup).map_err(|error| match error {
            MeasureError::Render(error) => TextRefusal::from_render(TextPart::Text, error),
            MeasureError::Unmappable(unmappable) => TextRefusal::from_unmappable(TextPart::Text, unmappable),
        })
    }

    fn text(&self) -> Result<Cow<'_, str>, TextRefusal> {
        filled_in(self.template, TextPart::Text, &self.lookup)
    }

    fn each_piece(&self, look: &mut impl FnMut(&str)) {
        self.template.each_piece(&self.lookup, look);
    }
}

fn filled_in<'t, 'v>(
    template: &'t Template,
    part: TextPart,
    lookup: impl Fn(&str) -> Option<&'v str>,
) -> Result<Cow<'t, str>, TextRefusal> {
    if let Some(literal) = template.as_literal() {
        return Ok(Cow::Borrowed(literal));
    }
    template.render(lookup).map(Cow::Owned).map_err(|error| TextRefusal::from_render(part, error))
}

fn resolve_content(
    request: &TypeRequest,
    address: &Address,
    subject: Option<&str>,
    content: &impl Content,
) -> Result<Resolved, TextRefusal> {
    check_supported(request)?;
    let subject = subject.filter(|subject| !subject.trim().is_empty());
    if subject.is_some_and(|subject| subject.contains('\n')) {
        return Err(TextRefusal::SubjectLineBreak);
    }
    match address {
        Address::Email(_) => resolve_email(request, subject, content),
        Address::Phone(phone) => resolve_phone(request, phone, subject, content),
    }
}

fn check_supported(request: &TypeRequest) -> Result<(), TextRefusal> {
    let message_type = match request.requested {
        RequestedType::Mms => MessageType::Mms,
        RequestedType::Alimtalk => MessageType::Alimtalk,
        RequestedType::Auto | RequestedType::Sms | RequestedType::Lms | RequestedType::Email => {
            if request.images == 0 {
                return Ok(());
            }
            MessageType::Mms
        }
    };
    Err(TextRefusal::TypeNotSupported { message_type })
}

fn resolve_email(
    request: &TypeRequest,
    subject: Option<&str>,
    content: &impl Content,
) -> Result<Resolved, TextRefusal> {
    let message_type = MessageType::Email;
    match request.requested {
        RequestedType::Sms => {
            return Err(TextRefusal::AddressNotForType { message_type: MessageType::Sms });
        }
        RequestedType::Lms => {
            return Err(TextRefusal::AddressNotForType { message_type: MessageType::Lms });
        }
        RequestedType::Auto | RequestedType::Email | RequestedType::Mms | RequestedType::Alimtalk => {}
    }
    check_subject_bytes(message_type, subject.map_or(0, str::len), request.limits.email_subject_bytes_max)?;
    let bytes = content.text()?.len();
    check_bytes(message_type, bytes, request.limits.email_bytes_max)?;
    Ok(Resolved { message_type, bytes, parts: 1 })
}

fn resolve_phone(
    request: &TypeRequest,
    phone: &PhoneNumber,
    subject: Option<&str>,
    content: &impl Content,
) -> Result<Resolved, TextRefusal> {
    if request.requested == RequestedType::Email {
        return Err(TextRefusal::AddressNotForType { message_type: MessageType::Email });
    }
    if phone.kind() == PhoneKind::International {
        return resolve_international(request, subject, content);
    }
    let limits = &request.limits;
    let bytes = content.cp949_length()?.bytes;
    check_characters(content)?;
    let fits_sms = subject.is_none() && bytes <= limits.sms_bytes_max;
    let message_type = match request.requested {
        RequestedType::Sms => MessageType::Sms,
        RequestedType::Auto if fits_sms => MessageType::Sms,
        RequestedType::Auto
        | RequestedType::Lms
        | RequestedType::Mms
        | RequestedType::Email
        | RequestedType::Alimtalk => MessageType::Lms,
    };
    if message_type == MessageType::Sms {
        if subject.is_some() {
            return Err(TextRefusal::SubjectNotForType { message_type });
        }
        check_bytes(message_type, bytes, limits.sms_bytes_max)?;
        return Ok(Resolved { message_type, bytes, parts: 1 });
    }
    if let Some(max_type @ MaxType::Sms) = request.max_type {
        let bytes_max = limits.sms_bytes_max;
        return Err(TextRefusal::PromotionRefused { needed: message_type, max_type, bytes, bytes_max });
    }
    let subject_bytes = match subject {
        Some(subject) => {
            check_controls(TextPart::Subject, subject)?;
            measure(subject)
                .map_err(|unmappable| TextRefusal::from_unmappable(TextPart::Subject, unmappable))?
        }
        None => Cp949Length::default(),
    };
    check_subject_bytes(message_type, subject_bytes.bytes, limits.subject_bytes_max)?;
    check_bytes(message_type, bytes, limits.lms_bytes_max)?;
    Ok(Resolved { message_type, bytes, parts: 1 })
}

fn resolve_international(
    request: &TypeRequest,
    subject: Option<&str>,
    content: &impl Content,
) -> Result<Resolved, TextRefusal> {
    if request.requested == RequestedType::Lms {
        return Err(TextRefusal::AddressNotForType { message_type: MessageType::Lms });
    }
    let message_type = MessageType::Sms;
    if subject.is_some() {
        return Err(TextRefusal::SubjectNotForType { message_type });
    }
    let counted = international_parts(&content.text()?);
    check_characters(content)?;
    let parts_max = request.limits.international_parts_max;
    match counted.parts {
        0 => Err(TextRefusal::TextEmpty),
        parts if parts > parts_max => Err(TextRefusal::TooManyParts { parts, parts_max }),
        parts => Ok(Resolved { message_type, bytes: counted.octets(), parts }),
    }
}

/// A text message shows something, and contains no character that handsets interpret in their own way.
fn check_characters(content: &impl Content) -> Result<(), TextRefusal> {
    let (mut is_blank, mut has_control) = (true, false);
    content.each_piece(&mut |piece| {
        is_blank = is_blank && piece.trim().is_empty();
        has_control = has_control || piece.chars().any(is_refused_control);
    });
    match (is_blank, has_control) {
        (true, _) => Err(TextRefusal::TextEmpty),
        (false, true) => check_controls(TextPart::Text, &content.text()?),
        (false, false) => Ok(()),
    }
}

fn check_controls(part: TextPart, text: &str) -> Result<(), TextRefusal> {
    let found = text.chars().enumerate().find(|(_, character)| is_refused_control(*character));
    match found {
        Some((position, character)) => Err(TextRefusal::ControlCharacter { part, character, position }),
        None => Ok(()),
    }
}

fn is_refused_control(character: char) -> bool {
    character.is_control() && !matches!(character, '\n' | '\r' | '\t')
}

fn check_bytes(message_type: MessageType, bytes: usize, bytes_max: usize) -> Result<(), TextRefusal> {
    if bytes == 0 {
        return Err(TextRefusal::TextEmpty);
    }
    if bytes > bytes_max {
        return Err(TextRefusal::TextTooLong { message_type, bytes, bytes_max });
    }
    Ok(())
}

fn check_subject_bytes(message_type: MessageType, bytes: usize, bytes_max: usize) -> Result<(), TextRefusal> {
    if bytes > bytes_max {
        return Err(TextRefusal::SubjectTooLong { message_type, bytes, bytes_max });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
