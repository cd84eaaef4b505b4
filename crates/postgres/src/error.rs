//! Why something that is kept in PostgreSQL cannot be used.

use std::error::Error;
use std::io;
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

/// Whether this is only that nothing was heard of the other machine in time.
pub fn is_silence(error: &(dyn Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |&error| error.source());
    causes.any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the server cannot be asked")]
    struct Lost(#[source] Reason);

    #[derive(Debug, thiserror::Error)]
    #[error("it cannot be reached")]
    struct Reason(#[source] io::Error);

    #[test]
    fn what_came_of_no_answer_is_silence_and_whatever_else_was_heard_is_not() {
        let silences = [
            io::Error::new(io::ErrorKind::TimedOut, "connection timed out"),
            #[cfg(target_os = "linux")]
            io::Error::from_raw_os_error(110),
        ];
        for silence in silences {
            assert!(is_silence(&silence), "{silence:?}");
            let lost = Lost(Reason(silence));
            assert!(is_silence(&lost), "{lost:?}");
        }
        use io::ErrorKind::{ConnectionRefused, ConnectionReset, PermissionDenied, UnexpectedEof};
        for kind in [ConnectionRefused, ConnectionReset, PermissionDenied, UnexpectedEof] {
            assert!(!is_silence(&Lost(Reason(kind.into()))), "{kind:?}");
        }
        assert!(!is_silence(&OpenError::NotMade { schema: "kite_log" }));
    }
}
