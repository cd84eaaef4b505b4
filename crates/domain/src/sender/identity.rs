//! A sender identity of one tenant as it stands.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use strum::{IntoStaticStr, VariantArray};

use super::{SenderExpired, SenderTerms};
use crate::event::Event;
use crate::mutation;
use crate::opt_out::brand_identity;

/// Where a sender identity stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[derive(strum::Display, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum SenderStatus {
    /// The operator has not answered yet.
    Requested,
    /// It may send.
    Approved,
    /// The operator does not want it.
    Refused,
    /// It could send once; its time is over.
    Expired,
    /// The tenant, or the operator, took it back.
    Withdrawn,
}

impl SenderStatus {
    /// All of them.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// The word for it, as on the wire.
    pub fn word(self) -> &'static str {
        self.into()
    }

    /// The code with which a sending is refused, and a message ended, because of its sender's status.
    pub fn code(self) -> &'static str {
        match self {
            Self::Requested => "sender_requested",
            Self::Approved => "sender_approved",
            Self::Refused => "sender_refused",
            Self::Expired => "sender_expired",
            Self::Withdrawn => "sender_withdrawn",
        }
    }

    /// The same where nobody has asked for the sender.
    pub const UNKNOWN: &'static str = "sender_not_requested";
}

/// By whom something was said, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaidBy {
    /// `key:<id>`, `admin`, `timekeeper`.
    pub actor: SmolStr,
    /// When.
    pub at: DateTime<Utc>,
}

/// What waits for the operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SenderRequest {
    /// What is asked for.
    pub terms: SenderTerms,
    /// By whom and since when.
    pub by: SaidBy,
}

/// What was approved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SenderApproval {
    /// What it may send with.
    pub terms: SenderTerms,
    /// What it was approved upon; none: from before anybody was asked.
    pub document: Option<String>,
    /// It sends before this time; none: from before there was an end.
    pub expires_at: Option<DateTime<Utc>>,
    /// The operator knows that another tenant has the address too.
    pub shared: bool,
    /// The log says that it is over.
    pub is_over: bool,
    /// By whom and when.
    pub by: SaidBy,
}

impl SenderApproval {
    /// Whether it is valid at this time. At `expires_at` it no longer is.
    pub fn counts_at(&self, now: DateTime<Utc>) -> bool {
        !self.is_over && self.expires_at.is_none_or(|end| now < end)
    }
}

/// The last time that it was refused or withdrawn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SenderEnd {
    /// Which of the two.
    pub status: SenderStatus,
    /// Why.
    pub reason: Option<String>,
    /// By whom and when.
    pub by: SaidBy,
}

/// The current state of one tenant's sender identity. A request may wait beside a valid approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SenderIdentity {
    /// What was asked for or approved last.
    pub terms: SenderTerms,
    /// What waits for the operator.
    pub request: Option<SenderRequest>,
    /// What was approved, until it is withdrawn.
    pub approval: Option<SenderApproval>,
    /// The last refusal or withdrawal, until there is an approval.
    pub ended: Option<SenderEnd>,
    /// Brands of earlier approvals, each once and the oldest first. A refusal of one of them also refuses this
    /// sender.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub past_brands: Vec<String>,
}

impl SenderIdentity {
    /// Where it stands at this time.
    pub fn status(&self, now: DateTime<Utc>) -> SenderStatus {
        match (&self.approval, &self.request, &self.ended) {
            (Some(approval), _, _) if approval.counts_at(now) => SenderStatus::Approved,
            (_, Some(_), _) => SenderStatus::Requested,
            (Some(_), None, _) => SenderStatus::Expired,
            (None, None, Some(end)) => end.status,
            // No history that Kite writes leads to this.
            (None, None, None) => SenderStatus::Withdrawn,
        }
    }

    /// What may be sent with it at this time, or its status if nothing may.
    ///
    /// # Errors
    /// The status, if it is not [`SenderStatus::Approved`].
    pub fn sends_with(&self, now: DateTime<Utc>) -> Result<&SenderTerms, SenderStatus> {
        mutation::bug!(ApprovalNotAsked, return Ok(&self.terms));
        match self.approval.as_ref().filter(|approval| approval.counts_at(now)) {
            Some(approval) => Ok(&approval.terms),
            None => Err(self.status(now)),
        }
    }

