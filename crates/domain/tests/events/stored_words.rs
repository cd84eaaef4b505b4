//! The words of closed enums, where they are shown. Which words they are is in `src/stored_words_tests.rs`.

use kite_domain::instance::Originality;
use kite_domain::keys::Role;
use kite_domain::lot::Outcome;
use kite_domain::sender::SenderStatus;

use crate::samples;

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
