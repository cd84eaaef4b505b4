//! Which answers contain ids that other operations ask for, so that programs (and people) can continue with them.

use serde_json::{Value, json};

/// An answer, and the operations to which its content may be given.
struct Link {
    from: &'static str,
    status: &'static str,
    /// Where in the answer, and under which name the others take it.
    value: &'static str,
    parameter: &'static str,
    to: &'static [&'static str],
}

const LINKS: [Link; 6] = [
    Link {
        from: "create_sending",
        status: "202",
        value: "$response.body#/id",
        parameter: "sending",
        to: &["get_sending", "list_sending_messages", "pause_sending", "resume_sending", "cancel_sending"],
    },
    Link {
        from: "list_sendings",
        status: "200",
        value: "$response.body#/items/0/id",
        parameter: "sending",
        to: &["get_sending", "list_sending_messages", "pause_sending", "resume_sending", "cancel_sending"],
    },
    Link {
        from: "list_sending_messages",
        status: "200",
        value: "$response.body#/items/0/id",
        parameter: "message",
        to: &["get_message", "list_message_events"],
    },
    Link {
        from: "search_messages",
        status: "200",
        value: "$response.body#/items/0/id",
        parameter: "message",
        to: &["get_message", "list_message_events"],
    },
    Link {
        from: "create_contact",
        status: "201",
        value: "$response.body#/id",
        parameter: "contact",
        to: &["get_contact", "update_contact", "delete_contact"],
    },
    Link {
        from: "create_group",
        status: "201",
        value: "$response.body#/id",
        parameter: "group",
        to: &["get_group", "rename_group", "change_members", "delete_group"],
    },
];

/// Puts the links into the answers.
pub(super) fn add(document: &mut Value) {
    let paths = document["paths"].as_object_mut().into_iter().flat_map(|paths| paths.values_mut());
    for operation in
        paths.flat_map(|item| item.as_object_mut().into_iter().flat_map(|methods| methods.values_mut()))
    {
        let id = operation["operationId"].as_str().unwrap_or_default().to_owned();
        for link in LINKS.iter().filter(|link| link.from == id) {
            for target in link.to {
                operation["responses"][link.status]["links"][*target] =
                    json!({"operationId": target, "parameters": {link.parameter: link.value}});
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openapi::document;
    use std::collections::BTreeMap;

    #[test]
    fn a_link_leads_from_an_answer_that_there_is_to_an_operation_that_takes_it() {
        let document = document();
        let operations: BTreeMap<&str, &Value> = document["paths"]
            .as_object()
            .unwrap()
            .values()
            .flat_map(|item| item.as_object().unwrap().values())
            .map(|operation| (operation["operationId"].as_str().unwrap(), operation))
            .collect();
        for link in &LINKS {
            let answer = &operations[link.from]["responses"][link.status];
            assert!(answer["description"].is_string(), "{} does not answer {}", link.from, link.status);
            for target in link.to {
                let parameters = operations[target]["parameters"].as_array().unwrap();
                assert!(parameters.iter().any(|parameter| parameter["name"] == link.parameter), "{target}");
                assert!(answer["links"][target].is_object());
            }
        }
    }
}
