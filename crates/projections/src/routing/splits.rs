//! The splits of one transaction: what was counted, and the newest record of each.

use kite_domain::election::RoutesClaimed;
use kite_domain::lot::{MessagesRouted, SplitRecord};
use std::collections::BTreeMap;

use super::schema::{SPLIT_RELAYS, SPLITS};
use crate::engine::{StorageError, Tables};
use crate::sql::json;
use crate::table::{Pick, Statement};

static ADD_TO_SPLITS: Statement = Statement::upsert(&SPLITS, Pick::All);
static ADD_TO_SPLIT_RELAYS: Statement = Statement::upsert(&SPLIT_RELAYS, Pick::All);

/// See the module.
#[derive(Default)]
pub(super) struct Splits<'e> {
    newest: BTreeMap<&'e str, (&'e SplitRecord, i64)>,
    messages: BTreeMap<&'e str, i64>,
    /// Weight and routes by key and relay.
    relays: BTreeMap<(&'e str, &'e str), (u32, i64)>,
}

impl<'e> Splits<'e> {
    /// The first routes of an event stand in the order of its splits, each as many as the split says.
    pub(super) fn add(&mut self, routed: &'e MessagesRouted, time_ms: i64) {
        let mut routes = routed.routes.iter().filter(|route| route.attempt == 1).peekable();
        for split in &routed.splits {
            let key = split.key.as_str();
            self.newest.insert(key, (split, time_ms));
            *self.messages.entry(key).or_default() += i64::from(split.messages);
            for entry in &split.weights {
                self.relays.entry((key, entry.relay.as_str())).or_default().0 = entry.weight;
            }
            let mut left = split.messages as usize;
            while let Some(route) = routes.next_if(|route| left > 0 && route.channel == split.channel) {
                let count = route.messages.len();
                left = left.saturating_sub(count);
                self.relays.entry((key, route.relay.as_str())).or_default().1 += count as i64;
            }
        }
    }

    /// Each split stands behind its claim, whatever of it the lots are told.
    pub(super) fn claim(&mut self, claim: &'e RoutesClaimed, time_ms: i64) {
        for split in claim.lots.iter().flat_map(|lot| &lot.routed.splits) {
            self.newest.insert(split.key.as_str(), (split, time_ms));
            for entry in &split.weights {
                self.relays.entry((split.key.as_str(), entry.relay.as_str())).or_default().0 = entry.weight;
            }
        }
    }

    /// Adds everything to the tables.
    pub(super) fn flush(self, tables: Tables<'_>) -> Result<(), StorageError> {
        if self.newest.is_empty() {
            return Ok(());
        }
        let mut cells = tables.fill(&ADD_TO_SPLITS)?;
        for (key, (split, time_ms)) in self.newest {
            cells.put(key);
            cells.put(split.channel.as_str());
            cells.put(split.version);
            cells.put(split.objective.as_str());
            cells.put(self.messages.get(key).copied().unwrap_or(0));
            cells.put(&json(&split.carry));
            cells.put(&json(&split.left_out));
            cells.put(time_ms);
            cells.end()?;
        }
        let mut cells = tables.fill(&ADD_TO_SPLIT_RELAYS)?;
        for ((key, relay), (weight, count)) in self.relays {
            cells.put(key);
            cells.put(relay);
            cells.put(weight);
            cells.put(count);
            cells.end()?;
        }
        Ok(())
    }
}
