//! An error of whatever kind, with its sources.

use std::error::Error;

/// Why something failed, with its sources.
pub type Failure = Box<dyn Error + Send + Sync>;
