//! Which events are in force, for things that are small and change seldom: relays, policies, senders, templates,
//! tenants, keys.
//!
//! Each such event is about a subject of its stream, and is in force until a newer event is about the same subject.
//! Folding only the events in force, in the order of the log, gives the same state as folding all of them. So nobody
//! has to read ten years of advice and breakers to know the current state.
//!
//! Deliberately absent: refusals of recipients, which are too many for the memory of a process, and contacts, on
//! which nothing is decided.

use smol_str::{SmolStr, format_smolstr};

use crate::event::{Event, EventKind};
use crate::relay::BreakerPhase;

/// The kinds of events that this is about.
pub const KINDS: [EventKind; 28] = [
    EventKind::TenantCreated,
    EventKind::TenantLimitsSet,
    EventKind::ApiKeyIssued,
    EventKind::ApiKeyRevoked,
    EventKind::OperatorKeyIssued,
    EventKind::OperatorKeyRevoked,
    EventKind::KeysUsed,
    EventKind::RelayDefined,
    EventKind::RelaySuspended,
    EventKind::RelayResumed,
    EventKind::RelayBreakerChanged,
    EventKind::RelayUnattended,
    EventKind::RelayAttended,
    EventKind::CodeClassed,
    EventKind::CodeUnclassed,
    EventKind::PolicyDefined,
    EventKind::WeightsAdvised,
    EventKind::SenderRegistered,
    EventKind::SenderRequested,
    EventKind::SenderApproved,
    EventKind::SenderRefused,
    EventKind::SenderExpired,
    EventKind::SenderWithdrawn,
    EventKind::TemplateSaved,
    EventKind::TemplateDeleted,
    EventKind::InstanceCopied,
    EventKind::InstanceReleased,
    EventKind::InstanceSettled,
];

/// What an event does to a subject of its stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// The event is in force for the subject, and earlier ones are not.
    Newest(SmolStr),
    /// The event is in force for the subject unless an earlier one is.
    First(SmolStr),
    /// Nothing is in force for it any more.
    Over(SmolStr),
}

/// What an event with this `version` of its stream does; none if it is of another kind.
#[must_use]
pub fn effects(event: &Event, version: u64) -> Vec<Effect> {
    let newest = |subject: &'static str| vec![Effect::Newest(SmolStr::new_static(subject))];
    match event {
        Event::TenantCreated(_) => newest("created"),
        Event::TenantLimitsSet(_) => newest("limits"),
        Event::ApiKeyIssued(issued) => of_key("issued", &issued.key_id),
        Event::ApiKeyRevoked(revoked) => of_key("revoked", &revoked.key_id),
        Event::OperatorKeyIssued(issued) => of_key("issued", &issued.key_id),
        Event::OperatorKeyRevoked(revoked) => of_key("revoked", &revoked.key_id),
        Event::KeysUsed(used) => used.uses.iter().flat_map(|used| of_key("used", &used.key_id)).collect(),
        // Events about a relay have a meaning only after its first definition.
        Event::RelayDefined(_) => {
            vec![Effect::First("first-defined".into()), Effect::Newest("defined".into())]
        }
        Event::RelaySuspended(_) | Event::RelayResumed(_) => newest("suspended"),
        Event::RelayUnattended(_) | Event::RelayAttended(_) => newest("unattended"),
        Event::RelayBreakerChanged(changed) => of_breaker(changed.to),
        Event::CodeClassed(classed) => vec![Effect::Newest(format_smolstr!("code-{}", classed.code))],
        Event::CodeUnclassed(unclassed) => vec![Effect::Newest(format_smolstr!("code-{}", unclassed.code))],
        Event::PolicyDefined(_) => newest("policy"),
        Event::WeightsAdvised(_) => newest("advice"),
        Event::TemplateSaved(_) | Event::TemplateDeleted(_) => newest("template"),
        // The state of a sender follows from its whole history, which is short.
        Event::SenderRegistered(_)
        | Event::SenderRequested(_)
        | Event::SenderApproved(_)
        | Event::SenderRefused(_)
        | Event::SenderExpired(_)
        | Event::SenderWithdrawn(_)
        | Event::InstanceCopied(_)
        | Event::InstanceReleased(_)
        | Event::InstanceSettled(_) => vec![Effect::Newest(format_smolstr!("event-{version}"))],
        _ => Vec::new(),
    }
}

fn of_key(what: &str, key: &SmolStr) -> Vec<Effect> {
    vec![Effect::Newest(format_smolstr!("{what}-{key}"))]
}

