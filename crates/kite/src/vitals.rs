//! What the process needs of its machine: room on the disk, and a clock that is right. Checked every second, and
//! reported before it is too late.
//!
//! A full disk stops the log, and everything with it. So there is an early warning (`ready_free_bytes_warn`), and
//! below a minimum (`ready_free_bytes_min`) nothing new is accepted: what is left is for the results of work in
//! progress.
//!
//! A wrong clock lets messages expire too early or be sent at night. Nobody here knows the right time. What can be
//! reported is a clock that is behind the newest event of the log, one that was set while the process ran, and one
//! that contradicts most relays, whose answers contain their time.

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use kite_commands::directory::Directory;
use kite_commands::relay_desk::RelayDesk;
use kite_commands::{Clock, Step, Worker, WorkerError};
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// How often it looks.
const INTERVAL: TimeDelta = TimeDelta::seconds(1);
/// Clocks of machines that write one log may differ by this much.
const BEHIND_MAX: TimeDelta = TimeDelta::seconds(2);
/// A synchronised clock moves less than this between two checks.
const STEP_MAX: TimeDelta = TimeDelta::seconds(2);
/// Clocks of relays are not all synchronised, and answers take time: from this difference on they contradict the
/// clock.
const GAINSAID_FROM: TimeDelta = TimeDelta::seconds(10);
/// How long it is told that the clock was set.
const STEP_TOLD: Duration = Duration::from_secs(3_600);

/// What is asked of the machine.
pub(crate) trait Machine: Send {
    /// How much room there is where the data is stored, in bytes; none: unknown.
    fn free_bytes(&self) -> Option<u64>;

    /// A clock that nobody sets.
    fn uptime(&self) -> Duration;
}

/// The one that this runs on.
pub(crate) struct ThisMachine {
    data_dir: PathBuf,
    began: Instant,
}

impl ThisMachine {
    /// With the data here.
    #[expect(clippy::disallowed_methods, reason = "what the injected clock is held against")]
    pub(crate) fn new(data_dir: PathBuf) -> Self {
        Self { data_dir, began: Instant::now() }
    }
}

impl Machine for ThisMachine {
    fn free_bytes(&self) -> Option<u64> {
        let room = rustix::fs::statvfs(&self.data_dir).ok()?;
        Some(room.f_bavail.saturating_mul(room.f_frsize))
    }

    fn uptime(&self) -> Duration {
        self.began.elapsed()
    }
}

/// With less room than these a warning is given, and nothing new is accepted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Floors {
    /// Below this it is told, in bytes.
    pub(crate) warn_bytes: u64,
    /// Below this nothing new is taken, in bytes.
    pub(crate) refuse_bytes: u64,
}

/// How the disk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    Ample,
    Little,
    None,
}

/// What was seen last. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Vitals(Arc<Mutex<Seen>>, Arc<OnceLock<Arc<dyn RelayDesk>>>);

#[derive(Default)]
struct Seen {
    disk: Option<(Room, u64)>,
    least_bytes: u64,
    behind_log: Option<TimeDelta>,
    /// How far it is ahead of most relays, how many of them say so, and of how many.
    gainsaid: Option<Gainsaid>,
    /// By how much the clock was set, and when: by itself, and by a monotonic clock.
    step: Option<(TimeDelta, DateTime<Utc>, Duration)>,
}

/// Most relays say that the clock is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Gainsaid {
    /// By how much it is ahead of them, the least of what they say; below zero: behind.
    ahead: TimeDelta,
    by: usize,
    of: usize,
}

impl Gainsaid {
    /// Whether more than half of the relays that tell a time contradict the clock, in the same direction. If there is
    /// only one, it is believed: either it or the clock is wrong.
    fn by_most(ahead: &[TimeDelta]) -> Option<Self> {
        let of = ahead.len();
        let (behind, ahead): (Vec<_>, Vec<_>) = ahead
            .iter()
            .copied()
            .filter(|ahead| ahead.abs() > GAINSAID_FROM)
            .partition(|ahead| *ahead < TimeDelta::zero());
        let most = [ahead, behind].into_iter().find(|side| side.len() * 2 > of)?;
        let ahead = most.iter().copied().min_by_key(TimeDelta::abs)?;
        Some(Self { ahead, by: most.len(), of })
    }

