//! What an operator does on the command line: replay, audit, configuration.

use anyhow::{Context, bail};
use kite_event_store::sqlite::{SqliteEventStore, SqliteOptions};
use kite_event_store::{EventStore, Filter, RecordedEvent};
use kite_projections::replay::{self, Report};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use crate::cli::{AuditOptions, ConfigCommand, ReplayOptions};
use crate::config::{self, Config};
use crate::serve::runtime;

pub(crate) fn open_log(data: &Path) -> anyhow::Result<Arc<SqliteEventStore>> {
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
    let log: Arc<dyn EventStore> = store.clone();
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
    Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn report_json(report: &Report) -> serde_json::Value {
    let models = report.models.iter().map(|model| {
        serde_json::json!({
            "model": model.name,
            "position": model.position,
            "events": model.events,
            "rows": model.rows,
            "differences": model.differences_total,
            "first_differences": model.differences.iter().map(ToString::to_string).collect::<Vec<_>>(),
        })
    });
    serde_json::json!({ "is_clean": report.is_clean(), "models": models.collect::<Vec<_>>() })
}

fn print_report(report: &Report, is_rebuild: bool) {
    for model in &report.models {
        let what = match (is_rebuild, model.differences_total) {
            (true, _) => "rebuilt".to_owned(),
            (false, 0) => "equal".to_owned(),
            (false, count) => format!("{count} rows differ"),
        };
        println!(
            "{:<14} {:>10} rows from {:>10} events up to {:>10}: {what}",
            model.name, model.rows, model.events, model.position
        );
        model.differences.iter().for_each(|difference| println!("  {difference}"));
    }
}

/// `kite audit`.
pub(crate) fn audit(options: AuditOptions) -> anyhow::Result<ExitCode> {
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
            Config::load(config.as_deref())?;
            println!("the configuration is good");
        }
    }
    Ok(ExitCode::SUCCESS)
}
