//! Which router assigns first routes.
//!
//! There is only one router at a time, because the split is one sequence. The log says which: each router is elected
//! by an event, and its appends succeed only while that event is the newest. A router that was paused and does not
//! know that another has taken over can append nothing any more.

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

/// The stream of the elections. Its version is the router's term.
pub const STREAM: &str = "router";

/// From here on this router gives first routes, and none before it does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouterElected {
    /// The process that it is in.
    pub node: SmolStr,
}
