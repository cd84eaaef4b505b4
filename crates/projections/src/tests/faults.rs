//! The disk fails under the read models: at every operation in turn, and with the files that it gives back.
//!
//! Whatever happens, what is in the tables is exactly what the log says up to the checkpoint beside them, and once the
//! disk is sound again a projector comes to the same end as if nothing had happened.

use kite_domain::ids::LotId;
use kite_domain::sending::{MessageClass, SendingCompleted};
use kite_event_store::{MemoryEventStore, Position};
use kite_faulty_disk::{Change, Disk, Fault, Kind, Loss, temporary_directory};
use rusqlite::Connection;
use rusqlite::types::Value;
use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use tempfile::TempDir;

use super::delivery::{answered, receipts, routed, submitted};
use super::{Bench, at, route, run, sending_id, seqs};
use crate::{OpenError, ProjectError, ReadModels, Step, replay};

const MODELS: [&str; 4] = ["address_book", "routing", "delivery", "work"];

/// What happens to two sendings, piece by piece; the projectors step after each.
const PIECES: [fn(&mut Bench); 4] = [
    |bench| {
        bench.accept(1, 5, MessageClass::Notice);
        bench.accept(2, 3, MessageClass::Otp);
    },
    |bench| {
        let routes = vec![route("alpha", 1, seqs(0..3)), route("beta", 1, seqs(3..5))];
        bench.append(&lot(1).stream(), at(10), vec![routed(routes)]);
        bench.append(&lot(2).stream(), at(11), vec![routed(vec![route("beta", 1, seqs(0..3))])]);
    },
    |bench| {
        bench.append(&lot(1).stream(), at(20), vec![submitted("alpha", 1, seqs(0..3), 20)]);
        bench.append(&lot(1).stream(), at(30), vec![answered("alpha", 1, vec![0, 1, 2], vec![])]);
    },
    |bench| {
        bench.append(&lot(1).stream(), at(40), vec![receipts("alpha", 1, vec![0, 1], 40)]);
        bench.append(
            &sending_id(2).stream(),
            at(50),
            vec![SendingCompleted { sending: sending_id(2) }.into()],
        );
    },
];

fn lot(sending: u128) -> LotId {
    LotId { sending: sending_id(sending), number: 0 }
}

/// Every row of a model, as text.
type Rows = Vec<String>;

/// What the tables of each model hold at each position at which a piece ends, on a sound disk.
fn expected() -> &'static BTreeMap<(&'static str, Position), Rows> {
    static EXPECTED: OnceLock<BTreeMap<(&str, Position), Rows>> = OnceLock::new();
    EXPECTED.get_or_init(|| {
        let mut bench = Bench::new();
        let mut expected = BTreeMap::new();
        let keep = |bench: &Bench, expected: &mut BTreeMap<_, _>| {
            for model in MODELS {
                let (position, rows) = tables(bench.path(), model);
                expected.insert((model, position), rows);
            }
        };
        keep(&bench, &mut expected);
        for piece in PIECES {
            piece(&mut bench);
            bench.project();
            keep(&bench, &mut expected);
        }
        assert_eq!(expected.len(), MODELS.len() * (PIECES.len() + 1));
        let report = run(replay::verify(bench.store.clone(), bench.path())).unwrap();
        assert!(report.is_clean(), "{report}");
        expected
    })
}

/// The checkpoint of a model, and every row of its tables.
fn tables(directory: &Path, model: &str) -> (Position, Rows) {
    let file = Connection::open(directory.join(format!("{model}.db"))).unwrap();
    let position: i64 = file.query_row("SELECT position FROM checkpoint", [], |row| row.get(0)).unwrap();
    let tables = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'
                  AND name <> 'checkpoint' ORDER BY name";
    let mut tables = file.prepare(tables).unwrap();
    let tables = tables.query_map([], |row| row.get::<_, String>(0)).unwrap().map(Result::unwrap);
    let mut rows = Rows::new();
    for table in tables {
        let mut statement = file.prepare(&format!("SELECT * FROM {table}")).unwrap();
        let columns = statement.column_count();
        let mut found: Vec<String> = statement
            .query_map([], |row| {
                let values: rusqlite::Result<Vec<Value>> =
                    (0..columns).map(|column| row.get(column)).collect();
                Ok(format!("{table} {:?}", values?))
            })
            .unwrap()
            .map(Result::unwrap)
            .collect();
        found.sort();
        rows.append(&mut found);
    }
    (position as Position, rows)
}

/// The tables hold what the log says up to their checkpoint.
fn check_rows(directory: &Path, when: &str) {
    for model in MODELS {
        let (position, rows) = tables(directory, model);
        let expected = expected().get(&(model, position));
        let expected =
            expected.unwrap_or_else(|| panic!("{when}: {model} stands at {position}, within a step"));
        assert_eq!(&rows, expected, "{when}: {model} at {position}");
    }
}

