//! Reading what a process says of itself at `/metrics`.

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
