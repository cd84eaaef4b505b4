//! What is given to a statement.

use kite_domain::ids::{ContactId, GroupId, SendingId, TemplateId};
use rusqlite::ToSql;
use rusqlite::types::{ToSqlOutput, ValueRef};
use smol_str::SmolStr;
use uuid::Uuid;

/// A value of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value<'v> {
    /// There is none.
    None,
    /// A number.
    Integer(i64),
    /// A text.
    Text(&'v str),
    /// Bytes.
    Bytes(&'v [u8]),
}

impl ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::None => ValueRef::Null,
            Self::Integer(number) => ValueRef::Integer(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

macro_rules! numbers {
    ($($number:ty),*) => {
        $(impl From<$number> for Value<'_> {
            fn from(number: $number) -> Self {
                Self::Integer(i64::from(number))
            }
        })*
    };
}

numbers!(i64, u32, u16, bool);

impl<'v> From<&'v str> for Value<'v> {
    fn from(text: &'v str) -> Self {
        Self::Text(text)
    }
}

impl<'v> From<&'v String> for Value<'v> {
    fn from(text: &'v String) -> Self {
        Self::Text(text)
    }
}

impl<'v> From<&'v SmolStr> for Value<'v> {
    fn from(text: &'v SmolStr) -> Self {
        Self::Text(text)
    }
}

impl<'v> From<&'v [u8]> for Value<'v> {
    fn from(bytes: &'v [u8]) -> Self {
        Self::Bytes(bytes)
    }
}

impl<'v> From<&'v [u8; 16]> for Value<'v> {
    fn from(bytes: &'v [u8; 16]) -> Self {
        Self::Bytes(bytes)
    }
}

impl<'v> From<&'v Uuid> for Value<'v> {
    fn from(id: &'v Uuid) -> Self {
        Self::Bytes(id.as_bytes())
    }
}

macro_rules! ids {
    ($($id:ty),*) => {
        $(impl<'v> From<&'v $id> for Value<'v> {
            fn from(id: &'v $id) -> Self {
                Self::Bytes(id.0.as_bytes())
            }
        })*
    };
}

ids!(ContactId, GroupId, SendingId, TemplateId);

impl<'v, T: Into<Value<'v>>> From<Option<T>> for Value<'v> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::None, Into::into)
    }
}

/// Values of different types in a row.
macro_rules! values {
    ($($value:expr),* $(,)?) => { &[$($crate::engine::Value::from($value)),*] };
}
pub(crate) use values;
