//! Relays, policies, splits, live figures.

use chrono::{DateTime, TimeDelta, Utc};
use kite_domain::advice::RelayFigures;
use kite_domain::relay::RelayProfile;
use kite_domain::slug::{RelayId, TenantId};
use kite_domain::split::{Carry, SplitKey};
use kite_domain::text::Channel;
use kite_event_store::Position;
use smol_str::SmolStr;
use std::collections::BTreeSet;
use std::ops::Range;

use super::RoutingModel;
use super::known::{KnownAdvice, KnownPolicy, KnownRelay, KnownSplit, SplitShare};
use crate::database;
use crate::delivery::{DeliveryModel, Measured, measured};
use crate::engine::{Connection, Row, values};
use crate::error::QueryError;
use crate::files::Files;
use crate::readers::{Readers, milliseconds, shared_queries};
use crate::sql::{from_json, optional_time, time};

/// Questions about routing.
#[derive(Clone)]
pub struct RoutingQueries {
    readers: Readers,
    delivery: Readers,
}

shared_queries!(RoutingQueries);

const RELAY_SQL: &str =
    "SELECT profile, suspended, breaker, breaker_reason, breaker_ms, breaker_until_ms, defined_ms, unattended
     FROM relays WHERE ?1 IS NULL OR id = ?1 ORDER BY id";
const POLICY_SQL: &str = "SELECT channel, version, objective, failover, defined_ms, actor FROM policies
     WHERE tenant = ?1 AND (?2 IS NULL OR channel = ?2) AND (?3 IS NULL OR version = ?3)
     ORDER BY channel, version DESC";
const ADVICE_SQL: &str = "SELECT version, advice, weights, relay_order, reasons, advised_ms FROM advice
     WHERE tenant = ?1 AND channel = ?2 AND (?3 IS NULL OR version = ?3) ORDER BY advice DESC LIMIT ?4";

/// The state of the splits: the position from which the carries have to be read on, the position of the read model,
/// and each split's carry.
pub type Carries = (Position, Position, Vec<(SmolStr, Carry)>);

impl RoutingQueries {
    pub(crate) fn new(files: &Files) -> Self {
        Self { readers: files.of::<RoutingModel>(), delivery: files.of::<DeliveryModel>() }
    }

    /// All relays, by id.
    pub fn relays(&self) -> Result<Vec<KnownRelay>, QueryError> {
        self.readers.ask(|connection| relays(connection, None))
    }

    /// One relay.
    pub fn relay(&self, id: &RelayId) -> Result<Option<KnownRelay>, QueryError> {
        self.readers.ask(|connection| Ok(relays(connection, Some(id))?.pop()))
    }

    /// The newest policy of each channel.
    pub fn policies(&self, tenant: &TenantId) -> Result<Vec<KnownPolicy>, QueryError> {
        self.readers.ask(|connection| {
            let mut newest: Vec<KnownPolicy> = policies(connection, tenant, None, None)?;
            newest.dedup_by_key(|policy| policy.channel);
            newest.into_iter().map(|policy| with_advice(connection, tenant, policy)).collect()
        })
    }

    /// One version of a policy; none: the newest.
    pub fn policy(
        &self,
        tenant: &TenantId,
        channel: Channel,
        version: Option<u32>,
    ) -> Result<Option<KnownPolicy>, QueryError> {
        self.readers.ask(|connection| {
            let found = policies(connection, tenant, Some(channel), version)?.into_iter().next();
            found.map(|policy| with_advice(connection, tenant, policy)).transpose()
        })
    }

    /// All versions of a policy, newest first.
    pub fn policy_versions(
        &self,
        tenant: &TenantId,
        channel: Channel,
    ) -> Result<Vec<KnownPolicy>, QueryError> {
        self.readers.ask(|connection| {
            let versions = policies(connection, tenant, Some(channel), None)?;
            versions.into_iter().map(|policy| with_advice(connection, tenant, policy)).collect()
        })
    }

    /// What was advised for a channel, newest first.
    pub fn advice_history(
        &self,
        tenant: &TenantId,
        channel: Channel,
        limit: usize,
    ) -> Result<Vec<KnownAdvice>, QueryError> {
        self.readers.ask(|connection| advice(connection, tenant, channel, None, limit))
    }

