//! The log as `kite audit` prints it: the parts of each event that the oracle looks at.
//!
//! Written from docs/events.md, not from the domain's types: shared types would hide what is wrong in them.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::value::RawValue;

/// One event.
#[derive(Deserialize)]
pub(super) struct Line<'l> {
    #[serde(borrow)]
    pub(super) stream: std::borrow::Cow<'l, str>,
    #[serde(borrow, rename = "type")]
    pub(super) kind: std::borrow::Cow<'l, str>,
    pub(super) time: DateTime<Utc>,
    #[serde(borrow)]
    pub(super) data: &'l RawValue,
}

/// Sequence numbers, runs written as `[first, last]`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Seqs(Vec<Run>);

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Run {
    One(u32),
    Span([u32; 2]),
}

impl Seqs {
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> {
        self.0.iter().flat_map(|run| match *run {
            Run::One(seq) => seq..=seq,
            Run::Span([first, last]) => first..=last,
        })
    }
}

/// Over what a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Channel {
    Sms,
    Lms,
    Mms,
    Email,
    Alimtalk,
}

/// Why an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Class {
    RelayFault,
    HandsetTemporary,
    HandsetPermanent,
    Sender,
    Reputation,
    Content,
    Template,
    ChannelUnavailable,
    OptOut,
    AdRule,
    Duplicate,
    Balance,
    Unknown,
    Unclassified,
}

#[derive(Deserialize)]
pub(super) struct RelayDefined {
    pub(super) profile: Profile,
}

#[derive(Deserialize)]
pub(super) struct Profile {
    pub(super) relay: String,
    pub(super) deduplicates: bool,
    pub(super) answers_status: bool,
    pub(super) receipts: String,
}

#[derive(Deserialize)]
pub(super) struct BreakerChanged {
    pub(super) relay: String,
    pub(super) to: String,
}

#[derive(Deserialize)]
pub(super) struct PolicyDefined {
    pub(super) tenant: String,
    pub(super) channel: String,
    pub(super) version: u32,
    pub(super) objective: String,
    pub(super) weights: Vec<Share>,
}

#[derive(Deserialize)]
pub(super) struct Share {
    pub(super) relay: String,
    pub(super) weight: u64,
}

#[derive(Deserialize)]
pub(super) struct OptOut {
    pub(super) tenant: String,
    pub(super) personal: OptOutPersonal,
}

#[derive(Deserialize)]
pub(super) struct OptOutPersonal {
    pub(super) address: String,
}

#[derive(Deserialize)]
pub(super) struct SendingAccepted {
    pub(super) tenant: String,
    pub(super) class: String,
    pub(super) messages: u64,
    pub(super) lots: u32,
    pub(super) failover: Failover,
    #[serde(default)]
    pub(super) ad: Option<Ad>,
    #[serde(default)]
    pub(super) scheduled_at: Option<i64>,
    pub(super) expires_at: i64,
}

/// What the sender asked for after a failure.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Failover {
    pub(super) relays: bool,
    pub(super) email: bool,
    pub(super) email_after_temporary: bool,
    pub(super) at_least_once: bool,
    pub(super) attempts_max: u32,
}

#[derive(Deserialize)]
pub(super) struct Ad {
    #[serde(default)]
    pub(super) night_consent: bool,
    #[serde(default)]
    pub(super) window: Window,
}

/// What becomes of an advertisement at night.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Window {
    #[default]
    Hold,
    Refuse,
}

#[derive(Deserialize)]
pub(super) struct LotAccepted {
    pub(super) groups: Vec<Group>,
    pub(super) personal: LotPersonal,
}

#[derive(Deserialize)]
pub(super) struct Group {
    pub(super) message_type: Channel,
    pub(super) messages: Seqs,
}

#[derive(Deserialize)]
pub(super) struct LotPersonal {
    /// One per message, in the order of the sequence numbers.
    pub(super) recipients: Vec<Recipient>,
}

#[derive(Deserialize)]
pub(super) struct Recipient {
    pub(super) to: String,
    #[serde(default)]
    pub(super) email: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct MessagesRouted {
    pub(super) routes: Vec<Route>,
    /// Only first routes are split.
    #[serde(default)]
    pub(super) splits: Vec<Split>,
}

#[derive(Deserialize)]
pub(super) struct Route {
    pub(super) relay: String,
    pub(super) channel: Channel,
    pub(super) attempt: u32,
    pub(super) messages: Seqs,
}

/// For a split, only what the router says that it started from; the result is taken from the routes.
#[derive(Deserialize)]
pub(super) struct Split {
    pub(super) channel: Channel,
    pub(super) version: u32,
    pub(super) messages: u64,
    #[serde(default)]
    pub(super) left_out: Vec<LeftOut>,
}

#[derive(Deserialize)]
pub(super) struct LeftOut {
    pub(super) relay: String,
    pub(super) reason: String,
}

#[derive(Deserialize)]
pub(super) struct MessagesSubmitted {
    pub(super) relay: String,
    pub(super) attempt: u32,
    pub(super) messages: Seqs,
    pub(super) receipt_by: i64,
}

#[derive(Deserialize)]
pub(super) struct RelayResponded {
    pub(super) relay: String,
    pub(super) attempt: u32,
    #[serde(default)]
    pub(super) accepted: Option<Accepted>,
    #[serde(default)]
    pub(super) refused: Vec<Refused>,
    #[serde(default)]
    pub(super) unknown: Option<Named>,
    #[serde(default)]
    pub(super) deferred: Option<Named>,
    #[serde(default)]
    pub(super) refused_for_now: Vec<Named>,
}

#[derive(Deserialize)]
pub(super) struct Accepted {
    pub(super) messages: Seqs,
    #[serde(default)]
    pub(super) is_final: bool,
}

#[derive(Deserialize)]
pub(super) struct Refused {
    pub(super) messages: Seqs,
    pub(super) code: String,
    pub(super) class: Class,
}

/// Messages of which something was said.
#[derive(Deserialize)]
pub(super) struct Named {
    pub(super) messages: Seqs,
}

#[derive(Deserialize)]
pub(super) struct ReceiptsRecorded {
    pub(super) relay: String,
    pub(super) sets: Vec<ReceiptSet>,
}

#[derive(Deserialize)]
pub(super) struct ReceiptSet {
    pub(super) attempt: u32,
    pub(super) status: ReceiptStatus,
    pub(super) code: String,
    #[serde(default)]
    pub(super) class: Option<Class>,
    pub(super) messages: Seqs,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ReceiptStatus {
    Delivered,
    Undelivered,
}

#[derive(Deserialize)]
pub(super) struct MessagesFinished {
    pub(super) outcome: super::Outcome,
    pub(super) reason: String,
    pub(super) messages: Seqs,
}
