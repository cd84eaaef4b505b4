//! Requests of tenants, operators and relays: each a future beside the workers, gone when the process dies.

use chrono::TimeDelta;
use kite_commands::Cause;
use kite_commands::accept::{
    AcceptError, AcceptLimits, Acceptance, Accepted, AdInput, CancelError, Earlier, Idempotency, PauseError,
    RecipientInput, RecipientRow, RowRefusal, SendRequest,
};
use kite_commands::journal::Entry;
use kite_commands::manage::{ManageError, ManageRefusal, NewOptOut};
use kite_domain::contact::ContactDetails;
use kite_domain::ids::{ContactId, SendingId};
use kite_domain::load::Full;
use kite_domain::policy::{PolicyObjective, RelayWeight, WEIGHT_SUM};
use kite_domain::receipt::RawReceipt;
use kite_domain::sender::{Approval, SenderKind, SenderRefusal, SenderRegistered, SenderTerms};
use kite_domain::sending::{MessageClass, PauseBy, WindowAction};
use kite_domain::slug::{RelayId, TenantId};
use kite_domain::tenant::TenantLimits;
use kite_domain::text::{Channel, RequestedType};
use kite_event_store::Expected;
use smol_str::format_smolstr;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use uuid::Uuid;

use super::World;
use crate::check::{Answered, Checked, Limited};
use crate::executor::Sim;
use crate::operation::{Class, Failover, Kind, Objective, Operation, PolicyChannel, SendOrder, SenderStep};
use crate::platform::Platform;
use crate::reach::Situation;
use crate::relays::{Action, SimRelay};
use crate::setting::{
    self, BRAND, EMAIL, PHONE, PHONE_CANONICAL, RELAYS, TENANTS, email_of, number_of, relay, tenant,
};

/// How long a relay waits before it pushes receipts again that were not taken.
const PUSH_AGAIN_MS: i64 = 10_000;
/// Longer than any simulation.
const FOR_LONG_S: u32 = 300_000_000;
/// With what a sending is refused whose sender may not send.
const SENDER_CODES: [&str; 5] =
    ["sender_not_requested", "sender_requested", "sender_refused", "sender_expired", "sender_withdrawn"];

fn cause() -> Cause {
    Cause::new("key:simulation", Uuid::nil())
}

