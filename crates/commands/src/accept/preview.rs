//! Preview: what a request would do: types, costs, split, refused rows. Nothing is written.

use chrono::{DateTime, Utc};
use kite_domain::ids::SendingId;
use kite_domain::lot::{LedgerAhead, Lot, Recipient, RouteSet, SplitLedger};
use kite_domain::relay::cost_milliwon;
use kite_domain::slug::{RelayId, TenantId};
use kite_domain::text::MessageType;
use smol_str::SmolStr;
use std::collections::BTreeMap;
use uuid::Uuid;

use super::compose::{Composed, ComposedLot};
use super::request::DuplicateRow;
use super::row::RefusedRow;
use super::terms::CheckedTerms;
use crate::directory::DirectoryState;
use crate::policy::policy_in_force;

/// How many single recipients a preview shows.
const ROWS_MAX: usize = 100;

/// What would become of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// How many messages.
    pub messages: u32,
    /// By type and number of parts.
    pub groups: Vec<PreviewGroup>,
    /// By relay and channel: the first routes.
    pub relays: Vec<PreviewRelay>,
    /// What the first routes cost if all is delivered, in thousandths of a won.
    pub cost_milliwon: i64,
    /// What it costs if every message fails over to the most expensive relay that it may use.
    pub cost_max_milliwon: i64,
    /// Why a part cannot be routed at the moment.
    pub blocked: Vec<String>,
    /// The first recipients one by one.
    pub rows: Vec<PreviewRow>,
    /// Rows that would become no message.
    pub refused: Vec<RefusedRow>,
    /// Rows that would be dropped.
    pub duplicates: Vec<DuplicateRow>,
    /// After this nothing would be handed over.
    pub expires_at: DateTime<Utc>,
    /// Text messages would wait until then at least, because advertisements may not go out at night.
    pub held_until: Option<DateTime<Utc>>,
}

/// Messages of one type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviewGroup {
    /// sms, lms or email.
    pub message_type: MessageType,
    /// Message parts each.
    pub parts: u16,
    /// How many.
    pub messages: u32,
}

/// The share of one relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviewRelay {
    /// Which relay.
    pub relay: RelayId,
    /// On which channel.
    pub channel: MessageType,
    /// How many first routes.
    pub messages: u32,
    /// What they cost if all are delivered, in thousandths of a won.
    pub cost_milliwon: i64,
    /// Who is tried next.
    pub fallbacks: Vec<RelayId>,
    /// Why.
    pub reason: String,
}

/// One recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviewRow {
    /// The canonical address.
    pub to: SmolStr,
    /// sms, lms or email.
    pub message_type: MessageType,
    /// The text as it would go out.
    pub text: String,
    /// The relay, if one can be named.
    pub relay: Option<RelayId>,
    /// What it costs if it is delivered, in thousandths of a won.
    pub cost_milliwon: i64,
}

/// What would become of the request.
pub(super) fn preview_of(
    tenant: &TenantId,
    terms: &CheckedTerms,
    composed: Composed,
    ledger: &SplitLedger,
    directory: &DirectoryState,
    now: DateTime<Utc>,
) -> Preview {
    let mut preview = Preview {
        messages: composed.messages,
        groups: Vec::new(),
        relays: Vec::new(),
        cost_milliwon: 0,
        cost_max_milliwon: 0,
        blocked: Vec::new(),
        rows: Vec::new(),
        refused: composed.refused,
        duplicates: composed.duplicates,
        expires_at: terms.expires_at,
        held_until: terms.held_until,
    };
    let mut ledger = ledger.ahead();
    for lot in composed.lots {
        preview.add_lot(tenant, terms, lot, &mut ledger, directory, now);
    }
    preview
}

/// Type and parts of each message of a lot.
type Types = BTreeMap<u32, (MessageType, u16)>;
/// Relay and cost of each message of a lot that could be routed.
type Carriers = BTreeMap<u32, (RelayId, i64)>;

