//! What applies to all messages of a request: sender, text, advertising rules, times. Checked before any row.

use chrono::{DateTime, Utc};
use kite_domain::address::{EmailAddress, SenderNumber};
use kite_domain::advertisement::{AdvertisementRules, Advertiser, RefusalNumber};
use kite_domain::policy::FailoverTerms;
use kite_domain::sender::{SenderIdentity, SenderStatus, SenderTerms};
use kite_domain::sending::{AdTerms, MessageClass, SendingContent, WindowAction};
use kite_domain::slug::{RelayId, TenantId};
use kite_domain::text::{Channel, RequestedType, Template, VARIABLES_MAX, normalise};
use kite_domain::time_window::NightWindow;
use smol_str::SmolStr;
use std::collections::BTreeMap;

use super::bounds;
use super::limits::AcceptLimits;
use super::request::{AcceptError, AdInput, RequestRefusal, SendRequest};
use crate::directory::DirectoryState;

/// Lifetimes of the classes, in seconds: a late one-time password is worse than none.
const LIFETIME_OTP_S: u32 = 600;
const LIFETIME_OTHER_S: u32 = 24 * 3_600;
const LIFETIME_MAX_S: u32 = 7 * 24 * 3_600;

/// The checked terms of a request.
pub(super) struct CheckedTerms {
    pub(super) from_phone: Option<SmolStr>,
    pub(super) from_email: Option<SmolStr>,
    /// The relays that each of the two may send through.
    pub(super) phone_relays: Vec<RelayId>,
    pub(super) email_relays: Vec<RelayId>,
    pub(super) content: SendingContent,
    pub(super) text: Template,
    pub(super) subject: Option<Template>,
    pub(super) expires_at: DateTime<Utc>,
    pub(super) failover: FailoverTerms,
    pub(super) ad: Option<AdTerms>,
    /// When messages that are held for the night would be sent at the earliest; none: nothing would be held now.
    pub(super) held_until: Option<DateTime<Utc>>,
}

fn refuse<T>(field: &'static str, code: &'static str, detail: impl ToString) -> Result<T, RequestRefusal> {
    Err(RequestRefusal { field, code, detail: detail.to_string() })
}

pub(super) fn check(
    tenant: &TenantId,
    request: &SendRequest,
    directory: &DirectoryState,
    limits: &AcceptLimits,
    now: DateTime<Utc>,
) -> Result<CheckedTerms, AcceptError> {
    check_recipients(request, limits)?;
    bounds::check_own_data(request, limits)?;
    if request.variables.len() > VARIABLES_MAX {
        let count = request.variables.len();
        let detail = format!("{count} variables; at most {VARIABLES_MAX} are allowed");
        refuse("variables", "too_many_variables", detail)?;
    }
    if let Some(Err(wrong)) = request.failover.as_ref().map(FailoverTerms::check) {
        refuse("failover", "out_of_range", format!("{}: {}", wrong.field, wrong.detail))?;
    }
    let approved = Approved { tenant, directory, now, start: request.scheduled_at.unwrap_or(now).max(now) };
    let phone = approved.phone(request)?;
    let email = approved.email(request)?;
    if phone.is_none() && email.is_none() {
        refuse(
            "from",
            "sender_missing",
            "a sender is needed: `from` for sms and lms, `from_email` for e-mail",
        )?;
    }
    let mut failover = failover(tenant, request, directory);
    if failover.email && email.is_none() {
        if request.failover.is_some() {
            refuse("from_email", "sender_missing", "failing over to e-mail needs a sending e-mail address")?;
        }
        // The policy would allow it; this request gives no address to send from.
        failover.email = false;
    }
    let (subject, text) = content(tenant, request, directory)?;
    let (subject, text, ad) = match request.class {
        MessageClass::Ad => {
            let brands = approved.brands(phone.into_iter().chain(email));
            advertisement(request, subject, text, (phone, email), brands, (limits.night, now))?
        }
        MessageClass::Otp | MessageClass::Notice if request.ad.is_some() => {
            refuse("ad", "not_an_ad", "advertising terms are only for the class `ad`")?
        }
        MessageClass::Otp | MessageClass::Notice => (subject, text, None),
    };
    let expires_at = times(request, limits, now)?;
    let held_until = held_until(request, phone, limits.night, now);
    let text_template = template("text", &text)?;
    let subject_template = subject.as_deref().map(|subject| template("subject", subject)).transpose()?;
    let variables = needed_variables(&text_template, subject_template.as_ref(), &request.variables);
    let content = SendingContent { subject, text, variables };
    bounds::check_content(&content)?;
    Ok(CheckedTerms {
        from_phone: phone.map(|sender| sender.address.clone()),
        from_email: email.map(|sender| sender.address.clone()),
        phone_relays: phone.map(|sender| sender.relays.clone()).unwrap_or_default(),
        email_relays: email.map(|sender| sender.relays.clone()).unwrap_or_default(),
        content,
        text: text_template,
        subject: subject_template,
        expires_at,
        failover,
        ad,
        held_until,
    })
}

