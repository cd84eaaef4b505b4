//! Sender identities: numbers and addresses from which messages may be sent. A tenant asks for one; the operator
//! approves it for certain relays, or refuses it.

pub mod get;
pub mod list;
pub mod request;
pub mod withdraw;

use chrono::{DateTime, Utc};
use kite_commands::manage::{ManageError, ManageRefusal};
use kite_domain::address::{EmailAddress, PhoneNumber};
use kite_domain::sender::{
    SaidBy, SenderApproval, SenderEnd, SenderIdentity, SenderRefusal, SenderRequest, SenderTerms,
};
use kite_domain::slug::RelayId;
use serde::Serialize;
use smol_str::SmolStr;
use utoipa::ToSchema;

use crate::problem::Problem;
use crate::vocabulary::{SenderKindWord, SenderStatusWord};

/// A sender identity.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Sender)]
pub struct SenderView {
    /// The number or address in canonical form.
    #[schema(value_type = String, example = "0212345678")]
    pub address: SmolStr,
    /// Which of the two.
    pub kind: SenderKindWord,
    /// Where it stands. Only what is approved sends.
    pub status: SenderStatusWord,
    /// The latest approval; it may have expired. No other relay than these carries its messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval: Option<SenderApprovalView>,
    /// The request that waits for the operator. An approval stays valid beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<SenderRequestView>,
    /// The last refusal or withdrawal since the last approval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<SenderEndView>,
}

/// What is asked for, or approved.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SenderTerms)]
pub struct SenderTermsView {
    /// The name that an advertisement must carry.
    #[schema(example = "카이트")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub brand: Option<String>,
    /// The free number for refusing advertisements.
    #[schema(value_type = Option<String>, example = "0801234567")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal_number: Option<SmolStr>,
    /// The relays that it is, or is to be, registered with.
    #[schema(value_type = Vec<String>, example = json!(["alpha", "beta"]))]
    pub relays: Vec<RelayId>,
}

/// What was approved.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SenderApproval)]
pub struct SenderApprovalView {
    /// With which terms.
    #[serde(flatten)]
    pub terms: SenderTermsView,
    /// The document that it is based on, by the operator's own reference; none: it is from before approvals.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub document: Option<String>,
    /// It can be used before this time; none: it is from before approvals, and does not expire.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was approved.
    pub approved_at: DateTime<Utc>,
    /// By whom.
    #[schema(value_type = String, example = "admin")]
    pub approved_by: SmolStr,
}

/// What waits for the operator.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SenderRequest)]
pub struct SenderRequestView {
    /// With which terms.
    #[serde(flatten)]
    pub terms: SenderTermsView,
    /// Since when.
    pub requested_at: DateTime<Utc>,
    /// By whom.
    #[schema(value_type = String, example = "key:3a6c0f1e")]
    pub requested_by: SmolStr,
}

/// A refusal or a withdrawal.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SenderEnd)]
pub struct SenderEndView {
    /// Which of the two.
    pub status: SenderStatusWord,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "the certificate names another company")]
    pub reason: Option<String>,
    /// When.
    pub at: DateTime<Utc>,
    /// By whom.
    #[schema(value_type = String, example = "admin")]
    pub by: SmolStr,
}

impl SenderView {
    /// As it stands at this time.
    pub(crate) fn at(now: DateTime<Utc>, identity: &SenderIdentity) -> Self {
        Self {
            address: identity.terms.address.clone(),
            kind: identity.terms.kind.into(),
            status: identity.status(now).into(),
            approval: identity.approval.as_ref().map(Into::into),
            request: identity.request.as_ref().map(Into::into),
            ended: identity.ended.as_ref().map(Into::into),
        }
    }
}

impl From<&SenderTerms> for SenderTermsView {
    fn from(terms: &SenderTerms) -> Self {
        Self {
            brand: terms.brand.clone(),
            refusal_number: terms.refusal_number.clone(),
            relays: terms.relays.clone(),
        }
    }
}

impl From<&SenderApproval> for SenderApprovalView {
    fn from(approval: &SenderApproval) -> Self {
        let SaidBy { actor, at } = approval.by.clone();
        Self {
            terms: (&approval.terms).into(),
            document: approval.document.clone(),
            expires_at: approval.expires_at,
            approved_at: at,
            approved_by: actor,
        }
    }
}

impl From<&SenderRequest> for SenderRequestView {
    fn from(request: &SenderRequest) -> Self {
        let SaidBy { actor, at } = request.by.clone();
        Self { terms: (&request.terms).into(), requested_at: at, requested_by: actor }
    }
}

impl From<&SenderEnd> for SenderEndView {
    fn from(end: &SenderEnd) -> Self {
        let SaidBy { actor, at } = end.by.clone();
        Self { status: end.status.into(), reason: end.reason.clone(), at, by: actor }
    }
}

/// The address in its stored form, for one that may be written differently.
pub(crate) fn canonical(raw: &str) -> SmolStr {
    let text = match raw.contains('@') {
        true => EmailAddress::parse(raw).ok().map(|address| SmolStr::from(address.as_str())),
        false => PhoneNumber::parse(raw).ok().map(|number| SmolStr::from(number.as_str())),
    };
    text.unwrap_or_else(|| raw.into())
}

/// A sender that the tenant never asked for is not found.
pub(crate) fn problem_of(error: ManageError) -> Problem {
    match error {
        ManageError::Refused(ManageRefusal::Sender(SenderRefusal::NotFound)) => Problem::not_found("sender"),
        other => other.into(),
    }
}
