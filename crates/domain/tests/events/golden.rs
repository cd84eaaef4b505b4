//! The golden files.

use kite_domain::event::Event;
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Once;

use crate::samples;

pub(crate) fn update_is_wanted() -> bool {
    std::env::var_os("UPDATE_GENERATED").is_some()
}

fn path(kind: &str, version: u16) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("golden/{kind}.v{version}.json"))
}

pub(crate) fn read(kind: &str, version: u16) -> String {
    static UPDATED: Once = Once::new();
    if update_is_wanted() {
        UPDATED.call_once(|| {
            for event in samples::all() {
                std::fs::write(path(event.kind(), event.schema_version()), pretty(&event)).unwrap();
            }
        });
    }
    let path = path(kind, version);
    std::fs::read_to_string(&path).unwrap_or_else(|error| {
        panic!("{}: {error}; UPDATE_GENERATED=1 writes the file of a new event", path.display())
    })
}

fn pretty(event: &Event) -> String {
    let value: Value = serde_json::from_slice(&event.to_json()).unwrap();
    format!("{}\n", serde_json::to_string_pretty(&value).unwrap())
}

#[test]
fn every_event_has_a_sample() {
    let sampled: Vec<_> = samples::all().iter().map(|event| (event.kind(), event.schema_version())).collect();
    assert_eq!(sampled, Event::KINDS, "one sample of each, in the order of the catalogue");
}

#[test]
fn what_is_written_is_what_was_always_written() {
    for event in samples::all() {
        let (kind, version) = (event.kind(), event.schema_version());
        assert_eq!(
            pretty(&event),
            read(kind, version),
            "{kind} is written in another shape: give it a new version"
        );
    }
}

#[test]
fn every_version_that_was_ever_written_is_read() {
    let samples = samples::all();
    for (kind, newest) in Event::KINDS {
        for version in 1..=*newest {
            let event = Event::from_json(kind, version, read(kind, version).as_bytes())
                .unwrap_or_else(|error| panic!("{kind} v{version}: {error}"));
            assert_eq!(event.kind(), *kind);
            if version == *newest {
                assert!(
                    samples.contains(&event),
                    "{kind} v{version} is not read as it was written: {event:?}"
                );
            }
        }
    }
}

#[test]
fn no_golden_file_is_of_an_event_that_is_gone() {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden");
    for entry in std::fs::read_dir(directory).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let known = Event::KINDS
            .iter()
            .any(|(kind, newest)| (1..=*newest).any(|version| name == format!("{kind}.v{version}.json")));
        assert!(known, "{name}: what was once written must be readable for ever");
    }
}

/// A newer program may add a field: an older one must read past it, at every depth.
#[test]
fn fields_of_a_newer_program_are_ignored() {
    fn add_fields(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.values_mut().for_each(add_fields);
                fields.insert("added_later".to_owned(), serde_json::json!({ "deep": [1, 2] }));
            }
            Value::Array(items) => items.iter_mut().for_each(add_fields),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    for event in samples::all() {
        let mut value: Value = serde_json::from_slice(&event.to_json()).unwrap();
        // Maps with free keys hold strings or terms of channels; an unknown key there is data, not a field.
        let free = ["variables", "fields", "channels", "custom"];
        let kept = take_free(&mut value, &free);
        add_fields(&mut value);
        put_back(&mut value, &kept);
        let text = serde_json::to_vec(&value).unwrap();
        let read = Event::from_json(event.kind(), event.schema_version(), &text).unwrap_or_else(|error| {
            panic!("{}: {error}: {:?}", event.kind(), std::error::Error::source(&error))
        });
        assert_eq!(read, event);
    }
}

/// Replaces maps with free keys by a mark; answers what stood there.
fn take_free(value: &mut Value, names: &[&str]) -> Vec<Value> {
    let mut taken = Vec::new();
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                if names.contains(&name.as_str()) && field.is_object() {
                    taken.push(std::mem::replace(field, Value::String("taken".to_owned())));
                } else {
                    taken.extend(take_free(field, names));
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| taken.extend(take_free(item, names))),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    taken
}

