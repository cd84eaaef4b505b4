//! `cargo xtask fuzz`: libFuzzer on everything that reads outside input, each target until it finds nothing more.
//!
//! The targets are functions of `crates/fuzz-targets`; `fuzz/` only makes binaries of them. Findings remain as
//! ordinary tests: the tests of that crate run every file in `fuzz/seeds/` and `fuzz/regressions/`.

mod keep;
mod progress;
mod watch;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;

use crate::paths::root;
use watch::{Bounds, Outcome};

/// Options of `cargo xtask fuzz`.
#[derive(Args)]
pub(crate) struct FuzzOptions {
    /// A target is done when it has covered nothing new for this long, in seconds.
    #[arg(long, default_value_t = 300)]
    quiet_seconds: u32,
    /// The longest that a target runs, in seconds. One that still covers something new by then is reported as unfinished.
    #[arg(long, default_value_t = 1_800)]
    seconds: u32,
    /// Only this target; may be given more than once. Without it: all of them, one after the other.
    #[arg(long = "target")]
    targets: Vec<String>,
    /// Adds to fuzz/seeds the inputs that cover code which no seed covers, so that every test run does.
    #[arg(long)]
    keep: bool,
}

/// Inputs longer than this find nothing that shorter ones do not, only later; in bytes.
const INPUT_BYTES_MAX: u32 = 16 << 10;
/// An input that takes longer ends the run, in seconds.
const INPUT_SECONDS_MAX: u32 = 5;
/// An input that takes longer is a finding, in seconds.
const SLOW_INPUT_SECONDS: u32 = 1;
/// An input that takes more memory is a finding, in MiB.
const MEMORY_MB_MAX: u32 = 3_072;

/// Words to mutate with: the target's own dictionary, or that of the format that it reads.
const SHARED_DICTIONARIES: [(&str, &str); 6] = [
    ("api_request", "request"),
    ("contacts", "csv"),
    ("ids", "json"),
    ("receipts", "json"),
    ("relay_answer", "json"),
    ("sending", "json"),
];

/// Fuzzes.
pub(crate) fn run(options: &FuzzOptions) -> anyhow::Result<()> {
    let all = all_targets()?;
    let targets = if options.targets.is_empty() { &all } else { &options.targets };
    if let Some(unknown) = targets.iter().find(|target| !all.contains(target)) {
        bail!("there is no target {unknown}; there are {}", all.join(", "));
    }
    require_nightly()?;
    require_cargo_fuzz()?;
    build(targets)?;
    let binaries = binaries()?;
    let bounds = Bounds {
        quiet: Duration::from_secs(options.quiet_seconds.into()),
        longest: Duration::from_secs(options.seconds.into()),
    };
    let mut outcomes: Vec<(&str, Outcome)> = Vec::new();
    for target in targets {
        eprintln!("fuzzing {target} until it is quiet for {:?}, {:?} at most", bounds.quiet, bounds.longest);
        let outcome = watch::run(&mut fuzzer(&binaries, target)?, &bounds)
            .with_context(|| format!("{target} could not be fuzzed"))?;
        println!("{target:13} {outcome}");
        outcomes.push((target, outcome));
        if options.keep {
            keep::keep(&binaries.join(target), target)?;
        }
    }
    report(&outcomes)
}

/// One line per target; what was found is a failure.
fn report(outcomes: &[(&str, Outcome)]) -> anyhow::Result<()> {
    println!();
    let mut broken = Vec::new();
    for (target, outcome) in outcomes {
        println!("{target:13} {outcome}");
        for input in &outcome.findings {
            println!("{:13} breaks on {}", "", input.display());
            broken.push(*target);
        }
    }
    broken.dedup();
    if broken.is_empty() {
        return Ok(());
    }
    bail!(
        "inputs that break a target were found: {}. Mend what they show, move them to fuzz/regressions/<target>/ under a \
         name that says what they show, and `cargo test -p kite-fuzz-targets` keeps it mended",
        broken.join(", ")
    )
}

