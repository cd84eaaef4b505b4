//! The injected clock as the token buckets of `governor` read it.

use governor::clock::{Clock as GovernorClock, Reference};
use governor::nanos::Nanos;
use std::ops::Add;
use std::sync::Arc;

use crate::clock::Clock;

/// A moment of the injected clock, in nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Add<Nanos> for Moment {
    type Output = Self;

    fn add(self, nanos: Nanos) -> Self {
        Self(self.0.saturating_add(nanos.as_u64()))
    }
}

impl Reference for Moment {
    fn duration_since(&self, earlier: Self) -> Nanos {
        self.0.saturating_sub(earlier.0).into()
    }

    fn saturating_sub(&self, duration: Nanos) -> Self {
        Self(self.0.saturating_sub(duration.as_u64()))
    }
}

/// The injected clock. Cheap to clone.
#[derive(Clone)]
pub struct GovernedClock(pub Arc<dyn Clock>);

impl GovernorClock for GovernedClock {
    type Instant = Moment;

    fn now(&self) -> Moment {
        Moment(self.0.now().timestamp_nanos_opt().and_then(|nanos| u64::try_from(nanos).ok()).unwrap_or(0))
    }
}
