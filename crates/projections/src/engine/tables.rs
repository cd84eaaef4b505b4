//! What a fold asks of its tables, and writes into them.

use rusqlite::CachedStatement;
use std::ops::ControlFlow;

use super::{Row, StorageError, Value};
use crate::table::Statement;

/// The tables of a model within a transaction.
///
/// What is about many rows is one call, so that an engine at the other end of a network can be asked once for all of them;
/// SQLite takes them one after the other. Only [`Tables::find`] is about one row.
#[derive(Clone, Copy)]
pub(crate) enum Tables<'t> {
    /// A file.
    Sqlite(&'t rusqlite::Connection),
}

impl<'t> Tables<'t> {
    /// Reads the rows of all these keys. Which comes first is not said: a row has to say its key itself.
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
        self.place = 0;
        self.failed.take().map_or(Ok(()), Err)
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
