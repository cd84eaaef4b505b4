//! What happens when a relay or a channel fails: the part of a policy that a sending may also set for itself.

use serde::{Deserialize, Serialize};

/// The terms of failing over (대체발송).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FailoverTerms {
    /// Try another relay of the same channel where the failure class allows it.
    pub relays: bool,
    /// Try e-mail after the relays, where the contact has an address and the failure class allows it.
    pub email: bool,
    /// Let e-mail follow a temporary failure of the handset too (off, shadow, busy).
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
