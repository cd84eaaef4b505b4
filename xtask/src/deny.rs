//! cargo-deny, in one exact version under `target/tools/`: it checks the dependency tree against `deny.toml`.
//!
//! Deliberately absent: advisories. Their database is a repository of its own, which not every machine can reach and
//! which changes by itself. `cargo deny check advisories` is run by hand.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::ensure;

use crate::paths::{cargo, root, target};

/// Another version may judge differently.
const VERSION: &str = "0.20.2";

/// The command that checks the tree. Installs the program first, unless exactly this version is there.
pub(crate) fn check() -> anyhow::Result<Command> {
    let tools = target().join("tools");
    let program = tools.join("bin/cargo-deny");
    if !is_there(&program) {
        install(&tools)?;
        ensure!(is_there(&program), "{} was installed, and is not cargo-deny {VERSION}", program.display());
    }
    let mut check = Command::new(program);
    check.current_dir(root());
    check.args(["--locked", "check", "--deny", "warnings", "bans", "licenses", "sources"]);
    Ok(check)
}

fn is_there(program: &Path) -> bool {
    let version = Command::new(program).arg("--version").stdin(Stdio::null()).output();
    version.is_ok_and(|said| String::from_utf8_lossy(&said.stdout).trim() == format!("cargo-deny {VERSION}"))
}

/// Builds it from the registry with its own locked dependencies. Not optimised, because it runs for seconds only.
fn install(tools: &Path) -> anyhow::Result<()> {
    eprintln!("installing cargo-deny {VERSION} into {}: once, a minute or two", tools.display());
    let build = tools.join("build");
    let mut install = cargo();
    install.args(["install", "--quiet", "cargo-deny", "--version", &format!("={VERSION}")]);
    install.args(["--locked", "--debug", "--force", "--root"]).arg(tools).arg("--target-dir").arg(&build);
    install.env("CARGO_PROFILE_DEV_DEBUG", "false").env("CARGO_INCREMENTAL", "0");
    ensure!(install.status()?.success(), "cargo-deny {VERSION} cannot be installed");
    // Hundreds of megabytes that nothing needs any more; if they stay, they are only in the way.
    let _ = fs::remove_dir_all(build);
    Ok(())
}
