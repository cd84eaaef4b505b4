//! How messages are routed: relays as they stand, policies and advice by version, splits with what they carry on.
//!
//! The live figures of the relays are folded by the delivery model, which alone knows channel and times of every
//! attempt; [`RoutingQueries::figures`] joins them with the relays' terms.

mod queries;
mod views;

pub use queries::{Carries, RoutingQueries};
pub use views::{AdviceView, PolicyView, RelayView, SplitShare, SplitView};

use kite_domain::event::Event;
use kite_domain::lot::{MessagesRouted, SplitRecord};
use kite_domain::policy::{PolicyDefined, WeightsAdvised};
use kite_domain::relay::{RelayBreakerChanged, RelayCredentials, RelayDefined};
use kite_event_store::{Filter, RecordedEvent};
use rusqlite::Transaction;
use std::collections::BTreeMap;

use crate::error::ApplyError;
use crate::projector::ReadModel;
use crate::sql::json;
use crate::table::{Table, integer, text};

static RELAYS: Table = Table::new(
    "relays",
    &[
        text("id").key(),
        text("profile"),
        integer("defined_ms"),
        text("suspended").or_none(),
        text("breaker"),
        text("breaker_reason").or_none(),
        integer("breaker_ms").or_none(),
        integer("breaker_until_ms").or_none(),
        text("unattended").or_none(),
    ],
);
static POLICIES: Table = Table::new(
    "policies",
    &[
        text("tenant").key(),
        text("channel").key(),
        integer("version").key(),
        text("objective"),
        text("failover"),
        integer("defined_ms"),
        text("actor"),
    ],
);
static ADVICE: Table = Table::new(
    "advice",
    &[
        text("tenant").key(),
        text("channel").key(),
        integer("version"),
        integer("advice").key(),
        text("weights"),
        text("relay_order"),
        text("reasons"),
        integer("advised_ms"),
    ],
);
static SPLITS: Table = Table::new(
    "splits",
    &[
        text("key").key(),
        text("channel"),
        integer("version"),
        text("objective"),
        integer("messages").added(),
        text("carry"),
        text("left_out"),
        integer("updated_ms"),
    ],
);
static SPLIT_RELAYS: Table = Table::new(
    "split_relays",
    &[text("key").key(), text("relay").key(), integer("weight"), integer("routed").added()],
);

/// The fold of the routing.
#[derive(Debug, Default)]
pub struct RoutingModel;

impl ReadModel for RoutingModel {
    const NAME: &'static str = "routing";
    const SCHEMA_VERSION: i64 = 2;
    const CACHE_BYTES: usize = 4 * 1024 * 1024;
    const TABLES: &'static [&'static Table] = &[&RELAYS, &POLICIES, &ADVICE, &SPLITS, &SPLIT_RELAYS];

    fn filter() -> Filter {
        Filter::kinds([
            "relay-defined",
            "relay-suspended",
            "relay-resumed",
            "relay-breaker-changed",
            "relay-unattended",
            "relay-attended",
            "policy-defined",
            "weights-advised",
            "messages-routed",
        ])
    }

    fn apply(
        &mut self,
        transaction: &Transaction<'_>,
        events: &[(RecordedEvent, Event)],
    ) -> Result<(), ApplyError> {
        let mut splits = Splits::default();
        for (recorded, event) in events {
            match event {
                Event::RelayDefined(defined) => relay_defined(transaction, defined, recorded)?,
                Event::RelaySuspended(suspended) => {
                    set_suspended(transaction, suspended.relay.as_str(), Some(&suspended.reason))?;
                }
                Event::RelayResumed(resumed) => set_suspended(transaction, resumed.relay.as_str(), None)?,
                Event::RelayBreakerChanged(changed) => breaker_changed(transaction, changed, recorded)?,
                Event::RelayUnattended(left) => {
                    set_unattended(transaction, left.relay.as_str(), Some(json(left)))?;
                }
                Event::RelayAttended(attended) => {
                    set_unattended(transaction, attended.relay.as_str(), None)?;
                }
                Event::PolicyDefined(policy) => policy_defined(transaction, policy, recorded)?,
                Event::WeightsAdvised(advised) => weights_advised(transaction, advised, recorded)?,
                Event::MessagesRouted(routed) => splits.add(routed, recorded),
                _ => {}
            }
        }
        Ok(splits.flush(transaction)?)
    }
}

fn relay_defined(
    transaction: &Transaction<'_>,
    defined: &RelayDefined,
    recorded: &RecordedEvent,
) -> rusqlite::Result<()> {
    // What we know each other by stays in the log.
    let mut profile = defined.profile.clone();
    profile.credentials = RelayCredentials::default();
    transaction
        .prepare_cached(
            "INSERT INTO relays (id, profile, defined_ms, breaker) VALUES (?1, ?2, ?3, '\"passing\"')
             ON CONFLICT DO UPDATE SET profile = ?2, defined_ms = ?3",
        )?
        .execute((profile.relay.as_str(), json(&profile), recorded.metadata.time.timestamp_millis()))?;
    Ok(())
}

