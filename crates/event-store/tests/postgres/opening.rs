//! Which server, and which log, a store takes.

use kite_event_store::postgres::{OpenError, PostgresOptions, SCHEMA};
use kite_event_store::{Expected, PostgresEventStore, describe};
use kite_testkit::postgres::{Database, Installation, Server};

use crate::support::{append, append_one, log_of};
use crate::{database, open, options, server};

async fn refused(options: PostgresOptions) -> OpenError {
    PostgresEventStore::open(options).await.expect_err("it is not to be taken")
}

#[tokio::test]
async fn a_database_without_a_log_is_refused_until_one_is_made() {
    let database = Database::make().await;
    let options = options(&database.url());
    assert!(matches!(refused(options.clone()).await, OpenError::NotMade { .. }));
    SCHEMA.migrate(&options.server, &[]).await.unwrap();
    open(&database.url()).await;
}

#[tokio::test]
async fn making_a_log_that_is_there_leaves_it_alone() {
    let database = database().await;
    let store = open(&database.url()).await;
    append_one(&store, append("a", Expected::Any, [1, 2])).await.unwrap();
    let before = log_of(&store).await;
    let server = server(&database.url());
    let (first, second) = tokio::join!(SCHEMA.migrate(&server, &[]), SCHEMA.migrate(&server, &[]));
    first.unwrap();
    second.unwrap();
    assert_eq!(log_of(&store).await, before);
    append_one(&store, append("a", Expected::Version(2), [3])).await.unwrap();
}

#[tokio::test]
async fn several_may_make_a_log_at_once() {
    let database = Database::make().await;
    let server = server(&database.url());
    let (first, second, third) = tokio::join!(
        SCHEMA.migrate(&server, &[]),
        SCHEMA.migrate(&server, &[]),
        SCHEMA.migrate(&server, &[])
    );
    for made in [first, second, third] {
        made.unwrap();
    }
    open(&database.url()).await;
}

#[tokio::test]
async fn a_log_of_a_newer_program_is_neither_opened_nor_changed() {
    let database = database().await;
    database.execute("UPDATE kite_log.shape SET number = 900").await;
    let options = options(&database.url());
    for error in [refused(options.clone()).await, SCHEMA.migrate(&options.server, &[]).await.unwrap_err()] {
        assert!(matches!(error, OpenError::OtherShape { found: 900, known: 1, .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_server_that_may_lose_what_it_acknowledged_is_refused() {
    let installation = Installation::from_environment().unwrap();
    let careless = Server::start(&installation, &["fsync=off"]).unwrap();
    let database = Database::on(&careless).await;
    for error in [
        refused(options(&database.url())).await,
        SCHEMA.migrate(&server(&database.url()), &[]).await.unwrap_err(),
    ] {
        assert!(matches!(error, OpenError::NotDurable { setting: "fsync", .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_database_that_answers_before_what_it_wrote_is_durable_is_refused() {
    let database = database().await;
    let sql = format!("ALTER DATABASE {} SET synchronous_commit = off", database.name());
    database.execute(&sql).await;
    let error = refused(options(&database.url())).await;
    assert!(matches!(error, OpenError::NotDurable { setting: "synchronous_commit", .. }), "{error:?}");
}

#[tokio::test]
async fn a_server_that_does_not_wait_for_the_disk_of_its_standby_is_refused() {
    let installation = Installation::from_environment().unwrap();
    let server = Server::start(&installation, &["synchronous_standby_names=other"]).unwrap();
    for commit in ["local", "remote_write"] {
        let sql = format!("ALTER ROLE kite SET synchronous_commit = {commit}");
        // By itself: nothing is to wait for a standby that is not there.
        Database::attempt(&server.url("postgres"), &format!("SET synchronous_commit = local; {sql}"))
            .await
            .unwrap();
        let error = refused(options(&server.url("postgres"))).await;
        assert!(
            matches!(&error, OpenError::NotDurable { setting: "synchronous_commit", value } if value == commit),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn a_database_that_sees_old_rows_in_a_transaction_is_used_all_the_same() {
    let database = database().await;
    let sql =
        format!("ALTER DATABASE {} SET default_transaction_isolation = 'serializable'", database.name());
    database.execute(&sql).await;
    let (first, second) = (open(&database.url()).await, open(&database.url()).await);
    for number in 0..40 {
        let one = append("a", Expected::Any, [2 * number]);
        let other = append("a", Expected::Any, [2 * number + 1]);
        let (one, other) = tokio::join!(append_one(&first, one), append_one(&second, other));
        one.unwrap();
        other.unwrap();
    }
    assert_eq!(log_of(&first).await.len(), 80);
}

#[tokio::test]
async fn a_database_of_another_encoding_is_refused() {
    let database = Database::make().await;
    let name = format!("{}_latin", database.name());
    database
        .execute(&format!(
            "CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'"
        ))
        .await;
    let url = database.url().replace(database.name(), &name);
    let error = SCHEMA.migrate(&server(&url), &[]).await.unwrap_err();
    assert!(matches!(&error, OpenError::Encoding { encoding } if encoding == "LATIN1"), "{error:?}");
}

#[tokio::test]
async fn what_is_wrong_with_where_the_server_is_is_told() {
    let url = "postgres://nobody@localhost:99999/kite";
    assert!(matches!(refused(options(url)).await, OpenError::Url(_)));
    // Nothing listens there.
    let error = refused(options("postgres://nobody@127.0.0.1:1/kite")).await;
    assert!(matches!(error, OpenError::Server(_)), "{error:?}");
    let said = describe(&error);
    assert!(said.contains("refused"), "{said}");
}
