//! The shapes of bodies on the page.

use maud::{Markup, html};
use serde_json::Value;

use super::{prose, text};

const PREFIX: &str = "#/components/schemas/";

/// A shape in a few words, with a link where it has a name.
pub(super) fn type_of(schema: &Value) -> Markup {
    if let Some(name) = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix(PREFIX)) {
        return html! { a href={ "#schema-" (name) } { (name) } };
    }
    for word in ["oneOf", "anyOf", "allOf"] {
        if let Some(choices) = schema[word].as_array() {
            return joined(choices.iter().filter(|choice| choice["type"] != "null").map(type_of), " or ");
        }
    }
    if let Some(values) = schema["enum"].as_array() {
        return joined(values.iter().filter_map(Value::as_str).map(|word| html! { code { (word) } }), ", ");
    }
    match &schema["type"] {
        Value::Array(types) => {
            let names = types.iter().filter_map(Value::as_str).filter(|name| *name != "null");
            joined(names.map(|name| named(name, schema)), " or ")
        }
        Value::String(name) => named(name, schema),
        _ => html! { "any" },
    }
}

fn joined(parts: impl Iterator<Item = Markup>, between: &str) -> Markup {
    html! {
        @for (place, part) in parts.enumerate() {
            @if place > 0 { (between) }
            (part)
        }
    }
}

fn named(name: &str, schema: &Value) -> Markup {
    match name {
        "array" => html! { "list of " (type_of(&schema["items"])) },
        "object" if schema["additionalProperties"].is_object() => {
            html! { "map of " (type_of(&schema["additionalProperties"])) }
        }
        "string" if schema["format"] == "date-time" => html! { "time (RFC 3339)" },
        other => html! { (other) },
    }
}

/// All shapes that have a name.
pub(super) fn all(document: &Value) -> Markup {
    html! {
        h2 id="schemas" { "Schemas" }
        @for (name, schema) in document["components"]["schemas"].as_object().into_iter().flatten() {
            details id={ "schema-" (name) } {
                summary { code { (name) } " " span.soft { (prose(text(&schema["description"]))) } }
                (fields(schema))
            }
        }
    }
}

fn fields(schema: &Value) -> Markup {
    if let Some(choices) = schema["oneOf"].as_array() {
        return joined(choices.iter().map(fields), "");
    }
    let Some(properties) = schema["properties"].as_object() else {
        return html! { p { (type_of(schema)) } };
    };
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    html! {
        table {
            tr { th { "Field" } th { "Type" } th { "Meaning" } }
            @for (name, property) in properties {
                tr {
                    td {
                        code { (name) }
                        @if !required.contains(&name.as_str()) { " " span.soft { "optional" } }
                    }
                    td { (type_of(property)) }
                    td { (prose(text(&property["description"]))) }
                }
            }
        }
    }
}