fn set_suspended(transaction: &Transaction<'_>, relay: &str, reason: Option<&str>) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("UPDATE relays SET suspended = ?2 WHERE id = ?1")?
        .execute((relay, reason))
        .map(drop)
}

fn set_unattended(transaction: &Transaction<'_>, relay: &str, left: Option<String>) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("UPDATE relays SET unattended = ?2 WHERE id = ?1")?
        .execute((relay, left))
        .map(drop)
}

fn breaker_changed(
    transaction: &Transaction<'_>,
    changed: &RelayBreakerChanged,
    recorded: &RecordedEvent,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "UPDATE relays SET breaker = ?2, breaker_reason = ?3, breaker_ms = ?4, breaker_until_ms = ?5
             WHERE id = ?1",
        )?
        .execute((
            changed.relay.as_str(),
            json(&changed.to),
            &changed.reason,
            recorded.metadata.time.timestamp_millis(),
            changed.until.map(|until| until.timestamp_millis()),
        ))
        .map(drop)
}

fn policy_defined(
    transaction: &Transaction<'_>,
    policy: &PolicyDefined,
    recorded: &RecordedEvent,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO policies (tenant, channel, version, objective, failover, defined_ms, actor)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT DO UPDATE SET objective = ?4, failover = ?5, defined_ms = ?6, actor = ?7",
        )?
        .execute((
            policy.tenant.as_str(),
            policy.channel.as_str(),
            policy.version,
            json(&policy.objective),
            json(&policy.failover),
            recorded.metadata.time.timestamp_millis(),
            recorded.metadata.actor.as_str(),
        ))
        .map(drop)
}

fn weights_advised(
    transaction: &Transaction<'_>,
    advised: &WeightsAdvised,
    recorded: &RecordedEvent,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO advice (tenant, channel, version, advice, weights, relay_order, reasons, advised_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT DO UPDATE SET version = ?3, weights = ?5, relay_order = ?6, reasons = ?7,
                 advised_ms = ?8",
        )?
        .execute((
            advised.tenant.as_str(),
            advised.channel.as_str(),
            advised.version,
            advised.advice,
            json(&advised.weights),
            json(&advised.order),
            json(&advised.reasons),
            recorded.metadata.time.timestamp_millis(),
        ))
        .map(drop)
}

/// The splits of one transaction: what was counted, and the newest record of each.
#[derive(Default)]
struct Splits<'e> {
    newest: BTreeMap<&'e str, (&'e SplitRecord, i64)>,
    messages: BTreeMap<&'e str, i64>,
    /// Weight and routes by key and relay.
    relays: BTreeMap<(&'e str, &'e str), (u32, i64)>,
}

impl<'e> Splits<'e> {
    /// The first routes of an event stand in the order of its splits, each as many as the split says.
    fn add(&mut self, routed: &'e MessagesRouted, recorded: &RecordedEvent) {
        let time_ms = recorded.metadata.time.timestamp_millis();
        let mut routes = routed.routes.iter().filter(|route| route.attempt == 1).peekable();
        for split in &routed.splits {
            let key = split.key.as_str();
            self.newest.insert(key, (split, time_ms));
            *self.messages.entry(key).or_default() += i64::from(split.messages);
            for entry in &split.weights {
                self.relays.entry((key, entry.relay.as_str())).or_default().0 = entry.weight;
            }
            let mut left = split.messages as usize;
            while let Some(route) = routes.next_if(|route| left > 0 && route.channel == split.channel) {
                let count = route.messages.len();
                left = left.saturating_sub(count);
                self.relays.entry((key, route.relay.as_str())).or_default().1 += count as i64;
            }
        }
    }

    fn flush(self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let mut statement = transaction.prepare_cached(
            "INSERT INTO splits (key, channel, version, objective, messages, carry, left_out, updated_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT DO UPDATE SET channel = ?2, version = ?3, objective = ?4, messages = messages + ?5,
                 carry = ?6, left_out = ?7, updated_ms = ?8",
        )?;
        for (key, (split, time_ms)) in self.newest {
            statement.execute((
                key,
                split.channel.as_str(),
                split.version,
                split.objective.as_str(),
                self.messages.get(key).copied().unwrap_or(0),
                json(&split.carry),
                json(&split.left_out),
                time_ms,
            ))?;
        }
        let mut statement = transaction.prepare_cached(
            "INSERT INTO split_relays (key, relay, weight, routed) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO UPDATE SET weight = ?3, routed = routed + ?4",
        )?;
        for ((key, relay), (weight, count)) in self.relays {
            statement.execute((key, relay, weight, count))?;
        }
        Ok(())
    }
}
