//! What is the same text in every engine.

use super::{Index, Table};

/// Makes the tables, each with this statement, and the indexes that the fold itself looks up by.
pub(super) fn create_tables<'t>(
    tables: impl Iterator<Item = &'t Table>,
    create_table: impl Fn(&Table) -> String,
) -> String {
    let tables = tables.map(|table| {
        let indexes = table.indexes.iter().filter(|index| !index.is_late);
        let indexes: String = indexes.map(|index| create_index(table, index)).collect();
        let row = table
            .only_row
            .map_or_else(String::new, |number| format!("INSERT INTO {} VALUES (1, {number});\n", table.name));
        format!("{}{row}{indexes}", create_table(table))
    });
    tables.collect()
}

/// Makes the indexes that are for queries only.
pub(crate) fn create_indexes<'t>(tables: impl Iterator<Item = &'t Table>) -> String {
    let late = tables.flat_map(|table| {
        table.indexes.iter().filter(|index| index.is_late).map(|index| create_index(table, index))
    });
    late.collect()
}

fn create_index(table: &Table, index: &Index) -> String {
    let unique = if index.is_unique { "UNIQUE " } else { "" };
    let only = if index.only.is_empty() { String::new() } else { format!(" WHERE {}", index.only) };
    let columns = index.columns.join(", ");
    format!("CREATE {unique}INDEX IF NOT EXISTS {} ON {} ({columns}){only};\n", index.name, table.name)
}

/// Every row of a table, in the order of its key.
pub(crate) fn everything_of(table: &Table) -> String {
    let columns: Vec<&str> = table.columns.iter().map(|column| column.name).collect();
    format!("SELECT {} FROM {} ORDER BY {}", columns.join(", "), table.name, key_of(table).join(", "))
}

/// The columns of the key.
pub(super) fn key_of(table: &Table) -> Vec<&'static str> {
    table.key().map(|(_, column)| column.name).collect()
}
