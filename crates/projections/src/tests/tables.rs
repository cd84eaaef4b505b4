//! Descriptors against the files that they describe.

use kite_domain::contact::{ContactDeleted, ContactDetails, ContactsPersonal, ContactsSaved};
use kite_domain::ids::ContactId;
use rusqlite::Connection;
use std::collections::BTreeMap;
use tempfile::TempDir;
use uuid::Uuid;

use super::{Bench, at, run, tenant};
use crate::address_book::AddressBookModel;
use crate::database::{CHECKPOINT, tables};
use crate::delivery::DeliveryModel;
use crate::projector::ReadModel;
use crate::replay;
use crate::routing::RoutingModel;
use crate::table::{Kind, Role};
use crate::work::WorkModel;

/// The files of a directory that c61d613 made (see `crates/kite/tests/old_data`), whose schema versions are those of
/// today: they open as they are.
const KEPT: [(&str, &str); 4] = [
    ("address_book", include_str!("kept_schemas/address_book.sql")),
    ("routing", include_str!("kept_schemas/routing.sql")),
    ("delivery", include_str!("kept_schemas/delivery.sql")),
    ("work", include_str!("kept_schemas/work.sql")),
];

fn kept(model: &str) -> Connection {
    let file = Connection::open_in_memory().unwrap();
    let (_, sql) = KEPT.iter().find(|(name, _)| *name == model).unwrap();
    file.execute_batch(sql).unwrap();
    file
}

/// A column: name, type, whether it has to have a value, what it has by itself, its place in the key.
type Shape = (String, String, bool, Option<String>, i64);

fn shape(file: &Connection, table: &str) -> Vec<Shape> {
    let mut columns = file
        .prepare("SELECT name, type, \"notnull\", dflt_value, pk FROM pragma_table_info(?1) ORDER BY cid")
        .unwrap();
    let columns = columns
        .query_map([table], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)));
    columns.unwrap().collect::<Result<_, _>>().unwrap()
}

/// What SQLite knows of a file beside the columns: how its tables are stored, and its indexes.
fn layout(file: &Connection) -> BTreeMap<String, String> {
    let mut layout = BTreeMap::new();
    let mut tables = file
        .prepare("SELECT name, wr, strict FROM pragma_table_list WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
        .unwrap();
    let tables = tables
        .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, bool>(1)?, row.get::<_, bool>(2)?)));
    for (name, is_by_key, is_strict) in tables.unwrap().map(Result::unwrap) {
        let mut indexes = file
            .prepare(
                "SELECT l.name || l.\"unique\" || l.origin || l.partial || group_concat(i.name), s.sql
                 FROM pragma_index_list(?1) l JOIN pragma_index_info(l.name) i LEFT JOIN sqlite_schema s ON s.name = l.name
                 GROUP BY l.name ORDER BY l.name",
            )
            .unwrap();
        let indexes = indexes
            .query_map([&name], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?)));
        for (place, (index, sql)) in indexes.unwrap().map(Result::unwrap).enumerate() {
            let sql = sql.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
            layout.insert(format!("{name} {place}"), format!("{index}: {sql}"));
        }
        layout.insert(name, format!("by key {is_by_key}, strict {is_strict}"));
    }
    layout
}

fn check<M: ReadModel>(bench: &Bench) {
    let old = kept(M::NAME);
    let new = Connection::open(bench.path().join(format!("{}.db", M::NAME))).unwrap();
    assert_eq!(layout(&new), layout(&old), "{}", M::NAME);
    for table in tables::<M>().chain([&CHECKPOINT]) {
        let shapes = shape(&old, table.name);
        assert_eq!(shape(&new, table.name), shapes, "{}", table.name);
        let mut place = 0;
        let key_columns = table.key().count();
        for (column, (name, kind, has_value, _, key)) in table.columns.iter().zip(&shapes) {
            let word = match column.kind {
                Kind::Integer => "INTEGER",
                Kind::Text => "TEXT",
                Kind::Bytes => "BLOB",
            };
            assert_eq!((column.name, word), (name.as_str(), kind.as_str()), "{}", table.name);
            let is_key = column.role == Role::Key;
            place += i64::from(is_key);
            assert_eq!(*key, if is_key { place } else { 0 }, "{} of {}", column.name, table.name);
            let is_number_of_row = is_key && key_columns == 1 && column.kind == Kind::Integer;
            assert_eq!(
                *has_value,
                !column.is_optional && !is_number_of_row,
                "{} of {}",
                column.name,
                table.name
            );
        }
        assert_eq!(shapes.len(), table.columns.len());
    }
}

#[test]
fn descriptors_are_those_of_the_files_that_an_earlier_version_made() {
    let bench = Bench::new();
    check::<AddressBookModel>(&bench);
    check::<RoutingModel>(&bench);
    check::<DeliveryModel>(&bench);
    check::<WorkModel>(&bench);
}

/// Its triggers counted contacts; the fold does that now.
#[test]
fn contacts_are_counted_once_in_a_file_that_an_earlier_version_made() {
    let directory = TempDir::new().unwrap();
    let file = Connection::open(directory.path().join("address_book.db")).unwrap();
    let (_, sql) = KEPT.iter().find(|(name, _)| *name == "address_book").unwrap();
    file.execute_batch(sql).unwrap();
    file.execute_batch("INSERT INTO checkpoint VALUES (1, 0); INSERT INTO contact_numbers VALUES (1, 1)")
        .unwrap();
    file.pragma_update(None, "user_version", AddressBookModel::SCHEMA_VERSION).unwrap();
    drop(file);
    let mut bench = Bench::on(directory);
    let contact = |number: u128| ContactDetails {
        contact: ContactId(Uuid::from_u128(number)),
        name: "n".to_owned(),
        phone: Some(format!("0101111000{number}").into()),
        email: None,
        tags: vec![],
        fields: BTreeMap::new(),
    };
    let personal = ContactsPersonal { contacts: (1..=3).map(contact).collect() };
    let saved = ContactsSaved { tenant: tenant(), group: None, personal };
    bench.append("contact-book-acme-202510", at(0), vec![saved.into()]);
    let deleted = ContactDeleted { tenant: tenant(), contact: ContactId(Uuid::from_u128(2)) };
    bench.append("contact-book-acme-202510", at(1), vec![deleted.into()]);
    bench.project();
    assert_eq!(bench.models.address_book.contact_count(&tenant()).unwrap(), (2, 2));
    let report = run(replay::verify(bench.store.clone(), bench.path())).unwrap();
    assert!(report.is_clean(), "{report}");
}
