//! The rows of events in force.

use smol_str::SmolStr;

use super::schema::IN_FORCE;
use crate::engine::{Cells, Record, Row};
use crate::error::ApplyError;
use crate::sql::signed;
use crate::table::verbs;

/// Where an event is.
#[derive(Debug, Clone, Copy)]
pub(super) struct InForceRow {
    pub(super) version: u64,
    pub(super) position: u64,
}

impl Record for InForceRow {
    /// Stream and subject.
    type Key = (SmolStr, SmolStr);
    type Aside = ();

    verbs!(IN_FORCE);

    fn put_key((stream, subject): &Self::Key, cells: &mut Cells<'_>) {
        cells.put(stream);
        cells.put(subject);
    }

    fn put(&self, key: &Self::Key, cells: &mut Cells<'_>) {
        Self::put_key(key, cells);
        cells.put(signed(self.version));
        cells.put(signed(self.position));
    }

    fn read(row: &Row<'_>) -> Result<(Self::Key, Self), ApplyError> {
        let event =
            Self { version: row.get::<i64>(2)?.unsigned_abs(), position: row.get::<i64>(3)?.unsigned_abs() };
        Ok(((row.text(0)?, row.text(1)?), event))
    }
}
