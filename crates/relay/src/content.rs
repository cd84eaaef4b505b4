//! What a message says: the sending's text, filled in for one recipient.
//!
//! A sending's text is parsed once and kept while it is in use. Texts without variables are shared by all messages;
//! the marking of an advertisement is already in them.

use kite_commands::recent::{Recent, Weighed, recent};
use kite_domain::ids::{AttemptReference, MessageId, SendingId};
use kite_domain::lot::{Recipient, first_line, has_subject, sender, value_of};
use kite_domain::mutation;
use kite_domain::sending::{SendingAccepted, SendingContent};
use kite_domain::text::{MessageType, RenderError, Template, TemplateError};
use smol_str::SmolStr;
use std::sync::Arc;

use crate::client::OutgoingMessage;

/// What the parsed text of an ordinary sending takes in the cache, in bytes.
const TEXT_BYTES: u64 = 768;
/// What a variable in a text takes once it is parsed, in bytes: the piece, the one after it, its name in two lists.
const VARIABLE_BYTES: usize = 128;

/// Why a message cannot be composed. None of these should be left after acceptance; all end the attempt as refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unwritable {
    /// The text is no template.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The text cannot be filled in for this recipient.
    #[error(transparent)]
    Text(#[from] RenderError),
    /// The sending has no sender for this channel.
    #[error("the sending has no sender for this channel")]
    NoSender,
    /// The recipient has no address for this channel.
    #[error("the recipient has no address for this channel")]
    NoAddress,
}

impl Unwritable {
    /// The code that is in the log, in place of a relay's.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Template(_) | Self::Text(_) => "kite_text",
            Self::NoSender => "kite_no_sender",
            Self::NoAddress => "kite_no_address",
        }
    }
}

/// A sending's text, parsed.
struct Parsed {
    text: Result<Piece, TemplateError>,
    subject: Option<Result<Piece, TemplateError>>,
}

enum Piece {
    /// The same for everybody.
    Literal(Arc<str>),
    Template(Template),
}

impl Piece {
    fn parse(text: &str) -> Result<Self, TemplateError> {
        let template = Template::parse(text)?;
        Ok(match template.as_literal() {
            Some(literal) => Self::Literal(literal.into()),
            None => Self::Template(template),
        })
    }

    fn render(
        &self,
        content: &SendingContent,
        recipient: &Recipient,
        buffer: &mut String,
    ) -> Result<Arc<str>, RenderError> {
        let template = match self {
            Self::Literal(text) => return Ok(text.clone()),
            Self::Template(template) => template,
        };
        template.render_into(|name| value_of(content, recipient, name), buffer)?;
        Ok(buffer.as_str().into())
    }
}

/// What the parsed form of a text takes in memory, in bytes, about.
fn parsed_bytes(text: &str) -> usize {
    text.len() + text.matches("#{").count() * VARIABLE_BYTES
}

impl Parsed {
    fn new(content: &SendingContent) -> Weighed<Arc<Self>> {
        let subject = content.subject.as_deref();
        let parsed = Self { text: Piece::parse(&content.text), subject: subject.map(Piece::parse) };
        let bytes = size_of::<Self>() + parsed_bytes(&content.text) + subject.map_or(0, parsed_bytes);
        Weighed::new(Arc::new(parsed), bytes)
    }
}

/// Parsed texts of sendings in use, shared by all workers.
pub struct Texts {
    parsed: Recent<SendingId, Arc<Parsed>>,
}

impl Texts {
    /// Keeps the texts of about `sendings_max` sendings, and fewer long ones.
    pub fn new(sendings_max: u32) -> Self {
        let sendings_max = u64::from(sendings_max);
        Self { parsed: recent(sendings_max * TEXT_BYTES, sendings_max) }
    }

    /// A writer for the messages of one sending.
    pub fn of(&self, terms: &Arc<SendingAccepted>) -> Writer {
        let kept_by = terms.sending;
        mutation::bug!(TextOfAnother, let kept_by = SendingId(uuid::Uuid::nil()));
        let kept = self.parsed.get(&kept_by).unwrap_or_else(|| {
            let parsed = Parsed::new(&terms.personal);
            self.parsed.insert(kept_by, parsed.clone());
            parsed
        });
        let parsed = kept.value;
        Writer { parsed, terms: terms.clone() }
    }
}

/// Writes the messages of one sending.
pub struct Writer {
    parsed: Arc<Parsed>,
    terms: Arc<SendingAccepted>,
}

impl Writer {
    /// The message to `recipient` on a channel. `buffer` is scratch space.
    pub fn write(
        &self,
        seq: u32,
        attempt: u16,
        channel: MessageType,
        recipient: &Recipient,
        buffer: &mut String,
    ) -> Result<OutgoingMessage, Unwritable> {
        let content = &self.terms.personal;
        let render = |piece: &Result<Piece, TemplateError>, buffer: &mut String| match piece {
            Ok(piece) => Ok(piece.render(content, recipient, buffer)?),
            Err(malformed) => Err(Unwritable::from(malformed.clone())),
        };
        let text = render(&self.parsed.text, buffer)?;
        let given = self.parsed.subject.as_ref().filter(|_| has_subject(channel));
        let subject = match given.map(|piece| render(piece, buffer)).transpose()? {
            None if channel == MessageType::Email => Some(first_line(&text).into()),
            given => given,
        };
        Ok(OutgoingMessage {
            reference: AttemptReference { message: MessageId { sending: self.terms.sending, seq }, attempt },
            message_type: channel,
            from: sender(&self.terms, channel).cloned().ok_or(Unwritable::NoSender)?,
            to: address(channel, recipient).ok_or(Unwritable::NoAddress)?,
            subject,
            text,
            was_put_off: false,
        })
    }
}

