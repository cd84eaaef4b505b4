//! Changes the structure of an input whose text contains JSON.
//!
//! A fuzzer that changes bytes breaks a document far more often than it builds another, so code behind a valid
//! document is reached slowly. Here a value is replaced, moved, left out, repeated or taken from another input, and
//! the result is a valid document again (its fields in the order of their names, each once). The text around
//! documents (headers, kinds of events) stays, or is changed line by line. Strings are left to the fuzzer, which has
//! a dictionary for them.

use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};
use std::ops::Range;

/// Changes of one document at once, at most.
const CHANGES_MAX: u32 = 4;
/// What is put next to a sign: what may stand there, what may not, the beginnings of values.
const PUT: [&str; 16] =
    [" ", "\t", "\r", ",", ":", "\"", "[", "{", "}", "x", "-", "1", ".5", "tru", "nul", "\\u0041"];
/// More lines of another input are not taken at once.
const LINES_TAKEN_MAX: usize = 4;

/// The input with its structure changed; what is new is taken from it or from the other one. `None`: it has nothing to
/// change. The same seed changes it the same way.
pub fn restructured(given: &[u8], other: &[u8], seed: u32) -> Option<Vec<u8>> {
    let given = std::str::from_utf8(given).ok()?;
    let other = std::str::from_utf8(other).unwrap_or_default();
    let mut random = ChaCha8Rng::seed_from_u64(seed.into());
    let changed = match random.random_range(0..4) {
        0 if given.contains('\n') => other_lines(given, other, &mut random),
        1 => other_token(given, &mut random)?,
        _ => other_document(given, other, &mut random)?,
    };
    Some(changed.into_bytes())
}

/// A line is repeated, left out, moved, or some of the other input's are taken.
fn other_lines(given: &str, other: &str, random: &mut ChaCha8Rng) -> String {
    let mut lines: Vec<&str> = given.split('\n').collect();
    let at = random.random_range(0..lines.len());
    let to = random.random_range(0..lines.len());
    match random.random_range(0..4) {
        0 => lines.insert(to, lines[at]),
        1 => _ = lines.remove(at),
        2 => lines.swap(at, to),
        _ if other.is_empty() => lines.rotate_left(at),
        _ => {
            let others: Vec<&str> = other.split('\n').collect();
            let from = random.random_range(0..others.len());
            let count = random.random_range(1..=LINES_TAKEN_MAX).min(others.len() - from);
            lines.splice(at..at, others[from..from + count].iter().copied());
        }
    }
    lines.join("\n")
}

/// Something is put, left out or cut off next to a sign of a document's structure: every reader of a type has its own answer
/// to what it finds there.
fn other_token(given: &str, random: &mut ChaCha8Rng) -> Option<String> {
    let documents = documents(given);
    let (place, _) = documents.choose(random)?;
    let signs: Vec<usize> = given[place.clone()]
        .match_indices(['{', '}', '[', ']', ',', ':', '"'])
        .map(|(sign, _)| place.start + sign)
        .collect();
    let sign = *signs.choose(random)?;
    let mut changed = given.to_owned();
    match random.random_range(0..8) {
        0 => _ = changed.remove(sign),
        1 => changed.replace_range(sign..place.end, ""),
        _ => {
            let put = PUT.choose(random).copied().unwrap_or_default();
            changed.insert_str(sign + random.random_range(0..2), put);
        }
    }
    Some(changed)
}

fn other_document(given: &str, other: &str, random: &mut ChaCha8Rng) -> Option<String> {
    let documents = documents(given);
    let (place, mut document) = documents.choose(random)?.clone();
    let donors: Vec<Value> =
        documents.into_iter().chain(self::documents(other)).map(|(_, document)| document).collect();
    for _ in 0..random.random_range(1..=CHANGES_MAX) {
        let donor = donors.choose(random)?;
        change(&mut document, donor, random);
    }
    let mut changed = given.to_owned();
    changed.replace_range(place, &document.to_string());
    Some(changed)
}

