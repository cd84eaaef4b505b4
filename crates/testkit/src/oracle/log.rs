//! The log as `kite audit` prints it: the parts of each event that the oracle looks at.
//!
//! Written from docs/events.md, not from the domain's types: shared types would hide what is wrong in them.

use std::collections::BTreeMap;

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
pub(super) struct SendingAccepted {
    pub(super) tenant: String,
    pub(super) class: String,
    pub(super) messages: u64,
    pub(super) lots: u32,
    pub(super) failover: Failover,
    #[serde(default)]
    pub(super) ad: Option<Ad>,
}

#[derive(Deserialize)]
pub(super) struct Failover {
    pub(super) at_least_once: bool,
}

#[derive(Deserialize)]
pub(super) struct Ad {
    #[serde(default)]
    pub(super) night_consent: bool,
}

#[derive(Deserialize)]
pub(super) struct LotAccepted {
    pub(super) groups: Vec<Group>,
}

#[derive(Deserialize)]
pub(super) struct Group {
    pub(super) messages: Seqs,
}

#[derive(Deserialize)]
pub(super) struct MessagesRouted {
    pub(super) routes: Vec<Route>,
    #[serde(default)]
    pub(super) splits: Vec<Split>,
}

#[derive(Deserialize)]
pub(super) struct Route {
    pub(super) relay: String,
    pub(super) channel: String,
    pub(super) attempt: u32,
    pub(super) messages: Seqs,
}

/// Of a split only what the router says that it started from; how it divided is looked up in the routes.
#[derive(Deserialize)]
pub(super) struct Split {
    pub(super) channel: String,
    pub(super) version: u32,
    pub(super) messages: u64,
    #[serde(default)]
    pub(super) left_out: Vec<LeftOut>,
}

#[derive(Deserialize)]
pub(super) struct LeftOut {
    pub(super) relay: String,
}

#[derive(Deserialize)]
pub(super) struct MessagesSubmitted {
    pub(super) relay: String,
    pub(super) attempt: u32,
    pub(super) messages: Seqs,
}

#[derive(Deserialize)]
pub(super) struct RelayResponded {
    pub(super) attempt: u32,
    #[serde(default)]
    pub(super) accepted: Option<Accepted>,
    #[serde(default)]
    pub(super) refused: Vec<Named>,
    #[serde(default)]
    pub(super) unknown: Option<Named>,
    #[serde(default)]
    pub(super) deferred: Option<Named>,
}

#[derive(Deserialize)]
pub(super) struct Accepted {
    pub(super) messages: Seqs,
    #[serde(default)]
    pub(super) is_final: bool,
}

/// Messages of which something was said.
#[derive(Deserialize)]
pub(super) struct Named {
    pub(super) messages: Seqs,
}

#[derive(Deserialize)]
pub(super) struct ReceiptsRecorded {
    pub(super) sets: Vec<ReceiptSet>,
}

#[derive(Deserialize)]
pub(super) struct ReceiptSet {
    pub(super) attempt: u32,
    pub(super) status: ReceiptStatus,
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
    pub(super) messages: Seqs,
}

/// What is known of a relay, by its definition.
#[derive(Clone, Copy, Default)]
pub(super) struct Abilities {
    pub(super) deduplicates: bool,
    pub(super) answers_status: bool,
    pub(super) gives_receipts: bool,
}

impl From<&Profile> for Abilities {
    fn from(profile: &Profile) -> Self {
        Self {
            deduplicates: profile.deduplicates,
            answers_status: profile.answers_status,
            gives_receipts: profile.receipts != "none",
        }
    }
}

/// Relays by number: names are long and messages are many.
#[derive(Default)]
pub(super) struct Relays {
    numbers: BTreeMap<String, u16>,
    abilities: Vec<Abilities>,
}

impl Relays {
    pub(super) fn number(&mut self, name: &str) -> u16 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = self.abilities.len() as u16;
        self.numbers.insert(name.to_owned(), number);
        self.abilities.push(Abilities::default());
        number
    }

    pub(super) fn define(&mut self, profile: &Profile) {
        let number = self.number(&profile.relay);
        self.abilities[usize::from(number)] = profile.into();
    }

    pub(super) fn abilities(&self, number: u16) -> Abilities {
        self.abilities[usize::from(number)]
    }

    pub(super) fn name(&self, number: u16) -> &str {
        self.numbers.iter().find(|(_, known)| **known == number).map_or("", |(name, _)| name)
    }
}
