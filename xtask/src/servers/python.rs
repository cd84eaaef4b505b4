//! Servers and tools that come from PyPI: exact versions pinned by hash, under `target/servers/`, never in the
//! system.
//!
//! Debian splits `ensurepip` off Python, so a virtual environment may not be possible. Then an existing pip installs
//! into a plain directory. As a last resort Debian's own package is installed, which needs root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use kite_testkit::process::output;
use sha2::{Digest, Sha256};

use super::apt_install;
use crate::paths::{root, target};

/// Python with the packages of a file of requirements.
pub(crate) struct Python {
    program: PathBuf,
    /// Where the packages are, if not in the program's own environment.
    packages: Option<PathBuf>,
}

impl Python {
    /// Installs the packages that a file of this workspace lists, unless the very same ones are there.
    pub(crate) fn with_requirements(file: &str) -> anyhow::Result<Self> {
        let requirements = root().join(file);
        let text =
            fs::read(&requirements).with_context(|| format!("cannot read {}", requirements.display()))?;
        let version = output(Command::new("python3").arg("--version")).context(
            "python3 is needed for the servers that tests talk to: install it (Debian: apt-get install python3)",
        )?;
        let mut hasher = Sha256::new();
        hasher.update(&text);
        hasher.update(version);
        let fingerprint = hex::encode(&hasher.finalize()[..8]);
        let directory = target().join("servers").join(format!("python-{fingerprint}"));
        if let Some(python) = Self::at(&directory) {
            return Ok(python);
        }
        eprintln!("installing {} into {}", requirements.display(), directory.display());
        install(&directory, &requirements)?;
        fs::write(directory.join("complete"), "")?;
        Self::at(&directory).context("installed, but not found")
    }

    fn at(directory: &Path) -> Option<Self> {
        if !directory.join("complete").exists() {
            return None;
        }
        let program = directory.join("bin/python3");
        let packages = directory.join("packages");
        match program.exists() {
            true => Some(Self { program, packages: None }),
            false => Some(Self { program: "python3".into(), packages: Some(packages) }),
        }
    }

    /// Tells a test where it is: the program, and the packages that it does not find by itself.
    pub(crate) fn tell(&self, tests: &mut Command, program: &str, packages: &str) {
        tests.env(program, &self.program);
        if let Some(directory) = &self.packages {
            tests.env(packages, directory);
        }
    }

    /// A program that a package has brought.
    pub(crate) fn installed(&self, program: &str) -> PathBuf {
        match &self.packages {
            Some(packages) => packages.join("bin").join(program),
            None => self.program.with_file_name(program),
        }
    }

    /// To run a script with.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(packages) = &self.packages {
            command.env("PYTHONPATH", packages);
        }
        command
    }
}

fn install(directory: &Path, requirements: &Path) -> anyhow::Result<()> {
    let mut tried = Vec::new();
    for way in [in_environment, beside_system_pip, in_environment_after_apt] {
        let _ = fs::remove_dir_all(directory);
        fs::create_dir_all(directory)?;
        match way(directory, requirements) {
            Ok(()) => return Ok(()),
            Err(error) => tried.push(format!("{error:#}")),
        }
    }
    bail!(
        "what tests need of Python cannot be installed. Debian: apt-get install python3-venv. Tried:\n- {}",
        tried.join("\n- ")
    )
}

fn in_environment(directory: &Path, requirements: &Path) -> anyhow::Result<()> {
    output(Command::new("python3").args(["-m", "venv"]).arg(directory))?;
    pip(Command::new(directory.join("bin/python3")), requirements, &[])
}

fn beside_system_pip(directory: &Path, requirements: &Path) -> anyhow::Result<()> {
    let packages = directory.join("packages").display().to_string();
    pip(Command::new("python3"), requirements, &["--target", &packages])
}

fn in_environment_after_apt(directory: &Path, requirements: &Path) -> anyhow::Result<()> {
    apt_install("python3-venv")?;
    in_environment(directory, requirements)
}

fn pip(mut python: Command, requirements: &Path, more: &[&str]) -> anyhow::Result<()> {
    python.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]);
    python.args(["--require-hashes", "--only-binary", ":all:", "--requirement"]).arg(requirements).args(more);
    output(&mut python)?;
    Ok(())
}
