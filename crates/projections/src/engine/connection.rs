//! What a query asks, and what it gets.

use rusqlite::types::FromSql;
use smol_str::SmolStr;
use std::ops::ControlFlow;
use uuid::Uuid;

use super::{StorageError, Value};

/// Lent for as long as a query reads: all its reads see the same moment.
#[derive(Clone, Copy)]
pub(crate) enum Connection<'c> {
    /// A file.
    Sqlite(&'c rusqlite::Connection),
}

impl Connection<'_> {
    /// Goes through the rows that the SQL finds, until there is no more or `read` has enough. The values are numbered from
    /// 1.
    pub(crate) fn each<E: From<StorageError>>(
        self,
        sql: &str,
        values: &[Value<'_>],
        mut read: impl FnMut(&Row<'_>) -> Result<ControlFlow<()>, E>,
    ) -> Result<(), E> {
        let Self::Sqlite(connection) = self;
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query(rusqlite::params_from_iter(values))?;
        while let Some(row) = rows.next()? {
            if read(&Row(row))?.is_break() {
                break;
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
        self.first(sql, values, read)?.ok_or_else(|| StorageError::QueryReturnedNoRows.into())
    }

    /// Whether the SQL finds anything.
    pub(crate) fn exists(self, sql: &str, values: &[Value<'_>]) -> Result<bool, StorageError> {
        Ok(self.first(sql, values, |_| Ok::<_, StorageError>(()))?.is_some())
    }
}

/// A row that was found.
pub(crate) struct Row<'r>(pub(super) &'r rusqlite::Row<'r>);

/// What a column can be read as.
pub(crate) trait Cell: FromSql {}

impl Cell for i64 {}
impl Cell for u32 {}
impl Cell for u16 {}
impl Cell for bool {}
impl Cell for String {}
impl Cell for [u8; 16] {}
impl<T: Cell> Cell for Option<T> {}

impl Row<'_> {
    /// The value of a column, counted from 0.
    pub(crate) fn get<T: Cell>(&self, column: usize) -> Result<T, StorageError> {
        self.0.get(column)
    }

    /// A text, where it stands.
    pub(crate) fn str(&self, column: usize) -> Result<&str, StorageError> {
        Ok(self.0.get_ref(column)?.as_str()?)
    }

    /// A text, where it stands, or none.
    pub(crate) fn optional_str(&self, column: usize) -> Result<Option<&str>, StorageError> {
        Ok(self.0.get_ref(column)?.as_str_or_null()?)
    }

    /// Bytes, where they stand.
    pub(crate) fn bytes(&self, column: usize) -> Result<&[u8], StorageError> {
        Ok(self.0.get_ref(column)?.as_blob()?)
    }

    /// A short text.
    pub(crate) fn text(&self, column: usize) -> Result<SmolStr, StorageError> {
        self.str(column).map(SmolStr::new)
    }

    /// A short text, or none.
    pub(crate) fn optional_text(&self, column: usize) -> Result<Option<SmolStr>, StorageError> {
        Ok(self.optional_str(column)?.map(SmolStr::new))
    }

    /// An id.
    pub(crate) fn uuid(&self, column: usize) -> Result<Uuid, StorageError> {
        Ok(Uuid::from_bytes(self.get(column)?))
    }
}
