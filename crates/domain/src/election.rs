//! Who gives first routes.
//!
//! There is one router at a time, because the split is one sequence. Which one it is, the log says: each router is elected by
//! an event, and everything that it appends holds only while that is the newest one. One that was paused and does not know that
//! another has taken over appends nothing any more.

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

/// The stream of the elections: its version is the term of the router.
pub const STREAM: &str = "router";

/// From here on this router gives first routes, and none before it does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouterElected {
    /// The process that it is in.
    pub node: SmolStr,
}
