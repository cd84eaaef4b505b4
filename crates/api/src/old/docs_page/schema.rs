//! The shapes of bodies on the page.

use serde_json::Value;
use std::fmt::Write;

use super::{WRITTEN, prose, text};
use crate::old::html::Escaped;

const PREFIX: &str = "#/components/schemas/";

/// A shape in a few words, with a link where it has a name.
pub(super) fn type_of(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix(PREFIX)) {
        return format!("<a href=\"#schema-{name}\">{}</a>", Escaped(name));
    }
    for word in ["oneOf", "anyOf", "allOf"] {
        if let Some(choices) = schema[word].as_array() {
            let choices: Vec<String> =
                choices.iter().filter(|choice| choice["type"] != "null").map(type_of).collect();
            return choices.join(" or ");
        }
    }
    if let Some(values) = schema["enum"].as_array() {
        let words: Vec<String> = values
            .iter()
            .filter_map(Value::as_str)
            .map(|word| format!("<code>{}</code>", Escaped(word)))
            .collect();
        return words.join(", ");
    }
    match &schema["type"] {
        Value::Array(types) => {
            let types: Vec<&str> =
                types.iter().filter_map(Value::as_str).filter(|name| *name != "null").collect();
            types.iter().map(|name| named(name, schema)).collect::<Vec<_>>().join(" or ")
        }
        Value::String(name) => named(name, schema),
        _ => "any".to_owned(),
    }
}

fn named(name: &str, schema: &Value) -> String {
    match name {
        "array" => format!("list of {}", type_of(&schema["items"])),
        "object" if schema["additionalProperties"].is_object() => {
            format!("map of {}", type_of(&schema["additionalProperties"]))
        }
        "string" if schema["format"] == "date-time" => "time (RFC 3339)".to_owned(),
        other => Escaped(other).to_string(),
    }
}

/// All shapes that have a name.
pub(super) fn write_all(page: &mut String, document: &Value) {
    page.push_str("<h2 id=\"schemas\">Schemas</h2>");
    for (name, schema) in document["components"]["schemas"].as_object().into_iter().flatten() {
        write!(
            page,
            "<details id=\"schema-{name}\"><summary><code>{name}</code> <span class=\"soft\">{}</span></summary>",
            prose(text(&schema["description"])),
        )
        .expect(WRITTEN);
        write_fields(page, schema);
        page.push_str("</details>");
    }
}

fn write_fields(page: &mut String, schema: &Value) {
    if let Some(choices) = schema["oneOf"].as_array() {
        choices.iter().for_each(|choice| write_fields(page, choice));
        return;
    }
    let Some(properties) = schema["properties"].as_object() else {
        write!(page, "<p>{}</p>", type_of(schema)).expect(WRITTEN);
        return;
    };
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    page.push_str("<table><tr><th>Field</th><th>Type</th><th>Meaning</th></tr>");
    for (name, property) in properties {
        let optional =
            if required.contains(&name.as_str()) { "" } else { " <span class=\"soft\">optional</span>" };
        write!(
            page,
            "<tr><td><code>{}</code>{optional}</td><td>{}</td><td>{}</td></tr>",
            Escaped(name),
            type_of(property),
            prose(text(&property["description"])),
        )
        .expect(WRITTEN);
    }
    page.push_str("</table>");
}
