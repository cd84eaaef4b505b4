//! What is accepted against what was requested: no row is lost on the way in, and none changes.

use chrono::{DateTime, TimeDelta, Utc};
use kite_domain::policy::FailoverTerms;
use kite_domain::sending::{AdTerms, MessageClass, SendingAccepted, WindowAction};
use kite_domain::text::MessageType;
use smol_str::SmolStr;
use std::ops::RangeInclusive;

use super::ends::{is_bound, may_be_night, morning_after};
use super::noted::notice;
use super::{Checked, Checker, SendingState};
use crate::operation::{Class, Kind, SendOrder};
use crate::setting::{BRAND, EMAIL, PHONE_CANONICAL, email_of, number_of, tenant};

/// How long a request may take at most.
const REQUEST_MAX: TimeDelta = TimeDelta::seconds(30);
const LIFETIME_OTP_S: i64 = 600;
const LIFETIME_OTHER_S: i64 = 86_400;

impl Checker {
    /// The sending in the log is the one that was ordered.
    pub(super) fn is_as_ordered(&self, sending: &SendingState, order: &SendOrder) -> Checked {
        let Some(terms) = &sending.terms else { return Ok(()) };
        let words = |what: &str| Err(format!("law 2: {what} of {} is not as in {order:?}", terms.sending));
        if terms.tenant != tenant(order.tenant) || terms.class != class_of(order.class) {
            return words("whose it is, or the class,");
        }
        if terms.ad != ad_of(order.class) {
            return words("the advertising");
        }
        if !self.is_failover(terms, order) {
            return words("the failover");
        }
        let clocks_off = TimeDelta::milliseconds(2 * self.clocks_off_ms);
        let asked_from = sending.sealed_at - clocks_off - REQUEST_MAX.max(notice()) - self.held_up;
        if !are_times(terms, order, asked_from..=sending.sealed_at + clocks_off) {
            return words("the time");
        }
        if !are_words(terms, order) {
            return words("the text, or the sender,");
        }
        self.are_rows(sending, terms, order)
    }

    /// The order's own terms, or those of some policy of the tenant, or the usual ones.
    fn is_failover(&self, terms: &SendingAccepted, order: &SendOrder) -> bool {
        if let Some(failover) = order.failover {
            return terms.failover == failover.terms();
        }
        let usual = FailoverTerms::default();
        let policies = self.policies.of_tenant(&terms.tenant).map(|defined| &defined.failover);
        let mut known = std::iter::once(&usual).chain(policies);
        // Without an address to send from there is no e-mail to fail over to.
        known.any(|known| {
            let email = known.email && terms.from_email.is_some();
            terms.failover == FailoverTerms { email, ..known.clone() }
        })
    }

    /// Every row is a message, in its order, or was refused for its recipient.
    fn are_rows(&self, sending: &SendingState, terms: &SendingAccepted, order: &SendOrder) -> Checked {
        if terms.messages + terms.refused != u32::from(order.recipients) {
            return Err(format!(
                "law 2: of {} rows {} are messages and {} refused",
                order.recipients, terms.messages, terms.refused
            ));
        }
        let mut recipients = sending.recipients.iter().peekable();
        for place in 0..order.recipients {
            let (to, email) = row(order, place);
            let next = recipients.next_if(|(_, recipient)| recipient.to == to && recipient.email == email);
            let Some((seq, _)) = next else {
                let mut addresses = std::iter::once(&to).chain(&email);
                let refuses = terms.class == MessageClass::Ad
                    && addresses.any(|address| self.people.ever_refused(&terms.tenant, address));
                if refuses || ends_before_morning(sending, terms, &to) {
                    continue;
                }
                return Err(format!("law 2: {to} of {} is no message", terms.sending));
            };
            let channel = sending.messages.get(seq).map(|message| message.channel);
            if !channel.is_some_and(|channel| is_channel(channel, order, &to)) {
                return Err(format!("{to} of {} goes as {channel:?}", terms.sending));
            }
        }
        match recipients.next() {
            Some((seq, recipient)) => Err(format!("law 2: nobody ordered message {seq} to {}", recipient.to)),
            None => Ok(()),
        }
    }
}

/// Whether a text message would be held for the night, and would not live to see the morning.
fn ends_before_morning(sending: &SendingState, terms: &SendingAccepted, to: &str) -> bool {
    let start = terms.scheduled_at.unwrap_or(sending.sealed_at);
    let is_held = terms.ad.as_ref().is_some_and(|ad| ad.window == WindowAction::Hold)
        && !to.contains('@')
        && is_bound(terms, MessageType::Sms)
        && may_be_night(start);
    is_held && terms.expires_at <= morning_after(start - notice())
}

fn class_of(class: Class) -> MessageClass {
    match class {
        Class::Otp => MessageClass::Otp,
        Class::Notice => MessageClass::Notice,
        Class::Ad | Class::AdOrNothing | Class::NightAd => MessageClass::Ad,
    }
}

fn ad_of(class: Class) -> Option<AdTerms> {
    let terms = |window, night_consent| Some(AdTerms { window, night_consent, brands: vec![BRAND.into()] });
    match class {
        Class::Otp | Class::Notice => None,
        Class::Ad => terms(WindowAction::Hold, false),
        Class::AdOrNothing => terms(WindowAction::Refuse, false),
        Class::NightAd => terms(WindowAction::Hold, true),
    }
}

/// `asked` is when the request can have come.
fn are_times(terms: &SendingAccepted, order: &SendOrder, asked: RangeInclusive<DateTime<Utc>>) -> bool {
    if terms.scheduled_at.is_some() != order.scheduled_s.is_some() {
        return false;
    }
    let lifetime_s = match (order.lifetime_s, order.class) {
        (0, Class::Otp) => LIFETIME_OTP_S,
        (0, _) => LIFETIME_OTHER_S,
        (lifetime_s, _) => lifetime_s.into(),
    };
    let start = terms.expires_at - TimeDelta::seconds(lifetime_s);
    match terms.scheduled_at {
        Some(scheduled_at) => start == scheduled_at,
        None => asked.contains(&start),
    }
}

fn are_words(terms: &SendingAccepted, order: &SendOrder) -> bool {
    let phone = (order.kind != Kind::Email).then_some(PHONE_CANONICAL);
    let needs_email = fails_over_to_email(order) || matches!(order.kind, Kind::Email | Kind::Mixed);
    terms.from_phone.as_deref() == phone
        && terms.from_email.as_deref() == needs_email.then_some(EMAIL)
        && terms.personal.text.contains(&format!("Parcel {}", order.body))
}

fn fails_over_to_email(order: &SendOrder) -> bool {
    order.failover.is_some_and(|failover| failover.email)
}

/// To whom a row goes, and which e-mail address it may fail over to.
fn row(order: &SendOrder, place: u16) -> (SmolStr, Option<SmolStr>) {
    let recipient = order.first.wrapping_add(place);
    if order.kind == Kind::Email || (order.kind == Kind::Mixed && place % 3 == 2) {
        return (email_of(recipient), None);
    }
    let has_email = (fails_over_to_email(order) || order.kind == Kind::Mixed) && recipient % 4 != 3;
    (number_of(recipient), has_email.then(|| email_of(recipient)))
}

fn is_channel(channel: MessageType, order: &SendOrder, to: &str) -> bool {
    match (order.kind, to.contains('@')) {
        (_, true) => channel == MessageType::Email,
        (Kind::Lms, false) => channel == MessageType::Lms,
        (_, false) => matches!(channel, MessageType::Sms | MessageType::Lms),
    }
}
