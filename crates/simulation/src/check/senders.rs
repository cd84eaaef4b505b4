//! Sender identities by the log: who may send with what, and which tenant has an address.

use chrono::{DateTime, TimeDelta, Utc};
use kite_domain::event::Event;
use kite_domain::sending::SendingAccepted;
use kite_domain::slug::{RelayId, TenantId};
use kite_domain::text::MessageType;
use smol_str::SmolStr;
use std::collections::{BTreeMap, BTreeSet};

use super::Checked;
use super::noted::{Noted, notice};
use crate::operation::{Kind, SendOrder};
use crate::setting::{EMAIL, PHONE_CANONICAL, tenant};

/// How long a request may take at most.
const REQUEST_MAX: TimeDelta = TimeDelta::seconds(30);

/// What was approved.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Leave {
    relays: BTreeSet<RelayId>,
    /// Not from then on; none: for ever.
    until: Option<DateTime<Utc>>,
}

impl Leave {
    fn is_for(&self, relay: Option<&RelayId>, at: DateTime<Utc>) -> bool {
        self.until.is_none_or(|until| at < until) && relay.is_none_or(|relay| self.relays.contains(relay))
    }
}

/// A sender of a tenant.
#[derive(Debug, Default)]
struct Sender {
    leave: Noted<Option<Leave>>,
    is_asked_for: bool,
    /// The end of the approval that is noted as over.
    noted_end: Option<DateTime<Utc>>,
}

/// All senders.
#[derive(Debug, Default)]
pub(super) struct Senders(BTreeMap<(TenantId, SmolStr), Sender>);

impl Senders {
    /// Something was said about a sender.
    pub(super) fn said(&mut self, event: &Event, at: DateTime<Utc>) -> Checked {
        match event {
            Event::SenderRegistered(said) => {
                let leave = Leave { relays: said.relays.iter().cloned().collect(), until: None };
                self.of_mut(&said.tenant, &said.address).leave.set(Some(leave), at);
            }
            Event::SenderRequested(said) => {
                self.of_mut(&said.tenant, &said.terms.address).is_asked_for = true;
            }
            Event::SenderApproved(said) => {
                let (whose, address) = (&said.tenant, &said.terms.address);
                if let Some(other) = self.other_holder(whose, address, at).filter(|_| !said.shared) {
                    return Err(format!("{address} is approved for {whose} and belongs to {other}"));
                }
                if said.expires_at <= at - notice() {
                    return Err(format!("{address} is approved until {}, which is past", said.expires_at));
                }
                let sender = self.of_mut(whose, address);
                if !sender.is_asked_for && sender.leave.now().is_none() {
                    return Err(format!("{address} is approved for {whose}, who did not ask for it"));
                }
                let relays = said.terms.relays.iter().cloned().collect();
                sender.leave.set(Some(Leave { relays, until: Some(said.expires_at) }), at);
                sender.is_asked_for = false;
            }
            Event::SenderRefused(said) => {
                let sender = self.of_mut(&said.tenant, &said.address);
                if !std::mem::take(&mut sender.is_asked_for) {
                    return Err(format!("{} is refused, and nobody asked for it", said.address));
                }
            }
            Event::SenderExpired(said) => {
                let sender = self.of_mut(&said.tenant, &said.address);
                let until = sender.leave.now().as_ref().and_then(|leave| leave.until);
                if until != Some(said.expires_at) || said.expires_at > at || sender.noted_end == until {
                    return Err(format!("the approval of {} is not over, or is noted twice", said.address));
                }
                sender.noted_end = until;
            }
            Event::SenderWithdrawn(said) => {
                let sender = self.of_mut(&said.tenant, &said.address);
                let had_nothing = !sender.is_asked_for && sender.leave.now().is_none();
                if had_nothing {
                    return Err(format!("{} is withdrawn and was nothing", said.address));
                }
                sender.leave.set(None, at);
                sender.is_asked_for = false;
            }
            _ => {}
        }
        Ok(())
    }

    fn of_mut(&mut self, tenant: &TenantId, address: &str) -> &mut Sender {
        self.0.entry((tenant.clone(), address.into())).or_default()
    }

