//! One SMTP conversation: the order of commands (RFC 5321), and where the relay's decisions enter it.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use smtp_proto::{AUTH_PLAIN, MailFrom, RcptTo, Request};

use super::MESSAGE_BYTES_MAX;
use crate::codes::reply_code;
use crate::ledger::HandOver;
use crate::relay::{Answer, CallOutcome, Objection, Relay};
use crate::scenario::Channel;

/// Recipients of one mail transaction.
const RECIPIENTS_MAX: usize = 100;

/// The reply to a recipient that is to come again.
const GREYLISTED: &str = "450 4.2.0 greylisted, try again later";

/// What the connection does next.
pub(super) enum Next {
    /// Reads another command.
    Command,
    /// Reads message data.
    Data,
    /// Waits, then reads another command.
    Wait(Duration),
    /// Waits, then closes the connection without the answer.
    Drop(Duration),
    /// Says goodbye.
    Quit,
}

/// A conversation.
pub(super) struct Session {
    relay: Arc<Relay>,
    greeted: bool,
    authenticated: bool,
    mail: Option<Mail>,
    /// Mail transactions of this connection.
    mails: u32,
}

/// A mail transaction.
#[derive(Default)]
struct Mail {
    /// Reference from the return path's tag.
    reference: Option<String>,
    recipients: Vec<String>,
}

impl Session {
    pub(super) fn new(relay: Arc<Relay>) -> Self {
        let authenticated = relay.scenario.api_key.is_empty();
        Self { relay, greeted: false, authenticated, mail: None, mails: 0 }
    }

    pub(super) fn command(&mut self, request: Request<Cow<'_, str>>, replies: &mut Vec<u8>) -> Next {
        match request {
            Request::Ehlo { .. } => self.greet(replies),
            Request::Helo { .. } => {
                self.greeted = true;
                reply(replies, "250 relay-sim");
            }
            Request::Auth { mechanism, initial_response } => {
                self.authenticate(mechanism, &initial_response, replies)
            }
            Request::Mail { from } => return self.begin(&from, replies),
            Request::Rcpt { to } => self.recipient(&to, replies),
            Request::Data => return self.data(replies),
            Request::Rset => {
                self.mail = None;
                reply(replies, "250 2.0.0 reset");
            }
            Request::Noop { .. } => reply(replies, "250 2.0.0 ok"),
            Request::Vrfy { .. } => reply(replies, "252 2.5.0 send it and see"),
            Request::Quit => return Next::Quit,
            _ => reply(replies, "502 5.5.1 not implemented"),
        }
        Next::Command
    }

    pub(super) fn bad_command(&self, error: &smtp_proto::Error, replies: &mut Vec<u8>) -> Next {
        match error {
            smtp_proto::Error::UnknownCommand | smtp_proto::Error::InvalidResponse { .. } => {
                reply(replies, "500 5.5.1 unknown command");
            }
            smtp_proto::Error::SyntaxError { syntax } => {
                reply(replies, format_args!("501 5.5.2 expected {syntax}"))
            }
            smtp_proto::Error::ResponseTooLong => reply(replies, "500 5.5.2 line too long"),
            _ => reply(replies, "501 5.5.4 bad parameter"),
        }
        Next::Command
    }

    fn greet(&mut self, replies: &mut Vec<u8>) {
        self.greeted = true;
        self.mail = None;
        reply(replies, "250-relay-sim");
        reply(replies, "250-PIPELINING");
        reply(replies, "250-8BITMIME");
        reply(replies, "250-SMTPUTF8");
        reply(replies, "250-ENHANCEDSTATUSCODES");
        if !self.relay.scenario.api_key.is_empty() {
            reply(replies, "250-AUTH PLAIN");
        }
        reply(replies, format_args!("250 SIZE {MESSAGE_BYTES_MAX}"));
    }

    fn authenticate(&mut self, mechanism: u64, initial: &str, replies: &mut Vec<u8>) {
        if mechanism != AUTH_PLAIN || initial.is_empty() {
            return reply(replies, "504 5.5.4 only AUTH PLAIN with an initial response");
        }
        let decoded = base64::engine::general_purpose::STANDARD.decode(initial).unwrap_or_default();
        let password = decoded.rsplit(|byte| *byte == 0).next().unwrap_or_default();
        self.authenticated = password == self.relay.scenario.api_key.as_bytes();
        reply(replies, if self.authenticated { "235 2.7.0 welcome" } else { "535 5.7.8 wrong credentials" });
    }

    fn begin(&mut self, from: &MailFrom<Cow<'_, str>>, replies: &mut Vec<u8>) -> Next {
        let mails_max = self.relay.decider().behaviour.mails_per_connection_max;
        if mails_max.is_some_and(|mails_max| self.mails >= mails_max) {
            reply(replies, "421 4.7.0 too many mails over this connection");
            return Next::Drop(Duration::ZERO);
        }
        self.mails += 1;
        self.open(from, replies);
        Next::Command
    }

    fn open(&mut self, from: &MailFrom<Cow<'_, str>>, replies: &mut Vec<u8>) {
        if !self.greeted {
            return reply(replies, "503 5.5.1 say EHLO first");
        }
        if !self.authenticated {
            return reply(replies, "530 5.7.0 authentication required");
        }
        if self.mail.is_some() {
            return reply(replies, "503 5.5.1 a transaction is open");
        }
        if from.size > MESSAGE_BYTES_MAX {
            return reply(replies, "552 5.3.4 message too big");
        }
        self.mail = Some(Mail { reference: tag(&from.address), recipients: Vec::new() });
        reply(replies, "250 2.1.0 ok");
    }

