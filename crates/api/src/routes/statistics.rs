//! `GET /v1/statistics`

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, NaiveDate, SecondsFormat, Timelike, Utc};
use kite_domain::slug::{RelayId, TenantId};
use kite_projections::{Dimension, StatisticsQuery, StatisticsRow};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::{IntoParams, ToSchema};

use super::routing::PercentilesView;
use crate::auth::Caller;
use crate::extract::ApiQuery;
use crate::problem::{Answer, Code, FieldError, Problem};
use crate::state::ApiState;
use crate::words::{ChannelWord, ClassWord, FailureWord};

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
    /// Only this relay.
    #[param(pattern = "^[a-z0-9][a-z0-9-]{0,31}$")]
    pub relay: Option<String>,
    /// Only this channel.
    pub channel: Option<ChannelWord>,
    /// Only this tenant; only for the admin key, which sees all tenants without it.
    #[param(pattern = "^[a-z0-9][a-z0-9-]{0,31}$")]
    pub tenant: Option<String>,
}

/// Figures of one group.
#[derive(Debug, Serialize, ToSchema)]
pub struct StatisticsView {
    /// The relay, where grouped by it; none: messages before any relay.
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
    /// Messages accepted.
    pub messages: u64,
    /// The exact share that the policies gave.
    pub planned: f64,
    /// First routes.
    pub first_routed: u64,
    /// All routes.
    pub routed: u64,
    /// Handed over.
    pub handed_over: u64,
    /// Accepted by the relay.
    pub accepted: u64,
    /// Without an answer.
    pub unknown: u64,
    /// Refused by the relay.
    pub refused: u64,
    /// Delivered.
    pub delivered: u64,
    /// Not delivered.
    pub undelivered: u64,
    /// Given up waiting.
    pub expired: u64,
    /// Cancelled.
    pub cancelled: u64,
    /// Failed over to another relay or channel.
    pub failed_over: u64,
    /// Delivered by two relays.
    pub delivered_twice: u64,
    /// Cost in thousandths of a won.
    pub cost_milliwon: i64,
    /// Failures by class.
    #[schema(value_type = BTreeMap<String, u64>)]
    pub failures: BTreeMap<FailureWord, u64>,
    /// Delivered of the attempts that ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub success_rate: Option<f64>,
    /// Failed over of the attempts that ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failover_rate: Option<f64>,
    /// Cost of a delivered message in thousandths of a won.
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

/// Counts messages, results, times and cost, grouped as asked. With `Accept: text/csv` the same as a table.
#[utoipa::path(
    get, path = "/v1/statistics", tag = "statistics", operation_id = "get_statistics", params(StatisticsParameters),
    responses((status = 200, description = "The figures.", body = Statistics))
)]
pub async fn handler(
    state: State<ApiState>,
    caller: Caller,
    ApiQuery(parameters): ApiQuery<StatisticsParameters>,
    headers: HeaderMap,
) -> Answer<Response> {
    let query = parameters.into_query(&caller)?;
    state.fresh_delivery(&headers).await?;
    let rows = state.query(move |models| models.delivery.statistics(&query)).await?;
    let rows: Vec<StatisticsView> = rows.into_iter().map(Into::into).collect();
    let wanted = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if !wanted.contains("text/csv") {
        return Ok(Json(Statistics { rows }).into_response());
    }
    let table =
        csv_table(&rows).map_err(|_| Problem::new(Code::Internal, "The table could not be written."))?;
    Ok(([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], table).into_response())
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
        let group_by: Option<Vec<Dimension>> = words.filter(|word| !word.is_empty()).map(dimension).collect();
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
    /// The counts are kept by the hour: a window that begins or ends within one would count more than it says.
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

fn dimension(word: &str) -> Option<Dimension> {
    Some(match word {
        "relay" => Dimension::Relay,
        "channel" => Dimension::Channel,
        "type" => Dimension::Type,
        "class" => Dimension::Class,
        "hour" => Dimension::Hour,
        "day" => Dimension::Day,
        "tenant" => Dimension::Tenant,
        _ => return None,
    })
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
            messages: row.messages,
            planned: row.planned,
            first_routed: row.first_routed,
            routed: row.routed,
            handed_over: row.handed_over,
            accepted: row.accepted,
            unknown: row.unknown,
            refused: row.refused,
            delivered: row.delivered,
            undelivered: row.undelivered,
            expired: row.expired,
            cancelled: row.cancelled,
            failed_over: row.failed_over,
            delivered_twice: row.delivered_twice,
            cost_milliwon: row.cost_milliwon,
            failures: row.failures.into_iter().map(|(class, count)| (class.into(), count)).collect(),
            success_rate: row.success_rate,
            failover_rate: row.failover_rate,
            cost_per_delivered_milliwon: row.cost_per_delivered_milliwon,
            acceptance_to_hand_over_ms: row.acceptance_to_hand_over_ms.map(Into::into),
            hand_over_to_delivery_ms: row.hand_over_to_delivery_ms.map(Into::into),
        }
    }
}

