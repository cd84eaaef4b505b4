//! `kite queue`: jobs that no worker understood.

use anyhow::{Context, bail, ensure};
use kite_commands::describe;
use kite_nats::{DeadLetter, DeadLetters};
use serde_json::{Value, json};
use std::process::ExitCode;

use crate::cli::{QueueCommand, QueueOptions, QueueWhich};
use crate::config::{Config, QueueEngine};
use crate::serve::runtime;

/// Jobs that are read at once if all are meant.
const PAGE: usize = 500;

/// Runs the command.
pub(crate) fn run(command: QueueCommand) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(async {
        match command {
            QueueCommand::List { options, limit } => list(&open(&options).await?, limit, options.json).await,
            QueueCommand::Show { options, number } => show(&open(&options).await?, number).await,
            QueueCommand::Retry { options, which } => {
                each(&open(&options).await?, which, "published again", async |letters, number| {
                    letters.retry(number).await
                })
                .await
            }
            QueueCommand::Drop { options, which } => {
                each(&open(&options).await?, which, "dropped", async |letters, number| {
                    letters.discard(number).await
                })
                .await
            }
        }
    })
}

async fn open(options: &QueueOptions) -> anyhow::Result<DeadLetters> {
    let config = Config::load(options.config.as_deref())?;
    ensure!(
        config.queue.engine == QueueEngine::Nats,
        "queue.engine: the work queue is inside the process, and holds nothing that was not understood"
    );
    let nats = &config.nats;
    let opened = Box::pin(DeadLetters::open(&nats.server()?, &nats.prefix, nats.streams())).await;
    opened.context("cannot use the work queue on NATS")
}

async fn list(letters: &DeadLetters, limit: usize, is_json: bool) -> anyhow::Result<ExitCode> {
    let [jobs, dead] = letters.counts().await.map_err(in_words)?;
    let listed = letters.list(1, limit).await.map_err(in_words)?;
    if is_json {
        let listed: Vec<Value> = listed.iter().map(in_json).collect();
        println!("{}", json!({ "jobs": jobs, "not_understood": dead, "items": listed }));
        return Ok(ExitCode::SUCCESS);
    }
    println!("{jobs} in the queue, {dead} that were not understood");
    for letter in &listed {
        println!(
            "{:<8} {}  {}  {}",
            letter.number,
            letter.at.format("%Y-%m-%d %H:%M:%S"),
            letter.subject,
            letter.reason
        );
    }
    if dead > listed.len() as u64 {
        println!("… and more (--limit)");
    }
    Ok(ExitCode::SUCCESS)
}

async fn show(letters: &DeadLetters, number: u64) -> anyhow::Result<ExitCode> {
    let Some(letter) = letters.find(number).await.map_err(in_words)? else {
        bail!("there is no job {number} that was not understood")
    };
    println!("{}", serde_json::to_string_pretty(&in_json(&letter))?);
    Ok(ExitCode::SUCCESS)
}

/// Does it with those that are meant; one that is gone by now is told, and the exit code is 1.
async fn each(
    letters: &DeadLetters,
    which: QueueWhich,
    done: &str,
    act: impl AsyncFn(&DeadLetters, u64) -> Result<bool, kite_commands::worker::Failure>,
) -> anyhow::Result<ExitCode> {
    let mut is_any_gone = false;
    for number in numbers(letters, which).await? {
        let is_done =
            act(letters, number).await.map_err(in_words).with_context(|| format!("job {number}"))?;
        match is_done {
            true => println!("{number}: {done}"),
            false => println!("{number}: there is no such job"),
        }
        is_any_gone |= !is_done;
    }
    Ok(if is_any_gone { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// All that are there now: what comes back under another number is not meant.
async fn numbers(letters: &DeadLetters, which: QueueWhich) -> anyhow::Result<Vec<u64>> {
    if !which.all {
        return Ok(which.numbers);
    }
    let mut numbers = Vec::new();
    loop {
        let from = numbers.last().map_or(1, |last| last + 1);
        let page = letters.list(from, PAGE).await.map_err(in_words)?;
        if page.is_empty() {
            return Ok(numbers);
        }
        numbers.extend(page.iter().map(|letter| letter.number));
    }
}

fn in_json(letter: &DeadLetter) -> Value {
    let text = String::from_utf8_lossy(&letter.payload);
    json!({
        "number": letter.number,
        "at": letter.at,
        "subject": letter.subject,
        "reason": letter.reason,
        "job": serde_json::from_str::<Value>(&text).unwrap_or_else(|_| Value::from(text)),
    })
}

fn in_words(failure: kite_commands::worker::Failure) -> anyhow::Error {
    anyhow::anyhow!("the work queue does not answer: {}", describe(&*failure))
}
