//! Rows that cannot be written: a trigger in the read models' files refuses those of some streams, as a constraint,
//! an overflow or a bug in a fold would. The checker tests that nothing stands still because of it, and nothing is
//! lost; dropping the trigger is the fix.

use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Which rows cannot be written, of every fourth sending or so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rows {
    /// Lots, where results are shown.
    Lots,
    /// Messages once something happens to them, where results are shown.
    Messages,
    /// Lots that wait for their seal, in the open work.
    UnsealedLots,
    /// Sealed sendings, in the open work.
    OpenSendings,
    /// Lots that something happens to, in the open work.
    OpenLots,
    /// What splits carry on.
    Splits,
    /// Contacts.
    Contacts,
    /// What recipients refuse.
    Refusals,
    /// Where the events are that are in force.
    InForce,
}

impl Rows {
    /// Whether acceptance counts by them what a tenant has.
    pub(crate) fn are_counted(self) -> bool {
        matches!(self, Self::UnsealedLots | Self::OpenSendings | Self::OpenLots)
    }
}

impl Rows {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Lots,
        Self::Messages,
        Self::UnsealedLots,
        Self::OpenSendings,
        Self::OpenLots,
        Self::Splits,
        Self::Contacts,
        Self::Refusals,
        Self::InForce,
    ];

    /// The model's file, when the trigger fires, and a number of the row that is as good as drawn.
    fn place(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Lots => ("delivery", "INSERT ON lots", "unicode(substr(hex(NEW.sending), -1))"),
            Self::Messages => ("delivery", "UPDATE ON messages", "NEW.id"),
            Self::UnsealedLots => {
                ("work", "INSERT ON unsealed_lots", "unicode(substr(hex(NEW.sending), -1))")
            }
            Self::OpenSendings => ("work", "INSERT ON open_sendings", "unicode(substr(hex(NEW.id), -1))"),
            Self::OpenLots => ("work", "UPDATE ON open_lots", "unicode(substr(hex(NEW.sending), -1))"),
            Self::Splits => ("routing", "INSERT ON splits", "NEW.messages"),
            Self::Contacts => ("address_book", "INSERT ON contacts", "unicode(substr(hex(NEW.id), -1))"),
            Self::Refusals => ("address_book", "INSERT ON opt_outs", "unicode(substr(NEW.identity, -1))"),
            Self::InForce => ("directory", "INSERT ON in_force", "NEW.version"),
        }
    }
}

/// From now on such rows cannot be written, where the number leaves this remainder.
pub(crate) fn break_rows(data_dir: &Path, rows: Rows, remainder: u8) -> rusqlite::Result<()> {
    let (model, event, number) = rows.place();
    Connection::open(data_dir.join(format!("{model}.db")))?.execute_batch(&format!(
        "DROP TRIGGER IF EXISTS unwritable;
         CREATE TRIGGER unwritable BEFORE {event} WHEN {number} % 4 = {}
         BEGIN SELECT raise(ABORT, 'this row cannot be written'); END",
        remainder % 4
    ))
}

/// Every row can be written again.
pub(crate) fn mend(data_dir: &Path) -> rusqlite::Result<()> {
    for rows in Rows::ALL {
        let (model, ..) = rows.place();
        let file = Connection::open(data_dir.join(format!("{model}.db")))?;
        file.execute_batch("DROP TRIGGER IF EXISTS unwritable")?;
    }
    Ok(())
}
