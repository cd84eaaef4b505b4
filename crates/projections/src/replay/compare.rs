//! Comparing the same tables twice, in whatever engine, row by row in the order of their keys.

use rusqlite::types::{Value, ValueRef};
use std::cmp::Ordering;
use std::fmt;

use super::walk::Question;
use crate::engine::{Connection, StorageError};
use crate::table::{Role, Table};

/// At most this many differences are described; all are counted.
const DESCRIBED_MAX: usize = 100;

/// A row that is not the same in both, or is in one only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// In which table.
    pub table: String,
    /// The row's key.
    pub key: String,
    /// The values in the live model that differ; none: there is no such row.
    pub live: Option<String>,
    /// The values in the rebuilt model that differ; none: there is no such row.
    pub rebuilt: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, key, live, rebuilt } = self;
        let shown = |row: &Option<String>| row.clone().unwrap_or_else(|| "no row".to_owned());
        write!(formatter, "{table} ({key}): live {}, rebuilt {}", shown(live), shown(rebuilt))
    }
}

/// What a comparison came to.
#[derive(Debug, Default)]
pub(super) struct Compared {
    pub(super) rows: u64,
    pub(super) differences_total: u64,
    pub(super) differences: Vec<Difference>,
}

/// Compares these tables.
pub(super) fn compare(
    live: Connection<'_>,
    rebuilt: Connection<'_>,
    tables: impl Iterator<Item = &'static Table>,
) -> Result<Compared, StorageError> {
    let mut compared = Compared::default();
    for table in in_order(tables) {
        compare_table(live, rebuilt, table, &mut compared)?;
    }
    Ok(compared)
}

/// The rows of these tables.
pub(super) fn count_rows(
    connection: Connection<'_>,
    tables: impl Iterator<Item = &'static Table>,
) -> Result<u64, StorageError> {
    let mut rows = 0;
    for table in tables {
        let sql = format!("SELECT count(*) FROM {}", table.name);
        rows += connection.one(&sql, &[], |row| row.get::<i64>(0))? as u64;
    }
    Ok(rows)
}

/// In the order of their names.
fn in_order(tables: impl Iterator<Item = &'static Table>) -> Vec<&'static Table> {
    let mut tables: Vec<&Table> = tables.collect();
    tables.sort_unstable_by_key(|table| table.name);
    tables
}

fn compare_table(
    live: Connection<'_>,
    rebuilt: Connection<'_>,
    table: &Table,
    compared: &mut Compared,
) -> Result<(), StorageError> {
    let (mut live, mut rebuilt) = (Question::of(live, table)?, Question::of(rebuilt, table)?);
    let (mut live, mut rebuilt) = (live.walk(), rebuilt.walk());
    let (mut left, mut right) = (live.next()?, rebuilt.next()?);
    loop {
        let order = match (&left, &right) {
            (None, None) => return Ok(()),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(left), Some(right)) => compare_keys(left, right, table),
        };
        compared.rows += 1;
        match order {
            Ordering::Less => {
                note(compared, table, left.as_deref(), None);
                left = live.next()?;
            }
            Ordering::Greater => {
                note(compared, table, None, right.as_deref());
                right = rebuilt.next()?;
            }
            Ordering::Equal => {
                if left != right {
                    note(compared, table, left.as_deref(), right.as_deref());
                }
                left = live.next()?;
                right = rebuilt.next()?;
            }
        }
    }
}

/// In the order in which every engine gives them: numbers, texts, bytes.
fn compare_keys(left: &[Value], right: &[Value], table: &Table) -> Ordering {
    let compare = |left: &Value, right: &Value| match (left, right) {
        (Value::Integer(left), Value::Integer(right)) => left.cmp(right),
        (Value::Text(left), Value::Text(right)) => left.as_bytes().cmp(right.as_bytes()),
        (Value::Blob(left), Value::Blob(right)) => left.cmp(right),
        (left, right) => rank(left).cmp(&rank(right)),
    };
    let orders = table.key().map(|(place, _)| compare(&left[place], &right[place]));
    orders.fold(Ordering::Equal, Ordering::then)
}

fn rank(value: &Value) -> u8 {
    match value {
        Value::Null => 0,
        Value::Integer(_) | Value::Real(_) => 1,
        Value::Text(_) => 2,
        Value::Blob(_) => 3,
    }
}

fn note(compared: &mut Compared, table: &Table, live: Option<&[Value]>, rebuilt: Option<&[Value]>) {
    compared.differences_total += 1;
    if compared.differences.len() >= DESCRIBED_MAX {
        return;
    }
    let row = live.or(rebuilt).unwrap_or_default();
    let key: Vec<String> =
        table.key().map(|(place, column)| format!("{} = {}", column.name, shown(&row[place]))).collect();
    compared.differences.push(Difference {
        table: table.name.to_owned(),
        key: key.join(", "),
        live: live.map(|row| described(table, row, rebuilt)),
        rebuilt: rebuilt.map(|row| described(table, row, live)),
    });
}

/// The columns that differ from the other row; without one, all that are not the key.
fn described(table: &Table, row: &[Value], other: Option<&[Value]>) -> String {
    let differing = row.iter().enumerate().filter(|(place, value)| match other {
        Some(other) => &other[*place] != *value,
        None => table.columns[*place].role != Role::Key,
    });
    let columns: Vec<String> =
        differing.map(|(place, value)| format!("{} = {}", table.columns[place].name, shown(value))).collect();
    columns.join(", ")
}

fn shown(value: &Value) -> String {
    match ValueRef::from(value) {
        ValueRef::Null => "NULL".to_owned(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Text(text) => format!("{:?}", String::from_utf8_lossy(text)),
        ValueRef::Blob(bytes) => hex::encode(bytes),
    }
}
