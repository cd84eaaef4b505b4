//! A shape that is composed of others (`serde(flatten)`) is described as the single object that it is on the wire, so
//! that readers and generators of clients need not combine it themselves.

use serde_json::{Map, Value};
use std::collections::BTreeSet;

const PREFIX: &str = "#/components/schemas/";

/// Replaces each `allOf` of objects by one object, and drops parts that nothing else names.
pub(super) fn flatten(document: &mut Value) {
    let Some(schemas) = document["components"]["schemas"].as_object().cloned() else { return };
    let mut parts = BTreeSet::new();
    let flat: Map<String, Value> = schemas
        .iter()
        .map(|(name, schema)| (name.clone(), one_object(schema, &schemas, &mut parts)))
        .collect();
    document["components"]["schemas"] = Value::Object(flat);
    let text = document.to_string();
    if let Some(schemas) = document["components"]["schemas"].as_object_mut() {
        schemas.retain(|name, _| !parts.contains(name) || text.contains(&format!("\"{PREFIX}{name}\"")));
    }
}

fn one_object(schema: &Value, schemas: &Map<String, Value>, parts: &mut BTreeSet<String>) -> Value {
    let Some(pieces) = schema["allOf"].as_array() else { return schema.clone() };
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for piece in pieces {
        let name = piece["$ref"].as_str().and_then(|reference| reference.strip_prefix(PREFIX));
        let piece = match name {
            Some(name) => {
                parts.insert(name.to_owned());
                schemas.get(name).unwrap_or(&Value::Null)
            }
            None => piece,
        };
        properties.extend(piece["properties"].as_object().cloned().unwrap_or_default());
        required.extend(piece["required"].as_array().cloned().unwrap_or_default());
    }
    let mut object = schema.clone();
    if let Some(object) = object.as_object_mut() {
        object.remove("allOf");
        object.insert("type".to_owned(), "object".into());
        object.insert("properties".to_owned(), Value::Object(properties));
        object.insert("required".to_owned(), Value::Array(required));
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_shape_of_several_is_one_object_and_its_parts_are_gone() {
        let mut document = json!({"components": {"schemas": {
            "Whole": {"description": "both", "allOf": [
                {"$ref": "#/components/schemas/Part"},
                {"type": "object", "properties": {"b": {"type": "string"}}, "required": ["b"]},
            ]},
            "Part": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
            "Other": {"type": "string"},
        }}});
        flatten(&mut document);
        let schemas = &document["components"]["schemas"];
        assert_eq!(schemas["Whole"]["required"], json!(["a", "b"]));
        assert_eq!(schemas["Whole"]["properties"]["a"]["type"], "integer");
        assert_eq!(schemas["Whole"]["description"], "both");
        assert!(schemas["Part"].is_null() && schemas["Other"].is_object());
    }
}
