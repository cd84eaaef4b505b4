//! `GET /v1/routing/recommendation`

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Duration, Utc};
use kite_commands::directory::DirectoryState;
use kite_domain::advice::{Advice, AdviceEntry, Percentiles, RelayFigures, advise};
use kite_domain::policy::{PolicyObjective, RelayWeight};
use kite_domain::relay::Ineligible;
use kite_domain::slug::{RelayId, TenantId};
use kite_domain::text::Channel;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

use super::policies::ObjectiveWord;
use super::senders::canonical;
use crate::auth::TenantAuth;
use crate::extract::ApiQuery;
use crate::problem::{Answer, Code, Problem};
use crate::state::ApiState;
use crate::vocabulary::{
    BillingWord, BreakerWord, ChannelWord, IneligibleWord, RoleWord, StandingWord, VerdictWord,
};

/// For what.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RecommendationQuery {
    /// The channel.
    pub channel: ChannelWord,
    /// What to aim at; none: what the tenant's policy aims at, or `recommended`.
    #[serde(default)]
    pub objective: Option<ObjectiveWord>,
    /// A sender identity: only relays that it is registered with; none: all relays.
    #[serde(default)]
    pub from: Option<String>,
}

/// Percentiles of a time.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Percentiles)]
pub struct PercentilesView {
    /// Half took no longer, in milliseconds.
    pub p50_ms: u64,
    /// 95 of 100 took no longer.
    pub p95_ms: u64,
    /// 99 of 100 took no longer.
    pub p99_ms: u64,
    /// How many were measured.
    pub samples: u64,
}

impl From<Percentiles> for PercentilesView {
    fn from(times: Percentiles) -> Self {
        Self { p50_ms: times.p50_ms, p95_ms: times.p95_ms, p99_ms: times.p99_ms, samples: times.samples }
    }
}

/// What was measured of a relay lately.
#[derive(Debug, Serialize, ToSchema)]
pub struct LiveFigures {
    /// Begin of the window.
    pub from: DateTime<Utc>,
    /// End of the window.
    pub until: DateTime<Utc>,
    /// The price of a message part in thousandths of a won.
    pub price_milliwon: i64,
    /// When that is due.
    pub bills: BillingWord,
    /// Attempts that were handed over to the relay in the window.
    pub attempts_handed_over: u64,
    /// Of those, what the relay took.
    pub attempts_accepted: u64,
    /// Of those, what the relay delivered.
    pub attempts_delivered: u64,
    /// Of those, what the relay accepted and could not deliver.
    pub attempts_undelivered: u64,
    /// Of those, what the relay neither refused nor reported on within the time that it usually takes. This is not
    /// `attempts_expired`: their receipts may still come in time.
    pub attempts_overdue: u64,
    /// `attempts_delivered` of the attempts that are judged already: delivered, undelivered, refused or overdue.
    /// None: there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub judged_success_rate: Option<f64>,
    /// From hand-over to delivery.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery_ms: Option<PercentilesView>,
    /// From hand-over to the relay's answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hand_over_ms: Option<PercentilesView>,
    /// Where its circuit breaker stands.
    pub breaker: BreakerWord,
}

impl From<&RelayFigures> for LiveFigures {
    fn from(figures: &RelayFigures) -> Self {
        let judged = figures.judged();
        Self {
            from: figures.from,
            until: figures.until,
            price_milliwon: figures.price_milliwon,
            bills: figures.bills.into(),
            attempts_handed_over: figures.attempts,
            attempts_accepted: figures.accepted,
            attempts_delivered: figures.delivered,
            attempts_undelivered: figures.undelivered,
            attempts_overdue: figures.overdue,
            judged_success_rate: (judged > 0).then(|| figures.delivered as f64 / judged as f64),
            delivery_ms: figures.delivery_ms.map(Into::into),
            hand_over_ms: figures.hand_over_ms.map(Into::into),
            breaker: figures.breaker.into(),
        }
    }
}

/// What is advised for one relay.
#[derive(Debug, Serialize, ToSchema)]
pub struct RelayAdvice {
    /// The relay.
    #[schema(example = "alpha")]
    pub relay: String,
    /// Its share in hundredths of a per cent.
    #[schema(example = 6000)]
    pub weight: u32,
    /// What that share is for.
    pub role: RoleWord,
    /// How it stands, whatever the objective.
    pub standing: StandingWord,
    /// Outcomes that it was judged by.
    pub sample: u64,
    /// Expected share delivered, in hundredths of a per cent.
    pub success: u32,
    /// Expected cost of a delivered message, failover included, in thousandths of a won.
    pub cost_per_delivered_milliwon: i64,
    /// Expected time for a delivered message, failover included, in milliseconds.
    pub time_per_delivered_ms: u64,
    /// How close it comes to the best, all three weighed together; 10000 is the best.
    pub score: u32,
    /// What was measured, then why it gets what it gets.
    pub reasons: Vec<String>,
    /// What was measured.
    pub live: LiveFigures,
}

