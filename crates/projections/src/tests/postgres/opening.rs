//! Who may open them, and what is refused.

use kite_domain::sending::MessageClass;
use kite_event_store::postgres::{PostgresOptions as LogOptions, SCHEMA as LOG};
use kite_event_store::{PostgresEventStore, describe};
use kite_postgres::{Connector, Server};
use kite_testkit::postgres::Database;
use tempfile::TempDir;
use tokio_postgres::Client;
use uuid::Uuid;

use super::super::run;
use super::{ask, bench, role};
use crate::postgres::{self, Postgres, PostgresOptions};
use crate::{OpenError, ReadModels};

fn options(url: &str, log: u128) -> PostgresOptions {
    PostgresOptions {
        server: Server { url: url.to_owned(), tls: None },
        connections_max: 2,
        log_id: Uuid::from_u128(log),
        scratch_dir: TempDir::new().unwrap().keep(),
    }
}

fn refused(url: &str, log: u128) -> OpenError {
    run(Postgres::open(options(url, log))).err().unwrap()
}

#[test]
fn they_are_of_one_log() {
    let bench = bench();
    let url = bench.database().url();
    let error = refused(&url, 2);
    assert!(matches!(error, OpenError::OtherLog { .. }), "{error}");
}

#[test]
fn what_was_not_made_or_is_of_another_version_is_refused_with_what_to_do() {
    let empty = run(Database::make());
    let error = refused(&empty.url(), 1);
    assert!(error.to_string().contains("kite postgres migrate"), "{error}");
    let bench = bench();
    let database = bench.database();
    let other = "UPDATE kite_read_models.generations SET schema_version = 3 WHERE model = 'delivery'";
    run(database.execute(other));
    let error = refused(&database.url(), 1);
    assert!(matches!(error, OpenError::OtherSchema { found: 3, known: 4, .. }), "{error}");
    // A rebuild opens it all the same, and then it is as this program needs it.
    let storage = run(Postgres::open_to_rebuild(options(&database.url(), 1))).unwrap();
    run(crate::replay::rebuild(bench.store.clone(), storage)).unwrap();
    run(Postgres::open(options(&database.url(), 1))).unwrap();
}

/// Makes everything for a role of instances and one of readers.
fn with_roles(database: &Database, instance: &str, reader: &str) {
    let server = Server { url: database.url(), tls: None };
    run(async {
        postgres::SCHEMA.migrate(&server, &[instance.to_owned()]).await.unwrap();
        let (instances, readers) = ([instance.to_owned()], [reader.to_owned()]);
        let make = async |client: &mut Client| postgres::make_first(client, &instances, &readers).await;
        Connector::new(&server, "test").unwrap().once(make).await.unwrap();
    });
}

#[test]
fn an_instance_may_change_rows_and_nothing_else_and_a_reader_sees_the_views() {
    let mut bench = bench();
    let database = run(Database::make());
    let ((instance, url), (reader, reading)) = (role(&database, "instance"), role(&database, "reader"));
    with_roles(&database, &instance, &reader);
    // As an instance, of a log that others have written.
    let storage = run(Postgres::open(options(&url, 1))).unwrap();
    let models = ReadModels::open(storage).unwrap();
    bench.accept(1, 3, MessageClass::Notice);
    for runner in &mut models.projectors(bench.store.clone()).unwrap() {
        run(runner.step(super::super::at(0))).unwrap();
    }
    assert_eq!(models.delivery.totals().unwrap().counts.messages, 3);
    let forbidden = [
        (&url, "CREATE TABLE kite_delivery_1.mine (id bigint)"),
        (&url, "DROP TABLE kite_delivery_1.messages"),
        (&url, "TRUNCATE kite_delivery_1.messages"),
        (&url, "CREATE SCHEMA mine"),
        (&url, "CREATE VIEW kite.mine AS SELECT 1"),
        (&url, "INSERT INTO kite_read_models.generations VALUES ('delivery', 9, 4)"),
        (&reading, "SELECT * FROM kite_delivery_1.messages"),
        (&reading, "SELECT * FROM kite_read_models.models"),
        (&reading, "DELETE FROM kite.messages"),
    ];
    for (url, sql) in forbidden {
        let refused = run(Database::attempt(url, sql)).unwrap_err();
        let code = refused.code().unwrap().code();
        // `insufficient_privilege`, or a view that nobody can write.
        assert!(["42501", "55000"].contains(&code), "{sql}: {refused:?}");
    }
    assert_eq!(ask(&reading, "SELECT count(*) FROM kite.messages")[0].get::<_, i64>(0), 3);
    // One that is gone is in nobody's way.
    let gone = format!(
        "CREATE ROLE gone_{0}; INSERT INTO kite_read_models.instances VALUES ('gone_{0}'); DROP ROLE gone_{0}",
        database.name()
    );
    run(database.execute(&gone));
    // What a rebuild makes is theirs, too.
    let owned = run(Postgres::open(options(&database.url(), 1))).unwrap();
    run(crate::replay::rebuild(bench.store.clone(), owned)).unwrap();
    bench.accept(2, 4, MessageClass::Notice);
    for runner in &mut models.projectors(bench.store.clone()).unwrap() {
        run(runner.step(super::super::at(0))).unwrap();
    }
    assert_eq!(models.delivery.totals().unwrap().counts.messages, 7);
    assert_eq!(ask(&reading, "SELECT count(*) FROM kite.messages")[0].get::<_, i64>(0), 7);
}

