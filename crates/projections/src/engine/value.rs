//! What is given to a statement.

use kite_domain::ids::{ContactId, GroupId, SendingId, TemplateId};
use rusqlite::ToSql;
use rusqlite::types::{ToSqlOutput, ValueRef};
use smol_str::SmolStr;
use uuid::Uuid;

use crate::table::Kind;

/// A value of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Value<'v> {
    /// There is none of this kind. Not every engine finds the kind out by itself.
    None(Kind),
    /// A number.
    Integer(i64),
    /// A text.
    Text(&'v str),
    /// Bytes.
    Bytes(&'v [u8]),
}

impl Value<'_> {
    /// What it is, or would be.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::None(kind) => *kind,
            Self::Integer(_) => Kind::Integer,
            Self::Text(_) => Kind::Text,
            Self::Bytes(_) => Kind::Bytes,
        }
    }
}

/// A type of which all values are of one kind.
pub(crate) trait OfKind {
    const KIND: Kind;
}

impl ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::None(_) => ValueRef::Null,
            Self::Integer(number) => ValueRef::Integer(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

/// Types whose values become values of a kind.
macro_rules! become_values {
    ($($kind:ident: $type:ty = |$value:ident| $become:expr;)*) => {
        $(
            impl<'v> OfKind for $type {
                const KIND: Kind = Kind::$kind;
            }

            impl<'v> From<$type> for Value<'v> {
                fn from($value: $type) -> Self {
                    Self::$kind($become)
                }
            }
        )*
    };
}

become_values! {
    Integer: i64 = |number| number;
    Integer: u32 = |number| number.into();
    Integer: u16 = |number| number.into();
    Integer: bool = |is_so| is_so.into();
    Text: &'v str = |text| text;
    Text: &'v String = |text| text;
    Text: &'v SmolStr = |text| text;
    Bytes: &'v [u8] = |bytes| bytes;
    Bytes: &'v [u8; 16] = |bytes| bytes;
    Bytes: &'v Uuid = |id| id.as_bytes();
    Bytes: &'v ContactId = |id| id.0.as_bytes();
    Bytes: &'v GroupId = |id| id.0.as_bytes();
    Bytes: &'v SendingId = |id| id.0.as_bytes();
    Bytes: &'v TemplateId = |id| id.0.as_bytes();
}

impl<'v, T: Into<Value<'v>> + OfKind> From<Option<T>> for Value<'v> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::None(T::KIND), Into::into)
    }
}

/// Values of different types in a row.
macro_rules! values {
    ($($value:expr),* $(,)?) => { &[$($crate::engine::Value::from($value)),*] };
}
pub(crate) use values;
