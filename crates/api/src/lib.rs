//! The HTTP API: routes, problems, keys, OpenAPI, documentation page.
//!
//! One endpoint per file, in the order types, OpenAPI, handler, tests; [`router`](mod@router) is the map. A handler
//! reads its request into checked values, calls one command or one query, and answers. Every error is a
//! [`problem::Problem`] from one registry.
//!
//! - Writes answer with the position that they ended at, and reads may wait for one, because read models follow the
//!   log a moment later.
//! - A tenant sees its own data; what belongs to another is answered exactly like what does not exist.
//! - Every size has a limit, and a refusal of its own.
//! - Tenants, operators and relays have separate memory for bodies, and so have callers that have shown neither key
//!   nor signature yet: nobody can use up another's.
//!
//! Deliberately absent: decisions (they are commands), SQL (it is in the read models), relay clients, TLS (the
//! listener does it), sessions, tasks of its own.

mod access;
mod answer;
mod auth;
mod budget;
mod clients;
mod config;
mod counters;
mod docs_page;
mod export;
mod extract;
mod files_under_way;
mod freshness;
#[doc(hidden)]
pub mod fuzzing;
mod html;
mod middleware;
mod openapi;
mod own_writes;
pub mod problem;
pub mod router;
pub mod routes;
mod seen_calls;
mod state;
pub mod traced;
pub mod vocabulary;

pub use auth::{AdminAuth, Caller, TenantAuth};
pub use clients::{Client, ClientAddress, ClientRules, Clients, ForwardedHeader, Peer, Seldom, Waiting};
pub use config::{AdminKeyHash, ApiConfig, hash_admin_key};
pub use counters::counters_markdown;
pub use openapi::openapi_json;
pub use router::{admin_router, public_router, router};
pub use routes::service::problems::markdown as problems_markdown;
pub use state::{AlwaysReady, ApiParts, ApiState, Readiness, ReadinessCheck};
