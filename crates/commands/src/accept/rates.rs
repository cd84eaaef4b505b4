//! How many requests and recipients per second a tenant may send. One-time passwords have separate buckets of the
//! same size, so that a tenant's campaign does not lock out its passwords.
//!
//! A bucket holds one second's worth; that of recipients at least the largest request, or none would ever fit. Repeats have
//! one for when that of requests is empty: who comes too fast is told all the same what became of what he sent before.

use governor::clock::Clock as _;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use kite_domain::slug::TenantId;
use kite_domain::tenant::LimitsInForce;
use parking_lot::RwLock;
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::governed::{GovernedClock, Moment};

type Limiter = RateLimiter<NotKeyed, InMemoryState, GovernedClock, NoOpMiddleware<Moment>>;

/// What comes too fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case", suffix = "_per_second")]
pub enum Pace {
    /// Requests.
    Requests,
    /// Recipients of requests to send.
    Recipients,
}

impl Pace {
    /// The word for it in metrics and answers.
    pub fn word(self) -> &'static str {
        self.into()
    }
}

/// Too fast: when to come again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooFast {
    /// What.
    pub pace: Pace,
    /// When the bucket has room for the same again.
    pub wait: Duration,
}

impl TooFast {
    /// In whole seconds, for `Retry-After`.
    pub fn retry_after_s(&self) -> u32 {
        let rounded_up = self.wait.as_secs() + u64::from(self.wait.subsec_nanos() > 0);
        u32::try_from(rounded_up.max(1)).unwrap_or(u32::MAX)
    }
}

/// Whose bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    Ordinary,
    Passwords,
}

struct Buckets {
    requests_per_second: u32,
    recipients_per_second: u32,
    requests: [Limiter; 2],
    repeats: [Limiter; 2],
    recipients: [Limiter; 2],
}

/// The buckets of all tenants. Cheap to clone.
#[derive(Clone)]
pub(super) struct Rates {
    clock: GovernedClock,
    /// The most recipients of one request.
    recipients_max: u32,
    tenants: Arc<RwLock<HashMap<TenantId, Arc<Buckets>>>>,
}

impl Rates {
    pub(super) fn new(clock: Arc<dyn Clock>, recipients_max: usize) -> Self {
        let recipients_max = u32::try_from(recipients_max).unwrap_or(u32::MAX);
        Self { clock: GovernedClock(clock), recipients_max, tenants: Arc::default() }
    }

    /// Counts a request.
    pub(super) fn request(
        &self,
        tenant: &TenantId,
        limits: &LimitsInForce,
        lane: Lane,
    ) -> Result<(), TooFast> {
        let buckets = self.buckets(tenant, limits);
        self.charge(&buckets.requests[lane as usize], 1, Pace::Requests)
    }

    /// Counts a look for what a repeat may be of, where there is no room for another request.
    pub(super) fn repeat(
        &self,
        tenant: &TenantId,
        limits: &LimitsInForce,
        lane: Lane,
    ) -> Result<(), TooFast> {
        let buckets = self.buckets(tenant, limits);
        self.charge(&buckets.repeats[lane as usize], 1, Pace::Requests)
    }

    /// Counts the recipients of a request.
    pub(super) fn recipients(
        &self,
        tenant: &TenantId,
        limits: &LimitsInForce,
        lane: Lane,
        count: usize,
    ) -> Result<(), TooFast> {
        let buckets = self.buckets(tenant, limits);
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.charge(&buckets.recipients[lane as usize], count, Pace::Recipients)
    }

    fn charge(&self, limiter: &Limiter, count: u32, pace: Pace) -> Result<(), TooFast> {
        let Some(count) = NonZeroU32::new(count) else { return Ok(()) };
        match limiter.check_n(count) {
            // More than any request may have: that is refused for itself.
            Ok(Ok(())) | Err(_) => Ok(()),
            Ok(Err(not_until)) => Err(TooFast { pace, wait: not_until.wait_time_from(self.clock.now()) }),
        }
    }

    fn buckets(&self, tenant: &TenantId, limits: &LimitsInForce) -> Arc<Buckets> {
        let is_of = |buckets: &Arc<Buckets>| {
            buckets.requests_per_second == limits.requests_per_second
                && buckets.recipients_per_second == limits.recipients_per_second
        };
        if let Some(buckets) = self.tenants.read().get(tenant).filter(|buckets| is_of(buckets)) {
            return buckets.clone();
        }
        let mut tenants = self.tenants.write();
        let buckets = tenants.entry(tenant.clone()).or_insert_with(|| Arc::new(self.make(limits)));
        if !is_of(buckets) {
            *buckets = Arc::new(self.make(limits));
        }
        buckets.clone()
    }

    fn make(&self, limits: &LimitsInForce) -> Buckets {
        let limiter = |per_second: u32, burst_min: u32| {
            let per_second = NonZeroU32::new(per_second).unwrap_or(NonZeroU32::MIN);
            let burst = per_second.max(NonZeroU32::new(burst_min).unwrap_or(NonZeroU32::MIN));
            let quota = Quota::per_second(per_second).allow_burst(burst);
            RateLimiter::direct_with_clock(quota, self.clock.clone())
        };
        let (requests, recipients) = (limits.requests_per_second, limits.recipients_per_second);
        Buckets {
            requests_per_second: requests,
            recipients_per_second: recipients,
            requests: [limiter(requests, 1), limiter(requests, 1)],
            repeats: [limiter(requests, 1), limiter(requests, 1)],
            recipients: [limiter(recipients, self.recipients_max), limiter(recipients, self.recipients_max)],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_metrics_and_answers_stay() {
        assert_eq!(
            [Pace::Requests, Pace::Recipients].map(Pace::word),
            ["requests_per_second", "recipients_per_second"]
        );
    }
}
