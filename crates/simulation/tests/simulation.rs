//! A fixed budget of seeds with every run of the tests, cases that once failed, and the determinism that both rest on.

use kite_simulation::{
    Case, Length, Reached, Situation, a_breaker_is_followed, generate, generate_nodes, run, run_copied,
};
use std::iter::{Skip, StepBy};
use std::ops::Range;
use std::panic::resume_unwind;
use std::path::Path;
use std::thread;
use strum::VariantArray;

/// The seeds of every test run.
const SEEDS: Range<u64> = 1..401;
/// Those with several processes.
const SEEDS_OF_SEVERAL: Range<u64> = 1..61;
/// How many threads share them.
const THREADS: usize = 4;

/// Cases of these seeds, over all threads.
fn break_no_law(seeds: Range<u64>, case: fn(u64, Length) -> Case, option: &str) -> Reached {
    let play = |seeds: StepBy<Skip<Range<u64>>>| {
        let mut reached = Reached::default();
        for seed in seeds {
            match run(&case(seed, Length::Short)) {
                Ok(passed) => reached.add(&passed.reached),
                Err(failure) => panic!("cargo xtask sim {option}--seed {seed} cuts this down\n{failure}"),
            }
        }
        reached
    };
    let mut reached = Reached::default();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|first| {
                let seeds = seeds.clone().skip(first).step_by(THREADS);
                scope.spawn(move || play(seeds))
            })
            .collect();
        for thread in threads {
            reached.add(&thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
    });
    reached
}

/// The seeds do what they are there for, too: a fault that never strikes breaks no law.
#[test]
fn seeds_break_no_law_and_come_to_what_matters() {
    let reached = break_no_law(SEEDS, generate, "");
    let is_missing = |situation: &Situation| reached.times(*situation) < situation.times_min();
    let missing: Vec<Situation> = Situation::VARIANTS.iter().copied().filter(is_missing).collect();
    assert!(missing.is_empty(), "never or hardly came to {missing:?}\n{reached}");
}

#[test]
fn a_copy_waits_for_the_word_and_hands_no_reference_over_twice_after_it() {
    for seed in 1..21 {
        if let Err(failure) = run_copied(&generate(seed, Length::Short)) {
            panic!("cargo xtask sim --copied --seed {seed}\n{failure}");
        }
    }
}

#[test]
fn a_relay_that_one_process_has_tripped_is_not_called_by_another() {
    a_breaker_is_followed().unwrap();
}

/// Several processes on one log, that die, stand still and are cut off, with clocks that are off.
#[test]
fn several_processes_break_no_law_and_meet_what_matters() {
    let reached = break_no_law(SEEDS_OF_SEVERAL, generate_nodes, "--nodes ");
    let of_several = Situation::VARIANTS.iter().copied().filter(|situation| situation.is_of_several());
    let missing: Vec<Situation> = of_several.filter(|situation| reached.times(*situation) == 0).collect();
    assert!(missing.is_empty(), "never came to {missing:?}\n{reached}");
}

#[test]
fn the_same_case_gives_the_same_log_byte_for_byte() {
    for seed in 9_000..9_008 {
        let make = if seed % 2 == 0 { generate } else { generate_nodes };
        let case = make(seed, Length::Short);
        let (once, again) = (run(&case).unwrap(), run(&case).unwrap());
        assert_eq!(once, again, "seed {seed}");
        assert!(once.events > 10, "seed {seed} does next to nothing");
    }
}

#[test]
fn a_case_reads_back_as_it_is_printed() {
    for seed in 1..200 {
        for case in [generate(seed, Length::Long), generate_nodes(seed, Length::Long)] {
            assert_eq!(Case::parse(&case.to_string()).unwrap(), case, "seed {seed}");
        }
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
