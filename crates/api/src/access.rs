//! Who may call what: one row for each endpoint that requires a key.
//!
//! A tenant's key needs the scope of the row, an operator's key the role or a higher one. If a row names no scope, no
//! tenant may call the endpoint; if it names no role, no operator may. An endpoint without a row requires a key with
//! all permissions.
//!
//! The row of a read also names the read model that it answers from: it waits for what the caller itself wrote before, and for
//! what the header `kite-min-position` asks for ([`freshness`](crate::freshness)).

use axum::http::Method;
use kite_domain::keys::{Role, Scope};
use std::collections::HashMap;
use std::sync::LazyLock;

use crate::freshness::Model;

/// What an endpoint asks of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Access {
    /// Of a tenant's; none: it is not for tenants.
    pub(crate) scope: Option<Scope>,
    /// For an operator's key; none: not for operators.
    pub(crate) role: Option<Role>,
    /// The read model of a read; none: it reads from the log or from the directory, or it is not a read.
    pub(crate) model: Option<Model>,
}

const fn tenant(scope: Scope) -> Access {
    Access { scope: Some(scope), role: None, model: None }
}

const fn operator(role: Role) -> Access {
    Access { scope: None, role: Some(role), model: None }
}

const SEND: Access = tenant(Scope::Send);
const READ: Access = tenant(Scope::Read);
const MANAGE: Access = tenant(Scope::Manage);
/// Everything of an operator's that only shows.
const AUDIT: Access = operator(Role::Auditor);
const OPERATE: Access = operator(Role::Operator);
const ADMINISTER: Access = operator(Role::Administrator);
/// Shows a tenant its own data, and an operator everything.
const BOTH: Access = Access { role: Some(Role::Auditor), ..READ };

const fn from(access: Access, model: Model) -> Access {
    Access { model: Some(model), ..access }
}

const READ_DELIVERY: Access = from(READ, Model::Delivery);
const READ_BOOK: Access = from(READ, Model::AddressBook);
const READ_ROUTING: Access = from(READ, Model::Routing);

/// What an endpoint without a row requires, so that none is open by an oversight.
const UNLISTED: Access = Access { role: Some(Role::Administrator), ..MANAGE };

/// The rows, in the order of the router.
pub(crate) const ROWS: &[(&str, &str, Access)] = &[
    ("POST", "/v1/sendings", SEND),
    ("GET", "/v1/sendings", READ_DELIVERY),
    ("POST", "/v1/sendings/preview", SEND),
    ("GET", "/v1/sendings/{sending}", READ_DELIVERY),
    ("GET", "/v1/sendings/{sending}/messages", READ_DELIVERY),
    ("POST", "/v1/sendings/{sending}/pause", SEND),
    ("POST", "/v1/sendings/{sending}/resume", SEND),
    ("POST", "/v1/sendings/{sending}/cancel", SEND),
    ("GET", "/v1/messages", READ_DELIVERY),
    ("GET", "/v1/messages/{message}", READ_DELIVERY),
    ("GET", "/v1/messages/{message}/events", BOTH),
    ("POST", "/v1/contacts", MANAGE),
    ("GET", "/v1/contacts", READ_BOOK),
    ("POST", "/v1/contacts/import", MANAGE),
    ("GET", "/v1/contacts/export", READ_BOOK),
    ("GET", "/v1/contacts/{contact}", READ_BOOK),
    ("PUT", "/v1/contacts/{contact}", MANAGE),
    ("DELETE", "/v1/contacts/{contact}", MANAGE),
    ("POST", "/v1/groups", MANAGE),
    ("GET", "/v1/groups", READ_BOOK),
    ("GET", "/v1/groups/{group}", READ_BOOK),
    ("PUT", "/v1/groups/{group}", MANAGE),
    ("DELETE", "/v1/groups/{group}", MANAGE),
    ("POST", "/v1/groups/{group}/members", MANAGE),
    ("POST", "/v1/senders", MANAGE),
    ("GET", "/v1/senders", READ),
    ("GET", "/v1/senders/{address}", READ),
    ("DELETE", "/v1/senders/{address}", MANAGE),
    ("POST", "/v1/opt-outs", MANAGE),
    ("POST", "/v1/opt-outs/import", MANAGE),
    ("GET", "/v1/opt-outs", READ_BOOK),
    ("GET", "/v1/opt-outs/{address}", READ_BOOK),
    ("DELETE", "/v1/opt-outs/{address}", MANAGE),
    ("POST", "/v1/templates", MANAGE),
    ("GET", "/v1/templates", READ_BOOK),
    ("GET", "/v1/templates/{template}", READ),
    ("PUT", "/v1/templates/{template}", MANAGE),
    ("DELETE", "/v1/templates/{template}", MANAGE),
    ("GET", "/v1/policies", READ_ROUTING),
    ("GET", "/v1/policies/{channel}", READ_ROUTING),
    ("PUT", "/v1/policies/{channel}", MANAGE),
    ("GET", "/v1/policies/{channel}/versions", READ_ROUTING),
    ("GET", "/v1/routing/recommendation", READ_ROUTING),
    ("GET", "/v1/relays", READ),
    ("GET", "/v1/statistics", from(BOTH, Model::Delivery)),
    ("GET", "/v1/audit/events", BOTH),
    ("GET", "/v1/admin/tenants", AUDIT),
    ("POST", "/v1/admin/tenants", ADMINISTER),
    ("GET", "/v1/admin/tenants/{tenant}", from(AUDIT, Model::AddressBook)),
    ("PUT", "/v1/admin/tenants/{tenant}/limits", OPERATE),
    ("GET", "/v1/admin/sendings", from(AUDIT, Model::Delivery)),
    ("GET", "/v1/admin/tenants/{tenant}/messages", from(AUDIT, Model::Delivery)),
    ("POST", "/v1/admin/tenants/{tenant}/sendings/{sending}/pause", OPERATE),
    ("POST", "/v1/admin/tenants/{tenant}/sendings/{sending}/resume", OPERATE),
    ("POST", "/v1/admin/tenants/{tenant}/sendings/{sending}/cancel", OPERATE),
    ("GET", "/v1/admin/tenants/{tenant}/keys", AUDIT),
    ("POST", "/v1/admin/tenants/{tenant}/keys", ADMINISTER),
    ("DELETE", "/v1/admin/tenants/{tenant}/keys/{key_id}", ADMINISTER),
    ("GET", "/v1/admin/operator-keys", AUDIT),
    ("POST", "/v1/admin/operator-keys", ADMINISTER),
    ("DELETE", "/v1/admin/operator-keys/{key_id}", ADMINISTER),
    ("GET", "/v1/admin/relays", AUDIT),
    ("GET", "/v1/admin/relays/{relay}", AUDIT),
    ("PUT", "/v1/admin/relays/{relay}", OPERATE),
    ("POST", "/v1/admin/relays/{relay}/suspend", OPERATE),
    ("POST", "/v1/admin/relays/{relay}/resume", OPERATE),
    ("POST", "/v1/admin/relays/{relay}/check", OPERATE),
    ("GET", "/v1/admin/relays/{relay}/not-understood", AUDIT),
    ("PUT", "/v1/admin/relays/{relay}/codes/{code}", OPERATE),
    ("DELETE", "/v1/admin/relays/{relay}/codes/{code}", OPERATE),
    ("GET", "/v1/admin/senders", AUDIT),
    ("GET", "/v1/admin/tenants/{tenant}/senders/{address}", AUDIT),
    ("POST", "/v1/admin/tenants/{tenant}/senders/{address}/approve", OPERATE),
    ("POST", "/v1/admin/tenants/{tenant}/senders/{address}/refuse", OPERATE),
    ("POST", "/v1/admin/tenants/{tenant}/senders/{address}/withdraw", OPERATE),
    ("POST", "/v1/admin/secrets/rotate", ADMINISTER),
    ("GET", "/v1/admin/backups", AUDIT),
    ("POST", "/v1/admin/backups", OPERATE),
    ("GET", "/v1/admin/instance", AUDIT),
    ("POST", "/v1/admin/instance/release", ADMINISTER),
];

