//! Reading the metrics that a process shows at `/metrics`.

/// The sum of a metric over all its labels; `None`: there is no such metric.
#[must_use]
pub fn metric_sum(text: &str, name: &str) -> Option<f64> {
    values(text, name).reduce(|one, other| one + other)
}

/// The largest value of a metric over all its labels; `None`: there is no such metric.
#[must_use]
pub fn metric_max(text: &str, name: &str) -> Option<f64> {
    values(text, name).reduce(f64::max)
}

/// How many samples a histogram without labels has up to each bound, the bounds ascending; the last one is infinite.
#[must_use]
pub fn buckets(text: &str, name: &str) -> Vec<(f64, f64)> {
    let bucket = |line: &str| {
        let (bound, count) = line.strip_prefix(name)?.strip_prefix("_bucket{le=\"")?.split_once("\"} ")?;
        let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().ok()? };
        Some((bound, count.parse().ok()?))
    };
    text.lines().filter_map(bucket).collect()
}

fn values(text: &str, name: &str) -> impl Iterator<Item = f64> {
    text.lines().filter_map(move |line| {
        let rest = line.strip_prefix(name)?;
        let is_it = rest.starts_with('{') || rest.starts_with(' ');
        is_it.then(|| rest.rsplit_once(' ')?.1.parse::<f64>().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buckets_of_a_histogram_are_read() {
        let text = "# TYPE kite_commit_seconds histogram\nkite_commit_seconds_bucket{le=\"0.005\"} 7\n\
            kite_commit_seconds_bucket{le=\"+Inf\"} 9\nkite_commit_seconds_sum 1.5\nkite_commit_seconds_count 9\n";
        assert_eq!(buckets(text, "kite_commit_seconds"), [(0.005, 7.0), (f64::INFINITY, 9.0)]);
        assert_eq!(buckets(text, "kite_commit"), []);
    }

    #[test]
    fn a_metric_is_found_over_its_labels_and_no_other() {
        let text = "# TYPE kite_lag_seconds gauge\nkite_lag_seconds{projector=\"a b\"} 0.25\n\
                    kite_lag_seconds{projector=\"work\"} 1.5\nkite_lag_seconds_total 9\nkite_open 4\n";
        assert_eq!(metric_max(text, "kite_lag_seconds"), Some(1.5));
        assert_eq!(metric_sum(text, "kite_lag_seconds"), Some(1.75));
        assert_eq!(metric_sum(text, "kite_open"), Some(4.0));
        assert_eq!(metric_max(text, "kite_open_messages"), None);
        assert_eq!(metric_sum(text, "kite_open_messages"), None);
    }
}
