//! The split, checked from the log alone.

use kite_commands::journal::Told;
use kite_domain::event::Event;
use kite_domain::ids::{LotId, MessageId};
use kite_domain::slug::RelayId;
use std::collections::HashMap;

/// The first route of every message, in the order of the log. No message has two.
pub(crate) fn first_routes(log: &[Told]) -> Vec<(MessageId, RelayId)> {
    let mut routes = Vec::new();
    let mut seen = HashMap::new();
    for told in log {
        let Event::MessagesRouted(routed) = &told.event else { continue };
        let sending = LotId::from_stream(&told.recorded.stream).unwrap().sending;
        let mut here: Vec<(MessageId, RelayId)> = Vec::new();
        for route in routed.routes.iter().filter(|route| route.attempt == 1) {
            here.extend(route.messages.iter().map(|seq| (MessageId { sending, seq }, route.relay.clone())));
        }
        here.sort_unstable();
        for (message, relay) in &here {
            let earlier = seen.insert(*message, relay.clone());
            assert_eq!(earlier, None, "message {message} has two first routes");
        }
        routes.extend(here);
    }
    routes
}

/// Law 3 after every single message, for every split in the log. Every event holds at most one split.
pub(crate) fn split_is_exact(log: &[Told]) {
    let mut counts: HashMap<String, HashMap<RelayId, i128>> = HashMap::new();
    for told in log {
        let Event::MessagesRouted(routed) = &told.event else { continue };
        let [split] = &routed.splits[..] else {
            assert!(routed.splits.is_empty(), "this audit is for lots of one channel");
            continue;
        };
        let mut order: Vec<(u32, &RelayId)> = routed
            .routes
            .iter()
            .flat_map(|route| route.messages.iter().map(|seq| (seq, &route.relay)))
            .collect();
        order.sort_unstable();
        assert_eq!(order.len(), split.messages as usize);
        let total: i128 = split.weights.iter().map(|entry| i128::from(entry.weight)).sum();
        let counted = counts.entry(split.key.to_string()).or_default();
        for (seq, relay) in order {
            *counted.entry(relay.clone()).or_default() += 1;
            let all: i128 = counted.values().sum();
            for entry in &split.weights {
                let got = counted.get(&entry.relay).copied().unwrap_or(0);
                let off = got * total - all * i128::from(entry.weight);
                assert!(
                    off.abs() < total,
                    "{} at {seq}: {} has {got} of {all} at {} of {total}",
                    split.key,
                    entry.relay,
                    entry.weight
                );
            }
        }
    }
}
