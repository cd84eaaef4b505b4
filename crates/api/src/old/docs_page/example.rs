//! Examples for bodies and parameters: the one that is written down, or one made of the examples of the fields that must
//! be there.

use serde_json::{Map, Value, json};

/// How deep shapes are followed, so that none that holds itself runs for ever.
const DEPTH_MAX: u32 = 8;

/// An example for something that has a `schema`, and perhaps an `example` of its own.
pub(super) fn of(document: &Value, holder: &Value) -> Value {
    match holder.get("example") {
        Some(example) => example.clone(),
        None => made(document, &holder["schema"], DEPTH_MAX),
    }
}

fn made(document: &Value, schema: &Value, depth: u32) -> Value {
    if let Some(example) = schema.get("example").or_else(|| schema.get("default")) {
        return example.clone();
    }
    if depth == 0 {
        return Value::Null;
    }
    if let Some(name) = schema["$ref"].as_str().and_then(|reference| reference.rsplit('/').next()) {
        return made(document, &document["components"]["schemas"][name], depth - 1);
    }
    if let Some(first) = schema["enum"].as_array().and_then(|values| values.first()) {
        return first.clone();
    }
    for word in ["oneOf", "anyOf", "allOf"] {
        let choices = schema[word].as_array().into_iter().flatten();
        if let Some(choice) = choices.into_iter().find(|choice| choice["type"] != "null") {
            return match choice.get("const") {
                Some(constant) => constant.clone(),
                None => made(document, choice, depth - 1),
            };
        }
    }
    match schema["type"].as_str().or_else(|| schema["type"][0].as_str()) {
        Some("object") => object(document, schema, depth),
        Some("array") => json!([]),
        Some("string") => json!("…"),
        Some("integer" | "number") => json!(1),
        Some("boolean") => json!(false),
        _ => Value::Null,
    }
}

/// The fields that must be there, and those that have an example.
fn object(document: &Value, schema: &Value, depth: u32) -> Value {
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let properties = schema["properties"].as_object().into_iter().flatten();
    let shown = properties
        .filter(|(name, property)| required.contains(&name.as_str()) || property.get("example").is_some());
    Value::Object(
        shown
            .map(|(name, property)| (name.clone(), made(document, property, depth - 1)))
            .collect::<Map<_, _>>(),
    )
}
