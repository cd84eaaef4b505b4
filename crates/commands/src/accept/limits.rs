//! The limits of acceptance.

use kite_domain::load::HouseBounds;
use kite_domain::tenant::LimitsInForce;
use kite_domain::text::TypeLimits;
use kite_domain::time_window::NightWindow;

/// No event of an acceptance is larger, in bytes.
pub const ACCEPTANCE_EVENT_BYTES_MAX: usize = 512 * 1_024;

/// What a lot's event holds beside its recipients: a number or two for each message, and a line for each type and kind
/// of number.
const LOT_FRAME_BYTES_MAX: usize = 64 * 1_024;

/// The recipients of one lot. One that is larger by itself is refused.
pub(super) const LOT_RECIPIENTS_BYTES_MAX: usize = ACCEPTANCE_EVENT_BYTES_MAX - LOT_FRAME_BYTES_MAX;

/// How many bytes may be filled in for one request, over all recipients: some hundred times the largest body. Whoever
/// repeats a long value in a text, and that for many recipients, would make us go through gigabytes otherwise.
pub(super) const FILLING_BYTES_MAX: usize = 128 << 20;

/// The bounds of acceptance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptLimits {
    /// Recipients in one request.
    pub recipients_max: usize,
    /// Messages that are due and not final, over all tenants.
    pub open_messages_max: u64,
    /// Messages that are accepted for later, over all tenants.
    pub scheduled_messages_max: u64,
    /// The share of every limit on open messages that is only for one-time passwords, in per cent.
    pub password_reserve_per_cent: u8,
    /// The limits of a tenant for which the operator has set no others.
    pub tenant: LimitsInForce,
    /// Events that a projector may be behind.
    pub projector_lag_events_max: u64,
    /// How long a refused caller is told to wait, in seconds.
    pub retry_after_s: u32,
    /// How far ahead a sending may be scheduled, in days.
    pub schedule_days_max: u32,
    /// Characters of a name that the caller gives to a sending or a message.
    pub reference_characters_max: usize,
    /// Bytes of the caller's own data as JSON.
    pub custom_bytes_max: usize,
    /// Text limits.
    pub text: TypeLimits,
    /// When no advertisement may be sent as a text message without consent to that. The hand-over uses the same
    /// window.
    pub night: NightWindow,
}

impl AcceptLimits {
    /// The bounds over all tenants.
    pub fn house(&self) -> HouseBounds {
        HouseBounds {
            open_messages_max: self.open_messages_max,
            scheduled_messages_max: self.scheduled_messages_max,
            password_reserve_per_cent: self.password_reserve_per_cent,
        }
    }
}

impl Default for AcceptLimits {
    fn default() -> Self {
        Self {
            recipients_max: 10_000,
            open_messages_max: 2_000_000,
            scheduled_messages_max: 10_000_000,
            password_reserve_per_cent: 10,
            tenant: LimitsInForce::default(),
            projector_lag_events_max: 500_000,
            retry_after_s: 5,
            schedule_days_max: 183,
            reference_characters_max: 200,
            custom_bytes_max: 4_096,
            text: TypeLimits::default(),
            night: NightWindow::default(),
        }
    }
}

/// A name that the caller gave is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{characters} characters; at most {characters_max} are allowed")]
pub struct TooLong {
    /// What it has.
    pub characters: usize,
    /// What it may have.
    pub characters_max: usize,
}

/// A name that the caller gave to a sending or a message.
pub(super) fn check_reference(reference: &str, limits: &AcceptLimits) -> Result<(), TooLong> {
    let characters_max = limits.reference_characters_max;
    // No character has less than a byte.
    if reference.len() <= characters_max {
        return Ok(());
    }
    match reference.chars().count() {
        fits if fits <= characters_max => Ok(()),
        characters => Err(TooLong { characters, characters_max }),
    }
}
