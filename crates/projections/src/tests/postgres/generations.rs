//! A read model is made again beside the one that is shown, and nobody who asks notices.

use kite_domain::sending::MessageClass;
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::{at, run, tenant};
use super::{ask, bench};
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
    let reached = others.delivery.wait_for(2, std::time::Duration::from_secs(60));
    assert!(run(reached));
    assert_eq!(others.delivery.totals().unwrap().counts.messages, 1);
}

/// The last piece is written while the row is held that says which generation is shown.
#[test]
fn what_is_made_is_written_while_nobody_projects_the_other() {
    let bench = bench();
    let Storage::Postgres(storage) = bench.storage() else { unreachable!("it is in PostgreSQL") };
    let rebuild = Rebuild::begin(&storage, &Of::<WorkModel>::NEW).unwrap();
    let (mut made, mut live) = (rebuild.writer(), bench.writer::<WorkModel>());
    assert_eq!(rebuild.hold().unwrap(), 0);
    assert!(matches!(made.write(0, 7, |_| Ok(())).unwrap().unwrap(), Written::Done));
    rebuild.let_go().unwrap();
    assert!(matches!(live.write(0, 3, |_| Ok(())).unwrap().unwrap(), Written::Done));
    assert_eq!(rebuild.hold().unwrap(), 3);
    rebuild.show().unwrap();
    assert!(matches!(live.write(3, 9, |_| Ok(())).unwrap().unwrap(), Written::Overtaken));
    assert!(matches!(live.write(7, 9, |_| Ok(())).unwrap().unwrap(), Written::Done));
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
