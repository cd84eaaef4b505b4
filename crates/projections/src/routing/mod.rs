//! Routing: the current relays, policies and advice by version, splits with their carries.
//!
//! The live figures of the relays are folded by the delivery model, which is the only one that knows channel and
//! times of every attempt; [`RoutingQueries::figures`] joins them with the relays' terms.

mod known;
mod queries;
mod rows;
mod schema;
mod splits;

pub use known::{KnownAdvice, KnownPolicy, KnownRelay, KnownSplit, SplitShare};
pub use queries::{Carries, RoutingQueries};

use kite_domain::event::{Event, EventKind};
use kite_domain::relay::{RelayCredentials, RelayDefined};
use kite_domain::slug::RelayId;
use kite_event_store::{Filter, RecordedEvent};
use smol_str::SmolStr;

use crate::engine::{Rows, Tables};
use crate::error::ApplyError;
use crate::read_model::ReadModel;
use crate::sql::json;
use crate::table::Table;
use rows::{AdviceRow, PolicyRow, RelayRow};
use splits::Splits;

/// Past this many rows of a table, what is remembered of it starts again.
const KEPT_MAX: usize = 1_024;

/// The fold of the routing.
#[derive(Debug)]
pub(crate) struct RoutingModel {
    relays: Rows<RelayRow>,
    policies: Rows<PolicyRow>,
    advice: Rows<AdviceRow>,
}

impl Default for RoutingModel {
    fn default() -> Self {
        let (relays, policies) = (Rows::keeping(KEPT_MAX), Rows::keeping(KEPT_MAX));
        Self { relays, policies, advice: Rows::keeping(KEPT_MAX) }
    }
}

impl ReadModel for RoutingModel {
    const NAME: &'static str = "routing";
    const SCHEMA_VERSION: i64 = 2;
    const CACHE_BYTES: usize = 4 * 1024 * 1024;
    const TABLES: &'static [&'static Table] = schema::TABLES;

    fn filter() -> Filter {
        Filter::kinds([
            EventKind::RelayDefined,
            EventKind::RelaySuspended,
            EventKind::RelayResumed,
            EventKind::RelayBreakerChanged,
            EventKind::RelayUnattended,
            EventKind::RelayAttended,
            EventKind::PolicyDefined,
            EventKind::WeightsAdvised,
            EventKind::MessagesRouted,
            EventKind::RoutesClaimed,
        ])
    }

    fn apply(&mut self, tables: Tables<'_>, events: &[(RecordedEvent, Event)]) -> Result<(), ApplyError> {
        let mut splits = Splits::default();
        for (recorded, event) in events {
            let time_ms = recorded.metadata.time.timestamp_millis();
            match event {
                Event::RelayDefined(defined) => self.relay_defined(tables, defined, time_ms)?,
                Event::RelaySuspended(suspended) => {
                    let reason = Some(suspended.reason.clone());
                    self.change(tables, &suspended.relay, |relay| relay.suspended = reason)?;
                }
                Event::RelayResumed(resumed) => {
                    self.change(tables, &resumed.relay, |relay| relay.suspended = None)?;
                }
                Event::RelayBreakerChanged(changed) => {
                    self.change(tables, &changed.relay, |relay| {
                        relay.breaker = json(&changed.to);
                        relay.breaker_reason = Some(changed.reason.clone());
                        relay.breaker_ms = Some(time_ms);
                        relay.breaker_until_ms = changed.until.map(|until| until.timestamp_millis());
                    })?;
                }
                Event::RelayUnattended(left) => {
                    self.change(tables, &left.relay, |relay| relay.unattended = Some(json(left)))?;
                }
                Event::RelayAttended(attended) => {
                    self.change(tables, &attended.relay, |relay| relay.unattended = None)?;
                }
                Event::PolicyDefined(policy) => {
                    let (key, row) = PolicyRow::of(policy, &recorded.metadata.actor, time_ms);
                    self.policies.put(tables, key, row)?;
                }
                Event::WeightsAdvised(advised) => {
                    let (key, row) = AdviceRow::of(advised, time_ms);
                    self.advice.put(tables, key, row)?;
                }
                Event::MessagesRouted(routed) => splits.add(routed, time_ms),
                Event::RoutesClaimed(claim) => splits.claim(claim, time_ms),
                _ => {}
            }
        }
        self.relays.flush(tables)?;
        self.policies.flush(tables)?;
        self.advice.flush(tables)?;
        Ok(splits.flush(tables)?)
    }
}

impl RoutingModel {
    fn relay_defined(
        &mut self,
        tables: Tables<'_>,
        defined: &RelayDefined,
        time_ms: i64,
    ) -> Result<(), ApplyError> {
        // What we know each other by stays in the log.
        let mut profile = defined.profile.clone();
        profile.credentials = RelayCredentials::default();
        let key = SmolStr::new(profile.relay.as_str());
        let profile = json(&profile);
        match self.relays.get_mut(tables, &key)? {
            Some(relay) => {
                (relay.profile, relay.defined_ms) = (profile, time_ms);
                Ok(())
            }
            None => self.relays.put(tables, key, RelayRow::new(profile, time_ms)),
        }
    }

    /// Changes a relay that is there.
    fn change(
        &mut self,
        tables: Tables<'_>,
        relay: &RelayId,
        change: impl FnOnce(&mut RelayRow),
    ) -> Result<(), ApplyError> {
        if let Some(row) = self.relays.get_mut(tables, &SmolStr::new(relay.as_str()))? {
            change(row);
        }
        Ok(())
    }
}
