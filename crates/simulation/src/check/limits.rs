//! Limits of tenants and limits over all: no request is refused for a limit that is not reached, and none gets past
//! one.
//!
//! The exact number of a tenant's open messages cannot be known from outside, because the platform may still count
//! what has just ended. So a refusal is compared with the most that the tenant can have (all that it ever asked for),
//! and an acceptance with the least (what was sealed before the request and is still open).

use chrono::{DateTime, TimeDelta, Utc};
use kite_commands::accept::{AcceptLimits, Pace};
use kite_domain::ids::SendingId;
use kite_domain::load::Full;
use kite_domain::sending::{MessageClass, SendingAccepted};
use kite_domain::slug::TenantId;
use kite_domain::tenant::{LimitsInForce, TenantLimits};
use std::collections::BTreeMap;

use super::noted::Noted;
use super::{Checked, Checker};
use crate::operation::{Class, SendOrder};
use crate::setting::{TENANTS, tenant};

/// For this long after its start a process may not know yet what there is.
const COUNTING: TimeDelta = TimeDelta::seconds(20);

/// For which limit a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limited {
    /// The tenant's own, or that of the house.
    Full(Full),
    /// The tenant may never have so much.
    Never,
    /// It comes too fast.
    TooFast(Pace),
}

/// What is allowed, and what was asked for.
#[derive(Debug)]
pub(crate) struct Limits {
    platform: AcceptLimits,
    set: BTreeMap<TenantId, Noted<TenantLimits>>,
    asked: Vec<(SendOrder, DateTime<Utc>)>,
    process_began: DateTime<Utc>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            platform: AcceptLimits::default(),
            set: BTreeMap::new(),
            asked: Vec::new(),
            process_began: DateTime::UNIX_EPOCH,
        }
    }
}

impl Limits {
    pub(crate) fn of(platform: AcceptLimits) -> Self {
        Self { platform, ..Self::default() }
    }

    pub(super) fn set(&mut self, tenant: &TenantId, limits: TenantLimits, at: DateTime<Utc>) {
        self.set.entry(tenant.clone()).or_default().set(limits, at);
    }

    pub(super) fn asked(&mut self, order: SendOrder, at: DateTime<Utc>) {
        self.asked.push((order, at));
    }

    pub(super) fn process_begins(&mut self, at: DateTime<Utc>) {
        self.process_began = at;
    }

    /// Whether that follows from limits which a process that decides now may believe in.
    fn may(&self, whose: &TenantId, at: DateTime<Utc>, is_so: impl Fn(&LimitsInForce) -> bool) -> bool {
        let default = &self.platform.tenant;
        match self.set.get(whose) {
            Some(noted) => noted.may(at, |limits| is_so(&limits.or(default))),
            None => is_so(default),
        }
    }

    /// Whether it is so by every one of them.
    fn must(&self, whose: &TenantId, since: DateTime<Utc>, is_so: impl Fn(&LimitsInForce) -> bool) -> bool {
        let default = &self.platform.tenant;
        match self.set.get(whose) {
            Some(noted) => noted.must(since, |limits| is_so(&limits.or(default))),
            None => is_so(default),
        }
    }

    /// Recipients of all requests that ever came, of some.
    fn recipients(&self, is_counted: impl Fn(&SendOrder) -> bool) -> u64 {
        let counted = self.asked.iter().filter(|(order, _)| is_counted(order));
        counted.map(|(order, _)| u64::from(order.recipients)).sum()
    }

    /// What passwords have for themselves, rounded up.
    fn reserve(&self, most: u64) -> u64 {
        (most * u64::from(self.platform.password_reserve_per_cent)).div_ceil(100)
    }

    /// What a request of this class finds of a bound on open messages.
    fn open_max(&self, most: u64, is_password: bool) -> u64 {
        if is_password { most } else { most - self.reserve(most) }
    }
}

fn is_password(order: &SendOrder) -> bool {
    order.class == Class::Otp
}

