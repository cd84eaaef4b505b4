//! What a message says, and in whose name: the sending's content for one recipient on one channel.
//!
//! A relay worker parses a content once for all of its messages, and shares what follows here from the channel.
//! [`said`] does all of it for a single message.

use smol_str::SmolStr;
use std::borrow::Cow;

use super::Recipient;
use crate::sending::{SendingAccepted, SendingContent};
use crate::text::{MessageType, Template};

/// The longest subject that is made from a text's first line, in characters.
const SUBJECT_LENGTH_MAX: usize = 40;

/// What one message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// The sending number or address; none: the sending has none for this channel.
    pub from: Option<SmolStr>,
    /// For lms and e-mail.
    pub subject: Option<String>,
    /// With the recipient's values in it.
    pub text: String,
}

/// What the message to this recipient says on a channel; none if it cannot be filled in, and so was never handed over.
pub fn said(terms: &SendingAccepted, recipient: &Recipient, channel: MessageType) -> Option<Said> {
    let content = &terms.personal;
    let render = |text: &str| {
        let template = Template::parse(text).ok()?;
        template.render(|name| value_of(content, recipient, name)).ok()
    };
    let text = render(&content.text)?;
    let given = content.subject.as_deref().filter(|_| has_subject(channel));
    let subject = match given {
        Some(given) => Some(render(given)?),
        None if channel == MessageType::Email => Some(first_line(&text).into_owned()),
        None => None,
    };
    Some(Said { from: sender(terms, channel).cloned(), subject, text })
}

/// The recipient's value of a variable, or else the sending's.
pub fn value_of<'v>(content: &'v SendingContent, recipient: &'v Recipient, name: &str) -> Option<&'v str> {
    recipient.variables.get(name).or_else(|| content.variables.get(name)).map(String::as_str)
}

/// Whether a channel has subjects. An e-mail without one gets the [`first_line`] of its text.
pub fn has_subject(channel: MessageType) -> bool {
    channel != MessageType::Sms
}

/// In whose name a channel is used.
pub fn sender(terms: &SendingAccepted, channel: MessageType) -> Option<&SmolStr> {
    match channel {
        MessageType::Email => terms.from_email.as_ref(),
        MessageType::Sms | MessageType::Lms | MessageType::Mms | MessageType::Alimtalk => {
            terms.from_phone.as_ref()
        }
    }
}

/// The first line that says something, shortened to a subject.
pub fn first_line(text: &str) -> Cow<'_, str> {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    match line.char_indices().nth(SUBJECT_LENGTH_MAX) {
        Some((end, _)) => Cow::Owned(format!("{}…", line[..end].trim_end())),
        None => Cow::Borrowed(line),
    }
}
