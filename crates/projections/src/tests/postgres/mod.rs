//! What is particular to read models in PostgreSQL. Everything else about them is tested in either engine.

mod asking;
mod cuts;
mod generations;
mod opening;
mod rows;
mod views;

use kite_postgres::{Connector, Server};
use kite_testkit::postgres::Database;
use tokio_postgres::{Client, Row};

use super::{Bench, run};

fn bench() -> Bench {
    Bench::in_postgres(run(Database::make()))
}

/// What a role gets for a question.
fn ask(url: &str, sql: &str) -> Vec<Row> {
    let server = Server { url: url.to_owned(), tls: None };
    let asking = async {
        let connector = Connector::new(&server, "test").unwrap();
        connector.once(async |client: &mut Client| Ok(client.query(sql, &[]).await?)).await.unwrap()
    };
    run(asking)
}

/// A role that may log in; its URL of the database.
fn role(database: &Database, name: &str) -> (String, String) {
    let role = format!("{name}_{}", database.name());
    run(database.execute(&format!("CREATE ROLE {role} LOGIN PASSWORD 'secret'")));
    let url = database.url_for(&role, "secret");
    (role, url)
}
