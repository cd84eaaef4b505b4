//! The split through lots, sendings, changing sets and restarts (law 3).

use kite_domain::event::Event;
use kite_domain::ids::SendingId;
use kite_domain::lot::*;
use kite_domain::sending::SendingAccepted;
use proptest::prelude::*;
use std::collections::HashMap;
use uuid::Uuid;

use crate::world::*;

/// One more lot: how large, of which sending, with which relays out of use, and what happens around it.
#[derive(Debug, Clone)]
struct Step {
    messages: u32,
    sending: u128,
    /// A bit for each relay that is out of use.
    down: u8,
    event: Around,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Around {
    Nothing,
    /// The append did not happen; the lot is routed anew.
    NotWritten,
    /// The router is started anew from what is stored.
    Restart,
    /// A part of the lot was cancelled before it was routed.
    PartlyFinal,
}

fn any_step() -> impl Strategy<Value = Step> {
    let around = prop_oneof![
        3 => Just(Around::Nothing), 1 => Just(Around::NotWritten), 1 => Just(Around::Restart), 1 => Just(Around::PartlyFinal),
    ];
    let messages = prop_oneof![3 => 1..4u32, 2 => 1..60u32];
    (messages, 0..3u128, 0..7u8, around).prop_map(|(messages, sending, down, event)| Step {
        messages,
        sending,
        down,
        event,
    })
}

/// Checks law 3 after every message, by the set of relays that shared it.
#[derive(Default)]
struct Auditor {
    routed: HashMap<String, HashMap<String, u64>>,
}

impl Auditor {
    fn note(&mut self, set: &str, relay: &str, shares: &[(&str, u32)]) {
        let counts = self.routed.entry(set.to_owned()).or_default();
        *counts.entry(relay.to_owned()).or_default() += 1;
        let total: i64 = shares.iter().map(|(_, weight)| i64::from(*weight)).sum();
        let all: i64 = counts.values().map(|count| *count as i64).sum();
        for (name, weight) in shares {
            let got = counts.get(*name).copied().unwrap_or(0) as i64;
            let off = got * total - all * i64::from(*weight);
            assert!(off.abs() < total, "{set}: {name} has {got} of {all} at {weight} of {total}");
        }
    }
}

fn relay_of(routed: &MessagesRouted, seq: u32) -> String {
    let mut found = routed.routes.iter().filter(|route| route.messages.contains(seq));
    let route = found.next().unwrap();
    assert!(found.next().is_none(), "message {seq} has two routes");
    route.relay.as_str().to_owned()
}

fn run(shares: [u32; 3], steps: &[Step]) {
    let names = PHONE_RELAYS;
    let all: Vec<(&str, u32)> = names.into_iter().zip(shares).collect();
    let mut ledger = SplitLedger::default();
    let mut log: Vec<Vec<u8>> = Vec::new();
    let mut auditor = Auditor::default();
    let mut lots_of: HashMap<u128, u32> = HashMap::new();
    for step in steps {
        let sending = SendingId(Uuid::from_u128(step.sending));
        let number = lots_of.entry(step.sending).or_default();
        let accepted = lot_accepted(&SendingAccepted { sending, ..terms() }, *number, step.messages);
        *number += 1;
        let mut lot = Lot::new(&accepted);
        if step.event == Around::PartlyFinal {
            let first = lot.id.first_seq();
            let some = set((first..first + step.messages).filter(|seq| seq % 2 == 0));
            lot.evolve(
                &MessagesFinished {
                    messages: some,
                    outcome: Outcome::Cancelled,
                    reason: "cancelled".into(),
                    class: None,
                }
                .into(),
            );
        }
        let mut world = Registered::everywhere();
        let up: Vec<(&str, u32)> = all
            .iter()
            .enumerate()
            .filter(|(bit, _)| step.down & (1 << bit) == 0)
            .map(|(_, share)| *share)
            .filter(|(_, weight)| *weight > 0)
            .collect();
        for (bit, name) in names.into_iter().enumerate().filter(|(bit, _)| step.down & (1 << bit) != 0) {
            let _ = bit;
            suspend(&mut world.directory, name);
        }
        let in_force = policy(&all);
        let decide =
            |ledger: &SplitLedger| lot.route(&mut ledger.ahead(), &world.context(), |_, _| in_force.clone());
        let (routed, blocked) = decide(&ledger);
        let Some(routed) = routed else {
            assert!(up.is_empty() || lot.counts().open == 0);
            continue;
        };
        assert!(blocked.is_empty());
        if step.event == Around::NotWritten {
            assert_eq!(decide(&ledger).0.as_ref(), Some(&routed), "routed anew, it is the same");
        }
        for (seq, message) in lot.messages().filter(|(_, message)| message.outcome.is_none()) {
            assert!(message.attempts.is_empty());
            auditor.note(&format!("{up:?}"), &relay_of(&routed, seq), &up);
        }
        ledger.evolve(&routed);
        log.push(Event::from(routed).to_json());
        if step.event == Around::Restart {
            ledger = restored(&log);
        }
    }
}

fn restored(log: &[Vec<u8>]) -> SplitLedger {
    let mut ledger = SplitLedger::default();
    for stored in log {
        let Event::MessagesRouted(routed) = Event::from_json("messages-routed", 1, stored).unwrap() else {
            unreachable!("read as what it was written as")
        };
        ledger.evolve(&routed);
    }
    ledger
}

proptest! {
    #[test]
    fn every_share_is_within_one_message_after_every_message(
        shares in prop_oneof![
            Just([5_000, 3_000, 2_000]),
            Just([3_334, 3_333, 3_333]),
            (0..4u32, 0..4u32, 1..4u32).prop_map(|(left, middle, right)| [left, middle, right]),
            (1..10_000u32, 1..10_000u32, 1..10_000u32).prop_map(|(left, middle, right)| [left, middle, right]),
        ],
        steps in prop::collection::vec(any_step(), 1..30),
    ) {
        run(shares, &steps);
    }
}

/// The router decides about many lots before it writes any of them.
#[test]
fn lots_that_are_decided_ahead_of_the_log_build_on_each_other() {
    let world = Registered::everywhere();
    let shares = [("alpha", 5_000), ("beta", 3_000), ("gamma", 2_000)];
    let in_force = policy(&shares);
    let mut ledger = SplitLedger::default();
    let mut auditor = Auditor::default();
    for _ in 0..3 {
        let mut decided = Vec::new();
        let mut ahead = ledger.ahead();
        for number in 0..7 {
            let lot = Lot::new(&lot_accepted(&terms(), number, 1 + number % 3));
            let (routed, _) = lot.route(&mut ahead, &world.context(), |_, _| in_force.clone());
            let routed = routed.unwrap();
            for (seq, _) in lot.messages() {
                auditor.note("all", &relay_of(&routed, seq), &shares);
            }
            decided.push(routed);
        }
        decided.iter().for_each(|routed| ledger.evolve(routed));
    }
}

#[test]
fn inside_a_lot_the_relays_are_interleaved() {
    let lot = Lot::new(&lot_accepted(&terms(), 0, 1_000));
    let world = Registered::everywhere();
    let in_force = policy(&[("alpha", 5_000), ("beta", 3_000), ("gamma", 2_000)]);
    let (routed, _) =
        lot.route(&mut SplitLedger::default().ahead(), &world.context(), |_, _| in_force.clone());
    let routed = routed.unwrap();
    let order: Vec<String> = (0..1_000).map(|seq| relay_of(&routed, seq)).collect();
    let longest = order.chunk_by(|left, right| left == right).map(<[String]>::len).max();
    assert!(longest <= Some(2), "a run of {longest:?}");
    let sizes: HashMap<&str, usize> =
        routed.routes.iter().map(|route| (route.relay.as_str(), route.messages.len())).collect();
    assert_eq!(sizes, HashMap::from([("alpha", 500), ("beta", 300), ("gamma", 200)]));
}

#[test]
fn a_route_says_why_who_is_next_and_who_was_left_out() {
    let lot = Lot::new(&lot_accepted(&terms(), 0, 4));
    let mut world = Registered::everywhere();
    suspend(&mut world.directory, "beta");
    let in_force =
        PolicyInForce { order: relays(&["gamma", "alpha"]), ..policy(&[("alpha", 7_500), ("beta", 2_500)]) };
    let (routed, _) =
        lot.route(&mut SplitLedger::default().ahead(), &world.context(), |_, _| in_force.clone());
    let routed = routed.unwrap();
    assert_eq!(routed.routes.len(), 1);
    assert_eq!(routed.routes[0].fallbacks, relays(&["gamma"]), "eligible without a share is a fallback");
    assert_eq!(routed.routes[0].reason, "ratio acme-sms-1: 7500 of 7500");
    let left: Vec<String> =
        routed.splits[0].left_out.iter().map(|left| format!("{}: {}", left.relay, left.reason)).collect();
    assert_eq!(left, ["beta: suspended by an operator", "gamma: has no share in the policy"]);
}

#[test]
fn without_a_relay_it_is_blocked_with_the_reasons() {
    let lot = Lot::new(&lot_accepted(&terms(), 0, 4));
    let mut world = Registered::everywhere();
    world.phone = relays(&["alpha"]);
    suspend(&mut world.directory, "alpha");
    let in_force = policy(&[("alpha", 10_000)]);
    let (routed, blocked) =
        lot.route(&mut SplitLedger::default().ahead(), &world.context(), |_, _| in_force.clone());
    assert_eq!(routed, None);
    assert_eq!(
        blocked[0].reason(),
        "alpha: suspended by an operator; beta: the sender is not registered with it; \
         gamma: the sender is not registered with it"
    );
}