/// Where objects and lists stand, and what they are: at most one per line, or a part that ends as `input::parts` has it.
fn documents(text: &str) -> Vec<(Range<usize>, Value)> {
    let mut found: Vec<(Range<usize>, Value)> = Vec::new();
    let mut start = 0;
    for part in text.split_inclusive(['\n', '\u{1F}']) {
        let opens = part.find(['{', '[']).map(|opens| start + opens);
        start += part.len();
        let Some(opens) = opens.filter(|opens| found.last().is_none_or(|(last, _)| last.end <= *opens))
        else {
            continue;
        };
        let mut values = serde_json::Deserializer::from_str(&text[opens..]).into_iter();
        if let Some(Ok(value)) = values.next() {
            found.push((opens..opens + values.byte_offset(), value));
        }
    }
    found
}

/// Changes one value somewhere in a document.
fn change(document: &mut Value, donor: &Value, random: &mut ChaCha8Rng) {
    let mut place = random.random_range(0..values_in(document).len());
    let Some(value) = nth(document, &mut place) else { return };
    match value {
        // Readers of objects often take lists, too.
        Value::Object(fields) if random.random_ratio(1, 16) => {
            *value = fields.values().cloned().collect();
        }
        Value::Object(fields) if random.random_ratio(3, 4) => change_object(fields, donor, random),
        Value::Array(elements) if random.random_ratio(3, 4) => change_list(elements, donor, random),
        value => *value = another(donor, random),
    }
}

fn change_object(fields: &mut Map<String, Value>, donor: &Value, random: &mut ChaCha8Rng) {
    let names: Vec<String> = fields.keys().cloned().collect();
    let name = names.choose(random);
    match (random.random_range(0..3), name) {
        (0, Some(name)) => _ = fields.remove(name),
        (1, Some(name)) => {
            let moved = fields.remove(name).unwrap_or_default();
            fields.insert(a_name(donor, random).unwrap_or_default(), moved);
        }
        _ => {
            if let Some(name) = a_name(donor, random) {
                fields.insert(name, another(donor, random));
            }
        }
    }
}

fn change_list(elements: &mut Vec<Value>, donor: &Value, random: &mut ChaCha8Rng) {
    if elements.is_empty() {
        return elements.push(another(donor, random));
    }
    let at = random.random_range(0..elements.len());
    match random.random_range(0..4) {
        0 => _ = elements.remove(at),
        1 => elements.insert(at, elements[at].clone()),
        2 => elements.shuffle(random),
        _ => elements.insert(at, another(donor, random)),
    }
}

/// A value of the donor, or one at the end of what a value can be.
fn another(donor: &Value, random: &mut ChaCha8Rng) -> Value {
    if random.random_ratio(2, 3) {
        return values_in(donor).choose(random).copied().cloned().unwrap_or_default();
    }
    let ends = [
        json!(null),
        json!(true),
        json!(false),
        json!(0),
        json!(1),
        json!(-1),
        json!(2),
        json!(255),
        json!(256),
        json!(65_535),
        json!(65_536),
        json!(u32::MAX),
        json!(i64::MIN),
        json!(i64::MAX),
        json!(u64::MAX),
        json!(0.5),
        json!(1e300),
        json!(""),
        json!("0"),
        json!([]),
        json!({}),
    ];
    ends.choose(random).cloned().unwrap_or_default()
}

/// A field's name that stands somewhere in the donor.
fn a_name(donor: &Value, random: &mut ChaCha8Rng) -> Option<String> {
    let objects = values_in(donor).into_iter().filter_map(Value::as_object);
    let names: Vec<&String> = objects.flat_map(Map::keys).collect();
    names.choose(random).map(|name| (*name).clone())
}

/// A document, and every value in it.
fn values_in(document: &Value) -> Vec<&Value> {
    let mut values = vec![document];
    let mut looked_at = 0;
    while let Some(value) = values.get(looked_at) {
        looked_at += 1;
        match value {
            Value::Object(fields) => values.extend(fields.values()),
            Value::Array(elements) => values.extend(elements),
            _ => {}
        }
    }
    values
}

