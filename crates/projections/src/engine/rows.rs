//! Rows of a table in memory, while a transaction changes them and for some time after.
//!
//! A fold asks for a row, changes it, and continues; what has changed is written once, at the end of the transaction.
//! A row that is not in memory is read when it is requested, so a fold need not know in advance which rows it will
//! need; [`Rows::prefetch`] reads the known ones at once. Rows stay in memory for later transactions, up to a limit:
//! only this process writes the table, and after a failure everything is forgotten.
//!
//! A row that is added and removed within a transaction is written in its last state, and then removed, so that it is
//! noticed if it cannot be written. Earlier states within the transaction are not written, nor is a change of a
//! stored row that is then removed.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use super::{Cells, Row, Tables};
use crate::error::ApplyError;
use crate::table::{Statement, Verbs};

/// The row of a table as a value.
pub(crate) trait Record: Clone {
    /// By what it is found.
    type Key: Clone + Ord;
    /// The second key by which it is found: [`Rows::beside`]. `()` if there is none.
    type Aside: Clone + Ord;

    /// A second key is unique. Then a row must be removed before another can take its value.
    const IS_UNIQUE_BESIDE_KEY: bool = false;

    /// What can be done with it.
    fn verbs() -> &'static Verbs;

    /// Puts the columns of the key.
    fn put_key(key: &Self::Key, cells: &mut Cells<'_>);

    /// Puts all columns, in the order of the table.
    fn put(&self, key: &Self::Key, cells: &mut Cells<'_>);

    /// Reads all columns, in the order of the table.
    fn read(row: &Row<'_>) -> Result<(Self::Key, Self), ApplyError>;

    /// By what else this row is found.
    fn asides(&self, _key: &Self::Key) -> Vec<Self::Aside> {
        Vec::new()
    }
}

/// What is known of a row.
#[derive(Debug)]
struct Slot<R> {
    /// None: there is no such row.
    row: Option<R>,
    /// It is in the table.
    is_stored: bool,
    /// It has to be written.
    is_changed: bool,
    /// It was added and removed in this transaction, and had this state.
    passed: Option<R>,
}

impl<R> Slot<R> {
    fn stored(row: Option<R>) -> Self {
        Self { is_stored: row.is_some(), row, is_changed: false, passed: None }
    }

    /// It has to be written: its key is among those, once.
    fn mark<K: Clone>(&mut self, key: &K, changed: &mut Vec<K>) {
        if !std::mem::replace(&mut self.is_changed, true) {
            changed.push(key.clone());
        }
    }
}

/// Rows of one table.
#[derive(Debug)]
pub(crate) struct Rows<R: Record> {
    slots: BTreeMap<R::Key, Slot<R>>,
    /// Keys of what has to be written.
    changed: Vec<R::Key>,
    /// The rows in memory by their second key.
    aside_keys: BTreeMap<R::Aside, BTreeSet<R::Key>>,
    /// All rows with these second keys are in memory.
    asked: BTreeSet<R::Aside>,
    kept_max: usize,
}

impl<R: Record> Rows<R> {
    /// Keeps at most so many rows between transactions.
    pub(crate) fn keeping(kept_max: usize) -> Self {
        Self {
            slots: BTreeMap::new(),
            changed: Vec::new(),
            aside_keys: BTreeMap::new(),
            asked: BTreeSet::new(),
            kept_max,
        }
    }

    fn set_aside(&mut self, key: &R::Key, asides: Vec<R::Aside>) {
        for aside in asides {
            self.aside_keys.entry(aside).or_default().insert(key.clone());
        }
    }

    fn forget_aside(&mut self, key: &R::Key, asides: Vec<R::Aside>) {
        for aside in asides {
            if let Some(keys) = self.aside_keys.get_mut(&aside) {
                keys.remove(key);
                if keys.is_empty() {
                    self.aside_keys.remove(&aside);
                }
            }
        }
    }

    /// Takes over what is in the table, unless more is known.
    fn learn(&mut self, key: R::Key, row: R) {
        if self.slots.contains_key(&key) {
            return;
        }
        self.set_aside(&key, row.asides(&key));
        self.slots.insert(key, Slot::stored(Some(row)));
    }

    /// Reads the rows of these keys that are not in memory, all at once.
    pub(crate) fn prefetch(
        &mut self,
        tables: Tables<'_>,
        keys: impl IntoIterator<Item = R::Key>,
    ) -> Result<(), ApplyError> {
        let unknown: Vec<R::Key> = keys.into_iter().filter(|key| !self.slots.contains_key(key)).collect();
        tables.fetch(
            &R::verbs().select,
            &unknown,
            |key, cells| R::put_key(key, cells),
            |row| {
                let (key, row) = R::read(row)?;
                self.learn(key, row);
                Ok::<_, ApplyError>(())
            },
        )?;
        for key in unknown {
            self.slots.entry(key).or_insert_with(|| Slot::stored(None));
        }
        Ok(())
    }

    /// What is known of the row of this key, and the keys of what has to be written.
    fn slot(
        &mut self,
        tables: Tables<'_>,
        key: &R::Key,
    ) -> Result<(&mut Slot<R>, &mut Vec<R::Key>), ApplyError> {
        if !self.slots.contains_key(key) {
            self.prefetch(tables, [key.clone()])?;
        }
        Ok((self.slots.get_mut(key).expect("it was put there just now"), &mut self.changed))
    }

    /// The row of this key.
    pub(crate) fn get(&mut self, tables: Tables<'_>, key: &R::Key) -> Result<Option<&R>, ApplyError> {
        Ok(self.slot(tables, key)?.0.row.as_ref())
    }

    /// The row of this key, to be changed; its second key must stay the same.
    pub(crate) fn get_mut(&mut self, tables: Tables<'_>, key: &R::Key) -> Result<Option<&mut R>, ApplyError> {
        let (slot, changed) = self.slot(tables, key)?;
        if slot.row.is_some() {
            slot.mark(key, changed);
        }
        Ok(slot.row.as_mut())
    }

    /// Puts a row in the place of the one that there is, if there is one.
    pub(crate) fn put(&mut self, tables: Tables<'_>, key: R::Key, row: R) -> Result<(), ApplyError> {
        let new = row.asides(&key);
        let (slot, changed) = self.slot(tables, &key)?;
        let old = slot.row.replace(row);
        slot.mark(&key, changed);
        if let Some(old) = old {
            self.forget_aside(&key, old.asides(&key));
        }
        self.set_aside(&key, new);
        Ok(())
    }

    /// Takes the row away, if there is one.
    pub(crate) fn remove(&mut self, tables: Tables<'_>, key: &R::Key) -> Result<Option<R>, ApplyError> {
        let (slot, changed) = self.slot(tables, key)?;
        let Some(row) = slot.row.take() else { return Ok(None) };
        if !slot.is_stored {
            slot.passed = Some(row.clone());
        }
        slot.mark(key, changed);
        self.forget_aside(key, row.asides(key));
        Ok(Some(row))
    }

    /// Removes all rows in a range, which are those that the statement removes, without reading them. This happens at
    /// once, because there may be any number of them.
    pub(crate) fn clear(
        &mut self,
        tables: Tables<'_>,
        delete: &'static Statement,
        put: impl Fn(&mut Cells<'_>),
        range: RangeInclusive<R::Key>,
    ) -> Result<(), ApplyError> {
        let mut cells = tables.fill(delete)?;
        put(&mut cells);
        cells.end()?;
        let known: Vec<R::Key> = self.slots.range(range).map(|(key, _)| key.clone()).collect();
        for key in known {
            self.remove(tables, &key)?;
            if let Some(slot) = self.slots.get_mut(&key) {
                slot.is_stored = false;
            }
        }
        Ok(())
    }

    /// The keys of the rows in a range: of those in memory, and of those that the statement finds.
    pub(crate) fn among(
        &mut self,
        tables: Tables<'_>,
        select: &'static Statement,
        put: impl Fn(&mut Cells<'_>),
        range: RangeInclusive<R::Key>,
    ) -> Result<Vec<R::Key>, ApplyError> {
        tables.fetch(
            select,
            [()],
            |(), cells| put(cells),
            |row| {
                let (key, row) = R::read(row)?;
                self.learn(key, row);
                Ok::<_, ApplyError>(())
            },
        )?;
        let there = self.slots.range(range).filter(|(_, slot)| slot.row.is_some());
        Ok(there.map(|(key, _)| key.clone()).collect())
    }

    /// Reads the rows with these second keys, all at once.
    pub(crate) fn prefetch_beside(
        &mut self,
        tables: Tables<'_>,
        select: &'static Statement,
        put: impl Fn(&R::Aside, &mut Cells<'_>),
        asides: impl IntoIterator<Item = R::Aside>,
    ) -> Result<(), ApplyError> {
        let unknown: Vec<R::Aside> = asides.into_iter().filter(|aside| !self.asked.contains(aside)).collect();
        tables.fetch(
            select,
            &unknown,
            |aside, cells| put(aside, cells),
            |row| {
                let (key, row) = R::read(row)?;
                self.learn(key, row);
                Ok::<_, ApplyError>(())
            },
        )?;
        self.asked.extend(unknown);
        Ok(())
    }

    /// The keys of the rows with this second key, in their order.
    pub(crate) fn beside(
        &mut self,
        tables: Tables<'_>,
        select: &'static Statement,
        put: impl Fn(&R::Aside, &mut Cells<'_>),
        aside: &R::Aside,
    ) -> Result<Vec<R::Key>, ApplyError> {
        self.prefetch_beside(tables, select, put, [aside.clone()])?;
        Ok(self.aside_keys.get(aside).into_iter().flatten().cloned().collect())
    }

    /// Writes what has changed, in the order of the keys. Rows that were only read count for the limit, too.
    pub(crate) fn flush(&mut self, tables: Tables<'_>) -> Result<(), ApplyError> {
        self.write_changed(tables)?;
        let kept = self.slots.len().max(self.asked.len()).max(self.aside_keys.len());
        if kept > self.kept_max {
            *self = Self::keeping(self.kept_max);
        }
        Ok(())
    }

    fn write_changed(&mut self, tables: Tables<'_>) -> Result<(), ApplyError> {
        if self.changed.is_empty() {
            return Ok(());
        }
        let mut changed = std::mem::take(&mut self.changed);
        changed.sort_unstable();
        let (mut new, mut other, mut gone, mut passed) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for key in &changed {
            let Some(slot) = self.slots.get(key) else { continue };
            match (&slot.row, slot.is_stored) {
                (Some(row), true) if R::IS_UNIQUE_BESIDE_KEY => {
                    gone.push(key);
                    new.push((key, row));
                }
                // Of a row that is nothing but its key nothing can change.
                (Some(_), true) if R::verbs().is_only_key => {}
                (Some(row), true) => other.push((key, row)),
                (Some(row), false) => new.push((key, row)),
                (None, true) => gone.push(key),
                (None, false) => passed.extend(slot.passed.as_ref().map(|row| (key, row))),
            }
        }
        delete::<R>(tables, gone)?;
        for (key, row) in passed {
            write(tables, &R::verbs().insert, &[(key, row)])?;
            delete::<R>(tables, vec![key])?;
        }
        write(tables, &R::verbs().update, &other)?;
        write(tables, &R::verbs().insert, &new)?;
        for key in &changed {
            if let Some(slot) = self.slots.get_mut(key) {
                (slot.is_stored, slot.is_changed, slot.passed) = (slot.row.is_some(), false, None);
            }
        }
        Ok(())
    }
}

fn delete<R: Record>(tables: Tables<'_>, keys: Vec<&R::Key>) -> Result<(), ApplyError> {
    if keys.is_empty() {
        return Ok(());
    }
    let mut cells = tables.fill(&R::verbs().delete)?;
    for key in keys {
        R::put_key(key, &mut cells);
        cells.end()?;
    }
    Ok(())
}

fn write<R: Record>(
    tables: Tables<'_>,
    statement: &'static Statement,
    rows: &[(&R::Key, &R)],
) -> Result<(), ApplyError> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut cells = tables.fill(statement)?;
    for (key, row) in rows {
        row.put(key, &mut cells);
        cells.end()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::sqlite::create_tables;
    use crate::table::{Pick, Table, integer};

    static PAIRS: Table = Table::new("pairs", &[integer("id").key(), integer("other")]);
    static BY_OTHER: Statement = Statement::select(&PAIRS, Pick::All, &["other"]);
    static CLEAR: Statement = Statement::delete(&PAIRS, &["other"]);

    #[derive(Debug, Clone, PartialEq)]
    struct Pair(i64);

    impl Record for Pair {
        type Key = i64;
        type Aside = i64;

        crate::table::verbs!(PAIRS);

        fn put_key(key: &i64, cells: &mut Cells<'_>) {
            cells.put(*key);
        }

        fn put(&self, key: &i64, cells: &mut Cells<'_>) {
            cells.put(*key);
            cells.put(self.0);
        }

        fn read(row: &Row<'_>) -> Result<(i64, Self), ApplyError> {
            Ok((row.get(0)?, Self(row.get(1)?)))
        }

        fn asides(&self, _key: &i64) -> Vec<i64> {
            vec![self.0]
        }
    }

    /// Does something with a table and rows of which 4 are kept.
    fn keeping_four(then: impl FnOnce(Tables<'_>, Rows<Pair>)) {
        let file = rusqlite::Connection::open_in_memory().unwrap();
        file.execute_batch(&create_tables(&[&PAIRS])).unwrap();
        then(Tables::Sqlite(&file), Rows::keeping(4));
    }

    #[test]
    fn what_was_only_asked_for_is_not_kept_without_bound() {
        keeping_four(|tables, mut rows| {
            for key in 0..4 {
                assert!(rows.get(tables, &key).unwrap().is_none());
                rows.flush(tables).unwrap();
            }
            assert_eq!(rows.slots.len(), 4);
            rows.get(tables, &4).unwrap();
            rows.flush(tables).unwrap();
            assert!(rows.slots.is_empty());
            for other in 0..5 {
                assert!(
                    rows.beside(tables, &BY_OTHER, |other, cells| cells.put(*other), &other)
                        .unwrap()
                        .is_empty()
                );
            }
            assert_eq!(rows.asked.len(), 5);
            rows.flush(tables).unwrap();
            assert!(rows.asked.is_empty());
        });
    }

    #[test]
    fn what_no_row_is_found_by_any_more_is_forgotten() {
        keeping_four(|tables, mut rows| {
            for other in 0..9 {
                rows.put(tables, 1, Pair(other)).unwrap();
            }
            assert_eq!(rows.aside_keys.keys().collect::<Vec<_>>(), [&8]);
            rows.remove(tables, &1).unwrap();
            assert!(rows.aside_keys.is_empty());
            rows.flush(tables).unwrap();
        });
    }

    /// What is in the table.
    fn stored(tables: Tables<'_>) -> Vec<(i64, Pair)> {
        let Tables::Sqlite(file) = tables else { unreachable!("it is a file") };
        let mut select = file.prepare("SELECT id, other FROM pairs ORDER BY id").unwrap();
        let found = select.query_map([], |row| Ok((row.get(0)?, Pair(row.get(1)?)))).unwrap();
        found.map(Result::unwrap).collect()
    }

    #[test]
    fn what_came_and_went_is_refused_where_it_could_not_have_stood() {
        keeping_four(|tables, mut rows| {
            let Tables::Sqlite(file) = tables else { unreachable!("it is a file") };
            file.execute_batch("CREATE UNIQUE INDEX pairs_by_other ON pairs (other)").unwrap();
            rows.put(tables, 1, Pair(7)).unwrap();
            rows.flush(tables).unwrap();
            rows.put(tables, 2, Pair(8)).unwrap();
            rows.remove(tables, &2).unwrap();
            rows.flush(tables).unwrap();
            rows.put(tables, 2, Pair(7)).unwrap();
            rows.remove(tables, &2).unwrap();
            rows.flush(tables).unwrap_err();
            assert_eq!(stored(tables), [(1, Pair(7))]);
        });
    }

    #[test]
    fn what_was_cleared_can_be_put_again() {
        keeping_four(|tables, mut rows| {
            rows.put(tables, 1, Pair(7)).unwrap();
            rows.put(tables, 2, Pair(7)).unwrap();
            rows.flush(tables).unwrap();
            rows.clear(tables, &CLEAR, |cells| cells.put(7_i64), 1..=2).unwrap();
            rows.put(tables, 1, Pair(9)).unwrap();
            assert_eq!(rows.get(tables, &2).unwrap(), None);
            rows.flush(tables).unwrap();
            assert_eq!(stored(tables), [(1, Pair(9))]);
        });
    }
}
