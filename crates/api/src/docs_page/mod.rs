//! The documentation page, made from the OpenAPI document: by tag, with parameters, bodies, examples and a ready curl
//! line for each endpoint. It needs nothing from outside and no script, so it works on a machine without a network.

mod example;
mod operation;
mod schema;

use maud::{Markup, html};
use serde_json::Value;

use crate::html;
use crate::openapi::document;
use operation::Operation;

/// The page.
pub(crate) fn page() -> String {
    let document = document();
    let operations = Operation::all(&document);
    let tags = || document["tags"].as_array().into_iter().flatten();
    let body = html! {
        h1 { "Kite API" }
        @for paragraph in text(&document["info"]["description"]).split("\n\n") {
            p { (prose(paragraph)) }
        }
        p {
            @for name in tags().map(|tag| text(&tag["name"])) {
                a href={ "#" (anchor(name)) } { (name) }
                " · "
            }
            a href="#schemas" { "schemas" }
        }
        @for tag in tags() {
            @let name = text(&tag["name"]);
            h2 id=(anchor(name)) { (name) }
            p { (prose(text(&tag["description"]))) }
            @for operation in operations.iter().filter(|operation| operation.tag() == name) {
                (operation.markup())
            }
        }
        (schema::all(&document))
    };
    html::page("API", &body).into_string()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn anchor(name: &str) -> String {
    name.replace(' ', "-")
}

/// Text in which what stands between backticks is code.
fn prose(text: &str) -> Markup {
    html! {
        @for (place, part) in text.split('`').enumerate() {
            @if place % 2 == 0 { (part) } @else { code { (part) } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_endpoint_is_on_the_page_with_its_curl_line() {
        let page = page();
        for operation in Operation::all(&document()) {
            assert!(page.contains(&format!("id=\"{}\"", operation.id())), "{}", operation.id());
        }
        let lines = page.matches("curl -sS").count();
        assert_eq!(lines, Operation::all(&document()).len());
        assert!(!page.contains("<script") && !page.contains("src="), "nothing is loaded");
    }

    #[test]
    fn every_reference_leads_to_a_schema_on_the_page() {
        let page = page();
        for link in page.split("href=\"#").skip(1) {
            let target = link.split('"').next().unwrap();
            assert!(page.contains(&format!("id=\"{target}\"")), "{target}");
        }
    }

    #[test]
    fn backticks_are_code() {
        assert_eq!(prose("a `b<c` d").into_string(), "a <code>b&lt;c</code> d");
    }
}
