//! The disk fails under the read models: at every operation in turn (`strikes`), and with the files that it gives back
//! (`damage`).
//!
//! Whatever happens, what is in the tables is exactly what the log says up to the checkpoint beside them, and once the
//! disk is sound again a projector comes to the same end as if nothing had happened.

mod damage;
mod strikes;

use kite_domain::ids::LotId;
use kite_domain::sending::{MessageClass, SendingCompleted};
use kite_event_store::{MemoryEventStore, Position, describe};
use kite_faulty_disk::temporary_directory;
use rusqlite::Connection;
use rusqlite::types::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use tempfile::TempDir;

use super::delivery::{answered, receipts, routed, submitted};
use super::{Bench, at, route, run, sending_id, seqs};
use crate::{ProjectError, Projected, ReadModels, replay};

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
        let mut bench = Bench::on_files();
        let mut expected = BTreeMap::new();
        let keep = |bench: &Bench, expected: &mut BTreeMap<_, _>| {
            for model in ReadModels::names() {
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
        assert_eq!(expected.len(), ReadModels::names().count() * (PIECES.len() + 1));
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

/// The tables hold what the log says up to their checkpoint. Where each model stands.
fn check_rows(directory: &Path, when: &str) -> Vec<Position> {
    let check = |model| {
        let (position, rows) = tables(directory, model);
        let expected = expected().get(&(model, position));
        let expected =
            expected.unwrap_or_else(|| panic!("{when}: {model} stands at {position}, within a step"));
        assert_eq!(&rows, expected, "{when}: {model} at {position}");
        position
    };
    ReadModels::names().map(check).collect()
}

/// The tables hold what the whole log says.
fn check_end(directory: &Path, when: &str) {
    let positions = check_rows(directory, when);
    let end = expected().keys().map(|(_, position)| *position).max().unwrap();
    assert_eq!(positions, vec![end; positions.len()], "{when}");
}

/// Steps every projector until it has nothing to do or fails. The first failure.
fn project(bench: &mut Bench) -> Result<(), ProjectError> {
    let mut failure = None;
    for runner in bench.runners() {
        loop {
            match run(runner.step(at(0))) {
                Ok(Projected::Advanced { .. }) => {}
                Ok(Projected::Idle { .. }) => break,
                Err(error) => {
                    failure.get_or_insert(error);
                    break;
                }
            }
        }
    }
    failure.map_or(Ok(()), Err)
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

/// When the process is started again; nothing is in memory after that.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Restarts {
    InTheMiddle,
    AfterEachPiece,
}

/// Lives through all pieces, with restarts, whatever fails. What is said of failures.
fn live(bench: &mut Bench, restarts: Restarts) -> Vec<String> {
    let mut said = Vec::new();
    for (place, piece) in PIECES.into_iter().enumerate() {
        piece(bench);
        if let Err(error) = project(bench) {
            said.push(describe(&error));
        }
        if place == 1 || restarts == Restarts::AfterEachPiece {
            close(bench);
            if let Err(error) = bench.try_to_restart() {
                said.push(describe(&error));
            }
        }
    }
    said
}

/// A new process on these files comes to the end of the log.
fn go_on(directory: &Path, store: Arc<MemoryEventStore>, when: &str) {
    let models = ReadModels::open(directory).unwrap_or_else(|error| panic!("{when}: {}", describe(&error)));
    for mut runner in models.projectors(store).unwrap() {
        while let Projected::Advanced { .. } = run(runner.step(at(0))).unwrap() {}
    }
    check_end(directory, when);
}
