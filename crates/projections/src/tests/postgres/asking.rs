//! Questions: who may ask how many, and answers that cannot be taken.

use kite_domain::sending::MessageClass;
use kite_testkit::postgres::Database;
use kite_testkit::wait::wait_until;
use std::cell::Cell;
use std::time::Duration;

use super::super::{at, run};
use super::{ask, bench};
use crate::engine::{Row, StorageError};
use crate::pool::Caller;
use crate::postgres::{Postgres, Snapshot};
use crate::{ApplyError, ProjectError, QueryError, Storage};

const SOON: Duration = Duration::from_secs(60);

#[test]
fn users_who_wait_for_slow_answers_leave_turns_to_the_write_side() {
    let mut bench = bench();
    bench.accept(1, 3, MessageClass::Notice);
    bench.project();
    let url = bench.database().url();
    let own = bench.models.of_write_side();
    let waits_for = async |what: &str, sessions: usize, granted: &str| {
        let locks = format!(
            "SELECT count(*) = {sessions} FROM pg_locks WHERE relation = 'kite_delivery_1.totals'::regclass AND {granted}"
        );
        wait_until(what, SOON, async || bench.database().is_so(&locks).await).await.unwrap();
    };
    std::thread::scope(|scope| {
        let holding = "BEGIN; LOCK TABLE kite_delivery_1.totals; SELECT pg_sleep(600)";
        let slow = scope.spawn(|| run(Database::attempt(&url, holding)));
        run(waits_for("the lock", 1, "granted"));
        // As many as there are connections.
        let users = [(); 4].map(|()| scope.spawn(|| bench.models.delivery.totals()));
        run(waits_for("users to wait", 4, "NOT granted"));
        let loads = own.work.workload().unwrap().loads;
        assert_eq!(loads.len(), 1);
        assert!(!users.iter().any(|user| user.is_finished()), "it was answered when users were");
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                   WHERE datname = current_database() AND query LIKE 'BEGIN; LOCK TABLE%'";
        ask(&url, end);
        slow.join().unwrap().unwrap_err();
        users.into_iter().for_each(|user| drop(user.join().unwrap()));
    });
}

/// The process of the server that answers.
fn answering(storage: &Postgres) -> i32 {
    let who = |snapshot: &Snapshot<'_>| {
        let rows = snapshot.ask("SELECT pg_backend_pid()", &[])?;
        Ok(rows[0].try_get(0).map_err(StorageError::from)?)
    };
    storage.ask("work", Caller::User, who).unwrap()
}

#[test]
fn an_answer_that_cannot_be_taken_is_not_a_lost_connection() {
    let bench = bench();
    let Storage::Postgres(storage) = bench.storage() else { unreachable!("it is in PostgreSQL") };
    let before = answering(&storage);
    for answer in ["SELECT 'a word'", "SELECT NULL::bigint"] {
        let asked = Cell::new(0);
        let question = |snapshot: &Snapshot<'_>| {
            asked.set(asked.get() + 1);
            let rows = snapshot.ask(answer, &[])?;
            Ok(Row::Postgres(&rows[0]).get::<i64>(0)?)
        };
        let error = storage.ask("work", Caller::User, question).unwrap_err();
        let QueryError::Storage(error) = error else { panic!("{error}") };
        assert!(error.is_damage() && !error.is_of_the_connection(), "{answer}: {error:?}");
        assert_eq!(asked.get(), 1, "it was asked again");
    }
    assert_eq!(answering(&storage), before, "the connection was thrown away");
    // One that is lost is none of that.
    let ends = |snapshot: &Snapshot<'_>| {
        snapshot.ask("SELECT pg_terminate_backend(pg_backend_pid())", &[])?;
        Ok(())
    };
    let error = storage.ask("work", Caller::User, ends).unwrap_err();
    let QueryError::Storage(error) = error else { panic!("{error}") };
    assert!(error.is_of_the_connection() && !error.is_damage(), "{error:?}");
    assert_ne!(answering(&storage), before);
}

/// An outage is over some time. This is not.
#[test]
fn a_projector_that_finds_a_column_of_another_type_says_that_the_model_is_damaged() {
    let mut bench = bench();
    bench.accept(1, 3, MessageClass::Notice);
    bench.project();
    bench.runners()[3].stands_by();
    bench.execute("work", "ALTER TABLE loads ALTER messages TYPE text");
    bench.accept(2, 3, MessageClass::Notice);
    let error = bench.step_at(3, at(0)).unwrap_err();
    let ProjectError::Damaged { source: ApplyError::Storage(_), .. } = error else { panic!("{error:?}") };
}
