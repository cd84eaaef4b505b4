//! What handlers answer with.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use kite_projections::{Cursor, Listing};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::problem::{Answer, Code, Problem};

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
    #[schema(example = "AZfA3gAAcACAAAAAAAAAAQ")]
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// A page of a read model in the form of the API.
    pub(crate) fn of<V>(listing: Listing<V>, word: impl FnMut(V) -> T) -> Self {
        let next = listing.next.map(|cursor| cursor.to_string());
        Self { items: listing.items.into_iter().map(word).collect(), next }
    }
}

/// Which page of a list.
#[derive(Debug, Default, Clone, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Paging {
    /// The `next` of the previous page; none: the first page.
    pub cursor: Option<String>,
    /// How many items at most, 1 to 200.
    #[param(minimum = 1, maximum = 200, default = 50)]
    pub limit: Option<usize>,
}

const PAGE_SIZE: usize = 50;
const PAGE_SIZE_MAX: usize = 200;

impl Paging {
    /// The paging of a query that has other parameters, too.
    pub(crate) fn of(cursor: Option<String>, limit: Option<usize>) -> Self {
        Self { cursor, limit }
    }

    /// A piece of a file.
    pub(crate) fn of_file(cursor: Option<String>) -> Self {
        Self { cursor, limit: Some(PAGE_SIZE_MAX) }
    }

    /// How many.
    pub(crate) fn size(&self) -> Answer<usize> {
        match self.limit.unwrap_or(PAGE_SIZE) {
            size @ 1..=PAGE_SIZE_MAX => Ok(size),
            _ => Err(Problem::new(Code::InvalidParameter, "The parameter limit must be 1 to 200.")),
        }
    }

    /// After what.
    pub(crate) fn after(&self) -> Answer<Option<Cursor>> {
        let Some(text) = &self.cursor else { return Ok(None) };
        text.parse().map(Some).map_err(|_| Problem::new(Code::InvalidCursor, "The cursor cannot be read."))
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

    #[test]
    fn a_page_has_one_to_two_hundred_items() {
        let size = |limit| Paging::of(None, limit).size();
        assert_eq!(size(None), Ok(50));
        assert_eq!(size(Some(200)), Ok(200));
        for limit in [0, 201, usize::MAX] {
            assert_eq!(size(Some(limit)).unwrap_err().code(), Code::InvalidParameter);
        }
    }
}
