//! What a query asks, and what it gets.

use std::ops::ControlFlow;

use super::in_ranges::InRanges;
use super::{Row, StorageError, Value};
use crate::postgres::Snapshot;

/// SQL has to be what every engine understands, with its values numbered (`?1`); where they differ in a word, the schema in PostgreSQL
/// has a function of that name.
///
/// Lent for as long as a query reads: all its reads see the same moment.
#[derive(Clone, Copy)]
pub(crate) enum Connection<'c> {
    /// A file.
    Sqlite(&'c rusqlite::Connection),
    /// A server.
    Postgres(&'c Snapshot<'c>),
}

impl Connection<'_> {
    /// [`Connection::each`] over several ranges, at most seven values.
    pub(crate) fn each_in<E: From<StorageError>>(
        self,
        question: &InRanges<'_>,
        values: &[Value<'_>],
        mut read: impl FnMut(&Row<'_>) -> Result<ControlFlow<()>, E>,
    ) -> Result<(), E> {
        if question.ranges.is_empty() {
            return Ok(());
        }
        if let Self::Postgres(_) = self {
            return self.each(&question.of_all(values.len()), values, read);
        }
        let sql = question.of_one();
        let (mut rows, mut has_enough) = (0, false);
        for range in question.ranges {
            let ends = [Value::Integer(range.start), Value::Integer(range.end)];
            let values: Vec<Value<'_>> = ends.into_iter().chain(values.iter().cloned()).collect();
            self.each(&sql, &values, |row| {
                rows += 1;
                has_enough = read(row)?.is_break() || rows >= question.limit;
                Ok::<_, E>(if has_enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            })?;
            if has_enough {
                break;
            }
        }
        Ok(())
    }

    /// Goes through the rows that the SQL finds, until there is no more or `read` has enough. The values are numbered from
    /// 1.
    pub(crate) fn each<E: From<StorageError>>(
        self,
        sql: &str,
        values: &[Value<'_>],
        mut read: impl FnMut(&Row<'_>) -> Result<ControlFlow<()>, E>,
    ) -> Result<(), E> {
        match self {
            Self::Sqlite(connection) => {
                let sqlite = StorageError::Sqlite;
                let mut statement = connection.prepare_cached(sql).map_err(sqlite)?;
                let mut rows = statement.query(rusqlite::params_from_iter(values)).map_err(sqlite)?;
                while let Some(row) = rows.next().map_err(sqlite)? {
                    if read(&Row::Sqlite(row))?.is_break() {
                        break;
                    }
                }
            }
            Self::Postgres(snapshot) => {
                // All of them come at once: while one is read, others may be asked for.
                for row in snapshot.ask(sql, values)? {
                    if read(&Row::Postgres(&row))?.is_break() {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Everything that the SQL finds.
    pub(crate) fn all<T, E: From<StorageError>>(
        self,
        sql: &str,
        values: &[Value<'_>],
        mut read: impl FnMut(&Row<'_>) -> Result<T, E>,
    ) -> Result<Vec<T>, E> {
        let mut found = Vec::new();
        self.each(sql, values, |row| {
            found.push(read(row)?);
            Ok::<_, E>(ControlFlow::Continue(()))
        })?;
        Ok(found)
    }

    /// The first row that the SQL finds.
    pub(crate) fn first<T, E: From<StorageError>>(
        self,
        sql: &str,
        values: &[Value<'_>],
        mut read: impl FnMut(&Row<'_>) -> Result<T, E>,
    ) -> Result<Option<T>, E> {
        let mut found = None;
        self.each(sql, values, |row| {
            found = Some(read(row)?);
            Ok::<_, E>(ControlFlow::Break(()))
        })?;
        Ok(found)
    }

    /// The row that must exist: of sums, counts and extremes, or of a key that another row names. If there is none,
    /// that is an error.
    pub(crate) fn one<T, E: From<StorageError>>(
        self,
        sql: &str,
        values: &[Value<'_>],
        read: impl FnMut(&Row<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.first(sql, values, read)?.ok_or_else(|| StorageError::NoRow.into())
    }

    /// Whether the SQL finds anything.
    pub(crate) fn exists(self, sql: &str, values: &[Value<'_>]) -> Result<bool, StorageError> {
        Ok(self.first(sql, values, |_| Ok::<_, StorageError>(()))?.is_some())
    }
}
