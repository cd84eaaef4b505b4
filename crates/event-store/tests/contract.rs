//! Every adapter against the contract suite.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use kite_event_store::sqlite::SqliteOptions;
use kite_event_store::{
    EventStore, GappyEventStore, Gaps, MemoryEventStore, PostgresEventStore, SqliteEventStore, contract,
};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// One test for each promise, named after it, against the store that `$make` gives.
macro_rules! promises {
    ($make:expr; $($single:ident)*; shared $($shared:ident)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $single() {
            let (_kept, store) = $make;
            contract::$single(&*store).await;
        })*
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $shared() {
            let (_kept, store) = $make;
            contract::$shared(store).await;
        })*
    };
    ($make:expr) => {
        promises! { $make;
            an_append_comes_back_as_it_was
            time_is_kept_in_milliseconds
            expected_version_is_checked
            any_version_is_taken
            an_empty_batch_does_nothing
            an_append_without_events_only_checks
            a_conflict_harms_only_its_own_append
            the_first_of_a_guarded_batch_decides
            an_atomic_batch_is_written_whole_or_not
            an_atomic_batch_is_fenced
            appends_of_a_batch_see_each_other
            a_repeat_is_recognised_whatever_it_expects
            a_repeat_within_a_batch_is_recognised
            a_repeat_gets_the_first_answer_after_the_stream_has_grown
            a_partial_repeat_is_a_conflict
            an_id_twice_in_an_append_is_a_conflict
            an_id_of_another_stream_is_no_repeat
            large_data_comes_back
            a_batch_of_many_appends_is_written_whole
            a_stream_is_read_in_pages
            a_long_stream_is_read_at_once
            the_log_is_read_in_pages
            what_is_kept_is_what_was_appended
            a_filter_passes_over_other_types
            next_says_when_there_is_nothing_more
            tails_are_read_together
            events_after_a_position_are_counted
            a_correlation_is_read_across_streams
            a_position_is_found_by_time
            head_is_told_and_then_readable;
            shared a_live_tail_sees_everything_once
            many_writers_on_many_streams_lose_nothing
            many_writers_on_one_stream_take_turns
            retries_at_the_same_time_are_written_once
            readers_see_appends_whole_and_nothing_behind_them
        }
    };
}

mod memory {
    use super::*;

    fn store() -> ((), Arc<MemoryEventStore>) {
        ((), Arc::default())
    }

    promises!(store());
}

mod sqlite {
    use super::*;

    fn store() -> (tempfile::TempDir, Arc<SqliteEventStore>) {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteEventStore::open(&directory.path().join("log.sqlite"), SqliteOptions::default());
        (directory, Arc::new(store.unwrap()))
    }

    promises!(store());
}

mod postgres {
    use super::*;
    use kite_event_store::postgres::{PostgresOptions, SCHEMA};
    use kite_postgres::Server;
    use kite_testkit::postgres::Database;

    async fn store() -> (Database, Arc<PostgresEventStore>) {
        let database = Database::make().await;
        let server = Server { url: database.url(), tls: None };
        SCHEMA.migrate(&server, &[]).await.unwrap();
        let options = PostgresOptions { readers: 2, ..PostgresOptions::at(server) };
        (database, Arc::new(PostgresEventStore::open(options).await.unwrap()))
    }

    promises!(store().await);
}

/// Positions with gaps, and a head that lags behind.
mod gappy {
    use super::*;
    use tokio::task::AbortHandle;

    struct Told(AbortHandle);

    impl Drop for Told {
        fn drop(&mut self) {
            self.0.abort();
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the task is aborted with the test")]
    fn store() -> (Told, Arc<GappyEventStore<MemoryEventStore>>) {
        let store = Arc::new(GappyEventStore::new(Arc::new(MemoryEventStore::new()), Gaps::Present));
        let behind = Arc::clone(&store);
        let mut head = store.head_within();
        let telling = tokio::spawn(async move {
            while head.changed().await.is_ok() {
                for _ in 0..50 {
                    tokio::task::yield_now().await;
                }
                behind.tell_head();
            }
        });
        (Told(telling.abort_handle()), store)
    }

    promises!(store());
}

/// The same promises with hardly any memory: streams' versions are looked up, nothing recent is kept, each commit
/// takes little and the write-ahead log is copied all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_keeps_the_contract_with_the_smallest_bounds() {
    let directory = tempfile::tempdir().unwrap();
    let number = AtomicUsize::new(0);
    let make = async || {
        let name: PathBuf = format!("{}.sqlite", number.fetch_add(1, Ordering::Relaxed)).into();
        let options = SqliteOptions {
            heads_max: 2,
            recent_bytes_max: 0,
            commit_bytes_max: 1,
            checkpoint_pages: 10,
            readers: 1,
            ..SqliteOptions::default()
        };
        Arc::new(SqliteEventStore::open(&directory.path().join(name), options).unwrap())
    };
    contract::run_index(&make).await;
    contract::run_all(async || make().await as Arc<dyn EventStore>).await;
}
