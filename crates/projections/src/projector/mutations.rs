//! Wrong routines of [deliberate bugs](kite_domain::mutation).

use kite_event_store::Position;

use super::{Projector, ReadModel, WriteError};
use crate::error::{ApplyError, ProjectError};

impl<M: ReadModel> Projector<M> {
    /// `CheckpointBeforeRows`.
    pub(super) async fn move_checkpoint_alone(&mut self, to: Position) -> Result<(), ProjectError> {
        let after = self.position;
        let apply = |source| ProjectError::Apply { after, source };
        self.writer.write(after, to, |_| Ok(())).map_err(|error| apply(error.into()))?.map_err(apply)?;
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
        other @ (WriteError::Piece(_) | WriteError::Overtaken) => other,
    }
}
