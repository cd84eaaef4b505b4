//! `PUT /v1/policies/{channel}`

use axum::extract::State;
use kite_commands::manage::{ManageError, ManageRefusal};
use kite_domain::policy::{FailoverTerms, PolicyObjective, RelayWeight, WeightsError};
use kite_domain::slug::RelayId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{FailoverBody, ObjectiveWord, WeightView, channel_of, in_words};
use crate::answer::Written;
use crate::auth::TenantAuth;
use crate::extract::{ApiJson, ApiPath};
use crate::problem::{Answer, Code, FieldError, Problem};
use crate::state::ApiState;
use crate::vocabulary::ChannelWord;

/// More shares than this are certainly a mistake, and each is searched for among the others.
const WEIGHTS_MAX: usize = 100;

/// A policy as a caller writes it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyBody {
    /// What the split aims at.
    pub objective: ObjectiveWord,
    /// The shares; for `ratio`, and only there.
    #[serde(default)]
    #[schema(example = json!([{"relay": "alpha", "weight": 5000}, {"relay": "beta", "weight": 3000}, {"relay": "gamma", "weight": 2000}]))]
    pub weights: Vec<WeightView>,
    /// What happens on failure.
    #[serde(default)]
    pub failover: FailoverBody,
}

/// A policy that was just defined.
#[derive(Debug, Serialize, ToSchema)]
pub struct PolicyDefinedView {
    /// For which channel.
    pub channel: ChannelWord,
    /// The new version.
    pub version: u32,
    /// What the split aims at.
    pub objective: ObjectiveWord,
    /// The shares, for `ratio`.
    pub weights: Vec<WeightView>,
    /// What happens on failure.
    pub failover: FailoverBody,
}

/// Defines a new version of the policy of a channel.
///
/// Messages that are routed from now on follow it. Under `ratio` every relay's share is exact: at any moment within one
/// message of its target.
#[utoipa::path(
    put, path = "/v1/policies/{channel}", tag = "policies", operation_id = "define_policy",
    params(("channel" = ChannelWord, Path, description = "The channel")), request_body = PolicyBody,
    responses((status = 200, description = "The new version.", body = PolicyDefinedView))
)]
pub async fn handler(
    state: State<ApiState>,
    auth: TenantAuth,
    channel: ApiPath<String>,
    ApiJson(body): ApiJson<PolicyBody>,
) -> Answer<Written<PolicyDefinedView>> {
    let channel = channel_of(&channel)?;
    let objective = objective_of(body.objective, &body.weights).map_err(|error| {
        Problem::new(Code::Refused, format!("The policy cannot be defined: {}.", error.detail)).at(error)
    })?;
    if let Err(wrong) = FailoverTerms::from(body.failover.clone()).check() {
        let error = FieldError::new(format!("failover.{}", wrong.field), "out_of_range", wrong.detail);
        let detail = format!("The policy cannot be defined: {}.", error.detail);
        return Err(Problem::new(Code::Refused, detail).at(error));
    }
    let cause = state.cause(&auth.actor);
    let defined = state
        .write_side
        .manage
        .define_policy(&cause, &auth.tenant, channel, objective, body.failover.into())
        .await;
    let defined = defined.map_err(|error| {
        let field = weight_of(&error, &body.weights);
        Problem::from(error).in_field(field)
    })?;
    let (objective, weights) = in_words(&defined.value.objective);
    let view = PolicyDefinedView {
        channel: channel.into(),
        version: defined.value.version,
        objective,
        weights,
        failover: defined.value.failover.into(),
    };
    Ok(Written::changed(defined.position, view))
}

/// The place of the share that was refused; none: it is not about a single one.
fn weight_of(error: &ManageError, weights: &[WeightView]) -> Option<String> {
    let ManageError::Refused(refusal) = error else { return None };
    let place_of = |relay: &RelayId| weights.iter().position(|weight| weight.relay == relay.as_str());
    let place = match refusal {
        ManageRefusal::NoRelay(relay) | ManageRefusal::NoChannel { relay, .. } => place_of(relay),
        ManageRefusal::Weights(WeightsError::Repeated(relay)) => {
            weights.iter().rposition(|weight| weight.relay == relay.as_str())
        }
        _ => None,
    };
    place.map(|place| format!("weights[{place}].relay"))
}

fn objective_of(word: ObjectiveWord, weights: &[WeightView]) -> Result<PolicyObjective, FieldError> {
    if word != ObjectiveWord::Ratio && !weights.is_empty() {
        return Err(FieldError::new(
            "weights",
            "not_for_objective",
            "only the objective ratio takes weights",
        ));
    }
    Ok(match word {
        ObjectiveWord::Ratio => PolicyObjective::Ratio { weights: weights_of(weights)? },
        ObjectiveWord::Price => PolicyObjective::Price,
        ObjectiveWord::Speed => PolicyObjective::Speed,
        ObjectiveWord::Recommended => PolicyObjective::Recommended,
    })
}

fn weights_of(weights: &[WeightView]) -> Result<Vec<RelayWeight>, FieldError> {
    if weights.len() > WEIGHTS_MAX {
        return Err(FieldError::new(
            "weights",
            "too_many",
            format!("at most {WEIGHTS_MAX} shares can be given"),
        ));
    }
    let relay = |place: usize, text: &str| {
        RelayId::parse(text).map_err(|error| {
            FieldError::new(format!("weights[{place}].relay"), error.code(), error.to_string())
        })
    };
    weights
        .iter()
        .enumerate()
        .map(|(place, entry)| Ok(RelayWeight { relay: relay(place, &entry.relay)?, weight: entry.weight }))
        .collect()
}
