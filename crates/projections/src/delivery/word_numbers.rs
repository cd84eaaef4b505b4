//! Words that occur again and again (relays, tenants, codes, reasons) are stored as numbers in the rows.

use smol_str::SmolStr;
use std::collections::HashMap;

use super::schema::WORDS;
use crate::engine::{Connection, StorageError, Tables, values};
use crate::table::{Pick, Statement};

/// Past this many the cache starts again; the table keeps all.
const CACHED_MAX: usize = 16_384;

static FIND: Statement = Statement::select(&WORDS, Pick::Named(&["id"]), &["word"]);
static NEWEST: Statement = Statement::last(&WORDS, Pick::Named(&["id"]));
static ADD: Statement = Statement::insert(&WORDS, Pick::All);

/// The table `words`. A word gets the next number when it first appears in the log, so that a rebuild gives the same.
#[derive(Debug, Default)]
pub(super) struct Words {
    cached: HashMap<SmolStr, u32>,
    next: Option<u32>,
    /// Those of this transaction, in the order of their numbers.
    new: Vec<(u32, SmolStr)>,
}

impl Words {
    /// The number of a word; 0 for the empty one.
    pub(super) fn number(&mut self, tables: Tables<'_>, word: &str) -> Result<u32, StorageError> {
        if word.is_empty() {
            return Ok(0);
        }
        if let Some(number) = self.cached.get(word) {
            return Ok(*number);
        }
        let stored = tables.find(&FIND, values![word], |row| row.get(0))?;
        let number = match stored {
            Some(number) => number,
            None => self.add(tables, word)?,
        };
        self.cached.insert(SmolStr::new(word), number);
        Ok(number)
    }

    fn add(&mut self, tables: Tables<'_>, word: &str) -> Result<u32, StorageError> {
        let number = match self.next {
            Some(next) => next,
            None => tables.find(&NEWEST, &[], |row| row.get::<u32>(0))?.unwrap_or(0) + 1,
        };
        self.new.push((number, SmolStr::new(word)));
        self.next = Some(number + 1);
        Ok(number)
    }

    /// Adds the new ones to the table.
    pub(super) fn flush(&mut self, tables: Tables<'_>) -> Result<(), StorageError> {
        if !self.new.is_empty() {
            let mut cells = tables.fill(&ADD)?;
            for (number, word) in self.new.drain(..) {
                cells.put(number);
                cells.put(&word);
                cells.end()?;
            }
        }
        // Not before: the table does not have the new ones yet.
        if self.cached.len() >= CACHED_MAX {
            self.cached.clear();
        }
        Ok(())
    }
}

/// The number of a word that is there.
pub(super) fn find(connection: Connection<'_>, word: &str) -> Result<Option<u32>, StorageError> {
    connection.first("SELECT id FROM words WHERE word = ?1", values![word], |row| row.get(0))
}

/// Reads numbers back, one question at a time, remembering the answers.
#[derive(Debug, Default)]
pub(super) struct WordList(HashMap<u32, SmolStr>);

impl WordList {
    /// The word of a number; none for 0.
    pub(super) fn word(
        &mut self,
        connection: Connection<'_>,
        number: u32,
    ) -> Result<Option<SmolStr>, StorageError> {
        if number == 0 {
            return Ok(None);
        }
        if let Some(word) = self.0.get(&number) {
            return Ok(Some(word.clone()));
        }
        let sql = "SELECT word FROM words WHERE id = ?1";
        let word = connection.one(sql, values![number], |row| row.text(0))?;
        self.0.insert(number, word.clone());
        Ok(Some(word))
    }
}