    fn in_words(self) -> String {
        let Self { ahead, by, of } = self;
        let side = if ahead < TimeDelta::zero() { "behind" } else { "ahead of" };
        format!("{} s {side} the clocks of {by} of {of} relays", ahead.abs().num_seconds())
    }
}

impl Vitals {
    /// From now on the times that relays tell count, too.
    pub(crate) fn listen_to(&self, desk: Arc<dyn RelayDesk>) {
        let _ = self.1.set(desk);
    }

    fn gainsaid(&self) -> Option<Gainsaid> {
        Gainsaid::by_most(&self.1.get()?.clocks_ahead())
    }

    /// Why nothing new is taken in; none: it is.
    pub(crate) fn turns_away(&self) -> Option<String> {
        let seen = self.0.lock();
        match seen.disk {
            Some((Room::None, free_bytes)) => {
                Some(format!("{free_bytes} bytes are free, at least {} are needed", seen.least_bytes))
            }
            Some((Room::Ample | Room::Little, _)) | None => None,
        }
    }

    /// How much room there is, in words.
    pub(crate) fn disk(&self) -> String {
        match self.0.lock().disk {
            Some((Room::Ample, free_bytes)) => format!("there is room: {free_bytes} bytes are free"),
            Some((Room::Little | Room::None, free_bytes)) => {
                format!("there is little room: {free_bytes} bytes are free")
            }
            None => "the machine does not say how much room there is".to_owned(),
        }
    }

    /// What is known of the clock, in words.
    pub(crate) fn clock(&self) -> String {
        let seen = self.0.lock();
        let behind = seen.behind_log.map(|behind| {
            format!(
                "{} s behind the newest event of the log: it is wrong now, or was then",
                behind.num_seconds()
            )
        });
        let step = seen
            .step
            .map(|(step, at, _)| format!("was set by {} ms at {}", step.num_milliseconds(), at.to_rfc3339()));
        let gainsaid = seen.gainsaid.map(Gainsaid::in_words);
        let told: Vec<String> = behind.into_iter().chain(gainsaid).chain(step).collect();
        if told.is_empty() { "goes as it should, as far as is known".to_owned() } else { told.join("; ") }
    }
}

/// Looks after them.
pub(crate) struct VitalsWatch<M> {
    machine: M,
    vitals: Vitals,
    floors: Floors,
    clock: Arc<dyn Clock>,
    directory: Directory,
    /// The time of the newest event when the process began; none: there was none, or the clock has passed it.
    newest_event: Option<DateTime<Utc>>,
    last: Option<(DateTime<Utc>, Duration)>,
}

impl<M: Machine> VitalsWatch<M> {
    /// Checks this machine, and reports what it sees there.
    pub(crate) fn new(
        machine: M,
        vitals: Vitals,
        floors: Floors,
        clock: Arc<dyn Clock>,
        directory: Directory,
        newest_event: Option<DateTime<Utc>>,
    ) -> Self {
        vitals.0.lock().least_bytes = floors.refuse_bytes;
        Self { machine, vitals, floors, clock, directory, newest_event, last: None }
    }

    /// Looks once.
    pub(crate) fn look(&mut self) {
        self.look_at_disk();
        self.look_at_clock();
        let is_copy = !self.directory.snapshot().instance.may_hand_over();
        metrics::gauge!("kite_copy").set(if is_copy { 1.0 } else { 0.0 });
    }

    fn look_at_disk(&self) {
        // Without an answer nothing is known, and nothing said.
        let Some(free_bytes) = self.machine.free_bytes() else { return };
        metrics::gauge!("kite_disk_free_bytes").set(free_bytes as f64);
        let room = match free_bytes {
            few if few < self.floors.refuse_bytes => Room::None,
            few if few < self.floors.warn_bytes => Room::Little,
            _ => Room::Ample,
        };
        let before = self.vitals.0.lock().disk.replace((room, free_bytes)).map(|(room, _)| room);
        if before == Some(room) {
            return;
        }
        match room {
            Room::None => tracing::error!(free_bytes, "the disk is nearly full: no new sendings are taken"),
            Room::Little => tracing::warn!(free_bytes, "the disk is getting full"),
            Room::Ample if before.is_some() => tracing::info!(free_bytes, "there is room on the disk again"),
            Room::Ample => {}
        }
    }