    /// Splits whose key begins with `prefix` (a policy's name), or all: planned against routed.
    pub fn splits(&self, prefix: Option<&str>) -> Result<Vec<KnownSplit>, QueryError> {
        self.readers.ask(|connection| {
            let sql =
                "SELECT key, channel, version, objective, messages, carry, left_out, updated_ms FROM splits
                       WHERE ?1 IS NULL OR substr(key, 1, length(?1)) = ?1 ORDER BY key";
            connection.all(sql, values![prefix], |row| known_split(connection, row))
        })
    }

    /// Where the router continues: the position of the model, the position up to which the carries are certain, and
    /// the carry of every split of these policies, each named as the router names it; none: of all. If routes are
    /// parked the two positions differ: a row may show the carry from before them.
    pub fn carries(&self, policies: Option<&[SmolStr]>) -> Result<Carries, QueryError> {
        self.readers.ask(|connection| {
            let position = database::position(connection)?;
            let sql = "SELECT min(position) FROM parked WHERE kind = 'messages-routed'";
            let first_parked =
                connection.one(sql, &[], |row| Ok::<_, QueryError>(row.get::<Option<i64>>(0)?))?;
            let certain = first_parked.map_or(position, |first| first.unsigned_abs().saturating_sub(1));
            let carries = match policies {
                Some(policies) => carries_of(connection, policies)?,
                None => connection.all("SELECT key, carry FROM splits ORDER BY key", &[], carry)?,
            };
            Ok((position, certain.min(position), carries))
        })
    }

    /// The carry of every split of these policies, each named as the router names it.
    pub fn carries_of(&self, policies: &[SmolStr]) -> Result<Vec<(SmolStr, Carry)>, QueryError> {
        self.readers.ask(|connection| carries_of(connection, policies))
    }

    /// For each of these channels every relay that offers it, with what was measured of it in the window that ends
    /// now. The price is the relay's present one. A relay for which nothing was measured is included.
    pub fn figures(
        &self,
        channels: &BTreeSet<Channel>,
        window: TimeDelta,
        now: DateTime<Utc>,
    ) -> Result<Vec<RelayFigures>, QueryError> {
        let relays = self.relays()?;
        let now_ms = now.timestamp_millis();
        let from_ms = now_ms - milliseconds(window);
        self.delivery.ask(|connection| {
            let mut figures = Vec::new();
            for channel in channels {
                let mut found = measured(connection, *channel, from_ms, now_ms)?;
                figures.extend(relays.iter().filter_map(|relay| {
                    let unmeasured = unmeasured(relay, *channel, (now - window)..now)?;
                    Some(match found.remove(relay.profile.relay.as_str()) {
                        Some(measured) => with_measured(unmeasured, measured),
                        None => unmeasured,
                    })
                }));
            }
            Ok(figures)
        })
    }
}

/// A relay of which nothing was measured on a channel; none: it does not offer it.
fn unmeasured(relay: &KnownRelay, channel: Channel, window: Range<DateTime<Utc>>) -> Option<RelayFigures> {
    let terms = relay.profile.channels.get(&channel)?;
    let figures = RelayFigures::unmeasured(
        relay.profile.relay.clone(),
        channel,
        window,
        terms.price_milliwon,
        terms.bills,
    );
    Some(RelayFigures { breaker: relay.breaker, ..figures })
}

fn with_measured(figures: RelayFigures, measured: Measured) -> RelayFigures {
    RelayFigures {
        attempts: measured.handed_over,
        answered: measured.accepted + measured.refused,
        accepted: measured.accepted,
        refused_relay_fault: measured.refused_relay_fault,
        delivered: measured.delivered,
        undelivered: measured.undelivered,
        undelivered_relay_fault: measured.undelivered_relay_fault,
        overdue: measured.overdue,
        delivery_ms: measured.delivery_ms,
        hand_over_ms: measured.call_ms,
        ..figures
    }
}

fn carries_of(connection: Connection<'_>, policies: &[SmolStr]) -> Result<Vec<(SmolStr, Carry)>, QueryError> {
    let sql = "SELECT key, carry FROM splits WHERE key >= ?1 AND key < ?2 ORDER BY key";
    let mut carries = Vec::new();
    for policy in policies {
        let (from, until) = SplitKey::bounds(policy);
        carries.extend(connection.all(sql, values![&from, &until], carry)?);
    }
    Ok(carries)
}

