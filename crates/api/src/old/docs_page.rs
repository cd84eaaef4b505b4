//! The documentation page, made from the OpenAPI document: by tag, with parameters, bodies, examples and a ready curl
//! line for each endpoint. It needs nothing from outside and no script, so it works on a machine without a network.

mod example;
mod operation;
mod schema;

use serde_json::Value;
use std::fmt::Write;

use crate::old::html::{self, Escaped};
use crate::openapi::document;
use operation::Operation;

const WRITTEN: &str = "writing to a string cannot fail";

/// The page.
pub(crate) fn page() -> String {
    let document = document();
    let operations = Operation::all(&document);
    let mut body = String::from("<h1>Kite API</h1>");
    for paragraph in text(&document["info"]["description"]).split("\n\n") {
        write!(body, "<p>{}</p>", prose(paragraph)).expect(WRITTEN);
    }
    body.push_str("<p>");
    for tag in document["tags"].as_array().into_iter().flatten() {
        let name = text(&tag["name"]);
        write!(body, "<a href=\"#{}\">{}</a> · ", anchor(name), Escaped(name)).expect(WRITTEN);
    }
    body.push_str("<a href=\"#schemas\">schemas</a></p>");
    for tag in document["tags"].as_array().into_iter().flatten() {
        let name = text(&tag["name"]);
        write!(
            body,
            "<h2 id=\"{}\">{}</h2><p>{}</p>",
            anchor(name),
            Escaped(name),
            prose(text(&tag["description"]))
        )
        .expect(WRITTEN);
        operations
            .iter()
            .filter(|operation| operation.tag() == name)
            .for_each(|operation| operation.write(&mut body));
    }
    schema::write_all(&mut body, &document);
    html::page("API", &body)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn anchor(name: &str) -> String {
    name.replace(' ', "-")
}

/// Escaped text in which what stands between backticks is code.
fn prose(text: &str) -> String {
    let mut html = String::with_capacity(text.len() + 16);
    for (place, part) in text.split('`').enumerate() {
        match place % 2 {
            0 => write!(html, "{}", Escaped(part)).expect(WRITTEN),
            _ => write!(html, "<code>{}</code>", Escaped(part)).expect(WRITTEN),
        }
    }
    html
}
