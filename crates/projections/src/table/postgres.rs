//! The texts of descriptors and statements for PostgreSQL.
//!
//! A statement takes many rows at once: one array for each column. Texts are compared byte by byte, as in SQLite.

use super::common::{self, key_of};
use super::verb::{Pick, Verb};
use super::{Column, Kind, Role, Table};

/// A statement over arrays.
#[derive(Debug)]
pub(crate) struct BulkText {
    pub(crate) sql: String,
    pub(crate) parameters: Vec<Parameter>,
    /// No two of its rows may have the same key.
    pub(crate) is_once_a_key: bool,
}

/// A column of the rows that are given to a statement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parameter {
    pub(crate) kind: Kind,
    pub(crate) is_key: bool,
}

/// What PostgreSQL calls otherwise than SQLite, so that queries are the same text.
const FUNCTIONS: &str = r"
CREATE FUNCTION instr(text, text) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN strpos($1, $2);
CREATE FUNCTION hex(bytea) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN upper(encode($1, 'hex'));
";

/// Makes the tables in the schema that is searched first, and the indexes that the fold itself looks up by.
pub(crate) fn create_tables<'t>(tables: impl Iterator<Item = &'t Table>) -> String {
    FUNCTIONS.to_owned() + &common::create_tables(tables, create_table)
}

fn create_table(table: &Table) -> String {
    let mut parts: Vec<String> = table.columns.iter().map(|column| column_of(table, column)).collect();
    parts.extend(table.unique.iter().map(|columns| format!("UNIQUE ({})", columns.join(", "))));
    parts.push(format!("PRIMARY KEY ({})", key_of(table).join(", ")));
    // Room for the next state of a row beside it: then its indexes stay as they are.
    let room = if table.is_only_key() { "" } else { " WITH (fillfactor = 60)" };
    format!("CREATE TABLE {} (\n    {}\n){room};\n", table.name, parts.join(",\n    "))
}

fn column_of(table: &Table, column: &Column) -> String {
    let kind = match column.kind {
        Kind::Integer => "bigint",
        Kind::Text => "text COLLATE \"C\"",
        Kind::Bytes => "bytea",
    };
    let presence = if column.is_optional { "" } else { " NOT NULL" };
    let zero = if column.is_zero_at_first { " DEFAULT 0" } else { "" };
    let check = match table.only_row {
        Some(_) if column.role == Role::Key => format!(" CHECK ({} = 1)", column.name),
        _ => String::new(),
    };
    format!("{} {kind}{presence}{zero}{check}", column.name)
}

