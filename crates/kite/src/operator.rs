//! What an operator does on the command line: replay, audit, configuration.

use anyhow::{Context, bail};
use kite_commands::seals::{self, SealReport};
use kite_event_store::sqlite::{SqliteEventStore, SqliteLogFile, SqliteOptions};
use kite_event_store::{EventStore, Filter, Position, RecordedEvent};
use kite_projections::ParkedEvent;
use kite_projections::replay::{self, ModelReport, ParkedReport, Report, RetryReport};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use crate::backup::{is_backup, refuse_backup};
use crate::cli::{AuditOptions, ConfigCommand, ReplayOptions};
use crate::config::{self, Config};
use crate::seal_file;
use crate::serve::runtime;

pub(crate) fn open_log(data: &Path) -> anyhow::Result<Arc<SqliteEventStore>> {
    refuse_backup(data)?;
    let path = data.join("events.db");
    if !path.exists() {
        bail!("there is no log in {}", data.display());
    }
    let store = SqliteEventStore::open(&path, SqliteOptions::default()).with_context(|| {
        format!("cannot open the log in {}; is an instance running on it?", data.display())
    })?;
    Ok(Arc::new(store))
}

/// `kite replay`.
pub(crate) fn replay(options: ReplayOptions) -> anyhow::Result<ExitCode> {
    let store = open_log(&options.data)?;
    if options.mode.parked {
        // With the log held, so that no instance is at work on the files.
        let parked = replay::parked(&options.data)?;
        store.close();
        return Ok(show_parked(&parked, options.json));
    }
    let log: Arc<dyn EventStore> = store.clone();
    if (options.mode.rebuild || options.mode.retry_parked) && !options.unverified {
        let report = runtime()?.block_on(seals::verify(&*log))?;
        if !report.is_clean() {
            store.close();
            print_seals(&report, &[]);
            bail!(
                "the log is not as it was sealed: what is made from it would show that as true (--unverified does so)"
            );
        }
    }
    if options.mode.retry_parked {
        let retried = runtime()?.block_on(replay::retry_parked(log, &options.data))?;
        store.close();
        return Ok(show_retried(&retried, options.json));
    }
    let report = runtime()?.block_on(async {
        match options.mode.rebuild {
            true => replay::rebuild(log, &options.data).await,
            false => replay::verify(log, &options.data).await,
        }
    })?;
    store.close();
    match options.json {
        true => println!("{}", report_json(&report)),
        false => print_report(&report, options.mode.rebuild),
    }
    Ok(success_if(report.is_clean()))
}

fn show_parked(models: &[ParkedReport], as_json: bool) -> ExitCode {
    if as_json {
        let events =
            |model: &ParkedReport| serde_json::json!({ "model": model.name, "parked": model.events });
        println!("{}", serde_json::json!({ "models": models.iter().map(events).collect::<Vec<_>>() }));
    } else {
        for model in models {
            println!("{:<14} {:>10} parked", model.name, model.events.len());
            model.events.iter().for_each(print_parked);
        }
    }
    success_if(models.iter().all(|model| model.events.is_empty()))
}

fn print_parked(event: &ParkedEvent) {
    let ParkedEvent { position, stream, version, kind, time, cause, reason } = event;
    println!(
        "  {position:>10} {} {kind} in {stream} at {version}, {}: {reason}",
        time.to_rfc3339(),
        cause.word()
    );
}

fn show_retried(models: &[RetryReport], as_json: bool) -> ExitCode {
    if as_json {
        let shown = models.iter().map(|retried| {
            let mut shown = model_json(&retried.model);
            shown["parked_before"] = retried.parked_before.into();
            shown
        });
        println!("{}", serde_json::json!({ "models": shown.collect::<Vec<_>>() }));
    } else if models.is_empty() {
        println!("nothing is parked");
    } else {
        for RetryReport { parked_before, model } in models {
            let ModelReport { name, rows, position, parked, .. } = model;
            println!(
                "{name:<14} {rows:>10} rows up to {position:>10}: {} of {parked_before} taken in, {parked} still parked",
                parked_before.saturating_sub(*parked)
            );
        }
    }
    success_if(models.iter().all(|retried| retried.model.parked == 0))
}

