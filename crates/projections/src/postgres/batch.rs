//! Rows on their way to a statement: an array for each column, in the form in which PostgreSQL takes it.

use bytes::{BufMut, BytesMut};
use rustc_hash::{FxHashSet, FxHasher};
use std::error::Error;
use std::hash::{Hash, Hasher};
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use crate::engine::Value;
use crate::table::{Kind, Statement};

/// Rows for one statement.
pub(crate) struct Batch {
    statement: &'static Statement,
    columns: Vec<Array>,
    rows: usize,
    /// Of the row that is being put.
    place: usize,
    hash: FxHasher,
    /// The keys of the rows, if each may be there once only.
    keys: FxHashSet<u64>,
}

/// The values of a column.
#[derive(Debug)]
struct Array {
    kind: Kind,
    count: usize,
    has_none: bool,
    /// Where the last value begins.
    last: usize,
    values: BytesMut,
}

impl Batch {
    pub(crate) fn new(statement: &'static Statement) -> Self {
        let parameters = statement.postgres().parameters.iter();
        Self {
            statement,
            columns: parameters.map(|parameter| Array::new(parameter.kind)).collect(),
            rows: 0,
            place: 0,
            hash: FxHasher::default(),
            keys: FxHashSet::default(),
        }
    }

    pub(crate) fn statement(&self) -> &'static Statement {
        self.statement
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// What it takes in memory, in bytes, about.
    pub(crate) fn bytes(&self) -> usize {
        self.columns.iter().map(|column| column.values.len()).sum()
    }

    /// The next value of the row.
    pub(crate) fn put(&mut self, value: Value<'_>) {
        let text = self.statement.postgres();
        if text.is_once_a_key && text.parameters[self.place].is_key {
            value.hash(&mut self.hash);
        }
        self.columns[self.place].put(value);
        self.place += 1;
    }

    /// The row is complete. If one with its key is there already it goes into a batch of its own, for later.
    pub(crate) fn end(&mut self) -> Option<Self> {
        // What is not put would be missing in its column, and the values of later rows would move up.
        assert_eq!(self.place, self.columns.len(), "a row has all its values");
        self.place = 0;
        self.rows += 1;
        let key = std::mem::take(&mut self.hash).finish();
        if !self.statement.postgres().is_once_a_key || self.keys.insert(key) {
            return None;
        }
        self.rows -= 1;
        let columns = self.columns.iter_mut().map(Array::split_last).collect();
        let mut later = Self { columns, rows: 1, ..Self::new(self.statement) };
        later.keys.insert(key);
        Some(later)
    }

    /// What the statement is given.
    pub(super) fn parameters(&self) -> impl ExactSizeIterator<Item = &(dyn ToSql + Sync)> {
        self.columns.iter().map(|column| column as &(dyn ToSql + Sync))
    }
}

impl Array {
    fn new(kind: Kind) -> Self {
        Self { kind, count: 0, has_none: false, last: 0, values: BytesMut::new() }
    }

    fn put(&mut self, value: Value<'_>) {
        debug_assert_eq!(value.kind(), self.kind, "a value is of the kind of its column");
        self.last = self.values.len();
        self.count += 1;
        match value {
            Value::None(_) => {
                self.has_none = true;
                self.values.put_i32(-1);
            }
            Value::Integer(number) => {
                self.values.put_i32(8);
                self.values.put_i64(number);
            }
            // PostgreSQL cannot hold the character with the number 0.
            Value::Text(text) if text.contains('\0') => {
                self.put_bytes(text.replace('\0', "\u{fffd}").as_bytes())
            }
            Value::Text(text) => self.put_bytes(text.as_bytes()),
            Value::Bytes(bytes) => self.put_bytes(bytes),
        }
    }

    fn put_bytes(&mut self, bytes: &[u8]) {
        // Past this the server refuses the whole statement: a row of ours is far shorter.
        self.values.put_i32(i32::try_from(bytes.len()).unwrap_or(i32::MAX));
        self.values.put_slice(bytes);
    }

    /// Takes the last value out, into an array of its own.
    fn split_last(&mut self) -> Self {
        let values = self.values.split_off(self.last);
        self.count -= 1;
        Self { kind: self.kind, count: 1, has_none: self.has_none, last: 0, values }
    }
}

/// The types of an array, and of its values.
fn types(kind: Kind) -> (Type, Type) {
    match kind {
        Kind::Integer => (Type::INT8_ARRAY, Type::INT8),
        Kind::Text => (Type::TEXT_ARRAY, Type::TEXT),
        Kind::Bytes => (Type::BYTEA_ARRAY, Type::BYTEA),
    }
}

impl ToSql for Array {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        let (array, of) = types(self.kind);
        debug_assert_eq!(*kind, array);
        // Of one dimension, which begins at 1.
        out.put_i32(1);
        out.put_i32(self.has_none.into());
        out.put_u32(of.oid());
        out.put_i32(i32::try_from(self.count)?);
        out.put_i32(1);
        out.put_slice(&self.values);
        Ok(IsNull::No)
    }

    fn accepts(kind: &Type) -> bool {
        [Type::INT8_ARRAY, Type::TEXT_ARRAY, Type::BYTEA_ARRAY].contains(kind)
    }

    to_sql_checked!();
}

impl ToSql for Value<'_> {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Self::None(_) => Ok(IsNull::Yes),
            Self::Integer(number) => number.to_sql(kind, out),
            Self::Text(text) if text.contains('\0') => text.replace('\0', "\u{fffd}").to_sql(kind, out),
            Self::Text(text) => text.to_sql(kind, out),
            Self::Bytes(bytes) => bytes.to_sql(kind, out),
        }
    }

    fn accepts(kind: &Type) -> bool {
        [Type::INT8, Type::TEXT, Type::BYTEA].contains(kind)
    }

    to_sql_checked!();
}

/// The type of a value that a query is given.
pub(super) fn type_of(value: &Value<'_>) -> Type {
    types(value.kind()).1
}
