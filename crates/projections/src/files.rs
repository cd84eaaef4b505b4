//! The models of a storage, each with its readers.

use crate::read_model::ReadModel;
use crate::readers::Readers;

/// Readers of every model, in the order of the list of read models. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Files(Vec<(&'static str, Readers)>);

impl Files {
    /// These, by the names of their models.
    pub(crate) fn new(files: Vec<(&'static str, Readers)>) -> Self {
        Self(files)
    }

    /// Readers of this model.
    pub(crate) fn of<M: ReadModel>(&self) -> Readers {
        let found = self.each().find(|(name, _)| *name == M::NAME);
        found.expect("every model that is asked for is in the list").1.clone()
    }

    /// The same, asked by the write side.
    pub(crate) fn of_write_side(&self) -> Self {
        Self(self.each().map(|(name, readers)| (*name, readers.of_write_side())).collect())
    }

    /// All of them, by the names of their models.
    pub(crate) fn each(&self) -> impl Iterator<Item = &(&'static str, Readers)> {
        self.0.iter()
    }
}
