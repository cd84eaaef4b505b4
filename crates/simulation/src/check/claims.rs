//! First routes that are claimed before their lots are told. What law 3 says holds in the order of the claims, and no lot is told
//! anything else.

use chrono::{DateTime, Utc};
use kite_domain::election::{ClaimedLot, RoutesClaimed};
use kite_domain::ids::MessageId;
use kite_domain::lot::MessagesRouted;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

use super::{Checked, Checker, Told};

/// All claims, by the ids of the events with which lots are told.
#[derive(Debug, Default)]
pub(super) struct Claims {
    lots: BTreeMap<Uuid, (ClaimedLot, DateTime<Utc>)>,
    messages: BTreeSet<MessageId>,
}

impl Checker {
    /// A claim: each message once, and split as the law says.
    pub(super) fn claimed(&mut self, claim: &RoutesClaimed, told: &Told<'_>) -> Checked {
        for claimed in &claim.lots {
            let told = Told { lot: Some(claimed.lot), ..*told };
            let terms = self.terms_of(&told)?;
            if self.is_known_to_be_paused(terms.sending, told.time())? {
                return Err("claimed although its sending is paused".to_owned());
            }
            for seq in claimed.routed.routes.iter().flat_map(|route| &route.messages) {
                let id = told.message(seq)?;
                if !self.message_at(&told, seq)?.attempts.is_empty() || !self.claims.messages.insert(id) {
                    return Err(format!("law 3: message {seq} of {} is claimed twice", claimed.lot));
                }
            }
            self.split(&claimed.routed, &told, &terms)?;
            self.claims.lots.insert(claimed.event, (claimed.clone(), told.time()));
        }
        Ok(())
    }

    /// When the routes of this event were claimed, if they were: it says nothing else than the claim.
    pub(super) fn claim_of(
        &self,
        routed: &MessagesRouted,
        told: &Told<'_>,
    ) -> Checked<Option<DateTime<Utc>>> {
        let Some((claimed, at)) = self.claims.lots.get(&told.recorded.id) else {
            return match self.claims.lots.is_empty() || routed.splits.is_empty() {
                true => Ok(None),
                false => Err("law 3: first routes that nobody has claimed".to_owned()),
            };
        };
        if claimed.lot != told.lot()? {
            return Err(format!("claimed for lot {}", claimed.lot));
        }
        for route in &routed.routes {
            let is_claimed = |seq: u32| {
                claimed.routed.routes.iter().any(|claim| {
                    claim.relay == route.relay
                        && claim.channel == route.channel
                        && claim.attempt == route.attempt
                        && claim.messages.contains(seq)
                })
            };
            if let Some(seq) = route.messages.iter().find(|seq| !is_claimed(*seq)) {
                return Err(format!(
                    "law 3: message {seq} is claimed for another relay than {}",
                    route.relay
                ));
            }
        }
        Ok(Some(*at))
    }
}
