//! Whether something grows: a straight line through the measured values.

use serde::Serialize;

/// Messages after which all caches of a fixed size are full: the read model of deliveries keeps 100,000 messages, and the
/// page caches of its writer and of the log's hold 70,000 messages' worth of pages each.
pub(super) const WARM_UP_MESSAGES: u64 = 180_000;
/// How long memory has to be looked at after that.
pub(super) const LOOK_SECONDS_MIN: f64 = 600.0;
/// Growth up to this share of the mean over the time that was looked at is not told from noise.
const GROWTH_SHARE_MAX: f64 = 0.10;
/// Nor is this much: allocators and page caches breathe. Bytes.
const GROWTH_BYTES_MAX: f64 = 24e6;
/// Growth for each message of that time, in bytes. A message that is never forgotten takes 144 and more.
const GROWTH_PER_MESSAGE_MAX: f64 = 32.0;
/// Bytes of a message of the second half compared with the first.
const BYTES_RATIO_MAX: f64 = 1.10;
/// Messages of a half from which on that can be told: a read model may have its last 16 MB in its write-ahead log still.
const HALF_MESSAGES_MIN: u64 = 300_000;

/// A look at the memory of a process.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    pub(super) seconds: f64,
    /// Messages that got a 202 by then.
    pub(super) messages: u64,
    /// Of the process alone, without pages of files.
    pub(super) bytes: f64,
}

/// Memory, looked at again and again once caches are full.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Memory {
    /// Mean, in millions of bytes.
    pub(super) mean_mb: f64,
    /// Slope of the straight line, in millions of bytes an hour.
    pub(super) growth_mb_per_hour: f64,
    /// Growth along that line over the time that was looked at.
    pub(super) growth_mb: f64,
    /// The same for each message of that time.
    pub(super) growth_bytes_per_message: f64,
    /// The time that was looked at.
    pub(super) minutes: f64,
    /// Looks.
    pub(super) samples: usize,
    /// Whether that is no more than noise.
    pub(super) is_flat: bool,
}

impl Memory {
    /// Of all looks at a process from its start on, whose caches are full after so many messages. `None`: too short to tell.
    pub(super) fn of(looks: &[Look], warm_up_messages: u64) -> Option<Self> {
        let first = looks.first()?;
        let warm = looks.iter().position(|look| look.messages - first.messages >= warm_up_messages)?;
        let looks = &looks[warm..];
        let (first, last) = (looks.first()?, looks.last()?);
        let seconds = last.seconds - first.seconds;
        if seconds < LOOK_SECONDS_MIN {
            return None;
        }
        let count = looks.len() as f64;
        let mean = |of: &dyn Fn(&Look) -> f64| looks.iter().map(of).sum::<f64>() / count;
        let (at, bytes) = (mean(&|look| look.seconds), mean(&|look| look.bytes));
        let together: f64 = looks.iter().map(|look| (look.seconds - at) * (look.bytes - bytes)).sum();
        let spread: f64 = looks.iter().map(|look| (look.seconds - at).powi(2)).sum();
        let slope = together / spread;
        let growth = slope * seconds;
        let per_message = growth / (last.messages - first.messages).max(1) as f64;
        Some(Self {
            mean_mb: tenths(bytes / 1e6),
            growth_mb_per_hour: tenths(slope * 3_600.0 / 1e6),
            growth_mb: tenths(growth / 1e6),
            growth_bytes_per_message: tenths(per_message),
            minutes: tenths(seconds / 60.0),
            samples: looks.len(),
            is_flat: growth <= GROWTH_BYTES_MAX.max(bytes * GROWTH_SHARE_MAX)
                && per_message <= GROWTH_PER_MESSAGE_MAX,
        })
    }
}

/// Bytes on disk for each message, of a closed data directory without write-ahead logs. At each of the three moments every
/// message is final, so that none has its bytes in another half.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Disk {
    /// Of the messages of the first half.
    pub(super) bytes_per_message_first_half: f64,
    /// Of those of the second.
    pub(super) bytes_per_message_second_half: f64,
    /// Whether the second cost no more than the first; none: too few messages to tell.
    pub(super) is_flat: Option<bool>,
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
            is_flat: (messages_2 - messages_1 >= HALF_MESSAGES_MIN && messages_1 >= HALF_MESSAGES_MIN)
                .then_some(second <= first * BYTES_RATIO_MAX),
        }
    }
}

fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fifteen minutes at so many messages a second, growing by so much after caches are full.
    fn life(messages_per_second: u64, mb_per_hour: f64) -> Vec<Look> {
        let noise = |look: u64| (look % 3) as f64 * 1e6;
        let look = |number: u64| {
            let seconds = number * 5;
            let messages = seconds * messages_per_second;
            let warmth = (messages.min(WARM_UP_MESSAGES)) as f64 * 1_000.0;
            let bytes = 100e6 + warmth + mb_per_hour * 1e6 / 3_600.0 * seconds as f64 + noise(number);
            Look { seconds: seconds as f64, messages, bytes }
        };
        (0..=180).map(look).collect()
    }

    fn of(looks: &[Look]) -> Option<Memory> {
        Memory::of(looks, WARM_UP_MESSAGES)
    }

    #[test]
    fn a_leak_is_told_from_breathing_and_from_warming_up() {
        let breathing = of(&life(1_000, 0.0)).unwrap();
        assert!(breathing.is_flat && breathing.growth_mb.abs() < 1.0, "{breathing:?}");
        assert_eq!((breathing.minutes, breathing.samples), (12.0, 145));
        let leaking = of(&life(1_000, 130.0)).unwrap();
        assert!(!leaking.is_flat && leaking.growth_mb < 30.0, "{leaking:?}");
        assert!((leaking.growth_mb_per_hour - 130.0).abs() < 2.0, "{leaking:?}");
        assert!((leaking.growth_bytes_per_message - 36.1).abs() < 1.0, "{leaking:?}");
        assert!(!of(&life(1_000, 200.0)).unwrap().is_flat);
    }

    #[test]
    fn what_is_too_short_is_not_told() {
        assert!(of(&[]).is_none());
        assert!(of(&life(1_000, 0.0)[..150]).is_none());
        // Full after six minutes: nine are left.
        assert!(of(&life(500, 0.0)).is_none());
    }

    #[test]
    fn messages_that_cost_more_and_more_are_found() {
        let of = |second: u64, messages: u64| {
            Disk::of([
                (50_000, 0),
                (50_000 + messages * 400, messages),
                (50_000 + messages * (400 + second), 2 * messages),
            ])
        };
        assert_eq!(of(430, 300_000).is_flat, Some(true));
        let growing = of(450, 300_000);
        assert_eq!((growing.is_flat, growing.bytes_per_message_second_half), (Some(false), 450.0));
        assert_eq!(of(450, 299_999).is_flat, None);
    }
}