    /// Every brand of its approvals and its request: the names that recipients may know it by.
    pub fn brands(&self) -> impl Iterator<Item = &str> {
        let approved = self.approval.as_ref().and_then(|approval| approval.terms.brand.as_deref());
        let asked_for = self.terms.brand.as_deref();
        approved.into_iter().chain(asked_for).chain(self.past_brands.iter().map(String::as_str))
    }

    /// Whether the time of its approval is over and the log does not say so yet.
    pub fn has_ended_unnoted(&self, now: DateTime<Utc>) -> bool {
        self.approval.as_ref().is_some_and(|approval| !approval.is_over && !approval.counts_at(now))
    }

    /// Applies an event. Nothing is changed by an event about something else, or about a sender that nobody asked
    /// for.
    pub fn evolve(known: Option<Self>, event: &Event, by: SaidBy) -> Option<Self> {
        match event {
            Event::SenderRegistered(registered) => {
                Some(Self::approved(known, registered.terms(), None, None, false, by))
            }
            Event::SenderRequested(requested) => {
                let terms = requested.terms.clone();
                let request = Some(SenderRequest { terms: terms.clone(), by });
                let unknown = Self {
                    terms: terms.clone(),
                    request: None,
                    approval: None,
                    ended: None,
                    past_brands: vec![],
                };
                Some(Self { terms, request, ..known.unwrap_or(unknown) })
            }
            Event::SenderApproved(approved) => {
                let (document, end) = (approved.document.clone(), approved.expires_at);
                Some(Self::approved(
                    known,
                    approved.terms.clone(),
                    Some(document),
                    Some(end),
                    approved.shared,
                    by,
                ))
            }
            Event::SenderRefused(refused) => {
                let reason = Some(refused.reason.clone());
                let ended = Some(SenderEnd { status: SenderStatus::Refused, reason, by });
                known.map(|known| Self { request: None, ended, ..known })
            }
            Event::SenderExpired(expired) => known.map(|known| known.expired(expired)),
            Event::SenderWithdrawn(withdrawn) => {
                let reason = withdrawn.reason.clone();
                let ended = Some(SenderEnd { status: SenderStatus::Withdrawn, reason, by });
                known.map(|known| Self {
                    request: None,
                    approval: None,
                    ended,
                    ..known.with_past_brand(None)
                })
            }
            _ => known,
        }
    }

    fn approved(
        known: Option<Self>,
        terms: SenderTerms,
        document: Option<String>,
        expires_at: Option<DateTime<Utc>>,
        shared: bool,
        by: SaidBy,
    ) -> Self {
        let approval =
            SenderApproval { terms: terms.clone(), document, expires_at, shared, is_over: false, by };
        let past_brands =
            known.map_or_else(Vec::new, |known| known.with_past_brand(terms.brand.as_deref()).past_brands);
        Self { terms, request: None, approval: Some(approval), ended: None, past_brands }
    }

    /// The existing approval ends, and its brand becomes an earlier one, unless `next` has it, too.
    fn with_past_brand(mut self, next: Option<&str>) -> Self {
        if let Some(brand) = self.approval.as_ref().and_then(|approval| approval.terms.brand.clone()) {
            self.past_brands.push(brand);
        }
        let mut known: Vec<SmolStr> = next.map(brand_identity).into_iter().collect();
        self.past_brands.retain(|brand| {
            let identity = brand_identity(brand);
            let is_new = !known.contains(&identity);
            known.push(identity);
            is_new
        });
        self
    }

    /// If it is about another approval than the newest it changes nothing: the newest has an expiry of its own.
    fn expired(mut self, expired: &SenderExpired) -> Self {
        if let Some(approval) = &mut self.approval
            && approval.expires_at == Some(expired.expires_at)
        {
            approval.is_over = true;
        }
        self
    }
}
