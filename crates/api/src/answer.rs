//! What handlers answer with.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::Serialize;
use utoipa::ToSchema;

/// The position in the log that a write ended at: send it as `kite-min-position` to read what was written.
pub(crate) const POSITION: &str = "kite-position";

/// Characters with a meaning in an address, or that are not allowed in one, beside all characters that are not ASCII.
const NOT_IN_A_SEGMENT: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'/')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// A text as one part of an address (RFC 3986): an e-mail address may contain `/`, `#`, `?` and letters of any
/// script.
pub(crate) fn segment(text: &str) -> String {
    utf8_percent_encode(text, NOT_IN_A_SEGMENT).to_string()
}

/// The answer to a write that is durable.
#[derive(Debug)]
pub struct Written<T> {
    status: StatusCode,
    position: u64,
    location: Option<String>,
    body: Option<T>,
}

impl<T: Serialize> Written<T> {
    /// Something new, which is now at `location`.
    pub(crate) fn created(position: u64, location: String, body: T) -> Self {
        Self { status: StatusCode::CREATED, position, location: Some(location), body: Some(body) }
    }

    /// Something changed.
    pub(crate) fn changed(position: u64, body: T) -> Self {
        Self { status: StatusCode::OK, position, location: None, body: Some(body) }
    }

    /// Something accepted that continues from here.
    pub(crate) fn accepted(position: u64, location: String, body: T) -> Self {
        Self { status: StatusCode::ACCEPTED, position, location: Some(location), body: Some(body) }
    }
}

impl Written<()> {
    /// Done, and there is nothing to say about it.
    pub(crate) fn done(position: u64) -> Self {
        Self { status: StatusCode::NO_CONTENT, position, location: None, body: None }
    }
}

impl<T: Serialize> IntoResponse for Written<T> {
    fn into_response(self) -> Response {
        let mut response = match self.body {
            Some(body) => (self.status, axum::Json(body)).into_response(),
            None => self.status.into_response(),
        };
        let headers = response.headers_mut();
        // What changed nothing may have no position.
        if self.position > 0 {
            headers.insert(POSITION, HeaderValue::from(self.position));
        }
        if let Some(location) = self.location.and_then(|location| HeaderValue::try_from(location).ok()) {
            headers.insert(header::LOCATION, location);
        }
        response
    }
}

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T> {
    /// A part of the list; it may be short, even empty, although there is more.
    pub items: Vec<T>,
    /// Send it as `cursor` for the next page; none: this was the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "contacts.0197c0de000070008000000000000001")]
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// The same page of other items.
    pub(crate) fn map<U>(self, word: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(word).collect(), next: self.next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_address_is_one_part_of_an_address() {
        assert_eq!(segment("+14155552671"), "+14155552671");
        assert_eq!(segment("kim.lee+tag@example.com"), "kim.lee+tag@example.com");
        assert_eq!(segment("a/b#c?d%e@예.kr"), "a%2Fb%23c%3Fd%25e@%EC%98%88.kr");
    }
}