/// The text of a statement.
pub(super) fn text_of(table: &Table, verb: Verb) -> BulkText {
    let name = table.name;
    let (sql, columns) = match verb {
        Verb::Insert(columns) => insert(table, columns),
        Verb::InsertNew(columns) => {
            let (sql, columns) = insert(table, columns);
            (format!("{sql} ON CONFLICT ({}) DO NOTHING", key_of(table).join(", ")), columns)
        }
        Verb::Upsert(columns) => {
            let (sql, columns) = insert(table, columns);
            let sets: Vec<String> = columns.iter().filter_map(|column| merged(table, column)).collect();
            let key = key_of(table).join(", ");
            (format!("{sql} ON CONFLICT ({key}) DO UPDATE SET {}", sets.join(", ")), columns)
        }
        Verb::Update(columns) => {
            let columns = named(table, &columns.of(table));
            let sets: Vec<String> = columns
                .iter()
                .filter(|column| column.role != Role::Key)
                .map(|column| format!("{0} = given.{0}", column.name))
                .collect();
            let (given, equal) = (given(&columns), equal(name, &key_of(table)));
            (format!("UPDATE {name} SET {} FROM {given} WHERE {equal}", sets.join(", ")), columns)
        }
        Verb::Delete(by) => {
            let columns = named_or_key(table, by);
            let equal = equal(name, &names(&columns));
            (format!("DELETE FROM {name} USING {} WHERE {equal}", given(&columns)), columns)
        }
        Verb::Select(found, by) => {
            let columns = named_or_key(table, by);
            let (found, equal) = (found.of(table).join(", "), equal(name, &names(&columns)));
            // The rows are found one key after the other, by the index, whatever is known about the table's size.
            let rows = format!("SELECT {found} FROM {name} WHERE {equal} OFFSET 0");
            (format!("SELECT found.* FROM {}, LATERAL ({rows}) AS found", given(&columns)), columns)
        }
        Verb::Range(found) => {
            let (found, key) = (found.of(table).join(", "), key_of(table).join(", "));
            let rows = format!(
                "SELECT {key} AS place_in_range, {found} FROM {name} WHERE {key} >= given.first AND {key} < given.after_last \
                 OFFSET 0"
            );
            let sql = format!(
                "SELECT {found} FROM unnest($1::bigint[], $2::bigint[]) AS given (first, after_last), \
                 LATERAL ({rows}) AS found ORDER BY place_in_range"
            );
            let number = Parameter { kind: Kind::Integer, is_key: false };
            return BulkText { sql, parameters: vec![number; 2], is_once_a_key: false };
        }
        Verb::Last(found) => {
            let (found, key) = (found.of(table).join(", "), key_of(table).join(" DESC, "));
            (format!("SELECT {found} FROM {name} ORDER BY {key} DESC LIMIT 1"), Vec::new())
        }
    };
    let parameter = |column: &&Column| Parameter { kind: column.kind, is_key: column.role == Role::Key };
    BulkText {
        sql,
        parameters: columns.iter().map(parameter).collect(),
        is_once_a_key: matches!(verb, Verb::Upsert(_) | Verb::Update(_)),
    }
}

fn named(table: &Table, names: &[&'static str]) -> Vec<&'static Column> {
    names.iter().map(|name| table.column(name)).collect()
}

fn named_or_key(table: &Table, by: &[&'static str]) -> Vec<&'static Column> {
    if by.is_empty() { table.key().map(|(_, column)| column).collect() } else { named(table, by) }
}

fn names(columns: &[&'static Column]) -> Vec<&'static str> {
    columns.iter().map(|column| column.name).collect()
}

/// The rows that are given, by the names of their columns.
fn given(columns: &[&'static Column]) -> String {
    let arrays = (1..).zip(columns).map(|(place, column)| {
        let kind = match column.kind {
            Kind::Integer => "bigint",
            Kind::Text => "text",
            Kind::Bytes => "bytea",
        };
        format!("${place}::{kind}[]")
    });
    let arrays: Vec<String> = arrays.collect();
    format!("unnest({}) AS given ({})", arrays.join(", "), names(columns).join(", "))
}

fn insert(table: &Table, columns: Pick) -> (String, Vec<&'static Column>) {
    let columns = named(table, &columns.of(table));
    let list = names(&columns).join(", ");
    (format!("INSERT INTO {} ({list}) SELECT * FROM {}", table.name, given(&columns)), columns)
}

/// What an upsert does to a column of a row that is there.
fn merged(table: &Table, column: &Column) -> Option<String> {
    let name = column.name;
    let old = format!("{}.{name}", table.name);
    match column.role {
        Role::Key => None,
        Role::Set => Some(format!("{name} = excluded.{name}")),
        Role::Add => Some(format!("{name} = {old} + excluded.{name}")),
        Role::Least => Some(format!("{name} = least({old}, excluded.{name})")),
        Role::Greatest => Some(format!("{name} = greatest({old}, excluded.{name})")),
    }
}

fn equal(table: &str, columns: &[&str]) -> String {
    let conditions: Vec<String> =
        columns.iter().map(|name| format!("{table}.{name} = given.{name}")).collect();
    conditions.join(" AND ")
}
