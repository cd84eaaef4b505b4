//! Requests to send, and what is asked of a sending afterwards.

use chrono::TimeDelta;
use kite_commands::accept::{
    AcceptError, AcceptLimits, Acceptance, Accepted, AdInput, CancelError, Earlier, Idempotency, PauseError,
    RecipientInput, RecipientRow, RowRefusal, SendRequest,
};
use kite_domain::ids::SendingId;
use kite_domain::load::Full;
use kite_domain::sending::{MessageClass, PauseBy, WindowAction};
use kite_domain::slug::TenantId;
use kite_domain::text::RequestedType;
use std::collections::BTreeMap;

use super::World;
use super::requests::cause;
use crate::check::{Answered, Limited};
use crate::executor::Sim;
use crate::operation::{Class, Failover, Kind, SendOrder};
use crate::reach::Situation;
use crate::setting::{EMAIL, PHONE, email_of, number_of, tenant};

/// With what a sending is refused whose sender may not send.
const SENDER_CODES: [&str; 5] =
    ["sender_not_requested", "sender_requested", "sender_refused", "sender_expired", "sender_withdrawn"];

impl World {
    pub(super) fn send(&self, send: SendOrder) {
        let request = send_request(send, &self.sim);
        let body = format!("{:?}", SendOrder { key: None, ..send });
        let idempotency =
            send.key.map(|key| Idempotency { key: format!("key-{key}"), body_hash: body.clone() });
        let keys_used = self.keys_used.clone();
        if let Some(key) = send.key {
            keys_used.lock().entry((send.tenant, key)).or_default().insert(body.clone());
        }
        let (answers, sent, sim) = (self.answers.clone(), self.sent.clone(), self.sim.clone());
        self.ask("send", move |platform| async move {
            let whose = tenant(send.tenant);
            answers.lock().push(Answered::Asked(send));
            let asked_at = sim.now();
            let accepted = accept(&platform.acceptance, &whose, request, idempotency).await;
            let accepted = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // By now: a later request may have been faster.
                    let is_other_body = send.key.is_some_and(|key| {
                        keys_used.lock().get(&(send.tenant, key)).is_some_and(|bodies| bodies.len() > 1)
                    });
                    if let Some(why) = limited(&error) {
                        sim.reach(match why {
                            Limited::TooFast(_) => Situation::TooFast,
                            Limited::Full(_) | Limited::Never => Situation::LimitReached,
                        });
                        answers.lock().push(Answered::Limited { order: send, why });
                    } else if is_for_its_sender(&error) {
                        sim.reach(Situation::SenderNotApproved);
                        answers.lock().push(Answered::Unapproved { order: send, asked_at });
                    } else if !is_refusal_due(&error, &send, is_other_body) {
                        sim.violation(format!("{send:?} is refused: {error} ({error:?})"));
                    }
                    if matches!(error, AcceptError::InProgress) {
                        answers.lock().push(Answered::InProgress(send));
                    }
                    answers.lock().push(Answered::Settled(send));
                    return;
                }
            };
            let mut sent = sent.lock();
            if sent.iter().any(|(_, sending)| *sending == accepted.sending) {
                sim.reach(Situation::KeyRepeated);
            }
            sent.push((whose, accepted.sending));
            answers.lock().push(Answered::Accepted {
                sending: accepted.sending,
                messages: accepted.messages,
                order: send,
                asked_at,
            });
            answers.lock().push(Answered::Settled(send));
        });
    }

    pub(super) fn cancel(&self, back: u8) {
        let sent = self.sent.lock();
        let Some(place) = sent.len().checked_sub(1 + usize::from(back)) else { return };
        let (whose, sending) = sent[place].clone();
        let (answers, sim) = (self.answers.clone(), self.sim.clone());
        self.ask("cancel", move |platform| async move {
            match platform.acceptance.cancel(&cause(), &whose, sending, None).await {
                Ok(_) => answers.lock().push(Answered::Cancelled(sending)),
                Err(CancelError::NotFound(_)) => {
                    sim.violation(format!(
                        "law 2: {sending} was accepted and cannot be found to be cancelled"
                    ));
                }
                Err(CancelError::Over(_) | CancelError::Journal(_) | CancelError::Lots(_)) => {}
            }
        });
    }

    pub(super) fn pause(&self, back: u8, by_operator: bool) {
        let Some((whose, sending)) = self.sent_before(back) else { return };
        let (answers, sim) = (self.answers.clone(), self.sim.clone());
        let by = if by_operator { PauseBy::Operator } else { PauseBy::Tenant };
        self.ask("pause", move |platform| async move {
            match platform.acceptance.pause(&cause(), &whose, sending, by, None).await {
                Ok(outcome) => {
                    let position = outcome.position;
                    answers.lock().push(Answered::Paused { sending, position });
                }
                Err(PauseError::NotFound(_) | PauseError::PausedByOperator(_)) => {
                    sim.violation(format!("{sending} was accepted and cannot be paused"));
                }
                Err(PauseError::Over(_) | PauseError::Journal(_)) => {}
            }
        });
    }

    pub(super) fn let_go_on(&self, back: u8, by_operator: bool) {
        let Some((whose, sending)) = self.sent_before(back) else { return };
        let sim = self.sim.clone();
        let by = if by_operator { PauseBy::Operator } else { PauseBy::Tenant };
        self.ask("let go on", move |platform| async move {
            match platform.acceptance.resume(&cause(), &whose, sending, by, None).await {
                Ok(outcome) if outcome.paused.is_some() => {
                    sim.violation(format!("{sending} is said to be paused when it was resumed"));
                }
                Err(PauseError::NotFound(_)) => {
                    sim.violation(format!("{sending} was accepted and cannot be resumed"));
                }
                Err(PauseError::PausedByOperator(_)) if by_operator => {
                    sim.violation(format!("an operator may not resume {sending}"));
                }
                Err(PauseError::PausedByOperator(_)) => sim.reach(Situation::ResumeRefused),
                Ok(_) | Err(PauseError::Over(_) | PauseError::Journal(_)) => {}
            }
        });
    }

    /// One of the last sendings, counted back from the last.
    fn sent_before(&self, back: u8) -> Option<(TenantId, SendingId)> {
        let sent = self.sent.lock();
        let place = sent.len().checked_sub(1 + usize::from(back))?;
        Some(sent[place].clone())
    }
}

