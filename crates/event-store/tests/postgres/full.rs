//! The server's disk is full. What stands in for it is a limit on the length of a file, beyond which the system refuses to write.

use bytes::Bytes;
use kite_event_store::postgres::SCHEMA;
use kite_event_store::{AppendError, Expected, StreamAppend, describe};
use kite_testkit::postgres::{Database, Installation, Server};

use crate::support::{append, append_one, log_of};
use crate::{append_until_answered, open, server};

/// Of the write-ahead log each file is as long as this from the beginning.
const WAL_FILE_BYTES: u64 = 16 * 1024 * 1024;
/// A page of a table is twice as long, so the last write is cut in half.
const HALF_A_PAGE_BYTES: u64 = 4 * 1024;

/// A server of its own with an empty log, whose large data takes as much room as it is long. It does not come back by itself, and
/// nobody but who appends writes its write-ahead log.
async fn ground() -> (Server, Database) {
    let installation = Installation::from_environment().unwrap();
    let settings = ["restart_after_crash=off", "autovacuum=off", "wal_writer_delay=10s"];
    let own = Server::start(&installation, &settings).unwrap();
    let database = Database::on(&own).await;
    SCHEMA.migrate(&server(&database.url()), &[]).await.unwrap();
    database.execute("ALTER TABLE kite_log.events ALTER COLUMN data SET STORAGE EXTERNAL").await;
    (own, database)
}

/// An event of a megabyte, the next one of its stream.
fn large(number: u64) -> StreamAppend {
    let mut large = append("a", Expected::Version(number), [number]);
    large.events[0].data = Bytes::from(format!("\"{}\"", "x".repeat(1024 * 1024)));
    large
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_there_is_no_room_for_is_refused_and_written_once_there_is() {
    let (server, database) = ground().await;
    server.limit_files(Some(WAL_FILE_BYTES + HALF_A_PAGE_BYTES)).unwrap();
    let store = open(&database.url()).await;
    let mut written = 0;
    let refused = loop {
        match append_one(&store, large(written)).await {
            Ok(_) => written += 1,
            Err(refused) => break refused,
        }
    };
    for answer in [Err(refused), append_one(&store, large(written)).await] {
        let Err(AppendError::Unavailable(reason)) = answer else { panic!("{answer:?}") };
        let said = describe(&reason);
        assert!(said.contains("could not extend file"), "{said}");
    }
    assert!(written > 0);
    assert_eq!(log_of(&open(&database.url()).await).await.len() as u64, written);
    assert!(store.stopped().borrow().is_none());

    server.limit_files(None).unwrap();
    let appended = append_one(&store, large(written)).await.unwrap();
    assert_eq!((appended.version, appended.position, appended.repeated), (written + 1, written + 1, false));
    assert_eq!(log_of(&open(&database.url()).await).await.len() as u64, written + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_ends_because_it_has_no_room_for_its_write_ahead_log_leaves_the_answer_open() {
    let (mut server, database) = ground().await;
    // The limit is in the middle of a file of the write-ahead log, which is there long before the table is.
    database.execute("SELECT pg_switch_wal()").await;
    let fill = format!("SELECT pg_logical_emit_message(true, 'fill', repeat('x', {}))", WAL_FILE_BYTES / 3);
    database.execute(&fill).await;
    server.limit_files(Some(WAL_FILE_BYTES / 2)).unwrap();
    let store = open(&database.url()).await;
    let mut written = 0;
    let refused = loop {
        match append_one(&store, large(written)).await {
            Ok(_) => written += 1,
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused, AppendError::AnswerLost);

    server.wait_for_end().unwrap();
    server.start_again().unwrap();
    server.limit_files(None).unwrap();
    let (appended, _) = append_until_answered(&store, large(written)).await;
    assert_eq!((appended.version, appended.position), (written + 1, written + 1));
    assert_eq!(log_of(&open(&database.url()).await).await.len() as u64, written + 1);
    assert!(store.stopped().borrow().is_none());
}
