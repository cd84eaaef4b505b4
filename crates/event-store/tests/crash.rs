//! The process is killed, and a file may not grow. The store runs in a child process: this test binary again, which
//! runs only the test named [`CHILD`].

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod support;

use kite_event_store::{AppendError, EventStore, Expected, describe};
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use support::{append, append_one, id, log_of, open};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{ChildStdout, Command};
use tokio::task::JoinSet;

const CHILD: &str = "child_that_appends_until_it_is_stopped";
const DIRECTORY: &str = "KITE_TEST_DIRECTORY";
const FIRST: &str = "KITE_TEST_FIRST";
const CLIENTS: u64 = 8;
/// For what takes a second at most.
const SOON: Duration = Duration::from_secs(120);

/// `sh` runs the child, after `prelude`.
fn child(directory: &Path, first: u64, prelude: &str) -> Command {
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(format!(r#"{prelude} exec "$0" --exact {CHILD} --ignored --nocapture"#))
        .arg(std::env::current_exe().unwrap())
        .env(DIRECTORY, directory)
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    command
}

/// An acknowledged append as the child prints it: the number of its first event (of two), and its position.
fn acknowledged(line: &str) -> Option<(u64, u64)> {
    let (number, position) = line.strip_prefix("acknowledged ")?.split_once(' ')?;
    Some((number.parse().ok()?, position.parse().ok()?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by the other tests, in a process of its own"]
async fn child_that_appends_until_it_is_stopped() {
    let directory = std::env::var_os(DIRECTORY).unwrap();
    let first: u64 = std::env::var(FIRST).unwrap().parse().unwrap();
    let store = Arc::new(open(&Path::new(&directory).join("log.sqlite")));
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let store = Arc::clone(&store);
        clients.spawn(async move {
            for round in 0.. {
                let number = first + (round * CLIENTS + client) * 2;
                let next = append(
                    &format!("s-{first}-{client}"),
                    Expected::Version(round * 2),
                    [number, number + 1],
                );
                match append_one(&*store, next).await {
                    Ok(done) => print_line(&format!("acknowledged {number} {}", done.position)),
                    Err(error) => return error,
                }
            }
            unreachable!("the numbers do not end");
        });
    }
    let errors = clients.join_all().await;
    let later = append_one(&*store, append("later", Expected::Any, [first + 1_000_000])).await;
    let has_stopped =
        errors.iter().all(|error| matches!(error, AppendError::Stopped(_) | AppendError::AnswerLost));
    assert!(has_stopped, "{errors:?}");
    let Err(AppendError::Stopped(reason)) = later else { panic!("{later:?}") };
    let readable = log_of(&*store).await.len();
    assert!(readable as u64 >= *store.head().borrow());
    print_line(&format!("stopped {}", describe(&reason)));
}

/// One write, so that lines of several threads do not mix.
fn print_line(line: &str) {
    let mut output = std::io::stdout().lock();
    output.write_all(format!("{line}\n").as_bytes()).and_then(|()| output.flush()).unwrap();
}

/// What was acknowledged stands at the position that was said, and appends are whole.
async fn check(directory: &Path, acknowledged: &[(u64, u64)]) {
    let log = log_of(&open(&directory.join("log.sqlite"))).await;
    for (number, position) in acknowledged {
        let [first, second] = [position - 2, position - 1].map(|index| &log[index as usize]);
        assert_eq!((first.id, second.id), (id(*number), id(number + 1)), "acknowledged at {position}");
    }
    assert_eq!(log.len() % 2, 0, "an append is there as a whole");
    for pair in log.chunks(2) {
        assert_eq!((&pair[0].stream, pair[0].version + 1), (&pair[1].stream, pair[1].version));
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let mut all = Vec::new();
    // Killed early, in the middle, and late enough for the write-ahead log to be long; each time on the same log.
    for (round, count) in [1, 40, 333, 1500, 7].into_iter().enumerate() {
        let mut process = child(directory.path(), round as u64 * 10_000_000, "").spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let wanted = all.len() + count;
        while all.len() < wanted {
            let line = next_line(&mut lines).await.expect("the child goes on until it is killed");
            all.extend(acknowledged(&line));
        }
        process.start_kill().unwrap();
        // Acknowledged while the kill was on its way; the last line may be torn.
        while let Some(line) = next_line(&mut lines).await {
            all.extend(acknowledged(&line));
        }
        process.wait().await.unwrap();
        check(directory.path(), &all).await;
    }
}

/// The next line that the child prints; none when it has ended.
async fn next_line(lines: &mut Lines<BufReader<ChildStdout>>) -> Option<String> {
    let line = tokio::time::timeout(SOON, lines.next_line()).await;
    line.expect("the child says something or ends").unwrap()
}

/// A file may not grow any more, as on a full disk: a write fails for real, inside SQLite.
#[tokio::test]
async fn a_failed_write_stops_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let prelude = "trap '' XFSZ; ulimit -f 1500;";
    let output = tokio::time::timeout(SOON, child(directory.path(), 0, prelude).output()).await;
    let output = output.expect("the child comes to the limit").unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    let all: Vec<_> = text.lines().filter_map(acknowledged).collect();
    assert!(!all.is_empty(), "{text}");
    let reason = text.lines().find_map(|line| line.strip_prefix("stopped ")).expect("it says why it stopped");
    assert!(reason.contains("failed"), "{reason}");
    check(directory.path(), &all).await;

    let store = open(&directory.path().join("log.sqlite"));
    let next = append_one(&store, append("after", Expected::Version(0), [9_000_000])).await;
    assert!(next.is_ok_and(|done| !done.repeated), "a new process goes on");
}
