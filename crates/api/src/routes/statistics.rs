//! `GET /v1/statistics`

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, NaiveDate, Timelike, Utc};
use futures::FutureExt;
use kite_domain::slug::{RelayId, TenantId};
use kite_projections::{Counter, Dimension, StatisticsQuery, StatisticsRow};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::{IntoParams, ToSchema};

use super::routing::PercentilesView;
use crate::answer::Page;
use crate::auth::Caller;
use crate::counters::{AllCounters, cell};
use crate::export::{Column, FileFormat, FormatWord, Listed, export, optional, time};
use crate::extract::ApiQuery;
use crate::problem::{Answer, Code, FieldError, Problem};
use crate::state::ApiState;
use crate::vocabulary::{ChannelWord, ClassWord, FailureWord};

/// What is counted, and how it is grouped.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StatisticsParameters {
    /// Any of relay, channel, type, class, hour, day (of Asia/Seoul), tenant, separated by commas; none: one row for all.
    #[param(
        example = "relay,channel",
        pattern = "^((relay|channel|type|class|hour|day|tenant)(,(relay|channel|type|class|hour|day|tenant))*)?$"
    )]
    pub group_by: Option<String>,
    /// Requested at this time or later. Counted by the hour, so a whole hour.
    pub from: Option<DateTime<Utc>>,
    /// Requested before this time; a whole hour, and later than `from`.
    pub until: Option<DateTime<Utc>>,
    /// Only attempts at this relay, and messages whose newest attempt is there.
    #[param(pattern = "^[a-z0-9][a-z0-9-]{0,31}$")]
    pub relay: Option<String>,
    /// Only attempts on this channel, and messages whose newest attempt is on it.
    pub channel: Option<ChannelWord>,
    /// Only this tenant; only for the admin key, which sees all tenants without it.
    #[param(pattern = "^[a-z0-9][a-z0-9-]{0,31}$")]
    pub tenant: Option<String>,
    /// As a file: `csv` or `ndjson`, one row per group. The header `accept` does the same.
    pub format: Option<FormatWord>,
}

/// Figures of one group. Counters of messages belong to the relay and channel of the message's newest attempt,
/// counters of attempts to those of the attempt, so the rows add up.
#[derive(Debug, Serialize, ToSchema)]
pub struct StatisticsView {
    /// The relay, if grouped by it; none: messages that have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relay: Option<String>,
    /// The channel, where grouped by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<ChannelWord>,
    /// The type, where grouped by it.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub message_type: Option<ChannelWord>,
    /// The class, where grouped by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<ClassWord>,
    /// The hour, where grouped by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hour: Option<DateTime<Utc>>,
    /// The day in Asia/Seoul, where grouped by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = Date)]
    pub day: Option<NaiveDate>,
    /// The tenant, where grouped by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Everything that is counted.
    #[serde(flatten)]
    pub counters: AllCounters,
    /// Attempts that a relay refused or could not deliver, by the class of its code.
    #[schema(value_type = BTreeMap<String, u64>)]
    pub failures: BTreeMap<FailureWord, u64>,
    /// `delivered` of `delivered + undelivered + expired`: of the messages that were meant to arrive and have ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub success_rate: Option<f64>,
    /// `attempts_delivered` of the attempts that were delivered, undelivered, refused or expired.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt_success_rate: Option<f64>,
    /// `failovers` of `attempts`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failover_rate: Option<f64>,
    /// `cost_milliwon` of `attempts_delivered`, in thousandths of a won.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_per_delivered_milliwon: Option<f64>,
    /// From acceptance to hand-over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acceptance_to_hand_over_ms: Option<PercentilesView>,
    /// From hand-over to delivery.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hand_over_to_delivery_ms: Option<PercentilesView>,
}

/// The figures.
#[derive(Debug, Serialize, ToSchema)]
pub struct Statistics {
    /// One a group.
    pub rows: Vec<StatisticsView>,
}

/// Counts messages, results, times and cost, grouped as requested.
///
/// Each message is counted once, each outcome once, and under the same names as at a sending: the rows add up. With
/// `format=csv` (or `Accept: text/csv`) the same as a table, with `format=ndjson` as one row per line. An answer, or
/// a file, has up to 10,000 groups; more are refused.
#[utoipa::path(
    get, path = "/v1/statistics", tag = "statistics", operation_id = "get_statistics", params(StatisticsParameters),
    responses((status = 200, description = "The figures.", content(
        (Statistics = "application/json"), (String = "text/csv"), (String = "application/x-ndjson")
    )))
)]
pub async fn handler(
    state: State<ApiState>,
    caller: Caller,
    ApiQuery(parameters): ApiQuery<StatisticsParameters>,
    headers: HeaderMap,
) -> Answer<Response> {
    let format = FileFormat::of(parameters.format, &headers);
    let query = parameters.into_query(&caller)?;
    let Some(format) = format else {
        return Ok(Json(Statistics { rows: rows(&state, query).await? }).into_response());
    };
    let source = state.0.clone();
    let pages = Box::new(move |_: Option<String>| {
        let (state, query) = (source.clone(), query.clone());
        async move { Ok(Page { items: rows(&state, query).await?, next: None }) }.boxed()
    });
    export::<StatisticsView>(&state, caller.tenant(), format, None, pages).await
}