    fn look_at_clock(&mut self) {
        let (now, uptime) = (self.clock.now(), self.machine.uptime());
        let behind = self.newest_event.map(|newest| newest - now).filter(|behind| *behind > BEHIND_MAX);
        if behind.is_none() {
            self.newest_event = None;
        }
        metrics::gauge!("kite_clock_behind_log_seconds")
            .set(behind.map_or(0.0, |behind| behind.num_milliseconds() as f64 / 1_000.0));
        let gainsaid = self.vitals.gainsaid();
        metrics::gauge!("kite_clock_ahead_of_relays_seconds")
            .set(gainsaid.map_or(0.0, |said| said.ahead.num_milliseconds() as f64 / 1_000.0));
        let mut seen = self.vitals.0.lock();
        if let (Some(said), None) = (gainsaid, seen.gainsaid) {
            tracing::error!("the clock is {}", said.in_words());
        }
        seen.gainsaid = gainsaid;
        if behind.is_some() && seen.behind_log.is_none() {
            tracing::error!(?behind, "the clock is behind the newest event of the log");
        }
        seen.behind_log = behind;
        if let Some((then, uptime_then)) = self.last.replace((now, uptime)) {
            let passed = TimeDelta::from_std(uptime.saturating_sub(uptime_then)).unwrap_or(TimeDelta::MAX);
            let step = (now - then).checked_sub(&passed).unwrap_or(TimeDelta::zero());
            if step.abs() > STEP_MAX {
                tracing::error!(
                    step_ms = step.num_milliseconds(),
                    "the clock was set while this process ran"
                );
                metrics::counter!("kite_clock_steps_total").increment(1);
                seen.step = Some((step, now, uptime));
            }
        }
        if seen.step.is_some_and(|(_, _, at)| uptime.saturating_sub(at) > STEP_TOLD) {
            seen.step = None;
        }
    }
}

#[async_trait]
impl<M: Machine> Worker for VitalsWatch<M> {
    fn name(&self) -> &str {
        "vitals"
    }

