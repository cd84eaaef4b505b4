//! What a negative reply of a mail server is about: the message, or the server.
//!
//! The stage of the conversation decides first (RFC 5321): before the recipient is known, a reply cannot be about a
//! recipient. From then on it is about this message, whatever the code. Exceptions are codes of the whole mail system
//! (RFC 3463: `4.3.x`; `452` without an enhanced code) and the end of the connection (`421`): these may be about
//! either, which the next message shows. The dictionary says what the code means (`domain/data/codes/smtp.json`).

use kite_domain::lot::CONNECTION_LOST;
use smol_str::{SmolStr, format_smolstr};
use std::sync::Arc;

use crate::client::{MessageAnswer, NotTaken};

/// How far the conversation had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Greeting, TLS, credentials.
    Connection,
    /// `MAIL`: the sender is named.
    Sender,
    /// `RCPT`: the recipient is named.
    Recipient,
    /// `DATA` and the message itself.
    Content,
}

/// What the server said to a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    /// As long as it is about this message.
    pub(crate) answer: MessageAnswer,
    /// The answer if it turns out to be about the server. None: it is not.
    pub(crate) suspicion: Option<MessageAnswer>,
    /// Nothing more goes over this connection.
    pub(crate) ends_connection: bool,
}

impl Said {
    /// About this message and nothing else.
    pub(crate) fn about_message(answer: MessageAnswer) -> Self {
        Self { answer, suspicion: None, ends_connection: false }
    }

    /// About the server: it accepts no message at the moment.
    pub(crate) fn about_server(answer: MessageAnswer) -> Self {
        Self { answer, suspicion: None, ends_connection: true }
    }

    /// The connection ended before the message was sent.
    pub(crate) fn broken(stage: Stage, reason: Arc<str>) -> Self {
        let of_server = not_taken(NotTaken::NoConnection, reason.clone());
        match stage {
            Stage::Connection | Stage::Sender => Self::about_server(of_server),
            Stage::Recipient | Stage::Content => Self {
                answer: for_now(SmolStr::new_static(CONNECTION_LOST), None, reason.to_string()),
                suspicion: Some(of_server),
                ends_connection: true,
            },
        }
    }

    /// The connection ended after the message was sent.
    pub(crate) fn unknown(reason: Arc<str>) -> Self {
        Self {
            suspicion: Some(not_taken(NotTaken::NoConnection, reason.clone())),
            answer: MessageAnswer::Unknown { reason },
            ends_connection: true,
        }
    }
}

/// What the code of a negative reply and its words mean at this stage.
pub(crate) fn meaning(stage: Stage, basic: u16, words: String) -> Said {
    let enhanced = words.split_whitespace().next().filter(|word| is_enhanced(word)).map(SmolStr::from);
    let enhanced = enhanced.as_deref();
    let reason: Arc<str> = format!("{basic} {words}").into();
    let of_server = |why| not_taken(why, reason.clone());
    let closes = basic == 421;
    if matches!(basic, 530 | 534 | 535 | 538) || enhanced == Some("5.7.8") {
        return Said::about_server(of_server(NotTaken::Unauthorised));
    }
    let is_for_now = (400..500).contains(&basic);
    let is_system = closes || (basic == 452 && enhanced.is_none()) || starts(enhanced, "4.3.");
    let whole = match stage {
        _ if is_system => NotTaken::OutOfService,
        Stage::Connection | Stage::Sender if starts(enhanced, "4.7.") => NotTaken::RateLimited,
        Stage::Connection | Stage::Sender | Stage::Recipient | Stage::Content => NotTaken::NoConnection,
    };
    let (code, general) = match enhanced {
        Some(code) => (SmolStr::from(code), Some(format_smolstr!("{basic}"))),
        None => (format_smolstr!("{basic}"), None),
    };
    // The sender's own address, which other messages need not share.
    let is_about_sender = starts(enhanced, "4.1.");
    let is_suspect = match stage {
        Stage::Connection => return Said::about_server(of_server(whole)),
        Stage::Sender if is_for_now && !is_about_sender => return Said::about_server(of_server(whole)),
        Stage::Sender => false,
        Stage::Recipient | Stage::Content => is_for_now && is_system,
    };
    let answer = if is_for_now { for_now(code, general, words) } else { refused(code, general, words) };
    let suspicion = is_suspect.then(|| of_server(whole));
    Said { answer, suspicion, ends_connection: closes }
}

