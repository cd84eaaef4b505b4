//! What an operator does on the command line: replay, audit, configuration.

use anyhow::{bail, ensure};
use kite_commands::seals::{self, SealReport};
use kite_event_store::sqlite::SqliteLogFile;
use kite_event_store::{EventStore, KeptEvent, Position, RecordedEvent, describe};
use kite_projections::ParkedEvent;
use kite_projections::replay::{self, ModelReport, ParkedReport, Report, RetryReport};
use std::process::ExitCode;

use crate::cli::{AuditOptions, ConfigCommand, LogOptions, ReplayOptions};
use crate::config::{self, Config, Engine};
use crate::data_dir::{LOG, is_backup};
use crate::log::{Directory, Log, ReadModelUse};
use crate::seal_file;
use crate::serve::runtime;

/// Events that are read at once.
const PAGE: usize = 500;

impl LogOptions {
    fn config(&self) -> anyhow::Result<Config> {
        match &self.data {
            Some(data) => Ok(Config { data_dir: data.clone(), ..Config::compiled_in()? }),
            None => Config::load(self.config.as_deref()),
        }
    }
}

/// `kite replay`.
pub(crate) fn replay(options: ReplayOptions) -> anyhow::Result<ExitCode> {
    let config = options.log.config()?;
    runtime()?.block_on(async {
        // For as long as it is open, no instance uses the read models of the directory. Those that are shared go on.
        let directory = match config.read_models.engine {
            Engine::Sqlite => Directory::Used,
            Engine::Postgres => Directory::Unused,
        };
        let log = Log::of_operator(&config, directory).await?;
        let shown = replay_log(&log, &config, &options).await;
        log.close().await;
        shown
    })
}

