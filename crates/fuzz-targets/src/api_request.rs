//! Whole requests to the whole API, in memory: methods, addresses with their ids, queries with their cursors,
//! headers, bodies.
//!
//! An input is the request as text: `GET /v1/…`, header lines, an empty line, the body. `tenant-key` stands for the
//! tenant's real key, `sign` as a signature for the genuine one, and `the-contact`, `the-sending` … for existing ids.

use axum::body::Body;
use axum::http::{Method, Request};
use serde_json::Value;
use standardwebhooks::Webhook;
use std::cell::RefCell;
use std::sync::LazyLock;

use crate::document::Document;
use crate::house::{House, RECEIPT_SECRET, Reply};
use crate::input;
use kite_commands::event_store::EventStore;

thread_local! {
    static HOUSE: RefCell<Option<House>> = const { RefCell::new(None) };
}

static DOCUMENT: LazyLock<Document> = LazyLock::new(Document::read);

/// Sends a request. The answer is not a defect, has the form of every answer and a status that the document names,
/// and refused requests and queries leave no trace in the log.
pub fn api_request(bytes: &[u8]) {
    let given = input::text(bytes);
    HOUSE.with_borrow_mut(|kept| {
        let house = kept.get_or_insert_with(House::new);
        let text = house.names.iter().fold(given.into_owned(), |text, (name, id)| text.replace(name, id));
        let Some(request) = read(&text, &house.tenant_key) else { return };
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let before = *house.store.head().borrow();
        let reply = house.answer(request);
        check(&method, &reply);
        if let Some(named) = DOCUMENT.statuses(&method, &path) {
            assert!(
                named.contains(&reply.status.as_u16()),
                "{method} {path} is not said to answer {reply:?}"
            );
        }
        let is_written = *house.store.head().borrow() != before;
        // A genuine relay's receipts are the exception: what is not understood is kept, beside the good ones of its call.
        let is_of_relay = path.starts_with("/v1/relays/") && path.ends_with("/receipts");
        let may_write =
            reply.status.is_success() || is_of_relay && matches!(reply.status.as_u16(), 400 | 422);
        assert!(!is_written || (!method.is_safe() && may_write), "half done: {reply:?}");
        if is_written {
            // What was written must not change the answer to the next input.
            *kept = None;
        } else if method == Method::GET {
            let again = read(&text, &house.tenant_key).expect("it was read before");
            assert_eq!(house.answer(again), reply, "the same question at the same time");
        }
    });
}

fn read(text: &str, tenant_key: &str) -> Option<Request<Body>> {
    let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
    let mut lines = head.lines();
    let (method, uri) = lines.next()?.split_once(' ')?;
    let mut request = Request::builder().method(method).uri(uri).header("content-length", body.len());
    let headers: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once(": ")).collect();
    let header = |name: &str| headers.iter().find(|(given, _)| *given == name).map(|(_, value)| *value);
    for (name, value) in &headers {
        request = match (*name, *value) {
            ("authorization", _) => request.header("authorization", value.replace("tenant-key", tenant_key)),
            ("webhook-signature", "sign") => {
                let id = header("webhook-id").unwrap_or_default();
                let timestamp = header("webhook-timestamp").and_then(|text| text.parse().ok()).unwrap_or(0);
                let webhook = Webhook::new(RECEIPT_SECRET).ok()?;
                request.header("webhook-signature", webhook.sign(id, timestamp, body.as_bytes()).ok()?)
            }
            ("content-length", _) => request,
            (name, value) => request.header(name, value),
        };
    }
    request.body(Body::from(body.to_owned())).ok()
}

fn check(method: &Method, reply: &Reply) {
    let content_type =
        reply.headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if reply.status.is_success() {
        if content_type.starts_with("application/json") && method != Method::HEAD {
            let body: Result<Value, _> = serde_json::from_slice(&reply.body);
            assert!(body.is_ok(), "no JSON: {reply:?}");
        }
        return;
    }
    if reply.status.is_redirection() {
        return;
    }
    assert_eq!(content_type, "application/problem+json", "{reply:?}");
    // 503: a read waits for a position that is not there yet.
    assert!(!reply.status.is_server_error() || reply.status.as_u16() == 503, "{reply:?}");
    if method != Method::HEAD {
        let problem: Value = serde_json::from_slice(&reply.body).expect("a problem is JSON");
        assert_eq!(problem["status"], reply.status.as_u16());
        assert_eq!(
            problem["type"].as_str(),
            problem["code"].as_str().map(|code| format!("/problems/{code}")).as_deref()
        );
    }
}
