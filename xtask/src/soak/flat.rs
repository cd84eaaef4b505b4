//! Whether something grows: a straight line through what was seen.

use serde::Serialize;

/// Growth up to this share of the mean over the time that was looked at is not told from noise.
const GROWTH_SHARE_MAX: f64 = 0.10;
/// Nor is this much: allocators and page caches breathe. Bytes.
const GROWTH_BYTES_MAX: f64 = 24e6;
/// Bytes a message of the second half against those of the first.
const BYTES_RATIO_MAX: f64 = 1.10;

/// Memory, looked at again and again.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Memory {
    /// Mean, in millions of bytes.
    pub(super) mean_mb: f64,
    /// Slope of the straight line, in millions of bytes an hour.
    pub(super) growth_mb_per_hour: f64,
    /// Growth along that line over the time that was looked at.
    pub(super) growth_mb: f64,
    /// Looks.
    pub(super) samples: usize,
    /// Whether that is no more than noise.
    pub(super) is_flat: bool,
}

impl Memory {
    /// Of looks: seconds and bytes. `None`: too few to tell.
    pub(super) fn of(samples: &[(f64, f64)]) -> Option<Self> {
        if samples.len() < 5 {
            return None;
        }
        let count = samples.len() as f64;
        let mean = |of: &dyn Fn(&(f64, f64)) -> f64| samples.iter().map(of).sum::<f64>() / count;
        let (at, bytes) = (mean(&|sample| sample.0), mean(&|sample| sample.1));
        let together: f64 = samples.iter().map(|sample| (sample.0 - at) * (sample.1 - bytes)).sum();
        let spread: f64 = samples.iter().map(|sample| (sample.0 - at).powi(2)).sum();
        let slope = if spread > 0.0 { together / spread } else { 0.0 };
        let growth = slope * (samples[samples.len() - 1].0 - samples[0].0);
        Some(Self {
            mean_mb: tenths(bytes / 1e6),
            growth_mb_per_hour: tenths(slope * 3_600.0 / 1e6),
            growth_mb: tenths(growth / 1e6),
            samples: samples.len(),
            is_flat: growth <= GROWTH_BYTES_MAX.max(bytes * GROWTH_SHARE_MAX),
        })
    }
}

/// Bytes on disk for each message, of a closed data directory: no write-ahead log hides or adds any.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Disk {
    /// Of the messages of the first half.
    pub(super) bytes_per_message_first_half: f64,
    /// Of those of the second.
    pub(super) bytes_per_message_second_half: f64,
    /// Whether the second cost no more than the first.
    pub(super) is_flat: bool,
}

impl Disk {
    /// Of bytes and messages at the beginning, half-way and in the end.
    pub(super) fn of(
        [(bytes_0, messages_0), (bytes_1, messages_1), (bytes_2, messages_2)]: [(u64, u64); 3],
    ) -> Self {
        let each = |bytes: u64, messages: u64| bytes as f64 / messages.max(1) as f64;
        let first = each(bytes_1.saturating_sub(bytes_0), messages_1.saturating_sub(messages_0));
        let second = each(bytes_2.saturating_sub(bytes_1), messages_2.saturating_sub(messages_1));
        Self {
            bytes_per_message_first_half: first.round(),
            bytes_per_message_second_half: second.round(),
            is_flat: second <= first * BYTES_RATIO_MAX,
        }
    }
}

fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(from_mb: f64, mb_per_hour: f64) -> Vec<(f64, f64)> {
        let at = |look: i32| f64::from(look) * 10.0;
        let noise = |look: i32| f64::from(look % 3 - 1) * 1e6;
        (0..180)
            .map(|look| (at(look), from_mb * 1e6 + mb_per_hour * 1e6 / 3_600.0 * at(look) + noise(look)))
            .collect()
    }

    #[test]
    fn a_leak_is_told_from_breathing() {
        let breathing = Memory::of(&line(200.0, 0.0)).unwrap();
        assert!(breathing.is_flat && breathing.growth_mb.abs() < 1.0, "{breathing:?}");
        let leaking = Memory::of(&line(200.0, 120.0)).unwrap();
        assert!(!leaking.is_flat, "{leaking:?}");
        assert!((leaking.growth_mb_per_hour - 120.0).abs() < 2.0, "{leaking:?}");
        assert!(Memory::of(&line(200.0, 0.0)[..4]).is_none());
    }

    #[test]
    fn messages_that_cost_more_and_more_are_found() {
        assert!(Disk::of([(50_000, 0), (1_050_000, 1_000), (2_060_000, 2_000)]).is_flat);
        let growing = Disk::of([(0, 0), (1_000_000, 1_000), (2_200_000, 2_000)]);
        assert_eq!((growing.is_flat, growing.bytes_per_message_second_half), (false, 1_200.0));
    }
}
