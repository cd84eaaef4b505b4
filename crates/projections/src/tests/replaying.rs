//! Verifying and rebuilding.

use kite_domain::sending::MessageClass;

use super::{Bench, run};
use crate::replay::{self, ReplayError};

fn bench() -> Bench {
    with_two_sendings(Bench::new())
}

fn with_two_sendings(mut bench: Bench) -> Bench {
    bench.accept(1, 5, MessageClass::Notice);
    bench.accept(2, 3, MessageClass::Otp);
    bench.project();
    bench
}

fn damage(bench: &Bench, sql: &str) {
    bench.execute("delivery", sql);
}

#[test]
fn a_changed_a_missing_and_an_added_row_are_each_named() {
    let bench = bench();
    let report = run(replay::verify(bench.store.clone(), bench.storage())).unwrap();
    assert!(report.is_clean() && report.models.len() == 5, "{report}");
    damage(&bench, "UPDATE messages SET recipient = '0109999' WHERE id = 3");
    damage(&bench, "DELETE FROM messages WHERE id = 5");
    damage(&bench, "INSERT INTO words VALUES (99, 'stranger')");
    let report = run(replay::verify(bench.store.clone(), bench.storage())).unwrap();
    let delivery = report.models.iter().find(|model| model.name == "delivery").unwrap();
    let lines: Vec<String> = delivery.differences.iter().map(ToString::to_string).collect();
    assert_eq!(delivery.differences_total, 3, "{lines:?}");
    let changed = "messages (id = 3): live recipient = \"0109999\", rebuilt recipient = \"01000000002\"";
    assert_eq!(lines[0], changed);
    assert!(lines[1].starts_with("messages (id = 5): live no row, rebuilt recipient"), "{}", lines[1]);
    assert_eq!(lines[2], "words (id = 99): live word = \"stranger\", rebuilt no row");
    assert!(!bench.path().join("replay").exists());
}

#[test]
fn a_model_behind_the_log_is_compared_where_it_stands() {
    let mut bench = bench();
    bench.accept(3, 4, MessageClass::Ad);
    let report = run(replay::verify(bench.store.clone(), bench.storage())).unwrap();
    assert!(report.is_clean() && report.models.iter().all(|model| model.position == 4), "{report}");
}

#[test]
fn a_model_ahead_of_the_log_is_of_another_log() {
    let bench = bench();
    damage(&bench, "UPDATE checkpoint SET position = 77");
    let error = run(replay::verify(bench.store.clone(), bench.storage())).unwrap_err();
    assert!(matches!(error, ReplayError::AheadOfLog { live: 77, end: 4, .. }), "{error}");
}

#[test]
fn a_rebuild_takes_the_place_of_a_damaged_model_and_goes_on() {
    let mut bench = bench();
    damage(&bench, "UPDATE messages SET status = 6 WHERE id = 1");
    bench.runners().clear();
    run(replay::rebuild(bench.store.clone(), bench.storage())).unwrap();
    assert_eq!(bench.path().join("delivery.db.previous").exists(), bench.has_files());
    bench.restart();
    bench.accept(3, 4, MessageClass::Ad);
    bench.project();
    let report = run(replay::verify(bench.store.clone(), bench.storage())).unwrap();
    assert!(report.is_clean(), "{report}");
    assert_eq!(bench.models.delivery.totals().unwrap().counts.messages, 12);
    // It would fail if there were none.
    bench.execute("delivery", "DROP INDEX sendings_by_tenant");
}

#[test]
fn a_model_that_is_not_there_is_not_equal() {
    let mut bench = with_two_sendings(Bench::on_files());
    bench.runners().clear();
    std::fs::remove_file(bench.path().join("work.db")).unwrap();
    let report = run(replay::verify(bench.store.clone(), bench.storage())).unwrap();
    let compared: Vec<bool> = report.models.iter().map(|model| model.is_there).collect();
    assert_eq!((compared, report.is_clean()), (vec![true, true, true, false, true], false));
    assert!(!bench.path().join("work.db").exists(), "whoever only looks makes nothing");
}

/// So it is with one whose file was lost, and that was made again when a process began.
#[test]
fn a_model_that_has_read_nothing_is_not_equal_unless_there_is_nothing_to_read() {
    let mut bench = Bench::on_files();
    let report = run(replay::verify(bench.store.clone(), bench.storage())).unwrap();
    assert!(report.is_clean(), "the log is empty, too: {report}");
    bench.accept(1, 5, MessageClass::Notice);
    bench.project();
    bench.runners().clear();
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(bench.path().join(format!("delivery.db{suffix}")));
    }
    bench.restart();
    let report = run(replay::verify(bench.store.clone(), bench.storage())).unwrap();
    let without: Vec<&str> =
        report.models.iter().filter(|model| model.has_read_nothing).map(|model| model.name).collect();
    assert_eq!((without, report.is_clean()), (vec!["delivery"], false));
    bench.project();
    let report = run(replay::verify(bench.store.clone(), bench.storage())).unwrap();
    assert!(report.is_clean(), "{report}");
}
