//! The counters of the platform as fields of the API: their names, meanings and number come from the one list of
//! [`kite_projections::Counter`].

use kite_projections::{Counter, Counts};
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::borrow::Cow;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::{PartialSchema, ToSchema};

/// Values of chosen counters, each a field.
macro_rules! counter_views {
    ($($(#[$doc:meta])* $name:ident as $schema:literal = $counters:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub struct $name(Counts);

        impl From<Counts> for $name {
            fn from(counts: Counts) -> Self {
                Self(counts)
            }
        }

        /// The values of all counters, those that are not shown included.
        impl AsRef<Counts> for $name {
            fn as_ref(&self) -> &Counts {
                &self.0
            }
        }

        impl $name {
            fn counters() -> impl Iterator<Item = Counter> {
                $counters
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serialize(&self.0, Self::counters(), serializer)
            }
        }

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                schema(Self::counters())
            }
        }

        impl ToSchema for $name {
            fn name() -> Cow<'static, str> {
                $schema.into()
            }
        }
    )*};
}

counter_views! {
    /// All of them.
    AllCounters as "Counters" = Counter::ALL.iter().copied();
    /// How messages stand.
    OutcomeCountsView as "OutcomeCounts" = Counter::STANDINGS.into_iter();
    /// All but how messages stand.
    OtherCounters as "SendingCounters" =
        Counter::ALL.iter().copied().filter(|counter| !Counter::STANDINGS.contains(counter));
}

/// Whether a counter is shown with decimals: shares of messages are kept as parts of one.
fn is_decimal(counter: Counter) -> bool {
    counter == Counter::Planned
}

/// A counter as a cell of a table.
pub(crate) fn cell(counts: &Counts, counter: Counter) -> String {
    match is_decimal(counter) {
        true => format!("{:.4}", counts.planned_messages()),
        false => counts.get(counter).to_string(),
    }
}

fn serialize<S: Serializer>(
    counts: &Counts,
    counters: impl Iterator<Item = Counter>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(None)?;
    for counter in counters {
        match is_decimal(counter) {
            true => map.serialize_entry(counter.word(), &counts.planned_messages())?,
            false => map.serialize_entry(counter.word(), &counts.get(counter))?,
        }
    }
    map.end()
}

fn schema(counters: impl Iterator<Item = Counter>) -> RefOr<Schema> {
    let fields = counters.fold(ObjectBuilder::new(), |object, counter| {
        let (kind, format) = match is_decimal(counter) {
            true => (Type::Number, KnownFormat::Double),
            false => (Type::Integer, KnownFormat::Int64),
        };
        let field = ObjectBuilder::new()
            .description(Some(counter.definition()))
            .schema_type(kind)
            .format(Some(SchemaFormat::KnownFormat(format)));
        object.property(counter.word(), field.build()).required(counter.word())
    });
    RefOr::T(Schema::Object(fields.build()))
}

/// The values of all counters in the Prometheus text format: the present values, over all tenants and times.
pub(crate) fn metrics_text(totals: &[kite_projections::RelayTotals]) -> String {
    use std::fmt::Write;
    const WRITTEN: &str = "writing to a string cannot fail";
    let mut text = String::new();
    if totals.is_empty() {
        return text;
    }
    for counter in Counter::ALL {
        let name = format!("kite_counted_{}", counter.word());
        writeln!(text, "# HELP {name} {}\n# TYPE {name} gauge", counter.definition()).expect(WRITTEN);
        for one in totals {
            let relay = one.relay.as_ref().map_or("", |relay| relay.as_str());
            let (channel, class) = (one.channel.as_str(), one.class.word());
            let value = cell(&one.counts, *counter);
            writeln!(text, "{name}{{relay=\"{relay}\",channel=\"{channel}\",class=\"{class}\"}} {value}")
                .expect(WRITTEN);
        }
    }
    text
}

/// The list of counters as a page of the documentation: docs/counters.md.
pub fn counters_markdown() -> String {
    use std::fmt::Write;
    const WRITTEN: &str = "writing to a string cannot fail";
    let mut page = String::from(
        "# Counters\n\nEvery counter stands once, in `crates/projections/src/delivery/counters.rs`. Sendings, statistics, \
         metrics (`kite_counted_<name>` at `/metrics`) and files all show these, under these names. This page is made \
         from that list.\n\nWhat counts messages stands at the relay and channel of the message's newest attempt, or at \
         no relay while it has none. It moves along when the message fails over. What counts attempts stands at the \
         relay and channel of the attempt. So a table by relay adds up: the rows to all messages, and in each row \
         `open`, `delivered`, `undelivered`, `expired`, `cancelled` and `refused` to `messages`.\n\nA message counts \
         from the seal of its sending on, which is what a 202 waits for.\n\n| counter | counts | meaning |\n| --- | \
         --- | --- |\n",
    );
    for counter in Counter::ALL {
        let counted: &str = counter.counted().into();
        writeln!(page, "| `{}` | {counted} | {} |", counter.word(), counter.definition()).expect(WRITTEN);
    }
    page.push_str(RATES);
    page
}

const RATES: &str = "
## Rates

| rate | meaning |
| --- | --- |
| `success_rate` | `delivered` of `delivered + undelivered + expired`. What was cancelled, or forbidden by a rule, was never to be delivered. |
| `attempt_success_rate` | `attempts_delivered` of `attempts_delivered + attempts_undelivered + attempts_refused + attempts_expired`: how a relay does. |
| `failover_rate` | `failovers` of `attempts`. |
| `cost_per_delivered_milliwon` | `cost_milliwon` of `attempts_delivered`, what came to nothing included. |

A rate is left out where there is nothing to divide by.

## Failures by reason

`failures` counts attempts that a relay refused or could not deliver, by the class of its code. Their sum is
`attempts_refused + attempts_undelivered`, but for codes without a class. Why a message ended is the `reason` of the
message: search by it, or take the messages as a file.
";

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_sending_shows_every_counter_once() {
        let counts = Counts { messages: 3, expired: 2, open: 1, planned: 25_000, ..Counts::default() };
        let standings = serde_json::to_value(OutcomeCountsView::from(counts)).unwrap();
        let others = serde_json::to_value(OtherCounters::from(counts)).unwrap();
        assert_eq!((&standings["expired"], &standings["open"]), (&json!(2), &json!(1)));
        assert_eq!((&others["messages"], &others["planned"]), (&json!(3), &json!(2.5)));
        let names =
            |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        let mut shown = [names(&standings), names(&others)].concat();
        shown.sort_unstable();
        let mut all = names(&serde_json::to_value(AllCounters::from(counts)).unwrap());
        all.sort_unstable();
        assert_eq!(shown, all);
    }
}
