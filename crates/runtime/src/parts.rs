//! What a process has, whatever its roles.

use kite_commands::open_work::OpenWork;
use kite_commands::refusal_keeper::KnownPeople;
use kite_commands::{JournalError, WriteSide};
use kite_projections::ReadModels;
use std::sync::Arc;

use crate::host::Host;
use crate::open_work::{OpenWorkReader, Reading};

/// The write side, the read models, and the adapter between them. Cheap to clone.
#[derive(Clone)]
pub struct Parts {
    /// The write side.
    pub write_side: WriteSide,
    /// The read models.
    pub models: ReadModels,
    /// Where work is found.
    pub open_work: Arc<dyn OpenWork>,
    /// Which addresses are one person's.
    pub people: Arc<dyn KnownPeople>,
}

impl Parts {
    /// Over these read models. The directory is as the log says.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub async fn open<H: Host>(
        host: &H,
        write_side: WriteSide,
        models: ReadModels,
        reading: Reading,
    ) -> Result<Self, JournalError> {
        let reader = Arc::new(OpenWorkReader::new(host.clone(), models.clone(), reading));
        write_side.directory.begin(&write_side.journal, reader.clone()).await?;
        Ok(Self { write_side, models, open_work: reader.clone(), people: reader })
    }
}
