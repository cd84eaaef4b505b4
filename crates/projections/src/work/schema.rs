//! The tables of the open work.
//!
//! `version` is the version of a lot's acceptance in its stream, from which it is read again. `next_end_ms` is
//! `next_due_ms` without what only waits to be handed over, which nobody does while the sending is paused. `loads`
//! are the sums of `open_messages`, by what they count as (the places in [`super::fold::LOAD_KINDS`]).

use crate::table::{Index, Table, bytes, integer, text};

pub(super) const TABLES: &[&Table] = &[
    &OPEN_SENDINGS,
    &OPEN_LOTS,
    &LOADS,
    &UNSEALED_LOTS,
    &PARKED_RECEIPTS,
    &NOT_UNDERSTOOD,
    &NOT_UNDERSTOOD_COUNTS,
    &UNCLASSIFIED_CODES,
];

pub(super) static OPEN_SENDINGS: Table = Table::new(
    "open_sendings",
    &[
        bytes("id").key(),
        text("tenant"),
        integer("class"),
        integer("accepted_ms"),
        integer("scheduled_ms").or_none(),
        integer("expires_ms"),
        integer("released"),
        integer("paused"),
        integer("cancelled"),
        integer("lots"),
        integer("lots_routed"),
        integer("open_messages"),
    ],
)
.indexed(&[
    Index::new("open_sendings_by_class", &["class", "id"]).late(),
    Index::new("open_sendings_finished", &["id"]).only("open_messages = 0").late(),
    Index::new("open_sendings_cancelled", &["id"]).only("cancelled = 1").late(),
    Index::new("open_sendings_by_schedule", &["scheduled_ms"])
        .only("scheduled_ms IS NOT NULL AND released = 0")
        .late(),
]);

pub(super) static OPEN_LOTS: Table = Table::new(
    "open_lots",
    &[
        bytes("sending").key(),
        integer("number").key(),
        integer("version"),
        text("tenant"),
        integer("class"),
        integer("open"),
        integer("has_unrouted"),
        integer("has_pending"),
        integer("next_due_ms").or_none(),
        integer("next_end_ms"),
    ],
)
.indexed(&[
    Index::new("open_lots_by_due", &["next_due_ms"]).only("next_due_ms IS NOT NULL"),
    Index::new("open_lots_pending", &["sending", "number"]).only("has_pending = 1").late(),
]);

pub(super) static LOADS: Table =
    Table::new("loads", &[text("tenant").key(), integer("kind").key(), integer("messages")]);

pub(super) static UNSEALED_LOTS: Table = Table::new(
    "unsealed_lots",
    &[
        bytes("sending").key(),
        integer("number").key(),
        integer("version"),
        text("tenant"),
        integer("class"),
        integer("messages"),
        integer("accepted_ms"),
    ],
);

pub(super) static PARKED_RECEIPTS: Table = Table::new(
    "parked_receipts",
    &[
        text("relay").key(),
        text("reference").key(),
        text("status").key(),
        text("code"),
        text("relay_reference").or_none(),
        integer("at_ms"),
        integer("parked_ms"),
    ],
)
.indexed(&[Index::new("parked_receipts_by_time", &["relay", "parked_ms"]).late()]);

pub(super) static NOT_UNDERSTOOD: Table = Table::new(
    "not_understood",
    &[
        text("relay").key(),
        integer("position").key(),
        integer("kept_ms"),
        text("how"),
        text("reason"),
        integer("place").or_none(),
        text("field").or_none(),
        text("raw"),
        integer("raw_bytes"),
    ],
);

pub(super) static NOT_UNDERSTOOD_COUNTS: Table = Table::new(
    "not_understood_counts",
    &[text("relay").key(), integer("kept").added(), integer("newest_ms").greatest()],
);

pub(super) static UNCLASSIFIED_CODES: Table = Table::new(
    "unclassified_codes",
    &[text("relay").key(), text("code").key(), integer("times"), integer("newest_ms")],
);