fn starts(code: Option<&str>, with: &str) -> bool {
    code.is_some_and(|code| code.starts_with(with))
}

/// RFC 3463: class, subject and detail.
fn is_enhanced(word: &str) -> bool {
    let mut parts = word.split('.');
    let is_number = |part: Option<&str>| {
        part.is_some_and(|part| {
            (1..=3).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
        })
    };
    is_number(parts.next()) && is_number(parts.next()) && is_number(parts.next()) && parts.next().is_none()
}

pub(crate) fn not_taken(why: NotTaken, reason: Arc<str>) -> MessageAnswer {
    MessageAnswer::NotTaken { why, reason }
}

pub(crate) fn refused(code: SmolStr, general_code: Option<SmolStr>, text: String) -> MessageAnswer {
    MessageAnswer::Refused { code, general_code, text: (!text.is_empty()).then_some(text) }
}

fn for_now(code: SmolStr, general_code: Option<SmolStr>, text: String) -> MessageAnswer {
    let text = (!text.is_empty()).then_some(text);
    MessageAnswer::RefusedForNow { code, general_code, text, retry_after: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a reply comes to, in a word: of the message, of the server, or perhaps of the server.
    fn word(stage: Stage, basic: u16, words: &str) -> &'static str {
        let said = meaning(stage, basic, words.to_owned());
        match (&said.answer, &said.suspicion) {
            (MessageAnswer::Refused { .. }, None) => "refused",
            (MessageAnswer::RefusedForNow { .. }, None) => "for now",
            (MessageAnswer::RefusedForNow { .. }, Some(_)) => "for now, or the server",
            (MessageAnswer::NotTaken { why: NotTaken::OutOfService, .. }, None) => "out of service",
            (MessageAnswer::NotTaken { why: NotTaken::RateLimited, .. }, None) => "too many",
            (MessageAnswer::NotTaken { why: NotTaken::Unauthorised, .. }, None) => "unauthorised",
            (MessageAnswer::NotTaken { why: NotTaken::NoConnection, .. }, None) => "no connection",
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn from_the_recipient_on_a_reply_is_about_the_message() {
        for stage in [Stage::Recipient, Stage::Content] {
            for (basic, words, expected) in [
                (450, "4.2.0 Greylisted", "for now"),
                (451, "4.7.1 try again later", "for now"),
                (452, "4.2.2 mailbox full", "for now"),
                (450, "no enhanced code", "for now"),
                (451, "4.4.1 no answer from host", "for now"),
                (550, "5.1.1 no such user", "refused"),
                (554, "5.7.1 spam", "refused"),
                (421, "4.7.0 closing", "for now, or the server"),
                (452, "insufficient storage", "for now, or the server"),
                (451, "4.3.2 not accepting messages", "for now, or the server"),
                (530, "5.7.0 authentication required", "unauthorised"),
            ] {
                assert_eq!(word(stage, basic, words), expected, "{stage:?}: {basic} {words}");
            }
        }
    }

    #[test]
    fn before_that_it_is_about_the_server_or_the_sender() {
        for (basic, words, expected) in [
            (421, "4.3.2 shutting down", "out of service"),
            (450, "4.7.1 too much mail from you", "too many"),
            (451, "4.1.8 sender's domain not found", "for now"),
            (553, "5.1.8 sender's domain does not exist", "refused"),
            (450, "try later", "no connection"),
            (452, "4.3.1 out of storage", "out of service"),
        ] {
            assert_eq!(word(Stage::Sender, basic, words), expected, "{basic} {words}");
        }
        assert_eq!(word(Stage::Connection, 554, "5.3.2 no mail here"), "no connection");
        assert_eq!(word(Stage::Connection, 535, "5.7.8 wrong password"), "unauthorised");
        assert_eq!(word(Stage::Connection, 421, "4.7.0 too many connections"), "out of service");
    }

    #[test]
    fn only_421_ends_the_connection() {
        for (basic, ends) in [(421, true), (450, false), (451, false), (550, false)] {
            let said = meaning(Stage::Recipient, basic, "4.7.0 word".to_owned());
            assert_eq!(said.ends_connection, ends, "{basic}");
        }
    }
}