async fn rows(state: &ApiState, query: StatisticsQuery) -> Answer<Vec<StatisticsView>> {
    let rows = state.query(move |models| models.delivery.statistics(&query)).await?;
    Ok(rows.into_iter().map(Into::into).collect())
}

impl StatisticsParameters {
    fn into_query(self, caller: &Caller) -> Answer<StatisticsQuery> {
        let invalid = |detail: String| Problem::new(Code::InvalidParameter, detail);
        let named = self.tenant.as_deref().map(TenantId::parse).transpose();
        let named = named.map_err(|error| invalid(format!("The parameter tenant: {error}.")))?;
        let tenant = match (caller.tenant(), named) {
            (Some(_), Some(_)) => {
                return Err(Problem::new(Code::NotPermitted, "Only the admin key may name a tenant."));
            }
            (Some(own), None) => Some(own.clone()),
            (None, named) => named,
        };
        self.check_window()?;
        let relay = self.relay.as_deref().map(RelayId::parse).transpose();
        let words = self.group_by.as_deref().unwrap_or_default().split(',').map(str::trim);
        let group_by: Option<Vec<Dimension>> =
            words.filter(|word| !word.is_empty()).map(|word| word.parse().ok()).collect();
        Ok(StatisticsQuery {
            tenant,
            from: self.from,
            until: self.until,
            group_by: group_by.ok_or_else(|| {
                invalid(
                    "The parameter group_by takes relay, channel, type, class, hour, day and tenant."
                        .to_owned(),
                )
            })?,
            relay: relay.map_err(|error| invalid(format!("The parameter relay: {error}.")))?,
            channel: self.channel.map(Into::into),
        })
    }
}

impl StatisticsParameters {
    /// The counts are kept by the hour: a window that begins or ends within an hour would count too much.
    fn check_window(&self) -> Answer<()> {
        let refused = |field: &str, code: &str, detail: &str| {
            let error = FieldError::new(field, code, detail);
            Err(Problem::new(Code::InvalidParameter, format!("The parameter {field}: {detail}.")).at(error))
        };
        for (field, time) in [("from", self.from), ("until", self.until)] {
            if time.is_some_and(|time| (time.minute(), time.second(), time.nanosecond()) != (0, 0, 0)) {
                return refused(
                    field,
                    "not_on_the_hour",
                    "it must be a whole hour, such as 2026-03-02T15:00:00Z",
                );
            }
        }
        match (self.from, self.until) {
            (Some(from), Some(until)) if until <= from => {
                refused("until", "window_empty", "it must be later than from")
            }
            _ => Ok(()),
        }
    }
}

impl From<StatisticsRow> for StatisticsView {
    fn from(row: StatisticsRow) -> Self {
        Self {
            relay: row.relay.map(|relay| relay.to_string()),
            channel: row.channel.map(Into::into),
            message_type: row.message_type.map(Into::into),
            class: row.class.map(Into::into),
            hour: row.hour,
            day: row.day,
            tenant: row.tenant.map(|tenant| tenant.to_string()),
            counters: row.counts.into(),
            failures: row.failures.into_iter().map(|(class, count)| (class.into(), count)).collect(),
            success_rate: row.counts.success_rate(),
            attempt_success_rate: row.counts.attempt_success_rate(),
            failover_rate: row.counts.failover_rate(),
            cost_per_delivered_milliwon: row.counts.cost_per_delivered_milliwon(),
            acceptance_to_hand_over_ms: row.acceptance_to_hand_over_ms.map(Into::into),
            hand_over_to_delivery_ms: row.hand_over_to_delivery_ms.map(Into::into),
        }
    }
}

impl Listed for StatisticsView {
    const FILE: &'static str = "statistics";

