//! Every seed and every input that once broke a target, on stable Rust.
//!
//! `fuzz/seeds/<target>/` holds small inputs that the fuzzer starts from; `fuzz/regressions/<target>/` holds what it
//! found. What it finds along the way (`fuzz/corpus/`) is not kept.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use kite_fuzz_targets::{TARGETS, Target};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The largest input that is kept, in bytes.
const INPUT_BYTES_MAX: u64 = 16 << 10;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

fn names_in(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn run_all(target: &Target) {
    let seeds = names_in(&fuzz().join("seeds").join(target.name));
    assert!(!seeds.is_empty(), "{} has no seeds", target.name);
    for folder in ["seeds", "regressions"] {
        let directory = fuzz().join(folder).join(target.name);
        for name in names_in(&directory) {
            let path = directory.join(&name);
            assert!(fs::metadata(&path).unwrap().len() <= INPUT_BYTES_MAX, "{} is too large", path.display());
            println!("{}", path.display());
            (target.run)(&fs::read(&path).unwrap());
        }
    }
    // Whatever the seeds are: nothing, and what is no text.
    (target.run)(b"");
    (target.run)(b"\xff\xfe\x00\x1f\x1f\x1f");
}

macro_rules! one_test_a_target {
    ($($target:ident),*) => {
        $(#[test]
        fn $target() {
            run_all(TARGETS.iter().find(|target| target.name == stringify!($target)).unwrap());
        })*

        #[test]
        fn every_target_has_a_test_and_a_binary() {
            let names: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
            assert_eq!(names, [$(stringify!($target)),*].map(str::to_owned).into());
            let binaries = names_in(&fuzz().join("fuzz_targets"));
            let binaries: BTreeSet<String> =
                binaries.iter().map(|name| name.strip_suffix(".rs").unwrap().to_owned()).collect();
            assert_eq!(names, binaries);
            for folder in ["seeds", "regressions"] {
                for name in names_in(&fuzz().join(folder)) {
                    assert!(names.contains(&name), "{folder}/{name} belongs to no target");
                }
            }
        }
    };
}

one_test_a_target!(
    address,
    api_request,
    config,
    contacts,
    events,
    ids,
    receipts,
    relay_answer,
    sending,
    text
);