/// Only an e-mail address has an `@`.
fn address(channel: MessageType, recipient: &Recipient) -> Option<SmolStr> {
    let is_email = recipient.to.contains('@');
    match channel {
        MessageType::Email if is_email => Some(recipient.to.clone()),
        MessageType::Email => recipient.email.clone(),
        MessageType::Sms | MessageType::Lms | MessageType::Mms | MessageType::Alimtalk => {
            (!is_email).then(|| recipient.to.clone())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::testing::terms;

    fn recipient(to: &str, email: Option<&str>, name: Option<&str>) -> Recipient {
        Recipient {
            to: to.into(),
            email: email.map(Into::into),
            contact: None,
            reference: None,
            variables: name.map(|name| ("name".into(), name.to_owned())).into_iter().collect(),
        }
    }

    fn write(
        text: &str,
        subject: Option<&str>,
        channel: MessageType,
        to: &Recipient,
    ) -> Result<OutgoingMessage, Unwritable> {
        let mut terms = terms();
        terms.personal.text = text.to_owned();
        terms.personal.subject = subject.map(str::to_owned);
        terms.personal.variables =
            [("name".into(), "고객".to_owned()), ("shop".into(), "카이트".to_owned())].into();
        Texts::new(10).of(&Arc::new(terms)).write(3, 2, channel, to, &mut String::new())
    }

    #[test]
    fn the_recipients_values_come_before_the_sendings() {
        let text = "#{shop}: #{name}님";
        let to = recipient("01012345678", None, Some("홍길동"));
        assert_eq!(&*write(text, None, MessageType::Sms, &to).unwrap().text, "카이트: 홍길동님");
        let to = recipient("01012345678", None, None);
        assert_eq!(&*write(text, None, MessageType::Sms, &to).unwrap().text, "카이트: 고객님");
        let missing = write("#{who}", None, MessageType::Sms, &to).unwrap_err();
        assert_eq!(missing.code(), "kite_text");
        assert_eq!(missing, Unwritable::Text(RenderError::MissingVariable { name: "who".into() }));
        let malformed = write("#{who", None, MessageType::Sms, &to).unwrap_err();
        assert_eq!(malformed, Unwritable::Template(TemplateError::VariableNotClosed { position: 0 }));
        assert_eq!(malformed.code(), "kite_text");
    }

    #[test]
    fn an_email_after_a_text_message_goes_to_the_contacts_address_under_a_subject() {
        let to = recipient("01012345678", Some("hong@example.com"), None);
        let text = "\n  (광고) 봄맞이 세일 안내입니다\n자세한 내용";
        let message = write(text, None, MessageType::Email, &to).unwrap();
        assert_eq!((message.to.as_str(), message.from.as_str()), ("hong@example.com", "info@kite.example"));
        assert_eq!(message.subject.as_deref(), Some("(광고) 봄맞이 세일 안내입니다"));
        assert!(message.reference.to_string().ends_with("-3-2"));
        let named = write(text, Some("#{shop} 소식"), MessageType::Email, &to).unwrap();
        assert_eq!(named.subject.as_deref(), Some("카이트 소식"));
        let nowhere = recipient("01012345678", None, None);
        assert_eq!(write(text, None, MessageType::Email, &nowhere), Err(Unwritable::NoAddress));
    }

    #[test]
    fn long_texts_are_kept_for_fewer_sendings() {
        let texts = Texts::new(10_000);
        let keep = |text: String, count: u128| {
            for number in 0..count {
                let mut terms = terms();
                terms.sending = SendingId(uuid::Uuid::from_u128(number));
                terms.personal.text = text.clone();
                texts.of(&Arc::new(terms));
            }
        };
        keep("Your parcel is here.".to_owned(), 1_000);
        assert_eq!(texts.parsed.len(), 1_000);
        keep("#{name}, ".repeat(20_000), 20);
        keep("x".repeat(200_000), 100);
        assert!(texts.parsed.weight() < 8_000_000, "{}", texts.parsed.weight());
    }

    #[test]
    fn an_sms_has_no_subject() {
        let to = recipient("01012345678", None, None);
        assert_eq!(write("안녕", Some("제목"), MessageType::Sms, &to).unwrap().subject, None);
        assert_eq!(
            write("안녕", Some("제목"), MessageType::Lms, &to).unwrap().subject.as_deref(),
            Some("제목")
        );
        assert_eq!(write("안녕", None, MessageType::Lms, &to).unwrap().subject, None);
    }
}
