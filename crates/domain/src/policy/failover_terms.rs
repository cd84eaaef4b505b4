//! What happens when a relay or a channel fails: the part of a policy that a sending may also set for itself.

use serde::{Deserialize, Serialize};

/// The most attempts at one message.
pub const ATTEMPTS_MAX: u16 = 20;

/// The longest that a receipt is waited for before the outcome counts as unknown, in seconds: 30 days.
pub const WAIT_S_MAX: u32 = 30 * 86_400;

/// A term that is out of range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailoverOutOfRange {
    /// Which one, as the API calls it.
    pub field: &'static str,
    /// What is allowed, in words.
    pub detail: String,
}

/// The terms of failing over (대체발송).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FailoverTerms {
    /// Try another relay of the same channel where the failure class allows it.
    pub relays: bool,
    /// Try e-mail after the relays, where the contact has an address and the failure class allows it.
    pub email: bool,
    /// Let e-mail follow a temporary failure of the handset, too (off, shadow, busy).
    pub email_after_temporary: bool,
    /// Fail over from an unknown outcome. Risks a second delivery; never otherwise done.
    pub at_least_once: bool,
    /// How long to wait for a receipt before the outcome counts as unknown, in seconds; none: as long as the
    /// relay's own deadline.
    pub wait_s: Option<u32>,
    /// How long a relay is tried again with a message that it refuses for now (greylisting, a full mailbox), in seconds from
    /// the first such refusal; none: for as long as the message lives. Afterwards the refusal is final.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_s: Option<u32>,
    /// The most attempts at one message, the first included.
    pub attempts_max: u16,
}

impl FailoverTerms {
    /// Whether the values are within their limits. A log may hold others, from before there were limits.
    ///
    /// # Errors
    /// The first value that is not.
    pub fn check(&self) -> Result<(), FailoverOutOfRange> {
        if !(1..=ATTEMPTS_MAX).contains(&self.attempts_max) {
            let detail = format!("1 to {ATTEMPTS_MAX} attempts are allowed");
            return Err(FailoverOutOfRange { field: "attempts_max", detail });
        }
        if self.wait_s.is_some_and(|wait_s| !(1..=WAIT_S_MAX).contains(&wait_s)) {
            let detail = format!("a wait of 1 to {WAIT_S_MAX} seconds is allowed");
            return Err(FailoverOutOfRange { field: "wait_seconds", detail });
        }
        if self.retry_s.is_some_and(|retry_s| !(1..=WAIT_S_MAX).contains(&retry_s)) {
            let detail = format!("1 to {WAIT_S_MAX} seconds of trying again are allowed");
            return Err(FailoverOutOfRange { field: "retry_seconds", detail });
        }
        Ok(())
    }
}

impl Default for FailoverTerms {
    fn default() -> Self {
        Self {
            relays: true,
            email: false,
            email_after_temporary: false,
            at_least_once: false,
            wait_s: None,
            retry_s: None,
            attempts_max: 4,
        }
    }
}
