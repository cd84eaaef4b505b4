//! What can be done to the rows of a table, and which of its columns that is about.

use super::{Role, Table};

/// Some of a table's columns.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pick {
    /// All of them, in the order of the table.
    All,
    /// The key and what is added to, in the order of the table.
    Added,
    /// These, in this order.
    Named(&'static [&'static str]),
}

impl Pick {
    /// Their names.
    pub(super) fn of(self, table: &Table) -> Vec<&'static str> {
        let all = table.columns.iter();
        match self {
            Self::All => all.map(|column| column.name).collect(),
            Self::Added => {
                let is_added = |role| matches!(role, Role::Key | Role::Add);
                all.filter(|column| is_added(column.role)).map(|column| column.name).collect()
            }
            Self::Named(names) => names.iter().map(|name| table.column(name).name).collect(),
        }
    }
}

/// What is done.
#[derive(Debug, Clone, Copy)]
pub(super) enum Verb {
    /// Adds rows, none of which is there.
    Insert(Pick),
    /// Adds the rows that are not there.
    InsertNew(Pick),
    /// Adds the rows that are not there, and does to the others what the descriptor says.
    Upsert(Pick),
    /// Sets columns of rows that are there; the key is among the picked ones.
    Update(Pick),
    /// Removes the rows in which these columns have these values; those of the key where none is named.
    Delete(&'static [&'static str]),
    /// The rows in which these columns have these values, in the order of the key; those of the key where none is named.
    Select(Pick, &'static [&'static str]),
    /// The rows whose key, a number, is from one up to before another, in its order.
    Range(Pick),
    /// The row with the greatest key.
    Last(Pick),
}

impl Verb {
    /// Refuses names that the table does not have.
    pub(super) const fn check(self, table: &Table) {
        let (columns, by): (Pick, &[&str]) = match self {
            Self::Insert(columns)
            | Self::InsertNew(columns)
            | Self::Upsert(columns)
            | Self::Update(columns)
            | Self::Range(columns)
            | Self::Last(columns) => (columns, &[]),
            Self::Select(columns, by) => (columns, by),
            Self::Delete(by) => (Pick::Named(by), &[]),
        };
        if let Pick::Named(names) = columns {
            check_names(table, names);
        }
        check_names(table, by);
    }
}

const fn check_names(table: &Table, names: &[&str]) {
    let mut place = 0;
    while place < names.len() {
        assert!(table.has(names[place]), "a statement names a column that its table does not have");
        place += 1;
    }
}