    fn columns() -> Vec<Column<Self>> {
        fn decimal(value: Option<f64>) -> String {
            value.map(|value| format!("{value:.4}")).unwrap_or_default()
        }
        let counters = Counter::ALL
            .iter()
            .map(|counter| Column::new(counter.word(), |row: &Self| cell(row.counters.as_ref(), *counter)));
        let mut columns: Vec<Column<Self>> = vec![
            Column::new("relay", |row: &Self| optional(row.relay.as_ref())),
            Column::new("channel", |row: &Self| optional(row.channel)),
            Column::new("type", |row: &Self| optional(row.message_type)),
            Column::new("class", |row: &Self| optional(row.class)),
            Column::new("hour", |row: &Self| time(row.hour)),
            Column::new("day", |row: &Self| optional(row.day)),
            Column::new("tenant", |row: &Self| optional(row.tenant.as_ref())),
        ];
        columns.extend(counters);
        columns.extend([
            Column::new("success_rate", |row: &Self| decimal(row.success_rate)),
            Column::new("attempt_success_rate", |row: &Self| decimal(row.attempt_success_rate)),
            Column::new("failover_rate", |row: &Self| decimal(row.failover_rate)),
            Column::new("cost_per_delivered_milliwon", |row: &Self| decimal(row.cost_per_delivered_milliwon)),
            Column::new("hand_over_p50_ms", |row: &Self| at(&row.acceptance_to_hand_over_ms, |ms| ms.p50_ms)),
            Column::new("hand_over_p95_ms", |row: &Self| at(&row.acceptance_to_hand_over_ms, |ms| ms.p95_ms)),
            Column::new("hand_over_p99_ms", |row: &Self| at(&row.acceptance_to_hand_over_ms, |ms| ms.p99_ms)),
            Column::new("delivery_p50_ms", |row: &Self| at(&row.hand_over_to_delivery_ms, |ms| ms.p50_ms)),
            Column::new("delivery_p95_ms", |row: &Self| at(&row.hand_over_to_delivery_ms, |ms| ms.p95_ms)),
            Column::new("delivery_p99_ms", |row: &Self| at(&row.hand_over_to_delivery_ms, |ms| ms.p99_ms)),
            Column::new("failures", |row: &Self| {
                let classes = row.failures.iter().map(|(class, count)| format!("{class}={count}"));
                classes.collect::<Vec<_>>().join(";")
            }),
        ]);
        columns
    }
}

fn at(times: &Option<PercentilesView>, percentile: impl Fn(&PercentilesView) -> u64) -> String {
    optional(times.as_ref().map(percentile))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kite_domain::advice::Percentiles;
    use kite_domain::failure::FailureClass;
    use kite_projections::Counts;

    /// Every value is different, so that two swapped columns would show.
    #[test]
    fn every_column_holds_what_its_name_says() {
        let times = |first: u64| Percentiles {
            p50_ms: first,
            p95_ms: first + 1,
            p99_ms: first + 2,
            samples: first + 3,
        };
        let row = StatisticsRow {
            relay: Some(RelayId::parse("alpha").unwrap()),
            tenant: Some(TenantId::parse("acme").unwrap()),
            counts: Counts {
                messages: 100,
                open: 11,
                delivered: 12,
                undelivered: 13,
                expired: 14,
                cancelled: 15,
                refused: 16,
                routed: 17,
                handed_over: 18,
                delivered_twice: 19,
                planned: 205_000,
                first_routed: 21,
                attempts: 22,
                failovers: 23,
                attempts_handed_over: 24,
                attempts_accepted: 25,
                attempts_unknown: 26,
                attempts_refused: 27,
                attempts_delivered: 28,
                attempts_undelivered: 29,
                attempts_expired: 30,
                cost_milliwon: 31,
            },
            failures: BTreeMap::from([(FailureClass::RelayFault, 41), (FailureClass::Content, 42)]),
            acceptance_to_hand_over_ms: Some(times(51)),
            hand_over_to_delivery_ms: Some(times(61)),
            ..StatisticsRow::default()
        };
        let view = StatisticsView::from(row);
        let columns = StatisticsView::columns();
        let cells: BTreeMap<&str, String> =
            columns.iter().map(|column| (&*column.name, (column.cell)(&view))).collect();
        let is = |name: &str, value: &str| assert_eq!(cells[name], value, "{name}");
        is("relay", "alpha");
        is("tenant", "acme");
        is("channel", "");
        is("messages", "100");
        is("planned", "20.5000");
        let numbers =
            ["open", "delivered", "undelivered", "expired", "cancelled", "refused", "routed", "handed_over"];
        numbers.iter().zip(11..).for_each(|(name, value)| is(name, &value.to_string()));
        is("delivered_twice", "19");
        is("attempts_refused", "27");
        is("attempts_delivered", "28");
        is("attempts_undelivered", "29");
        is("attempts_expired", "30");
        is("cost_milliwon", "31");
        is("success_rate", "0.3077");
        is("attempt_success_rate", "0.2456");
        is("failover_rate", "1.0455");
        is("cost_per_delivered_milliwon", "1.1071");
        for (name, value) in [("hand_over", 51), ("delivery", 61)] {
            for (percentile, more) in [("p50", 0), ("p95", 1), ("p99", 2)] {
                is(&format!("{name}_{percentile}_ms"), &(value + more).to_string());
            }
        }
        is("failures", "relay_fault=41;content=42");
        let json = serde_json::to_value(&view).unwrap();
        for counter in Counter::ALL.iter().filter(|counter| **counter != Counter::Planned) {
            assert_eq!(json[counter.word()].to_string(), cells[counter.word()], "{counter:?}");
        }
        assert_eq!(json["hand_over_to_delivery_ms"]["p95_ms"], 62);
        assert_eq!(json["hand_over_to_delivery_ms"]["p99_ms"], 63);
    }
}
