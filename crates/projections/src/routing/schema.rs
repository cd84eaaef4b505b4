//! The tables of the routing.

use crate::table::{Table, integer, text};

pub(super) const TABLES: &[&Table] = &[&RELAYS, &POLICIES, &ADVICE, &SPLITS, &SPLIT_RELAYS];

pub(super) static RELAYS: Table = Table::new(
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

pub(super) static POLICIES: Table = Table::new(
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

pub(super) static ADVICE: Table = Table::new(
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

pub(super) static SPLITS: Table = Table::new(
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

pub(super) static SPLIT_RELAYS: Table = Table::new(
    "split_relays",
    &[text("key").key(), text("relay").key(), integer("weight"), integer("routed").added()],
);
