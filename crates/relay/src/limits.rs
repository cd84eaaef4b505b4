//! How fast a relay may be called: its rate in message parts per second, a part of it reserved for one-time
//! passwords, a lower rate while the relay says "too many", and pauses that it asked for.
//!
//! If several processes call a relay, each has the part of all this that its shares are worth.
//!
//! Nothing here waits: a caller that may not go is told when to try again. The burst is a quarter of a second's
//! worth, so that a relay which counts by the second is not exceeded by a burst and the refill after it.

use chrono::{DateTime, Utc};
use governor::clock::Clock as _;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use kite_commands::Clock;
use kite_commands::governed::{GovernedClock, Moment};
use kite_domain::mutation;
use kite_domain::sending::MessageClass;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use crate::patience::Patience;
use crate::shares::{Portion, Shares};
use crate::slowdown::Slowdown;

/// How long to wait before it is tried again without any share.
const NO_SHARE_PAUSE: Duration = Duration::from_secs(1);

struct Bucket {
    limiter: RateLimiter<NotKeyed, InMemoryState, GovernedClock, NoOpMiddleware<Moment>>,
    burst: NonZeroU32,
    period: Duration,
}

impl Bucket {
    /// `rate` in thousandths of a part a second.
    fn new(rate_milliparts: u64, clock: &GovernedClock) -> Self {
        let rate = rate_milliparts.max(1);
        let period = Duration::from_nanos((1_000_000_000_000 / rate).max(1));
        let burst = u32::try_from(rate / 4_000).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::with_period(period).expect("a period is at least a nanosecond").allow_burst(burst);
        Self { limiter: RateLimiter::direct_with_clock(quota, clock.clone()), burst, period }
    }

    /// A message with more parts than the burst is charged one burst. Returns how long to pause afterwards, because a
    /// slowed down relay, or a portion of one, is charged more than the bucket can hold.
    fn charge(
        &self,
        parts: u32,
        portion: Portion,
        slowdown: &Slowdown,
        now: DateTime<Utc>,
    ) -> Result<Duration, Duration> {
        let charge = portion.charge_for(slowdown.charge_for(parts.min(self.burst.get()), now));
        let parts = NonZeroU32::new(charge.min(self.burst.get())).unwrap_or(NonZeroU32::MIN);
        match self.limiter.check_n(parts) {
            // By the end of the rest the bucket is full again, so all of the charge is waited for.
            Ok(Ok(())) | Err(_) if charge > self.burst.get() => Ok(self.period.saturating_mul(charge)),
            Ok(Ok(())) | Err(_) => Ok(Duration::ZERO),
            Ok(Err(not_until)) => Err(not_until.wait_time_from(self.limiter.clock().now())),
        }
    }

    /// Takes out whatever is in it.
    fn empty(&self) {
        let mut parts = self.burst.get();
        while let Some(some) = NonZeroU32::new(parts) {
            while matches!(self.limiter.check_n(some), Ok(Ok(()))) {}
            parts /= 2;
        }
    }
}

/// The pace of one relay, shared by its workers.
pub struct Pace {
    all: Option<Bucket>,
    ordinary: Option<Bucket>,
    slowdown: Slowdown,
    patience: Patience,
    /// How much of the relay this process has; none: all of it.
    shares: Option<Arc<Shares>>,
    /// Shares that others have had before, as far as the buckets know.
    taken_over: AtomicU64,
    paused_until_ms: AtomicI64,
    /// When the next try may succeed: for one-time passwords, for all else.
    closed_until_ms: [AtomicI64; 2],
}

impl Pace {
    /// At most `parts_per_second`, of which messages other than one-time passwords may use `ordinary_per_cent`.
    pub fn new(parts_per_second: Option<u32>, ordinary_per_cent: u8, clock: Arc<dyn Clock>) -> Self {
        let clock = GovernedClock(clock);
        let bucket = |per_cent: u8| {
            let milliparts = |parts: u32| u64::from(parts) * 10 * u64::from(per_cent.clamp(1, 100));
            parts_per_second.map(|parts| Bucket::new(milliparts(parts), &clock))
        };
        Self {
            all: bucket(100),
            ordinary: bucket(ordinary_per_cent),
            slowdown: Slowdown::default(),
            patience: Patience::default(),
            shares: None,
            taken_over: AtomicU64::new(0),
            paused_until_ms: AtomicI64::new(0),
            closed_until_ms: Default::default(),
        }
    }

    /// For a process with these shares of the relay. Shares that were taken over before are not charged for.
    #[must_use]
    pub(crate) fn sharing(self, shares: Arc<Shares>) -> Self {
        Self { taken_over: AtomicU64::new(shares.taken_over()), shares: Some(shares), ..self }
    }

