//! Words that come up again and again (relays, tenants, codes, reasons) are numbers in the rows.

use rusqlite::{Connection, OptionalExtension};
use smol_str::SmolStr;
use std::collections::HashMap;

/// Past this many the cache starts anew; the table keeps all.
const CACHED_MAX: usize = 16_384;

/// The table `words`. A word gets the next number when it first appears in the log, so that a rebuild gives the same.
#[derive(Debug, Default)]
pub(super) struct Words {
    cached: HashMap<SmolStr, u32>,
    next: Option<u32>,
}

impl Words {
    /// The number of a word; 0 for the empty one.
    pub(super) fn number(&mut self, connection: &Connection, word: &str) -> rusqlite::Result<u32> {
        if word.is_empty() {
            return Ok(0);
        }
        if let Some(number) = self.cached.get(word) {
            return Ok(*number);
        }
        let stored = find(connection, word)?;
        let number = match stored {
            Some(number) => number,
            None => self.add(connection, word)?,
        };
        if self.cached.len() >= CACHED_MAX {
            self.cached.clear();
        }
        self.cached.insert(SmolStr::new(word), number);
        Ok(number)
    }

    fn add(&mut self, connection: &Connection, word: &str) -> rusqlite::Result<u32> {
        let number = match self.next {
            Some(next) => next,
            None => {
                connection.query_row("SELECT coalesce(max(id), 0) + 1 FROM words", [], |row| row.get(0))?
            }
        };
        connection.prepare_cached("INSERT INTO words (id, word) VALUES (?1, ?2)")?.execute((number, word))?;
        self.next = Some(number + 1);
        Ok(number)
    }
}

/// The number of a word that is there.
pub(super) fn find(connection: &Connection, word: &str) -> rusqlite::Result<Option<u32>> {
    connection
        .prepare_cached("SELECT id FROM words WHERE word = ?1")?
        .query_row([word], |row| row.get(0))
        .optional()
}

/// Reads numbers back, one question at a time, remembering the answers.
#[derive(Debug, Default)]
pub(super) struct WordList(HashMap<u32, SmolStr>);

impl WordList {
    /// The word of a number; none for 0.
    pub(super) fn word(&mut self, connection: &Connection, number: u32) -> rusqlite::Result<Option<SmolStr>> {
        if number == 0 {
            return Ok(None);
        }
        if let Some(word) = self.0.get(&number) {
            return Ok(Some(word.clone()));
        }
        let word: String = connection
            .prepare_cached("SELECT word FROM words WHERE id = ?1")?
            .query_row([number], |row| row.get(0))?;
        let word = SmolStr::new(word);
        self.0.insert(number, word.clone());
        Ok(Some(word))
    }
}
