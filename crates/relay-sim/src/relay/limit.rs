//! The relay's rate limit: a token bucket, told the time.

/// A token bucket of message parts; every message is one part.
#[derive(Debug)]
pub(crate) struct Bucket {
    /// Parts a millisecond; `None` for no limit.
    rate: Option<f64>,
    capacity: f64,
    level: f64,
    filled_at_ms: u64,
}

impl Bucket {
    /// A full bucket that holds one second's worth, at least one batch.
    pub(crate) fn new(per_second: Option<f64>, batch_max: usize, now_ms: u64) -> Self {
        let capacity = per_second.unwrap_or(0.0).max(batch_max as f64);
        Self { rate: per_second.map(|rate| rate / 1_000.0), capacity, level: capacity, filled_at_ms: now_ms }
    }

    /// Takes `parts` out.
    ///
    /// # Errors
    /// Milliseconds until there will be enough; nothing is taken then.
    pub(crate) fn take(&mut self, parts: usize, now_ms: u64) -> Result<(), u64> {
        let Some(rate) = self.rate else { return Ok(()) };
        let passed_ms = now_ms.saturating_sub(self.filled_at_ms) as f64;
        self.level = (self.level + passed_ms * rate).min(self.capacity);
        self.filled_at_ms = self.filled_at_ms.max(now_ms);
        let missing = parts as f64 - self.level;
        if missing > 0.0 {
            return Err((missing / rate).ceil() as u64);
        }
        self.level -= parts as f64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Bucket;

    #[test]
    fn a_full_bucket_lets_one_second_through_and_then_says_how_long_to_wait() {
        let mut bucket = Bucket::new(Some(10.0), 5, 1_000);
        assert_eq!(bucket.take(10, 1_000), Ok(()));
        assert_eq!(bucket.take(2, 1_000), Err(200));
        assert_eq!(bucket.take(2, 1_200), Ok(()));
    }

    #[test]
    fn a_bucket_slower_than_a_batch_still_holds_a_batch() {
        let mut bucket = Bucket::new(Some(1.0), 100, 0);
        assert_eq!(bucket.take(100, 0), Ok(()));
        assert_eq!(bucket.take(1, 0), Err(1_000));
    }

    #[test]
    fn no_rate_is_no_limit() {
        assert_eq!(Bucket::new(None, 1, 0).take(1_000_000, 0), Ok(()));
    }
}