impl Checker {
    /// A request was refused for a limit: it is one that may be reached.
    pub(super) fn is_limited(&self, order: &SendOrder, why: Limited, at: DateTime<Utc>) -> Checked {
        let whose = tenant(order.tenant);
        let limits = &self.limits;
        let count = u64::from(order.recipients);
        let all_of_tenant = limits.recipients(|one| one.tenant == order.tenant);
        let is_due = match why {
            Limited::Never => limits.may(&whose, at, |limit| {
                count > limits.open_max(limit.open_messages_max, is_password(order))
                    || (order.scheduled_s.is_some() && count > limit.scheduled_messages_max)
            }),
            Limited::Full(Full::TenantOpen) => limits.may(&whose, at, |limit| {
                all_of_tenant > limits.open_max(limit.open_messages_max, is_password(order))
            }),
            Limited::Full(Full::TenantScheduled) => {
                let scheduled =
                    limits.recipients(|one| one.tenant == order.tenant && one.scheduled_s.is_some());
                limits.may(&whose, at, |limit| scheduled > limit.scheduled_messages_max)
            }
            Limited::Full(Full::Open | Full::Scheduled) => {
                at < limits.process_began + COUNTING + self.held_up || self.is_house_full(order)
            }
            Limited::TooFast(Pace::Requests) => {
                let is_lately = |(one, asked): &&(SendOrder, DateTime<Utc>)| {
                    one.tenant == order.tenant
                        && is_password(one) == is_password(order)
                        && *asked + TimeDelta::seconds(1) >= at
                };
                let lately = limits.asked.iter().filter(is_lately).count();
                // By a clock that is moved a second may be any time.
                at.timestamp_millis() < self.spans_unsure_until_ms
                    || limits.may(&whose, at, |limit| lately >= limit.requests_per_second as usize)
            }
            Limited::TooFast(Pace::Recipients) => false,
        };
        match is_due {
            true => Ok(()),
            false => Err(format!("law 10: {order:?} is refused ({why:?}) although no limit is reached")),
        }
    }

    fn is_house_full(&self, order: &SendOrder) -> bool {
        let limits = &self.limits;
        let most = limits.platform.open_messages_max;
        let is_full = limits.recipients(|_| true) > most - limits.reserve(most);
        if !is_password(order) {
            return is_full;
        }
        let part = (limits.reserve(most) / TENANTS.len() as u64).max(1);
        let own = limits.recipients(|one| one.tenant == order.tenant && is_password(one));
        is_full && own > part
    }

    /// A request was accepted: there was room for it.
    pub(super) fn had_room(
        &self,
        id: SendingId,
        messages: u32,
        asked_at: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Checked {
        // Each process counts for itself, and what the read model of open work has parked counts nowhere.
        if self.is_shared || self.counts_are_parked {
            return Ok(());
        }
        let Ok(sending) = self.sending(id) else { return Ok(()) };
        let Some(terms) = &sending.terms else { return Ok(()) };
        // The answer to a repeat: it was accepted before.
        if sending.sealed_at < asked_at || terms.scheduled_at.is_some_and(|at| at <= now) {
            return Ok(());
        }
        let limits = &self.limits;
        let is_scheduled = terms.scheduled_at.is_some();
        let is_password = terms.class == MessageClass::Otp;
        let open = |is_counted: &dyn Fn(&SendingAccepted) -> bool| {
            let before =
                self.sendings.iter().filter(|(other, one)| **other != id && one.sealed_at < asked_at);
            let counted = before.filter(|(_, one)| one.terms.as_ref().is_some_and(|terms| is_counted(terms)));
            let open = counted.flat_map(|(_, one)| one.messages.values());
            open.filter(|message| message.outcome.is_none()).count() as u64 + u64::from(messages)
        };
        let is_own = |other: &SendingAccepted| other.tenant == terms.tenant;
        let is_past = if is_scheduled {
            let own = open(&|other| is_own(other) && other.scheduled_at.is_some_and(|at| at > now));
            limits.must(&terms.tenant, asked_at, |limit| own > limit.scheduled_messages_max)
        } else {
            let counts = |other: &SendingAccepted| {
                other.scheduled_at.is_none() && (is_password || other.class != MessageClass::Otp)
            };
            let own = open(&|other| is_own(other) && counts(other));
            let all = open(&|other| other.scheduled_at.is_none());
            let most = limits.platform.open_messages_max;
            let is_house_past = all > limits.open_max(most, is_password);
            is_house_past
                || limits.must(&terms.tenant, asked_at, |limit| {
                    own > limits.open_max(limit.open_messages_max, is_password)
                })
        };
        match is_past {
            true => Err(format!("law 10: {id} of {} got past a limit", terms.tenant)),
            false => Ok(()),
        }
    }
}
