//! Leases inside one process.

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::Mutex;
use smol_str::SmolStr;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Acquired, Granted, HeldBy, LeaseError, Leases, Renewed};
use crate::clock::Clock;

/// Longer than any process lives.
const FOR_EVER: TimeDelta = TimeDelta::days(36_500);

/// Leases in memory: for a process that is alone, and for several in a simulation.
pub struct InProcessLeases {
    clock: Arc<dyn Clock>,
    term: TimeDelta,
    rows: Mutex<BTreeMap<SmolStr, Row>>,
}

struct Row {
    /// None: it was given back.
    holder: Option<SmolStr>,
    epoch: u64,
    until: DateTime<Utc>,
}

impl InProcessLeases {
    /// They last for this term.
    pub fn new(clock: Arc<dyn Clock>, term: TimeDelta) -> Self {
        Self { clock, term, rows: Mutex::default() }
    }

    /// For a process that runs alone: nobody waits for what it holds, so it need not renew anything.
    pub fn of_one_process(clock: Arc<dyn Clock>) -> Self {
        Self::new(clock, FOR_EVER)
    }

    fn granted(&self, epoch: u64) -> Granted {
        Granted { epoch, lasts: self.term }
    }
}

#[async_trait]
impl Leases for InProcessLeases {
    async fn acquire(&self, lease: &str, holder: &str, after: TimeDelta) -> Result<Acquired, LeaseError> {
        let now = self.clock.now();
        let mut rows = self.rows.lock();
        let row = rows.entry(lease.into()).or_insert(Row { holder: None, epoch: 0, until: now });
        match &row.holder {
            Some(by) if by == holder => {}
            Some(by) if now < row.until + after => {
                return Ok(Acquired::Taken { by: by.clone(), ends_in: row.until + after - now });
            }
            Some(_) | None => {
                row.holder = Some(holder.into());
                row.epoch += 1;
            }
        }
        row.until = now + self.term;
        Ok(Acquired::Granted(self.granted(row.epoch)))
    }

    async fn renew(&self, lease: &str, holder: &str, epoch: u64) -> Result<Renewed, LeaseError> {
        let until = self.clock.now() + self.term;
        let mut rows = self.rows.lock();
        let own = rows.get_mut(lease).filter(|row| row.is_of(holder, epoch));
        Ok(own.map_or(Renewed::Lost, |row| {
            row.until = until;
            Renewed::Granted(self.granted(epoch))
        }))
    }

    async fn release(&self, lease: &str, holder: &str, epoch: u64) -> Result<(), LeaseError> {
        let mut rows = self.rows.lock();
        if let Some(row) = rows.get_mut(lease).filter(|row| row.is_of(holder, epoch)) {
            row.holder = None;
        }
        Ok(())
    }

    async fn held(&self, prefix: &str) -> Result<Vec<HeldBy>, LeaseError> {
        let now = self.clock.now();
        let rows = self.rows.lock();
        let named = rows.range(SmolStr::from(prefix)..).take_while(|(lease, _)| lease.starts_with(prefix));
        let held = |(lease, row): (&SmolStr, &Row)| {
            let holder = row.holder.clone()?;
            Some(HeldBy { lease: lease.clone(), holder, ends_in: row.until - now })
        };
        Ok(named.filter_map(held).collect())
    }
}

impl Row {
    fn is_of(&self, holder: &str, epoch: u64) -> bool {
        self.epoch == epoch && self.holder.as_deref() == Some(holder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::lease::TERM;
    use crate::lease::contract::{self, Ground};

    #[tokio::test]
    async fn it_keeps_what_every_adapter_promises() {
        contract::run_all(async || {
            let clock = Arc::new(ManualClock::at(DateTime::UNIX_EPOCH));
            let leases = Arc::new(InProcessLeases::new(clock.clone(), TERM));
            let pass = move |time| {
                clock.advance(time);
                futures::future::ready(())
            };
            Ground::new(leases, TERM, pass)
        })
        .await;
    }

    #[tokio::test]
    async fn it_is_free_from_the_moment_its_time_is_over() {
        let clock = Arc::new(ManualClock::at(DateTime::UNIX_EPOCH));
        let leases = InProcessLeases::new(clock.clone(), TERM);
        for (after, free_after) in [(TimeDelta::zero(), TERM), (TERM, TERM * 2)] {
            let lease = format!("after {after}");
            leases.acquire(&lease, "a", TimeDelta::zero()).await.unwrap();
            let begun = clock.now();
            clock.set(begun + free_after - TimeDelta::milliseconds(1));
            let ends_in = TimeDelta::milliseconds(1);
            let taken = leases.acquire(&lease, "b", after).await.unwrap();
            assert_eq!(taken, Acquired::Taken { by: "a".into(), ends_in });
            clock.set(begun + free_after);
            let granted = leases.acquire(&lease, "b", after).await.unwrap();
            assert_eq!(granted, Acquired::Granted(Granted { epoch: 2, lasts: TERM }));
        }
    }
}
