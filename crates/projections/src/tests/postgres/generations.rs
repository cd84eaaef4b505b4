//! A read model is made again beside the one that is shown, and nobody who asks notices.

use kite_domain::sending::MessageClass;
use kite_testkit::postgres::Database;
use kite_testkit::wait::wait_until;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::super::{Bench, at, run, tenant};
use super::{ask, bench};
use crate::engine::StorageError;
use crate::postgres::{Rebuild, Written};
use crate::register::Of;
use crate::work::WorkModel;
use crate::{Projected, ReadModels, Storage, replay};

/// The end of what somebody else does meanwhile.
struct Over<'o>(&'o AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn queries_and_the_projector_go_on_while_a_model_is_made_again() {
    let mut bench = bench();
    for number in 1..=20 {
        bench.accept(number, 10, MessageClass::Notice);
    }
    bench.project();
    let before = bench.schema("delivery");
    // Another process has asked before, and asks all the while.
    let others = ReadModels::open(bench.storage()).unwrap();
    let is_over = AtomicBool::new(false);
    let asked = std::thread::scope(|scope| {
        let (others, is_over) = (&others, &is_over);
        let asking = scope.spawn(move || {
            let (mut asked, mut most) = (0, 0);
            while !is_over.load(Ordering::Relaxed) {
                let messages = others.delivery.totals().unwrap().counts.messages;
                assert!(messages >= most, "{messages} after {most}");
                (asked, most) = (asked + 1, messages);
            }
            asked
        });
        // Also when this panics.
        let over = Over(is_over);
        // A process with a projector of its own, which does not know of the rebuild.
        let store = bench.store.clone();
        let storage = bench.storage();
        let rebuilding = scope.spawn(move || run(replay::rebuild(store, storage)).unwrap());
        for number in 21..=60 {
            bench.accept(number, 10, MessageClass::Notice);
            bench.step_at(2, at(0)).unwrap();
        }
        let report = rebuilding.join().unwrap();
        assert_eq!(report.models.len(), 5);
        bench.project();
        drop(over);
        asking.join().unwrap()
    });
    assert!(asked > 10, "{asked}");
    let after = bench.schema("delivery");
    assert_eq!((before.as_str(), after.as_str()), ("kite_delivery_1", "kite_delivery_2"));
    assert_eq!(others.delivery.totals().unwrap().counts.messages, 600);
    // What was shown before is gone, and the next rebuild is the third generation.
    let schemas = "SELECT nspname::text FROM pg_namespace WHERE nspname LIKE 'kite\\_delivery\\_%'";
    let url = bench.database().url();
    let shown: Vec<String> = ask(&url, schemas).iter().map(|row| row.get(0)).collect();
    assert_eq!(shown, ["kite_delivery_2"]);
    run(replay::rebuild(bench.store.clone(), bench.storage())).unwrap();
    assert_eq!(bench.schema("delivery"), "kite_delivery_3");
    let report = run(replay::verify(bench.store.clone(), bench.storage())).unwrap();
    assert!(report.is_clean(), "{report}");
}

#[test]
fn what_a_rebuild_that_died_has_left_is_taken_away_by_the_next() {
    let mut bench = bench();
    bench.accept(1, 10, MessageClass::Notice);
    bench.project();
    let left = "CREATE SCHEMA kite_delivery_2; CREATE TABLE kite_delivery_2.half_made (id bigint);
                INSERT INTO kite_read_models.generations VALUES ('delivery', 2, 4)";
    run(bench.database().execute(left));
    run(replay::rebuild(bench.store.clone(), bench.storage())).unwrap();
    assert_eq!(bench.schema("delivery"), "kite_delivery_3");
    let url = bench.database().url();
    assert!(ask(&url, "SELECT 1 FROM pg_namespace WHERE nspname = 'kite_delivery_2'").is_empty());
}

#[test]
fn one_process_takes_over_from_another_and_back_and_nothing_is_counted_twice() {
    let mut bench = bench();
    let mut others = ReadModels::open(bench.storage()).unwrap().projectors(bench.store.clone()).unwrap();
    for number in 1..=30 {
        let id = bench.accept(number, 3, MessageClass::Notice);
        assert!(bench.models.delivery.sending(&tenant(), id).unwrap().is_none());
        for (place, other) in others.iter_mut().enumerate() {
            let mut step = || match number % 3 {
                0 => run(other.step(at(0))).unwrap(),
                _ => bench.step(place),
            };
            // Whoever finds that the other was there learns where the model stands first.
            while let Projected::Advanced { .. } = step() {}
        }
    }
    assert_eq!(bench.models.delivery.totals().unwrap().counts.messages, 90);
    let report = run(replay::verify(bench.store.clone(), bench.storage())).unwrap();
    assert!(report.is_clean(), "{report}");
}

#[test]
fn whoever_asks_at_another_process_waits_for_what_was_written_here() {
    let mut bench = bench();
    let others = ReadModels::open(bench.storage()).unwrap();
    bench.accept(1, 1, MessageClass::Notice);
    bench.project();
    let reached = others.delivery.wait_for(2, Duration::from_secs(60));
    assert!(run(reached));
    assert_eq!(others.delivery.totals().unwrap().counts.messages, 1);
}

