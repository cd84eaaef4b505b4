//! Reads a CSV file of contacts, as people's spreadsheets write it, into checked rows.
//!
//! Nothing is repaired silently: a number that lost its leading zero is refused with the number that is probably
//! meant.

use csv::StringRecord;
use kite_domain::contact::ContactDetails;
use kite_domain::ids::ContactId;
use smol_str::SmolStr;
use std::collections::{BTreeMap, HashMap, HashSet};

use super::details::ContactBody;
use crate::export::as_given;
use crate::problem::{FieldError, Problem};
use crate::routes::csv_file;

/// What became of the rows of a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Rows {
    /// The good rows, one per contact.
    pub(crate) contacts: Vec<ContactDetails>,
    /// The rows of each contact.
    pub(crate) rows_of: Vec<Vec<u32>>,
    /// How many rows were good, including those merged with an earlier one.
    pub(crate) good: u32,
    /// Rows with the address of an earlier one: the later row counts.
    pub(crate) merged: Vec<u32>,
    /// What is wrong with the others.
    pub(crate) errors: Vec<FieldError>,
    /// How many rows were refused.
    pub(crate) refused: u32,
}

enum Column {
    Name,
    Phone,
    Email,
    Tags,
    Field(SmolStr),
}

/// Reads the file.
pub(crate) fn read(bytes: &[u8], mut next_id: impl FnMut() -> ContactId) -> Result<Rows, Problem> {
    let mut rows = Rows::default();
    let mut places: HashMap<SmolStr, usize> = HashMap::new();
    csv_file::read_rows(bytes, columns, |row, columns, record| {
        let contact = match record {
            Ok(record) => checked(record, columns, &mut next_id),
            Err(error) => Err(vec![error]),
        };
        match contact {
            Ok(contact) => rows.take(row, contact, &mut places),
            Err(errors) => {
                rows.refused += 1;
                rows.errors.extend(errors.into_iter().map(|error| error.in_row(row)));
            }
        }
    })?;
    Ok(rows)
}

impl Rows {
    /// A later row with the address of an earlier one takes its place, under the id of the earlier.
    fn take(&mut self, row: u32, contact: ContactDetails, places: &mut HashMap<SmolStr, usize>) {
        self.good += 1;
        let addresses: Vec<SmolStr> = contact.phone.iter().chain(&contact.email).cloned().collect();
        let place = match addresses.iter().find_map(|address| places.get(address)) {
            Some(&place) => {
                let earlier = &mut self.contacts[place];
                *earlier = ContactDetails { contact: earlier.contact, ..contact };
                self.merged.push(row);
                self.rows_of[place].push(row);
                place
            }
            None => {
                self.contacts.push(contact);
                self.rows_of.push(vec![row]);
                self.contacts.len() - 1
            }
        };
        places.extend(addresses.into_iter().map(|address| (address, place)));
    }
}

impl Rows {
    /// Refuses these contacts after all, by their places, in order.
    pub(crate) fn refuse(&mut self, places: &[usize], why: &FieldError) {
        let is_refused: HashSet<usize> = places.iter().copied().collect();
        let gone: HashSet<u32> =
            places.iter().flat_map(|place| self.rows_of[*place].iter().copied()).collect();
        self.good -= gone.len() as u32;
        self.refused += gone.len() as u32;
        self.merged.retain(|row| !gone.contains(row));
        self.errors.extend(gone.into_iter().map(|row| why.clone().in_row(row)));
        self.errors.sort_by_key(|error| error.row);
        self.contacts = kept(std::mem::take(&mut self.contacts), &is_refused);
        self.rows_of = kept(std::mem::take(&mut self.rows_of), &is_refused);
    }
}

fn kept<T>(all: Vec<T>, is_refused: &HashSet<usize>) -> Vec<T> {
    let places = all.into_iter().enumerate();
    places.filter(|(place, _)| !is_refused.contains(place)).map(|(_, one)| one).collect()
}

fn columns(header: &StringRecord) -> Result<Vec<Column>, Problem> {
    let columns: Vec<Column> = header
        .iter()
        .map(|name| match name.to_lowercase().as_str() {
            "name" | "이름" => Column::Name,
            "phone" | "전화번호" | "휴대폰" => Column::Phone,
            "email" | "e-mail" | "이메일" => Column::Email,
            "tags" | "태그" => Column::Tags,
            _ => Column::Field(as_given(name).into()),
        })
        .collect();
    if !columns.iter().any(|column| matches!(column, Column::Phone | Column::Email)) {
        return Err(csv_file::invalid(
            "The header row names neither a column phone nor a column email.".to_owned(),
        ));
    }
    Ok(columns)
}

/// The contact of a row. A custom field may have many lines, everything else is short.
fn checked(
    record: &StringRecord,
    columns: &[Column],
    next_id: impl FnOnce() -> ContactId,
) -> Result<ContactDetails, Vec<FieldError>> {
    let broken = record.iter().zip(columns).filter_map(|(cell, column)| {
        let field = match column {
            Column::Name => "name",
            Column::Phone => "phone",
            Column::Email => "email",
            Column::Tags => "tags",
            Column::Field(_) => return None,
        };
        csv_file::more_than_a_line(field, cell)
    });
    let broken: Vec<FieldError> = broken.collect();
    if broken.is_empty() { body_of(record, columns).check(next_id()) } else { Err(broken) }
}

