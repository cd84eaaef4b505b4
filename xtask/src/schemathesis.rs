//! `cargo xtask schemathesis`: the test of the API against docs/openapi.json, for as long as you like.

use anyhow::bail;
use clap::Args;

use crate::paths::cargo;
use crate::servers::Schemathesis;

/// Options of `cargo xtask schemathesis`.
#[derive(Args)]
pub(crate) struct SchemathesisOptions {
    /// How many requests are made for each operation and kind of data.
    #[arg(long, default_value_t = 50)]
    max_examples: u32,
}

/// Runs it.
pub(crate) fn run(options: &SchemathesisOptions) -> anyhow::Result<()> {
    let schemathesis = Schemathesis::install()?;
    let mut test = cargo();
    test.args(["test", "--package", "kite", "--test", "openapi", "--", "--nocapture"]);
    test.env("TEST_SCHEMATHESIS_EXAMPLES", options.max_examples.to_string());
    schemathesis.tell(&mut test);
    if !test.status()?.success() {
        bail!("the API and docs/openapi.json differ");
    }
    Ok(())
}
