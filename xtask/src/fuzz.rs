//! `cargo xtask fuzz`: libFuzzer on everything that reads outside input.
//!
//! The targets are functions of `crates/fuzz-targets`; `fuzz/` only makes binaries of them. What was found stays as an
//! ordinary test: the tests of that crate run every file in `fuzz/seeds/` and `fuzz/regressions/`.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use clap::Args;

use crate::paths::root;

/// Options of `cargo xtask fuzz`.
#[derive(Args)]
pub(crate) struct FuzzOptions {
    /// How long each target runs, in seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Only this target; may be given more than once. Without it: all of them, one after the other.
    #[arg(long = "target")]
    targets: Vec<String>,
}

/// Inputs longer than this find nothing that shorter ones do not, only later; in bytes.
const INPUT_BYTES_MAX: u32 = 16 << 10;
/// An input that takes longer is a finding, in seconds.
const INPUT_SECONDS_MAX: u32 = 10;
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
    let mut broken = Vec::new();
    for target in targets {
        eprintln!("fuzzing {target} for {} s", options.seconds);
        if !fuzz(target, options.seconds)?.status()?.success() {
            broken.push(target.as_str());
        }
    }
    if broken.is_empty() {
        return Ok(());
    }
    bail!(
        "inputs that break a target were found: {}. They are in fuzz/artifacts/<target>/. Mend what they show, move them \
         to fuzz/regressions/<target>/ under a name that says what they show, and `cargo test -p kite-fuzz-targets` \
         keeps it mended",
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

/// libFuzzer runs until the time is over, from what earlier runs and people kept.
fn fuzz(target: &str, seconds: u32) -> anyhow::Result<Command> {
    let corpus = directory().join("corpus").join(target);
    fs::create_dir_all(&corpus)?;
    let mut command = nightly_cargo();
    // No sanitizer: there is no unsafe code of ours for it to watch, and it would halve the speed.
    command.args(["fuzz", "run", "--sanitizer", "none", target]).arg(corpus);
    for kept in ["seeds", "regressions"] {
        let inputs = directory().join(kept).join(target);
        if inputs.exists() {
            command.arg(inputs);
        }
    }
    command.arg("--");
    command.arg(format!("-max_total_time={seconds}"));
    command.arg(format!("-timeout={INPUT_SECONDS_MAX}"));
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

/// The cargo of the nightly toolchain, as if called by hand.
fn nightly_cargo() -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "cargo"]).current_dir(root());
    for set_by_cargo in ["CARGO", "CARGO_TARGET_DIR", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN", "RUSTFLAGS"] {
        command.env_remove(set_by_cargo);
    }
    command
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
