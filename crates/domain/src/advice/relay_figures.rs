//! What was measured of a relay, and what can be expected of it.
//!
//! A small sample is shrunk towards a prior (a Beta prior on each share): three deliveries of three messages do not
//! count as 100 %. The value of a relay follows from three expectations of one attempt: is it delivered, may another
//! relay try after it, and what does it cost in money and time.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::AdviceSettings;
use crate::relay::{BillingMoment, BreakerPhase};
use crate::slug::RelayId;
use crate::text::message_type::Channel;

/// Percentiles of a time, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Half of the sample took no longer.
    pub p50_ms: u64,
    /// 95 of 100 took no longer.
    pub p95_ms: u64,
    /// 99 of 100 took no longer.
    pub p99_ms: u64,
    /// How many were measured.
    pub samples: u64,
}

/// What was measured of one relay on one channel over a window, from attempts old enough to be judged.
///
/// Counts are of attempts that began in the window. Attempts still within the time that the relay usually takes are
/// not counted, so that a recent one does not look like a failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayFigures {
    /// The relay.
    pub relay: RelayId,
    /// The channel.
    pub channel: Channel,
    /// Begin of the window.
    #[serde(with = "chrono::serde::ts_milliseconds")]
    pub from: DateTime<Utc>,
    /// End of the window.
    #[serde(with = "chrono::serde::ts_milliseconds")]
    pub until: DateTime<Utc>,
    /// Price of a message (part), in thousandths of a won.
    pub price_milliwon: i64,
    /// When that price is due.
    pub bills: BillingMoment,
    /// Handed over.
    pub attempts: u64,
    /// Of those, answered: accepted or refused.
    pub answered: u64,
    /// Of those, accepted.
    pub accepted: u64,
    /// Refused through the relay's own fault; part of `answered − accepted`.
    pub refused_relay_fault: u64,
    /// Receipts that say delivered.
    pub delivered: u64,
    /// Receipts that say undelivered.
    pub undelivered: u64,
    /// Undelivered through the relay's own fault; part of `undelivered`.
    pub undelivered_relay_fault: u64,
    /// Neither refused nor reported on within the time that the relay usually takes.
    pub overdue: u64,
    /// From hand-over to delivery; nothing if nothing was delivered.
    pub delivery_ms: Option<Percentiles>,
    /// From hand-over to the relay's answer; nothing if nothing was answered.
    pub hand_over_ms: Option<Percentiles>,
    /// Messages waiting for the relay now, where that is known. Shown, not weighed.
    pub queue_depth: Option<u64>,
    /// Where the relay's breaker stands.
    pub breaker: BreakerPhase,
}

impl RelayFigures {
    /// Figures of a relay for which nothing was measured.
    pub fn unmeasured(
        relay: RelayId,
        channel: Channel,
        window: std::ops::Range<DateTime<Utc>>,
        price_milliwon: i64,
        bills: BillingMoment,
    ) -> Self {
        Self {
            relay,
            channel,
            from: window.start,
            until: window.end,
            price_milliwon,
            bills,
            attempts: 0,
            answered: 0,
            accepted: 0,
            refused_relay_fault: 0,
            delivered: 0,
            undelivered: 0,
            undelivered_relay_fault: 0,
            overdue: 0,
            delivery_ms: None,
            hand_over_ms: None,
            queue_depth: None,
            breaker: BreakerPhase::Passing,
        }
    }

    /// Attempts whose end is known well enough to count: receipts, refusals, overdue ones.
    pub fn judged(&self) -> u64 {
        self.delivered + self.undelivered + self.overdue + self.refused()
    }

    fn refused(&self) -> u64 {
        self.answered.saturating_sub(self.accepted)
    }

    fn relay_faults(&self) -> u64 {
        self.refused_relay_fault.min(self.refused()) + self.undelivered_relay_fault.min(self.undelivered)
    }
}