impl Preview {
    fn add_lot(
        &mut self,
        tenant: &TenantId,
        terms: &CheckedTerms,
        composed: ComposedLot,
        ledger: &mut LedgerAhead<'_>,
        directory: &DirectoryState,
        now: DateTime<Utc>,
    ) {
        let types = self.add_groups(&composed);
        let accepted = composed.into_event(SendingId(Uuid::nil()), tenant);
        let lot = Lot::new(&accepted);
        let (phone, email) = (terms.from_phone.as_deref(), terms.from_email.as_deref());
        let context = directory.routing_context_of(tenant, phone, email, now);
        let (routed, blocked) = lot.route(ledger, &context, |channel, eligible| {
            policy_in_force(directory, tenant, channel, eligible)
        });
        for reason in blocked.iter().map(|blocked| format!("{}: {}", blocked.channel, blocked.reason())) {
            if !self.blocked.contains(&reason) {
                self.blocked.push(reason);
            }
        }
        let mut carriers = Carriers::new();
        for route in routed.into_iter().flat_map(|routed| routed.routes) {
            self.add_costs(&route, &types, directory, &mut carriers);
            self.add_route(route, &types);
        }
        self.add_rows(terms, &lot, &types, &carriers);
    }

    /// Counts the messages by type; the type and parts of each.
    fn add_groups(&mut self, composed: &ComposedLot) -> Types {
        let mut types = Types::new();
        for group in composed.groups() {
            let (message_type, parts) = (group.message_type, group.parts);
            types.extend(group.messages.iter().map(|seq| (seq, (message_type, parts))));
            let messages = group.messages.len() as u32;
            let same = |known: &&mut PreviewGroup| known.message_type == message_type && known.parts == parts;
            match self.groups.iter_mut().find(same) {
                Some(known) => known.messages += messages,
                None => self.groups.push(PreviewGroup { message_type, parts, messages }),
            }
        }
        types
    }

    fn add_costs(
        &mut self,
        route: &RouteSet,
        types: &Types,
        directory: &DirectoryState,
        carriers: &mut Carriers,
    ) {
        let price =
            |relay| Some(directory.relays.get(relay)?.profile.channels.get(&route.channel)?.price_milliwon);
        let dearest = route.fallbacks.iter().filter_map(price).fold(route.price_milliwon, i64::max);
        for seq in &route.messages {
            let parts = parts_of(types, seq);
            let cost = cost_milliwon(route.price_milliwon, parts);
            self.cost_milliwon = self.cost_milliwon.saturating_add(cost);
            self.cost_max_milliwon = self.cost_max_milliwon.saturating_add(cost_milliwon(dearest, parts));
            carriers.insert(seq, (route.relay.clone(), cost));
        }
    }

    fn add_route(&mut self, route: RouteSet, types: &Types) {
        let messages = route.messages.len() as u32;
        let costs =
            route.messages.iter().map(|seq| cost_milliwon(route.price_milliwon, parts_of(types, seq)));
        let cost_milliwon = costs.fold(0, i64::saturating_add);
        let same = |known: &&mut PreviewRelay| known.relay == route.relay && known.channel == route.channel;
        match self.relays.iter_mut().find(same) {
            Some(known) => {
                known.messages += messages;
                known.cost_milliwon = known.cost_milliwon.saturating_add(cost_milliwon);
            }
            None => self.relays.push(PreviewRelay {
                relay: route.relay,
                channel: route.channel,
                messages,
                cost_milliwon,
                fallbacks: route.fallbacks,
                reason: route.reason,
            }),
        }
    }

    fn add_rows(&mut self, terms: &CheckedTerms, lot: &Lot, types: &Types, carriers: &Carriers) {
        let room = ROWS_MAX.saturating_sub(self.rows.len());
        for (seq, recipient) in (lot.id.first_seq()..).zip(lot.recipients.iter()).take(room) {
            let (relay, cost_milliwon) =
                carriers.get(&seq).cloned().map_or((None, 0), |(relay, cost)| (Some(relay), cost));
            self.rows.push(PreviewRow {
                to: recipient.to.clone(),
                message_type: types.get(&seq).map_or(MessageType::Sms, |(message_type, _)| *message_type),
                text: rendered(terms, recipient),
                relay,
                cost_milliwon,
            });
        }
    }
}

fn parts_of(types: &Types, seq: u32) -> u16 {
    types.get(&seq).map_or(1, |(_, parts)| *parts)
}

fn rendered(terms: &CheckedTerms, recipient: &Recipient) -> String {
    let lookup = |name: &str| {
        let own = recipient.variables.get(name).map(String::as_str);
        own.or_else(|| terms.content.variables.get(name).map(String::as_str))
    };
    terms.text.render(lookup).unwrap_or_default()
}
