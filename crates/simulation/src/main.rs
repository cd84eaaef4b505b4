//! Runs simulations: `cargo xtask sim`.

#[cfg(feature = "mutations")]
mod mutations;

use anyhow::{Context, bail};
use clap::Parser;
use kite_simulation::{
    Case, Failure, Length, Passed, Reached, generate, generate_nodes, run, run_copied, shrink,
};
use parking_lot::Mutex;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// Within so many seeds every situation has to come up.
const SEEDS_TO_REACH_ALL: u64 = 5_000;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser, Clone)]
#[command(name = "cargo xtask sim", about = "Simulates Kite under faults")]
struct Options {
    /// How many seeds; 2000, or 1 where a seed is named.
    #[arg(long)]
    seeds: Option<u64>,
    /// The first seed.
    #[arg(long)]
    seed: Option<u64>,
    /// Long cases: some fifty operations.
    #[arg(long)]
    long: bool,
    /// Threads; seeds are split over them.
    #[arg(long, default_value_t = 2)]
    threads: u64,
    /// Activates one deliberate bug after another and says within how many seeds each is found.
    #[arg(long)]
    mutations: bool,
    /// With `--mutations`: only the bug of this name.
    #[arg(long)]
    only: Option<String>,
    /// Continues after a failure, and lists all of them.
    #[arg(long)]
    all: bool,
    /// A case that was kept, to be run alone.
    #[arg(long)]
    case: Option<std::path::PathBuf>,
    /// Prints the log of a failing case.
    #[arg(long)]
    log: bool,
    /// Says how often the seeds came to each situation that matters.
    #[arg(long)]
    reached: bool,
    /// Takes a backup in the middle of each case, and lets a copy continue after the original's end.
    #[arg(long)]
    copied: bool,
    /// Lets one to four processes work on the log of each case, and things happen to them.
    #[arg(long, conflicts_with = "copied")]
    nodes: bool,
    /// Says how a failing case fails, without cutting it down first.
    #[arg(long)]
    whole: bool,
}

impl Options {
    fn length(&self) -> Length {
        if self.long { Length::Long } else { Length::Short }
    }

    /// The case of a seed.
    fn case(&self, seed: u64) -> Case {
        let case = if self.nodes { generate_nodes } else { generate };
        case(seed, self.length())
    }

    fn first(&self) -> u64 {
        self.seed.unwrap_or(1)
    }

    fn count(&self) -> u64 {
        self.seeds.unwrap_or(if self.seed.is_some() { 1 } else { 2_000 })
    }
}

fn main() -> ExitCode {
    // What panics inside a simulation is part of its failure, and told with it.
    std::panic::set_hook(Box::new(|_| {}));
    match simulate(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn simulate(options: &Options) -> anyhow::Result<()> {
    if let Some(path) = &options.case {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        match run(&Case::parse(&text)?) {
            Ok(passed) => println!("passed: {passed:?}"),
            Err(failure) => {
                print_log(options, &failure);
                return Err(failure.into());
            }
        }
        return Ok(());
    }
    if options.mutations {
        return run_mutations(options);
    }
    if options.all {
        return list(options);
    }
    let began = now();
    let play = if options.copied { run_copied } else { run };
    let found = search(options, options.first(), options.count(), play);
    let seconds = (now() - began).as_secs_f64();
    match found {
        Found::Nothing(totals) => {
            println!(
                "{} seeds in {seconds:.1} s ({:.0} a minute): {} events, {} messages handed over, nothing found",
                options.count(),
                options.count() as f64 * 60.0 / seconds,
                totals.events,
                totals.handed_over
            );
            if options.reached {
                print!("{}", totals.reached);
            }
            let missing = totals.reached.missing();
            if options.count() >= SEEDS_TO_REACH_ALL && !options.nodes && !missing.is_empty() {
                bail!("so many seeds and none came to {missing:?}: what they test is not tested");
            }
            Ok(())
        }
        Found::Failure(seed) => tell(options, seed),
    }
}

#[expect(clippy::disallowed_methods, reason = "how long a search takes is a figure of this machine")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(feature = "mutations")]
fn run_mutations(options: &Options) -> anyhow::Result<()> {
    mutations::run_all(options)
}

#[cfg(not(feature = "mutations"))]
fn run_mutations(_options: &Options) -> anyhow::Result<()> {
    bail!("there are no mutations in this build: it needs the feature `mutations`")
}

/// Every seed that fails, with what is broken.
fn list(options: &Options) -> anyhow::Result<()> {
    let mut failures = 0;
    for seed in options.first()..options.first() + options.count() {
        if let Err(failure) = run(&options.case(seed)) {
            println!("seed {seed}: {}", failure.what);
            failures += 1;
        }
    }
    if failures > 0 { bail!("{failures} of {} seeds fail", options.count()) } else { Ok(()) }
}

/// Runs the seed again, cuts it down, and says what it is.
fn tell(options: &Options, seed: u64) -> anyhow::Result<()> {
    if options.copied {
        match run_copied(&options.case(seed)) {
            Ok(_) => bail!("seed {seed} failed once and not again: the simulation is not deterministic"),
            Err(failure) => {
                print_log(options, &failure);
                bail!("{failure}");
            }
        }
    }
    let Err(failure) = run(&options.case(seed)) else {
        bail!("seed {seed} failed once and not again: the simulation is not deterministic");
    };
    if options.whole {
        print_log(options, &failure);
        bail!("{failure}");
    }
    eprintln!("seed {seed} fails: {}\ncutting it down …", failure.what);
    let smallest = shrink(*failure);
    print_log(options, &smallest);
    bail!("{smallest}");
}

fn print_log(options: &Options, failure: &Failure) {
    if options.log {
        println!("{}", failure.log);
    }
}

/// How a case is played.
type Play = fn(&Case) -> Result<Passed, Box<Failure>>;

#[derive(Default)]
struct Totals {
    events: u64,
    handed_over: usize,
    reached: Reached,
}

impl Totals {
    fn add(&mut self, passed: &Passed) {
        self.events += passed.events;
        self.handed_over += passed.handed_over;
        self.reached.add(&passed.reached);
    }
}

enum Found {
    Nothing(Totals),
    /// The smallest seed that failed.
    Failure(u64),
}

/// Runs seeds on several threads until one fails. The smallest seed that fails is the answer, whatever the threads do.
fn search(options: &Options, first: u64, count: u64, play: Play) -> Found {
    let (next, failed) = (AtomicU64::new(first), AtomicU64::new(u64::MAX));
    let totals = Mutex::new(Totals::default());
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..options.threads.max(1) {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count || seed >= failed.load(Ordering::Relaxed) {
                        return;
                    }
                    match play(&options.case(seed)) {
                        Ok(passed) => totals.lock().add(&passed),
                        Err(_) => {
                            failed.fetch_min(seed, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    is_over.store(true, Ordering::Relaxed);
    match failed.into_inner() {
        u64::MAX => Found::Nothing(totals.into_inner()),
        seed => Found::Failure(seed),
    }
}
