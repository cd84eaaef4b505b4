//! What handlers take from a request, with refusals that are problems.

mod body;
mod idempotency;
mod json;
mod numbers;
mod optional;
mod page;
mod path;
mod plain;
mod query;

pub(crate) use body::{media_type_is, origin, read_body, read_unverified};
pub(crate) use idempotency::idempotency_key;
pub(crate) use json::ApiJson;
pub(crate) use json::{ZERO_CODE, ZERO_DETAIL, read_json, read_loosely, refuse_zeros};
pub(crate) use numbers::refuse_inexact;
pub(crate) use optional::OptionalJson;
pub(crate) use page::{List, PageOf, PageOrFile, Wanted};
pub(crate) use path::ApiPath;
pub(crate) use query::ApiQuery;