/// Until when text messages of this advertisement wait, if they would be handed over as soon as they may.
fn held_until(
    request: &SendRequest,
    phone: Option<&SenderTerms>,
    night: NightWindow,
    now: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    let input = request.ad.unwrap_or_default();
    let is_bound = request.class == MessageClass::Ad
        && is_bound_to_the_day(request, input, phone)
        && input.window == WindowAction::Hold;
    let start = request.scheduled_at.unwrap_or(now);
    (is_bound && night.contains(start)).then(|| night.next_open(start))
}

/// Whether the night window counts for any of the rows: none of them is a text message if e-mail was asked for.
fn is_bound_to_the_day(request: &SendRequest, input: AdInput, phone: Option<&SenderTerms>) -> bool {
    phone.is_some() && request.message_type != RequestedType::Email && !input.night_consent
}

/// The values that the text or the subject uses: nothing else is stored.
pub(super) fn needed_variables(
    text: &Template,
    subject: Option<&Template>,
    values: &BTreeMap<SmolStr, String>,
) -> BTreeMap<SmolStr, String> {
    let is_needed =
        |name: &SmolStr| text.asks_for(name) || subject.is_some_and(|subject| subject.asks_for(name));
    let needed = values.iter().filter(|(name, _)| is_needed(name));
    needed.map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn check_recipients(request: &SendRequest, limits: &AcceptLimits) -> Result<(), RequestRefusal> {
    match request.recipients.len() {
        0 => refuse("recipients", "recipients_missing", "there is no recipient"),
        count if count > limits.recipients_max => refuse(
            "recipients",
            "too_many_recipients",
            format_args!("{count} recipients; at most {} are taken in one request", limits.recipients_max),
        ),
        _ => Ok(()),
    }
}

/// Who may send what a tenant asks for.
struct Approved<'d> {
    tenant: &'d TenantId,
    directory: &'d DirectoryState,
    now: DateTime<Utc>,
    /// When it is to be sent, at the earliest.
    start: DateTime<Utc>,
}

