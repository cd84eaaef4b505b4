//! Connections that are used by one caller at a time, and how many there may be.

use parking_lot::{Condvar, Mutex};
use std::time::Duration;

use crate::error::QueryError;

/// How long a question waits for a connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// So many connections more are only for the write side.
pub(crate) const RESERVED: usize = 2;

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Somebody outside, who may ask for much.
    User,
    /// The write side and its loops, whose questions are short. Some turns are theirs alone.
    WriteSide,
}

/// Connections of a kind. A caller that comes when all it may use are in use waits for one, and gets an error when that takes
/// too long.
pub(crate) struct Pool<C> {
    state: Mutex<State<C>>,
    /// Notified whenever there is a turn for users again.
    freed: Condvar,
    /// Notified whenever there is a turn for the write side again.
    freed_for_write_side: Condvar,
    /// So many for users at the same time.
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
        let (freed, freed_for_write_side) = (Condvar::new(), Condvar::new());
        Self { state: Mutex::new(state), freed, freed_for_write_side, max, idle_max }
    }

    /// # Errors
    /// [`QueryError::Busy`] if there was none for some seconds.
    pub(crate) fn turn(&self, caller: Caller) -> Result<Turn<'_, C>, QueryError> {
        self.turn_within(caller, PATIENCE)
    }

    pub(crate) fn turn_within(&self, caller: Caller, patience: Duration) -> Result<Turn<'_, C>, QueryError> {
        let (freed, max) = match caller {
            Caller::User => (&self.freed, self.max),
            Caller::WriteSide => (&self.freed_for_write_side, self.max + RESERVED),
        };
        let mut state = self.state.lock();
        freed.wait_while_for(&mut state, |state| state.in_use >= max, patience);
        if state.in_use >= max {
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
        // Whoever finds that it has no turn after all waits on.
        self.pool.freed_for_write_side.notify_one();
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

    fn turns(pool: &Pool<u32>, caller: Caller, count: usize) -> Vec<Turn<'_, u32>> {
        (0..count).map(|_| pool.turn_within(caller, Duration::ZERO).unwrap()).collect()
    }

    fn is_busy(pool: &Pool<u32>, caller: Caller) -> bool {
        matches!(pool.turn_within(caller, Duration::from_millis(1)), Err(QueryError::Busy))
    }

    #[test]
    fn who_finds_all_connections_in_use_is_told_so() {
        let pool = pool();
        let taken = turns(&pool, Caller::User, MAX);
        assert!(is_busy(&pool, Caller::User));
        drop(taken);
        turns(&pool, Caller::User, MAX);
    }

    #[test]
    fn some_turns_are_not_for_users() {
        let pool = pool();
        let users = turns(&pool, Caller::User, MAX);
        let own = turns(&pool, Caller::WriteSide, RESERVED);
        assert!(is_busy(&pool, Caller::WriteSide) && is_busy(&pool, Caller::User));
        drop(own);
        assert!(is_busy(&pool, Caller::User));
        drop(users);
        // Nor are they the only ones of the write side.
        turns(&pool, Caller::WriteSide, MAX + RESERVED);
    }

    #[test]
    fn who_can_wait_gets_the_first_connection_that_is_free() {
        let pool = pool();
        let (asks, asked) = mpsc::channel();
        let mut taken = turns(&pool, Caller::User, MAX);
        std::thread::scope(|scope| {
            let pool = &pool;
            let waiting = scope.spawn(move || {
                asks.send(()).unwrap();
                pool.turn_within(Caller::User, Duration::from_secs(600)).is_ok()
            });
            asked.recv().unwrap();
            drop(taken.pop());
            assert!(waiting.join().unwrap());
        });
    }

    #[test]
    fn a_turn_that_is_not_for_users_goes_to_who_may_have_it() {
        let pool = pool();
        let (asks, asked) = mpsc::channel();
        let mut taken = turns(&pool, Caller::WriteSide, MAX + RESERVED);
        std::thread::scope(|scope| {
            let wait = |caller| {
                let (pool, asks) = (&pool, asks.clone());
                let waiting = scope.spawn(move || {
                    asks.send(()).unwrap();
                    pool.turn_within(caller, Duration::from_secs(600)).map(drop)
                });
                asked.recv().unwrap();
                waiting
            };
            // They were there first.
            let users = [(); 3].map(|()| wait(Caller::User));
            let own = wait(Caller::WriteSide);
            drop(taken.pop());
            own.join().unwrap().unwrap();
            drop(taken);
            users.into_iter().for_each(|user| user.join().unwrap().unwrap());
        });
    }

    #[test]
    fn few_connections_stay_open() {
        let pool = pool();
        let mut taken = turns(&pool, Caller::User, MAX);
        taken.iter_mut().for_each(|turn| turn.keep(7));
        drop(taken);
        assert_eq!(pool.state.lock().idle.len(), 4);
        assert_eq!(pool.turn_within(Caller::User, Duration::ZERO).unwrap().take(), Some(7));
    }
}
