//! A whole simulation as data: how the process is set up, and what happens in which order.

use serde::{Deserialize, Serialize};
use std::fmt;

use crate::faults::AppendFault;
use crate::operation::{Operation, is_default, is_once, once};

/// An operation, and how far the process continues before the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaseStep {
    /// Seeds the order of polls from here on, so that a step has the same effect when others are left out.
    pub salt: u32,
    /// How many polls follow.
    pub polls: u16,
    /// What happens.
    pub op: Operation,
}

/// How the process is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    /// Lots with this many messages together are kept in memory. Others are read from the log for each decision.
    pub kept_messages_max: u64,
    /// The most jobs of a class in the lane of a relay.
    pub jobs_max: u32,
    /// Minutes after midnight in Seoul when it begins.
    pub starts_at_minute: u16,
    /// Weights follow live figures.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub advises: bool,
    /// How long the receipt of a message takes at most when all is well.
    #[serde(default = "usual_receipt_ms", skip_serializing_if = "is_usual_receipt_ms")]
    pub receipt_ms_max: u32,
    /// To how many recipients in a hundred the relays say "not now" at first.
    #[serde(default, skip_serializing_if = "is_default")]
    pub greylisted_per_cent: u8,
    /// The limit on open messages over all tenants; 0: no limit.
    #[serde(default, skip_serializing_if = "is_default")]
    pub open_messages_max: u32,
    /// The log is on another machine: positions have gaps, and a process learns late how far the log has come.
    #[serde(default, skip_serializing_if = "is_default")]
    pub remote_log: bool,
    /// The log writes to one stream at a time: nothing over several is atomic, nor in order.
    #[serde(default, skip_serializing_if = "is_default")]
    pub streams_apart: bool,
    /// How many processes work on the log.
    #[serde(default = "once", skip_serializing_if = "is_once")]
    pub nodes: u8,
}

/// A whole simulation: the same case gives the same log, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    /// Seeds what the steps do not define: the relays' answers, delays, orders.
    pub seed: u64,
    /// How the process is set up.
    pub setup: Setup,
    /// What happens.
    pub steps: Vec<CaseStep>,
}

impl Case {
    /// Whether there are several processes, or things happen to the only one that make its knowledge outdated.
    pub(crate) fn has_nodes(&self) -> bool {
        let is_of_nodes = |step: &CaseStep| {
            let CaseStep { op, .. } = step;
            matches!(
                op,
                Operation::Down { .. }
                    | Operation::Stop { .. }
                    | Operation::StandStill { .. }
                    | Operation::CutOff { .. }
                    | Operation::ClockOff { .. }
                    | Operation::Behind { .. }
                    | Operation::AppendFault { fault: AppendFault::Stalled, .. }
            )
        };
        self.setup.nodes > 1 || self.steps.iter().any(is_of_nodes)
    }

    /// Reads a case as [`Case`]'s `Display` writes it.
    ///
    /// # Errors
    /// If the text is not such a case.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }
}

impl fmt::Display for Case {
    /// JSON, one step per line, for a file in `tests/found`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{{\"seed\":{},\"setup\":{},\"steps\":[", self.seed, json(&self.setup))?;
        for (place, step) in self.steps.iter().enumerate() {
            let comma = if place + 1 < self.steps.len() { "," } else { "" };
            writeln!(formatter, "{}{comma}", json(step))?;
        }
        write!(formatter, "]}}")
    }
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_yes(answer: &bool) -> bool {
    *answer
}

fn usual_receipt_ms() -> u32 {
    4_000
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_usual_receipt_ms(milliseconds: &u32) -> bool {
    *milliseconds == usual_receipt_ms()
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("a case holds only numbers and words")
}
