//! A request on its way through calls of the server: which of its appends are answered, and what the answer of one means for
//! the others.

use std::collections::HashSet;
use uuid::Uuid;

use super::call::Standing;
use crate::port::{AppendError, Appended, BatchMode, StreamAppend};

pub(super) type Answer = Result<Appended, AppendError>;

/// Events that are in the call already, by stream.
pub(super) type Seen<'a> = HashSet<(&'a str, Uuid)>;

/// See the module.
pub(super) struct Trial {
    pub(super) mode: BatchMode,
    pub(super) appends: Vec<StreamAppend>,
    answers: Vec<Option<Answer>>,
    /// Of an atomic request: an earlier append of it that brings the very same events.
    same_as: Vec<Option<usize>>,
}

impl Trial {
    /// Of these appends, of which none may be larger than `bytes_max`.
    pub(super) fn new(mode: BatchMode, appends: Vec<StreamAppend>, bytes_max: usize) -> Self {
        let answers = vec![None; appends.len()];
        let same_as = (0..appends.len()).map(|place| earlier_like(mode, &appends, place)).collect();
        let mut trial = Self { mode, appends, answers, same_as };
        for place in 0..trial.appends.len() {
            let bytes = trial.appends[place].events.iter().map(|event| event.data.len()).sum();
            if bytes > bytes_max {
                trial.refuse(place, AppendError::TooLarge { bytes, limit: bytes_max });
            }
        }
        trial
    }

    /// None of it is tried.
    pub(super) fn hold_back(&mut self) {
        self.answers.fill(Some(Err(AppendError::NotTried)));
    }

    /// Which of its appends have no answer yet.
    pub(super) fn open(&self) -> Vec<usize> {
        let is_open = |place: &usize| self.answers[*place].is_none() && self.same_as[*place].is_none();
        (0..self.answers.len()).filter(is_open).collect()
    }

    /// How many events appends before this one would bring into its stream, were they all written.
    pub(super) fn events_before(&self, place: usize) -> u64 {
        let same_stream = |append: &&StreamAppend| append.stream == self.appends[place].stream;
        let open = self.open().into_iter().filter(|other| *other < place).map(|other| &self.appends[other]);
        open.filter(same_stream).map(|append| append.events.len() as u64).sum()
    }

    /// Those that may go into the call beside what is in it. An event can be in it once: whoever brings it again waits for the
    /// next call, which finds it in the log.
    pub(super) fn next<'a>(&'a self, seen: &mut Seen<'a>) -> Vec<usize> {
        let events = |place: usize| {
            let append = &self.appends[place];
            append.events.iter().map(|event| (&*append.stream, event.id))
        };
        let open = self.open();
        if self.mode == BatchMode::Atomic {
            // All of it together, or nothing.
            let is_new = open.iter().all(|place| events(*place).all(|event| !seen.contains(&event)));
            seen.extend(open.iter().copied().flat_map(events));
            return if is_new { open } else { Vec::new() };
        }
        let mut going = Vec::with_capacity(open.len());
        for place in open {
            let is_new = events(place).all(|event| !seen.contains(&event));
            seen.extend(events(place));
            if is_new {
                going.push(place);
            } else if self.mode == BatchMode::Guarded && going.is_empty() {
                // The others depend on it.
                break;
            }
        }
        going
    }

    /// An append that brings an event twice, by itself or together with another one of its atomic group, can never be written.
    pub(super) fn twice(&self) -> Option<usize> {
        let mut seen = Seen::new();
        self.open().into_iter().find(|place| {
            let append = &self.appends[*place];
            if self.mode != BatchMode::Atomic {
                if append.events.len() < 2 {
                    return false;
                }
                seen.clear();
            }
            !append.events.iter().all(|event| seen.insert((&append.stream, event.id)))
        })
    }

    /// It is written, or checked.
    pub(super) fn answer(&mut self, place: usize, appended: Appended) {
        self.answers[place] = Some(Ok(appended));
    }

    /// An append was refused with the stream at `actual`, and this is where its events stand.
    pub(super) fn settle(&mut self, place: usize, standing: Standing, actual: u64) {
        match standing {
            Standing::All(earlier) => self.answers[place] = Some(Ok(earlier)),
            Standing::Not | Standing::Otherwise => self.refuse(place, AppendError::Conflict { actual }),
        }
    }

    /// An append cannot be written: what else is open of an atomic or a guarded request is not tried.
    pub(super) fn refuse(&mut self, place: usize, error: AppendError) {
        match self.mode {
            BatchMode::Atomic => self.answers.fill(Some(Err(AppendError::NotTried))),
            BatchMode::Guarded if place == 0 => self.answers.fill(Some(Err(AppendError::NotTried))),
            BatchMode::Guarded | BatchMode::Independent => {}
        }
        self.answers[place] = Some(Err(error));
    }

    /// What is open gets this answer.
    pub(super) fn give_up(&mut self, error: &AppendError) {
        for answer in self.answers.iter_mut().filter(|answer| answer.is_none()) {
            *answer = Some(Err(error.clone()));
        }
    }

    /// Whether everything is answered.
    pub(super) fn is_over(&self) -> bool {
        self.open().is_empty()
    }

    /// One answer for each append.
    pub(super) fn answers(self) -> Vec<Answer> {
        let answer = |place: usize| match self.same_as[place] {
            Some(earlier) => match &self.answers[earlier] {
                Some(Ok(first)) => Ok(Appended { repeated: true, ..*first }),
                _ => self.answers[place].clone().unwrap_or(Err(AppendError::NotTried)),
            },
            None => self.answers[place].clone().unwrap_or(Err(AppendError::AnswerLost)),
        };
        (0..self.answers.len()).map(answer).collect()
    }
}

/// An earlier append of an atomic request with the same events in the same stream.
fn earlier_like(mode: BatchMode, appends: &[StreamAppend], place: usize) -> Option<usize> {
    let this = &appends[place];
    if mode != BatchMode::Atomic || this.events.is_empty() {
        return None;
    }
    let ids = |append: &StreamAppend| append.events.iter().map(|event| event.id).collect::<Vec<_>>();
    appends[..place].iter().position(|earlier| earlier.stream == this.stream && ids(earlier) == ids(this))
}
