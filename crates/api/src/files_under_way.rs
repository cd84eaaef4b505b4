//! How many files are written at once. Each reads page after page as fast as the client takes it, so there is a limit
//! for all, and one for each caller, so that nobody takes the places of the others.

use kite_domain::slug::TenantId;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

use crate::problem::{Answer, Code, Problem};

/// Files at once, of everybody.
const ALL_MAX: usize = 16;
/// Files at once, of one tenant, or of the operator.
const EACH_MAX: usize = 3;

/// The number of files that are being written, by caller.
#[derive(Debug, Clone, Default)]
pub(crate) struct Exports(Arc<Mutex<HashMap<Option<TenantId>, usize>>>);

/// The right to write one file, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    exports: Exports,
    whose: Option<TenantId>,
}

impl Exports {
    /// Takes a place, if there is one.
    pub(crate) fn begin(&self, whose: Option<&TenantId>) -> Answer<Turn> {
        let mut under_way = self.0.lock();
        let whose = whose.cloned();
        let own = under_way.get(&whose).copied().unwrap_or(0);
        if own >= EACH_MAX || under_way.values().sum::<usize>() >= ALL_MAX {
            return Err(Problem::new(Code::TooManyAtOnce, "Too many files are being written at once."));
        }
        under_way.insert(whose.clone(), own + 1);
        Ok(Turn { exports: self.clone(), whose })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut under_way = self.exports.0.lock();
        match under_way.get_mut(&self.whose) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(under_way.remove(&self.whose)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(number: usize) -> TenantId {
        TenantId::parse(&format!("tenant-{number}")).unwrap()
    }

    #[test]
    fn each_has_some_places_and_all_together_more() {
        let exports = Exports::default();
        let one = tenant(1);
        let turns: Vec<Turn> = (0..EACH_MAX).map(|_| exports.begin(Some(&one)).unwrap()).collect();
        assert_eq!(exports.begin(Some(&one)).unwrap_err().code(), Code::TooManyAtOnce);
        let others: Vec<Turn> =
            (EACH_MAX..ALL_MAX).map(|number| exports.begin(Some(&tenant(number))).unwrap()).collect();
        assert_eq!(exports.begin(None).unwrap_err().code(), Code::TooManyAtOnce);
        drop(turns);
        assert!(exports.begin(Some(&one)).is_ok() && exports.begin(None).is_ok());
        drop(others);
        assert!(exports.0.lock().is_empty());
    }
}
