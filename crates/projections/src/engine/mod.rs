//! How folds and queries come to their tables. Neither knows which engine keeps them; that is known to whoever opens files,
//! holds their transactions, and moves or compares them, and to the texts in `table`.
//!
//! A fold has [`Tables`]: rows by their descriptors, without a word of SQL, asked for and written many at a time. A query
//! has a [`Connection`]: SQL that every engine understands, and typed values. Both only lend what a transaction holds.

mod connection;
mod rows;
mod tables;
mod value;

pub(crate) use connection::{Connection, Row};
pub(crate) use rows::{Record, Rows};
pub(crate) use tables::{Cells, Tables};
pub(crate) use value::{Value, values};

/// What an engine says when it cannot do something.
pub(crate) type StorageError = rusqlite::Error;
