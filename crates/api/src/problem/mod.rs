//! Errors, as RFC 9457 problem documents from one registry.
//!
//! A problem never reveals anything about another tenant: what belongs to another is [`Code::NotFound`] in exactly
//! the words of what does not exist.

mod convert;
mod registry;

pub use registry::{Code, ProblemKind};

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

/// What is wrong in one place of a request: a field, or a field of a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// The row of a list of recipients or of a CSV file, counted as the request counts: recipients from 0 in the order of
    /// the request, CSV rows from 2 (the header is row 1), receipts
    /// from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 17)]
    pub row: Option<u32>,
    /// The path of the field.
    #[schema(example = "to")]
    pub field: String,
    /// A stable word for programs.
    #[schema(example = "too_short")]
    pub code: String,
    /// A sentence for people.
    #[schema(example = "the number has 5 digits; it needs at least 8")]
    pub detail: String,
}

impl FieldError {
    /// An error of a field that is in no row.
    pub fn new(field: impl Into<String>, code: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { row: None, field: field.into(), code: code.into(), detail: detail.into() }
    }

    /// The same in a row.
    #[must_use]
    pub fn in_row(mut self, row: u32) -> Self {
        self.row = Some(row);
        self
    }
}

/// An answer that is no success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    code: Code,
    detail: String,
    errors: Vec<FieldError>,
    retry_after_s: Option<u32>,
}

/// A problem as it is on the wire.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemDocument<'p> {
    /// Where the problem is explained.
    #[serde(rename = "type")]
    #[schema(example = "/problems/request-refused")]
    pub kind: String,
    /// The problem in a few words, the same every time.
    pub title: &'p str,
    /// The HTTP status.
    #[schema(example = 422)]
    pub status: u16,
    /// The stable code, the last part of `type`.
    pub code: &'p str,
    /// What is wrong this time.
    pub detail: &'p str,
    /// Where exactly, as far as it can be said.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub errors: &'p [FieldError],
}

impl Problem {
    /// A problem, with what is wrong this time.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), errors: Vec::new(), retry_after_s: code.kind().retry_after_s }
    }

    /// Nothing has this name, or it belongs to another.
    pub fn not_found(what: &str) -> Self {
        Self::new(Code::NotFound, format!("There is no such {what}."))
    }

    /// Says where.
    #[must_use]
    pub fn at(mut self, error: FieldError) -> Self {
        self.errors.push(error);
        self
    }

    /// Says where, in several places.
    #[must_use]
    pub fn with_errors(mut self, errors: Vec<FieldError>) -> Self {
        self.errors.extend(errors);
        self
    }

    /// Replaces the place of the first error: the row and field as the caller wrote them.
    #[must_use]
    pub(crate) fn in_field(mut self, field: Option<String>) -> Self {
        if let (Some(error), Some(field)) = (self.errors.first_mut(), field) {
            error.field = field;
        }
        self
    }

    /// When to come back.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds.max(1));
        self
    }

    /// Which problem it is.
    pub fn code(&self) -> Code {
        self.code
    }

    /// What is wrong this time.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// Where, as far as it can be said.
    pub fn errors(&self) -> &[FieldError] {
        &self.errors
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let kind = self.code.kind();
        let document = ProblemDocument {
            kind: format!("/problems/{}", kind.code),
            title: kind.title,
            status: kind.status,
            code: kind.code,
            detail: &self.detail,
            errors: &self.errors,
        };
        let body = serde_json::to_vec(&document).expect("a problem holds only strings and numbers");
        let status = StatusCode::from_u16(kind.status).expect("the registry holds valid statuses");
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if kind.status == 401 {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// What a handler answers.
pub type Answer<T> = Result<T, Problem>;
