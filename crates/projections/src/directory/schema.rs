//! The table of the directory.

use crate::table::{Index, Table, integer, text};

pub(super) const TABLES: &[&Table] = &[&IN_FORCE];

pub(super) static IN_FORCE: Table = Table::new(
    "in_force",
    &[text("stream").key(), text("subject").key(), integer("version"), integer("position")],
)
.indexed(&[Index::new("in_force_by_position", &["position"]).late()]);