fn put_back(value: &mut Value, taken: &[Value]) {
    fn walk(value: &mut Value, taken: &mut std::slice::Iter<'_, Value>) {
        match value {
            Value::String(text) if text == "taken" => *value = taken.next().unwrap().clone(),
            Value::Object(fields) => fields.values_mut().for_each(|field| walk(field, taken)),
            Value::Array(items) => items.iter_mut().for_each(|item| walk(item, taken)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    walk(value, &mut taken.iter());
}

/// The fields that a writer may leave out, by event. Whatever is in no list must be there.
#[test]
fn optional_fields_may_be_missing() {
    let optional: &[(&str, &[&str])] = &[
        (
            "lot-accepted",
            &[
                "groups/reach",
                "personal/recipients/email",
                "personal/recipients/contact",
                "personal/recipients/reference",
                "personal/recipients/variables",
            ],
        ),
        ("messages-routed", &["splits", "routes/fallbacks", "splits/left_out"]),
        (
            "relay-responded",
            &[
                "call_ms",
                "accepted",
                "refused",
                "unknown",
                "deferred",
                "accepted/relay_references",
                "accepted/is_final",
                "refused/text",
                "unknown/inquire_at",
                "unknown/round",
                "unknown/refusal",
                "unknown/refusal/text",
                "refused_for_now",
                "refused_for_now/text",
            ],
        ),
        ("receipts-recorded", &["sets/class", "sets/billable_failure"]),
        ("messages-finished", &["class"]),
        ("receipts-parked", &["receipts/relay_reference", "receipts/code"]),
        ("parked-receipts-settled", &["matched/status", "given_up/status"]),
        (
            "sending-accepted",
            &[
                "from_phone",
                "from_email",
                "scheduled_at",
                "ad",
                "client_reference",
                "custom",
                "body_hash",
                "personal/subject",
                "personal/variables",
                "failover/email",
                "failover/wait_s",
                "failover/retry_s",
            ],
        ),
        ("sending-cancelled", &["reason"]),
        (
            "contacts-saved",
            &[
                "group",
                "personal/contacts/name",
                "personal/contacts/phone",
                "personal/contacts/email",
                "personal/contacts/tags",
                "personal/contacts/fields",
            ],
        ),
        ("group-members-changed", &["added", "removed"]),
        ("relay-breaker-changed", &["until"]),
        (
            "relay-defined",
            &["profile/credentials", "profile/credentials/user", "profile/rate_parts_per_second"],
        ),
        ("policy-defined", &["failover/email", "failover/attempts_max"]),
        ("sender-registered", &["brand", "refusal_number"]),
        ("sender-requested", &["brand", "refusal_number"]),
        ("sender-approved", &["brand", "refusal_number", "shared"]),
        ("template-saved", &["subject"]),
    ];
    for event in samples::all() {
        let listed = optional.iter().find(|(kind, _)| *kind == event.kind());
        for path in listed.map_or(&[][..], |(_, paths)| paths) {
            let mut value: Value = serde_json::from_slice(&event.to_json()).unwrap();
            let steps: Vec<&str> = path.split('/').collect();
            assert!(remove(&mut value, &steps), "{}: there is no {path}", event.kind());
            let text = serde_json::to_vec(&value).unwrap();
            let read = Event::from_json(event.kind(), event.schema_version(), &text)
                .unwrap_or_else(|error| panic!("{} without {path}: {error}", event.kind()));
            assert_ne!(read, event, "{path} was not set in the sample");
        }
    }
}

fn remove(value: &mut Value, path: &[&str]) -> bool {
    match value {
        Value::Array(items) => {
            items.iter_mut().map(|item| remove(item, path)).fold(false, |any, one| any | one)
        }
        Value::Object(fields) => match path {
            [] => false,
            [last] => fields.remove(*last).is_some(),
            [first, rest @ ..] => fields.get_mut(*first).is_some_and(|field| remove(field, rest)),
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}