/// As the API does it: under a key it asks first what came of it earlier.
async fn accept(
    acceptance: &Acceptance,
    whose: &TenantId,
    request: SendRequest,
    idempotency: Option<Idempotency>,
) -> Result<Accepted, AcceptError> {
    let cause = cause();
    let key = match idempotency {
        None => acceptance.without_key(whose, request.class).await?,
        Some(idempotency) => match acceptance.earlier(&cause, whose, request.class, idempotency).await? {
            Earlier::Accepted(accepted) => return Ok(accepted),
            Earlier::Nothing(key) => key,
        },
    };
    acceptance.accept(&cause, whose, request, key).await
}

/// For which limit a request was refused, if for one.
fn limited(error: &AcceptError) -> Option<Limited> {
    match error {
        AcceptError::TenantFull { full, .. } => Some(Limited::Full(*full)),
        AcceptError::Backlog { .. } => Some(Limited::Full(Full::Open)),
        AcceptError::TooFast(too_fast) => Some(Limited::TooFast(too_fast.pace)),
        AcceptError::Refused(refusal) if refusal.code == "over_limit" => Some(Limited::Never),
        _ => None,
    }
}

/// Whether a request may be refused so. Whatever else is refused would leave its kind untested, unnoticed.
fn is_refusal_due(error: &AcceptError, send: &SendOrder, is_other_body: bool) -> bool {
    let is_ad = matches!(send.class, Class::Ad | Class::AdOrNothing | Class::NightAd);
    match error {
        AcceptError::InProgress | AcceptError::Busy | AcceptError::Journal(_) => true,
        AcceptError::Backlog { .. } | AcceptError::TenantFull { .. } | AcceptError::TooFast(_) => false,
        AcceptError::KeyReused => is_other_body,
        AcceptError::Refused(refusal) => refusal.code == "night_window" && send.class == Class::AdOrNothing,
        AcceptError::RowsRefused(rows) => {
            let is_short = send.class == Class::Ad && send.lifetime_s > 0;
            rows.iter().all(|row| {
                (is_ad && matches!(row.reason, RowRefusal::OptedOut { .. }))
                    || (is_short && matches!(row.reason, RowRefusal::LifetimeEndsInWindow { .. }))
            })
        }
    }
}

