//! Generations of a read model's tables: how they are made, shown, and taken away.

use kite_postgres::{OpenError as ServerError, Rights, Schema};
use tokio_postgres::{Client, GenericClient};

use crate::error::OpenError;
use crate::read_models::ReadModels;
use crate::register::Registered;

/// The tables in which it is said which generation is shown.
pub const SCHEMA: Schema = Schema {
    name: "kite_read_models",
    steps: &[include_str!("read_models.sql")],
    functions: "",
    rights: Rights {
        functions: "",
        tables: "",
        // Whoever projects holds the row of its model, so that another generation is shown between two steps.
        updated: "kite_read_models.models, kite_read_models.log",
    },
};

/// Whoever makes a generation holds this lock ("KITR").
const LOCK: i64 = 0x4b49_5452;

/// The schema of a generation.
pub(crate) fn schema_of(model: &str, generation: i64) -> String {
    format!("kite_{model}_{generation}")
}

/// Makes the first generation of every read model that has none, lets `instances` write them, and `readers` see the views.
///
/// # Errors
/// The server refuses.
pub async fn make_first(
    client: &mut Client,
    instances: &[String],
    readers: &[String],
) -> Result<(), ServerError> {
    let transaction = client.transaction().await?;
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    for role in instances {
        let sql = "INSERT INTO kite_read_models.instances (role) VALUES ($1) ON CONFLICT (role) DO NOTHING";
        transaction.execute(sql, &[role]).await?;
    }
    for model in ReadModels::each() {
        match shown(&transaction, *model).await? {
            Some(generation) => {
                grant(&transaction, &schema_of(model.name(), generation)).await?;
                // A newer program may show more in its views.
                if version_of(&transaction, *model, generation).await? == Some(model.schema_version()) {
                    transaction.batch_execute(&views(*model, generation)).await?;
                }
            }
            None => {
                let generation = 1;
                make(&transaction, *model, generation).await?;
                transaction.batch_execute(&late_indexes(*model, generation)).await?;
                show(&transaction, *model, generation).await?;
            }
        }
    }
    for role in readers {
        let role = role.replace('"', "\"\"");
        let sql = format!(
            "GRANT USAGE ON SCHEMA kite TO \"{role}\"; GRANT SELECT ON ALL TABLES IN SCHEMA kite TO \"{role}\";
             ALTER DEFAULT PRIVILEGES IN SCHEMA kite GRANT SELECT ON TABLES TO \"{role}\";"
        );
        transaction.batch_execute(&sql).await?;
    }
    transaction.commit().await?;
    Ok(())
}

/// The generation of a read model that is shown.
pub(crate) async fn shown(
    client: &impl GenericClient,
    model: &dyn Registered,
) -> Result<Option<i64>, tokio_postgres::Error> {
    let sql = "SELECT generation FROM kite_read_models.models WHERE name = $1";
    Ok(client.query_opt(sql, &[&model.name()]).await?.map(|row| row.get(0)))
}

/// The version of the tables of a generation.
pub(crate) async fn version_of(
    client: &impl GenericClient,
    model: &dyn Registered,
    generation: i64,
) -> Result<Option<i64>, tokio_postgres::Error> {
    let sql = "SELECT schema_version FROM kite_read_models.generations WHERE model = $1 AND generation = $2";
    Ok(client.query_opt(sql, &[&model.name(), &generation]).await?.map(|row| row.get(0)))
}

/// Makes the tables of a generation, without the indexes that are for queries only.
pub(crate) async fn make(
    client: &impl GenericClient,
    model: &dyn Registered,
    generation: i64,
) -> Result<(), tokio_postgres::Error> {
    let schema = schema_of(model.name(), generation);
    let tables = model.create_tables();
    let sql =
        "INSERT INTO kite_read_models.generations (model, generation, schema_version) VALUES ($1, $2, $3)";
    client.execute(sql, &[&model.name(), &generation, &model.schema_version()]).await?;
    client
        .batch_execute(&format!(
            "CREATE SCHEMA {schema}; SET LOCAL search_path = {schema}, pg_temp; {tables} RESET search_path;"
        ))
        .await?;
    grant(client, &schema).await
}

/// Makes the indexes that were left out.
pub(crate) fn late_indexes(model: &dyn Registered, generation: i64) -> String {
    let (schema, indexes) = (schema_of(model.name(), generation), model.create_late_indexes());
    format!("SET LOCAL search_path = {schema}, pg_temp; {indexes} RESET search_path;")
}

/// Lets all instances that are known use it.
async fn grant(client: &impl GenericClient, schema: &str) -> Result<(), tokio_postgres::Error> {
    for row in client
        .query(
            "SELECT quote_ident(role) FROM kite_read_models.instances JOIN pg_roles ON rolname = role",
            &[],
        )
        .await?
    {
        let role: String = row.get(0);
        let sql = format!(
            "GRANT USAGE ON SCHEMA {schema} TO {role};
             GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role};"
        );
        client.batch_execute(&sql).await?;
    }
    Ok(())
}

/// Shows a generation from now on, in the views too.
pub(crate) async fn show(
    client: &impl GenericClient,
    model: &dyn Registered,
    generation: i64,
) -> Result<(), tokio_postgres::Error> {
    let sql = "INSERT INTO kite_read_models.models (name, generation) VALUES ($1, $2)
               ON CONFLICT (name) DO UPDATE SET generation = excluded.generation";
    client.execute(sql, &[&model.name(), &generation]).await?;
    // There may be more instances than when it was made.
    grant(client, &schema_of(model.name(), generation)).await?;
    client.batch_execute(&views(model, generation)).await
}

/// Makes the views. Whoever has one open for long is in the way: others are not to wait for that.
fn views(model: &dyn Registered, generation: i64) -> String {
    let views = model.views(&schema_of(model.name(), generation));
    format!("SET LOCAL lock_timeout = '2s'; {views} SET LOCAL lock_timeout = DEFAULT;")
}

/// Takes away every generation but the one that is shown, and this one.
pub(crate) async fn drop_others(
    client: &impl GenericClient,
    model: &dyn Registered,
    kept: i64,
) -> Result<(), tokio_postgres::Error> {
    let sql = "DELETE FROM kite_read_models.generations
               WHERE model = $1 AND generation <> $2
                 AND generation NOT IN (SELECT models.generation FROM kite_read_models.models WHERE name = $1)
               RETURNING generation";
    for row in client.query(sql, &[&model.name(), &kept]).await? {
        let schema = schema_of(model.name(), row.get(0));
        client.batch_execute(&format!("DROP SCHEMA IF EXISTS {schema} CASCADE")).await?;
    }
    Ok(())
}

/// Whether a read model is there in the form that this program knows; its generation.
pub(crate) async fn check(
    client: &impl GenericClient,
    model: &dyn Registered,
) -> Result<Result<i64, OpenError>, tokio_postgres::Error> {
    let Some(generation) = shown(client, model).await? else {
        return Ok(Err(OpenError::NotMade { model: model.name() }));
    };
    let found = version_of(client, model, generation).await?.unwrap_or(0);
    if found != model.schema_version() {
        return Ok(Err(OpenError::OtherSchema { model: model.name(), found, known: model.schema_version() }));
    }
    Ok(Ok(generation))
}