/// The next pause of a breaker depends on the last one, and on whether that was waited out: on the first change after
/// it. How long the relay has been in trouble depends on the first change after it last took everything.
fn of_breaker(to: BreakerPhase) -> Vec<Effect> {
    let newest = |subject: &'static str| Effect::Newest(SmolStr::new_static(subject));
    let first = |subject: &'static str| Effect::First(SmolStr::new_static(subject));
    let over = |subject: &'static str| Effect::Over(SmolStr::new_static(subject));
    let of_phase = match to {
        BreakerPhase::Passing => {
            [newest("breaker-passing"), first("breaker-after-trip"), over("breaker-trouble")].to_vec()
        }
        BreakerPhase::Probing => [first("breaker-after-trip"), first("breaker-trouble")].to_vec(),
        BreakerPhase::Tripped => {
            [newest("breaker-tripped"), over("breaker-after-trip"), first("breaker-trouble")].to_vec()
        }
    };
    std::iter::once(newest("breaker")).chain(of_phase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::breaker::{BreakerChange, LoggedBreaker};
    use crate::relay::BreakerPhase::{Passing, Probing, Tripped};
    use crate::relay::RelayBreakerChanged;
    use crate::slug::RelayId;
    use chrono::{DateTime, TimeDelta, Utc};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn changed(from: BreakerPhase, to: BreakerPhase, until: Option<DateTime<Utc>>) -> RelayBreakerChanged {
        RelayBreakerChanged {
            relay: RelayId::from_trusted("alpha"),
            from,
            to,
            reason: "test".to_owned(),
            until,
        }
    }

    /// The versions that are in force of a stream with these events.
    fn versions<'e>(events: impl IntoIterator<Item = &'e Event>) -> Vec<u64> {
        let mut by_subject = BTreeMap::new();
        for (version, event) in (1..).zip(events) {
            for effect in effects(event, version) {
                match effect {
                    Effect::Newest(subject) => drop(by_subject.insert(subject, version)),
                    Effect::First(subject) => drop(by_subject.entry(subject).or_insert(version)),
                    Effect::Over(subject) => drop(by_subject.remove(&subject)),
                }
            }
        }
        let mut versions: Vec<u64> = by_subject.into_values().collect();
        versions.sort_unstable();
        versions.dedup();
        versions
    }

    fn folded(changes: &[BreakerChange], versions: impl Iterator<Item = u64>) -> Option<LoggedBreaker> {
        versions.fold(None, |known, version| {
            Some(LoggedBreaker::fold(known.as_ref(), changes[version as usize - 1].clone(), version))
        })
    }

    proptest! {
        #[test]
        fn a_breaker_is_what_all_its_changes_make_it(steps in prop::collection::vec((0..3_usize, 1..90_i64, 1..60_i64), 1..40)) {
            let (mut from, mut at) = (Passing, DateTime::UNIX_EPOCH);
            let mut changes = Vec::new();
            for (to, waits, pause) in steps {
                at += TimeDelta::seconds(waits);
                let to = [Passing, Tripped, Probing][to];
                if to == from {
                    continue;
                }
                let until = (to == Tripped).then(|| at + TimeDelta::seconds(pause));
                changes.push(BreakerChange { from, to, reason: "test".to_owned(), at, until });
                from = to;
            }
            let events: Vec<Event> =
                changes.iter().map(|change| changed(change.from, change.to, change.until).into()).collect();
            let in_force = versions(&events);
            prop_assert!(in_force.len() <= 5);
            let all = 1..=changes.len() as u64;
            prop_assert_eq!(folded(&changes, in_force.into_iter()), folded(&changes, all));
        }
    }

    #[test]
    fn of_many_changes_few_are_in_force() {
        let until = Some(DateTime::UNIX_EPOCH);
        let of = |from, to| Event::from(changed(from, to, until.filter(|_| to == Tripped)));
        let round = [of(Passing, Tripped), of(Tripped, Probing), of(Probing, Tripped), of(Tripped, Probing)];
        assert_eq!(versions(&round), [1, 3, 4]);
        let back = [of(Passing, Tripped), of(Tripped, Probing), of(Probing, Passing)];
        assert_eq!(versions(&back), [1, 2, 3]);
        assert_eq!(versions(back.iter().cycle().take(300)), [298, 299, 300]);
        assert_eq!(versions(back.iter().cycle().take(301)), [300, 301]);
    }
}
