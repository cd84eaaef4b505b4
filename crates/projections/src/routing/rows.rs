//! The rows of relays, policies and advice.

use kite_domain::policy::{PolicyDefined, WeightsAdvised};
use smol_str::SmolStr;

use super::schema::{ADVICE, POLICIES, RELAYS};
use crate::engine::{Cells, Record, Row};
use crate::error::ApplyError;
use crate::sql::json;
use crate::table::verbs;

/// A relay as it stands.
#[derive(Debug, Clone)]
pub(super) struct RelayRow {
    pub(super) profile: String,
    pub(super) defined_ms: i64,
    pub(super) suspended: Option<String>,
    pub(super) breaker: String,
    pub(super) breaker_reason: Option<String>,
    pub(super) breaker_ms: Option<i64>,
    pub(super) breaker_until_ms: Option<i64>,
    pub(super) unattended: Option<String>,
}

impl RelayRow {
    /// One of which nothing else was said.
    pub(super) fn new(profile: String, defined_ms: i64) -> Self {
        Self {
            profile,
            defined_ms,
            suspended: None,
            breaker: "\"passing\"".to_owned(),
            breaker_reason: None,
            breaker_ms: None,
            breaker_until_ms: None,
            unattended: None,
        }
    }
}

impl Record for RelayRow {
    type Key = SmolStr;
    type Aside = ();

    verbs!(RELAYS);

    fn put_key(id: &SmolStr, cells: &mut Cells<'_>) {
        cells.put(id);
    }

    fn put(&self, id: &SmolStr, cells: &mut Cells<'_>) {
        cells.put(id);
        cells.put(&self.profile);
        cells.put(self.defined_ms);
        cells.put(self.suspended.as_ref());
        cells.put(&self.breaker);
        cells.put(self.breaker_reason.as_ref());
        cells.put(self.breaker_ms);
        cells.put(self.breaker_until_ms);
        cells.put(self.unattended.as_ref());
    }

    fn read(row: &Row<'_>) -> Result<(SmolStr, Self), ApplyError> {
        let relay = Self {
            profile: row.get(1)?,
            defined_ms: row.get(2)?,
            suspended: row.get(3)?,
            breaker: row.get(4)?,
            breaker_reason: row.get(5)?,
            breaker_ms: row.get(6)?,
            breaker_until_ms: row.get(7)?,
            unattended: row.get(8)?,
        };
        Ok((row.text(0)?, relay))
    }
}

/// One version of a policy.
#[derive(Debug, Clone)]
pub(super) struct PolicyRow {
    objective: String,
    failover: String,
    defined_ms: i64,
    actor: SmolStr,
}

impl PolicyRow {
    /// Tenant, channel and version, and the row.
    pub(super) fn of(policy: &PolicyDefined, actor: &str, time_ms: i64) -> (PolicyKey, Self) {
        let row = Self {
            objective: json(&policy.objective),
            failover: json(&policy.failover),
            defined_ms: time_ms,
            actor: actor.into(),
        };
        ((policy.tenant.as_str().into(), policy.channel.as_str().into(), i64::from(policy.version)), row)
    }
}

/// Tenant, channel, and a number that counts up.
pub(super) type PolicyKey = (SmolStr, SmolStr, i64);

fn put_policy_key((tenant, channel, number): &PolicyKey, cells: &mut Cells<'_>) {
    cells.put(tenant);
    cells.put(channel);
    cells.put(*number);
}

impl Record for PolicyRow {
    type Key = PolicyKey;
    type Aside = ();

    verbs!(POLICIES);

    fn put_key(key: &PolicyKey, cells: &mut Cells<'_>) {
        put_policy_key(key, cells);
    }

    fn put(&self, key: &PolicyKey, cells: &mut Cells<'_>) {
        put_policy_key(key, cells);
        cells.put(&self.objective);
        cells.put(&self.failover);
        cells.put(self.defined_ms);
        cells.put(&self.actor);
    }

    fn read(row: &Row<'_>) -> Result<(PolicyKey, Self), ApplyError> {
        let policy = Self {
            objective: row.get(3)?,
            failover: row.get(4)?,
            defined_ms: row.get(5)?,
            actor: row.text(6)?,
        };
        Ok(((row.text(0)?, row.text(1)?, row.get(2)?), policy))
    }
}

/// Weights that were advised.
#[derive(Debug, Clone)]
pub(super) struct AdviceRow {
    version: u32,
    weights: String,
    order: String,
    reasons: String,
    advised_ms: i64,
}

impl AdviceRow {
    /// Tenant, channel and number, and the row.
    pub(super) fn of(advised: &WeightsAdvised, time_ms: i64) -> (PolicyKey, Self) {
        let row = Self {
            version: advised.version,
            weights: json(&advised.weights),
            order: json(&advised.order),
            reasons: json(&advised.reasons),
            advised_ms: time_ms,
        };
        ((advised.tenant.as_str().into(), advised.channel.as_str().into(), i64::from(advised.advice)), row)
    }
}

impl Record for AdviceRow {
    type Key = PolicyKey;
    type Aside = ();

    verbs!(ADVICE);

    fn put_key(key: &PolicyKey, cells: &mut Cells<'_>) {
        put_policy_key(key, cells);
    }

    fn put(&self, (tenant, channel, number): &PolicyKey, cells: &mut Cells<'_>) {
        cells.put(tenant);
        cells.put(channel);
        cells.put(self.version);
        cells.put(*number);
        cells.put(&self.weights);
        cells.put(&self.order);
        cells.put(&self.reasons);
        cells.put(self.advised_ms);
    }

    fn read(row: &Row<'_>) -> Result<(PolicyKey, Self), ApplyError> {
        let advice = Self {
            version: row.get(2)?,
            weights: row.get(4)?,
            order: row.get(5)?,
            reasons: row.get(6)?,
            advised_ms: row.get(7)?,
        };
        Ok(((row.text(0)?, row.text(1)?, row.get(3)?), advice))
    }
}
