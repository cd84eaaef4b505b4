//! One endpoint on the page.

use serde_json::Value;
use std::fmt::Write;

use super::{WRITTEN, example, prose, schema, text};
use crate::old::html::Escaped;

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

    pub(super) fn write(&self, page: &mut String) {
        write!(
            page,
            "<details id=\"{}\"><summary><span class=\"method\">{}</span> <code>{}</code> <span class=\"soft\">{}</span></summary>",
            self.id(),
            self.method.to_uppercase(),
            Escaped(self.path),
            prose(text(&self.value["summary"])),
        )
        .expect(WRITTEN);
        let description = text(&self.value["description"]);
        if !description.is_empty() {
            write!(page, "<p>{}</p>", prose(description)).expect(WRITTEN);
        }
        self.write_parameters(page);
        self.write_body(page);
        self.write_responses(page);
        write!(page, "<pre>{}</pre></details>", Escaped(&self.curl())).expect(WRITTEN);
    }

    fn parameters(&self) -> impl Iterator<Item = &'d Value> {
        self.value["parameters"].as_array().into_iter().flatten()
    }

    fn write_parameters(&self, page: &mut String) {
        if self.parameters().next().is_none() {
            return;
        }
        page.push_str("<table><tr><th>Parameter</th><th>In</th><th>Type</th><th>Meaning</th></tr>");
        for parameter in self.parameters() {
            let required =
                if parameter["required"] == true { "" } else { " <span class=\"soft\">optional</span>" };
            write!(
                page,
                "<tr><td><code>{}</code>{required}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                Escaped(text(&parameter["name"])),
                Escaped(text(&parameter["in"])),
                schema::type_of(&parameter["schema"]),
                prose(text(&parameter["description"])),
            )
            .expect(WRITTEN);
        }
        page.push_str("</table>");
    }

    fn write_body(&self, page: &mut String) {
        let Some((media_type, content)) = first(&self.value["requestBody"]["content"]) else { return };
        write!(
            page,
            "<p>Body: <code>{}</code> {}</p>",
            Escaped(media_type),
            schema::type_of(&content["schema"])
        )
        .expect(WRITTEN);
    }

    fn write_responses(&self, page: &mut String) {
        page.push_str("<table><tr><th>Answer</th><th>Body</th><th>Meaning</th></tr>");
        for (status, response) in self.value["responses"].as_object().into_iter().flatten() {
            let content = first(&response["content"]);
            let is_problem = content.is_some_and(|(media_type, _)| media_type == "application/problem+json");
            let body = content.map(|(_, content)| schema::type_of(&content["schema"])).unwrap_or_default();
            write!(
                page,
                "<tr{}><td>{}</td><td>{body}</td><td>{}</td></tr>",
                if is_problem { " class=\"soft\"" } else { "" },
                Escaped(status),
                prose(text(&response["description"])),
            )
            .expect(WRITTEN);
        }
        page.push_str("</table>");
    }

    /// Headers that must be there, or those that may.
    fn headers(&self, must: bool) -> impl Iterator<Item = &'d Value> {
        self.parameters().filter(move |one| one["in"] == "header" && (one["required"] == true) == must)
    }

    /// A line that works once host and key are put in, and below it what it may have besides.
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
