//! The views for people in PostgreSQL: sendings, messages and statistics, in words and in money.
//!
//! They are a promise: columns keep their names and meanings, and new ones come at the end of a view (PostgreSQL allows nothing else
//! while somebody has built upon them). docs/how-to/query-with-sql.md describes them.

use kite_domain::failure::FailureClass;
use kite_domain::sending::MessageClass;
use kite_domain::text::MessageType;

use super::codes::{Coded, MessageStatus};
use super::counters::{self, Counter, PLANNED_UNIT};
use super::sendings::PAUSERS;

/// Makes them on the tables of this schema.
pub(super) fn views(schema: &str) -> String {
    let class = |column: &str| words::<MessageClass>(column, |class| class.word());
    let kind = |column: &str| words::<MessageType>(column, |kind| kind.as_str());
    let status = words::<MessageStatus>("m.status", |status| status.word());
    let failure_class = |column: &str| words::<FailureClass>(column, |class| class.as_str());
    let paused_by = case("s.paused_by", PAUSERS.iter().map(|by| by.into()));
    let counters = |table: &str| counters::joined(|counter| counter_in_view(table, counter));
    format!(
        "
CREATE OR REPLACE VIEW kite.sendings AS
SELECT encode(s.id, 'hex')::uuid AS id, s.tenant, {class_of_sending} AS class, {accepted} AS accepted_at,
       {scheduled} AS scheduled_at, {released} AS released_at, {paused} AS paused_at, {paused_by} AS paused_by,
       s.pause_reason, {cancelled} AS cancelled_at, {completed} AS completed_at, {expires} AS expires_at,
       s.client_reference, c.from_phone, c.from_email, c.subject, s.refused_recipients, {counters_of_sending}
FROM {schema}.sendings s JOIN {schema}.contents c ON c.sending = s.id
WHERE s.accepted_ms IS NOT NULL;

CREATE OR REPLACE VIEW kite.messages AS
SELECT encode(l.sending, 'hex')::uuid AS sending, l.number * {per_lot} + m.id - l.first AS number,
       tenant.word AS tenant, {class_of_lot} AS class, m.recipient, m.email,
       encode(m.contact, 'hex')::uuid AS contact, m.reference, {message_type} AS message_type,
       m.parts, {channel} AS channel, {status} AS status, relay.word AS relay, m.attempts_made AS attempts,
       {lot_accepted} AS accepted_at, {submitted} AS first_submitted_at, {final_at} AS final_at,
       {held} AS held_until, reason.word AS reason, {failure_class_of_message} AS failure_class,
       m.cost_milliwon / 1000.0 AS cost_won
FROM {schema}.lots l
JOIN {schema}.messages m ON m.id >= l.first AND m.id < l.first + l.messages
LEFT JOIN {schema}.words tenant ON tenant.id = l.tenant
LEFT JOIN {schema}.words relay ON relay.id = m.relay
LEFT JOIN {schema}.words reason ON reason.id = m.reason
WHERE l.is_sealed = 1;

CREATE OR REPLACE VIEW kite.statistics AS
SELECT tenant.word AS tenant, {hour} AS hour, relay.word AS relay, {statistics_channel} AS channel,
       {statistics_type} AS message_type, {statistics_class} AS class, {counters_of_statistics}
FROM {schema}.statistics s
LEFT JOIN {schema}.words tenant ON tenant.id = s.tenant
LEFT JOIN {schema}.words relay ON relay.id = s.relay;

CREATE OR REPLACE VIEW kite.statistic_failures AS
SELECT tenant.word AS tenant, {hour} AS hour, relay.word AS relay, {statistics_channel} AS channel,
       {statistics_type} AS message_type, {statistics_class} AS class, {failure} AS failure_class,
       s.count AS attempts
FROM {schema}.statistic_failures s
LEFT JOIN {schema}.words tenant ON tenant.id = s.tenant
LEFT JOIN {schema}.words relay ON relay.id = s.relay
WHERE s.count > 0;
",
        class_of_sending = class("s.class"),
        accepted = time("s.accepted_ms"),
        scheduled = time("s.scheduled_ms"),
        released = time("s.released_ms"),
        paused = time("s.paused_ms"),
        cancelled = time("s.cancelled_ms"),
        completed = time("s.completed_ms"),
        expires = time("s.expires_ms"),
        counters_of_sending = counters("s"),
        per_lot = kite_domain::ids::SEQS_PER_LOT,
        class_of_lot = class("l.class"),
        message_type = kind("m.message_type"),
        channel = kind("m.channel"),
        lot_accepted = time("l.accepted_ms"),
        submitted = time("m.first_submitted_ms"),
        final_at = time("m.final_ms"),
        held = time("m.held_until_ms"),
        failure_class_of_message = failure_class("m.failure_class"),
        hour = time("s.hour"),
        statistics_channel = kind("s.channel"),
        statistics_type = kind("s.message_type"),
        statistics_class = class("s.class"),
        counters_of_statistics = counters("s"),
        failure = failure_class("s.failure"),
    )
}

/// A time.
fn time(column: &str) -> String {
    format!("to_timestamp({column} / 1000.0)")
}

/// The word of a stored number.
fn words<T: Coded>(column: &str, word: impl Fn(T) -> &'static str) -> String {
    case(column, T::VALUES.iter().map(|value| word(*value)))
}

fn case(column: &str, words: impl Iterator<Item = &'static str>) -> String {
    let whens: Vec<String> =
        words.enumerate().map(|(number, word)| format!("WHEN {number} THEN '{word}'")).collect();
    format!("CASE {column} {} END", whens.join(" "))
}

/// Counts as they are, money in won, planned shares in messages.
fn counter_in_view(table: &str, counter: Counter) -> String {
    let column = counter.word();
    match counter {
        Counter::CostMilliwon => format!("{table}.{column} / 1000.0 AS cost_won"),
        Counter::Planned => format!("{table}.{column} / {PLANNED_UNIT}.0 AS {column}"),
        _ => format!("{table}.{column}"),
    }
}
