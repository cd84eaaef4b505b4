//! Statistics in any grouping, added up from the rows of the hours.

use chrono::{DateTime, NaiveDate, Utc};
use kite_domain::advice::Percentiles;
use kite_domain::failure::FailureClass;
use kite_domain::sending::MessageClass;
use kite_domain::slug::{RelayId, TenantId};
use kite_domain::text::{Channel, MessageType};
use kite_domain::time_window::seoul_day;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::DeliveryQueries;
use super::codes::Coded;
use super::counters::{self, Counts};
use super::statistics::{HOUR_MS, Metric};
use super::word_numbers::{WordList, find};
use crate::engine::{Connection, Row, StorageError};
use crate::error::QueryError;
use crate::histogram::Histogram;
use crate::sql::time;

/// What statistics can be grouped by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[derive(strum::EnumString, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Dimension {
    /// For attempts their relay, for messages that of their newest attempt.
    Relay,
    /// For attempts their channel, for messages that of their newest attempt.
    Channel,
    /// The type of the message.
    Type,
    /// The urgency of the message.
    Class,
    /// The hour of acceptance (an hour of Asia/Seoul is one of UTC).
    Hour,
    /// The day of acceptance in Asia/Seoul.
    Day,
    /// Whose message.
    Tenant,
}

/// Groups that an answer may have: every one of them is held in memory until all is added up.
const GROUPS_MAX: usize = 10_000;

/// Which statistics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatisticsQuery {
    /// Of one tenant; none: of all.
    pub tenant: Option<TenantId>,
    /// Accepted in this hour or later.
    pub from: Option<DateTime<Utc>>,
    /// Accepted in an hour that begins before.
    pub until: Option<DateTime<Utc>>,
    /// A row for each combination of these; none: one row in all.
    pub group_by: Vec<Dimension>,
    /// Only attempts at this relay, and messages whose newest attempt is there.
    pub relay: Option<RelayId>,
    /// Only attempts on this channel, and messages whose newest attempt is on it.
    pub channel: Option<Channel>,
}

/// Sums over messages accepted and attempts made.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StatisticsRow {
    /// Where grouped by it; none also for messages that have no relay.
    pub relay: Option<RelayId>,
    /// Where grouped by it.
    pub channel: Option<Channel>,
    /// Where grouped by it.
    pub message_type: Option<MessageType>,
    /// Where grouped by it.
    pub class: Option<MessageClass>,
    /// Where grouped by it.
    pub hour: Option<DateTime<Utc>>,
    /// Where grouped by it: the day in Asia/Seoul.
    pub day: Option<NaiveDate>,
    /// Where grouped by it.
    pub tenant: Option<TenantId>,
    /// Everything that is counted.
    pub counts: Counts,
    /// Attempts refused or undelivered, by class.
    pub failures: BTreeMap<FailureClass, u64>,
    /// From acceptance (for a scheduled sending: from its release) to the first hand-over.
    pub acceptance_to_hand_over_ms: Option<Percentiles>,
    /// From the hand-over of an attempt to its delivery.
    pub hand_over_to_delivery_ms: Option<Percentiles>,
}

/// The values of the dimensions grouped by, 0 elsewhere.
type Group = [i64; 6];

#[derive(Default)]
struct Sums {
    counts: Counts,
    failures: BTreeMap<FailureClass, u64>,
    waits: Histogram,
    deliveries: Histogram,
}

impl Sums {
    fn is_empty(&self) -> bool {
        self.counts == Counts::default()
            && self.failures.is_empty()
            && self.waits.percentiles().is_none()
            && self.deliveries.percentiles().is_none()
    }
}

impl DeliveryQueries {
    /// Adds up statistics; rows in the order of what they are grouped by. More than 10,000 groups are refused.
    pub fn statistics(&self, query: &StatisticsQuery) -> Result<Vec<StatisticsRow>, QueryError> {
        self.statistics_within(query, GROUPS_MAX)
    }

    pub(crate) fn statistics_within(
        &self,
        query: &StatisticsQuery,
        groups_max: usize,
    ) -> Result<Vec<StatisticsRow>, QueryError> {
        self.readers.ask(|connection| {
            let Some(selection) = Selection::new(connection, query)? else { return Ok(Vec::new()) };
            selection.check_groups(connection, groups_max)?;
            let mut groups: BTreeMap<Group, Sums> = BTreeMap::new();
            selection.counts(connection, &mut groups)?;
            selection.failures(connection, &mut groups)?;
            selection.times(connection, &mut groups)?;
            // A message that had no relay for a moment leaves a row of zeros there.
            groups.retain(|_, sums| !sums.is_empty());
            let mut words = WordList::default();
            groups.into_iter().map(|(group, sums)| row(connection, &mut words, query, group, sums)).collect()
        })
    }
}

/// Seoul is nine hours ahead of UTC, all year.
const FIRST_HOUR_OF_DAY: &str = "(hour + 32400000) / 86400000 * 86400000 - 32400000";

/// The condition and the grouping, as SQL; everything in it is a number of ours.
struct Selection {
    group: String,
    condition: String,
}

