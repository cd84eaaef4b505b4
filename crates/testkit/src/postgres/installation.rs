//! Where the programs of PostgreSQL are, and as whom they run: none of them starts as root.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};
use rustix::process::geteuid;
use tempfile::TempDir;

/// Where tests find the programs, and where servers keep their data.
const PROGRAMS: &str = "TEST_POSTGRES_PROGRAMS";
const DATA: &str = "TEST_POSTGRES_DATA";
/// Where Debian keeps each version of them.
const DEBIAN: &str = "/usr/lib/postgresql";
/// Whom Debian's package makes for them.
const USER: &str = "postgres";
/// What tests start.
const NEEDED: [&str; 4] = ["postgres", "initdb", "pg_ctl", "pg_basebackup"];
/// The oldest version that Kite works with.
const VERSION_MIN: u32 = 15;

/// Programs of one version, and a place for the data of its servers.
#[derive(Debug, Clone)]
pub struct Installation {
    programs: PathBuf,
    data: PathBuf,
    /// The user and the group that the programs run as; none: as whoever runs this.
    owner: Option<(u32, u32)>,
}

impl Installation {
    /// The newest version that is fit, with its data below `data`; none: none is installed.
    ///
    /// # Errors
    /// When there is nobody whom it can run as, or no place where that user reaches its data.
    pub fn find(data: &Path) -> anyhow::Result<Option<Self>> {
        let Some(programs) = newest() else { return Ok(None) };
        let found = Self { programs, data: data.to_owned(), owner: owner()? };
        std::fs::create_dir_all(data)?;
        let is_reached = found.run_as_owner("test").arg("-x").arg(data).status()?.success();
        // Below the home of root nobody else reaches anything.
        let data = if is_reached { found.data } else { std::env::temp_dir() };
        Ok(Some(Self { data, ..found }))
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
        Ok(Self { programs: path(PROGRAMS)?, data: path(DATA)?, owner: owner()? })
    }

    /// What [`Installation::from_environment`] reads.
    pub fn environment(&self) -> [(&'static str, &Path); 2] {
        [(PROGRAMS, &self.programs), (DATA, &self.data)]
    }

    /// One of the programs.
    pub(super) fn program(&self, name: &str) -> Command {
        let mut command = self.run_as_owner(self.programs.join(name));
        // What it says is read by tests.
        command.env("LC_ALL", "C");
        command
    }

    /// An empty directory for a server, which goes with what is given back.
    pub(super) fn directory(&self) -> anyhow::Result<TempDir> {
        let directory = tempfile::Builder::new().prefix("postgres-").tempdir_in(&self.data)?;
        self.give(directory.path())?;
        Ok(directory)
    }

    /// Makes a file or a directory the server's own.
    pub(super) fn give(&self, path: &Path) -> anyhow::Result<()> {
        if let Some((user, group)) = self.owner {
            chown(path, Some(user), Some(group))?;
        }
        Ok(())
    }

    /// A program that has the rights of the server, and no others.
    pub(super) fn run_as_owner(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        // A directory that whoever runs this is in may be closed to it.
        command.current_dir("/");
        if let Some((user, group)) = self.owner {
            command.uid(user).gid(group);
        }
        command
    }
}

/// Whom the programs run as if this is root.
fn owner() -> anyhow::Result<Option<(u32, u32)>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let id = |of: &str| -> anyhow::Result<u32> {
        let output = Command::new("id").args([of, USER]).output()?;
        ensure!(
            output.status.success(),
            "PostgreSQL does not start as root, and there is no user {USER} to start it as"
        );
        Ok(String::from_utf8(output.stdout)?.trim().parse()?)
    };
    Ok(Some((id("-u")?, id("-g")?)))
}

/// The directory of the newest fit version: Debian's, or wherever `postgres` is found.
fn newest() -> Option<PathBuf> {
    let of_debian = std::fs::read_dir(DEBIAN).into_iter().flatten().flatten();
    let of_debian = of_debian.map(|version| version.path().join("bin"));
    let of_path = std::env::var_os("PATH").unwrap_or_default();
    let of_path: Vec<PathBuf> = std::env::split_paths(&of_path).collect();
    let has_all = |directory: &PathBuf| NEEDED.iter().all(|program| directory.join(program).exists());
    let fit = of_debian.chain(of_path).filter(has_all).filter_map(|directory| {
        let version = version(&directory).ok()?;
        (version >= VERSION_MIN).then_some((version, directory))
    });
    fit.max_by_key(|(version, _)| *version).map(|(_, directory)| directory)
}

/// The major version of the server in a directory.
fn version(directory: &Path) -> anyhow::Result<u32> {
    let output = Command::new(directory.join("postgres")).arg("--version").output()?;
    let said = String::from_utf8(output.stdout)?;
    // `postgres (PostgreSQL) 15.8 (Debian 15.8-0+deb12u1)`
    let Some(number) = said.split_whitespace().nth(2) else { bail!("no version: {said}") };
    let major: String = number.chars().take_while(char::is_ascii_digit).collect();
    Ok(major.parse()?)
}
