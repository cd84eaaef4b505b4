//! A sending (발송): one request to send to 1..N recipients. Its stream holds what all its messages have in common
//! (text, sender, terms) and what happens to it as a whole: accepted, released when due, paused and resumed,
//! cancelled, completed.

mod events;
mod idempotency;
mod pause;

pub use events::{
    AdTerms, PauseBy, SendingAbandoned, SendingAccepted, SendingCancelled, SendingClaimed, SendingCompleted,
    SendingContent, SendingPaused, SendingReleased, SendingResumed, WindowAction,
};
pub use idempotency::idempotency_stream;
pub use pause::{Pause, PauseRefusal};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use strum::{IntoStaticStr, VariantArray};

use crate::event::Event;

/// How urgent a message is, and which rules apply to it. Each class has its own lane at every relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[derive(IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum MessageClass {
    /// A one-time password or the like: late is worse than never.
    Otp,
    /// Information that the recipient expects.
    Notice,
    /// An advertisement: consent, marking, night window.
    Ad,
}

impl MessageClass {
    /// All of them, the most urgent first.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// The word for it, as on the wire.
    pub fn word(self) -> &'static str {
        self.into()
    }
}

/// A sending as it stands.
#[derive(Debug, Clone, Default)]
pub struct Sending {
    /// The seal, once it is there.
    pub accepted: Option<Arc<SendingAccepted>>,
    /// When its scheduled time had come.
    pub released_at: Option<DateTime<Utc>>,
    /// Why nothing of it goes out at the moment.
    pub paused: Option<Pause>,
    /// When it was cancelled.
    pub cancelled_at: Option<DateTime<Utc>>,
    /// Every message is final.
    pub completed: bool,
}

impl Sending {
    /// Folds an event of this sending's stream; others leave it as it is.
    pub fn evolve(&mut self, event: &Event, time: DateTime<Utc>) {
        match event {
            Event::SendingAccepted(accepted) => self.accepted = Some(Arc::new(accepted.clone())),
            Event::SendingReleased(_) => self.released_at = Some(time),
            Event::SendingPaused(paused) => self.paused = Some(Pause::new(paused, time)),
            Event::SendingResumed(_) => self.paused = None,
            Event::SendingCancelled(_) => self.cancelled_at = Some(time),
            Event::SendingCompleted(_) => self.completed = true,
            _ => {}
        }
    }

    /// Whether its messages may be routed now: sealed, neither cancelled nor paused, and due.
    pub fn is_due(&self, now: DateTime<Utc>) -> bool {
        let Some(accepted) = &self.accepted else { return false };
        self.cancelled_at.is_none()
            && self.paused.is_none()
            && accepted.scheduled_at.is_none_or(|scheduled| scheduled <= now || self.released_at.is_some())
    }
}