/// Whether a request was refused for where its sender stands.
fn is_for_its_sender(error: &AcceptError) -> bool {
    matches!(error, AcceptError::Refused(refusal) if SENDER_CODES.contains(&refusal.code))
}

fn send_request(send: SendOrder, sim: &Sim) -> SendRequest {
    let ad = |window, night_consent| Some(AdInput { window, night_consent, mark_automatically: true });
    let (class, ad) = match send.class {
        Class::Otp => (MessageClass::Otp, None),
        Class::Notice => (MessageClass::Notice, None),
        Class::Ad => (MessageClass::Ad, ad(WindowAction::Hold, false)),
        Class::AdOrNothing => (MessageClass::Ad, ad(WindowAction::Refuse, false)),
        Class::NightAd => (MessageClass::Ad, ad(WindowAction::Hold, true)),
    };
    let by_email = send.failover.is_some_and(|failover| failover.email);
    let needs_email = by_email || matches!(send.kind, Kind::Email | Kind::Mixed);
    let message_type = match send.kind {
        Kind::Sms | Kind::Mixed => RequestedType::Auto,
        Kind::Lms => RequestedType::Lms,
        Kind::Email => RequestedType::Email,
    };
    let has_subject = send.kind != Kind::Sms || class == MessageClass::Ad;
    SendRequest {
        class,
        message_type,
        max_type: None,
        from_phone: (send.kind != Kind::Email).then(|| PHONE.to_owned()),
        from_email: needs_email.then(|| EMAIL.to_owned()),
        subject: (has_subject && needs_email).then(|| "News".to_owned()),
        text: Some(text_of(send, class == MessageClass::Ad && needs_email)),
        template: None,
        variables: BTreeMap::new(),
        recipients: (0..send.recipients).map(|place| row(send, place, by_email)).collect(),
        scheduled_at: send.scheduled_s.map(|seconds| sim.now() + TimeDelta::seconds(seconds.into())),
        lifetime_s: (send.lifetime_s > 0).then_some(send.lifetime_s),
        failover: send.failover.map(Failover::terms),
        ad,
        strict: false,
        allow_duplicates: false,
        client_reference: None,
        custom: None,
    }
}

/// An advertisement by e-mail has to say how it is refused.
fn text_of(send: SendOrder, is_advertised_by_email: bool) -> String {
    let parcel = format!("Parcel {}", send.body);
    if is_advertised_by_email { format!("{parcel}\nUnsubscribe: https://example.com/u") } else { parcel }
}

fn row(send: SendOrder, place: u16, by_email: bool) -> RecipientRow {
    let recipient = send.first.wrapping_add(place);
    let is_email = send.kind == Kind::Email || (send.kind == Kind::Mixed && place % 3 == 2);
    // In a mixed sending some have an address that their message may not fail over to.
    let has_email = by_email || send.kind == Kind::Mixed;
    let input = RecipientInput {
        row: place.into(),
        to: if is_email { email_of(recipient) } else { number_of(recipient) },
        email: (has_email && !is_email && recipient % 4 != 3).then(|| email_of(recipient)),
        contact: None,
        reference: None,
        variables: BTreeMap::new(),
    };
    input.read(&AcceptLimits::default())
}
