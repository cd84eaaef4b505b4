//! The loop over a worker's `step()`, the only one in Kite.

use chrono::{DateTime, Utc};
use futures::future::{Either, select};
use kite_commands::{Step, Worker, WorkerError, describe};
use std::future::Future;
use std::pin::pin;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::host::{Host, Place};

/// Even an idle worker looks again after this long: a wake-up only shortens the wait.
const IDLE_MAX: Duration = Duration::from_secs(1);
/// The shortest pause: a step that is idle until a past moment must not spin.
const IDLE_MIN: Duration = Duration::from_millis(1);
/// The first pause after a failed step; it doubles up to [`RETRY_MAX`].
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// A worker, and when it works.
pub struct Duty {
    /// The worker.
    pub worker: Box<dyn Worker>,
    /// Moves when it should look again.
    pub wake: watch::Receiver<u64>,
    /// Becomes true when it must not be stepped any more; none: it stays.
    pub dismissed: Option<watch::Receiver<bool>>,
    /// Where it works.
    pub place: Place,
}

/// Starts the loop over a worker's step in the place where it works.
pub(crate) fn employ<H: Host>(host: &H, duty: Duty) {
    let (place, name) = (duty.place, duty.worker.name().to_owned());
    host.spawn(place, &name, drive(host.clone(), duty));
}

/// Steps a worker until it is stopped or the process stops. A step that has begun is completed.
pub async fn drive<H: Host>(host: H, mut duty: Duty) {
    go_on(&host, &mut duty).await;
    duty.worker.retire().await;
}

async fn go_on<H: Host>(host: &H, duty: &mut Duty) {
    let Duty { worker, wake, dismissed, place } = duty;
    let place = *place;
    let mut end = End { stop: host.stop(place), dismissed: dismissed.clone() };
    let mut retry_after = RETRY_FIRST;
    loop {
        let is_ending = end.is_due();
        if is_ending && !worker.finishes() {
            return;
        }
        wake.mark_unchanged();
        let under_way = host.begin();
        // Idle ones too, so it is below whatever is shown or exported unless somebody asks for it.
        let span = tracing::trace_span!("step", worker = worker.name());
        let stepped = worker.step().instrument(span).await;
        drop(under_way);
        match stepped {
            Ok(Step::Worked) => {
                retry_after = RETRY_FIRST;
                host.give_way().await;
            }
            Ok(Step::Idle(_)) | Err(WorkerError::Retry(_)) if is_ending => return,
            Ok(Step::Idle(until)) => {
                retry_after = RETRY_FIRST;
                unless(end.comes(), woken(wake), host.sleep(idle_for(until, host.now()))).await;
                let gathers = worker.gathers();
                if !gathers.is_zero() {
                    unless(end.comes(), std::future::pending(), host.sleep(gathers)).await;
                }
            }
            Err(WorkerError::Retry(failure)) => {
                let reason = describe(&*failure);
                tracing::warn!(worker = worker.name(), reason, "step failed, trying again");
                unless(end.comes(), std::future::pending(), host.sleep(retry_after)).await;
                retry_after = (retry_after * 2).min(RETRY_MAX);
            }
            Err(WorkerError::Fatal(failure)) => {
                host.fail(place, format!("{}: {}", worker.name(), describe(&*failure)));
                return;
            }
        }
    }
}

