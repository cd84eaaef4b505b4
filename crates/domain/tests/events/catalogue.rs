//! `docs/events.md` is generated: it must say what the code says.

use kite_domain::event::Event;
use std::fmt::Write;
use std::path::PathBuf;

use crate::golden;

const HEAD: &str = "\
# Events

Generated from `crates/domain/src/event.rs` and `crates/domain/golden/`; to bring it up to date:
`UPDATE_GENERATED=1 cargo test -p kite-domain --test events`.

Every event that Kite writes, with its newest schema version, the stream that it is appended to, and an example of its
data. Times in the data are milliseconds since 1970 unless a field says otherwise, money is thousandths of a won, and a
set of messages is a list of sequence numbers in which a run of three or more is written `[first, last]`. What names or
reaches a person is in one nested object, `personal`.

";

fn catalogue() -> String {
    let mut text = HEAD.to_owned();
    text.push_str("| event | version | stream | what happened |\n| --- | --- | --- | --- |\n");
    for kind in Event::TYPES {
        let description = kind.description.trim();
        writeln!(text, "| [{0}](#{0}) | {1} | `{2}` | {description} |", kind.kind, kind.version, kind.stream)
            .unwrap();
    }
    for kind in Event::TYPES {
        let example = golden::read(kind.kind, kind.version);
        let description = kind.description.trim();
        write!(text, "\n## {}\n\n{description}\n\n```json\n{example}```\n", kind.kind).unwrap();
    }
    text
}

#[test]
fn the_catalogue_is_current() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/events.md");
    if golden::update_is_wanted() {
        std::fs::write(&path, catalogue()).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(stored == catalogue(), "docs/events.md is not current: run this test with UPDATE_GENERATED=1");
}

#[test]
fn every_event_says_where_it_is_and_what_happened() {
    for kind in Event::TYPES {
        assert!(kind.description.trim().ends_with('.'), "{}: {:?}", kind.kind, kind.description);
        assert!(!kind.stream.is_empty());
    }
    assert!(Event::TYPES.iter().map(|kind| (kind.kind, kind.version)).eq(Event::KINDS.iter().copied()));
}