impl World {
    /// A request, as soon as there is a process.
    pub(super) fn ask<F: Future<Output = ()> + Send + 'static>(
        &self,
        name: &str,
        request: impl FnOnce(Platform) -> F + Send + 'static,
    ) {
        let node = self.any_node();
        let (slot, sim) = (self.nodes[node].slot.clone(), self.sim.clone());
        self.sim.spawn(node, name, async move {
            let _under_way = sim.begin();
            let platform = loop {
                let found = slot.lock().clone();
                match found {
                    Some(platform) => break platform,
                    None => sim.sleep_ms(5).await,
                }
            };
            request(platform).await;
        });
    }

    /// Tenants, relays and senders: without faults, and all of it before anything else.
    pub(super) fn set_up(&mut self) -> Checked {
        let profiles: Vec<_> =
            self.relays.relays.values().map(|relay| relay.id.clone()).enumerate().collect();
        let traits: BTreeMap<_, _> =
            self.relays.relays.values().map(|relay| (relay.id.clone(), relay.traits)).collect();
        let sim = self.sim.clone();
        self.ask("set-up", move |platform| async move {
            for (_, id) in profiles {
                let index = RELAYS.iter().position(|name| *name == id.as_str()).unwrap_or(0);
                told(
                    &sim,
                    platform.manage.define_relay(&cause(), setting::profile(index, traits[&id])).await,
                );
            }
            for index in 0..TENANTS.len() as u8 {
                let name = tenant(index).to_string();
                told(&sim, platform.manage.create_tenant(&cause(), tenant(index), name).await);
                // As from before there were approvals: both tenants have the same ones, without an end.
                for is_email in [false, true] {
                    let entry = registered(index, sender(is_email, u8::MAX));
                    told(&sim, platform.journal.append_one(entry).await);
                }
            }
        });
        while self.tick()? {}
        Ok(())
    }

    pub(super) fn request(&mut self, op: &Operation) {
        match *op {
            Operation::Send(send) => self.send(send),
            Operation::Cancel { back } => self.cancel(back),
            Operation::Pause { back, by_operator } => self.pause(back, by_operator),
            Operation::LetGoOn { back, by_operator } => self.let_go_on(back, by_operator),
            Operation::Limits { tenant: whose, open, scheduled, requests } => {
                let sim = self.sim.clone();
                let limits = TenantLimits {
                    open_messages_max: (open > 0).then_some(open.into()),
                    scheduled_messages_max: (scheduled > 0).then_some(scheduled.into()),
                    requests_per_second: (requests > 0).then_some(requests.into()),
                    ..TenantLimits::default()
                };
                self.ask("limits", move |platform| async move {
                    let set = platform.manage.set_tenant_limits(&cause(), &tenant(whose), limits).await;
                    carried_out(&sim, set);
                });
            }
            Operation::Policy { tenant: whose, channel, objective, failover } => {
                let channel = channel_of(channel);
                let objective = objective_of(channel, objective);
                let sim = self.sim.clone();
                self.ask("policy", move |platform| async move {
                    let whose = tenant(whose);
                    let terms = failover.terms();
                    let defined =
                        platform.manage.define_policy(&cause(), &whose, channel, objective, terms).await;
                    carried_out(&sim, defined);
                });
            }
            Operation::Suspend(index) => {
                let sim = self.sim.clone();
                self.ask("suspend", move |platform| async move {
                    let reason = "simulated".to_owned();
                    carried_out(&sim, platform.manage.suspend_relay(&cause(), &relay(index), reason).await);
                });
            }
            Operation::Resume(index) => {
                let sim = self.sim.clone();
                self.ask("resume", move |platform| async move {
                    carried_out(&sim, platform.manage.resume_relay(&cause(), &relay(index)).await);
                });
            }
            Operation::Redefine { relay: index, price_milliwon, rate, calls_at_once, batch } => {
                let mut profile =
                    setting::profile(usize::from(index) % RELAYS.len(), self.relay(index).traits);
                profile.channels.values_mut().for_each(|terms| terms.price_milliwon = price_milliwon.into());
                profile.rate_parts_per_second = (rate > 0).then_some(rate.into());
                profile.calls_in_flight_max = calls_at_once.max(1).into();
                profile.batch_max = batch.max(1).into();
                let sim = self.sim.clone();
                self.ask("redefine", move |platform| async move {
                    carried_out(&sim, platform.manage.define_relay(&cause(), profile).await);
                });
            }
            Operation::Unusable { relay: index, is_unusable } => {
                let mut profile =
                    setting::profile(usize::from(index) % RELAYS.len(), self.relay(index).traits);
                let key = if is_unusable { "k\n" } else { "k" };
                profile.credentials.api_key = Some(key.to_owned());
                let sim = self.sim.clone();
                self.ask("unusable", move |platform| async move {
                    carried_out(&sim, platform.manage.define_relay(&cause(), profile).await);
                });
            }
            Operation::Register { tenant: whose, relays } => {
                let sim = self.sim.clone();
                self.ask("register", move |platform| async move {
                    let (whose, wanted) = (tenant(whose), sender(false, relays));
                    let manage = &platform.manage;
                    answered(&sim, manage.request_sender(&cause(), &whose, wanted).await);
                    let approval = approval(&sim, FOR_LONG_S, relays, true);
                    answered(&sim, manage.approve_sender(&cause(), &whose, PHONE_CANONICAL, approval).await);
                })
            }
            Operation::Sender { tenant: whose, is_email, step } => self.sender(tenant(whose), is_email, step),
            Operation::OptOut { tenant: whose, recipient, is_email } => {
                let address = if is_email { email_of(recipient) } else { number_of(recipient) }.to_string();
                let answers = self.answers.clone();
                self.ask("opt-out", move |platform| async move {
                    let whose = tenant(whose);
                    let refusal = NewOptOut::of(address.clone(), "080");
                    if platform.manage.record_opt_out(&cause(), &whose, refusal).await.is_ok() {
                        answers.lock().push(Answered::Refuses { tenant: whose, address });
                    }
                });
            }
            Operation::OptIn { tenant: whose, recipient } => self.ask("opt-in", move |platform| async move {
                let (whose, address) = (tenant(whose), number_of(recipient));
                let _ = platform.manage.withdraw_opt_out(&cause(), &whose, &address, None).await;
            }),
            Operation::Contacts { tenant: whose, first, count } => {
                self.ask("contacts", move |platform| async move {
                    let contacts: Vec<ContactDetails> =
                        (0..u16::from(count)).map(|place| contact(first.wrapping_add(place))).collect();
                    let last = contacts.last().map(|contact| contact.contact);
                    let whose = tenant(whose);
                    let _ = platform.address_book.save_contacts(&cause(), &whose, None, contacts).await;
                    if let Some(last) = last {
                        let _ = platform.address_book.delete_contact(&cause(), &whose, last).await;
                    }
                });
            }
            _ => {}
        }
    }

    fn sender(&self, whose: TenantId, is_email: bool, step: SenderStep) {
        let sim = self.sim.clone();
        self.ask("sender", move |platform| async move {
            let manage = &platform.manage;
            let address = address_of(is_email);
            let done = match step {
                SenderStep::Ask => manage.request_sender(&cause(), &whose, sender(is_email, u8::MAX)).await,
                SenderStep::Approve { seconds, shared } => {
                    let approval = approval(&sim, seconds, u8::MAX, shared);
                    manage.approve_sender(&cause(), &whose, address, approval).await
                }
                SenderStep::Refuse => {
                    manage.refuse_sender(&cause(), &whose, address, "no".to_owned(), None).await
                }
                SenderStep::Withdraw => manage.withdraw_sender(&cause(), &whose, address, None).await,
            };
            answered(&sim, done);
        });
    }

    fn send(&self, send: SendOrder) {
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

    fn cancel(&self, back: u8) {
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

    fn pause(&self, back: u8, by_operator: bool) {
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

    fn let_go_on(&self, back: u8, by_operator: bool) {
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

    /// A relay pushes receipts. What is not taken comes again.
    pub(super) fn push(&self, relay: &Arc<SimRelay>, receipts: Vec<RawReceipt>) {
        let mut again = Again { relay: relay.clone(), receipts: Some(receipts), sim: self.sim.clone() };
        if self.is_down {
            return;
        }
        let answers = self.answers.clone();
        self.ask("push", move |platform| async move {
            let receipts = again.receipts.clone().unwrap_or_default();
            let id = again.relay.id.clone();
            if platform.receipts.record(&id, receipts.clone()).await.is_ok() {
                again.is_taken();
                answers.lock().push(Answered::Receipts { relay: id, receipts });
            }
        });
    }
}

/// Receipts on their way to us. Dropped before they are taken, they come again.
struct Again {
    relay: Arc<SimRelay>,
    receipts: Option<Vec<RawReceipt>>,
    sim: Arc<Sim>,
}

impl Again {
    fn is_taken(&mut self) {
        self.receipts = None;
    }
}

impl Drop for Again {
    fn drop(&mut self) {
        if let Some(receipts) = self.receipts.take() {
            self.relay.act_at(self.sim.now_ms() + PUSH_AGAIN_MS, Action::Report(receipts));
        }
    }
}

fn told<T, E: std::fmt::Display>(sim: &Sim, result: Result<T, E>) {
    if let Err(error) = result {
        sim.violation(format!("the set-up failed: {error}"));
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
        None => None,
        Some(idempotency) => match acceptance.earlier(&cause, whose, request.class, idempotency).await? {
            Earlier::Accepted(accepted) => return Ok(accepted),
            Earlier::Nothing(key) => Some(key),
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

/// An operator may be too late, or not know that another tenant has the address. That he was told so rightly is checked by
/// what he is not told.
fn answered<T>(sim: &Sim, result: Result<T, ManageError>) {
    match result {
        Err(ManageError::Refused(ManageRefusal::Sender(SenderRefusal::TakenBy(_)))) => {
            sim.reach(Situation::AddressTaken);
        }
        Err(ManageError::Refused(ManageRefusal::Sender(
            SenderRefusal::NothingAsked(_) | SenderRefusal::EndIsPast(_),
        ))) => {}
        other => carried_out(sim, other),
    }
}

/// What an operator asks for may fail only because the log does.
fn carried_out<T>(sim: &Sim, result: Result<T, ManageError>) {
    if let Err(ManageError::Refused(refusal)) = result {
        sim.violation(format!("an operator is refused: {refusal}"));
    }
}

fn address_of(is_email: bool) -> &'static str {
    if is_email { EMAIL } else { PHONE_CANONICAL }
}

fn relays_of(bits: u8) -> Vec<RelayId> {
    (0..RELAYS.len() as u8).filter(|index| bits & (1 << index) != 0).map(relay).collect()
}

fn sender(is_email: bool, relays: u8) -> SenderTerms {
    SenderTerms {
        address: address_of(is_email).into(),
        kind: if is_email { SenderKind::Email } else { SenderKind::Phone },
        brand: Some(BRAND.to_owned()),
        refusal_number: Some("0801234567".into()),
        relays: relays_of(relays),
    }
}

fn approval(sim: &Sim, seconds: u32, relays: u8, shared: bool) -> Approval {
    let expires_at = sim.now() + TimeDelta::seconds(seconds.into());
    Approval {
        document: "simulated".to_owned(),
        expires_at,
        relays: relays_of(relays),
        shared,
        requested_at: None,
    }
}

/// As senders were once registered, in the stream that they once had.
fn registered(index: u8, terms: SenderTerms) -> Entry {
    let SenderTerms { address, kind, brand, refusal_number, relays } = terms;
    let whose = tenant(index);
    let stream = format_smolstr!("sender-{whose}-{address}");
    let event = SenderRegistered { tenant: whose.clone(), address, kind, brand, refusal_number, relays };
    Entry {
        stream,
        expected: Expected::Version(0),
        tenant: Some(whose),
        cause: cause(),
        events: vec![event.into()],
    }
}

fn contact(recipient: u16) -> ContactDetails {
    ContactDetails {
        contact: ContactId(Uuid::from_u128(
            0x0197_c0de_0000_7000_8000_0000_0000_0000 + u128::from(recipient),
        )),
        name: format!("recipient {recipient}"),
        phone: Some(number_of(recipient)),
        email: recipient.is_multiple_of(2).then(|| email_of(recipient)),
        tags: Vec::new(),
        fields: BTreeMap::new(),
    }
}

fn channel_of(channel: PolicyChannel) -> Channel {
    match channel {
        PolicyChannel::Sms => Channel::Sms,
        PolicyChannel::Lms => Channel::Lms,
        PolicyChannel::Email => Channel::Email,
    }
}

fn objective_of(channel: Channel, objective: Objective) -> PolicyObjective {
    let (first, second) = match objective {
        Objective::Ratio(first, second) => (u32::from(first), u32::from(second)),
        Objective::Price => return PolicyObjective::Price,
        Objective::Speed => return PolicyObjective::Speed,
        Objective::Recommended => return PolicyObjective::Recommended,
    };
    let first = first.min(WEIGHT_SUM);
    let weight = |index, weight| RelayWeight { relay: relay(index), weight };
    if channel == Channel::Email {
        return PolicyObjective::Ratio { weights: vec![weight(3, first), weight(4, WEIGHT_SUM - first)] };
    }
    let second = second.min(WEIGHT_SUM - first);
    let third = WEIGHT_SUM - first - second;
    PolicyObjective::Ratio { weights: vec![weight(0, first), weight(1, second), weight(2, third)] }
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
