//! The HTTP API: routes, problems, keys, OpenAPI, documentation page.
//!
//! One endpoint, one file, in the order types, OpenAPI, handler, tests; [`router`](mod@router) is the map. A handler
//! reads its request into checked values, calls one command or one query, and answers. Whatever goes wrong is a
//! [`problem::Problem`] from one registry.
//!
//! - Writes answer with the position that they ended at, reads may wait for one: read models follow the log a moment
//!   later.
//! - A tenant sees its own things; what belongs to another is answered exactly like what does not exist.
//! - Every size has a bound, and a refusal of its own.
//! - Tenants, operators and relays have memory for bodies of their own, and whoever has shown neither key nor signature yet
//!   has another: nobody can use up what belongs to those who have.
//!
//! Deliberately absent: decisions (they are commands), SQL (it is in the read models), relay clients, TLS (the
//! listener's work), sessions, tasks of its own.

mod access;
mod answer;
mod auth;
mod clients;
mod counters;
mod docs_page;
mod export;
mod extract;
#[doc(hidden)]
pub mod fuzzing;
mod html;
mod middleware;
mod openapi;
mod own_writes;
pub mod problem;
pub mod router;
pub mod routes;
mod state;
pub mod traced;
mod words;

pub use auth::{AdminAuth, Caller, TenantAuth};
pub use clients::{Client, ClientAddress, ClientRules, Clients, ForwardedHeader, Peer, Seldom, Waiting};
pub use counters::counters_markdown;
pub use openapi::openapi_json;
pub use problem::pages::markdown as problems_markdown;
pub use router::{admin_router, public_router, router};
pub use state::{
    AdminKeyHash, AlwaysReady, ApiConfig, ApiParts, ApiState, Readiness, ReadinessCheck, hash_admin_key,
};
