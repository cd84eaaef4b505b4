//! What an instance may do, and what nobody may.

use kite_event_store::postgres::SCHEMA;
use kite_event_store::{Expected, LogIndex};
use kite_testkit::postgres::Database;

use crate::support::{append, append_one, log_of};
use crate::{open, server};

/// A database whose log may be used by a role that owns nothing, and the name of that role.
async fn with_instance() -> (Database, String) {
    let database = Database::make().await;
    let role = format!("instance_{}", database.name());
    database.execute(&format!("CREATE ROLE {role} LOGIN PASSWORD 'secret'")).await;
    SCHEMA.migrate(&server(&database.url()), std::slice::from_ref(&role)).await.unwrap();
    (database, role)
}

#[tokio::test]
async fn an_instance_appends_and_reads_and_that_is_all() {
    let (database, role) = with_instance().await;
    let url = database.url_for(&role, "secret");
    let store = open(&url).await;
    let first = append("a", Expected::Version(0), [1, 2]);
    append_one(&store, first.clone()).await.unwrap();
    assert!(append_one(&store, first.clone()).await.unwrap().repeated);
    let log = log_of(&store).await;
    assert_eq!(log.len(), 2);
    assert_eq!(store.read_correlation(first.metadata.correlation, 0, 10).await.unwrap(), log);
    assert_eq!(store.position_before(first.metadata.time).await.unwrap(), 0);
    for sql in [
        "UPDATE kite_log.events SET kind = 'Other'",
        "DELETE FROM kite_log.events",
        "TRUNCATE kite_log.events",
        "INSERT INTO kite_log.streams (name, version) VALUES ('b', 1)",
        "UPDATE kite_log.head SET position = 0",
        "UPDATE kite_log.shape SET number = 0",
        "SELECT kite_log.place('b', 0, 1)",
        "DROP TABLE kite_log.events",
        "CREATE TABLE kite_log.other (number integer)",
        "ALTER FUNCTION kite_log.position_before SECURITY DEFINER",
    ] {
        let refused = Database::attempt(&url, sql).await.expect_err(sql);
        assert_eq!(refused.code().map(|code| code.code()), Some("42501"), "{sql}: {refused:?}");
    }
    assert_eq!(log_of(&store).await, log);
}

#[tokio::test]
async fn whoever_was_given_no_rights_has_none() {
    let (database, role) = with_instance().await;
    database.execute(&format!("CREATE ROLE {role}_other LOGIN PASSWORD 'secret'")).await;
    let url = database.url_for(&format!("{role}_other"), "secret");
    for sql in ["SELECT * FROM kite_log.events", "SELECT kite_log.position_before(0)"] {
        assert!(Database::attempt(&url, sql).await.is_err(), "{sql}");
    }
}

#[tokio::test]
async fn people_read_the_log_in_words() {
    let (database, role) = with_instance().await;
    let store = open(&database.url()).await;
    append_one(&store, append("a", Expected::Any, [1])).await.unwrap();
    let sql = r#"DO $$ BEGIN
        ASSERT (SELECT (stream, version, kind, tenant, actor, data::json ->> 'number', traceparent IS NULL)
                       = ('a', 1, 'Happened', 'acme', 'router', '1', true) FROM kite_log.log);
    END $$"#;
    Database::attempt(&database.url_for(&role, "secret"), sql).await.unwrap();
}
