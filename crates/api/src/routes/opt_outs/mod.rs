//! Opt-outs (수신거부): who refuses the tenant's advertisements.

mod details;
pub mod get;
pub mod import;
mod import_rows;
pub mod list;
pub mod record;
pub mod withdraw;

use chrono::{DateTime, Utc};
use kite_domain::address::Address;
use kite_projections::OptOut;
use serde::Serialize;
use smol_str::SmolStr;
use utoipa::ToSchema;

use crate::export::{Column, Listed, time};
use crate::problem::{Answer, Problem};

/// A refusal of advertisements. It applies to the address in every spelling, and to the other addresses of the same
/// person.
#[derive(Debug, Serialize, ToSchema)]
pub struct OptOutView {
    /// The number or address, as it was recorded.
    #[schema(value_type = String, example = "01012345678")]
    pub address: SmolStr,
    /// The brand whose advertisements are refused; absent: those of all brands.
    #[schema(example = "Acme Shoes")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub brand: Option<String>,
    /// How the refusal came.
    #[schema(example = "080")]
    pub source: String,
    /// When the recipient refused, as the recorder of the refusal said.
    pub refused_at: DateTime<Utc>,
    /// When it was recorded: since then it binds.
    pub since: DateTime<Utc>,
}

impl From<OptOut> for OptOutView {
    fn from(opt_out: OptOut) -> Self {
        Self {
            address: opt_out.address,
            brand: opt_out.brand,
            source: opt_out.source,
            refused_at: opt_out.refused_at,
            since: opt_out.since,
        }
    }
}

impl Listed for OptOutView {
    const FILE: &'static str = "opt-outs";

    /// As the import takes them.
    fn columns() -> Vec<Column<Self>> {
        vec![
            Column::new("address", |row: &Self| row.address.to_string()),
            Column::new("brand", |row: &Self| row.brand.clone().unwrap_or_default()),
            Column::new("source", |row: &Self| row.source.clone()),
            Column::new("refused_at", |row: &Self| time(row.refused_at)),
        ]
    }
}

fn checked(raw: &str) -> Answer<SmolStr> {
    let address = Address::parse(raw).map_err(|_| Problem::not_found("opt-out"))?;
    Ok(address.as_str().into())
}