/// The tables hold what the whole log says.
fn check_end(directory: &Path, when: &str) {
    check_rows(directory, when);
    let positions = MODELS.map(|model| tables(directory, model).0);
    let end = expected().keys().map(|(_, position)| *position).max().unwrap();
    assert_eq!(positions, [end; 4], "{when}");
}

/// An error with its sources, as it is logged.
fn in_full(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}

/// Steps every projector until it has nothing to do or fails. The first failure.
fn project(bench: &mut Bench) -> Result<(), ProjectError> {
    let mut failure = None;
    for runner in bench.runners() {
        loop {
            match run(runner.step(at(0))) {
                Ok(Step::Advanced { .. }) => {}
                Ok(Step::Idle { .. }) => break,
                Err(error) => {
                    failure.get_or_insert(error);
                    break;
                }
            }
        }
    }
    failure.map_or(Ok(()), Err)
}

/// The empty files, to begin each trial with.
fn template() -> &'static Path {
    static TEMPLATE: OnceLock<TempDir> = OnceLock::new();
    let template = TEMPLATE.get_or_init(|| {
        let bench = Bench::on(temporary_directory());
        let Bench { directory, runners, models, .. } = bench;
        drop((runners, models));
        directory
    });
    template.path()
}

fn copy_of(directory: &Path) -> TempDir {
    let copy = temporary_directory();
    for file in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
        if file.file_type().unwrap().is_file() {
            std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
        }
    }
    copy
}

/// A bench on a disk of its own.
fn bench() -> (Bench, Disk) {
    let directory = copy_of(template());
    let disk = Disk::mount(directory.path());
    (Bench::on(directory), disk)
}

/// Closes every connection: the last one copies the write-ahead log into the file and removes it.
fn close(bench: &mut Bench) {
    static ELSEWHERE: OnceLock<(TempDir, ReadModels)> = OnceLock::new();
    let (_, elsewhere) = ELSEWHERE.get_or_init(|| {
        let directory = temporary_directory();
        let models = ReadModels::open(directory.path()).unwrap();
        (directory, models)
    });
    bench.runners().clear();
    bench.models = elsewhere.clone();
}

/// Lives through all pieces, with a restart in the middle, whatever fails. What is said of failures.
fn live(bench: &mut Bench) -> Vec<String> {
    let mut said = Vec::new();
    for (place, piece) in PIECES.into_iter().enumerate() {
        piece(bench);
        if let Err(error) = project(bench) {
            said.push(in_full(&error));
        }
        if place == 1 {
            close(bench);
            if let Err(error) = bench.try_to_restart() {
                said.push(in_full(&error));
            }
        }
    }
    said
}

/// Lives once for each operation that changes a file, which fails. Answers how many there were.
fn strike_each(fault: Fault, mut check: impl FnMut(&mut Bench, &Disk, &[String], &str)) -> u64 {
    for nth in 1.. {
        let (mut bench, disk) = bench();
        disk.strike(nth, fault, Change::is_write);
        let said = live(&mut bench);
        let Some(struck) = disk.struck() else {
            println!("{fault:?}: {} operations", nth - 1);
            return nth - 1;
        };
        check(&mut bench, &disk, &said, &format!("{fault:?} at operation {nth}, {struck}"));
    }
    unreachable!("a life has an end");
}

/// The disk is sound again: the same process goes on, then a new one.
fn recover(bench: &mut Bench, disk: &Disk, when: &str) {
    disk.mend();
    check_rows(bench.path(), when);
    if bench.runners().is_empty() {
        bench.try_to_restart().unwrap_or_else(|error| panic!("{when}: {}", in_full(&error)));
    }
    project(bench).unwrap_or_else(|error| panic!("{when}: {}", in_full(&error)));
    check_end(bench.path(), when);
    bench.restart();
    check_end(bench.path(), when);
}

#[test]
fn an_operation_that_fails_is_tried_again_and_leaves_no_wrong_row() {
    let operations = strike_each(Fault::Error, |bench, disk, said, when| {
        assert!(
            said.iter().all(|said| said.contains("disk I/O error") || said.contains("unable to open")),
            "{said:?}"
        );
        recover(bench, disk, when);
    });
    assert!(operations > 100, "only {operations} operations");
}

#[test]
fn a_full_disk_is_said_and_waited_for() {
    let mut failures = 0;
    let operations = strike_each(Fault::Full, |bench, disk, said, when| {
        let is_clear =
            |said: &String| said.contains("database or disk is full") || said.contains("disk I/O error");
        assert!(said.iter().all(is_clear), "{when}: {said:?}");
        failures += said.len();
        // Still full: nothing moves, nothing breaks.
        let _ = project(bench);
        recover(bench, disk, when);
    });
    assert!(operations > 100 && failures > 100, "only {operations} operations, {failures} failures");
}

