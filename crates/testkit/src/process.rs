//! A program of ours (or a server that a test needs) as a process: started, watched, killed.
//!
//! What it prints is kept and shown when something goes wrong. It never outlives its [`Process`].

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal};

use crate::wait::block_for;

/// Standard output and standard error.
const OUTPUTS: usize = 2;
/// How long the last lines of a process that has ended may take to come.
const LAST_LINES_WITHIN: Duration = Duration::from_secs(5);
/// Lines kept of what a process prints; older ones are dropped.
const LINES_MAX: usize = 20_000;
/// Lines shown when something goes wrong.
const LINES_SHOWN: usize = 60;

/// A running program.
pub struct Process {
    name: String,
    child: Child,
    output: Arc<Output>,
}

/// What a process has printed, on both of its outputs, line by line.
#[derive(Default)]
struct Output {
    lines: Mutex<Lines>,
    more: Condvar,
}

#[derive(Default)]
struct Lines {
    kept: Vec<String>,
    dropped: usize,
    /// Outputs that have reached their end.
    ended: usize,
}

impl Output {
    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, line: String) {
        let mut lines = self.lines();
        if lines.kept.len() == LINES_MAX {
            lines.kept.drain(..LINES_MAX / 2);
            lines.dropped += LINES_MAX / 2;
        }
        lines.kept.push(line);
        self.more.notify_all();
    }

    fn end(&self) {
        self.lines().ended += 1;
        self.more.notify_all();
    }

    /// Waits until all that was printed by a process that has ended is here. What it has started may keep its outputs open.
    fn wait_for_end(&self) {
        let is_open = |lines: &mut Lines| lines.ended < OUTPUTS;
        let waited = self.more.wait_timeout_while(self.lines(), LAST_LINES_WITHIN, is_open);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

/// What a program prints on its standard output.
///
/// # Errors
/// When it cannot be started or fails; shows everything that it printed.
pub fn output(command: &mut Command) -> anyhow::Result<Vec<u8>> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&said).trim());
    }
    Ok(output.stdout)
}

impl Process {
    /// Starts a program; what it prints on standard output and standard error is captured.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(name: &str, command: &mut Command) -> anyhow::Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("{name} cannot be started: {command:?}"))?;
        let output = Arc::new(Output::default());
        let stdout = child.stdout.take().context("standard output was piped")?;
        let stderr = child.stderr.take().context("standard error was piped")?;
        read(stdout, name, &output)?;
        read(stderr, name, &output)?;
        Ok(Self { name: name.to_owned(), child, output })
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line of its output from which something can be read, from the first line on.
    ///
    /// # Errors
    /// When the timeout is over or the program ends without such a line; shows what it printed.
    #[expect(clippy::disallowed_methods, reason = "another process prints in real time")]
    pub fn wait_for_line<T>(
        &self,
        what: &str,
        timeout: Duration,
        mut read: impl FnMut(&str) -> Option<T>,
    ) -> anyhow::Result<T> {
        let deadline = Instant::now() + timeout;
        let mut seen = 0;
        let mut lines = self.output.lines();
        loop {
            let first = seen.max(lines.dropped) - lines.dropped;
            if let Some(value) = lines.kept[first..].iter().find_map(|line| read(line)) {
                return Ok(value);
            }
            seen = lines.dropped + lines.kept.len();
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || lines.ended == OUTPUTS {
                drop(lines);
                bail!("{} did not print {what} within {timeout:?}\n{}", self.name, self.log());
            }
            lines = self.output.more.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn is_running(&mut self) -> anyhow::Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Kills it with SIGKILL, at once, and waits until it is gone. One that has ended is left alone.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(&mut self) -> anyhow::Result<ExitStatus> {
        self.child.kill()?;
        Ok(self.child.wait()?)
    }

    /// Asks it to end with SIGTERM and waits for that.
    ///
    /// # Errors
    /// When it does not end within the timeout; shows what it printed.
    pub fn terminate(&mut self, timeout: Duration) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait(timeout)
    }

    /// Asks it to end as Ctrl-C does, with SIGINT, and waits for that.
    ///
    /// # Errors
    /// When it does not end within the timeout; shows what it printed.
    pub fn interrupt(&mut self, timeout: Duration) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::INT)?;
        self.wait(timeout)
    }

    /// Stops it from running until [`Process::resume`]: what talks to it sees neither an answer nor an end.
    ///
    /// # Errors
    /// When it has ended.
    pub fn pause(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it run on.
    ///
    /// # Errors
    /// When it has ended.
    pub fn resume(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)
    }

    pub(crate) fn signal(&mut self, signal: Signal) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} has ended by itself: {status}\n{}", self.name, self.log());
        }
        let pid = Pid::from_raw(self.child.id() as i32).context("a process id is not 0")?;
        rustix::process::kill_process(pid, signal)
            .with_context(|| format!("{} cannot be signalled", self.name))
    }

    /// Waits until it ends.
    ///
    /// # Errors
    /// When it does not within the timeout; shows what it printed.
    pub fn wait(&mut self, timeout: Duration) -> anyhow::Result<ExitStatus> {
        let what = format!("the end of {}", self.name);
        let child = &mut self.child;
        let status = block_for(&what, timeout, || child.try_wait().transpose());
        match status {
            Ok(status) => {
                self.output.wait_for_end();
                Ok(status?)
            }
            Err(error) => Err(error.context(self.log())),
        }
    }

    /// All lines that it printed and that are still kept.
    #[must_use]
    pub fn printed(&self) -> String {
        self.output.lines().kept.iter().flat_map(|line| [line, "\n"]).collect()
    }

    /// The last lines that it printed, for a failure message.
    #[must_use]
    pub fn log(&self) -> String {
        let lines = self.output.lines();
        let first = lines.kept.len().saturating_sub(LINES_SHOWN);
        let mut text = format!("--- {} ({} earlier lines) ---\n", self.name, lines.dropped + first);
        for line in &lines.kept[first..] {
            let _ = writeln!(text, "{line}");
        }
        text
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself: then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}

