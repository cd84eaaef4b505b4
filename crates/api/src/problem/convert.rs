//! Errors of the layers below, as problems. Details for the operator are logged here, and kept out of the answer. What every request
//! meets for as long as it lasts is logged now and then only.

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use kite_commands::event_store::{AppendError, ReadError, describe};
use kite_commands::manage::{ManageError, ManageRefusal};
use kite_commands::{JournalError, LotsError};
use kite_domain::policy::WeightsError;
use kite_domain::relay::ProfileFault;
use kite_domain::sender::SenderRefusal;
use kite_projections::QueryError;
use std::sync::LazyLock;
use std::time::Duration;

use super::{Code, FieldError, Problem};

/// One of these is due every ten seconds.
static LINES: LazyLock<DefaultKeyedRateLimiter<&str>> = LazyLock::new(|| {
    let quota = Quota::with_period(Duration::from_secs(10)).expect("that is some time");
    RateLimiter::keyed(quota)
});

/// Whether a line about this is due.
fn is_due(what: &'static str) -> bool {
    LINES.check_key(&what).is_ok()
}

impl From<AppendError> for Problem {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Busy | AppendError::Unavailable(_) => {
                Self::new(Code::Busy, "The log takes no more at this moment. Nothing was written.")
            }
            AppendError::Conflict { .. } | AppendError::NotTried => {
                Self::new(Code::Conflict, "The same thing was changed by others. Nothing was written.")
            }
            AppendError::TooLarge { bytes, limit } => Self::new(
                Code::BodyTooLarge,
                format!(
                    "What is to be recorded has {bytes} bytes; the log takes {limit}. Nothing was written."
                ),
            ),
            // Nobody asks an engine for what it says that it cannot do.
            AppendError::NotAtomic => {
                tracing::error!(error = describe(&error), "an append was refused");
                Self::new(Code::Internal, "What was asked for cannot be recorded.")
            }
            AppendError::AnswerLost => Self::new(Code::AnswerLost, "The answer of the log was lost."),
            AppendError::Stopped(reason) => {
                if is_due("stopped") {
                    tracing::error!(reason = describe(&reason), "the event store has stopped");
                }
                Self::new(Code::Unavailable, "The log takes nothing any more.")
            }
        }
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Unavailable(reason) => {
                if is_due("unavailable") {
                    tracing::warn!(reason = describe(&reason), "the event store cannot be reached");
                }
                Self::new(Code::Unavailable, "The log cannot be reached at this moment.")
            }
            error @ (ReadError::Unreadable(_) | ReadError::Stopped(_)) => {
                if is_due("unreadable") {
                    tracing::error!(error = describe(&error), "the event store cannot be read");
                }
                Self::new(Code::Unavailable, "The log cannot be read.")
            }
        }
    }
}

impl From<JournalError> for Problem {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Append(error) => error.into(),
            JournalError::Read(error) => error.into(),
            JournalError::Memory(error) => {
                if is_due("memory") {
                    tracing::warn!(error = describe(&error), "a read model does not answer");
                }
                Self::new(Code::Unavailable, "A read model cannot be read.")
            }
            error if error.is_of_newer_program() => {
                Self::new(Code::Unavailable, "This process is too old for its log. Another one answers.")
            }
            JournalError::Decode { stream, source } => {
                tracing::error!(%stream, source = describe(&source), "an event cannot be understood");
                Self::new(Code::Internal, "A record of the log cannot be understood.")
            }
        }
    }
}

impl From<LotsError> for Problem {
    fn from(error: LotsError) -> Self {
        match error {
            LotsError::Journal(error) => error.into(),
            LotsError::Contended(_) | LotsError::Fenced => {
                Self::new(Code::Conflict, "The messages are being changed by others.")
            }
            LotsError::NotFound(lot) => {
                tracing::error!(%lot, "a sealed sending lacks a lot");
                Self::new(Code::Internal, "A part of the sending cannot be found.")
            }
        }
    }
}

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Cursor => {
                Self::new(Code::InvalidCursor, "The cursor was not given out by this list.")
            }
            QueryError::Busy => {
                if is_due("busy") {
                    tracing::warn!("a read model is asked more than it can answer");
                }
                Self::new(Code::Unavailable, "A read model is answering as many questions as it can.")
            }
            QueryError::TooManyGroups(most) => Self::new(
                Code::Refused,
                format!(
                    "These statistics have more than {most} groups, which is the most that an answer or a file may \
                     have. Ask for a shorter time (from, until), or group by less."
                ),
            )
            .at(FieldError::new("group_by", "too_many_groups", format!("there are more than {most} groups"))),
            QueryError::Storage(error) => {
                if is_due("storage") {
                    tracing::error!(error = describe(&error), "a read model cannot be read");
                }
                Self::new(Code::Unavailable, "A read model cannot be read.")
            }
            QueryError::Corrupt(reason) => {
                tracing::error!(reason = describe(&*reason), "a read model holds what it should not");
                Self::new(Code::Internal, "A record of a read model cannot be understood.")
            }
        }
    }
}

