//! A fixed budget of seeds with every run of the tests, cases that once failed, and the determinism that both rest on.

use kite_simulation::{Case, Length, Reached, generate, run};
use std::ops::Range;
use std::path::Path;

/// Checks that the seeds do what they are there for, too: a fault that never strikes breaks no law.
fn break_no_law(seeds: Range<u64>) {
    let mut reached = Reached::default();
    for seed in seeds {
        match run(&generate(seed, Length::Short)) {
            Ok(passed) => reached.add(&passed.reached),
            Err(failure) => panic!("cargo xtask sim --seed {seed} cuts this down\n{failure}"),
        }
    }
    let missing: Vec<_> = reached.missing().into_iter().filter(|situation| !situation.is_rare()).collect();
    assert!(missing.is_empty(), "never came to {missing:?}\n{reached}");
}

// Four tests rather than one, so that they run beside each other.

#[test]
fn seeds_of_the_first_quarter_break_no_law() {
    break_no_law(1..101);
}

#[test]
fn seeds_of_the_second_quarter_break_no_law() {
    break_no_law(101..201);
}

#[test]
fn seeds_of_the_third_quarter_break_no_law() {
    break_no_law(201..301);
}

#[test]
fn seeds_of_the_last_quarter_break_no_law() {
    break_no_law(301..401);
}

#[test]
fn the_same_case_gives_the_same_log_byte_for_byte() {
    for seed in 9_000..9_008 {
        let case = generate(seed, Length::Short);
        let (once, again) = (run(&case).unwrap(), run(&case).unwrap());
        assert_eq!(once, again, "seed {seed}");
        assert!(once.events > 10, "seed {seed} does next to nothing");
    }
}

#[test]
fn a_case_reads_back_as_it_is_printed() {
    for seed in 1..200 {
        let case = generate(seed, Length::Long);
        assert_eq!(Case::parse(&case.to_string()).unwrap(), case, "seed {seed}");
    }
}

/// Bugs that the simulation has found. Each file is a case as it was printed, cut down.
#[test]
fn what_was_found_stays_mended() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/found");
    let mut files: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        let case = Case::parse(&std::fs::read_to_string(&file).unwrap()).unwrap();
        if let Err(failure) = run(&case) {
            panic!("{}: {failure}", file.display());
        }
    }
}
