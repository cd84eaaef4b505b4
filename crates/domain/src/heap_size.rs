//! How much memory a value takes, about, in bytes. Caches in memory are limited by it.
//!
//! An estimate from the lengths of texts and the numbers of entries, not what an allocator rounds up.

use serde_json::Value;
use smol_str::SmolStr;
use std::collections::BTreeMap;

/// A node of a map has room for this many entries, and is allocated as a whole.
const ENTRIES_PER_NODE: usize = 11;
/// What a node takes beside its entries.
const NODE_BYTES: usize = 16;
/// What a shared text takes beside its letters: the counts of its owners.
const SHARED_BYTES: usize = 16;

/// What a short text takes beside itself.
pub(crate) fn of_text(text: &SmolStr) -> usize {
    if text.is_heap_allocated() { text.len() + SHARED_BYTES } else { 0 }
}

/// [`of_text`] of one that may be missing.
pub(crate) fn of_optional(text: Option<&SmolStr>) -> usize {
    text.map_or(0, of_text)
}

/// What a map takes beside itself.
pub(crate) fn of_map(map: &BTreeMap<SmolStr, String>) -> usize {
    let texts: usize = map.iter().map(|(key, value)| of_text(key) + value.capacity()).sum();
    nodes(map.len(), size_of::<(SmolStr, String)>()) + texts
}

/// What a JSON value takes beside itself.
pub(crate) fn of_json(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.capacity(),
        Value::Array(values) => {
            values.capacity() * size_of::<Value>() + values.iter().map(of_json).sum::<usize>()
        }
        Value::Object(entries) => {
            let texts: usize = entries.iter().map(|(key, value)| key.capacity() + of_json(value)).sum();
            nodes(entries.len(), size_of::<(String, Value)>()) + texts
        }
    }
}

fn nodes(entries: usize, entry_bytes: usize) -> usize {
    entries.div_ceil(ENTRIES_PER_NODE) * (ENTRIES_PER_NODE * entry_bytes + NODE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_stands_in_the_value_itself_takes_nothing_more() {
        assert_eq!(of_text(&"01012345678".into()), 0);
        assert_eq!(of_map(&BTreeMap::new()), 0);
        assert_eq!(of_json(&json!(7)) + of_json(&json!([])) + of_json(&json!({})), 0);
    }

    #[test]
    fn long_texts_and_many_entries_count() {
        assert!(of_text(&"x".repeat(1_000).into()) > 1_000);
        let map = |count: usize| -> BTreeMap<SmolStr, String> {
            (0..count).map(|number| (number.to_string().into(), "v".repeat(100))).collect()
        };
        assert!(of_map(&map(20)) > 20 * 148 && of_map(&map(20)) > of_map(&map(10)));
        let object =
            json!({ "list": ["x".repeat(500), "y".repeat(500)], "key": { "inner": "z".repeat(500) } });
        assert!(of_json(&object) > 1_500);
    }
}