/// A relay that was not considered, and why.
#[derive(Debug, Serialize, ToSchema)]
pub struct LeftOutView {
    /// The relay.
    pub relay: String,
    /// Why, for programs.
    pub code: IneligibleWord,
    /// Why, for people.
    pub reason: String,
    /// What was measured.
    pub live: LiveFigures,
}

/// Which relays should get how much, and why.
#[derive(Debug, Serialize, ToSchema)]
pub struct RecommendationView {
    /// The channel.
    pub channel: ChannelWord,
    /// What it aims at.
    pub objective: ObjectiveWord,
    /// What kind of answer this is.
    pub verdict: VerdictWord,
    /// Why, in one sentence with figures.
    pub reason: String,
    /// Who is tried after whom, the best first.
    pub order: Vec<String>,
    /// One a relay.
    pub relays: Vec<RelayAdvice>,
    /// Relays that may not carry the channel now.
    pub left_out: Vec<LeftOutView>,
}

/// Recommends a split: the live price, speed, success and sample of every relay, and the advice with its reasons.
#[utoipa::path(
    get, path = "/v1/routing/recommendation", tag = "routing", operation_id = "get_recommendation",
    params(RecommendationQuery),
    responses((status = 200, description = "The recommendation.", body = RecommendationView))
)]
pub async fn recommendation(
    state: State<ApiState>,
    auth: TenantAuth,
    ApiQuery(query): ApiQuery<RecommendationQuery>,
) -> Answer<Json<RecommendationView>> {
    let channel: Channel = query.channel.into();
    let journal = &state.write_side.journal;
    let look = |directory: &Arc<DirectoryState>| {
        let from = query.from.as_deref();
        let registered = registered_with(directory, &auth.tenant, from, journal.now())?;
        let objective = objective_of(directory, &auth.tenant, channel, query.objective)?;
        Ok::<_, Problem>((registered, objective, directory.clone()))
    };
    let (registered, objective, directory) = state.write_side.directory.judge(journal, look).await??;
    let (window, now) =
        (Duration::minutes(state.config.figures_window_minutes.into()), state.write_side.journal.now());
    let figures = state.query(move |models| models.routing.figures(&[channel].into(), window, now)).await?;
    let (able, left_out) = sort_out(&directory, channel, &registered, figures);
    let previous = weights_in_use(&directory, &auth.tenant, channel);
    let advice = advise(&objective, &able, &previous, &state.advice);
    Ok(Json(in_words(query.channel, &objective, advice, &able, left_out)))
}

/// The relays that the sender is registered with; without a sender, all of them.
fn registered_with(
    directory: &DirectoryState,
    tenant: &TenantId,
    from: Option<&str>,
    now: DateTime<Utc>,
) -> Answer<Vec<RelayId>> {
    let Some(from) = from else {
        return Ok(directory.relays.iter().map(|(relay, _)| relay.clone()).collect());
    };
    let identity = directory.senders.identity(tenant, &canonical(from));
    let identity = identity.ok_or_else(|| Problem::not_found("sender"))?;
    match identity.sends_with(now) {
        Ok(terms) => Ok(terms.relays.clone()),
        // One that may not send yet is asked about all the more: with the relays that it would have.
        Err(_) => Ok(identity.terms.relays.clone()),
    }
}

fn objective_of(
    directory: &DirectoryState,
    tenant: &TenantId,
    channel: Channel,
    word: Option<ObjectiveWord>,
) -> Answer<PolicyObjective> {
    let policy = directory.policies.get(&(tenant.clone(), channel)).map(|policy| &policy.defined.objective);
    Ok(match word {
        Some(ObjectiveWord::Price) => PolicyObjective::Price,
        Some(ObjectiveWord::Speed) => PolicyObjective::Speed,
        Some(ObjectiveWord::Recommended) => PolicyObjective::Recommended,
        Some(ObjectiveWord::Ratio) => match policy {
            Some(ratio @ PolicyObjective::Ratio { .. }) => ratio.clone(),
            _ => {
                return Err(Problem::new(
                    Code::InvalidParameter,
                    format!("The parameter objective: there is no ratio policy for {channel} to show."),
                ));
            }
        },
        None => policy.cloned().unwrap_or(PolicyObjective::Recommended),
    })
}

