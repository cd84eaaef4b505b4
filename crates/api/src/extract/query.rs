//! Query parameters: unknown ones are refused, as unknown fields are.

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use crate::problem::{Answer, Code, Problem};
use crate::state::ApiState;

/// The query of a request.
#[derive(Debug)]
pub struct ApiQuery<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<ApiState> for ApiQuery<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &ApiState) -> Answer<Self> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(query)) => Ok(Self(query)),
            Err(rejection) => {
                Err(Problem::new(Code::InvalidParameter, format!("{}.", rejection.body_text())))
            }
        }
    }
}