impl From<ManageError> for Problem {
    fn from(error: ManageError) -> Self {
        match error {
            ManageError::Refused(refusal) => refusal.into(),
            ManageError::Journal(error) => error.into(),
        }
    }
}

impl From<ManageRefusal> for Problem {
    fn from(refusal: ManageRefusal) -> Self {
        let words = format!("{}.", capitalised(&refusal.to_string()));
        match refusal {
            ManageRefusal::NoTenant(_)
            | ManageRefusal::NoKey(_)
            | ManageRefusal::NoOptOut
            | ManageRefusal::NoCode(_)
            | ManageRefusal::NoTemplate(_) => Self::new(Code::NotFound, words),
            ManageRefusal::Sender(refusal) => of_sender(&refusal, words),
            ManageRefusal::TenantExists(_)
            | ManageRefusal::BreakerMoved(_)
            | ManageRefusal::NoCopy
            | ManageRefusal::NoEncryptionKey
            | ManageRefusal::Locked(_)
            | ManageRefusal::TooManyRequests
            | ManageRefusal::TooManyAddresses
            | ManageRefusal::TooManyKeys
            | ManageRefusal::TooManyCodes(_)
            | ManageRefusal::NameTaken(_) => Self::new(Code::NotPossibleNow, words),
            ManageRefusal::AlreadyExpired => Self::new(Code::Refused, words.clone()).at(FieldError::new(
                "expires_at",
                "in_the_past",
                words,
            )),
            ManageRefusal::AliveThen(_) => Self::new(Code::Refused, words.clone()).at(FieldError::new(
                "original_dead_since",
                "before_the_backup",
                words,
            )),
            ManageRefusal::GiveAgain(again) => {
                let of = |fault: ProfileFault| FieldError::new(fault.field, fault.code, fault.detail);
                Self::new(Code::Refused, words).with_errors(again.faults().map(of).collect())
            }
            ManageRefusal::NoRelay(_) => {
                Self::new(Code::Refused, words.clone()).at(FieldError::new("relay", "unknown_relay", words))
            }
            ManageRefusal::NoChannel { .. } => Self::new(Code::Refused, words.clone()).at(FieldError::new(
                "relay",
                "channel_not_offered",
                words,
            )),
            ManageRefusal::Weights(error) => {
                let code = match error {
                    WeightsError::Empty => "weights_empty",
                    WeightsError::Repeated(_) => "relay_repeated",
                    WeightsError::Sum(_) => "weights_sum",
                };
                Self::new(Code::Refused, words.clone()).at(FieldError::new("weights", code, words))
            }
        }
    }
}

fn of_sender(refusal: &SenderRefusal, words: String) -> Problem {
    match refusal {
        SenderRefusal::NotFound => Problem::new(Code::NotFound, words),
        SenderRefusal::NothingAsked(_) => Problem::new(Code::NotPossibleNow, words),
        SenderRefusal::TakenBy(_) => Problem::new(Code::NotPossibleNow, words.clone()).at(FieldError::new(
            "shared",
            "address_taken",
            words,
        )),
        SenderRefusal::OtherAsked(_) => Problem::new(Code::NotPossibleNow, words.clone())
            .at(FieldError::new("requested_at", "asked_anew", words)),
        SenderRefusal::EndIsPast(_) | SenderRefusal::EndTooFar => Problem::new(Code::Refused, words.clone())
            .at(FieldError::new("expires_at", "out_of_range", words)),
    }
}

fn capitalised(words: &str) -> String {
    let mut characters = words.chars();
    characters.next().map(|first| first.to_uppercase().chain(characters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kite_projections::StorageError;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    /// What was logged.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_every_request_meets_is_logged_once_and_answered_each_time() {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(subscriber, || {
            for _ in 0..100 {
                for error in [QueryError::Storage(StorageError::Silent), QueryError::Busy] {
                    assert_eq!(Problem::from(error).code().kind().status, 503);
                }
            }
        });
        let logged = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let told = |words: &str| logged.matches(words).count();
        assert_eq!((told("cannot be read"), told("more than it can answer")), (1, 1), "{logged}");
    }

    #[test]
    fn a_log_that_is_away_is_said_so_and_may_be_tried_again() {
        for problem in [
            Problem::from(AppendError::unavailable("no route to host")),
            Problem::from(ReadError::unavailable("no route to host")),
        ] {
            assert_eq!(problem.code().kind().status, 503, "{problem:?}");
            assert!(problem.detail().contains("at this moment"), "{problem:?}");
            assert!(!problem.detail().contains("no route"), "the reason is for operators: {problem:?}");
        }
    }

    #[test]
    fn too_many_groups_are_refused_with_their_bound() {
        let problem = Problem::from(QueryError::TooManyGroups(10_000));
        assert_eq!(problem.code().kind().status, 422);
        assert!(problem.detail().contains("more than 10000 groups"), "{}", problem.detail());
        let [error] = problem.errors() else { panic!("{problem:?}") };
        assert_eq!((error.field.as_str(), error.code.as_str()), ("group_by", "too_many_groups"));
    }
}
