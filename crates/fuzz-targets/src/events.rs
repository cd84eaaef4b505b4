//! Stored events: decoding, upcasting, folding, and decisions on the result.
//!
//! An input is a history, one event per line: type, schema version, data. `evolve` never fails on a decoded event
//! (law 1), and neither does any decision on the resulting state.

use kite_commands::directory::DirectoryState;
use kite_domain::event::{Event, redact};
use kite_domain::failure::FailureClass;
use kite_domain::lot::{
    Handover, Lot, LotAccepted, Note, OutcomeCounts, PolicyInForce, RefusedMessage, ResponseNote,
    RoutingContext, SplitLedger,
};
use kite_domain::policy::RelayWeight;
use kite_domain::receipt::ReceiptStatus;
use kite_domain::relay::RelayDirectory;
use kite_domain::sender::{self, Approval, Envelope, SaidBy, SenderStatus};
use kite_domain::sending::{Sending, SendingAccepted};
use kite_domain::seq_set::SeqSet;
use kite_domain::slug::{RelayId, TenantId};
use serde_json::Value;

use crate::house::now;
use crate::input;

/// More events say nothing new, only later.
const EVENTS_MAX: usize = 64;
/// Above this many messages a decision takes longer than a fuzzer should wait.
const MESSAGES_MAX: usize = 2_000;

/// Everything that is folded from events.
#[derive(Default)]
struct Folded {
    lots: Vec<Lot>,
    sending: Sending,
    relays: RelayDirectory,
    directory: DirectoryState,
    ledger: SplitLedger,
}

/// Decodes and folds a history, and decides on the result.
pub fn events(bytes: &[u8]) {
    let text = input::text(bytes);
    let mut folded = Folded::default();
    for line in text.lines().take(EVENTS_MAX) {
        if let Some(event) = decoded(line) {
            folded.evolve(&event);
        }
    }
    folded.decide();
}

fn decoded(line: &str) -> Option<Event> {
    let (kind, rest) = line.split_once(' ')?;
    let (version, data) = rest.split_once(' ')?;
    let version = version.parse().ok()?;
    if let Ok(mut value) = serde_json::from_str::<Value>(data) {
        redact(kind, &mut value);
    }
    match Event::from_json(kind, version, data.as_bytes()) {
        Ok(event) => {
            assert_eq!(event.kind(), kind);
            let written = event.to_json();
            let again = Event::from_json(kind, event.schema_version(), &written)
                .unwrap_or_else(|error| panic!("{kind}: what was written cannot be read: {error:?}"));
            assert_eq!(again, event);
            Some(event)
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            None
        }
    }
}

impl Folded {
    fn evolve(&mut self, event: &Event) {
        if let Event::LotAccepted(accepted) = event {
            self.lots.push(lot(accepted));
        }
        if let Event::MessagesRouted(routed) = event {
            self.ledger.evolve(routed);
        }
        for lot in &mut self.lots {
            lot.evolve(event);
            assert_eq!(lot.counts().total() as usize, lot.len(), "no message is lost by {}", event.kind());
        }
        self.sending.evolve(event, now());
        self.relays.evolve(event);
        let version = self.directory.senders.iter().count() as u64 + 1;
        let by = SaidBy { actor: "fuzz".into(), at: now() };
        let envelope = Envelope { stream: "identity-025550100", version, by };
        self.directory.evolve(event, &envelope);
        self.directory.senders.evolve(event, envelope);
    }

    /// Decisions about senders can be folded in turn, and nobody has a sender that does not count.
    fn decide_on_senders(&self) {
        let mut senders = self.directory.senders.clone();
        let all: Vec<(String, TenantId)> = senders
            .iter()
            .map(|(_, tenant, known)| (known.terms.address.to_string(), tenant.clone()))
            .collect();
        for (address, tenant) in all {
            let known = senders.address(&address);
            let expires_at = now() + chrono::Duration::days(1);
            let approval = Approval {
                document: "fuzz".to_owned(),
                expires_at,
                relays: Vec::new(),
                shared: false,
                requested_at: None,
            };
            let decided = [
                known.expire(&tenant, now()),
                known.approve(&tenant, approval, now()).ok().flatten(),
                known.refuse(&tenant, "no".to_owned(), None, now()).ok().flatten(),
                known.withdraw(&tenant, None).ok().flatten(),
            ];
            for event in decided.into_iter().flatten() {
                let by = SaidBy { actor: "fuzz".into(), at: now() };
                let stream = sender::stream(&address);
                assert!(senders.evolve(&event, Envelope { stream: &stream, version: known.version + 1, by }));
                let identity = senders.identity(&tenant, &address).expect("it is still there");
                let is_approved = identity.status(now()) == SenderStatus::Approved;
                assert_eq!(identity.sends_with(now()).is_ok(), is_approved);
            }
        }
    }

