//! `cargo xtask test`: every test, with the servers that they need, and what may be in the dependency tree.
//!
//! The tree comes first, then documentation tests, then all others, and a short soak of many processes with everything in PostgreSQL
//! and the work queue on NATS. A server or a tool that cannot be installed is a failure: nothing is skipped because of it.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::bail;
use clap::Args;

use crate::deny;
use crate::paths::{built, cargo};
use crate::servers::Servers;

/// Options of `cargo xtask test`.
#[derive(Args)]
pub(crate) struct TestOptions {
    /// What is passed on to `cargo nextest run` (or `cargo test`), such as `-p kite-domain` or a part of a test's name.
    /// With it, documentation tests, the check of the dependency tree and the soaks are left out.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pass_on: Vec<String>,
}

/// Runs the tests.
pub(crate) fn run(options: &TestOptions) -> anyhow::Result<()> {
    let servers = Servers::start()?;
    let mut failed = Vec::new();
    let tree = options.pass_on.is_empty().then(deny::check);
    let tree = tree.and_then(|tree| {
        // Without it the tests are worth running all the same; the run fails at its end.
        tree.inspect_err(|error| failed.push(format!("the check of the dependency tree: {error:#}"))).ok()
    });
    for mut command in tree.into_iter().chain(commands(options)) {
        servers.tell(&mut command);
        eprintln!("$ {}", in_words(&command));
        if !command.status()?.success() {
            failed.push(in_words(&command));
        }
    }
    servers.stop()?;
    if !failed.is_empty() {
        bail!("failed: {}", failed.join("; "));
    }
    Ok(())
}

fn commands(options: &TestOptions) -> Vec<Command> {
    let names_packages =
        options.pass_on.iter().any(|argument| argument.starts_with("-p") || argument == "--package");
    let mut tests = cargo();
    if has_nextest() {
        tests.args(["nextest", "run"]);
    } else {
        tests.arg("test");
    }
    if !names_packages {
        tests.arg("--workspace");
    }
    if !options.pass_on.is_empty() {
        tests.args(&options.pass_on);
        return vec![tests];
    }
    if !has_nextest() {
        // Runs the documentation tests too.
        tests.arg("--no-fail-fast");
        let mut in_postgres = cargo();
        in_postgres.args(["test", "-p", "kite-projections", "--lib"]);
        return vec![tests, read_models_in_postgres(in_postgres), short_cluster()];
    }
    let mut documentation = cargo();
    documentation.args(["test", "--quiet", "--doc", "--workspace"]);
    let mut in_postgres = cargo();
    // With everything as it was built for all tests; those of PostgreSQL alone have run.
    let again = "package(kite-projections) and test(/^tests::/) and not test(/^tests::postgres::/)";
    in_postgres.args(["nextest", "run", "--workspace", "-E", again]);
    vec![documentation, tests, read_models_in_postgres(in_postgres), short_cluster()]
}

/// With many processes, everything in PostgreSQL and the work queue on NATS, and the binaries that the tests have built. Of a seed under
/// which every part of it has something to do although it is short.
fn short_cluster() -> Command {
    let mut cluster = Command::new(built("xtask"));
    cluster.args(["cluster", "--short", "--seed", "11"]);
    cluster
}

/// The tests of the read models once more, in the other engine. Histories are long there: fewer of them.
fn read_models_in_postgres(mut command: Command) -> Command {
    command.env("TEST_READ_MODELS", "postgres").env("PROPTEST_CASES", "8");
    command
}

fn has_nextest() -> bool {
    let mut version = cargo();
    version.args(["nextest", "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
    version.status().is_ok_and(|status| status.success())
}

fn in_words(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
