//! The map: every address of the API, on one screen.

use axum::middleware::{from_fn, from_fn_with_state};
use axum::{Extension, Router};
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::auth::Side;
use crate::middleware::{admit, measure, method_not_allowed, no_such_endpoint, panicked, protect, traced};
use crate::routes::{
    admin, audit, contacts, groups, messages, opt_outs, policies, receipts, relays, routing, senders,
    sendings, service, statistics, templates,
};
use crate::state::ApiState;

/// All endpoints with their descriptions.
pub(crate) fn endpoints() -> OpenApiRouter<ApiState> {
    for_tenants().merge(for_both()).merge(for_operators()).merge(service())
}

/// What tenants and relays call.
fn for_tenants() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(sendings::create::handler, sendings::list::handler))
        .routes(routes!(sendings::preview::handler))
        .routes(routes!(sendings::get::handler))
        .routes(routes!(sendings::messages::handler))
        .routes(routes!(sendings::pause::pause))
        .routes(routes!(sendings::pause::resume))
        .routes(routes!(sendings::cancel::handler))
        .routes(routes!(messages::search::handler))
        .routes(routes!(messages::get::handler))
        .routes(routes!(messages::events::handler))
        .routes(routes!(contacts::create::handler, contacts::list::handler))
        .routes(routes!(contacts::import::handler))
        .routes(routes!(contacts::export::handler))
        .routes(routes!(contacts::get::handler, contacts::update::handler, contacts::delete::handler))
        .routes(routes!(groups::create::handler, groups::list::handler))
        .routes(routes!(groups::get::handler, groups::rename::handler, groups::delete::handler))
        .routes(routes!(groups::members::handler))
        .routes(routes!(senders::request::handler, senders::list::handler))
        .routes(routes!(senders::get::handler, senders::withdraw::handler))
        .routes(routes!(opt_outs::record::handler, opt_outs::list::handler))
        .routes(routes!(opt_outs::import::handler))
        .routes(routes!(opt_outs::get::handler, opt_outs::withdraw::handler))
        .routes(routes!(templates::create::handler, templates::list::handler))
        .routes(routes!(templates::get::handler, templates::update::handler, templates::delete::handler))
        .routes(routes!(policies::list::handler))
        .routes(routes!(policies::get::handler, policies::define::handler))
        .routes(routes!(policies::versions::handler))
        .routes(routes!(routing::recommendation))
        .routes(routes!(relays::list))
        .routes(routes!(receipts::handler))
}

/// Endpoints that show a tenant its own data, and an operator everything.
fn for_both() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(statistics::handler)).routes(routes!(audit::events::handler))
}

/// Endpoints for operators, and for those who monitor the process.
fn for_operators() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(admin::tenants::list, admin::tenants::create))
        .routes(routes!(admin::tenants::get))
        .routes(routes!(admin::tenants::set_limits))
        .routes(routes!(admin::sendings::list))
        .routes(routes!(admin::messages::search))
        .routes(routes!(admin::sendings::pause))
        .routes(routes!(admin::sendings::resume))
        .routes(routes!(admin::sendings::cancel))
        .routes(routes!(admin::senders::list))
        .routes(routes!(admin::senders::get))
        .routes(routes!(admin::senders::approve))
        .routes(routes!(admin::senders::refuse))
        .routes(routes!(admin::senders::withdraw))
        .routes(routes!(admin::api_keys::list, admin::api_keys::issue))
        .routes(routes!(admin::api_keys::revoke))
        .routes(routes!(admin::operator_keys::list, admin::operator_keys::issue))
        .routes(routes!(admin::operator_keys::revoke))
        .routes(routes!(admin::relays::list))
        .routes(routes!(admin::relays::get, admin::relays::define))
        .routes(routes!(admin::relays::suspend))
        .routes(routes!(admin::relays::resume))
        .routes(routes!(admin::relays::check_relay))
        .routes(routes!(admin::not_understood::list))
        .routes(routes!(admin::relay_codes::class, admin::relay_codes::unclass))
        .routes(routes!(admin::backups::list, admin::backups::take))
        .routes(routes!(admin::instance::get))
        .routes(routes!(admin::instance::release))
        .routes(routes!(admin::secrets::rotate))
        .routes(routes!(service::metrics::handler))
}

/// Endpoints about the process and this API, for everybody.
fn service() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(service::health::handler))
        .routes(routes!(service::ready::handler))
        .routes(routes!(service::docs::page))
        .routes(routes!(service::docs::openapi))
        .routes(routes!(service::problems::list))
        .routes(routes!(service::problems::get))
}

/// The whole API, ready to be served at one listener.
pub fn router(state: ApiState) -> Router {
    surrounded(endpoints(), None, state)
}

/// The public API, if administration has a listener of its own: nothing here accepts an operator's key.
pub fn public_router(state: ApiState) -> Router {
    surrounded(for_tenants().merge(for_both()).merge(service()), Some(Side::Public), state)
}

/// Administration and metrics, for a listener of their own.
pub fn admin_router(state: ApiState) -> Router {
    surrounded(for_both().merge(for_operators()).merge(service()), Some(Side::Administration), state)
}

fn surrounded(endpoints: OpenApiRouter<ApiState>, side: Option<Side>, state: ApiState) -> Router {
    let (router, _) = endpoints.split_for_parts();
    let router = match side {
        Some(side) => router.layer(Extension(side)),
        None => router,
    };
    router
        .route("/", axum::routing::get(service::docs::home))
        .fallback(no_such_endpoint)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(state.clone(), admit))
        .layer(from_fn(protect))
        .layer(from_fn(measure))
        .layer(from_fn_with_state(state.clone(), traced))
        .with_state(state)
}
