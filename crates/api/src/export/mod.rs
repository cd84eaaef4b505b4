//! Lists as files: CSV for spreadsheets, NDJSON for programs.
//!
//! A file is written page by page while it is read, so it takes the memory of one page whatever its length. It ends
//! with the connection: nothing is read for a client that is gone. A file that cannot be completed (too many rows,
//! too long, a page that cannot be read) is broken off, so that nobody takes a part for the whole.

mod cell;

pub(crate) use cell::{as_given, harmless, optional, time};

use axum::body::Body;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream;
use kite_domain::slug::TenantId;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::time::Duration;
use tokio::time::Instant;
use utoipa::ToSchema;

use crate::answer::Page;
use crate::files_under_way::Turn;
use crate::problem::Answer;
use crate::state::ApiState;

/// The most rows of a file; a spreadsheet holds about as many.
const ROWS_MAX: usize = 1_000_000;
/// The longest that a file may take.
const TIME_MAX: Duration = Duration::from_secs(30 * 60);

/// In which form a list is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FormatWord {
    /// A page.
    Json,
    /// All of it as a table: UTF-8 with a byte order mark, times in UTC, nothing that a spreadsheet would run.
    Csv,
    /// All of it, one JSON object a line.
    Ndjson,
}

/// The format of a list that is always a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FileWord {
    /// A table: UTF-8 with a byte order mark, times in UTC, nothing that a spreadsheet would run.
    Csv,
    /// One JSON object a line.
    Ndjson,
}

impl From<FileWord> for FormatWord {
    fn from(word: FileWord) -> Self {
        match word {
            FileWord::Csv => Self::Csv,
            FileWord::Ndjson => Self::Ndjson,
        }
    }
}

/// In which form of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub(crate) enum FileFormat {
    Csv,
    Ndjson,
}

impl FileFormat {
    /// The requested file format: by the parameter, or else by the header `accept`; none: no file.
    pub(crate) fn of(asked: Option<FormatWord>, headers: &HeaderMap) -> Option<Self> {
        match asked {
            Some(FormatWord::Json) => None,
            Some(FormatWord::Csv) => Some(Self::Csv),
            Some(FormatWord::Ndjson) => Some(Self::Ndjson),
            None => {
                let accepted =
                    headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
                let mut types =
                    accepted.split(',').map(|one| one.split(';').next().unwrap_or_default().trim());
                types.find_map(|one| match one {
                    "text/csv" => Some(Some(Self::Csv)),
                    "application/x-ndjson" | "application/ndjson" | "application/jsonl" => {
                        Some(Some(Self::Ndjson))
                    }
                    "application/json" => Some(None),
                    _ => None,
                })?
            }
        }
    }

    fn media_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8",
            Self::Ndjson => "application/x-ndjson",
        }
    }

    fn ending(self) -> &'static str {
        self.into()
    }
}

/// A column: its name beside what stands in it, so that no two of them can change places.
pub(crate) struct Column<T> {
    pub(crate) name: Cow<'static, str>,
    pub(crate) cell: Box<dyn Fn(&T) -> String + Send + Sync>,
}

impl<T> Column<T> {
    pub(crate) fn new(
        name: impl Into<Cow<'static, str>>,
        cell: impl Fn(&T) -> String + Send + Sync + 'static,
    ) -> Self {
        Self { name: name.into(), cell: Box::new(cell) }
    }
}

/// What can stand in a row of a file.
pub(crate) trait Listed: Serialize + Send + Sync + 'static {
    /// The name of the file, without an ending.
    const FILE: &'static str;

    /// The columns of the table.
    fn columns() -> Vec<Column<Self>>
    where
        Self: Sized;
}

/// Reads the piece of a list that begins after a cursor.
pub(crate) type Pages<T> = Box<dyn Fn(Option<String>) -> BoxFuture<'static, Answer<Page<T>>> + Send + Sync>;

/// Writes a list as a file. The first piece is read before anything is answered, so that a bad cursor or a read model
/// that is behind gives a problem, and not a file.
pub(crate) async fn export<T: Listed>(
    state: &ApiState,
    whose: Option<&TenantId>,
    format: FileFormat,
    cursor: Option<String>,
    pages: Pages<T>,
) -> Answer<Response> {
    let turn = turn(state, whose)?;
    write(turn, T::FILE, T::columns(), format, cursor, pages).await
}

/// The right to write one file. A caller that has to read before the columns are known takes it before that.
pub(crate) fn turn(state: &ApiState, whose: Option<&TenantId>) -> Answer<Turn> {
    state.shared().exports.begin(whose)
}

/// [`export`] with columns that differ each time.
pub(crate) async fn write<T: Serialize + Send + Sync + 'static>(
    turn: Turn,
    name: &str,
    columns: Vec<Column<T>>,
    format: FileFormat,
    cursor: Option<String>,
    pages: Pages<T>,
) -> Answer<Response> {
    let first = pages(cursor).await?;
    let until = Instant::now() + TIME_MAX;
    let file = File { turn, pages, columns, format, rows: 0, until, place: Place::Begin(first) };
    let disposition = format!("attachment; filename=\"{name}.{}\"", format.ending());
    let headers =
        [(header::CONTENT_TYPE, format.media_type().to_owned()), (header::CONTENT_DISPOSITION, disposition)];
    Ok((headers, Body::from_stream(stream::try_unfold(file, File::next))).into_response())
}

