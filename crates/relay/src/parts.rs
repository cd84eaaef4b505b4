//! What the hand-over is made of.

use kite_commands::directory::Directory;
use kite_commands::lease::LeaseHolder;
use kite_commands::manage::Manage;
use kite_commands::receipts::ReceiptBook;
use kite_commands::{Awaited, Lots};
use std::sync::Arc;

use crate::client::Connector;
use crate::publisher::QueueFeeder;
use crate::queue::WorkQueue;
use crate::settings::RelaySettings;
use crate::watched::PanicNotice;

/// What all relays of a process have in common.
pub struct RelayParts {
    /// The lots.
    pub lots: Lots,
    /// Relays, senders, opt-outs.
    pub directory: Directory,
    /// Writes the changes of breakers.
    pub manage: Manage,
    /// Takes receipts.
    pub receipts: ReceiptBook,
    /// Where work comes from.
    pub queue: Arc<dyn WorkQueue>,
    /// Derives a lot's jobs again.
    pub feeder: QueueFeeder,
    /// Makes clients.
    pub connector: Arc<dyn Connector>,
    /// Takes shares of relays.
    pub holder: LeaseHolder,
    /// What waits for relays in trouble elsewhere.
    pub awaited: Awaited,
    /// Told of each worker that panics.
    pub panics: PanicNotice,
    /// Settings.
    pub settings: RelaySettings,
}
