//! A row that was found, and what its columns can be read as.

use smol_str::SmolStr;
use tokio_postgres::types::{FromSql, Type};
use uuid::Uuid;

use super::StorageError;

/// A row that was found.
pub(crate) enum Row<'r> {
    /// In a file.
    Sqlite(&'r rusqlite::Row<'r>),
    /// By a server.
    Postgres(&'r tokio_postgres::Row),
}

/// What a column can be read as.
pub(crate) trait Cell: Sized {
    fn read(row: &Row<'_>, column: usize) -> Result<Self, StorageError>;
}

impl Cell for i64 {
    fn read(row: &Row<'_>, column: usize) -> Result<Self, StorageError> {
        match row {
            Row::Sqlite(row) => Ok(row.get(column)?),
            Row::Postgres(row) => Ok(row.try_get::<_, Number>(column)?.0),
        }
    }
}

impl Cell for bool {
    fn read(row: &Row<'_>, column: usize) -> Result<Self, StorageError> {
        Ok(i64::read(row, column)? != 0)
    }
}

impl Cell for u32 {
    fn read(row: &Row<'_>, column: usize) -> Result<Self, StorageError> {
        let number = i64::read(row, column)?;
        number.try_into().map_err(|_| StorageError::Range(number))
    }
}

impl Cell for u16 {
    fn read(row: &Row<'_>, column: usize) -> Result<Self, StorageError> {
        let number = i64::read(row, column)?;
        number.try_into().map_err(|_| StorageError::Range(number))
    }
}

impl Cell for String {
    fn read(row: &Row<'_>, column: usize) -> Result<Self, StorageError> {
        row.str(column).map(str::to_owned)
    }
}

impl Cell for Vec<u8> {
    fn read(row: &Row<'_>, column: usize) -> Result<Self, StorageError> {
        row.bytes(column).map(<[u8]>::to_vec)
    }
}

impl Cell for [u8; 16] {
    fn read(row: &Row<'_>, column: usize) -> Result<Self, StorageError> {
        let bytes = row.bytes(column)?;
        bytes.try_into().map_err(|_| StorageError::IdLength(bytes.len()))
    }
}

impl<T: Cell> Cell for Option<T> {
    fn read(row: &Row<'_>, column: usize) -> Result<Self, StorageError> {
        if row.is_none(column)? { Ok(None) } else { T::read(row, column).map(Some) }
    }
}

/// A number of PostgreSQL, however wide it is.
struct Number(i64);

impl<'a> FromSql<'a> for Number {
    fn from_sql(kind: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(match *kind {
            Type::INT2 => i16::from_sql(kind, raw)?.into(),
            Type::INT4 => i32::from_sql(kind, raw)?.into(),
            Type::BOOL => bool::from_sql(kind, raw)?.into(),
            _ => i64::from_sql(kind, raw)?,
        }))
    }

    fn accepts(kind: &Type) -> bool {
        [Type::INT2, Type::INT4, Type::INT8, Type::BOOL].contains(kind)
    }
}

/// Whether there is no value, whatever it would be.
struct Absence(bool);

impl<'a> FromSql<'a> for Absence {
    fn from_sql(_: &Type, _: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(false))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(true))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

impl Row<'_> {
    /// The value of a column, counted from 0.
    pub(crate) fn get<T: Cell>(&self, column: usize) -> Result<T, StorageError> {
        T::read(self, column)
    }

    fn is_none(&self, column: usize) -> Result<bool, StorageError> {
        match self {
            Self::Sqlite(row) => Ok(row.get_ref(column)? == rusqlite::types::ValueRef::Null),
            Self::Postgres(row) => Ok(row.try_get::<_, Absence>(column)?.0),
        }
    }

    /// A text, where it stands.
    pub(crate) fn str(&self, column: usize) -> Result<&str, StorageError> {
        match self {
            Self::Sqlite(row) => Ok(row.get_ref(column)?.as_str().map_err(rusqlite::Error::from)?),
            Self::Postgres(row) => Ok(row.try_get(column)?),
        }
    }

    /// A text, where it stands, or none.
    pub(crate) fn optional_str(&self, column: usize) -> Result<Option<&str>, StorageError> {
        match self {
            Self::Sqlite(row) => Ok(row.get_ref(column)?.as_str_or_null().map_err(rusqlite::Error::from)?),
            Self::Postgres(row) => Ok(row.try_get(column)?),
        }
    }

    /// Bytes, where they stand.
    pub(crate) fn bytes(&self, column: usize) -> Result<&[u8], StorageError> {
        match self {
            Self::Sqlite(row) => Ok(row.get_ref(column)?.as_blob().map_err(rusqlite::Error::from)?),
            Self::Postgres(row) => Ok(row.try_get(column)?),
        }
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
