//! The write side of one process, wired.

use std::sync::Arc;

use crate::accept::{AcceptLimits, Acceptance, BacklogGauge};
use crate::address_book::AddressBook;
use crate::directory::Directory;
use crate::journal::Journal;
use crate::lots::Lots;
use crate::manage::Manage;
use crate::receipts::ReceiptBook;
use crate::vault::Vault;

/// Everything that requests and workers write through. Cheap to clone.
#[derive(Clone)]
pub struct WriteSide {
    /// The log.
    pub journal: Journal,
    /// Relays, policies, senders, tenants, keys, refusals.
    pub directory: Directory,
    /// Lots and sendings.
    pub lots: Lots,
    /// What operators and tenants change.
    pub manage: Manage,
    /// Takes receipts.
    pub receipts: ReceiptBook,
    /// Contacts and groups.
    pub address_book: AddressBook,
}

impl WriteSide {
    /// Of this log, which is not read yet. At most so many messages' lots are kept in memory; keys are made from `secrets`.
    pub fn new(
        journal: Journal,
        lots_in_memory_messages_max: u64,
        secrets: Arc<dyn Fn() -> [u8; 32] + Send + Sync>,
    ) -> Self {
        let directory = Directory::default();
        let lots = Lots::new(journal.clone(), lots_in_memory_messages_max);
        Self {
            manage: Manage::new(journal.clone(), directory.clone(), secrets),
            receipts: ReceiptBook::new(lots.clone(), directory.clone()),
            address_book: AddressBook::new(journal.clone()),
            journal,
            directory,
            lots,
        }
    }

    /// With keys that encrypt the credentials of relays.
    #[must_use]
    pub fn with_vault(self, vault: Arc<Vault>) -> Self {
        Self { manage: self.manage.with_vault(vault), ..self }
    }

    /// Takes sendings within these limits.
    pub fn acceptance(&self, limits: AcceptLimits, backlog: BacklogGauge) -> Acceptance {
        Acceptance::new(self.lots.clone(), self.directory.clone(), limits, backlog)
    }
}
