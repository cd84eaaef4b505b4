//! What may happen to an address. If an event would say nothing new, there is none.

use chrono::{DateTime, Utc};

use super::{
    SenderAddress, SenderApproved, SenderExpired, SenderIdentity, SenderRefused, SenderRequested,
    SenderStatus, SenderTerms, SenderWithdrawn,
};
use crate::event::Event;
use crate::slug::{RelayId, TenantId};

/// How far ahead an approval may end, because documents have to be checked again some time.
pub const APPROVAL_DAYS_MAX: i64 = 3_660;

/// What the operator says when approving.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// The document that the approval is based on, by the operator's own reference.
    pub document: String,
    /// It sends before this time.
    pub expires_at: DateTime<Utc>,
    /// The relays that it is registered with.
    pub relays: Vec<RelayId>,
    /// Another tenant may have the address too.
    pub shared: bool,
    /// The time of the request that the operator looked at; none: whatever request is waiting.
    pub requested_at: Option<DateTime<Utc>>,
}

/// Why something may not happen to an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SenderRefusal {
    /// The tenant never asked for it.
    #[error("there is no such sender")]
    NotFound,
    /// There is nothing to answer.
    #[error("nothing waits for an answer: the sender is {0}")]
    NothingAsked(SenderStatus),
    /// Something else waits than what was looked at.
    #[error("what waits for an answer is not what was asked for at {0}: look at it again")]
    OtherAsked(DateTime<Utc>),
    /// Another tenant has it.
    #[error("the address is approved for tenant {0}; to approve it for both, say so with `shared`")]
    TakenBy(TenantId),
    /// The approval would be over before it begins.
    #[error("the approval would end at {0}, which is past")]
    EndIsPast(DateTime<Utc>),
    /// The approval would never end.
    #[error("an approval ends within {APPROVAL_DAYS_MAX} days")]
    EndTooFar,
}

/// What follows; none: it is so already.
type Decided = Result<Option<Event>, SenderRefusal>;

impl SenderAddress {
    /// A tenant asks for it, for the first time or with other terms. Repeating a waiting request is nothing new.
    pub fn request(&self, tenant: &TenantId, terms: SenderTerms) -> Option<Event> {
        let waiting = self.of(tenant).and_then(|identity| identity.request.as_ref());
        let is_news = waiting.is_none_or(|request| request.terms != terms);
        is_news.then(|| SenderRequested { tenant: tenant.clone(), terms }.into())
    }

    /// The operator approves the waiting request, or an existing approval with a new expiry or other relays.
    ///
    /// # Errors
    /// [`SenderRefusal`] if there is nothing to approve, another tenant has the address, or the expiry is not
    /// possible.
    pub fn approve(&self, tenant: &TenantId, approval: Approval, now: DateTime<Utc>) -> Decided {
        let identity = self.of(tenant).ok_or(SenderRefusal::NotFound)?;
        let waiting = identity.request.as_ref().map(|request| &request.terms);
        let asked = waiting.or_else(|| identity.approval.as_ref().map(|approval| &approval.terms));
        let asked = asked.ok_or_else(|| SenderRefusal::NothingAsked(identity.status(now)))?;
        let Approval { document, expires_at, relays, shared, requested_at } = approval;
        identity.is_what_was_looked_at(requested_at)?;
        if expires_at <= now {
            return Err(SenderRefusal::EndIsPast(expires_at));
        }
        if expires_at > now + chrono::Duration::days(APPROVAL_DAYS_MAX) {
            return Err(SenderRefusal::EndTooFar);
        }
        if let Some(other) = self.other_holder(tenant, now).filter(|_| !shared) {
            return Err(SenderRefusal::TakenBy(other.clone()));
        }
        let terms = SenderTerms { relays, ..asked.clone() };
        Ok(Some(SenderApproved { tenant: tenant.clone(), terms, document, expires_at, shared }.into()))
    }

    /// The operator refuses the waiting request; with the time of a request, only that one.
    ///
    /// # Errors
    /// [`SenderRefusal`] if no request is waiting, or another one.
    pub fn refuse(
        &self,
        tenant: &TenantId,
        reason: String,
        requested_at: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> Decided {
        let identity = self.of(tenant).ok_or(SenderRefusal::NotFound)?;
        identity.is_what_was_looked_at(requested_at)?;
        let request =
            identity.request.as_ref().ok_or_else(|| SenderRefusal::NothingAsked(identity.status(now)))?;
        let address = request.terms.address.clone();
        Ok(Some(SenderRefused { tenant: tenant.clone(), address, reason }.into()))
    }

    /// The tenant or the operator withdraws it, together with a waiting request.
    ///
    /// # Errors
    /// [`SenderRefusal`] if the tenant never asked for it.
    pub fn withdraw(&self, tenant: &TenantId, reason: Option<String>) -> Decided {
        let identity = self.of(tenant).ok_or(SenderRefusal::NotFound)?;
        let is_news = identity.request.is_some() || identity.approval.is_some();
        let address = identity.terms.address.clone();
        Ok(is_news.then(|| SenderWithdrawn { tenant: tenant.clone(), address, reason }.into()))
    }

    /// Notes that the time of an approval is over.
    pub fn expire(&self, tenant: &TenantId, now: DateTime<Utc>) -> Option<Event> {
        let identity = self.of(tenant).filter(|identity| identity.has_ended_unnoted(now))?;
        let approval = identity.approval.as_ref()?;
        let (address, expires_at) = (approval.terms.address.clone(), approval.expires_at?);
        Some(SenderExpired { tenant: tenant.clone(), address, expires_at }.into())
    }

    /// Another tenant whose approval counts.
    fn other_holder(&self, tenant: &TenantId, now: DateTime<Utc>) -> Option<&TenantId> {
        let mut others = self.holders().filter(|(holder, _)| *holder != tenant);
        let has_it = |identity: &SenderIdentity| {
            identity.approval.as_ref().is_some_and(|approval| approval.counts_at(now))
        };
        others.find(|(_, identity)| has_it(identity)).map(|(holder, _)| holder)
    }
}

impl SenderIdentity {
    /// A tenant may ask again while the operator looks: then the answer would be to another request.
    fn is_what_was_looked_at(&self, requested_at: Option<DateTime<Utc>>) -> Result<(), SenderRefusal> {
        let Some(looked_at) = requested_at else { return Ok(()) };
        match self.request.as_ref().is_some_and(|request| request.by.at == looked_at) {
            true => Ok(()),
            false => Err(SenderRefusal::OtherAsked(looked_at)),
        }
    }
}
