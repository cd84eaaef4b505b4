//! What a fold asks of its tables, and writes into them.

use rusqlite::CachedStatement;

use super::{Row, StorageError, Value};
use crate::postgres::{Batch, Transaction};
use crate::table::Statement;

/// The tables of a model within a transaction.
///
/// Reads of many rows are one call, so that an engine at the other end of a network is asked once for all of them;
/// SQLite takes them one after the other. [`Tables::find`] asks for one row. Rows are written one by one, by
/// [`Cells::end`]. SQLite says at once whether the row could be written, PostgreSQL at the latest when the transaction
/// ends.
#[derive(Clone, Copy)]
pub(crate) enum Tables<'t> {
    /// A file.
    Sqlite(&'t rusqlite::Connection),
    /// A server.
    Postgres(&'t Transaction<'t>),
}

impl<'t> Tables<'t> {
    /// Reads the rows of all these keys, in any order: a row has to contain its key. Those of a range come in the order
    /// of their keys.
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
        match self {
            Self::Sqlite(connection) => {
                let mut cells = Cells::Sqlite(Binding::of(connection, select)?);
                for key in keys {
                    put(&key, &mut cells);
                    let Cells::Sqlite(binding) = &mut cells else { continue };
                    let mut rows = binding.query()?;
                    while let Some(row) = rows.next().map_err(StorageError::from)? {
                        read(&Row::Sqlite(row))?;
                    }
                }
            }
            Self::Postgres(transaction) => {
                let mut cells = Cells::Postgres(Filling::unsent(select));
                for key in keys {
                    put(&key, &mut cells);
                    cells.end()?;
                }
                let Cells::Postgres(filling) = &cells else { return Ok(()) };
                for row in transaction.read(filling.batch())? {
                    read(&Row::Postgres(&row))?;
                }
            }
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
        match self {
            Self::Sqlite(connection) => {
                let mut binding = Binding::of(connection, select)?;
                values.iter().for_each(|value| binding.put(*value));
                let mut rows = binding.query()?;
                let row = rows.next().map_err(StorageError::from)?;
                row.map(|row| read(&Row::Sqlite(row))).transpose()
            }
            Self::Postgres(transaction) => {
                let mut batch = Batch::new(select);
                values.iter().for_each(|value| batch.put(*value));
                batch.end();
                let rows = transaction.read(&batch)?;
                rows.first().map(|row| read(&Row::Postgres(row))).transpose()
            }
        }
    }

    /// Begins to write rows: their values are put one after the other, and [`Cells::end`] ends each.
    pub(crate) fn fill(self, statement: &'static Statement) -> Result<Cells<'t>, StorageError> {
        Ok(match self {
            Self::Sqlite(connection) => Cells::Sqlite(Binding::of(connection, statement)?),
            Self::Postgres(transaction) => Cells::Postgres(Filling::of(transaction, statement)),
        })
    }
}

/// The values of rows on their way into a statement.
pub(crate) enum Cells<'t> {
    /// Into a file.
    Sqlite(Binding<'t>),
    /// To a server.
    Postgres(Filling<'t>),
}

impl Cells<'_> {
    /// The next value of the row.
    pub(crate) fn put<'v>(&mut self, value: impl Into<Value<'v>>) {
        match self {
            Self::Sqlite(binding) => binding.put(value.into()),
            Self::Postgres(filling) => filling.batch_mut().put(value.into()),
        }
    }

    /// The row is complete.
    pub(crate) fn end(&mut self) -> Result<(), StorageError> {
        match self {
            Self::Sqlite(binding) => binding.execute(),
            Self::Postgres(filling) => filling.end(),
        }
    }
}

/// A statement of SQLite, with the values that it has so far.
pub(crate) struct Binding<'t> {
    statement: CachedStatement<'t>,
    /// Of the last value.
    place: usize,
    /// The first value that could not be taken.
    failed: Option<rusqlite::Error>,
}

impl<'t> Binding<'t> {
    fn of(connection: &'t rusqlite::Connection, statement: &'static Statement) -> Result<Self, StorageError> {
        Ok(Self { statement: connection.prepare_cached(statement.sqlite())?, place: 0, failed: None })
    }

    fn put(&mut self, value: Value<'_>) {
        self.place += 1;
        if let Err(error) = self.statement.raw_bind_parameter(self.place, value) {
            self.failed.get_or_insert(error);
        }
    }

    fn execute(&mut self) -> Result<(), StorageError> {
        self.take_failure()?;
        Ok(self.statement.raw_execute().map(drop)?)
    }

    fn query(&mut self) -> Result<rusqlite::Rows<'_>, StorageError> {
        self.take_failure()?;
        Ok(self.statement.raw_query())
    }

    fn take_failure(&mut self) -> Result<(), StorageError> {
        let place = std::mem::take(&mut self.place);
        if let Some(error) = self.failed.take() {
            return Err(error.into());
        }
        // What is not put would be what was put for the row before.
        debug_assert_eq!(place, self.statement.parameter_count(), "a row has all its values");
        Ok(())
    }
}

/// Rows for PostgreSQL, which are sent later.
pub(crate) struct Filling<'t> {
    /// None: it is not written with them, but asked for them.
    transaction: Option<&'t Transaction<'t>>,
    /// Always there, until this is dropped.
    batch: Option<Batch>,
}

impl<'t> Filling<'t> {
    fn of(transaction: &'t Transaction<'t>, statement: &'static Statement) -> Self {
        Self { transaction: Some(transaction), batch: Some(transaction.take_batch(statement)) }
    }

    fn unsent(statement: &'static Statement) -> Self {
        Self { transaction: None, batch: Some(Batch::new(statement)) }
    }

    fn batch(&self) -> &Batch {
        self.batch.as_ref().expect("it is there until the end")
    }

    fn batch_mut(&mut self) -> &mut Batch {
        self.batch.as_mut().expect("it is there until the end")
    }

    fn end(&mut self) -> Result<(), StorageError> {
        if let Some(later) = self.batch_mut().end()
            && let Some(transaction) = self.transaction
            && let Some(earlier) = self.batch.replace(later)
        {
            transaction.give_batch(earlier);
        }
        self.transaction.map_or(Ok(()), Transaction::relieve)
    }
}

impl Drop for Filling<'_> {
    fn drop(&mut self) {
        if let (Some(transaction), Some(batch)) = (self.transaction, self.batch.take()) {
            transaction.give_batch(batch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::sqlite::create_tables;
    use crate::table::{Pick, Table, integer};

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
        assert!(matches!(refused, StorageError::Sqlite(rusqlite::Error::SqliteFailure(..))), "{refused:?}");
    }
}
