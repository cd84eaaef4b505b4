//! The words of closed enums. What is in the log, in a metric and in an answer is the same word, and stays it.

use kite_domain::failure::FailureClass;
use kite_domain::instance::Originality;
use kite_domain::keys::{Role, Scope};
use kite_domain::load::Full;
use kite_domain::lot::{AttemptState, Outcome};
use kite_domain::not_understood::{MisreadReason, SaidHow};
use kite_domain::policy::PolicyObjective;
use kite_domain::sender::SenderStatus;
use kite_domain::sending::{MessageClass, PauseBy};
use kite_domain::text::MessageType;
use serde::Serialize;

use crate::samples;

#[track_caller]
fn stored_as_it_is_called<T: Serialize>(all: &[T], word: impl Fn(&T) -> &'static str) {
    for one in all {
        assert_eq!(serde_json::to_value(one).unwrap(), word(one));
    }
}

#[test]
fn what_is_stored_is_the_word_that_is_shown() {
    stored_as_it_is_called(MessageType::ALL, |one| one.as_str());
    stored_as_it_is_called(FailureClass::ALL, |one| one.as_str());
    stored_as_it_is_called(MessageClass::ALL, |one| one.word());
    stored_as_it_is_called(Outcome::ALL, |one| one.word());
    stored_as_it_is_called(SenderStatus::ALL, |one| one.word());
    stored_as_it_is_called(Scope::ALL, |one| one.word());
    stored_as_it_is_called(&[PauseBy::Tenant, PauseBy::Operator], |one| one.word());
    stored_as_it_is_called(&[Role::Auditor, Role::Operator, Role::Administrator], |one| one.word());
    use AttemptState::{Accepted, Delivered, Expired, Refused, Routed, Submitted, Undelivered, Unknown};
    stored_as_it_is_called(
        &[Routed, Submitted, Unknown, Accepted, Expired, Refused, Undelivered, Delivered],
        |one| one.word(),
    );
    use SaidHow::{Answered, Pulled, Pushed, Responded};
    stored_as_it_is_called(&[Pushed, Pulled, Responded, Answered], |one| one.as_str());
    use MisreadReason::{Missing, NoJson, NoObject, NoTime, TooLong, UnknownWord, WrongType};
    stored_as_it_is_called(&[NoJson, NoObject, Missing, WrongType, UnknownWord, NoTime, TooLong], |one| {
        one.as_str()
    });
}

#[test]
fn an_objective_is_stored_under_the_word_that_is_shown() {
    use PolicyObjective::{Price, Ratio, Recommended, Speed};
    for objective in [Ratio { weights: Vec::new() }, Price, Speed, Recommended] {
        assert_eq!(serde_json::to_value(&objective).unwrap()["objective"], objective.word());
    }
}

#[test]
fn a_role_is_shown_by_its_word() {
    assert_eq!(Role::Auditor.to_string(), "auditor");
    assert_eq!(Outcome::Delivered.to_string(), "delivered");
    assert_eq!(SenderStatus::Withdrawn.to_string(), "withdrawn");
}

#[test]
fn each_place_of_a_sender_has_a_code_of_its_own() {
    for status in SenderStatus::ALL.iter().copied() {
        assert_eq!(status.code(), format!("sender_{}", status.word()));
    }
}

#[test]
fn the_standing_of_a_log_is_told_in_a_word() {
    let at = chrono::DateTime::UNIX_EPOCH;
    let mut standing = Originality::default();
    let mut words = vec![standing.word()];
    for event in samples::all() {
        if standing.evolve(&event, at) {
            words.push(standing.word());
        }
    }
    assert_eq!(words, ["original", "copy", "released", "settled"]);
}

#[test]
fn a_bound_that_is_reached_is_told_in_a_word() {
    let bounds = [Full::TenantOpen, Full::TenantScheduled, Full::Open, Full::Scheduled];
    assert_eq!(
        bounds.map(Full::word),
        ["tenant_open_messages", "tenant_scheduled_messages", "open_messages", "scheduled_messages"]
    );
}