async fn replay_log(log: &Log, config: &Config, options: &ReplayOptions) -> anyhow::Result<ExitCode> {
    let mode = &options.mode;
    let use_of = match mode.rebuild {
        true => ReadModelUse::Rebuilt,
        false => ReadModelUse::AsTheyAre,
    };
    let models = log.read_models(config, use_of).await?;
    if mode.parked {
        return Ok(show_parked(&replay::parked(models)?, options.json));
    }
    let store = log.store();
    if (mode.rebuild || mode.retry_parked) && !options.unverified {
        let report = seals::verify(&*store).await?;
        if !report.is_clean() {
            print_seals(&report, &[]);
            bail!(
                "the log is not as it was sealed: what is made from it would show that as true (--unverified does so)"
            );
        }
    }
    if mode.retry_parked {
        return Ok(show_retried(&replay::retry_parked(store, models).await?, options.json));
    }
    let report = match mode.rebuild {
        true => replay::rebuild(store, models).await?,
        false => replay::verify(store, models).await?,
    };
    match options.json {
        true => println!("{}", report_json(&report)),
        false => print_report(&report, mode.rebuild),
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
        "is_there": model.is_there,
        "has_read_nothing": model.has_read_nothing,
        "parked": model.parked,
        "differences": model.differences_total,
        "first_differences": model.differences.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

fn print_report(report: &Report, is_rebuild: bool) {
    for model in &report.models {
        let what = match (is_rebuild, model.is_there, model.differences_total) {
            (true, _, _) => "rebuilt".to_owned(),
            (false, false, _) => "there is none, so nothing was compared".to_owned(),
            (false, true, 0) if model.has_read_nothing => {
                "has read nothing yet, so nothing was compared".to_owned()
            }
            (false, true, 0) => "equal".to_owned(),
            (false, true, count) => format!("{count} rows differ"),
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

async fn hold_against_seals(
    log: &dyn EventStore,
    options: &AuditOptions,
) -> anyhow::Result<(SealReport, Vec<Position>)> {
    let report = seals::verify(log).await?;
    let elsewhere = match &options.seals {
        None => Vec::new(),
        Some(path) => seals::differ_from(log, &seal_file::read(path)?).await?,
    };
    Ok((report, elsewhere))
}

/// `kite audit --verify`.
async fn verify_seals(config: &Config, options: &AuditOptions) -> anyhow::Result<ExitCode> {
    // A backup is to stay as it is.
    let (report, elsewhere) = if is_backup(&config.data_dir) {
        hold_against_seals(&SqliteLogFile::open(&config.data_dir.join(LOG))?, options).await?
    } else {
        let log = Log::of_operator(config, Directory::Unused).await?;
        let held = hold_against_seals(&*log.store(), options).await;
        log.close().await;
        held?
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

/// `elsewhere`: the positions up to which the seals differ from those that were kept elsewhere.
pub(crate) fn print_seals(report: &SealReport, elsewhere: &[Position]) {
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
    let config = options.log.config()?;
    runtime()?.block_on(async {
        if options.verify {
            return verify_seals(&config, &options).await;
        }
        let log = Log::of_operator(&config, Directory::Unused).await?;
        let printed = print_events(&*log.store(), &options).await;
        log.close().await;
        printed.map(|()| ExitCode::SUCCESS)
    })
}

/// Asking for something that does not exist gives an error, not an empty output.
async fn print_events(store: &dyn EventStore, options: &AuditOptions) -> anyhow::Result<()> {
    let head = *store.head().borrow();
    let AuditOptions { after, stream, .. } = options;
    ensure!(*after <= head, "there is no position {after}: the log ends at position {head}");
    let mut printed = 0;
    if let Some(stream) = stream {
        let mut version = 0;
        while printed < options.limit {
            let page = store.read_kept_stream(stream, version, PAGE).await?;
            ensure!(version > 0 || !page.is_empty(), "there is no stream {stream} in this log");
            let Some(last) = page.last() else { break };
            version = last.version;
            let wanted = page.iter().filter(|kept| kept.position > *after).take(options.limit - printed);
            for kept in wanted {
                print_kept(kept);
                printed += 1;
            }
        }
    } else {
        let mut place = *after;
        while printed < options.limit {
            let page = store.read_kept(place, PAGE.min(options.limit - printed)).await?;
            if page.next == place {
                break;
            }
            place = page.next;
            page.events.iter().for_each(print_kept);
            printed += page.events.len();
        }
    }
    if printed == 0 && options.limit > 0 {
        let what = stream.as_ref().map_or_else(|| "the log".to_owned(), |stream| format!("stream {stream}"));
        eprintln!("{what} holds nothing after position {after}; the log ends at position {head}");
    }
    Ok(())
}

fn print_kept(kept: &KeptEvent) {
    match &kept.event {
        Ok(event) => print_event(event),
        Err(why) => {
            println!("{}", serde_json::json!({ "position": kept.position, "cannot_be_read": describe(why) }));
        }
    }
}

fn print_event(event: &RecordedEvent) {
    let read = serde_json::from_slice(&event.data).map(|mut data| {
        kite_domain::event::redact(&event.kind, &mut data);
        data
    });
    let (data, why): (serde_json::Value, _) = match read {
        Ok(data) => (data, None),
        // Not as it is: nobody can say which parts of it are to be told.
        Err(error) => (serde_json::Value::Null, Some(error.to_string())),
    };
    let mut line = serde_json::json!({
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
    if let Some(traceparent) = event.metadata.traceparent {
        line["traceparent"] = traceparent.to_string().into();
    }
    if let Some(why) = why {
        line["data_cannot_be_read"] = why.into();
    }
    println!("{line}");
}

/// `kite config`.
pub(crate) fn config(command: ConfigCommand) -> anyhow::Result<ExitCode> {
    match command {
        ConfigCommand::Default => print!("{}", config::DEFAULT),
        ConfigCommand::Check { config } => {
            let config = Config::load(config.as_deref())?;
            config.check_descriptors()?;
            config.check_admin_key()?;
            config.check_backup_dir()?;
            config.check_store()?;
            config.vault()?;
            config.check_certificate()?;
            println!("the configuration is good");
        }
    }
    Ok(ExitCode::SUCCESS)
}