fn success_if(is_clean: bool) -> ExitCode {
    if is_clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn report_json(report: &Report) -> serde_json::Value {
    let models: Vec<serde_json::Value> = report.models.iter().map(model_json).collect();
    serde_json::json!({ "is_clean": report.is_clean(), "models": models })
}

fn model_json(model: &ModelReport) -> serde_json::Value {
    serde_json::json!({
        "model": model.name,
        "position": model.position,
        "events": model.events,
        "rows": model.rows,
        "parked": model.parked,
        "differences": model.differences_total,
        "first_differences": model.differences.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

fn print_report(report: &Report, is_rebuild: bool) {
    for model in &report.models {
        let what = match (is_rebuild, model.differences_total) {
            (true, _) => "rebuilt".to_owned(),
            (false, 0) => "equal".to_owned(),
            (false, count) => format!("{count} rows differ"),
        };
        let parked = match model.parked {
            0 => String::new(),
            count => format!(", {count} events parked (kite replay --parked)"),
        };
        println!(
            "{:<14} {:>10} rows from {:>10} events up to {:>10}: {what}{parked}",
            model.name, model.rows, model.events, model.position
        );
        model.differences.iter().for_each(|difference| println!("  {difference}"));
    }
}

fn hold_against_seals(
    log: &dyn EventStore,
    options: &AuditOptions,
) -> anyhow::Result<(SealReport, Vec<Position>)> {
    let report = runtime()?.block_on(seals::verify(log))?;
    let elsewhere = match &options.seals {
        None => Vec::new(),
        Some(path) => runtime()?.block_on(seals::differ_from(log, &seal_file::read(path)?))?,
    };
    Ok((report, elsewhere))
}

/// `kite audit --verify`.
fn verify_seals(options: &AuditOptions) -> anyhow::Result<ExitCode> {
    // A backup is to stay as it is.
    let (report, elsewhere) = if is_backup(&options.data) {
        hold_against_seals(&SqliteLogFile::open(&options.data.join("events.db"))?, options)?
    } else {
        let store = open_log(&options.data)?;
        let held = hold_against_seals(&*store, options)?;
        store.close();
        held
    };
    match options.json {
        true => {
            let mut shown = serde_json::to_value(&report)?;
            shown["is_clean"] = (report.is_clean() && elsewhere.is_empty()).into();
            shown["not_as_kept_elsewhere"] = elsewhere.clone().into();
            println!("{shown}");
        }
        false => print_seals(&report, &elsewhere),
    }
    Ok(success_if(report.is_clean() && elsewhere.is_empty()))
}

/// `elsewhere`: up to which positions the seals are not those that were kept elsewhere.
fn print_seals(report: &SealReport, elsewhere: &[Position]) {
    let SealReport { seals, events, sealed_until, unsealed, differences, first_differences } = report;
    println!("{events} events in {seals} seals up to position {sealed_until}, {unsealed} not sealed yet");
    first_differences.iter().for_each(|difference| println!("  {difference}"));
    for until in elsewhere {
        println!("  the seal up to position {until} is not the one that was kept elsewhere");
    }
    match (differences, elsewhere.len()) {
        (0, 0) if *seals == 0 => {
            println!("nothing is sealed yet, so only that no position is missing was looked at")
        }
        (0, 0) => println!("everything that is sealed is as it was"),
        (count, others) => println!("{} differences", count + others as u64),
    }
}

/// `kite audit`.
pub(crate) fn audit(options: AuditOptions) -> anyhow::Result<ExitCode> {
    if options.verify {
        return verify_seals(&options);
    }
    let store = open_log(&options.data)?;
    runtime()?.block_on(async {
        match &options.stream {
            Some(stream) => {
                let events = store.read_stream(stream, 0, usize::MAX).await?;
                let wanted = events.iter().filter(|event| event.position > options.after);
                wanted.take(options.limit).try_for_each(print_event)
            }
            None => {
                let mut after = options.after;
                let mut left = options.limit;
                while left > 0 {
                    let page = store.read_all(after, left.min(1_000), &Filter::everything()).await?;
                    if page.next == after {
                        break;
                    }
                    after = page.next;
                    left = left.saturating_sub(page.events.len());
                    page.events.iter().try_for_each(print_event)?;
                }
                Ok(())
            }
        }
    })?;
    store.close();
    Ok(ExitCode::SUCCESS)
}

fn print_event(event: &RecordedEvent) -> anyhow::Result<()> {
    let mut data: serde_json::Value = serde_json::from_slice(&event.data)?;
    kite_domain::event::redact(&event.kind, &mut data);
    let line = serde_json::json!({
        "position": event.position,
        "stream": event.stream,
        "version": event.version,
        "id": event.id,
        "type": event.kind,
        "schema_version": event.schema_version,
        "time": event.metadata.time,
        "tenant": event.metadata.tenant,
        "correlation": event.metadata.correlation,
        "causation": event.metadata.causation,
        "actor": event.metadata.actor,
        "data": data,
    });
    println!("{line}");
    Ok(())
}

/// `kite config`.
pub(crate) fn config(command: ConfigCommand) -> anyhow::Result<ExitCode> {
    match command {
        ConfigCommand::Default => print!("{}", config::DEFAULT),
        ConfigCommand::Check { config } => {
            let config = Config::load(config.as_deref())?;
            config.check_descriptors()?;
            config.check_admin_key()?;
            config.vault()?;
            config.check_certificate()?;
            println!("the configuration is good");
        }
    }
    Ok(ExitCode::SUCCESS)
}