impl<'d> Approved<'d> {
    fn phone(&self, request: &SendRequest) -> Result<Option<&'d SenderTerms>, RequestRefusal> {
        let Some(raw) = &request.from_phone else { return Ok(None) };
        match SenderNumber::parse(raw) {
            Ok(number) => self.sender("from", number.as_str()).map(Some),
            Err(error) => refuse("from", error.code(), &error),
        }
    }

    fn email(&self, request: &SendRequest) -> Result<Option<&'d SenderTerms>, RequestRefusal> {
        let Some(raw) = &request.from_email else { return Ok(None) };
        match EmailAddress::parse(raw) {
            Ok(address) => self.sender("from_email", address.as_str()).map(Some),
            Err(error) => refuse("from_email", error.code(), &error),
        }
    }

    /// 발신번호 사전등록제: only an approved sender of the tenant may be used, now and at the time of the sending. Returns the
    /// brands of these senders, and those that they had before, each once; none if one of them has no brand.
    fn brands<'s>(&self, senders: impl Iterator<Item = &'s SenderTerms>) -> Vec<SmolStr> {
        let mut brands: Vec<SmolStr> = Vec::new();
        for sender in senders {
            let brand = sender.brand.as_deref().filter(|brand| !brand.trim().is_empty());
            let Some(brand) = brand else { return Vec::new() };
            let identity = self.directory.senders.identity(self.tenant, &sender.address);
            let past = identity.map_or(&[][..], |identity| &identity.past_brands).iter().map(String::as_str);
            for brand in std::iter::once(brand).chain(past) {
                if brands.iter().all(|known| known != brand) {
                    brands.push(brand.into());
                }
            }
        }
        brands
    }

    fn sender(&self, field: &'static str, address: &str) -> Result<&'d SenderTerms, RequestRefusal> {
        let Some(identity) = self.directory.senders.identity(self.tenant, address) else {
            let detail =
                format!("nobody has asked for {address} as a sender: ask for it, and wait for the approval");
            return refuse(field, SenderStatus::UNKNOWN, detail);
        };
        let terms = identity.sends_with(self.now);
        let terms = terms.map_err(|status| unapproved(field, address, status, identity))?;
        match identity.sends_with(self.start) {
            Ok(_) => Ok(terms),
            Err(status) => Err(unapproved(field, address, status, identity)),
        }
    }
}

/// The status of the sender, and what can be done about it.
fn unapproved(
    field: &'static str,
    address: &str,
    status: SenderStatus,
    identity: &SenderIdentity,
) -> RequestRefusal {
    let reason = identity.ended.as_ref().and_then(|end| end.reason.as_deref());
    let because = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    let detail = match status {
        SenderStatus::Requested => format!("{address} waits for the operator's approval"),
        SenderStatus::Refused => format!("{address} was refused by the operator{because}"),
        SenderStatus::Withdrawn => format!("{address} was withdrawn{because}"),
        SenderStatus::Approved | SenderStatus::Expired => {
            let end = identity.approval.as_ref().and_then(|approval| approval.expires_at);
            format!(
                "the approval of {address} ends at {}",
                end.map(|end| end.to_rfc3339()).unwrap_or_default()
            )
        }
    };
    RequestRefusal { field, code: status.code(), detail }
}

/// The request's own terms, or those of the policy for the most likely channel.
fn failover(tenant: &TenantId, request: &SendRequest, directory: &DirectoryState) -> FailoverTerms {
    let channel = match request.message_type {
        RequestedType::Lms => Channel::Lms,
        RequestedType::Email => Channel::Email,
        RequestedType::Auto | RequestedType::Sms | RequestedType::Mms | RequestedType::Alimtalk => {
            Channel::Sms
        }
    };
    let policy = directory.policies.get(&(tenant.clone(), channel));
    request
        .failover
        .clone()
        .or_else(|| policy.map(|policy| policy.defined.failover.clone()))
        .unwrap_or_default()
}

fn content(
    tenant: &TenantId,
    request: &SendRequest,
    directory: &DirectoryState,
) -> Result<(Option<String>, String), RequestRefusal> {
    let (subject, text) = match (&request.text, request.template) {
        (Some(_), Some(_)) => refuse("template", "text_and_template", "give a text or a template, not both")?,
        (None, None) => refuse("text", "text_missing", "there is no text and no template")?,
        (Some(text), None) => (request.subject.clone(), text.clone()),
        (None, Some(template)) => match directory.templates.get(&(tenant.clone(), template)) {
            Some(saved) => (request.subject.clone().or_else(|| saved.subject.clone()), saved.text.clone()),
            None => refuse("template", "template_unknown", format_args!("there is no template {template}"))?,
        },
    };
    if text.trim().is_empty() {
        // Before an advertisement is marked: the marking is not what is to be said.
        refuse("text", "text_empty", "the text is empty")?;
    }
    let subject =
        subject.map(|subject| normalise(&subject).into_owned()).filter(|subject| !subject.trim().is_empty());
    Ok((subject, normalise(&text).into_owned()))
}