fn directory() -> PathBuf {
    root().join("fuzz")
}

/// Every target has a binary of its own.
fn all_targets() -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory().join("fuzz_targets")).context("fuzz/fuzz_targets cannot be read")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        names.extend(name.strip_suffix(".rs").map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

/// Builds one target, or all.
fn build(targets: &[String]) -> anyhow::Result<()> {
    let mut build = nightly_cargo();
    // No sanitizer: there is no unsafe code of ours for it to watch, and it would halve the speed.
    build.args(["fuzz", "build", "--sanitizer", "none"]);
    if let [only] = targets {
        build.arg(only);
    }
    if !build.status()?.success() {
        bail!("the targets cannot be built");
    }
    Ok(())
}

/// Where cargo-fuzz puts the binaries: it always names the platform.
fn binaries() -> anyhow::Result<PathBuf> {
    let mut version = nightly("rustc");
    let told = version.arg("-vV").stderr(Stdio::inherit()).output()?.stdout;
    let told = String::from_utf8_lossy(&told).into_owned();
    let platform = told.lines().find_map(|line| line.strip_prefix("host: "));
    let platform = platform.context("rustc does not say for which platform it builds")?;
    Ok(directory().join("target").join(platform).join("release"))
}

/// libFuzzer on a target, from what earlier runs and people kept. It never ends by itself, except for a finding.
fn fuzzer(binaries: &Path, target: &str) -> anyhow::Result<Command> {
    let corpus = directory().join("corpus").join(target);
    let findings = directory().join("artifacts").join(target);
    fs::create_dir_all(&corpus)?;
    fs::create_dir_all(&findings)?;
    let mut command = Command::new(binaries.join(target));
    command.current_dir(root()).arg(corpus);
    command.args(kept(target));
    // The slash makes it a directory.
    command.arg(format!("-artifact_prefix={}/", findings.display()));
    command.arg(format!("-timeout={INPUT_SECONDS_MAX}"));
    command.arg(format!("-report_slow_units={SLOW_INPUT_SECONDS}"));
    command.arg(format!("-rss_limit_mb={MEMORY_MB_MAX}"));
    command.arg(format!("-max_len={INPUT_BYTES_MAX}"));
    command.arg("-print_final_stats=1");
    let shared = SHARED_DICTIONARIES.iter().find(|(name, _)| *name == target);
    let dictionary =
        directory().join(format!("dictionaries/{}.dict", shared.map_or(target, |(_, shared)| shared)));
    if dictionary.exists() {
        command.arg(format!("-dict={}", dictionary.display()));
    }
    Ok(command)
}

/// The folders of a target that are under version control.
fn kept(target: &str) -> Vec<PathBuf> {
    let folders = ["seeds", "regressions"].map(|kept| directory().join(kept).join(target));
    folders.into_iter().filter(|folder| folder.exists()).collect()
}

/// A tool of the nightly toolchain, as if called by hand.
fn nightly(tool: &str) -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", tool]).current_dir(root());
    for set_by_cargo in ["CARGO", "CARGO_TARGET_DIR", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN", "RUSTFLAGS"] {
        command.env_remove(set_by_cargo);
    }
    command
}

fn nightly_cargo() -> Command {
    nightly("cargo")
}

fn is_there(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn require_nightly() -> anyhow::Result<()> {
    if !is_there(nightly_cargo().arg("--version")) {
        bail!("libFuzzer needs a nightly compiler: rustup toolchain install nightly --profile minimal");
    }
    Ok(())
}

fn require_cargo_fuzz() -> anyhow::Result<()> {
    let mut version = nightly_cargo();
    version.args(["fuzz", "--version"]);
    if is_there(&mut version) {
        return Ok(());
    }
    eprintln!("installing cargo-fuzz");
    let mut install = nightly_cargo();
    install.args(["install", "cargo-fuzz", "--locked"]);
    if !install.status()?.success() || !is_there(&mut version) {
        bail!("cargo-fuzz is needed and could not be installed: cargo install cargo-fuzz --locked");
    }
    Ok(())
}
