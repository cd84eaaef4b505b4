//! The shape of the log in PostgreSQL, brought about by whoever owns the database. Instances run with fewer rights.

use tokio_postgres::{Client, IsolationLevel};

use super::OpenError;

/// The steps, in their order; the number of those done is the shape. A step that was released is never changed.
const STEPS: &[&str] = &[include_str!("log.sql")];

/// Whoever migrates holds this lock ("KITELOG"), so that two do not do it at once.
const LOCK: i64 = 0x004b_4954_454c_4f47;

/// The shape that this program knows.
pub(super) const SHAPE: i32 = STEPS.len() as i32;

/// Brings the log to the shape that this program knows, and lets `instances` (roles) use it: read, and append through the
/// function, nothing else. What was done before is left alone.
///
/// # Errors
/// The log is newer than this program, or the server refuses.
pub(super) async fn migrate(client: &mut Client, instances: &[String]) -> Result<(), OpenError> {
    let transaction =
        client.build_transaction().isolation_level(IsolationLevel::ReadCommitted).start().await?;
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    transaction
        .batch_execute(
            "CREATE SCHEMA IF NOT EXISTS kite_log;
             CREATE TABLE IF NOT EXISTS kite_log.shape (only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row), number integer NOT NULL);
             INSERT INTO kite_log.shape (number) VALUES (0) ON CONFLICT (only_row) DO NOTHING;",
        )
        .await?;
    let found: i32 = transaction.query_one("SELECT number FROM kite_log.shape", &[]).await?.get(0);
    let Some(steps) = usize::try_from(found).ok().and_then(|found| STEPS.get(found..)) else {
        return Err(OpenError::OtherShape { found: found.into(), known: SHAPE.into() });
    };
    for step in steps {
        transaction.batch_execute(step).await?;
    }
    transaction.execute("UPDATE kite_log.shape SET number = $1", &[&SHAPE]).await?;
    for role in instances {
        let role = role.replace('"', "\"\"");
        transaction
            .batch_execute(&format!(
                "GRANT USAGE ON SCHEMA kite_log TO \"{role}\";
                 GRANT SELECT ON ALL TABLES IN SCHEMA kite_log TO \"{role}\";
                 GRANT EXECUTE ON FUNCTION kite_log.append, kite_log.position_before TO \"{role}\";"
            ))
            .await?;
    }
    transaction.commit().await?;
    Ok(())
}

/// Whether the log has the shape that this program knows.
///
/// # Errors
/// It has another one, or none.
pub(super) async fn check_shape(client: &Client) -> Result<(), OpenError> {
    let is_there: bool =
        client.query_one("SELECT to_regclass('kite_log.shape') IS NOT NULL", &[]).await?.get(0);
    if !is_there {
        return Err(OpenError::NotAnEventStore);
    }
    let found: i32 = client.query_one("SELECT number FROM kite_log.shape", &[]).await?.get(0);
    if found != SHAPE {
        return Err(OpenError::OtherShape { found: found.into(), known: SHAPE.into() });
    }
    Ok(())
}
