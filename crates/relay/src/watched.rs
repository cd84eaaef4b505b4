//! A worker that panics is restarted, after growing pauses, and stops nobody else.
//!
//! Whatever it had in memory is gone; the messages that it worked on are looked at again, as after the death of a
//! process.

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use futures::FutureExt;
use kite_commands::{Clock, Step, Worker, WorkerError};
use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use crate::attendance::Attendance;
use crate::metrics;

/// The first pause before a worker is restarted; it doubles with each panic, up to a maximum.
const PAUSE_FIRST: TimeDelta = TimeDelta::seconds(1);
const PAUSE_MAX: TimeDelta = TimeDelta::minutes(5);
/// After so long without a panic the next one counts as the first.
const CALM: TimeDelta = TimeDelta::minutes(10);

/// Told the words of each panic.
pub type PanicNotice = Arc<dyn Fn(&str) + Send + Sync>;

/// See the module.
pub(crate) struct Watched {
    name: String,
    make: Box<dyn Fn() -> Box<dyn Worker> + Send + Sync>,
    worker: Option<Box<dyn Worker>>,
    place: Option<Place>,
    clock: Arc<dyn Clock>,
    notice: PanicNotice,
    panics: u32,
    panicked_at: Option<DateTime<Utc>>,
}

/// A place at a relay that others rely on.
pub(crate) struct Place {
    pub(crate) attendance: Arc<Attendance>,
    pub(crate) seat: usize,
    /// Whether it is known that the worker is there.
    pub(crate) is_noted: bool,
}

impl Watched {
    /// Watches what `make` makes.
    pub(crate) fn new(
        make: impl Fn() -> Box<dyn Worker> + Send + Sync + 'static,
        place: Option<(Arc<Attendance>, usize)>,
        clock: Arc<dyn Clock>,
        notice: PanicNotice,
    ) -> Self {
        let worker = make();
        let place = place.map(|(attendance, seat)| Place { attendance, seat, is_noted: false });
        Self {
            name: worker.name().to_owned(),
            make: Box::new(make),
            worker: Some(worker),
            place,
            clock,
            notice,
            panics: 0,
            panicked_at: None,
        }
    }

    /// When the worker is back.
    fn back_at(&self) -> Option<DateTime<Utc>> {
        let doublings = self.panics.saturating_sub(1).min(16);
        Some(self.panicked_at? + (PAUSE_FIRST * (1 << doublings)).min(PAUSE_MAX))
    }

    fn panicked(&mut self, panic: &(dyn Any + Send)) -> Step {
        let words = panic.downcast_ref::<String>().map(String::as_str);
        let words = words.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no words");
        let now = self.clock.now();
        let is_first = self.panicked_at.is_none_or(|last| now - last >= CALM);
        self.panics = if is_first { 1 } else { self.panics.saturating_add(1) };
        self.panicked_at = Some(now);
        let back_at = self.back_at();
        tracing::error!(worker = self.name, words, ?back_at, "a worker panicked");
        metrics::panicked(&self.name);
        (self.notice)(words);
        if let Some(place) = &mut self.place {
            place.is_noted = false;
            place.attendance.left(place.seat, &format!("{} panicked: {words}", self.name), now);
        }
        Step::Idle(back_at)
    }
}

#[async_trait]
impl Worker for Watched {
    fn name(&self) -> &str {
        &self.name
    }

    async fn step(&mut self) -> Result<Step, WorkerError> {
        if self.worker.is_none() {
            if let Some(back_at) = self.back_at().filter(|back_at| *back_at > self.clock.now()) {
                return Ok(Step::Idle(Some(back_at)));
            }
            self.worker = Some((self.make)());
        }
        let Some(worker) = &mut self.worker else { return Ok(Step::Worked) };
        let stepped = AssertUnwindSafe(worker.step()).catch_unwind().await;
        match stepped {
            Ok(stepped) => {
                if let Some(place) = self.place.as_mut().filter(|place| !place.is_noted) {
                    place.is_noted = true;
                    place.attendance.works(place.seat, self.clock.now());
                }
                stepped
            }
            Err(panic) => {
                self.worker = None;
                Ok(self.panicked(&*panic))
            }
        }
    }

    async fn retire(&mut self) {
        if let Some(worker) = &mut self.worker {
            worker.retire().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kite_commands::clock::ManualClock;
    use kite_domain::slug::RelayId;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// Panics in its first step, as long as there are panics left.
    struct Nervous(Arc<AtomicU32>);

    #[async_trait]
    impl Worker for Nervous {
        fn name(&self) -> &str {
            "nervous"
        }

        async fn step(&mut self) -> Result<Step, WorkerError> {
            let left = self.0.load(Ordering::Relaxed);
            assert!(left == 0, "{} more panics", self.0.fetch_sub(1, Ordering::Relaxed));
            Ok(Step::Worked)
        }
    }

    #[tokio::test]
    async fn a_worker_that_panics_is_back_later_and_later() {
        let clock = Arc::new(ManualClock::at(DateTime::UNIX_EPOCH));
        let attendance = Arc::new(Attendance::of_workers(RelayId::from_trusted("alpha"), 1));
        let panics = Arc::new(AtomicU32::new(4));
        let (left, told) = (panics.clone(), Arc::new(AtomicU32::new(0)));
        let tell = told.clone();
        let notice: PanicNotice = Arc::new(move |_| {
            tell.fetch_add(1, Ordering::Relaxed);
        });
        let place = Some((attendance.clone(), 0));
        let make = move || Box::new(Nervous(left.clone())) as Box<dyn Worker>;
        let mut watched = Watched::new(make, place, clock.clone(), notice);
        for pause_s in [1, 2, 4, 8] {
            let back_at = clock.now() + TimeDelta::seconds(pause_s);
            assert_eq!(watched.step().await.unwrap(), Step::Idle(Some(back_at)));
            assert_eq!(watched.step().await.unwrap(), Step::Idle(Some(back_at)), "not before");
            assert_eq!(attendance.workers(), 0);
            clock.set(back_at);
        }
        assert_eq!(watched.step().await.unwrap(), Step::Worked);
        assert_eq!((attendance.workers(), told.load(Ordering::Relaxed)), (1, 4));
        clock.advance(CALM);
        panics.store(1, Ordering::Relaxed);
        let back_at = clock.now() + PAUSE_FIRST;
        assert_eq!(watched.step().await.unwrap(), Step::Idle(Some(back_at)), "as the first time");
    }
}