const COLUMNS: [&str; 32] = [
    "relay",
    "channel",
    "type",
    "class",
    "hour",
    "day",
    "tenant",
    "messages",
    "planned",
    "first_routed",
    "routed",
    "handed_over",
    "accepted",
    "unknown",
    "refused",
    "delivered",
    "undelivered",
    "expired",
    "cancelled",
    "failed_over",
    "delivered_twice",
    "cost_milliwon",
    "success_rate",
    "failover_rate",
    "cost_per_delivered_milliwon",
    "hand_over_p50_ms",
    "hand_over_p95_ms",
    "hand_over_p99_ms",
    "delivery_p50_ms",
    "delivery_p95_ms",
    "delivery_p99_ms",
    "failures",
];

/// With a byte order mark, so that spreadsheets read it as UTF-8.
fn csv_table(rows: &[StatisticsView]) -> Result<Vec<u8>, csv::Error> {
    let mut bytes = b"\xef\xbb\xbf".to_vec();
    let mut writer = csv::Writer::from_writer(&mut bytes);
    writer.write_record(COLUMNS)?;
    for row in rows {
        writer.write_record(cells(row))?;
    }
    writer.flush()?;
    drop(writer);
    Ok(bytes)
}

fn cells(row: &StatisticsView) -> Vec<String> {
    fn word(value: Option<impl Serialize>) -> String {
        let text = value.and_then(|value| serde_json::to_value(value).ok());
        text.and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
    }
    fn number(value: Option<f64>) -> String {
        value.map(|value| format!("{value:.4}")).unwrap_or_default()
    }
    fn times(value: Option<&PercentilesView>) -> [String; 3] {
        value
            .map(|times| [times.p50_ms, times.p95_ms, times.p99_ms].map(|ms| ms.to_string()))
            .unwrap_or_default()
    }
    let mut cells = vec![
        row.relay.clone().unwrap_or_default(),
        word(row.channel),
        word(row.message_type),
        word(row.class),
        row.hour.map(|hour| hour.to_rfc3339_opts(SecondsFormat::Secs, true)).unwrap_or_default(),
        row.day.map(|day| day.to_string()).unwrap_or_default(),
        row.tenant.clone().unwrap_or_default(),
        row.messages.to_string(),
        format!("{:.4}", row.planned),
    ];
    let counts = [
        row.first_routed,
        row.routed,
        row.handed_over,
        row.accepted,
        row.unknown,
        row.refused,
        row.delivered,
        row.undelivered,
        row.expired,
        row.cancelled,
        row.failed_over,
        row.delivered_twice,
    ];
    cells.extend(counts.map(|count| count.to_string()));
    cells.push(row.cost_milliwon.to_string());
    cells.extend([row.success_rate, row.failover_rate, row.cost_per_delivered_milliwon].map(number));
    cells.extend(times(row.acceptance_to_hand_over_ms.as_ref()));
    cells.extend(times(row.hand_over_to_delivery_ms.as_ref()));
    let failures = row.failures.iter().map(|(class, count)| format!("{}={count}", word(Some(class))));
    cells.push(failures.collect::<Vec<_>>().join(";"));
    cells
}
