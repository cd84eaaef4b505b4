//! Which messages of a job are looked at now, possibly before their time because the relay is back after a silence.
//!
//! The log says when a relay is asked about a message, and the round of the question depends on that. A relay that is
//! back is asked sooner, without an event in the log: what it knows is recorded, and messages that it does not know
//! wait for their time as if nobody had asked.

use chrono::{DateTime, Utc};
use kite_domain::lot::{Asking, Lot};
use kite_domain::seq_set::SeqSet;
use std::collections::BTreeMap;

use super::PROBE_PAUSE;
use crate::queue::{Job, JobKind, Waits};

/// The round of a question, and whether it is asked at its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Round {
    /// When the log says.
    InTime(u8),
    /// Before its time: it proves no more than the question before it.
    Early(u8),
}

impl Round {
    pub(super) fn number(self) -> u8 {
        match self {
            Self::InTime(round) | Self::Early(round) => round,
        }
    }

    pub(super) fn is_in_time(self) -> bool {
        matches!(self, Self::InTime(_))
    }
}

/// What a look at a job came to.
#[derive(Debug, Clone)]
pub(super) struct Looked {
    /// What is done now.
    pub(super) candidates: SeqSet,
    pub(super) round: Round,
    /// At the right time: the jobs of what is left for later. Early: those of the candidates, in case it was too
    /// early.
    pub(super) later: Vec<Job>,
    /// The log differs from the job; its lot has to be fed again.
    pub(super) is_stale: bool,
}

/// Which of the waiting messages are looked at now.
pub(super) fn look(lot: &Lot, waiting: SeqSet, job: &Job, asking: Asking, now: DateTime<Utc>) -> Looked {
    let now_ms = now.timestamp_millis();
    let is_due = |seq: &u32| lot.waits_until_ms(*seq) <= now_ms;
    let due: SeqSet = waiting.iter().filter(is_due).collect();
    let in_time = |due: SeqSet, mut later: Vec<Job>, is_stale| {
        // One answer, one round: beside one of an earlier round a message would never come to that in which it is believed.
        // And a relay that takes single messages, to see whether it is back, is not always asked about the same one.
        let (due, rest) = lot.asked_about_least(due, job.attempt);
        if !rest.is_empty() {
            let not_before_ms = (now + PROBE_PAUSE).timestamp_millis();
            later.push(Job { messages: rest, not_before_ms, ..job.clone() });
        }
        let round = Round::InTime(lot.round_of(&due, job.attempt));
        Looked { candidates: due, round, later, is_stale }
    };
    if due.len() == waiting.len() {
        return in_time(due, Vec::new(), false);
    }
    let is_hastened = job.waits == Waits::NoLonger && job.kind == JobKind::Inquire;
    let is_early = |seq: &u32| !is_due(seq) && lot.may_be_hastened(*seq, now);
    let early: SeqSet =
        if is_hastened { waiting.iter().filter(is_early).collect() } else { SeqSet::default() };
    let is_stale = due.len() + early.len() < waiting.len();
    if early.is_empty() {
        return in_time(due, Vec::new(), is_stale);
    }
    if !due.is_empty() {
        // One answer, one round: those whose time has not come are asked about next.
        let not_before_ms = (now + PROBE_PAUSE).timestamp_millis();
        let later = vec![Job { messages: early, not_before_ms, ..job.clone() }];
        return in_time(due, later, is_stale);
    }
    let mut by_time: BTreeMap<i64, SeqSet> = BTreeMap::new();
    for seq in &early {
        by_time.entry(lot.waits_until_ms(seq)).or_default().push(seq);
    }
    let at_its_time =
        |(not_before_ms, messages)| Job { messages, not_before_ms, waits: Waits::ForItsTime, ..job.clone() };
    let round = Round::Early(lot.round_before_its_time(&early, job.attempt, asking));
    Looked { candidates: early, round, later: by_time.into_iter().map(at_its_time).collect(), is_stale }
}

/// The part of the jobs that is about these messages.
pub(super) fn of(jobs: &[Job], messages: &SeqSet) -> Vec<Job> {
    let part = |job: &Job| {
        let common: SeqSet = job.messages.iter().filter(|seq| messages.contains(*seq)).collect();
        (!common.is_empty()).then(|| Job { messages: common, ..job.clone() })
    };
    jobs.iter().filter_map(part).collect()
}
