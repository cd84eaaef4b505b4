//! Wrong routines of [deliberate bugs](kite_domain::mutation).

use kite_event_store::Position;

use super::{Projector, ReadModel, WriteError};
use crate::database;
use crate::error::{ApplyError, ProjectError};

impl<M: ReadModel> Projector<M> {
    /// `CheckpointBeforeRows`.
    pub(super) async fn move_checkpoint_alone(&mut self, to: Position) -> Result<(), ProjectError> {
        let after = self.position;
        let storage = |error: rusqlite::Error| ProjectError::Apply { after, source: error.into() };
        {
            let transaction = self.connection.transaction().map_err(storage)?;
            database::move_checkpoint(&transaction, after, to).map_err(storage)?;
            transaction.commit().map_err(storage)?;
        }
        // Here a crash may come.
        self.store.read_stream("", 0, 1).await?;
        Ok(())
    }
}

/// `ParkedRowStopsOthers`.
pub(super) fn of_the_whole_piece(error: WriteError, after: Position) -> WriteError {
    match error {
        WriteError::Event(reason) => {
            WriteError::Piece(ProjectError::Apply { after, source: ApplyError::corrupt(reason) })
        }
        piece @ WriteError::Piece(_) => piece,
    }
}
