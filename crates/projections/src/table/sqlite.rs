//! The texts of descriptors and statements for SQLite.
//!
//! A table whose key is one number is stored by it; every other by its key (WITHOUT ROWID). All tables are STRICT.

use super::common::{self, key_of};
use super::verb::Verb;
use super::{Column, Kind, Role, Table};

/// Makes the tables, and the indexes that the fold itself looks up by.
pub(crate) fn create_tables(tables: &[&Table]) -> String {
    common::create_tables(tables.iter().copied(), create_table)
}

fn create_table(table: &Table) -> String {
    let key: Vec<&str> = table.key().map(|(_, column)| column.name).collect();
    let mut parts: Vec<String> =
        table.columns.iter().map(|column| column_of(table, column, key.len())).collect();
    parts.extend(table.unique.iter().map(|columns| format!("UNIQUE ({})", columns.join(", "))));
    if key.len() > 1 {
        parts.push(format!("PRIMARY KEY ({})", key.join(", ")));
    }
    let layout = if is_by_number(table) { "STRICT" } else { "STRICT, WITHOUT ROWID" };
    format!("CREATE TABLE {} (\n    {}\n) {layout};\n", table.name, parts.join(",\n    "))
}

fn column_of(table: &Table, column: &Column, key_columns: usize) -> String {
    let kind = match column.kind {
        Kind::Integer => "INTEGER",
        Kind::Text => "TEXT",
        Kind::Bytes => "BLOB",
    };
    let is_alone = column.role == Role::Key && key_columns == 1;
    let key = if is_alone { " PRIMARY KEY" } else { "" };
    let presence = if column.is_optional || is_alone { "" } else { " NOT NULL" };
    let zero = if column.is_zero_at_first { " DEFAULT 0" } else { "" };
    let check = match table.only_row {
        Some(_) if is_alone => format!(" CHECK ({} = 1)", column.name),
        _ => String::new(),
    };
    format!("{} {kind}{key}{presence}{zero}{check}", column.name)
}

/// Whether the rows are stored by a number that is their key.
fn is_by_number(table: &Table) -> bool {
    let mut key = table.key();
    let first = key.next().is_some_and(|(_, column)| column.kind == Kind::Integer);
    first && key.next().is_none()
}

/// The text of a statement.
pub(super) fn text_of(table: &Table, verb: Verb) -> String {
    let name = table.name;
    match verb {
        Verb::Insert(columns) => insert(name, &columns.of(table)),
        Verb::InsertNew(columns) => format!("{} ON CONFLICT DO NOTHING", insert(name, &columns.of(table))),
        Verb::Upsert(columns) => upsert(table, &columns.of(table)),
        Verb::Update(columns) => update(table, &columns.of(table)),
        Verb::Delete(by) => format!("DELETE FROM {name} WHERE {}", equal(&named_or_key(table, by))),
        Verb::Select(columns, by) => format!(
            "SELECT {} FROM {name} WHERE {} ORDER BY {}",
            columns.of(table).join(", "),
            equal(&named_or_key(table, by)),
            key_of(table).join(", ")
        ),
        Verb::Range(columns) => {
            let (columns, key) = (columns.of(table).join(", "), key_of(table).join(", "));
            format!("SELECT {columns} FROM {name} WHERE {key} >= ?1 AND {key} < ?2 ORDER BY {key}")
        }
        Verb::Last(columns) => {
            let (columns, key) = (columns.of(table).join(", "), key_of(table).join(" DESC, "));
            format!("SELECT {columns} FROM {name} ORDER BY {key} DESC LIMIT 1")
        }
    }
}

fn named_or_key(table: &Table, by: &[&'static str]) -> Vec<&'static str> {
    if by.is_empty() { key_of(table) } else { by.iter().map(|name| table.column(name).name).collect() }
}

fn insert(name: &str, columns: &[&str]) -> String {
    let values: Vec<String> = (1..=columns.len()).map(|place| format!("?{place}")).collect();
    format!("INSERT INTO {name} ({}) VALUES ({})", columns.join(", "), values.join(", "))
}

fn upsert(table: &Table, columns: &[&'static str]) -> String {
    let sets = columns.iter().filter_map(|name| {
        let old = format!("{}.{name}", table.name);
        match table.column(name).role {
            Role::Key => None,
            Role::Set => Some(format!("{name} = excluded.{name}")),
            Role::Add => Some(format!("{name} = {old} + excluded.{name}")),
            Role::Least => Some(format!("{name} = min({old}, excluded.{name})")),
            Role::Greatest => Some(format!("{name} = max({old}, excluded.{name})")),
        }
    });
    let sets: Vec<String> = sets.collect();
    let key = key_of(table).join(", ");
    format!("{} ON CONFLICT ({key}) DO UPDATE SET {}", insert(table.name, columns), sets.join(", "))
}

fn update(table: &Table, columns: &[&'static str]) -> String {
    let (mut sets, mut conditions) = (Vec::new(), Vec::new());
    for (place, name) in (1..).zip(columns) {
        let is_key = table.column(name).role == Role::Key;
        let list = if is_key { &mut conditions } else { &mut sets };
        list.push(format!("{name} = ?{place}"));
    }
    format!("UPDATE {} SET {} WHERE {}", table.name, sets.join(", "), conditions.join(" AND "))
}

fn equal(columns: &[&str]) -> String {
    let conditions: Vec<String> =
        (1..).zip(columns).map(|(place, name)| format!("{name} = ?{place}")).collect();
    conditions.join(" AND ")
}