    /// The pace for one call, however many lots are in it.
    ///
    /// A share that another process has had brings its rate from now on, but no burst, because that process may just
    /// have used it.
    pub fn turn(&self, now: DateTime<Utc>) -> Turn<'_> {
        let Some(shares) = &self.shares else { return Turn { pace: self, portion: Portion::WHOLE, now } };
        let (portion, taken_over) = shares.standing(now);
        if self.taken_over.swap(taken_over, Ordering::Relaxed) != taken_over {
            self.all.iter().chain(&self.ordinary).for_each(Bucket::empty);
        }
        mutation::bug!(RateTimesNodes if portion.held > 0, let portion = Portion::WHOLE);
        Turn { pace: self, portion, now }
    }

    /// For the present turn: how many parts of this class go at once.
    pub fn parts_max(&self, class: MessageClass, now: DateTime<Utc>) -> u32 {
        self.turn(now).parts_max(class)
    }

    /// Takes parts from the present turn; the error says when it is worth trying again.
    pub fn charge(&self, class: MessageClass, parts: u32, now: DateTime<Utc>) -> Result<(), DateTime<Utc>> {
        self.turn(now).charge(class, parts)
    }

    /// When it is worth trying again, if not now.
    pub fn closed_until(&self, class: MessageClass, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let paused = self.paused_until_ms.load(Ordering::Relaxed);
        let closed = self.closed_until_ms[place(class)].load(Ordering::Relaxed);
        let until_ms = paused.max(closed);
        (until_ms > now.timestamp_millis()).then(|| DateTime::from_timestamp_millis(until_ms)).flatten()
    }

    /// Nothing more of this class for so long. Returns until when.
    fn close(&self, class: MessageClass, wait: Duration, now: DateTime<Utc>) -> DateTime<Utc> {
        // Rounded up, so that the next try does not come a fraction too early.
        let wait_ms = i64::try_from(wait.as_millis()).unwrap_or(60_000).saturating_add(1);
        let until_ms = now.timestamp_millis().saturating_add(wait_ms);
        self.closed_until_ms[place(class)].fetch_max(until_ms, Ordering::Relaxed);
        DateTime::from_timestamp_millis(until_ms).unwrap_or(now)
    }

    /// The relay said "too many", and wants no calls until then. From then on it is called more slowly than agreed,
    /// and gradually as fast again without such an answer. If no rate is agreed, it only gets the pause; a longer one
    /// than it asks for once it has said so call after call.
    pub fn slow_down(&self, now: DateTime<Utc>, until: DateTime<Utc>) {
        self.pause_until(self.patience.refused(now, until));
        if self.all.is_some() {
            self.slowdown.cut(now, until);
        }
    }

    /// The relay decided on a message.
    pub fn took(&self) {
        self.patience.took();
    }

    /// The share of the agreed rate at which it is called, if it has changed since this was last asked.
    pub fn share_if_changed(&self, now: DateTime<Utc>) -> Option<f64> {
        self.slowdown.news(now)
    }

    /// The relay wants to be left alone until then.
    pub fn pause_until(&self, until: DateTime<Utc>) {
        self.paused_until_ms.fetch_max(until.timestamp_millis(), Ordering::Relaxed);
    }

    fn bucket(&self, class: MessageClass) -> Option<&Bucket> {
        match class {
            MessageClass::Otp => self.all.as_ref(),
            MessageClass::Notice | MessageClass::Ad => self.ordinary.as_ref(),
        }
    }
}

/// See [`Pace::turn`].
pub struct Turn<'p> {
    pace: &'p Pace,
    portion: Portion,
    now: DateTime<Utc>,
}

impl Turn<'_> {
    /// The most parts that one call of this class may have.
    pub fn parts_max(&self, class: MessageClass) -> u32 {
        let of_burst = |bucket: &Bucket| self.portion.part_of(bucket.burst.get()).max(1);
        let bucket = self.pace.bucket(class);
        bucket.map_or(u32::MAX, |bucket| self.pace.slowdown.part_of(of_burst(bucket), self.now))
    }

    /// Reserves this many parts for one call, or says when to try again. More parts than [`Turn::parts_max`] are
    /// charged as that.
    pub fn charge(&self, class: MessageClass, parts: u32) -> Result<(), DateTime<Utc>> {
        let Self { pace, portion, now } = *self;
        if let Some(until) = pace.closed_until(class, now) {
            return Err(until);
        }
        if portion.held == 0 {
            return Err(pace.close(class, NO_SHARE_PAUSE, now));
        }
        let ordinary = pace.ordinary.as_ref().filter(|_| class != MessageClass::Otp);
        let mut rest = Duration::ZERO;
        for bucket in ordinary.into_iter().chain(&pace.all) {
            match bucket.charge(parts, portion, &pace.slowdown, now) {
                Ok(of_bucket) => rest = rest.max(of_bucket),
                Err(wait) => return Err(pace.close(class, wait, now)),
            }
        }
        if !rest.is_zero() {
            pace.close(class, rest, now);
        }
        Ok(())
    }
}

