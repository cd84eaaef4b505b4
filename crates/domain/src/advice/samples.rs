//! Figures for tests, made in a line.

use chrono::DateTime;

use super::{Advice, AdviceSettings, Percentiles, RelayFigures};
use crate::relay::{BillingMoment, BreakerPhase};
use crate::slug::RelayId;
use crate::text::message_type::Channel;

pub(super) fn settings() -> AdviceSettings {
    AdviceSettings::default()
}

pub(super) fn shares(advice: &Advice) -> Vec<(&str, u32)> {
    advice.entries.iter().map(|entry| (entry.relay.as_str(), entry.weight_basis_points)).collect()
}

#[derive(Clone)]
pub(super) struct Sample(RelayFigures);

pub(super) fn figures(relay: &str) -> Sample {
    let at = |seconds: i64| DateTime::from_timestamp(1_750_000_000 + seconds, 0).unwrap();
    Sample(RelayFigures::unmeasured(
        RelayId::parse(relay).unwrap(),
        Channel::Sms,
        at(0)..at(3_600),
        8_000,
        BillingMoment::Delivered,
    ))
}

impl Sample {
    /// Accepted, of which that many were delivered; the others failed for reasons of the recipients.
    pub(super) fn sent(mut self, accepted: u64, delivered: u64) -> Self {
        self.0.attempts += accepted;
        self.0.answered += accepted;
        self.0.accepted += accepted;
        self.0.delivered += delivered;
        self.0.undelivered += accepted - delivered;
        self.times(1_000, 2_000)
    }

    /// Refused through the relay's own fault.
    pub(super) fn refused(mut self, count: u64) -> Self {
        self.0.attempts += count;
        self.0.answered += count;
        self.0.refused_relay_fault += count;
        self
    }

    pub(super) fn price(mut self, milliwon: i64) -> Self {
        self.0.price_milliwon = milliwon;
        self
    }

    pub(super) fn bills(mut self, bills: BillingMoment) -> Self {
        self.0.bills = bills;
        self
    }

    pub(super) fn times(mut self, p50_ms: u64, p95_ms: u64) -> Self {
        let samples = self.0.delivered;
        self.0.delivery_ms = Some(Percentiles { p50_ms, p95_ms, p99_ms: p95_ms * 2, samples });
        self
    }

    pub(super) fn breaker(mut self, breaker: BreakerPhase) -> Self {
        self.0.breaker = breaker;
        self
    }

    pub(super) fn build(self) -> RelayFigures {
        self.0
    }
}
