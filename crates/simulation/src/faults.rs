//! Faults that an operation arms, and that strike once, some calls later.

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// What becomes of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AppendFault {
    /// The queue of the store is full; nothing is written.
    Busy,
    /// All of it is written, and the answer is lost.
    WrittenAnswerLost,
    /// Part of it is written, and the answer is lost.
    PartlyWrittenAnswerLost,
    /// Nothing is written, and the answer is lost.
    NotWrittenAnswerLost,
    /// Another process was faster: the stream has moved.
    Rival,
    /// It takes a second.
    Slow,
    /// It takes so long that what was decided before may not be done after it any more.
    Stalled,
}

/// What becomes of a call of the work queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum QueueFault {
    /// Of putting a job.
    Put(PutFault),
    /// Of taking work.
    Take(TakeFault),
    /// Of settling a lease.
    Settle(SettleFault),
}

/// What becomes of a job that is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PutFault {
    /// It is said to be in, and gone.
    Lost,
    /// It is in, and nobody says so.
    InUnanswered,
    /// It is not in, and nobody says so.
    NotInUnanswered,
    /// It comes some seconds late, behind others.
    Late,
}

/// What becomes of work that is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TakeFault {
    /// Somebody else gets it, too.
    Twice,
    /// Nobody hears that it is worked on, so that it is given again soon.
    Unheard,
}

/// What becomes of a lease that is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SettleFault {
    /// It is done, and nobody says so.
    DoneUnanswered,
    /// It is not done, and nobody says so.
    NotDoneUnanswered,
    /// What is left of it is lost.
    RestLost,
    /// What is left of it comes again with all else that was in its jobs.
    RestWhole,
}

/// What becomes of a lease that is renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeaseFault {
    /// It comes late, and so does the answer: perhaps after the lease was over.
    Late,
    /// It is renewed, and then the lease store loses it silently: another may take it at once.
    Lost,
}

/// Faults waiting for their call. One strikes when as many calls as it says have passed.
#[derive(Debug)]
pub(crate) struct Armed<T> {
    waiting: Mutex<VecDeque<(u32, T)>>,
}

impl<T> Default for Armed<T> {
    fn default() -> Self {
        Self { waiting: Mutex::default() }
    }
}

impl<T> Armed<T> {
    pub(crate) fn arm(&self, skip: u32, fault: T) {
        self.waiting.lock().push_back((skip, fault));
    }

    /// One call: the fault that strikes it, if any.
    pub(crate) fn strike(&self) -> Option<T> {
        let mut waiting = self.waiting.lock();
        let (skip, _) = waiting.front_mut()?;
        if *skip > 0 {
            *skip -= 1;
            return None;
        }
        waiting.pop_front().map(|(_, fault)| fault)
    }

    pub(crate) fn disarm(&self) {
        self.waiting.lock().clear();
    }
}
