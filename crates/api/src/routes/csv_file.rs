//! What all CSV files have in common: they are read row by row, and written so that a spreadsheet can read them.
//!
//! The text is UTF-8, with or without a byte order mark, or CP949, which Korean Excel writes. Nothing is repaired
//! silently.

use csv::StringRecord;
use std::borrow::Cow;

use super::csv_quotes;
use crate::problem::{Code, FieldError, Problem};

/// The most rows of one file.
pub(crate) const ROWS_MAX: usize = 100_000;
/// The most errors that a report lists.
pub(crate) const ERRORS_LISTED_MAX: usize = 1_000;
/// The beginning of a file, so that spreadsheets take it for UTF-8.
pub(crate) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads a file: `columns` gets the header row, `take` each row after it, with its number as a spreadsheet counts
/// (the header is row 1). A row with too many or too few columns is reported as an error of its own.
pub(crate) fn read_rows<C>(
    bytes: &[u8],
    columns: impl FnOnce(&StringRecord) -> Result<C, Problem>,
    mut take: impl FnMut(u32, &C, Result<&StringRecord, FieldError>),
) -> Result<(), Problem> {
    let text = decode(bytes)?;
    csv_quotes::are_in_pairs(&text).map_err(invalid)?;
    let mut reader =
        csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_reader(text.as_bytes());
    let header = reader.headers().map_err(unreadable)?.clone();
    let columns = columns(&header)?;
    are_told_apart(&header)?;
    let mut has_rows = false;
    for (index, record) in reader.records().enumerate() {
        if index >= ROWS_MAX {
            return Err(invalid(format!("The file has more than {ROWS_MAX} rows.")));
        }
        has_rows = true;
        let row = u32::try_from(index + 2).unwrap_or(u32::MAX);
        let record = record.map_err(unreadable)?;
        let is_whole = record.len() == header.len();
        take(row, &columns, if is_whole { Ok(&record) } else { Err(column_count(&record, &header)) });
    }
    if has_rows { Ok(()) } else { Err(invalid("The file has no rows.".to_owned())) }
}

/// The error of a short cell that has more than one line: most often the quotes of two rows were mixed up.
pub(crate) fn more_than_a_line(field: &str, cell: &str) -> Option<FieldError> {
    let detail = "the cell has a line break; is a quote missing or too many?";
    cell.contains(['\n', '\r']).then(|| FieldError::new(field, "line_break", detail))
}

fn column_count(record: &StringRecord, header: &StringRecord) -> FieldError {
    let detail = format!("the row has {} columns, the header has {}", record.len(), header.len());
    FieldError::new("row", "column_count", detail)
}

fn decode(bytes: &[u8]) -> Result<Cow<'_, str>, Problem> {
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Ok(Cow::Borrowed(text));
    }
    // The encoding that the web calls EUC-KR is CP949.
    let decoded = encoding_rs::EUC_KR.decode_without_bom_handling_and_without_replacement(bytes);
    decoded.ok_or_else(|| invalid("The text is neither UTF-8 nor CP949.".to_owned()))
}

/// Every column has a name of its own.
fn are_told_apart(header: &StringRecord) -> Result<(), Problem> {
    let mut names: Vec<String> = header.iter().map(str::to_lowercase).collect();
    if names.iter().any(String::is_empty) {
        return Err(invalid("A column of the header row has no name.".to_owned()));
    }
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(twice) => Err(invalid(format!("The header row names the column {} more than once.", twice[0]))),
        None => Ok(()),
    }
}

fn unreadable(error: csv::Error) -> Problem {
    invalid(format!("The file cannot be read: {error}."))
}

/// The file as a whole is not what it should be.
pub(crate) fn invalid(detail: String) -> Problem {
    Problem::new(Code::InvalidCsv, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows_of(text: &str) -> Result<Vec<u32>, Problem> {
        let mut rows = Vec::new();
        read_rows(text.as_bytes(), |_| Ok(()), |row, (), _| rows.push(row)).map(|()| rows)
    }

    #[test]
    fn a_file_without_rows_or_with_a_quote_left_open_is_refused() {
        assert_eq!(rows_of("address\n1\n2\n"), Ok(vec![2, 3]));
        for (text, detail) in [
            ("address\n", "The file has no rows."),
            ("address\n\r\n", "The file has no rows."),
            ("address,source\n1,\"080\n2,web\n", "In row 2 a quote is opened that is never closed."),
        ] {
            let problem = rows_of(text).unwrap_err();
            assert_eq!((problem.code(), problem.detail()), (Code::InvalidCsv, detail), "{text:?}");
        }
    }
}