enum Place<T> {
    Begin(Page<T>),
    After(String),
    End,
}

/// A file that is being written.
struct File<T> {
    /// Given back when the client is gone or has all of it.
    turn: Turn,
    pages: Pages<T>,
    columns: Vec<Column<T>>,
    format: FileFormat,
    rows: usize,
    until: Instant,
    place: Place<T>,
}

impl<T: Serialize + Send + Sync + 'static> File<T> {
    /// The next piece. The status line has been sent already: only breaking off can still show a failure.
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, std::io::Error> {
        let mut bytes = Vec::new();
        let batch = match std::mem::replace(&mut self.place, Place::End) {
            Place::Begin(first) => {
                self.write_header(&mut bytes).map_err(std::io::Error::other)?;
                first
            }
            Place::After(cursor) => {
                let batch = (self.pages)(Some(cursor)).await;
                batch.map_err(|_| std::io::Error::other("the file ended early"))?
            }
            Place::End => {
                drop(self.turn);
                return Ok(None);
            }
        };
        self.rows += batch.items.len();
        if self.rows > ROWS_MAX || (batch.next.is_some() && Instant::now() > self.until) {
            return Err(std::io::Error::other("the file is longer than files may be"));
        }
        self.write(&mut bytes, &batch.items).map_err(std::io::Error::other)?;
        self.place = batch.next.map_or(Place::End, Place::After);
        Ok(Some((bytes.into(), self)))
    }

    /// The names of the columns, after a byte order mark, so that spreadsheets read UTF-8.
    fn write_header(&self, bytes: &mut Vec<u8>) -> Result<(), csv::Error> {
        if self.format == FileFormat::Ndjson {
            return Ok(());
        }
        bytes.extend_from_slice(b"\xef\xbb\xbf");
        let mut writer = csv::Writer::from_writer(bytes);
        // Names may be a tenant's own.
        writer.write_record(self.columns.iter().map(|column| harmless(&column.name).into_owned()))?;
        writer.flush().map_err(Into::into)
    }

    fn write(&self, bytes: &mut Vec<u8>, items: &[T]) -> Result<(), csv::Error> {
        match self.format {
            FileFormat::Csv => {
                let mut writer = csv::Writer::from_writer(bytes);
                for item in items {
                    let cells = self.columns.iter().map(|column| (column.cell)(item));
                    writer.write_record(cells.map(|cell| harmless(&cell).into_owned()))?;
                }
                writer.flush().map_err(Into::into)
            }
            FileFormat::Ndjson => {
                for item in items {
                    serde_json::to_writer(&mut *bytes, item).map_err(std::io::Error::from)?;
                    bytes.push(b'\n');
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn the_parameter_decides_and_else_the_first_known_type_that_is_accepted() {
        let accepting =
            |types: &str| HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_str(types).unwrap())]);
        let none = HeaderMap::new();
        assert_eq!(FileFormat::of(None, &none), None);
        assert_eq!(FileFormat::of(Some(FormatWord::Csv), &none), Some(FileFormat::Csv));
        assert_eq!(FileFormat::of(Some(FormatWord::Json), &accepting("text/csv")), None);
        assert_eq!(FileFormat::of(None, &accepting("text/csv;q=0.9, */*")), Some(FileFormat::Csv));
        assert_eq!(FileFormat::of(None, &accepting("application/x-ndjson")), Some(FileFormat::Ndjson));
        assert_eq!(FileFormat::of(None, &accepting("application/json, text/csv")), None);
        assert_eq!(FileFormat::of(None, &accepting("*/*")), None);
    }

    /// A file of numbers that has so many rows already.
    fn file(rows: usize, until: Instant, next: Option<&str>) -> File<u32> {
        File {
            turn: crate::files_under_way::Exports::default().begin(None).unwrap(),
            pages: Box::new(|_| Box::pin(async { panic!("nobody asks for another page") })),
            columns: vec![Column::new("number", u32::to_string)],
            format: FileFormat::Csv,
            rows,
            until,
            place: Place::Begin(Page { items: vec![1, 2], next: next.map(ToOwned::to_owned) }),
        }
    }

    #[tokio::test]
    async fn a_file_is_broken_off_where_it_would_have_more_rows_than_it_may() {
        let later = Instant::now() + TIME_MAX;
        let (bytes, _) = file(ROWS_MAX - 2, later, None).next().await.unwrap().unwrap();
        assert_eq!(bytes, "\u{feff}number\n1\n2\n");
        assert!(file(ROWS_MAX - 1, later, None).next().await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_is_broken_off_when_its_time_is_over_and_more_would_come() {
        let over = Instant::now();
        assert!(file(0, over, Some("cursor")).next().await.is_ok());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(file(0, over, Some("cursor")).next().await.is_err());
        assert!(file(0, over, None).next().await.is_ok(), "it is whole");
    }
}
