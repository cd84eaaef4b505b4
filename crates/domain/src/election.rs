//! Which router assigns first routes.
//!
//! There is only one router at a time, because the split is one sequence. The log says which: each router is elected
//! by an event, and its appends succeed only while that event is the newest. A router that was paused and does not
//! know that another has taken over can append nothing any more.
//!
//! Some event stores cannot append to several lots at once. There a router first claims its next routes, all of them in one append to
//! the stream of elections, and then tells the lots. A claim is carried out to its end before the next, by the next router if need be:
//! the split is exact in the order of the claims.

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use std::collections::HashMap;
use uuid::Uuid;

use crate::ids::LotId;
use crate::lot::{Lot, MessagesRouted, RouteSet, SplitRecord};
use crate::seq_set::SeqSet;
use crate::split::Carry;

/// The stream of the elections and claims. Its version is the router's term.
pub const STREAM: &str = "router";

/// From here on this router gives first routes, and none before it does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouterElected {
    /// The process that it is in.
    pub node: SmolStr,
}

/// First routes that lots are told of from now on, and nobody gives others before all of them were.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoutesClaimed {
    /// In the order of the splits.
    pub lots: Vec<ClaimedLot>,
}

/// First routes of a lot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimedLot {
    /// Which lot.
    pub lot: LotId,
    /// The id of the event with which it is told.
    pub event: Uuid,
    /// The routes.
    pub routed: MessagesRouted,
}

impl RoutesClaimed {
    /// What each lot is told: the same, but each split stands where it does after the whole claim, so that it does not matter which of
    /// them is in the log first.
    #[must_use]
    pub fn told(&self) -> Vec<ClaimedLot> {
        let splits = self.lots.iter().flat_map(|lot| &lot.routed.splits);
        let last: HashMap<SmolStr, Carry> =
            splits.map(|split| (split.key.clone(), split.carry.clone())).collect();
        let mut lots = self.lots.clone();
        for split in lots.iter_mut().flat_map(|lot| &mut lot.routed.splits) {
            if let Some(carry) = last.get(&split.key) {
                split.carry = carry.clone();
            }
        }
        lots
    }
}

impl ClaimedLot {
    /// What is left of it: messages that have ended since, or have a route, are left out.
    #[must_use]
    pub fn left(&self, lot: &Lot) -> Option<MessagesRouted> {
        let is_left = |seq: u32| {
            lot.message(seq).is_some_and(|message| message.outcome.is_none() && message.attempts.is_empty())
        };
        let mut routes = self.routed.routes.iter();
        let mut left = MessagesRouted { routes: Vec::new(), splits: Vec::new() };
        for split in &self.routed.splits {
            let (mut claimed, mut kept) = (0, 0);
            while claimed < split.messages as usize {
                let Some(route) = routes.next() else { break };
                claimed += route.messages.len();
                let messages: SeqSet = route.messages.iter().filter(|seq| is_left(*seq)).collect();
                kept += messages.len() as u32;
                if !messages.is_empty() {
                    left.routes.push(RouteSet { messages, ..route.clone() });
                }
            }
            if kept > 0 {
                left.splits.push(SplitRecord { messages: kept, ..split.clone() });
            }
        }
        (!left.routes.is_empty()).then_some(left)
    }
}