/// Reads a pipe to its end, in a thread of its own: it ends when the process and all its children have.
fn read(pipe: impl Read + Send + 'static, name: &str, output: &Arc<Output>) -> anyhow::Result<()> {
    let output = Arc::clone(output);
    let read = move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        while matches!(pipe.read_until(b'\n', &mut line), Ok(bytes) if bytes > 0) {
            output.add(String::from_utf8_lossy(&line).trim_end().to_owned());
            line.clear();
        }
        output.end();
    };
    std::thread::Builder::new().name(format!("{name}-output")).spawn(read)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    fn shell(script: &str) -> Process {
        Process::start("script", Command::new("sh").args(["-c", script])).unwrap()
    }

    #[test]
    fn a_line_is_found_on_either_output() {
        let process = shell("echo one; echo port=81 >&2; exec sleep 60");
        let port =
            process.wait_for_line("its port", SOON, |line| line.strip_prefix("port=").map(str::to_owned));
        assert_eq!(port.unwrap(), "81");
        assert!(process.wait_for_line("one", SOON, |line| (line == "one").then_some(())).is_ok());
    }

    #[test]
    fn a_program_that_ends_without_the_line_is_reported_with_what_it_said() {
        let error = shell("echo no config").wait_for_line("its port", SOON, |_| None::<()>).unwrap_err();
        assert!(error.to_string().contains("no config"), "{error}");
    }

    #[test]
    fn sigterm_lets_it_end_by_itself_and_sigkill_does_not() {
        use std::os::unix::process::ExitStatusExt;
        let script = "trap 'exit 7' TERM; echo up; while :; do sleep 0.01; done";
        let mut polite = shell(script);
        polite.wait_for_line("up", SOON, |line| (line == "up").then_some(())).unwrap();
        assert_eq!(polite.terminate(SOON).unwrap().code(), Some(7));
        let mut killed = shell(script);
        killed.wait_for_line("up", SOON, |line| (line == "up").then_some(())).unwrap();
        assert!(killed.is_running().unwrap());
        assert_eq!(killed.kill().unwrap().signal(), Some(9));
        assert!(!killed.is_running().unwrap());
    }
}
