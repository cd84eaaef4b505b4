//! What of the log is still in force: of every kind that is listed, and of no other.

use kite_domain::event::{Event, EventKind};
use kite_domain::in_force::{Effect, KINDS, effects};

use crate::samples;

#[test]
fn an_event_of_a_kind_that_is_listed_is_in_force_and_no_other() {
    for event in samples::all() {
        let is_listed = KINDS.contains(&event.of_kind());
        assert_eq!(!effects(&event, 7).is_empty(), is_listed, "{}", event.kind());
    }
}

fn subjects(of: EventKind) -> Vec<String> {
    let events: Vec<Event> = samples::all().into_iter().filter(|event| event.of_kind() == of).collect();
    let effects = events.iter().flat_map(|event| effects(event, 7));
    effects.map(|effect| format!("{effect:?}")).collect()
}

fn newest(subject: &str) -> String {
    format!("{:?}", Effect::Newest(subject.into()))
}

#[test]
fn what_undoes_something_is_about_the_same() {
    for (done, undone) in [
        (EventKind::RelaySuspended, EventKind::RelayResumed),
        (EventKind::RelayUnattended, EventKind::RelayAttended),
        (EventKind::CodeClassed, EventKind::CodeUnclassed),
        (EventKind::TemplateSaved, EventKind::TemplateDeleted),
    ] {
        assert_eq!(subjects(done), subjects(undone), "{done:?}");
    }
}

#[test]
fn what_is_about_different_things_stands_beside_each_other() {
    assert_eq!(subjects(EventKind::TenantCreated), [newest("created")]);
    assert_eq!(subjects(EventKind::TenantLimitsSet), [newest("limits")]);
    assert_eq!(subjects(EventKind::PolicyDefined), [newest("policy")]);
    assert_eq!(subjects(EventKind::WeightsAdvised), [newest("advice")]);
    assert_ne!(subjects(EventKind::RelaySuspended), subjects(EventKind::RelayUnattended));
    for (issued, revoked) in [
        (EventKind::ApiKeyIssued, EventKind::ApiKeyRevoked),
        (EventKind::OperatorKeyIssued, EventKind::OperatorKeyRevoked),
    ] {
        assert_ne!(subjects(issued), subjects(revoked), "both are needed to know that it once was good");
    }
}
