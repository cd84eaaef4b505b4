//! Descriptors against the files that they describe.

use kite_domain::contact::{ContactDeleted, ContactDetails, ContactsPersonal, ContactsSaved};
use kite_domain::ids::ContactId;
use rusqlite::Connection;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use tempfile::TempDir;
use uuid::Uuid;

use super::{Bench, at, run, tenant};
use crate::address_book::AddressBookModel;
use crate::database::{CHECKPOINT, tables};
use crate::delivery::DeliveryModel;
use crate::directory::DirectoryModel;
use crate::read_model::ReadModel;
use crate::replay;
use crate::routing::RoutingModel;
use crate::table::{Kind, Role, Table, Verbs, integer};
use crate::work::WorkModel;
use crate::{OpenError, ReadModels};

/// The schema of a model's file, and what compares today's with it.
struct Kept {
    model: &'static str,
    sql: &'static str,
    check: fn(&Bench, &str),
}

impl Kept {
    const fn of<M: ReadModel>(sql: &'static str) -> Self {
        Self { model: M::NAME, sql, check: check::<M> }
    }
}

/// The files of a directory that c61d613 made (see `crates/kite/tests/old_data`), whose tables are those of today:
/// they open as they are, or are upgraded. `directory` came later, and is as its first version made it.
const KEPT: [Kept; 5] = [
    Kept::of::<AddressBookModel>(ADDRESS_BOOK),
    Kept::of::<RoutingModel>(include_str!("kept_schemas/routing.sql")),
    Kept::of::<DeliveryModel>(include_str!("kept_schemas/delivery.sql")),
    Kept::of::<WorkModel>(include_str!("kept_schemas/work.sql")),
    Kept::of::<DirectoryModel>(include_str!("kept_schemas/directory.sql")),
];
const ADDRESS_BOOK: &str = include_str!("kept_schemas/address_book.sql");

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

fn check<M: ReadModel>(bench: &Bench, kept: &str) {
    let old = Connection::open_in_memory().unwrap();
    old.execute_batch(kept).unwrap();
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
    let of_the_list: BTreeSet<&str> = ReadModels::names().collect();
    assert_eq!(KEPT.iter().map(|kept| kept.model).collect::<BTreeSet<_>>(), of_the_list);
    let bench = Bench::on_files();
    for Kept { sql, check, .. } in KEPT {
        check(&bench, sql);
    }
}

/// Columns of which an upsert makes something else than the new value are not for rows that are written whole.
#[test]
#[should_panic(expected = "whole rows are written into columns that are set")]
fn rows_are_not_written_whole_into_what_is_added_to() {
    static SUMS: Table = Table::new("sums", &[integer("id").key(), integer("sum").added()]);
    Verbs::of(&SUMS);
}

fn save_contacts(bench: &mut Bench, numbers: RangeInclusive<u128>) {
    let contact = |number: u128| ContactDetails {
        contact: ContactId(Uuid::from_u128(number)),
        name: "n".to_owned(),
        phone: Some(format!("0101111000{number}").into()),
        email: None,
        tags: vec![],
        fields: BTreeMap::new(),
    };
    let personal = ContactsPersonal { contacts: numbers.map(contact).collect() };
    let saved = ContactsSaved { tenant: tenant(), group: None, personal };
    bench.append("contact-book-acme-202510", at(0), vec![saved.into()]);
}

/// Its triggers counted contacts; the fold does that now.
#[test]
fn contacts_are_counted_once_in_a_file_that_an_earlier_version_made() {
    let directory = TempDir::new().unwrap();
    let file = Connection::open(directory.path().join("address_book.db")).unwrap();
    file.execute_batch(ADDRESS_BOOK).unwrap();
    file.execute_batch("INSERT INTO checkpoint VALUES (1, 0); INSERT INTO contact_numbers VALUES (1, 1)")
        .unwrap();
    file.pragma_update(None, "user_version", 4).unwrap();
    drop(file);
    let mut bench = Bench::on(directory);
    save_contacts(&mut bench, 1..=3);
    let deleted = ContactDeleted { tenant: tenant(), contact: ContactId(Uuid::from_u128(2)) };
    bench.append("contact-book-acme-202510", at(1), vec![deleted.into()]);
    bench.project();
    assert_eq!(bench.models.address_book.contact_count(&tenant()).unwrap(), (2, 2));
    let report = run(replay::verify(bench.store.clone(), bench.storage())).unwrap();
    assert!(report.is_clean(), "{report}");
}

/// Version and triggers of the address book.
fn counted_by(file: &Connection) -> (i64, i64) {
    let version = file.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    let triggers = "SELECT count(*) FROM sqlite_schema WHERE type = 'trigger'";
    (version, file.query_row(triggers, [], |row| row.get(0)).unwrap())
}

/// Makes the address book one in which the triggers of an earlier version have counted.
fn count_by_triggers(file: &Connection) {
    let kept = ADDRESS_BOOK;
    let (from, until) =
        (kept.find("CREATE TRIGGER").unwrap(), kept.find("CREATE TABLE contact_numbers").unwrap());
    file.execute_batch(&format!(
        "DROP TRIGGER IF EXISTS contact_added; DROP TRIGGER IF EXISTS contact_removed;
         {} DELETE FROM contact_counts;
         CREATE TEMP TABLE those AS SELECT * FROM contacts;
         DELETE FROM contacts;
         INSERT INTO contacts SELECT * FROM those;
         DROP TABLE those;
         PRAGMA user_version = 4;",
        &kept[from..until]
    ))
    .unwrap();
}

#[test]
fn only_the_projector_takes_over_from_the_triggers_of_an_earlier_version() {
    let mut bench = Bench::on_files();
    save_contacts(&mut bench, 1..=3);
    bench.project();
    let file = Connection::open(bench.path().join("address_book.db")).unwrap();
    count_by_triggers(&file);
    let counted = |bench: &Bench| bench.models.address_book.contact_count(&tenant()).unwrap().0;
    assert_eq!(counted(&bench), 3);

    // Whoever only looks leaves the triggers to the earlier version.
    replay::parked(bench.storage()).unwrap();
    drop(ReadModels::open(bench.path()).unwrap());
    assert!(run(replay::verify(bench.store.clone(), bench.storage())).unwrap().is_clean());
    assert_eq!(counted_by(&file), (4, 2));

    // What was counted wrongly or not at all is counted again.
    for wrong in ["UPDATE contact_counts SET contacts = 99", "DELETE FROM contact_counts"] {
        count_by_triggers(&file);
        file.execute_batch(wrong).unwrap();
        bench.restart();
        assert_eq!(counted_by(&file), (5, 0), "{wrong}");
        assert_eq!(counted(&bench), 3, "{wrong}");
    }
    save_contacts(&mut bench, 4..=5);
    bench.project();
    assert_eq!(counted(&bench), 5);
    assert!(run(replay::verify(bench.store.clone(), bench.storage())).unwrap().is_clean());

    file.pragma_update(None, "user_version", 3).unwrap();
    let refused = ReadModels::open(bench.path()).err().unwrap();
    assert!(matches!(refused, OpenError::OtherSchema { found: 3, known: 5, .. }), "{refused}");
}
