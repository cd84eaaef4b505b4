//! What a fold asks of its tables, and writes into them.

use rusqlite::CachedStatement;
use std::ops::ControlFlow;

use super::{Row, StorageError, Value};
use crate::table::Statement;

/// The tables of a model within a transaction.
///
/// Reads of many rows are one call, so that an engine at the other end of a network can be asked once for all of
/// them; SQLite takes them one after the other. [`Tables::find`] asks for one row. Rows are written one by one, by
/// [`Cells::end`], which returns whether the row could be written.
#[derive(Clone, Copy)]
pub(crate) enum Tables<'t> {
    /// A file.
    Sqlite(&'t rusqlite::Connection),
}

impl<'t> Tables<'t> {
    /// Reads the rows of all these keys, in any order: a row has to contain its key.
    pub(crate) fn fetch<K, E: From<StorageError>>(
        self,
        select: &'static Statement,
        keys: impl IntoIterator<Item = K>,
        put: impl Fn(&K, &mut Cells<'t>),
        mut read: impl FnMut(&Row<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut keys = keys.into_iter().peekable();
        if keys.peek().is_none() {
            return Ok(());
        }
        let mut cells = self.fill(select)?;
        for key in keys {
            put(&key, &mut cells);
            cells.read(&mut |row| read(row).map(ControlFlow::Continue))?;
        }
        Ok(())
    }

    /// Reads the row of a key, or the first of those that the statement finds.
    pub(crate) fn find<T, E: From<StorageError>>(
        self,
        select: &'static Statement,
        values: &[Value<'_>],
        read: impl Fn(&Row<'_>) -> Result<T, E>,
    ) -> Result<Option<T>, E> {
        let mut cells = self.fill(select)?;
        values.iter().for_each(|value| cells.put(*value));
        let mut found = None;
        cells.read(&mut |row| {
            found = Some(read(row)?);
            Ok::<_, E>(ControlFlow::Break(()))
        })?;
        Ok(found)
    }

    /// Begins to write rows: their values are put one after the other, and [`Cells::end`] ends each.
    pub(crate) fn fill(self, statement: &'static Statement) -> Result<Cells<'t>, StorageError> {
        let Self::Sqlite(connection) = self;
        let statement = connection.prepare_cached(statement.sqlite())?;
        Ok(Cells { statement, place: 0, failed: None })
    }
}

/// The values of rows on their way into a statement.
pub(crate) struct Cells<'t> {
    statement: CachedStatement<'t>,
    /// Of the last value.
    place: usize,
    /// The first value that could not be taken.
    failed: Option<StorageError>,
}

impl Cells<'_> {
    /// The next value of the row.
    pub(crate) fn put<'v>(&mut self, value: impl Into<Value<'v>>) {
        self.place += 1;
        if let Err(error) = self.statement.raw_bind_parameter(self.place, value.into()) {
            self.failed.get_or_insert(error);
        }
    }

    /// The row is complete.
    pub(crate) fn end(&mut self) -> Result<(), StorageError> {
        self.take_failure()?;
        self.statement.raw_execute().map(drop)
    }

    fn take_failure(&mut self) -> Result<(), StorageError> {
        let place = std::mem::take(&mut self.place);
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        // What is not put would be what was put for the row before.
        debug_assert_eq!(place, self.statement.parameter_count(), "a row has all its values");
        Ok(())
    }

    /// The values are complete that are looked for.
    fn read<E: From<StorageError>>(
        &mut self,
        read: &mut dyn FnMut(&Row<'_>) -> Result<ControlFlow<()>, E>,
    ) -> Result<(), E> {
        self.take_failure()?;
        let mut rows = self.statement.raw_query();
        while let Some(row) = rows.next()? {
            if read(&Row(row))?.is_break() {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{Pick, Table, create_tables, integer};

    static PAIRS: Table = Table::new("pairs", &[integer("id").key(), integer("other")]);
    static ADD: Statement = Statement::insert(&PAIRS, Pick::All);

    /// Writes a row of two values, and then one of these.
    fn write_after_another(values: &[i64]) -> Result<(), StorageError> {
        let file = rusqlite::Connection::open_in_memory().unwrap();
        file.execute_batch(&create_tables(&[&PAIRS])).unwrap();
        let mut cells = Tables::Sqlite(&file).fill(&ADD).unwrap();
        cells.put(1_i64);
        cells.put(2_i64);
        cells.end().unwrap();
        values.iter().for_each(|value| cells.put(*value));
        cells.end()
    }

    #[test]
    fn a_row_of_all_values_is_written() {
        write_after_another(&[2, 3]).unwrap();
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "a row has all its values")]
    fn a_value_that_is_not_put_is_not_that_of_the_row_before() {
        let _ = write_after_another(&[2]);
    }

    #[test]
    fn a_value_too_many_is_refused() {
        let refused = write_after_another(&[2, 3, 4]).unwrap_err();
        assert!(matches!(refused, StorageError::SqliteFailure(..)), "{refused:?}");
    }
}