    /// Another tenant that has the address without a doubt.
    fn other_holder(&self, whose: &TenantId, address: &str, at: DateTime<Utc>) -> Option<&TenantId> {
        let mut others = self.0.iter().filter(|((tenant, known), _)| tenant != whose && known == address);
        let has_it =
            |sender: &Sender| sender.leave.now().as_ref().is_some_and(|leave| leave.is_for(None, at));
        others.find(|(_, sender)| has_it(sender)).map(|((tenant, _), _)| tenant)
    }

    fn of(&self, terms: &SendingAccepted, channel: MessageType) -> Option<&Noted<Option<Leave>>> {
        let address = match channel {
            MessageType::Email => terms.from_email.as_ref(),
            _ => terms.from_phone.as_ref(),
        };
        self.0.get(&(terms.tenant.clone(), address?.clone())).map(|sender| &sender.leave)
    }

    /// Whether a process that decides at this time may believe that the sender may be used, through this relay or
    /// through any.
    pub(super) fn may_send(
        &self,
        terms: &SendingAccepted,
        channel: MessageType,
        relay: Option<&RelayId>,
        at: DateTime<Utc>,
    ) -> bool {
        let may =
            |leave: &Option<Leave>| leave.as_ref().is_some_and(|leave| leave.is_for(relay, at - notice()));
        self.of(terms, channel).is_some_and(|leave| leave.may(at, may))
    }

    /// Whether whoever decides at this time must know that it may send through this relay.
    pub(super) fn must_send(
        &self,
        terms: &SendingAccepted,
        channel: MessageType,
        relay: &RelayId,
        at: DateTime<Utc>,
    ) -> bool {
        let may = |leave: &Option<Leave>| leave.as_ref().is_some_and(|leave| leave.is_for(Some(relay), at));
        self.of(terms, channel).is_some_and(|leave| leave.must(at, may))
    }

    /// Whether somebody who decides at this time may believe that the sender may not send at all.
    pub(super) fn may_not_send(
        &self,
        terms: &SendingAccepted,
        channel: MessageType,
        at: DateTime<Utc>,
    ) -> bool {
        let may = |leave: &Option<Leave>| leave.as_ref().is_some_and(|leave| leave.is_for(None, at));
        self.of(terms, channel).is_none_or(|leave| !leave.must(at, may))
    }

    /// A sending is accepted only with senders that were approved a moment before.
    pub(super) fn may_be_accepted(
        &self,
        terms: &SendingAccepted,
        at: DateTime<Utc>,
        held_up: TimeDelta,
    ) -> Checked {
        let asked = at - REQUEST_MAX - held_up;
        let may = |leave: &Option<Leave>| leave.as_ref().is_some_and(|leave| leave.is_for(None, asked));
        for (channel, address) in
            [(MessageType::Sms, &terms.from_phone), (MessageType::Email, &terms.from_email)]
        {
            let is_approved = self.of(terms, channel).is_some_and(|leave| leave.may(asked, may));
            if let Some(address) = address.as_ref().filter(|_| !is_approved) {
                return Err(format!("{} is accepted, and {address} is not approved", terms.sending));
            }
        }
        Ok(())
    }

    /// A request was refused for its sender: one of those that it names may not send, or not when it is to be sent.
    pub(super) fn may_be_refused(
        &self,
        order: &SendOrder,
        asked_at: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Checked {
        let whose = tenant(order.tenant);
        let last = now + TimeDelta::seconds(order.scheduled_s.unwrap_or(0).into());
        let may = |leave: &Option<Leave>| leave.as_ref().is_some_and(|leave| leave.is_for(None, last));
        let is_in_doubt = |address: &str| {
            let sender = self.0.get(&(whose.clone(), address.into()));
            sender.is_none_or(|sender| !sender.leave.must(asked_at, may))
        };
        let needs_email = order.failover.is_some_and(|failover| failover.email)
            || matches!(order.kind, Kind::Email | Kind::Mixed);
        let needs_phone = order.kind != Kind::Email;
        match (needs_phone && is_in_doubt(PHONE_CANONICAL)) || (needs_email && is_in_doubt(EMAIL)) {
            true => Ok(()),
            false => Err(format!("{order:?} is refused for its sender, which is approved")),
        }
    }
}
