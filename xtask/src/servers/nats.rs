//! The program of NATS, of which tests start servers. It comes from PyPI in one exact version, so that all runs are equal.

use std::process::Command;

use anyhow::Context;
use kite_testkit::nats::Installation;

use super::python::Python;
use crate::paths::target;

/// The exact version, by its hashes.
const REQUIREMENTS: &str = "xtask/src/servers/nats-requirements.txt";

/// The installed program. No server is shared: each test starts its own.
pub(crate) struct Nats {
    installation: Installation,
}

impl Nats {
    /// Installs it unless it is there. Its servers' data goes under `target/servers/`. Whoever runs this may name another program in
    /// `TEST_NATS_PROGRAM`.
    pub(crate) fn install() -> anyhow::Result<Self> {
        let data = target().join("servers").join("nats");
        let installation = match Installation::named(&data)? {
            Some(named) => named,
            None => {
                let python = Python::with_requirements(REQUIREMENTS).context(
                    "tests need NATS, and it cannot be installed. If there is one of version 2.10 or newer, name its program: \
                     TEST_NATS_PROGRAM=/path/of/nats-server",
                )?;
                Installation::at(&python.installed("nats-server"), &data)?
            }
        };
        Ok(Self { installation })
    }

    /// The program, for servers of one's own.
    pub(crate) fn installation(&self) -> &Installation {
        &self.installation
    }

    /// Sets the variables that `kite_testkit::nats` reads.
    pub(crate) fn tell(&self, tests: &mut Command) {
        tests.envs(self.installation.environment());
    }
}