/// The state of a relay before any objective is considered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RelayStanding {
    /// Enough was measured, and it looks well.
    Measured,
    /// Too little was measured to judge it.
    Unmeasured,
    /// Its breaker is probing it.
    Probing,
    /// Enough was measured, and it delivers too little.
    Failing,
    /// Its breaker is tripped.
    Tripped,
}

/// What is to be expected of one attempt. Shares are of one, all of them above zero and below one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Estimate {
    pub(super) delivered: f64,
    /// Failed through the relay's fault, so that another relay may try.
    pub(super) passed_on: f64,
    pub(super) bill_milliwon: f64,
    pub(super) spent_ms: f64,
}

impl Estimate {
    pub(super) fn new(figures: &RelayFigures, settings: &AdviceSettings) -> Self {
        let prior = f64::from(settings.prior_success_basis_points.clamp(1, 9_998)) / 10_000.0;
        let strength = f64::from(settings.prior_strength.max(1));
        let judged = figures.judged() as f64;
        let shrunk = |count: u64, prior: f64| (count as f64 + strength * prior) / (judged + strength);
        let delivered = shrunk(figures.delivered, prior);
        // Half of what the prior does not deliver counts as the relay's fault.
        let passed_on = shrunk(figures.relay_faults(), (1.0 - prior) / 2.0);
        let refused = shrunk(figures.refused(), (1.0 - prior) / 2.0);
        let billed = match figures.bills {
            BillingMoment::Accepted => 1.0 - refused,
            BillingMoment::Delivered => delivered,
        };
        let lost = (1.0 - delivered - passed_on).max(0.0);
        let hand_over_ms = figures.hand_over_ms.map_or(settings.prior_hand_over_ms, |time| time.p95_ms);
        Self {
            delivered,
            passed_on,
            bill_milliwon: billed * figures.price_milliwon.max(0) as f64,
            spent_ms: delivered * delivery_ms(figures, settings)
                + passed_on * hand_over_ms as f64
                + lost * settings.lost_ms as f64,
        }
    }
}

/// The time to delivery that a relay is judged by: its median and its 95th percentile, mixed.
fn delivery_ms(figures: &RelayFigures, settings: &AdviceSettings) -> f64 {
    let tail = f64::from(settings.tail_share_basis_points.min(10_000)) / 10_000.0;
    figures.delivery_ms.map_or(settings.prior_delivery_ms as f64, |time| {
        time.p50_ms as f64 * (1.0 - tail) + time.p95_ms as f64 * tail
    })
}

/// A relay with what is to be expected of it.
#[derive(Clone, Debug)]
pub(super) struct Candidate<'figures> {
    pub(super) figures: &'figures RelayFigures,
    pub(super) estimate: Estimate,
    pub(super) standing: RelayStanding,
}

/// Which measurement an objective cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    Outcomes,
    OutcomesAndTimes,
}

/// Says for each relay what can be expected and what its standing is.
pub(super) fn judge<'figures>(
    figures: &[&'figures RelayFigures],
    needs: Needs,
    settings: &AdviceSettings,
) -> Vec<Candidate<'figures>> {
    let estimates: Vec<Estimate> = figures.iter().map(|relay| Estimate::new(relay, settings)).collect();
    let best_delivered = figures
        .iter()
        .zip(&estimates)
        .filter(|(relay, _)| has_outcomes(relay, settings))
        .map(|(_, estimate)| estimate.delivered)
        .fold(0.0, f64::max);
    let least = f64::from(settings.success_min_basis_points) / 10_000.0;
    let gap = f64::from(settings.success_gap_basis_points) / 10_000.0;
    let standing = |relay: &RelayFigures, estimate: &Estimate| {
        let measured = has_outcomes(relay, settings);
        match relay.breaker {
            BreakerPhase::Tripped => RelayStanding::Tripped,
            BreakerPhase::Probing => RelayStanding::Probing,
            BreakerPhase::Passing if !measured => RelayStanding::Unmeasured,
            BreakerPhase::Passing if estimate.delivered < least.max(best_delivered - gap) => {
                RelayStanding::Failing
            }
            BreakerPhase::Passing if needs == Needs::OutcomesAndTimes && !has_times(relay, settings) => {
                RelayStanding::Unmeasured
            }
            BreakerPhase::Passing => RelayStanding::Measured,
        }
    };
    figures
        .iter()
        .zip(estimates)
        .map(|(relay, estimate)| Candidate { figures: relay, estimate, standing: standing(relay, &estimate) })
        .collect()
}