/// The value at a place of a document, counted from itself on, to be changed.
fn nth<'a>(value: &'a mut Value, place: &mut usize) -> Option<&'a mut Value> {
    if *place == 0 {
        return Some(value);
    }
    *place -= 1;
    match value {
        Value::Object(fields) => fields.values_mut().find_map(|value| nth(value, place)),
        Value::Array(elements) => elements.iter_mut().find_map(|value| nth(value, place)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const HISTORY: &str = "sending-claimed 1 {\"sending\":\"a\",\"rows\":[1,2,{\"x\":null}]}\n\
                           lot-accepted 1 {\"number\":0}\nno document here\n";

    fn text(changed: Option<Vec<u8>>) -> String {
        String::from_utf8(changed.expect("there is a document")).expect("still text")
    }

    #[test]
    fn documents_stay_documents_and_what_is_around_them_stays() {
        for seed in 0..2_000 {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let changed = other_document(HISTORY, "[7,{\"other\":true}]", &mut random).expect("there is one");
            assert!(changed.starts_with("sending-claimed 1 ") && changed.ends_with("\nno document here\n"));
            for line in changed.lines().filter(|line| line.contains(['{', '['])) {
                let (_, document) = line.split_at(line.find(['{', '[']).unwrap_or_default());
                assert!(serde_json::from_str::<Value>(document).is_ok(), "{seed}: {line:?}");
            }
        }
    }

    #[test]
    fn every_seed_changes_in_its_own_way_and_always_the_same() {
        let changed = |seed| text(restructured(HISTORY.as_bytes(), b"", seed));
        let all: BTreeSet<String> = (0..1_000).map(changed).collect();
        assert!(all.len() > 300, "only {} of 1000 differ", all.len());
        assert!((0..100).all(|seed| changed(seed) == changed(seed)));
    }

    #[test]
    fn what_is_put_or_cut_off_next_to_a_sign_stays_in_the_document() {
        let changed: BTreeSet<String> = (0..2_000)
            .filter_map(|seed| {
                other_token("a 1 {\"b\":[1,\"c\"]}\nend", &mut ChaCha8Rng::seed_from_u64(seed))
            })
            .collect();
        assert!(
            changed.iter().all(|text| text.starts_with("a 1 ") && text.ends_with("\nend")),
            "{changed:?}"
        );
        for expected in ["a 1 {\"b\"\nend", "a 1 \"b\":[1,\"c\"]}\nend", "a 1 {\"b\": [1,\"c\"]}\nend"] {
            assert!(changed.contains(expected), "{expected:?}");
        }
    }

    #[test]
    fn every_value_can_be_reached() {
        let document = json!({"a": [1, {"b": 2}], "c": {}});
        let all: Vec<Value> = (0..values_in(&document).len())
            .map(|place| nth(&mut document.clone(), &mut { place }).map(Value::take).unwrap_or_default())
            .collect();
        assert_eq!(all, [document, json!([1, {"b": 2}]), json!(1), json!({"b": 2}), json!(2), json!({})]);
    }

    #[test]
    fn a_document_of_several_lines_and_one_behind_a_separator_are_found() {
        let found: Vec<Value> = documents("POST /v1\n\n{\n \"a\": [\n1]\n}\nid\u{1F}sign\u{1F}[2]")
            .into_iter()
            .map(|(_, document)| document)
            .collect();
        assert_eq!(found, [json!({"a": [1]}), json!([2])]);
    }

    #[test]
    fn what_another_input_holds_is_taken() {
        let is_taken = |seed| text(restructured(b"{\"a\":1}", b"{\"zz\":\"taken\"}", seed)).contains("taken");
        assert!((0..200).any(is_taken));
    }

    #[test]
    fn what_holds_no_document_is_left_to_the_fuzzer() {
        for nothing in [&b""[..], b"plain", b"{cut", b"\xff{}"] {
            assert_eq!(restructured(nothing, b"{}", 1), None, "{nothing:?}");
        }
    }
}
