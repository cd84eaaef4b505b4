//! Parts of the address. A part that cannot be read names nothing that exists.

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use std::ops::Deref;

use crate::problem::{Answer, Problem};
use crate::state::ApiState;

/// The variable parts of an address.
#[derive(Debug)]
pub struct ApiPath<T>(pub(crate) T);

impl<T> Deref for ApiPath<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: DeserializeOwned + Send> FromRequestParts<ApiState> for ApiPath<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Answer<Self> {
        let Path(path) =
            Path::from_request_parts(parts, state).await.map_err(|_| Problem::not_found("thing"))?;
        Ok(Self(path))
    }
}
