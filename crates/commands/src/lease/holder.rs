//! A holder's view of its leases: how long it may rely on them by its own clock.

use chrono::{DateTime, TimeDelta, Utc};
use smol_str::SmolStr;
use std::sync::Arc;

use super::{Acquired, Granted, HeldBy, LeaseError, Leases, Renewed};
use crate::clock::Clock;

/// It is renewed when this part of its term is over, so that one renewal may fail.
const RENEWED_AFTER: i32 = 3;

/// One life of a process, and where it takes its leases. Cheap to clone.
#[derive(Clone)]
pub struct LeaseHolder {
    leases: Arc<dyn Leases>,
    name: SmolStr,
    clock: Arc<dyn Clock>,
}

/// A lease as its holder knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tenure {
    /// See [`Granted::epoch`].
    pub epoch: u64,
    asked_at: DateTime<Utc>,
    lasts: TimeDelta,
}

impl Tenure {
    fn new(granted: Granted, asked_at: DateTime<Utc>) -> Self {
        Self { epoch: granted.epoch, asked_at, lasts: granted.lasts }
    }

    /// Whether it is held. A clock that went back does not tell how much time has passed; then it is not.
    pub fn holds(&self, now: DateTime<Utc>) -> bool {
        self.asked_at <= now && now < self.asked_at + self.lasts
    }

    /// Whether it is to be renewed now.
    pub fn is_to_be_renewed(&self, now: DateTime<Utc>) -> bool {
        now < self.asked_at || self.asked_at + self.lasts / RENEWED_AFTER <= now
    }
}

/// What became of a wish for a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// It is held.
    Held(Tenure),
    /// Another one holds it.
    Taken {
        /// Until when, if it is not renewed.
        until: DateTime<Utc>,
    },
}

impl LeaseHolder {
    /// The holder of this name. No other holder ever had the name.
    pub fn new(leases: Arc<dyn Leases>, name: impl Into<SmolStr>, clock: Arc<dyn Clock>) -> Self {
        Self { leases, name: name.into(), clock }
    }

    /// Its name.
    pub fn name(&self) -> &SmolStr {
        &self.name
    }

    /// The time.
    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// Takes a lease that is free, or that its last holder has not had for `after`.
    ///
    /// # Errors
    /// The lease store cannot be reached.
    pub async fn acquire(&self, lease: &str, after: TimeDelta) -> Result<Claim, LeaseError> {
        let asked_at = self.now();
        Ok(match self.leases.acquire(lease, &self.name, after).await? {
            Acquired::Granted(granted) => Claim::Held(Tenure::new(granted, asked_at)),
            Acquired::Taken { ends_in, .. } => Claim::Taken { until: self.now() + ends_in },
        })
    }

    /// Holds it for another term; none: it is lost.
    ///
    /// # Errors
    /// The lease store cannot be reached: it is held until its time is over.
    pub async fn renew(&self, lease: &str, tenure: &Tenure) -> Result<Option<Tenure>, LeaseError> {
        let asked_at = self.now();
        Ok(match self.leases.renew(lease, &self.name, tenure.epoch).await? {
            Renewed::Granted(granted) => Some(Tenure::new(granted, asked_at)),
            Renewed::Lost => None,
        })
    }

    /// Gives it back.
    ///
    /// # Errors
    /// The lease store cannot be reached: others have to wait until its time is over.
    pub async fn release(&self, lease: &str, tenure: &Tenure) -> Result<(), LeaseError> {
        self.leases.release(lease, &self.name, tenure.epoch).await
    }

    /// See [`Leases::held`].
    ///
    /// # Errors
    /// The lease store cannot be reached.
    pub async fn held(&self, prefix: &str) -> Result<Vec<HeldBy>, LeaseError> {
        self.leases.held(prefix).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::lease::{InProcessLeases, TERM};

    #[tokio::test]
    async fn it_is_held_for_its_term_from_before_it_was_asked_for_and_not_by_a_clock_that_went_back() {
        let clock = Arc::new(ManualClock::at(DateTime::UNIX_EPOCH));
        let leases = Arc::new(InProcessLeases::new(clock.clone(), TERM));
        let holder = LeaseHolder::new(leases, "a", clock.clone());
        let Claim::Held(tenure) = holder.acquire("router", TimeDelta::zero()).await.unwrap() else {
            panic!("it is free")
        };
        let at = |seconds| DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds);
        let held = [-1, 0, 1, 2, 5, 6].map(|seconds| tenure.holds(at(seconds)));
        assert_eq!(held, [false, true, true, true, true, false]);
        let due = [-1, 0, 1, 2, 5, 6].map(|seconds| tenure.is_to_be_renewed(at(seconds)));
        assert_eq!(due, [true, false, false, true, true, true]);
        clock.set(at(3));
        let renewed = holder.renew("router", &tenure).await.unwrap().unwrap();
        assert_eq!((renewed.epoch, renewed.holds(at(8)), renewed.holds(at(9))), (tenure.epoch, true, false));
    }
}
