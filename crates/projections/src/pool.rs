//! Connections that are used by one caller at a time, and how many there may be.

use parking_lot::{Condvar, Mutex};
use std::time::Duration;

use crate::error::QueryError;

/// How long a question waits for a connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// Connections of a kind. A caller that comes when all are in use waits for one, and gets an error when that takes too long.
pub(crate) struct Pool<C> {
    state: Mutex<State<C>>,
    /// Notified whenever a connection is free again.
    freed: Condvar,
    /// So many at the same time.
    max: usize,
    /// So many are kept when nobody uses them.
    idle_max: usize,
}

struct State<C> {
    idle: Vec<C>,
    in_use: usize,
}

/// The right to one connection, until it is dropped.
pub(crate) struct Turn<'p, C> {
    pool: &'p Pool<C>,
    /// A connection that is open already; when it is given back, one that is to stay open.
    connection: Option<C>,
}

impl<C> Pool<C> {
    pub(crate) fn new(max: usize, idle_max: usize) -> Self {
        let state = State { idle: Vec::new(), in_use: 0 };
        Self { state: Mutex::new(state), freed: Condvar::new(), max, idle_max }
    }

    /// # Errors
    /// [`QueryError::Busy`] if there was none for some seconds.
    pub(crate) fn turn(&self) -> Result<Turn<'_, C>, QueryError> {
        self.turn_within(PATIENCE)
    }

    pub(crate) fn turn_within(&self, patience: Duration) -> Result<Turn<'_, C>, QueryError> {
        let mut state = self.state.lock();
        self.freed.wait_while_for(&mut state, |state| state.in_use >= self.max, patience);
        if state.in_use >= self.max {
            return Err(QueryError::Busy);
        }
        state.in_use += 1;
        Ok(Turn { pool: self, connection: state.idle.pop() })
    }
}

impl<C> Turn<'_, C> {
    /// A connection that is open already.
    pub(crate) fn take(&mut self) -> Option<C> {
        self.connection.take()
    }

    /// One that is to stay open.
    pub(crate) fn keep(&mut self, connection: C) {
        self.connection = Some(connection);
    }
}

impl<C> Drop for Turn<'_, C> {
    fn drop(&mut self) {
        let mut state = self.pool.state.lock();
        state.in_use -= 1;
        let has_room = state.idle.len() < self.pool.idle_max;
        state.idle.extend(self.connection.take().filter(|_| has_room));
        drop(state);
        self.pool.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const MAX: usize = 16;

    fn pool() -> Pool<u32> {
        Pool::new(MAX, 4)
    }

    fn turns(pool: &Pool<u32>, count: usize) -> Vec<Turn<'_, u32>> {
        (0..count).map(|_| pool.turn_within(Duration::ZERO).unwrap()).collect()
    }

    #[test]
    fn who_finds_all_connections_in_use_is_told_so() {
        let pool = pool();
        let taken = turns(&pool, MAX);
        assert!(matches!(pool.turn_within(Duration::from_millis(1)), Err(QueryError::Busy)));
        drop(taken);
        turns(&pool, MAX);
    }

    #[test]
    fn who_can_wait_gets_the_first_connection_that_is_free() {
        let pool = pool();
        let (asks, asked) = mpsc::channel();
        let mut taken = turns(&pool, MAX);
        std::thread::scope(|scope| {
            let pool = &pool;
            let waiting = scope.spawn(move || {
                asks.send(()).unwrap();
                pool.turn_within(Duration::from_secs(600)).is_ok()
            });
            asked.recv().unwrap();
            drop(taken.pop());
            assert!(waiting.join().unwrap());
        });
    }

    #[test]
    fn few_connections_stay_open() {
        let pool = pool();
        let mut taken = turns(&pool, MAX);
        taken.iter_mut().for_each(|turn| turn.keep(7));
        drop(taken);
        assert_eq!(pool.state.lock().idle.len(), 4);
        assert_eq!(pool.turn_within(Duration::ZERO).unwrap().take(), Some(7));
    }
}
