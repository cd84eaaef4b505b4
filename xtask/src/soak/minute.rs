//! A balance once a minute, with no request in progress.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use super::balance::Doubles;

/// How long the read models may take to show what was answered with 202. Milliseconds.
const CATCH_UP_MS_MAX: u64 = 30_000;
/// The write-ahead logs together, in millions of bytes.
const WRITE_AHEAD_MB_MAX: u64 = 512;

/// One look.
#[derive(Serialize)]
pub(super) struct Minute {
    /// Minutes since the start.
    pub(super) minutes: f64,
    pub(super) part: Part,
    /// Messages that got a 202.
    pub(super) accepted: u64,
    /// Messages that were answered with 202 and are not in the read models, however long they were waited for.
    pub(super) lost: u64,
    /// Messages that are in the read models and were not answered with 202.
    pub(super) unclaimed: u64,
    /// How long the read models took to show them.
    pub(super) catch_up_ms: u64,
    pub(super) open: u64,
    pub(super) doubles: Doubles,
    pub(super) resident_mb: u64,
    pub(super) files: Files,
    /// Messages in the lanes of the work queue, or parcels on its servers.
    pub(super) queue_depth: u64,
    pub(super) kills: u64,
    pub(super) stops: u64,
    pub(super) cpu_us_per_message: u64,
}

/// Of the run.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Part {
    FirstHalf,
    SecondHalf,
    /// The load has ended, and everything is final.
    End,
}

impl Minute {
    /// What does not hold at this look, if so many messages may be open.
    pub(super) fn complaints(&self, open_max: u64) -> Vec<String> {
        let is_second_half = self.part == Part::SecondHalf;
        let complaints = [
            (self.lost > 0, format!("{} lost", self.lost)),
            (self.unclaimed > 0, format!("{} that nobody has a 202 for", self.unclaimed)),
            (self.doubles.forbidden > 0, format!("{} delivered twice", self.doubles.forbidden)),
            (is_second_half && self.open > open_max, format!("{} open, more than {open_max}", self.open)),
            (
                is_second_half && self.catch_up_ms > CATCH_UP_MS_MAX,
                format!("read models {} ms behind", self.catch_up_ms),
            ),
            (
                is_second_half && self.files.write_ahead_mb > WRITE_AHEAD_MB_MAX,
                format!("write-ahead logs of {} MB", self.files.write_ahead_mb),
            ),
        ];
        let complaints = complaints.into_iter().filter(|(is_wrong, _)| *is_wrong);
        complaints.map(|(_, what)| format!("at {:.1} min: {what}", self.minutes)).collect()
    }
}

/// Sizes in millions of bytes.
#[derive(Default, Serialize)]
pub(super) struct Files {
    log_mb: u64,
    read_models_mb: u64,
    write_ahead_mb: u64,
    /// In bytes, without the write-ahead logs.
    #[serde(skip)]
    pub(super) closed_bytes: u64,
}

impl Files {
    /// Of data directories as they are. One may not be made yet.
    pub(super) fn of(directories: &[PathBuf]) -> anyhow::Result<Self> {
        let (mut log, mut models, mut ahead) = (0, 0, 0);
        for entry in directories.iter().filter_map(|directory| directory.read_dir().ok()).flatten() {
            let entry = entry?;
            // A file may be gone by now.
            let Ok(metadata) = entry.metadata() else { continue };
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.ends_with("-wal") {
                ahead += metadata.len();
            } else if name.starts_with("events") {
                log += metadata.len();
            } else {
                models += metadata.len();
            }
        }
        let mega = |bytes: u64| (bytes + 500_000) / 1_000_000;
        Ok(Self {
            log_mb: mega(log),
            read_models_mb: mega(models),
            write_ahead_mb: mega(ahead),
            closed_bytes: log + models,
        })
    }
}

impl fmt::Display for Minute {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { minutes, accepted, lost, open, doubles, resident_mb, files, .. } = self;
        let closed = accepted.saturating_sub(*open);
        write!(
            formatter,
            "{minutes:>5.1} min: {accepted} accepted, {closed} final, {open} open | lost {lost}, delivered twice {} \
             (and {} permitted) | memory {resident_mb} MB | log {} MB, read models {} MB, WAL {} MB | caught up in {} ms | \
             queue {} | kills {}, stops {} | {} bytes, {} µs CPU a message",
            doubles.forbidden,
            doubles.permitted,
            files.log_mb,
            files.read_models_mb,
            files.write_ahead_mb,
            self.catch_up_ms,
            self.queue_depth,
            self.kills,
            self.stops,
            files.closed_bytes / (*accepted).max(1),
            self.cpu_us_per_message,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minute(part: Part) -> Minute {
        Minute {
            minutes: 3.0,
            part,
            accepted: 180_000,
            lost: 0,
            unclaimed: 0,
            catch_up_ms: 30_001,
            open: 60_001,
            doubles: Doubles::default(),
            resident_mb: 200,
            files: Files { write_ahead_mb: 513, ..Files::default() },
            queue_depth: 0,
            kills: 0,
            stops: 0,
            cpu_us_per_message: 700,
        }
    }

    #[test]
    fn what_piles_up_is_complained_of_where_nothing_dies() {
        assert!(minute(Part::FirstHalf).complaints(60_000).is_empty());
        assert_eq!(minute(Part::SecondHalf).complaints(60_000).len(), 3);
        assert_eq!(minute(Part::SecondHalf).complaints(60_001).len(), 2);
    }

    #[test]
    fn loss_is_complained_of_at_any_time() {
        let doubles = Doubles { permitted: 3, forbidden: 1 };
        let wrong = Minute { lost: 1, unclaimed: 2, doubles, ..minute(Part::End) };
        assert_eq!(
            wrong.complaints(60_000),
            [
                "at 3.0 min: 1 lost",
                "at 3.0 min: 2 that nobody has a 202 for",
                "at 3.0 min: 1 delivered twice"
            ]
        );
    }
}