fn carry(row: &Row<'_>) -> Result<(SmolStr, Carry), QueryError> {
    Ok((row.text(0)?, from_json(row.str(1)?)?))
}

fn relays(connection: Connection<'_>, id: Option<&RelayId>) -> Result<Vec<KnownRelay>, QueryError> {
    connection.all(RELAY_SQL, values![id.map(RelayId::as_str)], |row| {
        Ok(KnownRelay {
            profile: from_json::<RelayProfile>(row.str(0)?)?,
            suspended: row.get(1)?,
            breaker: from_json(row.str(2)?)?,
            breaker_reason: row.get(3)?,
            breaker_since: optional_time(row.get(4)?)?,
            breaker_until: optional_time(row.get(5)?)?,
            defined_at: time(row.get(6)?)?,
            unattended: row.optional_str(7)?.map(from_json).transpose()?,
        })
    })
}

fn policies(
    connection: Connection<'_>,
    tenant: &TenantId,
    channel: Option<Channel>,
    version: Option<u32>,
) -> Result<Vec<KnownPolicy>, QueryError> {
    let values = values![tenant.as_str(), channel.map(Channel::as_str), version];
    connection.all(POLICY_SQL, values, |row| {
        Ok(KnownPolicy {
            channel: channel_of(row, 0)?,
            version: row.get(1)?,
            objective: from_json(row.str(2)?)?,
            failover: from_json(row.str(3)?)?,
            defined_at: time(row.get(4)?)?,
            actor: row.text(5)?,
            advice: None,
        })
    })
}

fn with_advice(
    connection: Connection<'_>,
    tenant: &TenantId,
    policy: KnownPolicy,
) -> Result<KnownPolicy, QueryError> {
    let newest = advice(connection, tenant, policy.channel, Some(policy.version), 1)?.pop();
    Ok(KnownPolicy { advice: newest, ..policy })
}

fn advice(
    connection: Connection<'_>,
    tenant: &TenantId,
    channel: Channel,
    version: Option<u32>,
    limit: usize,
) -> Result<Vec<KnownAdvice>, QueryError> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let values = values![tenant.as_str(), channel.as_str(), version, limit];
    connection.all(ADVICE_SQL, values, |row| {
        Ok(KnownAdvice {
            version: row.get(0)?,
            advice: row.get(1)?,
            weights: from_json(row.str(2)?)?,
            order: from_json(row.str(3)?)?,
            reasons: from_json(row.str(4)?)?,
            advised_at: time(row.get(5)?)?,
        })
    })
}

fn known_split(connection: Connection<'_>, row: &Row<'_>) -> Result<KnownSplit, QueryError> {
    let key = row.text(0)?;
    let messages: i64 = row.get(4)?;
    let sql = "SELECT relay, weight, routed FROM split_relays WHERE key = ?1 ORDER BY relay";
    let shares: Vec<(SmolStr, u32, i64)> = connection
        .all(sql, values![&key], |row| Ok::<_, QueryError>((row.text(0)?, row.get(1)?, row.get(2)?)))?;
    let total: u64 = shares.iter().map(|(_, weight, _)| u64::from(*weight)).sum();
    let planned = |weight: u32| match total {
        0 => 0.0,
        total => messages as f64 * f64::from(weight) / total as f64,
    };
    Ok(KnownSplit {
        key,
        channel: channel_of(row, 1)?,
        version: row.get(2)?,
        objective: row.text(3)?,
        messages: u64::try_from(messages).unwrap_or(0),
        carry: from_json(row.str(5)?)?,
        left_out: from_json(row.str(6)?)?,
        updated_at: time(row.get(7)?)?,
        relays: shares
            .into_iter()
            .map(|(relay, weight, routed)| SplitShare {
                relay: RelayId::from_trusted(relay),
                weight,
                planned: planned(weight),
                routed: u64::try_from(routed).unwrap_or(0),
            })
            .collect(),
    })
}

fn channel_of(row: &Row<'_>, column: usize) -> Result<Channel, QueryError> {
    row.text(column)?.parse().map_err(QueryError::corrupt)
}