fn has_outcomes(figures: &RelayFigures, settings: &AdviceSettings) -> bool {
    figures.judged() >= settings.sample_min.max(1)
}

fn has_times(figures: &RelayFigures, settings: &AdviceSettings) -> bool {
    figures.delivery_ms.is_some_and(|time| time.samples >= settings.sample_min.max(1))
}

#[cfg(test)]
mod tests {
    use super::super::samples::{figures, settings};
    use super::*;

    #[test]
    fn a_small_sample_is_shrunk_towards_the_prior_and_a_large_one_is_not() {
        let small = Estimate::new(&figures("alpha").sent(3, 3).build(), &settings());
        let large = Estimate::new(&figures("alpha").sent(100_000, 100_000).build(), &settings());
        assert!((0.95..0.96).contains(&small.delivered), "{small:?}");
        assert!(large.delivered > 0.999, "{large:?}");
    }

    #[test]
    fn a_relay_that_bills_on_acceptance_costs_more_than_what_it_delivers() {
        let on_delivery = figures("alpha").sent(1_000, 900).price(10_000);
        let on_acceptance = on_delivery.clone().bills(BillingMoment::Accepted);
        let (delivery, acceptance) = (
            Estimate::new(&on_delivery.build(), &settings()),
            Estimate::new(&on_acceptance.build(), &settings()),
        );
        assert!((delivery.bill_milliwon - 9_010.0).abs() < 1.0, "{delivery:?}");
        assert!(acceptance.bill_milliwon > 9_990.0, "{acceptance:?}");
    }

    #[test]
    fn the_shares_of_an_attempt_never_exceed_it() {
        let all_faults = figures("alpha").refused(5_000).build();
        let estimate = Estimate::new(&all_faults, &settings());
        assert!(estimate.delivered + estimate.passed_on <= 1.0 && estimate.delivered > 0.0, "{estimate:?}");
        assert!(estimate.passed_on < 1.0);
    }

    #[test]
    fn standing_follows_breaker_sample_and_success() {
        let relays = [
            figures("a").sent(1_000, 990).build(),
            figures("b").sent(1_000, 700).build(),
            figures("c").sent(49, 0).build(),
            figures("d").sent(1_000, 990).breaker(BreakerPhase::Tripped).build(),
            figures("e").sent(1_000, 990).breaker(BreakerPhase::Probing).build(),
            figures("f").refused(400).build(),
        ];
        let relays: Vec<&RelayFigures> = relays.iter().collect();
        let standings: Vec<_> =
            judge(&relays, Needs::Outcomes, &settings()).iter().map(|candidate| candidate.standing).collect();
        assert_eq!(
            standings,
            [
                RelayStanding::Measured,
                RelayStanding::Failing,
                RelayStanding::Unmeasured,
                RelayStanding::Tripped,
                RelayStanding::Probing,
                RelayStanding::Failing
            ]
        );
    }

    #[test]
    fn the_time_of_a_relay_is_its_median_and_its_tail_as_they_are_mixed() {
        let mixed = |tail_share_basis_points| {
            let settings = AdviceSettings { tail_share_basis_points, ..settings() };
            let timed = figures("alpha").sent(1_000, 1_000).times(1_000, 9_000).build();
            delivery_ms(&timed, &settings).round() as u64
        };
        assert_eq!([0, 2_500, 10_000, 20_000].map(mixed), [1_000, 3_000, 9_000, 9_000]);
        let untimed = delivery_ms(&figures("alpha").build(), &settings());
        assert_eq!(untimed.round() as u64, settings().prior_delivery_ms);
    }
}
