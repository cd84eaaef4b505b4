//! One endpoint on the page.

use maud::{Markup, html};
use serde_json::Value;
use std::fmt::Write;

use super::{example, prose, schema, text};

const WRITTEN: &str = "writing to a string cannot fail";
/// What every answer is that is no success.
const PROBLEM: &str = "application/problem+json";

/// An operation of the document.
pub(super) struct Operation<'d> {
    document: &'d Value,
    path: &'d str,
    method: &'d str,
    value: &'d Value,
}

impl<'d> Operation<'d> {
    /// All of them, by path.
    pub(super) fn all(document: &'d Value) -> Vec<Self> {
        let paths = document["paths"].as_object().into_iter().flatten();
        paths
            .flat_map(|(path, item)| {
                let methods = item.as_object().into_iter().flatten();
                methods.map(move |(method, value)| Self { document, path, method, value })
            })
            .collect()
    }

    pub(super) fn tag(&self) -> &'d str {
        text(&self.value["tags"][0])
    }

    pub(super) fn id(&self) -> &'d str {
        text(&self.value["operationId"])
    }

    pub(super) fn markup(&self) -> Markup {
        let description = text(&self.value["description"]);
        html! {
            details id=(self.id()) {
                summary {
                    span.method { (self.method.to_uppercase()) } " "
                    code { (self.path) } " "
                    span.soft { (prose(text(&self.value["summary"]))) }
                }
                @if !description.is_empty() {
                    p { (prose(description)) }
                }
                (self.parameters_markup())
                (self.body_markup())
                (self.responses_markup())
                pre { (self.curl()) }
            }
        }
    }

    fn parameters(&self) -> impl Iterator<Item = &'d Value> {
        self.value["parameters"].as_array().into_iter().flatten()
    }

    fn parameters_markup(&self) -> Markup {
        html! {
            @if self.parameters().next().is_some() {
                table {
                    tr { th { "Parameter" } th { "In" } th { "Type" } th { "Meaning" } }
                    @for parameter in self.parameters() {
                        tr {
                            td {
                                code { (text(&parameter["name"])) }
                                @if parameter["required"] != true { " " span.soft { "optional" } }
                            }
                            td { (text(&parameter["in"])) }
                            td { (schema::type_of(&parameter["schema"])) }
                            td { (prose(text(&parameter["description"]))) }
                        }
                    }
                }
            }
        }
    }

    fn body_markup(&self) -> Markup {
        html! {
            @if let Some((media_type, content)) = first(&self.value["requestBody"]["content"]) {
                p { "Body: " code { (media_type) } " " (schema::type_of(&content["schema"])) }
            }
        }
    }

    fn responses_markup(&self) -> Markup {
        html! {
            table {
                tr { th { "Answer" } th { "Body" } th { "Meaning" } }
                @for (status, response) in self.value["responses"].as_object().into_iter().flatten() {
                    @let content = first(&response["content"]);
                    @let is_problem = content.is_some_and(|(media_type, _)| media_type == PROBLEM);
                    tr class=[is_problem.then_some("soft")] {
                        td { (status) }
                        td { @if let Some((_, content)) = content { (schema::type_of(&content["schema"])) } }
                        td { (prose(text(&response["description"]))) }
                    }
                }
            }
        }
    }

    /// Headers that must be there, or those that may.
    fn headers(&self, must: bool) -> impl Iterator<Item = &'d Value> {
        self.parameters().filter(move |one| one["in"] == "header" && (one["required"] == true) == must)
    }

    /// A curl line that works once host and key are put in, and below it the optional parameters.
    fn curl(&self) -> String {
        let mut lines = self.command();
        for header in self.headers(false) {
            write!(lines, "\n# optional: -H '{}: …'", text(&header["name"])).expect(WRITTEN);
        }
        lines
    }

    fn command(&self) -> String {
        let mut line = String::from("curl -sS");
        if self.method != "get" {
            write!(line, " -X {}", self.method.to_uppercase()).expect(WRITTEN);
        }
        let needs_key = match self.value["security"].as_array() {
            Some(security) => !security.iter().any(|one| one.as_object().is_some_and(|one| one.is_empty())),
            None => true,
        };
        if needs_key {
            let name = if self.tag() == "admin" { "$KITE_ADMIN_KEY" } else { "$KITE_KEY" };
            write!(line, " -H \"Authorization: Bearer {name}\"").expect(WRITTEN);
        }
        for header in self.headers(true) {
            write!(line, " \\\n  -H '{}: …'", text(&header["name"])).expect(WRITTEN);
        }
        if let Some((media_type, content)) = first(&self.value["requestBody"]["content"]) {
            write!(line, " \\\n  -H 'Content-Type: {media_type}'").expect(WRITTEN);
            let body = match media_type {
                "application/json" => example::of(self.document, content).to_string().replace('\'', "'\\''"),
                _ => {
                    return format!(
                        "{line} \\\n  --data-binary @contacts.csv \\\n  \"$KITE_URL{}\"",
                        self.address()
                    );
                }
            };
            write!(line, " \\\n  -d '{body}'").expect(WRITTEN);
        }
        format!("{line} \\\n  \"$KITE_URL{}\"", self.address())
    }

    /// The address with the query parameters that must be there.
    fn address(&self) -> String {
        let needed =
            self.parameters().filter(|parameter| parameter["in"] == "query" && parameter["required"] == true);
        let query: Vec<String> = needed
            .map(|parameter| {
                let value = match example::of(self.document, parameter) {
                    Value::String(text) => text,
                    other => other.to_string(),
                };
                format!("{}={value}", text(&parameter["name"]))
            })
            .collect();
        if query.is_empty() { self.path.to_owned() } else { format!("{}?{}", self.path, query.join("&")) }
    }
}

fn first(content: &Value) -> Option<(&str, &Value)> {
    content.as_object()?.iter().next().map(|(media_type, value)| (media_type.as_str(), value))
}
