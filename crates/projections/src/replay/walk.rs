//! Going through a table in the order of its key, a row at a time.

use rusqlite::CachedStatement;
use rusqlite::types::{Value, ValueRef};
use std::vec;

use crate::engine::{Connection, Row, StorageError};
use crate::postgres::Snapshot;
use crate::table::{Kind, Table, everything_of};

/// Rows that a server is asked for at once.
const ROWS: usize = 2_000;

/// A question for all rows of a table.
pub(super) struct Question<'c> {
    table: &'c Table,
    asked: Asked<'c>,
}

enum Asked<'c> {
    Sqlite(CachedStatement<'c>),
    Postgres { snapshot: &'c Snapshot<'c>, cursor: String },
}

impl<'c> Question<'c> {
    pub(super) fn of(connection: Connection<'c>, table: &'c Table) -> Result<Self, StorageError> {
        let asked = match connection {
            Connection::Sqlite(connection) => {
                Asked::Sqlite(connection.prepare_cached(&everything_of(table))?)
            }
            Connection::Postgres(snapshot) => {
                let cursor = format!("walk_{}", table.name);
                snapshot.declare(&cursor, &everything_of(table))?;
                Asked::Postgres { snapshot, cursor }
            }
        };
        Ok(Self { table, asked })
    }

    /// From the first row on.
    pub(super) fn walk(&mut self) -> Walk<'_> {
        let rows = match &mut self.asked {
            Asked::Sqlite(statement) => Rows::Sqlite(statement.raw_query()),
            Asked::Postgres { snapshot, cursor } => {
                Rows::Postgres { snapshot, cursor, rows: Vec::new().into_iter() }
            }
        };
        Walk { table: self.table, rows }
    }
}

/// See the module.
pub(super) struct Walk<'q> {
    table: &'q Table,
    rows: Rows<'q>,
}

enum Rows<'q> {
    Sqlite(rusqlite::Rows<'q>),
    Postgres { snapshot: &'q Snapshot<'q>, cursor: &'q str, rows: vec::IntoIter<tokio_postgres::Row> },
}

impl Walk<'_> {
    /// The next row; none at the end.
    pub(super) fn next(&mut self) -> Result<Option<Vec<Value>>, StorageError> {
        match &mut self.rows {
            Rows::Sqlite(rows) => {
                let Some(row) = rows.next()? else { return Ok(None) };
                let values = (0..self.table.columns.len()).map(|column| match row.get_ref(column)? {
                    ValueRef::Text(text) => Ok(Value::Text(without_nul(&String::from_utf8_lossy(text)))),
                    other => Ok(other.try_into().map_err(rusqlite::Error::from)?),
                });
                Ok(Some(values.collect::<Result<_, StorageError>>()?))
            }
            Rows::Postgres { snapshot, cursor, rows } => {
                if rows.len() == 0 {
                    *rows = snapshot.fetch(cursor, ROWS)?.into_iter();
                }
                let Some(row) = rows.next() else { return Ok(None) };
                let row = Row::Postgres(&row);
                let columns = self.table.columns.iter().enumerate();
                let values = columns.map(|(place, column)| {
                    let value = match column.kind {
                        Kind::Integer => row.get::<Option<i64>>(place)?.map(Value::Integer),
                        Kind::Text => row.get::<Option<String>>(place)?.map(Value::Text),
                        Kind::Bytes => row.get::<Option<Vec<u8>>>(place)?.map(Value::Blob),
                    };
                    Ok(value.unwrap_or(Value::Null))
                });
                Ok(Some(values.collect::<Result<_, StorageError>>()?))
            }
        }
    }
}

/// As PostgreSQL has it, which cannot hold the character with the number 0.
fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
