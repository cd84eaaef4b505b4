//! How things stand, once a minute.

use std::fmt;
use std::path::Path;

use serde::Serialize;

use super::balance::Doubles;

/// One look.
#[derive(Serialize)]
pub(super) struct Minute {
    pub(super) minute: u64,
    /// Messages that got a 202.
    pub(super) accepted: u64,
    /// Messages that got a 202 and are not in the read models, which have caught up with it.
    pub(super) lost: u64,
    pub(super) open: u64,
    pub(super) doubles: Doubles,
    pub(super) resident_mb: u64,
    pub(super) files: Files,
    pub(super) projector_lag_events: u64,
    pub(super) projector_lag_ms: u64,
    /// Messages in the lanes of the work queue.
    pub(super) queue_depth: u64,
    pub(super) kills: u64,
    pub(super) stops: u64,
    pub(super) cpu_us_per_message: u64,
}

/// Sizes in millions of bytes.
#[derive(Default, Serialize)]
pub(super) struct Files {
    log_mb: u64,
    read_models_mb: u64,
    write_ahead_mb: u64,
    #[serde(skip)]
    total: u64,
}

impl Files {
    /// Of the data directory as it is.
    pub(super) fn of(directory: &Path) -> anyhow::Result<Self> {
        let (mut log, mut models, mut ahead) = (0, 0, 0);
        for entry in std::fs::read_dir(directory)? {
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
            total: log + models + ahead,
        })
    }
}

impl fmt::Display for Minute {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { minute, accepted, lost, open, doubles, resident_mb, files, .. } = self;
        let closed = accepted.saturating_sub(*open);
        write!(
            formatter,
            "{minute:>3} min: {accepted} accepted, {closed} final, {open} open | lost {lost}, delivered twice {} \
             (and {} permitted) | memory {resident_mb} MB | log {} MB, read models {} MB, WAL {} MB | lag {} events, \
             {} ms | queue {} | kills {}, stops {} | {} bytes, {} µs CPU a message",
            doubles.forbidden,
            doubles.permitted,
            files.log_mb,
            files.read_models_mb,
            files.write_ahead_mb,
            self.projector_lag_events,
            self.projector_lag_ms,
            self.queue_depth,
            self.kills,
            self.stops,
            files.total / (*accepted).max(1),
            self.cpu_us_per_message,
        )
    }
}

/// The sum of a metric over all its labels.
pub(super) fn metric_sum(text: &str, name: &str) -> f64 {
    let value = |line: &str| {
        let rest = line.strip_prefix(name)?;
        let is_it = rest.starts_with('{') || rest.starts_with(' ');
        is_it.then(|| rest.rsplit_once(' ')?.1.parse::<f64>().ok())?
    };
    text.lines().filter_map(value).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_summed_over_its_labels() {
        let text = "kite_queue_depth{relay=\"a\",class=\"otp\"} 3\nkite_queue_depth{relay=\"b\",class=\"ad\"} 4\n\
                    kite_queue_depth_max 100\n";
        assert_eq!(metric_sum(text, "kite_queue_depth"), 7.0);
    }
}
