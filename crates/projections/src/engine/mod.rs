//! How folds and queries access their tables. Neither knows the engine. The engine is known to the code that opens
//! files, holds their transactions, and moves or compares them, and to the SQL texts in `table`.
//!
//! A fold has [`Tables`]: rows by their descriptors, without any SQL, read and written many at a time. A query has a
//! [`Connection`]: SQL that every engine understands, and typed values. Both only borrow a transaction.

mod connection;
mod error;
mod in_ranges;
mod row;
mod rows;
mod tables;
mod value;

pub(crate) use connection::Connection;
pub use error::StorageError;
pub(crate) use in_ranges::InRanges;
pub(crate) use row::Row;
pub(crate) use rows::{Record, Rows};
pub(crate) use tables::{Cells, Tables};
pub(crate) use value::{Value, values};