static BY_ENDPOINT: LazyLock<HashMap<(&str, &str), Access>> =
    LazyLock::new(|| ROWS.iter().map(|(method, path, access)| ((*method, *path), *access)).collect());

/// What the endpoint at this path of the router requires of a key.
pub(crate) fn of(method: &Method, path: &str) -> Access {
    // The router answers HEAD as GET.
    let method = if *method == Method::HEAD { "GET" } else { method.as_str() };
    BY_ENDPOINT.get(&(method, path)).copied().unwrap_or(UNLISTED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openapi::document;
    use serde_json::json;
    use std::collections::BTreeSet;

    #[test]
    fn every_endpoint_that_takes_a_key_has_one_row_and_no_other_has_one() {
        let document = document();
        let mut listed: BTreeSet<(String, String)> = BTreeSet::new();
        for (method, path, _) in ROWS {
            assert!(listed.insert(((*method).to_owned(), (*path).to_owned())), "{method} {path} twice");
        }
        let mut wanted = BTreeSet::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                if !operation["security"].as_array().unwrap().contains(&json!({})) {
                    wanted.insert((method.to_uppercase(), path.clone()));
                }
            }
        }
        let missing: Vec<_> = wanted.difference(&listed).collect();
        let gone: Vec<_> = listed.difference(&wanted).collect();
        assert!(missing.is_empty() && gone.is_empty(), "no row for {missing:?}; no endpoint for {gone:?}");
    }

    #[test]
    fn an_endpoint_without_a_row_is_for_keys_that_may_everything() {
        let access = of(&Method::GET, "/v1/not-listed");
        assert_eq!((access.scope, access.role), (Some(Scope::Manage), Some(Role::Administrator)));
    }

    /// What is read from the log itself, or from what is in memory, is never behind; and nobody's write is ever among what was
    /// not understood of a relay.
    const LISTS_OF_NO_MODEL: [&str; 3] =
        ["/v1/audit/events", "/v1/admin/senders", "/v1/admin/relays/{relay}/not-understood"];

    #[test]
    fn every_list_that_answers_from_a_read_model_says_from_which() {
        let document = document();
        let is_paged = |path: &str| {
            let parameters = document["paths"][path]["get"]["parameters"].as_array();
            parameters.is_some_and(|all| all.iter().any(|one| one["name"] == "cursor"))
        };
        let mut lists = 0;
        for (method, path, access) in ROWS {
            if *method == "GET" && is_paged(path) {
                assert_eq!(access.model.is_none(), LISTS_OF_NO_MODEL.contains(path), "{path}");
                lists += 1;
            }
        }
        assert!(lists > LISTS_OF_NO_MODEL.len());
    }

    #[test]
    fn who_only_looks_changes_nothing() {
        for (method, path, access) in ROWS {
            let is_looking = access.role == Some(Role::Auditor) || access.scope == Some(Scope::Read);
            assert_eq!(is_looking, *method == "GET", "{method} {path}");
        }
    }
}
