//! `kite backup` and `kite restore`.

use anyhow::{Context, bail, ensure};
use kite_commands::Clock;
use kite_commands::clock::SystemClock;
use kite_commands::seals::{self, SealReport};
use kite_domain::instance::Originality;
use kite_event_store::sqlite::SqliteLogFile;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use super::manifest::Manifest;
use super::restore as restoring;
use super::take::{newest_seal, take};
use crate::cli::{BackupOptions, RestoreOptions};
use crate::config::Config;
use crate::data_dir::LOG;
use crate::log::open_log;
use crate::serve::runtime;

/// `kite backup`.
pub(crate) fn backup(options: BackupOptions) -> anyhow::Result<ExitCode> {
    match (&options.to, &options.verify) {
        (Some(to), None) => {
            let data = data_of(&options)?;
            let manifest = take(&data, to, &SystemClock, &mut |progress| {
                super::desk::rest(progress.took);
                true
            })?;
            match options.json {
                true => println!("{}", serde_json::to_string(&manifest)?),
                false => println!(
                    "{} events up to position {} in {}, {} bytes",
                    manifest.events,
                    manifest.until,
                    to.display(),
                    manifest.bytes()
                ),
            }
            Ok(ExitCode::SUCCESS)
        }
        (None, Some(directory)) => verify(directory, options.json),
        (Some(_), Some(_)) | (None, None) => bail!("either --to DIR or --verify DIR"),
    }
}

fn data_of(options: &BackupOptions) -> anyhow::Result<PathBuf> {
    match &options.data {
        Some(data) => Ok(data.clone()),
        None => Ok(Config::load(options.config.as_deref())?.data_dir),
    }
}

/// Checks a backup against its manifest, and its log against its seals.
fn verify(directory: &Path, as_json: bool) -> anyhow::Result<ExitCode> {
    let manifest = Manifest::read(directory)?;
    let mut differences = manifest.differences(directory);
    let seals = match looked_through(directory, &manifest, &mut differences) {
        Ok(report) => Some(report),
        Err(error) => {
            differences.push(format!("the log cannot be read: {error:#}"));
            None
        }
    };
    if as_json {
        let report = serde_json::json!({
            "is_clean": differences.is_empty(),
            "manifest": manifest,
            "seals": seals,
            "differences": differences,
        });
        println!("{report}");
    } else {
        let Manifest { taken_at, until, events, kite_version, .. } = &manifest;
        println!(
            "{events} events up to position {until}, taken {} by kite {kite_version}",
            taken_at.to_rfc3339()
        );
        if let Some(SealReport { seals, sealed_until, unsealed, .. }) = &seals {
            println!("{seals} seals up to position {sealed_until}, {unsealed} events not sealed yet");
        }
        differences.iter().for_each(|difference| println!("  {difference}"));
        println!(
            "{}",
            if differences.is_empty() { "the backup is as it was taken" } else { "it is not as it was" }
        );
    }
    Ok(if differences.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn looked_through(
    directory: &Path,
    manifest: &Manifest,
    differences: &mut Vec<String>,
) -> anyhow::Result<SealReport> {
    let path = directory.join(LOG);
    let log = SqliteLogFile::open(&path)?;
    let report = runtime()?.block_on(seals::verify(&log))?;
    differences.extend(report.first_differences.iter().map(ToString::to_string));
    if newest_seal(&path)? != manifest.newest_seal {
        differences.push("the newest seal is not the one that the manifest names".to_owned());
    }
    Ok(report)
}

/// `kite restore`.
pub(crate) fn restore(options: RestoreOptions) -> anyhow::Result<ExitCode> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    if options.release {
        return release(options, clock);
    }
    let from = options.from.as_deref().context("either --from DIR or --release")?;
    ensure!(!options.original_is_dead, "--original-is-dead belongs to --release");
    let manifest = runtime()?.block_on(restoring::restore(from, &options.data, options.unverified, clock))?;
    let Manifest { until, taken_at, .. } = manifest;
    println!(
        "{} is a copy of what was there at {} (position {until}). It accepts and shows, and hands nothing over until you \
         have said that the original is dead: kite restore --release --original-is-dead, or POST /v1/admin/instance/release",
        options.data.display(),
        taken_at.to_rfc3339()
    );
    Ok(ExitCode::SUCCESS)
}

fn release(options: RestoreOptions, clock: Arc<dyn Clock>) -> anyhow::Result<ExitCode> {
    ensure!(
        options.from.is_none(),
        "--from makes a copy, --release lets one take its original's place: one at a time"
    );
    ensure!(
        options.original_is_dead,
        "as long as the original may be alive, both would send: --original-is-dead says that it is not"
    );
    let now = clock.now();
    let dead_since = options.dead_since.unwrap_or(now);
    ensure!(dead_since <= now, "--dead-since: {} is later than now", dead_since.to_rfc3339());
    let reason = options.reason.trim().to_owned();
    ensure!(!reason.is_empty(), "--reason: say how you know that the original is dead");
    let store = open_log(&options.data)?;
    let before = runtime()?.block_on(restoring::release(store.clone(), clock, dead_since, reason));
    store.close();
    println!(
        "{}",
        match before? {
            Originality::Copy { .. } =>
                "released: when kite serve runs on it, what the original may have handed over is put in doubt, and then it \
                 hands over",
            Originality::Original | Originality::Released { .. } | Originality::Settled { .. } =>
                "it was released before",
        }
    );
    Ok(ExitCode::SUCCESS)
}