fn place(class: MessageClass) -> usize {
    match class {
        MessageClass::Otp => 0,
        MessageClass::Notice | MessageClass::Ad => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;
    use kite_commands::clock::ManualClock;

    fn start() -> DateTime<Utc> {
        DateTime::from_timestamp_millis(1_750_000_000_000).unwrap()
    }

    /// Parts that go out within `seconds`, trying as soon as it is said to be worth it.
    fn sent(pace: &Pace, clock: &ManualClock, class: MessageClass, parts: u32, seconds: i64) -> u32 {
        let end = clock.now() + TimeDelta::seconds(seconds);
        let mut sent = 0;
        while clock.now() < end {
            match pace.charge(class, parts, clock.now()) {
                Ok(()) => sent += parts,
                Err(until) => {
                    assert!(until > clock.now(), "a refusal names a later time");
                    clock.set(until.min(end));
                }
            }
        }
        sent
    }

    #[test]
    fn the_rate_is_kept_in_parts() {
        let clock = Arc::new(ManualClock::at(start()));
        let pace = Pace::new(Some(1_000), 100, clock.clone());
        let sent = sent(&pace, &clock, MessageClass::Notice, 50, 10);
        assert!((9_500..=10_250).contains(&sent), "{sent}");
    }

    #[test]
    fn a_part_of_the_rate_is_left_for_one_time_passwords() {
        let clock = Arc::new(ManualClock::at(start()));
        let pace = Pace::new(Some(1_000), 80, clock.clone());
        let ads = sent(&pace, &clock, MessageClass::Ad, 40, 10);
        assert!((7_600..=8_200).contains(&ads), "{ads}");
        for _ in 0..100 {
            while pace.charge(MessageClass::Ad, 40, clock.now()).is_ok() {}
            assert_eq!(pace.charge(MessageClass::Otp, 1, clock.now()), Ok(()), "right behind a campaign");
            clock.advance(TimeDelta::milliseconds(50));
        }
    }

    #[test]
    fn a_pause_holds_for_every_class() {
        let clock = Arc::new(ManualClock::at(start()));
        let pace = Pace::new(None, 85, clock.clone());
        let until = start() + TimeDelta::seconds(3);
        pace.pause_until(until);
        assert_eq!(pace.charge(MessageClass::Otp, 1, clock.now()), Err(until));
        clock.set(until);
        assert_eq!(pace.charge(MessageClass::Otp, 1, clock.now()), Ok(()));
    }

    #[test]
    fn a_message_larger_than_the_burst_still_goes_out() {
        let clock = Arc::new(ManualClock::at(start()));
        let pace = Pace::new(Some(1), 85, clock.clone());
        assert_eq!(pace.parts_max(MessageClass::Notice, clock.now()), 1);
        assert_eq!(pace.charge(MessageClass::Notice, 7, clock.now()), Ok(()));
    }
    #[test]
    fn a_relay_that_says_too_many_is_called_more_slowly_however_low_its_rate() {
        for agreed in [1_000, 2] {
            let clock = Arc::new(ManualClock::at(start()));
            let pace = Pace::new(Some(agreed), 100, clock.clone());
            for _ in 0..4 {
                pace.slow_down(clock.now(), clock.now());
                clock.advance(TimeDelta::seconds(1));
            }
            // Four cuts leave 24 %, plus 2 % a second: 34 % on average over the ten seconds.
            let parts = pace.parts_max(MessageClass::Notice, clock.now());
            let sent = sent(&pace, &clock, MessageClass::Notice, parts, 10);
            let per_cent = sent * 100 / (agreed * 10);
            assert!((28..=42).contains(&per_cent), "{per_cent} % of {agreed} a second");
        }
    }

    /// A relay that takes less than was agreed: how many calls it refuses in a minute, and how many parts it takes.
    fn minute_with(
        limit: u32,
        agreed: u32,
        heed: impl Fn(&Pace, DateTime<Utc>, DateTime<Utc>),
    ) -> (u32, u32) {
        let clock = Arc::new(ManualClock::at(start()));
        let pace = Pace::new(Some(agreed), 100, clock.clone());
        let (mut refused, mut taken, mut second, mut in_second) = (0, 0, start(), 0);
        while clock.now() < start() + TimeDelta::seconds(60) {
            let now = clock.now();
            let parts = pace.parts_max(MessageClass::Notice, now).min(20);
            if let Err(until) = pace.charge(MessageClass::Notice, parts, now) {
                clock.set(until);
                continue;
            }
            if now >= second + TimeDelta::seconds(1) {
                (second, in_second) = (now, 0);
            }
            if in_second + parts <= limit {
                in_second += parts;
                taken += parts;
                continue;
            }
            refused += 1;
            heed(&pace, now, now + TimeDelta::seconds(1));
        }
        (refused, taken)
    }

    #[test]
    fn a_rate_that_the_relay_does_not_keep_is_found_out() {
        let (refused, taken) = minute_with(400, 1_000, Pace::slow_down);
        let (refused_by_pauses_alone, _) = minute_with(400, 1_000, |pace, _, until| pace.pause_until(until));
        assert!(refused * 3 < refused_by_pauses_alone, "{refused}, {refused_by_pauses_alone}");
        assert!(taken > 400 * 60 * 6 / 10, "{taken}");
    }
}