fn body_of(record: &StringRecord, columns: &[Column]) -> ContactBody {
    let mut body = ContactBody { fields: BTreeMap::new(), ..ContactBody::default() };
    for (value, column) in record.iter().map(as_given).zip(columns) {
        match column {
            Column::Name => value.clone_into(&mut body.name),
            Column::Phone => body.phone = Some(value.to_owned()),
            Column::Email => body.email = Some(value.to_owned()),
            Column::Tags => {
                body.tags = value
                    .split([';', ','])
                    .map(str::trim)
                    .filter(|tag| !tag.is_empty())
                    .map(SmolStr::new)
                    .collect();
            }
            Column::Field(_) if value.is_empty() => {}
            Column::Field(name) => {
                body.fields.insert(name.clone(), value.to_owned());
            }
        }
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::Code;
    use uuid::Uuid;

    fn rows(bytes: &[u8]) -> Result<Rows, Problem> {
        let mut count = 0;
        read(bytes, || {
            count += 1;
            ContactId(Uuid::from_u128(count))
        })
    }

    #[test]
    fn names_numbers_tags_and_own_columns() {
        let rows =
            rows("\u{feff}name,phone,email,tags,등급\n홍길동,010-1234-5678,,vip; seoul,골드\n".as_bytes())
                .unwrap();
        let contact = &rows.contacts[0];
        assert_eq!((contact.name.as_str(), contact.phone.as_deref()), ("홍길동", Some("01012345678")));
        assert_eq!(contact.tags, ["vip", "seoul"]);
        assert_eq!(contact.fields[&SmolStr::new("등급")], "골드");
        assert_eq!((rows.good, rows.refused), (1, 0));
    }

    #[test]
    fn what_korean_excel_writes_is_read() {
        let (bytes, _, _) = encoding_rs::EUC_KR.encode("이름,전화번호\r\n똠방각하,01012345678\r\n");
        assert!(std::str::from_utf8(&bytes).is_err());
        assert_eq!(rows(&bytes).unwrap().contacts[0].name, "똠방각하");
    }

    #[test]
    fn a_lost_zero_is_offered_and_not_put_back() {
        let rows = rows(b"name,phone\nA,1012345678\nB,01012345679\n").unwrap();
        assert_eq!(rows.contacts.len(), 1);
        let error = &rows.errors[0];
        assert_eq!((error.row, error.code.as_str()), (Some(2), "lost_leading_zero"));
        assert!(error.detail.contains("01012345678"), "{}", error.detail);
    }

    #[test]
    fn rows_with_the_same_address_are_one_contact_and_the_later_counts() {
        let rows = rows(b"name,phone,email\nA,01012345678,a@b.kr\nB,010-1234-5678,\nC,01011112222,a@b.kr\n")
            .unwrap();
        assert_eq!((rows.good, rows.merged.clone()), (3, vec![3, 4]));
        assert_eq!(rows.contacts.len(), 1);
        assert_eq!(rows.contacts[0].name, "C");
    }

    #[test]
    fn what_is_no_table_of_contacts_is_refused_whole() {
        for bytes in [&b""[..], b"name\nA\n", b"phone,phone\n1,2\n", b"phone,\n1,2\n", b"phone\n\xff\xff\n"] {
            assert_eq!(rows(bytes).unwrap_err().code(), Code::InvalidCsv, "{bytes:?}");
        }
    }

    #[test]
    fn a_contact_that_is_refused_after_all_takes_its_rows_with_it() {
        let mut rows = rows(b"phone\n01012345678\n01011112222\n010-1234-5678\n").unwrap();
        rows.refuse(&[0], &FieldError::new("row", "contacts_limit", "no place"));
        assert_eq!((rows.good, rows.refused, rows.merged.as_slice()), (1, 2, &[][..]));
        assert_eq!(rows.contacts[0].phone.as_deref(), Some("01011112222"));
        assert_eq!(rows.errors.iter().map(|error| error.row).collect::<Vec<_>>(), [Some(2), Some(4)]);
    }

    #[test]
    fn a_line_break_in_a_short_cell_is_an_error_of_its_row() {
        let text = "name,phone,email,memo\n\"A\nB\",01012345678,,\nC,\"010\n1\",,\nD,01012345679,,\"1\n2\"\n";
        let rows = rows(text.as_bytes()).unwrap();
        let errors: Vec<_> =
            rows.errors.iter().map(|error| (error.row, error.field.as_str(), error.code.as_str())).collect();
        assert_eq!(errors, [(Some(2), "name", "line_break"), (Some(3), "phone", "line_break")]);
        assert_eq!(rows.contacts[0].fields[&SmolStr::new("memo")], "1\n2");
    }

    #[test]
    fn what_an_export_kept_from_spreadsheets_comes_back_as_it_was() {
        let rows = rows("name,phone,memo\n'=A,01012345678,'+1+1\n".as_bytes()).unwrap();
        let contact = &rows.contacts[0];
        assert_eq!((contact.name.as_str(), contact.fields[&SmolStr::new("memo")].as_str()), ("=A", "+1+1"));
    }

    #[test]
    fn a_row_with_a_missing_column_names_itself() {
        let rows = rows(b"name,phone\nA\nB,01012345678\n").unwrap();
        assert_eq!((rows.errors[0].row, rows.errors[0].code.as_str()), (Some(2), "column_count"));
        assert_eq!(rows.contacts.len(), 1);
    }
}