    fn decide(&self) {
        let _ = self.sending.is_due(now());
        self.decide_on_senders();
        let terms = self.sending.accepted.as_deref().cloned().unwrap_or_else(usual_terms);
        let relays: Vec<RelayId> = self.relays.iter().map(|(relay, _)| relay.clone()).collect();
        let context = RoutingContext {
            directory: &self.relays,
            phone_relays: &relays,
            email_relays: &relays,
            now: now(),
        };
        for lot in &self.lots {
            let mut counted = OutcomeCounts::default();
            lot.messages().for_each(|(_, message)| *counted.of(message.outcome) += 1);
            assert_eq!(lot.counts(), counted);
            assert_eq!(lot.counts().total() as usize, lot.len());
            if lot.len() <= MESSAGES_MAX {
                decide(lot, &terms, &context, &self.ledger);
            }
        }
    }
}

fn lot(accepted: &LotAccepted) -> Lot {
    let lot = Lot::new(accepted);
    assert!(lot.len() <= lot.recipients.len());
    lot
}

/// What follows can be folded in turn, and counts every message once.
fn decide(lot: &Lot, terms: &SendingAccepted, context: &RoutingContext<'_>, ledger: &SplitLedger) {
    let mut decided = lot.cancel();
    decided.extend(lot.expire(terms, context));
    decided.extend(lot.expire_cancelled(context.now));
    let _ = (lot.pending(), lot.next_due_ms(terms.expires_at), lot.has_unrouted());
    let (routed, _) = lot.route(&mut ledger.ahead(), context, |_, eligible| policy(eligible));
    decided.extend(routed.map(Event::from));
    let all: SeqSet = lot.messages().map(|(seq, _)| seq).collect();
    for relay in context.phone_relays.iter().take(2) {
        for attempt in 1..3 {
            decided.extend(handed_over(lot, terms, context, relay, attempt, &all));
        }
        decided.extend(lot.take_away(terms, relay, &all, "reason", context));
    }
    let mut after = lot.clone();
    for event in &decided {
        let read = Event::from_json(event.kind(), event.schema_version(), &event.to_json());
        assert_eq!(read.expect("what was decided can be stored"), *event);
        after.evolve(event);
    }
    assert_eq!(after.counts().total(), lot.counts().total());
}

fn handed_over(
    lot: &Lot,
    terms: &SendingAccepted,
    context: &RoutingContext<'_>,
    relay: &RelayId,
    attempt: u16,
    all: &SeqSet,
) -> Vec<Event> {
    let handover = Handover {
        relay,
        attempt,
        is_asked_again: false,
        is_cancelled: false,
        is_paused: false,
        receipt_deadline: chrono::Duration::hours(25),
        answer_by: context.now + chrono::TimeDelta::seconds(15),
        holder: None,
        closed_until: &|_| None,
        unsendable: &|_| None,
        has_opted_out: &|_| false,
        context,
        now: context.now,
    };
    let mut decided = lot.submit(terms, all, &handover).events;
    let refused =
        |seq| RefusedMessage { seq, code: "3053".into(), class: FailureClass::RelayFault, text: None };
    let note = ResponseNote { refused: all.iter().map(refused).collect(), ..ResponseNote::default() };
    decided.extend(lot.respond(terms, relay, attempt, note, context));
    let delivered = |seq| Note {
        seq,
        attempt,
        status: ReceiptStatus::Delivered,
        code: "4000".into(),
        class: FailureClass::Unclassified,
        billable_failure: false,
        at_ms: context.now.timestamp_millis(),
    };
    let notes: Vec<Note> = all.iter().map(delivered).collect();
    let (received, unmatched) = lot.receive(terms, relay, &notes, context);
    assert!(unmatched.len() <= notes.len());
    decided.extend(received);
    decided
}

fn policy(eligible: &[RelayId]) -> PolicyInForce {
    PolicyInForce {
        name: "acme-sms-1".into(),
        version: 1,
        objective: "ratio",
        weights: eligible.iter().map(|relay| RelayWeight { relay: relay.clone(), weight: 1 }).collect(),
        order: eligible.to_vec(),
    }
}

/// Where the history tells of no sending.
fn usual_terms() -> SendingAccepted {
    const TERMS: &str = include_str!("../../domain/golden/sending-accepted.v1.json");
    match Event::from_json("sending-accepted", 1, TERMS.as_bytes()) {
        Ok(Event::SendingAccepted(accepted)) => accepted,
        other => panic!("the golden file is none of a sending: {other:?}"),
    }
}
