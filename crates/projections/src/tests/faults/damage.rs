//! Files that are gone, damaged, or of another log.

use kite_event_store::{MemoryEventStore, describe};
use rusqlite::Connection;
use std::path::Path;
use std::sync::Arc;

use super::super::{Bench, at, run};
use super::{PIECES, Restarts, copy_of, go_on, live};
use crate::{OpenError, ProjectError, ReadModels, replay};

/// A read model that is gone is made again, without being asked.
#[test]
fn a_lost_file_is_made_again_from_the_log() {
    let mut bench = Bench::on_files();
    live(&mut bench, Restarts::InTheMiddle);
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
        let mut bench = Bench::on_files();
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
            assert!(matches!(error, OpenError::Damaged { model: "delivery", .. }), "{}", describe(&error));
            return describe(&error);
        }
    };
    let error = run(runners[2].step(at(0))).unwrap_err();
    assert!(matches!(error, ProjectError::Damaged { model: "delivery", .. }), "{}", describe(&error));
    describe(&error)
}

#[test]
fn a_model_of_another_log_is_not_projected() {
    let mut bench = Bench::on_files();
    live(&mut bench, Restarts::InTheMiddle);
    let other = Arc::new(MemoryEventStore::new());
    let Err(error) = bench.models.projectors(other) else {
        panic!("it stands where the log has not come to")
    };
    assert!(matches!(error, OpenError::AheadOfLog { end: 0, .. }), "{error}");
    assert!(error.to_string().contains("kite replay --rebuild"), "{error}");
}