/// As before an upgrade, of which the roles were not named.
#[test]
fn roles_that_were_instances_are_found_and_one_without_rights_is_told_what_to_do() {
    let database = run(Database::make());
    let server = Server { url: database.url(), tls: None };
    let ((instance, url), (analyst, _)) = (role(&database, "instance"), role(&database, "analyst"));
    run(async {
        LOG.migrate(&server, std::slice::from_ref(&instance)).await.unwrap();
        postgres::SCHEMA.migrate(&server, &[]).await.unwrap();
        let looks = format!(
            "GRANT USAGE ON SCHEMA kite_log TO {analyst}; GRANT SELECT ON ALL TABLES IN SCHEMA kite_log TO {analyst}"
        );
        database.execute(&looks).await;
    });
    let error = describe(&refused(&url, 1));
    let told = format!("kite postgres migrate --instance {instance}");
    assert!(error.contains(&told) && error.contains("permission denied"), "{error}");
    let (nobody, nobodys) = role(&database, "nobody");
    let server_of_nobody = Server { url: nobodys, tls: None };
    let error = describe(&run(PostgresEventStore::open(LogOptions::at(server_of_nobody))).unwrap_err());
    assert!(error.contains(&format!("kite postgres migrate --instance {nobody}")), "{error}");
    let found = run(LOG.instances(&server)).unwrap();
    assert_eq!(found, std::slice::from_ref(&instance));
    with_roles(&database, &instance, &analyst);
    run(Postgres::open(options(&url, 1))).unwrap();
    // Who has not the use of the log is none any more, whatever else is left.
    run(database.execute(&format!("REVOKE USAGE ON SCHEMA kite_log FROM {instance}")));
    assert!(run(LOG.instances(&server)).unwrap().is_empty());
}

#[test]
fn an_instance_that_rebuilds_is_told_who_may() {
    let bench = bench();
    let database = run(Database::make());
    let ((instance, url), (reader, _)) = (role(&database, "instance"), role(&database, "reader"));
    with_roles(&database, &instance, &reader);
    let storage = run(Postgres::open_to_rebuild(options(&url, 1))).unwrap();
    let error = describe(&run(crate::replay::rebuild(bench.store.clone(), storage)).unwrap_err());
    assert!(error.contains("as the owner of the database"), "{error}");
}

#[test]
fn tables_of_another_version_are_not_followed() {
    let mut bench = bench();
    bench.accept(1, 3, MessageClass::Notice);
    bench.project();
    let others = ReadModels::open(bench.storage()).unwrap();
    let newer = "INSERT INTO kite_read_models.generations VALUES ('delivery', 2, 5);
                 CREATE SCHEMA kite_delivery_2;
                 CREATE TABLE kite_delivery_2.checkpoint AS SELECT 1 AS id, 900::bigint AS position;
                 UPDATE kite_read_models.models SET generation = 2 WHERE name = 'delivery'";
    run(bench.database().execute(newer));
    assert!(!run(others.delivery.wait_for(900, std::time::Duration::from_millis(500))));
    // What it knew is there until it is taken away, and nobody writes it any more.
    assert_eq!(others.delivery.totals().unwrap().counts.messages, 3);
    bench.accept(2, 3, MessageClass::Notice);
    bench.step_at(2, super::super::at(0)).unwrap();
    let error = bench.step_at(2, super::super::at(0)).unwrap_err();
    assert!(kite_event_store::describe(&error).contains("has schema version 5"), "{error:?}");
}