type Advertisement = (Option<String>, String, Option<AdTerms>);

fn advertisement(
    request: &SendRequest,
    subject: Option<String>,
    text: String,
    (phone, email): (Option<&SenderTerms>, Option<&SenderTerms>),
    brands: Vec<SmolStr>,
    (night, now): (NightWindow, DateTime<Utc>),
) -> Result<Advertisement, RequestRefusal> {
    let input = request.ad.unwrap_or_default();
    let rules = AdvertisementRules::default();
    let (mut subject, mut text) = (subject, text);
    if let Some(sender) = phone {
        let advertiser = advertiser(sender)?;
        if input.mark_automatically {
            text = match rules.mark(&text, &advertiser) {
                Ok(marked) => marked.into_owned(),
                Err(violation) => refuse("text", violation.code(), &violation)?,
            };
        } else if let Err(violation) = rules.check(&text, &advertiser) {
            refuse("text", violation.code(), &violation)?;
        }
    }
    if email.is_some() {
        if input.mark_automatically
            && let Some(unmarked) = &subject
        {
            subject = match rules.mark_email_subject(unmarked) {
                Ok(marked) => Some(marked.into_owned()),
                Err(violation) => refuse("subject", violation.code(), &violation)?,
            };
        }
        if let Err(violation) = rules.check_email(subject.as_deref(), &text) {
            refuse("subject", violation.code(), &violation)?;
        }
    }
    let is_night = night.contains(request.scheduled_at.unwrap_or(now));
    if is_night && is_bound_to_the_day(request, input, phone) && input.window == WindowAction::Refuse {
        let detail = format!("advertisements may not go out in the window {night} (Asia/Seoul)");
        refuse("ad", "night_window", detail)?;
    }
    Ok((subject, text, Some(AdTerms { window: input.window, night_consent: input.night_consent, brands })))
}

fn advertiser(sender: &SenderTerms) -> Result<Advertiser, RequestRefusal> {
    let (Some(brand), Some(number)) = (&sender.brand, &sender.refusal_number) else {
        return refuse(
            "from",
            "sender_not_for_ads",
            "an advertisement needs a sender with a brand name and a free number for refusing (080)",
        );
    };
    match RefusalNumber::parse(number) {
        Ok(refusal_number) => Ok(Advertiser { name: brand.into(), refusal_number }),
        Err(error) => refuse("from", "sender_not_for_ads", error),
    }
}

fn times(
    request: &SendRequest,
    limits: &AcceptLimits,
    now: DateTime<Utc>,
) -> Result<DateTime<Utc>, RequestRefusal> {
    if let Some(scheduled_at) = request.scheduled_at {
        if scheduled_at < now {
            refuse("scheduled_at", "scheduled_in_the_past", format_args!("{scheduled_at} is past"))?;
        }
        if scheduled_at > now + chrono::Duration::days(limits.schedule_days_max.into()) {
            let days = limits.schedule_days_max;
            refuse("scheduled_at", "scheduled_too_far", format_args!("at most {days} days ahead"))?;
        }
    }
    let usual = match request.class {
        MessageClass::Otp => LIFETIME_OTP_S,
        MessageClass::Notice | MessageClass::Ad => LIFETIME_OTHER_S,
    };
    let lifetime_s = request.lifetime_s.unwrap_or(usual);
    if lifetime_s == 0 || lifetime_s > LIFETIME_MAX_S {
        let detail = format_args!("{lifetime_s} is not between 1 and {LIFETIME_MAX_S} seconds").to_string();
        refuse("lifetime_seconds", "lifetime_out_of_range", detail)?;
    }
    Ok(super::expires_at(request.scheduled_at.unwrap_or(now), lifetime_s))
}

fn template(field: &'static str, text: &str) -> Result<Template, RequestRefusal> {
    Template::parse_bounded(text).or_else(|error| refuse(field, error.code(), &error))
}
