//! Where the program of NATS is.

use std::path::{Path, PathBuf, absolute};
use std::process::Command;

use anyhow::{Context, ensure};
use tempfile::TempDir;

use crate::process::output;

/// Where tests find the program, and where servers keep their data.
const PROGRAM: &str = "TEST_NATS_PROGRAM";
const DATA: &str = "TEST_NATS_DATA";
/// The oldest version that Kite works with.
const VERSION_MIN: (u32, u32) = (2, 10);

/// A program that is fit, and a place for the data of its servers.
#[derive(Debug, Clone)]
pub struct Installation {
    program: PathBuf,
    data: PathBuf,
}

impl Installation {
    /// This program, with its data below `data`.
    ///
    /// # Errors
    /// When it does not run, or is too old; or there is no place for its data.
    pub fn at(program: &Path, data: &Path) -> anyhow::Result<Self> {
        let (program, data) = (absolute(program)?, absolute(data)?);
        let (major, minor) = version(&program)?;
        let (major_min, minor_min) = VERSION_MIN;
        ensure!(
            (major, minor) >= VERSION_MIN,
            "{} is NATS {major}.{minor}; it has to be {major_min}.{minor_min} or newer",
            program.display()
        );
        std::fs::create_dir_all(&data).with_context(|| format!("cannot make {}", data.display()))?;
        Ok(Self { program, data })
    }

    /// The program that whoever runs this has named in `TEST_NATS_PROGRAM`, with its data below `data`; none: they have named none.
    ///
    /// # Errors
    /// See [`Installation::at`].
    pub fn named(data: &Path) -> anyhow::Result<Option<Self>> {
        let Some(program) = std::env::var_os(PROGRAM) else { return Ok(None) };
        Self::at(Path::new(&program), data).with_context(|| format!("what {PROGRAM} names")).map(Some)
    }

    /// As `cargo xtask test` tells tests.
    ///
    /// # Errors
    /// When it has not: run the tests with `cargo xtask test`.
    pub fn from_environment() -> anyhow::Result<Self> {
        let path = |name: &str| {
            std::env::var_os(name)
                .map(PathBuf::from)
                .with_context(|| format!("{name} is not set: run `cargo xtask test`"))
        };
        Ok(Self { program: path(PROGRAM)?, data: path(DATA)? })
    }

    /// What [`Installation::from_environment`] reads.
    pub fn environment(&self) -> [(&'static str, &Path); 2] {
        [(PROGRAM, &self.program), (DATA, &self.data)]
    }

    /// The program.
    pub(super) fn program(&self) -> Command {
        Command::new(&self.program)
    }

    /// An empty directory for a server, which goes with what is given back.
    pub(super) fn directory(&self) -> anyhow::Result<TempDir> {
        Ok(tempfile::Builder::new().prefix("nats-").tempdir_in(&self.data)?)
    }
}

/// The first two numbers of a program's version.
fn version(program: &Path) -> anyhow::Result<(u32, u32)> {
    let said = String::from_utf8(output(Command::new(program).arg("--version"))?)?;
    numbers(&said).with_context(|| format!("no version: {said}"))
}

/// Of `nats-server: v2.10.4`.
fn numbers(said: &str) -> Option<(u32, u32)> {
    let (_, version) = said.trim().rsplit_once(": v")?;
    let mut numbers = version.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_and_compared_by_its_numbers() {
        assert_eq!(numbers("nats-server: v2.10.4\n"), Some((2, 10)));
        assert_eq!(numbers("nats-server: v2.15.0-RC.1\n"), Some((2, 15)));
        assert_eq!(numbers("something else"), None);
        assert!(numbers("nats-server: v2.9.25") < Some(VERSION_MIN));
    }
}
