//! Requests of tenants, operators and relays: each a future beside the workers, gone when the process dies. Those to send are in
//! `sends.rs`.

use chrono::TimeDelta;
use kite_commands::Cause;
use kite_commands::journal::Entry;
use kite_commands::manage::{ManageError, ManageRefusal, NewOptOut};
use kite_domain::contact::ContactDetails;
use kite_domain::ids::ContactId;
use kite_domain::policy::{PolicyObjective, RelayWeight, WEIGHT_SUM};
use kite_domain::receipt::RawReceipt;
use kite_domain::sender::{Approval, SenderKind, SenderRefusal, SenderRegistered, SenderTerms};
use kite_domain::slug::{RelayId, TenantId};
use kite_domain::tenant::TenantLimits;
use kite_domain::text::Channel;
use kite_event_store::Expected;
use smol_str::format_smolstr;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use uuid::Uuid;

use super::World;
use crate::check::{Answered, Checked};
use crate::executor::Sim;
use crate::operation::{Objective, Operation, PolicyChannel, SenderStep};
use crate::platform::Platform;
use crate::reach::Situation;
use crate::relays::{Action, SimRelay};
use crate::setting::{
    self, BRAND, EMAIL, PHONE_CANONICAL, RELAYS, TENANTS, email_of, number_of, relay, tenant,
};

/// How long a relay waits before it pushes receipts again that were not taken.
const PUSH_AGAIN_MS: i64 = 10_000;
/// Longer than any simulation.
const FOR_LONG_S: u32 = 300_000_000;

pub(super) fn cause() -> Cause {
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

pub(super) fn told<T, E: std::fmt::Display>(sim: &Sim, result: Result<T, E>) {
    if let Err(error) = result {
        sim.violation(format!("the set-up failed: {error}"));
    }
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
