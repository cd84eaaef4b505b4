//! What is done to the rows of a table, many at a time.

use std::sync::OnceLock;

use super::Table;
use super::postgres::{self, BulkText};
use super::sqlite;
use super::verb::{Pick, Verb};

/// An operation on the rows of a table. Its values are those of the picked columns, in their order; for a selection
/// and a removal, the values looked for; for a range, its beginning and its end; for the last row, none.
#[derive(Debug)]
pub(crate) struct Statement {
    table: &'static Table,
    verb: Verb,
    sqlite: OnceLock<String>,
    postgres: OnceLock<BulkText>,
}

impl Statement {
    /// A name that the table does not have does not compile.
    const fn new(table: &'static Table, verb: Verb) -> Self {
        verb.check(table);
        Self { table, verb, sqlite: OnceLock::new(), postgres: OnceLock::new() }
    }

    /// Adds rows, none of which is there.
    pub(crate) const fn insert(table: &'static Table, columns: Pick) -> Self {
        Self::new(table, Verb::Insert(columns))
    }

    /// Adds the rows that are not there.
    pub(crate) const fn insert_new(table: &'static Table, columns: Pick) -> Self {
        Self::new(table, Verb::InsertNew(columns))
    }

    /// Adds the rows that do not exist, and changes the others as the descriptor says.
    pub(crate) const fn upsert(table: &'static Table, columns: Pick) -> Self {
        Self::new(table, Verb::Upsert(columns))
    }

    /// Sets columns of existing rows; the key is among the picked columns.
    pub(crate) const fn update(table: &'static Table, columns: Pick) -> Self {
        Self::new(table, Verb::Update(columns))
    }

    /// Removes the rows in which these columns have the values; if none is named, those of the key.
    pub(crate) const fn delete(table: &'static Table, by: &'static [&'static str]) -> Self {
        Self::new(table, Verb::Delete(by))
    }

    /// The rows in which these columns have the values, in any order; if none is named, those of the key.
    pub(crate) const fn select(table: &'static Table, columns: Pick, by: &'static [&'static str]) -> Self {
        Self::new(table, Verb::Select(columns, by))
    }

    /// The rows whose key, a number, is from one up to before another.
    pub(crate) const fn range(table: &'static Table, columns: Pick) -> Self {
        assert!(table.key_columns() == 1, "a range is of a key of one column");
        Self::new(table, Verb::Range(columns))
    }

    /// The row with the greatest key.
    pub(crate) const fn last(table: &'static Table, columns: Pick) -> Self {
        Self::new(table, Verb::Last(columns))
    }

    /// Its text for SQLite.
    pub(crate) fn sqlite(&self) -> &str {
        self.sqlite.get_or_init(|| sqlite::text_of(self.table, self.verb))
    }

    /// Its text for PostgreSQL, and what it takes.
    pub(crate) fn postgres(&self) -> &BulkText {
        self.postgres.get_or_init(|| postgres::text_of(self.table, self.verb))
    }

    /// The table that it is about.
    pub(crate) fn table(&self) -> &'static Table {
        self.table
    }
}

/// What is done to whole rows by their key.
#[derive(Debug)]
pub(crate) struct Verbs {
    pub(crate) select: Statement,
    pub(crate) insert: Statement,
    pub(crate) update: Statement,
    pub(crate) delete: Statement,
    /// The rows are nothing but their keys: there is nothing to update.
    pub(crate) is_only_key: bool,
}

impl Verbs {
    /// Rows are written in their final state, so no column may be one that an upsert adds to, or of which it keeps
    /// the lesser or greater value: such a table does not compile.
    pub(crate) const fn of(table: &'static Table) -> Self {
        assert!(table.is_only_set(), "whole rows are written into columns that are set");
        Self {
            select: Statement::select(table, Pick::All, &[]),
            insert: Statement::insert(table, Pick::All),
            update: Statement::update(table, Pick::All),
            delete: Statement::delete(table, &[]),
            is_only_key: table.is_only_key(),
        }
    }
}

/// What is done to the whole rows of a table, as a record says it.
macro_rules! verbs {
    ($table:ident) => {
        fn verbs() -> &'static $crate::table::Verbs {
            static VERBS: $crate::table::Verbs = $crate::table::Verbs::of(&$table);
            &VERBS
        }
    };
}
pub(crate) use verbs;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::integer;

    static PAIRS: Table =
        Table::new("pairs", &[integer("one").key(), integer("other").key(), integer("sum")]);

    #[test]
    #[should_panic(expected = "a statement names a column that its table does not have")]
    fn a_column_that_is_picked_is_one_of_the_table() {
        Statement::insert(&PAIRS, Pick::Named(&["one", "other", "summ"]));
    }

    #[test]
    #[should_panic(expected = "a statement names a column that its table does not have")]
    fn a_column_that_is_looked_for_is_one_of_the_table() {
        Statement::select(&PAIRS, Pick::All, &["sun"]);
    }

    #[test]
    #[should_panic(expected = "a statement names a column that its table does not have")]
    fn a_column_by_which_rows_go_is_one_of_the_table() {
        Statement::delete(&PAIRS, &["on"]);
    }

    #[test]
    #[should_panic(expected = "a range is of a key of one column")]
    fn a_range_is_of_one_column() {
        Statement::range(&PAIRS, Pick::All);
    }
}