fn idle_for(until: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Duration {
    until.map_or(IDLE_MAX, |until| (until - now).to_std().unwrap_or(IDLE_MIN).clamp(IDLE_MIN, IDLE_MAX))
}

/// Waits for a wake-up; if nobody is left who could wake it, for ever.
async fn woken(wake: &mut watch::Receiver<u64>) {
    if wake.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Waits for the first of the three.
async fn unless(
    end: impl Future<Output = ()>,
    woken: impl Future<Output = ()>,
    time: impl Future<Output = ()>,
) {
    let (end, woken, time) = (pin!(end), pin!(woken), pin!(time));
    match select(time, select(woken, end)).await {
        Either::Left(_) | Either::Right(_) => {}
    }
}

/// When a worker is to end.
struct End {
    stop: CancellationToken,
    dismissed: Option<watch::Receiver<bool>>,
}

impl End {
    fn is_due(&self) -> bool {
        self.stop.is_cancelled() || self.dismissed.as_ref().is_some_and(|dismissed| *dismissed.borrow())
    }

    async fn comes(&mut self) {
        let dismissed = async {
            match &mut self.dismissed {
                Some(dismissed) => {
                    // Whoever could stop it and is gone will not.
                    if dismissed.wait_for(|is_dismissed| *is_dismissed).await.is_err() {
                        std::future::pending::<()>().await;
                    }
                }
                None => std::future::pending().await,
            }
        };
        select(pin!(self.stop.cancelled()), pin!(dismissed)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Stage;
    use async_trait::async_trait;
    use parking_lot::Mutex;
    use std::sync::Arc;

    /// What came of each step, and when it was taken, in milliseconds.
    type Script = Vec<Result<Step, WorkerError>>;

    struct Scripted {
        script: std::vec::IntoIter<Result<Step, WorkerError>>,
        stage: Stage,
        steps: Arc<Mutex<Vec<i64>>>,
        retired: Arc<Mutex<u32>>,
        finishes: bool,
        gathers: Duration,
    }

    #[async_trait]
    impl Worker for Scripted {
        fn name(&self) -> &str {
            "scripted"
        }

        fn finishes(&self) -> bool {
            self.finishes
        }

        fn gathers(&self) -> Duration {
            self.gathers
        }

        async fn retire(&mut self) {
            *self.retired.lock() += 1;
        }

        async fn step(&mut self) -> Result<Step, WorkerError> {
            self.steps.lock().push(self.stage.now().timestamp_millis());
            self.script.next().unwrap_or_else(|| {
                self.stage.stop.cancel();
                Ok(Step::Idle(None))
            })
        }
    }

    struct Play {
        stage: Stage,
        worker: Scripted,
        wake: watch::Sender<u64>,
        steps: Arc<Mutex<Vec<i64>>>,
    }

    impl Play {
        fn of(script: Script) -> Self {
            let stage = Stage::default();
            let steps = Arc::new(Mutex::new(Vec::new()));
            let worker = Scripted {
                script: script.into_iter(),
                stage: stage.clone(),
                steps: steps.clone(),
                retired: Arc::default(),
                finishes: false,
                gathers: Duration::ZERO,
            };
            Self { stage, worker, wake: watch::Sender::new(0), steps }
        }

        /// When its steps were taken; the last is the one after the script.
        async fn times(self) -> Vec<i64> {
            let (steps, wake) = (self.steps.clone(), self.wake.subscribe());
            let retired = self.worker.retired.clone();
            let duty = Duty { worker: Box::new(self.worker), wake, dismissed: None, place: Place::Front };
            drive(self.stage, duty).await;
            assert_eq!(*retired.lock(), 1, "whatever ends it, it retires once");
            let steps = steps.lock();
            steps.clone()
        }
    }

    fn at(ms: i64) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp_millis(ms)
    }

    fn failed() -> Result<Step, WorkerError> {
        Err(WorkerError::retry("busy"))
    }

    #[tokio::test(start_paused = true)]
    async fn who_worked_goes_on_at_once_and_who_is_idle_looks_again_within_a_second() {
        let script =
            vec![Ok(Step::Worked), Ok(Step::Idle(None)), Ok(Step::Idle(at(1_300))), Ok(Step::Worked)];
        assert_eq!(Play::of(script).times().await, [0, 0, 1_000, 1_300, 1_300]);
    }

    #[tokio::test(start_paused = true)]
    async fn idle_until_a_moment_that_is_over_does_not_spin() {
        assert_eq!(Play::of(vec![Ok(Step::Idle(at(-5)))]).times().await, [0, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wake_up_shortens_the_wait_also_one_that_came_during_the_step() {
        let mut play = Play::of(vec![Ok(Step::Idle(None))]);
        play.worker.gathers = Duration::from_millis(20);
        let wake = play.wake.clone();
        let stage = play.stage.clone();
        let (times, ()) = tokio::join!(play.times(), async {
            stage.give_way().await;
            wake.send_modify(|count| *count += 1);
        });
        assert_eq!(times, [0, 20], "and work comes together for a moment");
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_tried_again_after_pauses_that_grow_until_a_step_goes_well() {
        let mut script: Script = (0..9).map(|_| failed()).collect();
        script.extend([Ok(Step::Worked), failed()]);
        let times = Play::of(script).times().await;
        let pauses: Vec<i64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000, 0, 50]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_go_on_is_told_and_not_tried_again() {
        let play = Play::of(vec![Err(WorkerError::fatal("the log has stopped"))]);
        let failures = play.stage.failures.clone();
        assert_eq!(play.times().await, [0]);
        assert_eq!(*failures.lock(), ["scripted: the log has stopped"]);
    }

    #[tokio::test(start_paused = true)]
    async fn at_the_end_only_who_finishes_goes_on_until_it_is_idle() {
        for (finishes, steps) in [(false, 0), (true, 3)] {
            let mut play =
                Play::of(vec![Ok(Step::Worked), Ok(Step::Worked), Ok(Step::Idle(None)), Ok(Step::Worked)]);
            play.worker.finishes = finishes;
            play.stage.stop.cancel();
            assert_eq!(play.times().await.len(), steps, "{finishes}");
        }
        let mut play = Play::of(vec![failed(), Ok(Step::Worked)]);
        play.worker.finishes = true;
        play.stage.stop.cancel();
        assert_eq!(play.times().await.len(), 1, "nor does it wait for a full disk");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_dismissed_while_idle_or_waiting_goes_at_once() {
        for first in [Ok(Step::Idle(None)), failed()] {
            let play = Play::of(vec![first, Ok(Step::Worked)]);
            let (dismiss, dismissed) = watch::channel(false);
            let duty = Duty {
                worker: Box::new(play.worker),
                wake: play.wake.subscribe(),
                dismissed: Some(dismissed),
                place: Place::Front,
            };
            let (stage, steps) = (play.stage.clone(), play.steps.clone());
            tokio::join!(drive(play.stage, duty), async {
                stage.give_way().await;
                dismiss.send_replace(true);
            });
            assert_eq!(*steps.lock(), [0]);
            assert_eq!(stage.now().timestamp_millis(), 0, "nobody waited");
        }
    }
}
