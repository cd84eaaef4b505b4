//! The answers of an operation by docs/openapi.json.

use axum::http::Method;
use serde_json::Value;
use std::collections::BTreeSet;

/// The document, as far as it names operations and statuses.
pub(crate) struct Document {
    paths: Vec<Path>,
}

struct Path {
    segments: Vec<String>,
    operations: Vec<(String, BTreeSet<u16>)>,
}

impl Document {
    /// The document that the API gives out.
    pub(crate) fn read() -> Self {
        let document: Value = serde_json::from_str(&kite_api::openapi_json()).expect("the document is JSON");
        let paths = document["paths"].as_object().expect("the document has paths");
        let mut paths: Vec<Path> = paths.iter().map(|(path, item)| Path::read(path, item)).collect();
        // Words are looked for before variables.
        paths.sort_by_key(|path| path.segments.iter().filter(|segment| is_variable(segment)).count());
        Self { paths }
    }

    /// The statuses that an operation may answer with; nothing if there is no such operation.
    pub(crate) fn statuses(&self, method: &Method, path: &str) -> Option<&BTreeSet<u16>> {
        let given: Vec<&str> = path.split('/').collect();
        let path = self.paths.iter().find(|path| path.fits(&given))?;
        let operation = path.operations.iter().find(|(name, _)| name == method.as_str());
        operation.map(|(_, statuses)| statuses)
    }
}

impl Path {
    fn read(path: &str, item: &Value) -> Self {
        let operations = item.as_object().into_iter().flatten().filter_map(|(method, operation)| {
            let responses = operation["responses"].as_object()?;
            Some((method.to_uppercase(), responses.keys().filter_map(|status| status.parse().ok()).collect()))
        });
        Self { segments: path.split('/').map(str::to_owned).collect(), operations: operations.collect() }
    }

    fn fits(&self, given: &[&str]) -> bool {
        let fits = |(segment, given): (&String, &&str)| {
            if is_variable(segment) { !given.is_empty() } else { segment == given }
        };
        self.segments.len() == given.len() && self.segments.iter().zip(given).all(fits)
    }
}

fn is_variable(segment: &str) -> bool {
    segment.starts_with('{')
}
