//! The list of read models is the only one.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Bench, run};
use crate::{ReadModels, replay};

#[test]
fn every_model_of_the_list_has_a_file_a_projector_and_its_part_of_every_replay() {
    let mut bench = Bench::new();
    let names: Vec<&str> = ReadModels::names().collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "each has a name of its own");
    for name in &names {
        assert_eq!(bench.path().join(format!("{name}.db")).exists(), bench.has_files(), "{name}");
    }
    let projectors: Vec<&str> = bench.runners().iter().map(|runner| runner.name()).collect();
    assert_eq!(projectors, names);
    let positions: Vec<&str> = bench.models.positions().map(|(name, _)| name).collect();
    assert_eq!(positions, names);
    let counted: Vec<&str> = bench.models.parked_counts().unwrap().iter().map(|(name, _)| *name).collect();
    assert_eq!(counted, names);
    bench.runners().clear();
    let store: Arc<_> = bench.store.clone();
    let rebuilt = run(replay::rebuild(store.clone(), bench.storage())).unwrap();
    let verified = run(replay::verify(store, bench.storage())).unwrap();
    for report in [rebuilt, verified] {
        assert_eq!(report.models.iter().map(|model| model.name).collect::<Vec<_>>(), names);
    }
    let parked = replay::parked(bench.storage()).unwrap();
    assert_eq!(parked.iter().map(|model| model.name).collect::<Vec<_>>(), names);
}
