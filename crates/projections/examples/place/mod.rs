//! Where the read models of a measurement are: in files, or in an empty database.

use kite_postgres::{Connector, Server};
use kite_projections::Storage;
use kite_projections::postgres::{Postgres, PostgresOptions, SCHEMA, make_first};
use std::path::Path;
use tokio_postgres::Client;
use uuid::Uuid;

/// In a new database at this URL, or in files of this directory.
pub(crate) async fn storage(url: Option<&str>, directory: &Path) -> Storage {
    let Some(url) = url else { return Storage::from(directory) };
    let server = Server { url: url.to_owned(), tls: None };
    SCHEMA.migrate(&server, &[]).await.expect("an empty database");
    let make = async |client: &mut Client| make_first(client, &[], &[]).await;
    let connector = Connector::new(&server, "measure").expect("a URL");
    connector.once(make).await.expect("an empty database");
    let options = PostgresOptions {
        server,
        connections_max: 4,
        log_id: Uuid::from_u128(1),
        scratch_dir: directory.to_owned(),
    };
    Postgres::open(options).await.expect("they were made just now").into()
}

/// What a table and its indexes take on the server, of all read models, in bytes.
pub(crate) async fn bytes(url: &str, model: &str) -> u64 {
    let server = Server { url: url.to_owned(), tls: None };
    let connector = Connector::new(&server, "measure").expect("a URL");
    let sql = format!(
        "SELECT sum(pg_total_relation_size(c.oid))::bigint FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind = 'r' AND n.nspname LIKE 'kite\\_{model}\\_%'"
    );
    let asking = async |client: &mut Client| Ok(client.query_one(&sql, &[]).await?.get::<_, i64>(0));
    connector.once(asking).await.expect("the server answers").unsigned_abs()
}
