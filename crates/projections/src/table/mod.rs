//! What a table is, described once: its columns, its key, and what an upsert does to each column.
//!
//! The statement that makes the table, those that read and write its rows ([`Statement`]), and the comparison of two
//! files are derived from the descriptor. None of it depends on an engine, except for the texts in `sqlite` and `postgres`.

mod common;
pub(crate) mod postgres;
pub(crate) mod sqlite;
mod statement;
mod verb;

pub(crate) use common::{create_indexes, everything_of};
pub(crate) use statement::{Statement, Verbs, verbs};
pub(crate) use verb::Pick;

/// What is in a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// A whole number; also a time, a truth, a place in a list.
    Integer,
    /// A text.
    Text,
    /// Bytes; also an id.
    Bytes,
}

/// What an upsert does to a column of an existing row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Nothing: the row is found by it.
    Key,
    /// The new value takes the place of the old one.
    Set,
    /// The new value is added.
    Add,
    /// The lesser of both stays.
    Least,
    /// The greater of both stays.
    Greatest,
}

/// A column.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) role: Role,
    /// There may be no value.
    pub(crate) is_optional: bool,
    /// It is 0 where an insert says nothing.
    pub(crate) is_zero_at_first: bool,
}

/// A column of numbers.
pub(crate) const fn integer(name: &'static str) -> Column {
    Column::new(name, Kind::Integer)
}

/// A column of texts.
pub(crate) const fn text(name: &'static str) -> Column {
    Column::new(name, Kind::Text)
}

/// A column of bytes.
pub(crate) const fn bytes(name: &'static str) -> Column {
    Column::new(name, Kind::Bytes)
}

impl Column {
    const fn new(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, role: Role::Set, is_optional: false, is_zero_at_first: false }
    }

    /// Part of the key.
    pub(crate) const fn key(self) -> Self {
        Self { role: Role::Key, ..self }
    }

    /// An upsert adds to it.
    pub(crate) const fn added(self) -> Self {
        Self { role: Role::Add, ..self }
    }

    /// An upsert leaves the lesser value.
    pub(crate) const fn least(self) -> Self {
        Self { role: Role::Least, ..self }
    }

    /// An upsert leaves the greater value.
    pub(crate) const fn greatest(self) -> Self {
        Self { role: Role::Greatest, ..self }
    }

    /// There may be no value.
    pub(crate) const fn or_none(self) -> Self {
        Self { is_optional: true, ..self }
    }

    /// It is 0 where an insert says nothing.
    pub(crate) const fn or_zero(self) -> Self {
        Self { is_zero_at_first: true, ..self }
    }
}

/// Another way to rows than their key.
#[derive(Debug)]
pub(crate) struct Index {
    pub(crate) name: &'static str,
    pub(crate) columns: &'static [&'static str],
    /// The rows that it has, as a condition that every engine understands; empty: all.
    pub(crate) only: &'static str,
    pub(crate) is_unique: bool,
    /// For queries only: a rebuild makes it last.
    pub(crate) is_late: bool,
}

impl Index {
    /// One that the fold itself looks up by.
    pub(crate) const fn new(name: &'static str, columns: &'static [&'static str]) -> Self {
        Self { name, columns, only: "", is_unique: false, is_late: false }
    }

    /// Over these rows only.
    pub(crate) const fn only(self, only: &'static str) -> Self {
        Self { only, ..self }
    }

    /// No two of its rows are the same in it.
    pub(crate) const fn unique(self) -> Self {
        Self { is_unique: true, ..self }
    }

    /// For queries only.
    pub(crate) const fn late(self) -> Self {
        Self { is_late: true, ..self }
    }
}

/// A table. The columns of its key are marked, in the order of the key.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) columns: &'static [Column],
    pub(crate) indexes: &'static [Index],
    /// Columns that are unique together, beside the key.
    pub(crate) unique: &'static [&'static [&'static str]],
    /// It has a single row, whose key is 1, and these are its initial values.
    pub(crate) only_row: Option<i64>,
}

impl Table {
    pub(crate) const fn new(name: &'static str, columns: &'static [Column]) -> Self {
        Self { name, columns, indexes: &[], unique: &[], only_row: None }
    }

    /// With other ways to its rows.
    pub(crate) const fn indexed(self, indexes: &'static [Index]) -> Self {
        Self { indexes, ..self }
    }

    /// With columns that are unique together.
    pub(crate) const fn unique(self, unique: &'static [&'static [&'static str]]) -> Self {
        Self { unique, ..self }
    }

    /// With one row only, and a number in it that begins so.
    pub(crate) const fn only_row(self, number: i64) -> Self {
        Self { only_row: Some(number), ..self }
    }

    /// The columns of the key, with their places.
    pub(crate) fn key(&self) -> impl Iterator<Item = (usize, &'static Column)> {
        self.columns.iter().enumerate().filter(|(_, column)| column.role == Role::Key)
    }

    /// Whether it has a column of this name.
    const fn has(&self, name: &str) -> bool {
        let mut place = 0;
        while place < self.columns.len() {
            if is_same(self.columns[place].name, name) {
                return true;
            }
            place += 1;
        }
        false
    }

    /// Of how many columns the key is.
    const fn key_columns(&self) -> usize {
        let (mut place, mut found) = (0, 0);
        while place < self.columns.len() {
            if matches!(self.columns[place].role, Role::Key) {
                found += 1;
            }
            place += 1;
        }
        found
    }

    /// Whether no column is beside the key.
    pub(crate) const fn is_only_key(&self) -> bool {
        self.key_columns() == self.columns.len()
    }

    /// Whether an upsert sets every column beside the key.
    const fn is_only_set(&self) -> bool {
        let mut place = 0;
        while place < self.columns.len() {
            if !matches!(self.columns[place].role, Role::Key | Role::Set) {
                return false;
            }
            place += 1;
        }
        true
    }

    /// The column of this name.
    fn column(&self, name: &str) -> &'static Column {
        let found = self.columns.iter().find(|column| column.name == name);
        found.unwrap_or_else(|| panic!("the table {} has no column {name}", self.name))
    }
}

/// Whether two names are the same, while the program is compiled.
const fn is_same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    if one.len() != other.len() {
        return false;
    }
    let mut place = 0;
    while place < one.len() {
        if one[place] != other[place] {
            return false;
        }
        place += 1;
    }
    true
}