impl Selection {
    /// None: nothing can match.
    fn new(connection: Connection<'_>, query: &StatisticsQuery) -> Result<Option<Self>, QueryError> {
        let column = |dimension: Dimension, name: &'static str| {
            if query.group_by.contains(&dimension) { name } else { "0" }
        };
        let hour = match query.group_by.contains(&Dimension::Hour) {
            true => "hour",
            false => column(Dimension::Day, FIRST_HOUR_OF_DAY),
        };
        let group = [
            column(Dimension::Tenant, "tenant"),
            hour,
            column(Dimension::Relay, "relay"),
            column(Dimension::Channel, "channel"),
            column(Dimension::Type, "message_type"),
            column(Dimension::Class, "class"),
        ]
        .join(", ");
        let mut condition = String::from("TRUE");
        for (name, word) in [
            ("tenant", query.tenant.as_ref().map(TenantId::as_str)),
            ("relay", query.relay.as_ref().map(RelayId::as_str)),
        ] {
            let Some(word) = word else { continue };
            let Some(number) = find(connection, word)? else { return Ok(None) };
            condition.push_str(&format!(" AND {name} = {number}"));
        }
        if let Some(channel) = query.channel {
            condition.push_str(&format!(" AND channel = {}", channel.code()));
        }
        if let Some(from) = query.from {
            let hour = from.timestamp_millis().div_euclid(HOUR_MS) * HOUR_MS;
            condition.push_str(&format!(" AND hour >= {hour}"));
        }
        if let Some(until) = query.until {
            condition.push_str(&format!(" AND hour < {}", until.timestamp_millis()));
        }
        Ok(Some(Self { group, condition }))
    }

    /// Reads one group more than there may be, and no more. A group has failures and times only if it has counts.
    fn check_groups(&self, connection: Connection<'_>, groups_max: usize) -> Result<(), QueryError> {
        let Self { group, condition } = self;
        let sql = format!(
            "SELECT count(*) FROM (SELECT DISTINCT {group} FROM statistics WHERE {condition} LIMIT {}) AS found",
            groups_max + 1
        );
        let groups: u32 = connection.one(&sql, &[], |row| Ok::<_, QueryError>(row.get(0)?))?;
        if groups as usize > groups_max { Err(QueryError::TooManyGroups(groups_max)) } else { Ok(()) }
    }

    fn counts(
        &self,
        connection: Connection<'_>,
        groups: &mut BTreeMap<Group, Sums>,
    ) -> Result<(), QueryError> {
        let sums = counters::joined(|counter| format!("CAST(sum({}) AS BIGINT)", counter.word()));
        let Self { group, condition } = self;
        let sql =
            format!("SELECT {group}, {sums} FROM statistics WHERE {condition} GROUP BY 1, 2, 3, 4, 5, 6");
        connection.each(&sql, &[], |row| {
            groups.entry(group_of(row)?).or_default().counts = counters::read(row, 6)?;
            Ok(ControlFlow::Continue(()))
        })
    }

    fn failures(
        &self,
        connection: Connection<'_>,
        groups: &mut BTreeMap<Group, Sums>,
    ) -> Result<(), QueryError> {
        let Self { group, condition } = self;
        let sql = format!(
            "SELECT {group}, failure, CAST(sum(count) AS BIGINT) FROM statistic_failures WHERE {condition}
             GROUP BY 1, 2, 3, 4, 5, 6, 7 HAVING sum(count) > 0"
        );
        connection.each(&sql, &[], |row| {
            let class = FailureClass::from_code(row.get(6)?);
            let class = class.ok_or_else(|| QueryError::corrupt("a failure class"))?;
            let count = u64::try_from(row.get::<i64>(7)?).unwrap_or(0);
            groups.entry(group_of(row)?).or_default().failures.insert(class, count);
            Ok(ControlFlow::Continue(()))
        })
    }

    fn times(
        &self,
        connection: Connection<'_>,
        groups: &mut BTreeMap<Group, Sums>,
    ) -> Result<(), QueryError> {
        let Self { group, condition } = self;
        let sql = format!(
            "SELECT {group}, metric, bucket, CAST(sum(count) AS BIGINT) FROM statistic_times WHERE {condition}
             GROUP BY 1, 2, 3, 4, 5, 6, 7, 8 HAVING sum(count) > 0"
        );
        connection.each(&sql, &[], |row| {
            let sums = groups.entry(group_of(row)?).or_default();
            let histogram = if row.get::<i64>(6)? == Metric::AcceptanceToHandOver as i64 {
                &mut sums.waits
            } else {
                &mut sums.deliveries
            };
            histogram.add(row.get(7)?, u64::try_from(row.get::<i64>(8)?).unwrap_or(0));
            Ok(ControlFlow::Continue(()))
        })
    }
}

fn group_of(row: &Row<'_>) -> Result<Group, StorageError> {
    let mut group = Group::default();
    for (column, value) in group.iter_mut().enumerate() {
        *value = row.get(column)?;
    }
    Ok(group)
}

/// The figures of one group, in words.
fn row(
    connection: Connection<'_>,
    words: &mut WordList,
    query: &StatisticsQuery,
    group: Group,
    sums: Sums,
) -> Result<StatisticsRow, QueryError> {
    let by = |dimension: Dimension| query.group_by.contains(&dimension);
    let [tenant, hour, relay, channel, message_type, class] = group;
    let mut word = |number: i64| words.word(connection, u32::try_from(number).unwrap_or(0));
    Ok(StatisticsRow {
        relay: word(relay)?.map(RelayId::from_trusted),
        channel: by(Dimension::Channel).then(|| Channel::from_code(channel)).flatten(),
        message_type: by(Dimension::Type).then(|| MessageType::from_code(message_type)).flatten(),
        class: by(Dimension::Class).then(|| MessageClass::from_code(class)).flatten(),
        hour: by(Dimension::Hour).then(|| time(hour)).transpose()?,
        day: by(Dimension::Day).then(|| time(hour).map(seoul_day)).transpose()?,
        tenant: word(tenant)?.map(TenantId::from_trusted),
        counts: sums.counts,
        failures: sums.failures,
        acceptance_to_hand_over_ms: sums.waits.percentiles(),
        hand_over_to_delivery_ms: sums.deliveries.percentiles(),
    })
}
