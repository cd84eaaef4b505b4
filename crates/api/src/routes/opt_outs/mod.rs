//! Opt-outs (수신거부): who refuses the tenant's advertisements.

pub mod get;
pub mod list;
pub mod record;
pub mod withdraw;

use chrono::{DateTime, Utc};
use kite_domain::address::Address;
use kite_projections::OptOut;
use serde::Serialize;
use smol_str::SmolStr;
use utoipa::ToSchema;

use crate::problem::{Answer, Problem};

/// An address that refuses advertisements.
#[derive(Debug, Serialize, ToSchema)]
pub struct OptOutView {
    /// The number or address in canonical form.
    #[schema(value_type = String, example = "01012345678")]
    pub address: SmolStr,
    /// How the refusal came.
    #[schema(example = "080")]
    pub source: String,
    /// Since when.
    pub since: DateTime<Utc>,
}

impl From<OptOut> for OptOutView {
    fn from(opt_out: OptOut) -> Self {
        Self { address: opt_out.address, source: opt_out.source, since: opt_out.since }
    }
}

fn canonical(raw: &str) -> Answer<SmolStr> {
    let address = Address::parse(raw).map_err(|_| Problem::not_found("opt-out"))?;
    Ok(address.as_str().into())
}
