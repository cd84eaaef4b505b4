//! Both writers do the same to the rows of a table, whatever is done to them within a transaction.

use proptest::prelude::*;

use super::bench;
use crate::Storage;
use crate::engine::{Cells, Row, StorageError, Tables};
use crate::postgres::Transaction;
use crate::table::{Pick, Statement, Table, bytes, integer, postgres, sqlite, text};

static THINGS: Table = Table::new(
    "things",
    &[
        integer("id").key(),
        text("name").key(),
        text("word").or_none(),
        bytes("blob").or_none(),
        integer("sum").added(),
        integer("low").least(),
        integer("high").greatest(),
    ],
);
static ADD: Statement = Statement::insert_new(&THINGS, Pick::All);
static MERGE: Statement = Statement::upsert(&THINGS, Pick::All);
static CHANGE: Statement = Statement::update(&THINGS, Pick::Named(&["id", "name", "word", "blob"]));
static REMOVE: Statement = Statement::delete(&THINGS, &[]);
static REMOVE_NAMED: Statement = Statement::delete(&THINGS, &["name"]);
static FIND: Statement = Statement::select(&THINGS, Pick::All, &[]);
static FIND_NAMED: Statement = Statement::select(&THINGS, Pick::All, &["name"]);

type Key = (i64, String);
type Thing = (Key, Option<String>, Option<Vec<u8>>, [i64; 3]);

#[derive(Debug, Clone)]
enum Act {
    Add(Vec<Thing>),
    Merge(Vec<Thing>),
    Change(Vec<Thing>),
    Remove(Vec<Key>),
    RemoveNamed(String),
    Find(Vec<Key>),
    FindNamed(Vec<String>),
}

fn put_key((id, name): &Key, cells: &mut Cells<'_>) {
    cells.put(*id);
    cells.put(name);
}

fn put_start((key, word, blob, _): &Thing, cells: &mut Cells<'_>) {
    put_key(key, cells);
    cells.put(word.as_ref());
    cells.put(blob.as_deref());
}

fn put(thing: &Thing, cells: &mut Cells<'_>) {
    put_start(thing, cells);
    thing.3.iter().for_each(|number| cells.put(*number));
}

fn read(row: &Row<'_>) -> Result<Thing, StorageError> {
    Ok(((row.get(0)?, row.get(1)?), row.get(2)?, row.get(3)?, [row.get(4)?, row.get(5)?, row.get(6)?]))
}

fn write<T>(
    tables: Tables<'_>,
    statement: &'static Statement,
    rows: &[T],
    put: impl Fn(&T, &mut Cells<'_>),
) -> Result<(), StorageError> {
    let mut cells = tables.fill(statement)?;
    for row in rows {
        put(row, &mut cells);
        cells.end()?;
    }
    Ok(())
}

/// Does it; what it finds, in the order of the keys and each once.
fn act(tables: Tables<'_>, act: &Act) -> Result<Vec<Thing>, StorageError> {
    let mut found = Vec::new();
    let take = |row: &Row<'_>| {
        found.push(read(row)?);
        Ok::<_, StorageError>(())
    };
    match act {
        Act::Add(things) => write(tables, &ADD, things, put)?,
        Act::Merge(things) => write(tables, &MERGE, things, put)?,
        Act::Change(things) => write(tables, &CHANGE, things, put_start)?,
        Act::Remove(keys) => write(tables, &REMOVE, keys, put_key)?,
        Act::RemoveNamed(name) => write(tables, &REMOVE_NAMED, &[name], |name, cells| cells.put(*name))?,
        Act::Find(keys) => tables.fetch(&FIND, keys, |key, cells| put_key(key, cells), take)?,
        Act::FindNamed(names) => tables.fetch(&FIND_NAMED, names, |name, cells| cells.put(*name), take)?,
    }
    found.sort();
    found.dedup();
    Ok(found)
}

fn name() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "B", "ü", ""]).prop_map(str::to_owned)
}

fn thing() -> impl Strategy<Value = Thing> {
    let word = prop::option::of(prop::sample::select(vec!["", "x\"y", "{,}", "\\N", "NULL", "가"]));
    let blob = prop::option::of(prop::collection::vec(any::<u8>(), 0..4));
    ((0..3_i64, name()), word.prop_map(|word| word.map(str::to_owned)), blob, any::<[i8; 3]>())
        .prop_map(|(key, word, blob, numbers)| (key, word, blob, numbers.map(i64::from)))
}

fn any_act() -> impl Strategy<Value = Act> {
    let things = || prop::collection::vec(thing(), 0..6);
    let keys = || prop::collection::vec((0..3_i64, name()), 0..5);
    prop_oneof![
        things().prop_map(Act::Add),
        things().prop_map(Act::Merge),
        things().prop_map(Act::Change),
        keys().prop_map(Act::Remove),
        name().prop_map(Act::RemoveNamed),
        keys().prop_map(Act::Find),
        prop::collection::vec(name(), 0..4).prop_map(Act::FindNamed),
    ]
}

#[test]
fn whatever_is_done_to_rows_both_writers_do_the_same() {
    let bench = bench();
    let Storage::Postgres(storage) = bench.storage() else { unreachable!("it is in PostgreSQL") };
    let session = storage.session("CREATE SCHEMA things; SET search_path = things, pg_temp").unwrap();
    session.execute(&postgres::create_tables([&THINGS].into_iter())).unwrap();
    let all = vec!["a".to_owned(), "B".to_owned(), "ü".to_owned(), String::new()];
    let config = ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(acts in prop::collection::vec(any_act(), 1..12))| {
        let file = rusqlite::Connection::open_in_memory().unwrap();
        file.execute_batch(&sqlite::create_tables(&[&THINGS])).unwrap();
        session.execute("BEGIN; TRUNCATE things").unwrap();
        let transaction = Transaction::new(&session);
        for done in acts.iter().chain([&Act::FindNamed(all.clone())]) {
            let here = act(Tables::Sqlite(&file), done).unwrap();
            let there = act(Tables::Postgres(&transaction), done).unwrap();
            prop_assert_eq!(here, there, "{:?}", done);
        }
        transaction.commit().unwrap();
        // And so it stays.
        let kept = act(Tables::Postgres(&Transaction::new(&session)), &Act::FindNamed(all.clone())).unwrap();
        prop_assert_eq!(kept, act(Tables::Sqlite(&file), &Act::FindNamed(all.clone())).unwrap());
    });
}

/// PostgreSQL has no character with the number 0: such a text is kept with another in its place, and nothing is held up.
#[test]
fn a_text_with_a_zero_in_it_is_kept() {
    let bench = bench();
    let Storage::Postgres(storage) = bench.storage() else { unreachable!("it is in PostgreSQL") };
    let session = storage.session("CREATE SCHEMA things; SET search_path = things, pg_temp").unwrap();
    session.execute(&postgres::create_tables([&THINGS].into_iter())).unwrap();
    let transaction = Transaction::new(&session);
    let thing = ((1, "a\0b".to_owned()), Some("\0".to_owned()), None, [0; 3]);
    act(Tables::Postgres(&transaction), &Act::Add(vec![thing])).unwrap();
    let found = act(Tables::Postgres(&transaction), &Act::Find(vec![(1, "a\0b".to_owned())])).unwrap();
    assert_eq!(found, [((1, "a\u{fffd}b".to_owned()), Some("\u{fffd}".to_owned()), None, [0; 3])]);
}
