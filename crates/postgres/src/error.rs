//! Why something that is kept in PostgreSQL cannot be used.

use tokio_postgres::error::{Severity, SqlState};

/// Why a server, or what should be on it, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL is none.
    #[error("the URL of the PostgreSQL server cannot be read")]
    Url(#[source] tokio_postgres::Error),
    /// TLS cannot be had as it is configured.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
    /// An older server.
    #[error("PostgreSQL {version} is too old; 15 or newer is needed")]
    ServerTooOld {
        /// What it says of itself.
        version: String,
    },
    /// A server that loses what it has acknowledged.
    #[error("the PostgreSQL server has {setting} = {value} and may lose what it has acknowledged")]
    NotDurable {
        /// The setting.
        setting: &'static str,
        /// What it is set to.
        value: String,
    },
    /// A database that cannot hold every text.
    #[error("the database has the encoding {encoding}; UTF8 is needed")]
    Encoding {
        /// The encoding found.
        encoding: String,
    },
    /// The schema is not in the database.
    #[error("the schema {schema} is not in the database: it has to be made first (kite postgres migrate)")]
    NotMade {
        /// Its name.
        schema: &'static str,
    },
    /// Made by a newer version of this program, or not brought to this one's shape yet.
    #[error("the schema {schema} has shape {found}, this program knows {known} (kite postgres migrate)")]
    OtherShape {
        /// Its name.
        schema: &'static str,
        /// The shape found.
        found: i32,
        /// The shape known.
        known: i32,
    },
    /// A role without the rights of an instance, or not to what is new.
    #[error(
        "the role {role} lacks rights of an instance: give them to it as the owner of the database (kite postgres migrate \
         --instance {role})"
    )]
    Forbidden {
        /// The role.
        role: String,
        /// What it may not.
        source: tokio_postgres::Error,
    },
    /// The server refused, or cannot be reached.
    #[error("the PostgreSQL server cannot be used")]
    Server(#[from] tokio_postgres::Error),
    /// It can be reached, and says nothing.
    #[error("the PostgreSQL server can be reached, and says nothing")]
    Silent,
    /// The pool of connections cannot be made.
    #[error("no pool of connections")]
    Pool(#[from] deadpool_postgres::BuildError),
}

impl OpenError {
    /// The same, if it is not that this role may not do something that is done to open what an instance uses.
    pub(crate) fn for_instance(self, role: &str) -> Self {
        let is_forbidden = |error: &tokio_postgres::Error| {
            // Whoever may not even connect is told so by the server, with the same code.
            error.as_db_error().is_some_and(|said| {
                *said.code() == SqlState::INSUFFICIENT_PRIVILEGE
                    && said.parsed_severity() == Some(Severity::Error)
            })
        };
        match self {
            Self::Server(source) if is_forbidden(&source) => {
                Self::Forbidden { role: role.to_owned(), source }
            }
            other => other,
        }
    }
}
