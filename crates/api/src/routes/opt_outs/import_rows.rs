//! A CSV file of refusals into checked rows.

use csv::StringRecord;
use kite_commands::manage::NewOptOut;

use super::details::{Checks, time_of};
use crate::export::as_given;
use crate::problem::{FieldError, Problem};
use crate::routes::csv_file;

/// What became of the rows of a file.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// The good rows.
    pub(super) good: Vec<NewOptOut>,
    /// What is wrong with the others.
    pub(super) errors: Vec<FieldError>,
    /// How many rows were refused.
    pub(super) refused: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Address,
    Brand,
    Source,
    RefusedAt,
}

/// Reads the file.
pub(super) fn read(bytes: &[u8], checks: &mut Checks<'_>) -> Result<Rows, Problem> {
    let mut rows = Rows::default();
    csv_file::read_rows(bytes, columns, |row, columns, record| {
        match record.map_err(|error| vec![error]).and_then(|record| refusal(record, columns, checks)) {
            Ok(refusal) => rows.good.push(refusal),
            Err(errors) => {
                rows.refused += 1;
                rows.errors.extend(errors.into_iter().map(|error| error.in_row(row)));
            }
        }
    })?;
    Ok(rows)
}

/// An unknown column might be a brand under another name, and the refusal would be wider than it was meant.
fn columns(header: &StringRecord) -> Result<Vec<Column>, Problem> {
    let column = |name: &str| match name.to_lowercase().as_str() {
        "address" | "주소" | "전화번호" | "휴대폰" | "이메일" => Ok(Column::Address),
        "brand" | "브랜드" | "상호" => Ok(Column::Brand),
        "source" | "경로" | "출처" => Ok(Column::Source),
        "refused_at" | "거부일시" | "거부일" => Ok(Column::RefusedAt),
        _ => Err(csv_file::invalid(format!(
            "The header row names a column {name:?}; there are address, brand, source and refused_at."
        ))),
    };
    let columns: Vec<Column> = header.iter().map(column).collect::<Result<_, _>>()?;
    let count = |wanted| columns.iter().filter(|column| **column == wanted).count();
    if count(Column::Address) == 0 {
        return Err(csv_file::invalid("The header row names no column address.".to_owned()));
    }
    let all = [Column::Address, Column::Brand, Column::Source, Column::RefusedAt];
    match all.into_iter().find(|column| count(*column) > 1) {
        Some(twice) => Err(csv_file::invalid(format!("The header row names two columns for {twice:?}."))),
        None => Ok(columns),
    }
}

fn refusal(
    record: &StringRecord,
    columns: &[Column],
    checks: &mut Checks<'_>,
) -> Result<NewOptOut, Vec<FieldError>> {
    let cell = |wanted: Column| {
        let place = columns.iter().position(|column| *column == wanted);
        place.and_then(|place| record.get(place)).map(as_given).unwrap_or_default()
    };
    let short = [("address", Column::Address), ("brand", Column::Brand), ("source", Column::Source)];
    let broken = short.iter().filter_map(|(name, column)| csv_file::more_than_a_line(name, cell(*column)));
    let broken: Vec<FieldError> = broken.collect();
    if !broken.is_empty() {
        return Err(broken);
    }
    let time = Some(cell(Column::RefusedAt)).filter(|text| !text.is_empty()).map(time_of).transpose();
    let (refused_at, unreadable) = match time {
        Ok(time) => (time, None),
        Err(error) => (None, Some(error)),
    };
    let checked =
        checks.check(cell(Column::Address), Some(cell(Column::Brand)), cell(Column::Source), refused_at);
    match (checked, unreadable) {
        (Ok(refusal), None) => Ok(refusal),
        (Ok(_), Some(error)) => Err(vec![error]),
        (Err(errors), unreadable) => Err(errors.into_iter().chain(unreadable).collect()),
    }
}