    async fn step(&mut self) -> Result<Step, WorkerError> {
        self.look();
        Ok(Step::Idle(Some(self.clock.now() + INTERVAL)))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use kite_commands::clock::ManualClock;
    use kite_commands::relay_desk::{CheckReport, RelayNow};
    use kite_domain::relay::RelayProfile;
    use kite_domain::slug::RelayId;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// A machine that says what it is told to.
    #[derive(Clone, Default)]
    pub(crate) struct SaidMachine {
        pub(crate) free_bytes: Arc<AtomicU64>,
        pub(crate) uptime_ms: Arc<AtomicU64>,
    }

    impl Machine for SaidMachine {
        fn free_bytes(&self) -> Option<u64> {
            Some(self.free_bytes.load(Ordering::SeqCst))
        }

        fn uptime(&self) -> Duration {
            Duration::from_millis(self.uptime_ms.load(Ordering::SeqCst))
        }
    }

    struct House {
        machine: SaidMachine,
        clock: Arc<ManualClock>,
        vitals: Vitals,
        watch: VitalsWatch<SaidMachine>,
    }

    impl House {
        fn new(newest_event: Option<DateTime<Utc>>) -> Self {
            let machine = SaidMachine::default();
            machine.free_bytes.store(1_000, Ordering::SeqCst);
            let clock = Arc::new(ManualClock::at(start()));
            let vitals = Vitals::default();
            let floors = Floors { warn_bytes: 500, refuse_bytes: 100 };
            let directory = Directory::default();
            let watch = VitalsWatch::new(
                machine.clone(),
                vitals.clone(),
                floors,
                clock.clone(),
                directory,
                newest_event,
            );
            Self { machine, clock, vitals, watch }
        }

        fn look_with(&mut self, free_bytes: u64) -> (bool, String) {
            self.machine.free_bytes.store(free_bytes, Ordering::SeqCst);
            self.watch.look();
            (self.vitals.turns_away().is_some(), self.vitals.disk())
        }

        /// A second passes, in which the clock is set by this much.
        fn second(&mut self, set_by: TimeDelta) -> String {
            self.machine.uptime_ms.fetch_add(1_000, Ordering::SeqCst);
            self.clock.advance(TimeDelta::seconds(1) + set_by);
            self.watch.look();
            self.vitals.clock()
        }
    }

    fn start() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    const WELL: &str = "goes as it should, as far as is known";

    #[test]
    fn a_disk_that_gets_full_is_told_before_it_is_and_nothing_new_is_taken_while_there_is_room_for_the_rest()
    {
        let mut house = House::new(None);
        assert_eq!(house.look_with(500), (false, "there is room: 500 bytes are free".to_owned()));
        assert_eq!(house.look_with(499), (false, "there is little room: 499 bytes are free".to_owned()));
        assert!(!house.look_with(100).0);
        assert!(house.look_with(99).0);
        assert_eq!(house.vitals.turns_away().unwrap(), "99 bytes are free, at least 100 are needed");
        assert!(!house.look_with(1_000).0, "there is room again");
    }

    #[test]
    fn a_clock_that_is_set_while_the_process_runs_is_told_for_an_hour() {
        let mut house = House::new(None);
        house.watch.look();
        for steered in [0, 900, -900] {
            assert_eq!(house.second(TimeDelta::milliseconds(steered)), WELL);
        }
        let told = house.second(TimeDelta::minutes(-5));
        assert!(told.starts_with("was set by -300000 ms at 2027-01-15T07:55"), "{told}");
        for _ in 0..3_600 {
            assert_ne!(house.second(TimeDelta::zero()), WELL);
        }
        assert_eq!(house.second(TimeDelta::zero()), WELL);
        assert!(house.second(TimeDelta::hours(7)).starts_with("was set by 25200000 ms"));
    }

    /// Relays that say a time.
    #[derive(Default)]
    struct SaidDesk(Mutex<Vec<i64>>);

    #[async_trait]
    impl RelayDesk for SaidDesk {
        fn now(&self, _relay: &RelayId) -> Option<RelayNow> {
            None
        }

        fn clocks_ahead(&self) -> Vec<TimeDelta> {
            self.0.lock().iter().copied().map(TimeDelta::seconds).collect()
        }

        async fn check(&self, _profile: &RelayProfile) -> CheckReport {
            CheckReport::default()
        }
    }

    #[test]
    fn a_clock_that_most_relays_gainsay_is_told() {
        let mut house = House::new(None);
        let desk = Arc::new(SaidDesk::default());
        house.vitals.listen_to(desk.clone());
        let mut told = |ahead: &[i64]| {
            ahead.clone_into(&mut desk.0.lock());
            house.watch.look();
            house.vitals.clock()
        };
        for well in [&[][..], &[0], &[10, -10], &[3_600, 0], &[3_600, -3_600], &[86_400, 1, -2]] {
            assert_eq!(told(well), WELL, "{well:?}");
        }
        assert_eq!(told(&[3_600]), "3600 s ahead of the clocks of 1 of 1 relays");
        assert_eq!(told(&[32_400, 32_399, 0]), "32399 s ahead of the clocks of 2 of 3 relays");
        assert_eq!(told(&[-61, 0, -70]), "61 s behind the clocks of 2 of 3 relays");
        assert_eq!(told(&[0]), WELL);
    }

    #[test]
    fn a_clock_behind_the_log_is_told_until_it_has_passed_it() {
        let mut house = House::new(Some(start() + TimeDelta::seconds(10)));
        house.watch.look();
        let told = house.vitals.clock();
        assert!(told.starts_with("10 s behind the newest event of the log"), "{told}");
        for _ in 0..7 {
            assert_ne!(house.second(TimeDelta::zero()), WELL);
        }
        assert_eq!(house.second(TimeDelta::zero()), WELL);
    }
}
