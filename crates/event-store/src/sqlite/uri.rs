//! Names of files as SQLite takes them with options.

use std::path::Path;

/// The file as SQLite takes it where it is only to be read.
pub(super) fn read_only(path: &Path) -> String {
    format!("file:{}?mode=ro", escaped(path))
}

/// The file as SQLite takes it where nobody writes it: without any file beside it.
pub(super) fn immutable(path: &Path) -> String {
    format!("file:{}?immutable=1", escaped(path))
}

fn escaped(path: &Path) -> String {
    let mut text = String::new();
    for letter in path.to_string_lossy().chars() {
        match letter {
            '%' => text.push_str("%25"),
            '?' => text.push_str("%3f"),
            '#' => text.push_str("%23"),
            other => text.push(other),
        }
    }
    text
}