/// The last piece is written while the row is held that says which generation is shown.
#[test]
fn what_is_made_is_written_while_nobody_projects_the_other() {
    let bench = bench();
    let Storage::Postgres(storage) = bench.storage() else { unreachable!("it is in PostgreSQL") };
    let mut rebuild = Rebuild::begin(&storage, &Of::<WorkModel>::NEW).unwrap();
    let (mut made, mut live) = (rebuild.writer(), bench.writer::<WorkModel>());
    assert_eq!(rebuild.hold().unwrap(), Some(0));
    assert!(matches!(made.write(0, 7, |_| Ok(())).unwrap().unwrap(), Written::Done));
    rebuild.let_go();
    assert!(matches!(live.write(0, 3, |_| Ok(())).unwrap().unwrap(), Written::Done));
    assert_eq!(rebuild.hold().unwrap(), Some(3));
    rebuild.show().unwrap();
    assert!(matches!(live.write(3, 9, |_| Ok(())).unwrap().unwrap(), Written::Overtaken));
    assert!(matches!(live.write(7, 9, |_| Ok(())).unwrap().unwrap(), Written::Done));
}

/// Ends the session that holds the lock of a rebuild, and waits until the server has let it go.
fn lose_the_lock(bench: &Bench) {
    let end =
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_locks JOIN pg_database ON pg_database.oid = database
               WHERE locktype = 'advisory' AND datname = current_database()";
    assert_eq!(ask(&bench.database().url(), end).len(), 1);
}

/// What is done once more after its connection was found to be lost.
fn twice<T>(mut work: impl FnMut() -> Result<T, StorageError>) -> Result<T, StorageError> {
    work().or_else(|error| if error.is_for_another_try() { work() } else { Err(error) })
}

#[test]
fn a_rebuild_that_loses_its_session_takes_the_lock_again_and_shows_nothing_without_it() {
    let bench = bench();
    let Storage::Postgres(storage) = bench.storage() else { unreachable!("it is in PostgreSQL") };
    let mut rebuild = Rebuild::begin(&storage, &Of::<WorkModel>::NEW).unwrap();
    let (mut made, mut live) = (rebuild.writer(), bench.writer::<WorkModel>());
    assert!(matches!(made.write(0, 7, |_| Ok(())).unwrap().unwrap(), Written::Done));
    lose_the_lock(&bench);
    twice(|| rebuild.complete()).unwrap();
    assert!(Rebuild::begin(&storage, &Of::<WorkModel>::NEW).is_err(), "it has the lock again");
    assert_eq!(rebuild.hold().unwrap(), Some(0));
    lose_the_lock(&bench);
    // Nobody holds the other one any more.
    assert!(matches!(live.write(0, 3, |_| Ok(())).unwrap().unwrap(), Written::Done));
    for _ in 0..2 {
        rebuild.show().unwrap_err();
    }
    assert_eq!(bench.schema("work"), "kite_work_1");
    assert_eq!(twice(|| rebuild.hold()).unwrap(), Some(3));
    rebuild.show().unwrap();
    lose_the_lock(&bench);
    assert!(twice(|| rebuild.is_shown()).unwrap());
    assert_eq!(rebuild.hold().unwrap(), None);
    rebuild.drop_previous().unwrap();
    assert_eq!(bench.schema("work"), "kite_work_2");
}

#[test]
fn a_rebuild_whose_work_another_one_has_taken_away_says_so() {
    let bench = bench();
    let Storage::Postgres(storage) = bench.storage() else { unreachable!("it is in PostgreSQL") };
    let mut one = Rebuild::begin(&storage, &Of::<WorkModel>::NEW).unwrap();
    lose_the_lock(&bench);
    drop(Rebuild::begin(&storage, &Of::<WorkModel>::NEW).unwrap());
    let error = twice(|| one.complete()).unwrap_err();
    assert!(
        error.to_string().contains("another rebuild of the read model work has begun meanwhile"),
        "{error}"
    );
}

/// Somebody reads one of the tables, and then another: each waits for the other.
#[test]
fn a_reader_in_the_way_of_taking_tables_away_is_waited_for() {
    let mut bench = bench();
    bench.accept(1, 3, MessageClass::Notice);
    bench.project();
    let url = bench.database().url();
    let reading = "SET deadlock_timeout = '60s'; BEGIN;
         LOCK TABLE kite_work_1.unclassified_codes IN ACCESS SHARE MODE;
         DO $$ BEGIN
             WHILE NOT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'
                 AND relation = 'kite_work_1.unclassified_codes'::regclass) LOOP
                 PERFORM pg_sleep(0.01);
             END LOOP;
         END $$;
         LOCK TABLE kite_work_1.checkpoint IN ACCESS SHARE MODE;";
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| run(Database::attempt(&url, reading)));
        let has_begun = "EXISTS (SELECT FROM pg_locks
                         WHERE granted AND relation = 'kite_work_1.unclassified_codes'::regclass)";
        let has_begun = async || bench.database().is_so(has_begun).await;
        run(wait_until("the reader", Duration::from_secs(60), has_begun)).unwrap();
        run(replay::rebuild(bench.store.clone(), bench.storage())).unwrap();
        reader.join().unwrap().unwrap();
    });
    let schemas = "SELECT nspname::text FROM pg_namespace WHERE nspname LIKE 'kite\\_work\\_%'";
    let left: Vec<String> = ask(&url, schemas).iter().map(|row| row.get(0)).collect();
    assert_eq!(left, ["kite_work_2"]);
}

/// The way out when the log has lost what a model shows.
#[test]
fn a_model_that_is_ahead_of_the_log_is_made_again() {
    let mut bench = bench();
    bench.accept(1, 3, MessageClass::Notice);
    bench.project();
    bench.execute("delivery", "UPDATE checkpoint SET position = 77");
    run(replay::rebuild(bench.store.clone(), bench.storage())).unwrap();
    bench.restart();
    bench.accept(2, 4, MessageClass::Notice);
    bench.project();
    assert_eq!(bench.models.delivery.totals().unwrap().counts.messages, 7);
    let report = run(replay::verify(bench.store.clone(), bench.storage())).unwrap();
    assert!(report.is_clean(), "{report}");
}