#[test]
fn a_kill_or_a_power_failure_at_any_operation_leaves_rows_and_checkpoint_of_one_moment() {
    let mut seed = 0;
    let operations = strike_each(Fault::Off, |bench, disk, _, when| {
        seed += 1;
        for loss in [Loss::Nothing, Loss::Unsynced, Loss::Some { seed }] {
            let found = temporary_directory();
            disk.restart_into(found.path(), loss).unwrap();
            let when = format!("{when}, {loss:?}");
            check_rows(found.path(), &when);
            go_on(found.path(), bench.store.clone(), &when);
        }
    });
    assert!(operations > 100, "only {operations} operations");
}

/// A new process on these files comes to the end of the log.
fn go_on(directory: &Path, store: Arc<MemoryEventStore>, when: &str) {
    let models = ReadModels::open(directory).unwrap_or_else(|error| panic!("{when}: {}", in_full(&error)));
    for mut runner in models.projectors(store).unwrap() {
        while let Step::Advanced { .. } = run(runner.step(at(0))).unwrap() {}
    }
    check_end(directory, when);
}

/// A read model that is gone is made again, without being asked.
#[test]
fn a_lost_file_is_made_again_from_the_log() {
    let mut bench = Bench::new();
    live(&mut bench);
    bench.runners().clear();
    let found = copy_of(bench.path());
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(found.path().join(format!("delivery.db{suffix}")));
    }
    go_on(found.path(), bench.store.clone(), "without its file");
}

/// What breaks a file: its new contents.
type Damage = fn(Vec<u8>) -> Vec<u8>;

const DAMAGES: [(&str, Damage); 3] = [
    ("its first bytes are of something else", |mut file| {
        file[..100].fill(b'x');
        file
    }),
    ("its pages are gone", |mut file| {
        file[4_096..].fill(0xab);
        file
    }),
    ("it ends in the middle of the first page", |file| file[..1_000].to_vec()),
];

#[test]
fn a_damaged_file_is_named_not_trusted_and_healed_by_a_rebuild() {
    for (what, damage) in DAMAGES {
        let mut bench = Bench::new();
        PIECES[..3].iter().for_each(|piece| piece(&mut bench));
        bench.project();
        bench.runners().clear();
        let directory = copy_of(bench.path());
        let file = directory.path().join("delivery.db");
        fold_in(&file);
        std::fs::write(&file, damage(std::fs::read(&file).unwrap())).unwrap();

        PIECES[3](&mut bench);
        let said = damage_said(directory.path(), &bench);
        assert!(
            said.contains("read model delivery is damaged: rebuild it (kite replay --rebuild): "),
            "{what}: {said}"
        );

        run(replay::rebuild(bench.store.clone(), directory.path())).unwrap();
        go_on(directory.path(), bench.store.clone(), what);
        let report = run(replay::verify(bench.store.clone(), directory.path())).unwrap();
        assert!(report.is_clean(), "{what}: {report}");
    }
}

/// Moves the write-ahead log into the file.
fn fold_in(file: &Path) {
    let connection = Connection::open(file).unwrap();
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
}

/// What a process says that is started on a damaged file, at once or when it comes upon the damage.
fn damage_said(directory: &Path, bench: &Bench) -> String {
    let runners = ReadModels::open(directory).and_then(|models| models.projectors(bench.store.clone()));
    let mut runners = match runners {
        Ok(runners) => runners,
        Err(error) => {
            assert!(matches!(error, OpenError::Damaged { model: "delivery", .. }), "{}", in_full(&error));
            return in_full(&error);
        }
    };
    let error = run(runners[2].step(at(0))).unwrap_err();
    assert!(matches!(error, ProjectError::Damaged { model: "delivery", .. }), "{}", in_full(&error));
    in_full(&error)
}

#[test]
fn a_model_of_another_log_is_not_projected() {
    let mut bench = Bench::new();
    live(&mut bench);
    let other = Arc::new(MemoryEventStore::new());
    let Err(error) = bench.models.projectors(other) else {
        panic!("it stands where the log has not come to")
    };
    assert!(matches!(error, OpenError::AheadOfLog { end: 0, .. }), "{error}");
    assert!(error.to_string().contains("kite replay --rebuild"), "{error}");
}

/// Readers of a model whose file cannot be read get an error, and answers again when it can.
#[test]
fn a_question_to_a_broken_disk_is_refused() {
    let (mut bench, disk) = bench();
    live(&mut bench);
    bench.restart();
    disk.strike(1, Fault::Broken, |change| {
        change.kind == Kind::Read && change.file.starts_with("delivery.db")
    });
    assert!(bench.models.delivery.totals().is_err());
    disk.mend();
    assert_eq!(bench.models.delivery.totals().unwrap().messages, 8);
}