    fn recipient(&mut self, to: &RcptTo<Cow<'_, str>>, replies: &mut Vec<u8>) {
        let Some(mail) = &mut self.mail else { return reply(replies, "503 5.5.1 MAIL first") };
        if mail.recipients.len() >= RECIPIENTS_MAX {
            return reply(replies, "452 4.5.3 too many recipients");
        }
        let reference = mail.reference.as_deref();
        match self.relay.refusal_of(reference, &to.address, Channel::Email) {
            Some(Objection::Refused(code)) => reply(replies, refusal(&code)),
            Some(Objection::NotNow) => reply(replies, GREYLISTED),
            None => {
                mail.recipients.push(to.address.to_string());
                reply(replies, "250 2.1.5 ok");
            }
        }
    }

    fn data(&mut self, replies: &mut Vec<u8>) -> Next {
        match &self.mail {
            None => reply(replies, "503 5.5.1 MAIL first"),
            Some(mail) if mail.recipients.is_empty() => reply(replies, "554 5.5.1 no valid recipients"),
            Some(_) => {
                reply(replies, "354 go on, end with a line of one dot");
                return Next::Data;
            }
        }
        Next::Command
    }

    /// A message came in whole.
    pub(super) fn message(&mut self, message: &[u8], replies: &mut Vec<u8>) -> Next {
        let mail = self.mail.take().unwrap_or_default();
        let Some(reference) = message_id(message).or(mail.reference) else {
            reply(replies, "554 5.6.0 the message needs a Message-ID");
            return Next::Command;
        };
        let arrived_at_us = self.relay.clock.now_us();
        let hand_overs: Vec<HandOver<'_>> = mail
            .recipients
            .iter()
            .map(|recipient| HandOver {
                reference: &reference,
                recipient,
                kind: Channel::Email,
                arrived_at_us,
            })
            .collect();
        match self.relay.hand_over(&hand_overs) {
            CallOutcome::RateLimited { .. } => reply(replies, "451 4.7.1 too many messages, try again later"),
            CallOutcome::Reset => return Next::Drop(Duration::ZERO),
            CallOutcome::Unavailable => reply(replies, "451 4.3.2 out of service, try again later"),
            CallOutcome::Taken(taken) => {
                let pause = Duration::from_micros(taken.latency_us);
                if taken.answer_lost {
                    return Next::Drop(pause);
                }
                match taken.answers.first() {
                    Some(Answer::Accepted { relay_reference, .. }) => {
                        reply(replies, format_args!("250 2.0.0 queued as {relay_reference:016x}"));
                    }
                    Some(Answer::Refused { code }) => reply(replies, refusal(code)),
                    Some(Answer::Deferred { .. }) => reply(replies, GREYLISTED),
                    None => reply(replies, "554 5.5.1 no valid recipients"),
                }
                return Next::Wait(pause);
            }
        }
        Next::Command
    }
}

fn reply(replies: &mut Vec<u8>, line: impl Display) {
    write!(replies, "{line}\r\n").expect("writing to memory cannot fail");
}

/// The reply for a refusal code.
fn refusal(code: &str) -> String {
    let code = reply_code(code);
    let class = &code[..1];
    match code {
        "550" => "550 5.1.1 no such mailbox".to_owned(),
        "552" => "552 5.2.2 mailbox full".to_owned(),
        "554" => "554 5.7.1 refused by content".to_owned(),
        "451" => "451 4.3.0 try again later".to_owned(),
        _ => format!("{code} {class}.0.0 refused"),
    }
}

/// The reference in a return path's tag, `anything+<reference>@domain`.
fn tag(address: &str) -> Option<String> {
    let (local, _) = address.rsplit_once('@')?;
    let (_, tag) = local.split_once('+')?;
    (!tag.is_empty()).then(|| tag.to_owned())
}

/// The left side of the Message-ID header, unfolded; at most 255 bytes.
fn message_id(message: &[u8]) -> Option<String> {
    let mut lines = message.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    while let Some(line) = lines.next() {
        if line.is_empty() {
            return None;
        }
        let Some((name, value)) = split_header(line) else { continue };
        if !name.eq_ignore_ascii_case(b"message-id") {
            continue;
        }
        let mut text = String::from_utf8_lossy(value).trim().to_owned();
        if text.is_empty() {
            text = String::from_utf8_lossy(lines.next()?).trim().to_owned();
        }
        let (left, _) = text.strip_prefix('<')?.split_once('@')?;
        return (1..=255).contains(&left.len()).then(|| left.to_owned());
    }
    None
}

fn split_header(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    Some((&line[..colon], &line[colon + 1..]))
}

#[cfg(test)]
mod tests {
    use super::{message_id, refusal, tag};

    #[test]
    fn the_reference_is_the_left_side_of_the_message_id() {
        let folded = b"Subject: x\r\nmessage-ID:\r\n <abc-1-2@kite.example>\r\n\r\nMessage-ID: <no@no>\r\n";
        assert_eq!(message_id(folded).as_deref(), Some("abc-1-2"));
        assert_eq!(message_id(b"Message-ID: <abc-1-2@x>\r\n\r\n").as_deref(), Some("abc-1-2"));
        assert_eq!(message_id(b"Subject: x\r\n\r\nMessage-ID: <no@no>\r\n"), None);
    }

    #[test]
    fn the_return_path_may_carry_the_reference() {
        assert_eq!(tag("bounce+abc-1-2@kite.example").as_deref(), Some("abc-1-2"));
        assert_eq!(tag("bounce@kite.example"), None);
        assert_eq!(tag(""), None);
    }

    #[test]
    fn codes_of_other_dialects_become_temporary_refusals() {
        assert_eq!(refusal("550"), "550 5.1.1 no such mailbox");
        assert_eq!(refusal("3056"), "451 4.3.0 try again later");
        assert_eq!(refusal("571"), "571 5.0.0 refused");
    }
}