fn weights_in_use(directory: &DirectoryState, tenant: &TenantId, channel: Channel) -> Vec<RelayWeight> {
    let Some(policy) = directory.policies.get(&(tenant.clone(), channel)) else {
        let advised = directory.default_advice.get(&(tenant.clone(), channel));
        return advised.map(|advised| advised.weights.clone()).unwrap_or_default();
    };
    match (&policy.defined.objective, &policy.advised) {
        (PolicyObjective::Ratio { weights }, _) => weights.clone(),
        (_, Some(advised)) => advised.weights.clone(),
        (_, None) => Vec::new(),
    }
}

/// The relays that may carry the channel, ignoring a tripped breaker, and those that may not.
fn sort_out(
    directory: &DirectoryState,
    channel: Channel,
    registered: &[RelayId],
    figures: Vec<RelayFigures>,
) -> (Vec<RelayFigures>, Vec<LeftOutView>) {
    let (mut able, mut left_out) = (Vec::new(), Vec::new());
    for figures in figures {
        match directory.relays.eligible(&figures.relay, channel, None, registered) {
            Ok(_) | Err(Ineligible::BreakerTripped) => able.push(figures),
            Err(reason) => left_out.push(LeftOutView {
                relay: figures.relay.to_string(),
                code: reason.into(),
                reason: reason.to_string(),
                live: LiveFigures::from(&figures),
            }),
        }
    }
    (able, left_out)
}

fn in_words(
    channel: ChannelWord,
    objective: &PolicyObjective,
    advice: Advice,
    figures: &[RelayFigures],
    left_out: Vec<LeftOutView>,
) -> RecommendationView {
    let live = |entry: &AdviceEntry| {
        figures.iter().find(|figures| figures.relay == entry.relay).map(LiveFigures::from)
    };
    let relays = advice.entries.iter().filter_map(|entry| {
        Some(RelayAdvice {
            relay: entry.relay.to_string(),
            weight: entry.weight_basis_points,
            role: entry.role.into(),
            standing: entry.standing.into(),
            sample: entry.sample,
            success: entry.score.success_basis_points,
            cost_per_delivered_milliwon: entry.score.cost_per_delivered_milliwon,
            time_per_delivered_ms: entry.score.time_per_delivered_ms,
            score: entry.score.total_score,
            reasons: entry.reasons.clone(),
            live: live(entry)?,
        })
    });
    RecommendationView {
        channel,
        objective: super::policies::in_words(objective).0,
        verdict: advice.verdict.into(),
        reason: advice.reason.clone(),
        order: advice.order.iter().map(ToString::to_string).collect(),
        relays: relays.collect(),
        left_out,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kite_domain::relay::{BillingMoment, BreakerPhase};
    use serde_json::json;

    /// Every value is different, so that two swapped fields would show.
    #[test]
    fn live_figures_stand_under_their_own_names() {
        let at = DateTime::<Utc>::UNIX_EPOCH;
        let times = |first: u64| {
            Some(Percentiles { p50_ms: first, p95_ms: first + 1, p99_ms: first + 2, samples: first + 3 })
        };
        let figures = RelayFigures {
            attempts: 21,
            answered: 22,
            accepted: 23,
            refused_relay_fault: 24,
            delivered: 25,
            undelivered: 26,
            undelivered_relay_fault: 27,
            overdue: 28,
            delivery_ms: times(31),
            hand_over_ms: times(41),
            breaker: BreakerPhase::Tripped,
            ..RelayFigures::unmeasured(
                RelayId::from_trusted("alpha"),
                Channel::Sms,
                at..at,
                11,
                BillingMoment::Accepted,
            )
        };
        let shown = serde_json::to_value(LiveFigures::from(&figures)).unwrap();
        for (name, value) in [
            ("price_milliwon", 11),
            ("attempts_handed_over", 21),
            ("attempts_accepted", 23),
            ("attempts_delivered", 25),
            ("attempts_undelivered", 26),
            ("attempts_overdue", 28),
        ] {
            assert_eq!(shown[name], value, "{name}");
        }
        // No other name of a counter stands for anything here.
        for counter in kite_projections::Counter::ALL.iter().map(|counter| counter.word()) {
            let is_same = counter.starts_with("attempts_");
            assert!(is_same || shown.get(counter).is_none(), "{counter}");
        }
        assert_eq!((&shown["bills"], &shown["breaker"]), (&json!("accepted"), &json!("tripped")));
        assert_eq!(shown["delivery_ms"], json!({"p50_ms": 31, "p95_ms": 32, "p99_ms": 33, "samples": 34}));
        assert_eq!(shown["hand_over_ms"], json!({"p50_ms": 41, "p95_ms": 42, "p99_ms": 43, "samples": 44}));
    }
}
