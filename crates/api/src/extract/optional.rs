//! JSON bodies that may be left out.

use axum::body::Body;
use axum::extract::FromRequest;
use axum::http::Request;
use serde::de::DeserializeOwned;

use super::body::{media_type_is, read_body};
use super::json::read_json;
use crate::problem::{Answer, Code, Problem};
use crate::state::ApiState;

/// A JSON body, or what stands for none.
#[derive(Debug)]
pub struct OptionalJson<T>(pub(crate) T);

impl<T: DeserializeOwned + Default> FromRequest<ApiState> for OptionalJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request<Body>, state: &ApiState) -> Answer<Self> {
        let is_json = media_type_is(request.headers(), "application/json");
        let body = read_body(state, request, state.config.body_bytes_max).await?;
        match (body.bytes.is_empty(), is_json) {
            (true, _) => Ok(Self(T::default())),
            (false, true) => read_json(&body.bytes).map(Self),
            (false, false) => {
                Err(Problem::new(Code::UnsupportedMediaType, "The body must be application/json."))
            }
        }
    }
}
