//! The shape of a schema, brought about by whoever owns the database. Instances run with fewer rights.

use tokio_postgres::{Client, IsolationLevel};

use crate::connect::{Connector, Server, check_server};
use crate::error::OpenError;

/// Whoever migrates holds this lock ("KITE"), so that two do not do it at once.
const LOCK: i64 = 0x4b49_5445;

/// A schema and the steps that bring it about.
pub struct Schema {
    /// Its name.
    pub name: &'static str,
    /// In their order; the number of those done is the shape. A step that was released is never changed.
    pub steps: &'static [&'static str],
    /// Functions: every migration brings about these, which do the same for programs that know others.
    pub functions: &'static str,
    /// What an instance may do.
    pub rights: Rights,
}

/// What the role of an instance may do with a schema, beside reading all of it.
pub struct Rights {
    /// The functions that it may call, separated by commas.
    pub functions: &'static str,
    /// The tables that it may change row by row.
    pub tables: &'static str,
    /// The tables whose rows it may change, without adding or removing any.
    pub updated: &'static str,
}

impl Schema {
    /// The shape that this program knows.
    fn shape(&self) -> i32 {
        self.steps.len() as i32
    }

    /// Makes or updates the schema as the owner of the database, and lets `instances` (roles) use it. Steps that were done before
    /// are left alone; functions become those of this program.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn migrate(&self, server: &Server, instances: &[String]) -> Result<(), OpenError> {
        let migrating = async |client: &mut Client| {
            check_server(client).await?;
            self.bring_about(client, instances).await
        };
        Connector::new(server, "kite")?.once(migrating).await
    }

    /// The roles that instances run as already: those that were given the use of this schema, and the right to change something in
    /// one of ours. Whoever may only look is none of them.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn instances(&self, server: &Server) -> Result<Vec<String>, OpenError> {
        const SQL: &str = r"
            WITH ours AS (SELECT * FROM pg_namespace WHERE nspname LIKE 'kite\_%'),
            changes AS (
                SELECT relowner AS owner, granted.* FROM pg_class JOIN ours ON ours.oid = relnamespace,
                    aclexplode(relacl) AS granted WHERE privilege_type IN ('INSERT', 'UPDATE', 'DELETE')
                UNION ALL
                SELECT proowner, granted.* FROM pg_proc JOIN ours ON ours.oid = pronamespace,
                    aclexplode(proacl) AS granted WHERE prosecdef)
            SELECT rolname::text FROM pg_roles
            WHERE oid IN (SELECT grantee FROM changes WHERE grantee <> owner)
              AND oid IN (SELECT grantee FROM ours, aclexplode(nspacl) WHERE nspname = $1)
            ORDER BY 1";
        let asking = async |client: &mut Client| {
            let rows = client.query(SQL, &[&self.name]).await?;
            Ok(rows.iter().map(|row| row.get(0)).collect())
        };
        Connector::new(server, "kite")?.once(asking).await
    }

    async fn bring_about(&self, client: &mut Client, instances: &[String]) -> Result<(), OpenError> {
        let schema = self.name;
        let transaction =
            client.build_transaction().isolation_level(IsolationLevel::ReadCommitted).start().await?;
        transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
        transaction
            .batch_execute(&format!(
                "CREATE SCHEMA IF NOT EXISTS {schema};
                 CREATE TABLE IF NOT EXISTS {schema}.shape
                     (only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row), number integer NOT NULL);
                 INSERT INTO {schema}.shape (number) VALUES (0) ON CONFLICT (only_row) DO NOTHING;"
            ))
            .await?;
        let found: i32 =
            transaction.query_one(&format!("SELECT number FROM {schema}.shape"), &[]).await?.get(0);
        let Some(steps) = usize::try_from(found).ok().and_then(|found| self.steps.get(found..)) else {
            return Err(self.other_shape(found));
        };
        for step in steps {
            transaction.batch_execute(step).await?;
        }
        transaction.batch_execute(self.functions).await?;
        transaction.execute(&format!("UPDATE {schema}.shape SET number = $1"), &[&self.shape()]).await?;
        for role in instances {
            transaction.batch_execute(&self.grants(role)).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    fn grants(&self, role: &str) -> String {
        let (schema, role) = (self.name, role.replace('"', "\"\""));
        let mut grants = format!(
            "GRANT USAGE ON SCHEMA {schema} TO \"{role}\"; GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO \"{role}\";"
        );
        if !self.rights.functions.is_empty() {
            grants += &format!("GRANT EXECUTE ON FUNCTION {} TO \"{role}\";", self.rights.functions);
        }
        if !self.rights.tables.is_empty() {
            grants += &format!("GRANT INSERT, UPDATE, DELETE ON {} TO \"{role}\";", self.rights.tables);
        }
        if !self.rights.updated.is_empty() {
            grants += &format!("GRANT UPDATE ON {} TO \"{role}\";", self.rights.updated);
        }
        grants
    }

    /// Whether the schema has the shape that this program knows.
    ///
    /// # Errors
    /// It has another one, or is not there.
    pub async fn check(&self, client: &Client) -> Result<(), OpenError> {
        let shape = format!("{}.shape", self.name);
        let is_there: bool = client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&shape]).await?.get(0);
        if !is_there {
            return Err(OpenError::NotMade { schema: self.name });
        }
        let found: i32 = client.query_one(&format!("SELECT number FROM {shape}"), &[]).await?.get(0);
        if found != self.shape() {
            return Err(self.other_shape(found));
        }
        Ok(())
    }

    fn other_shape(&self, found: i32) -> OpenError {
        OpenError::OtherShape { schema: self.name, found, known: self.shape() }
    }
}
