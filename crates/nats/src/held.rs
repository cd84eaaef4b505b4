//! The parcels that this process has and has not acknowledged.

use kite_domain::ids::LotId;
use kite_domain::sending::MessageClass;
use kite_domain::seq_set::SeqSet;
use kite_relay::queue::Job;
use std::collections::HashMap;

/// Parcels by what is left of them. `A` is what acknowledges one.
#[derive(Debug)]
pub(crate) struct Held<A> {
    parcels: HashMap<u64, Parcel<A>>,
    /// Which parcels hold messages of a lot and attempt.
    places: HashMap<(LotId, u16), Vec<u64>>,
    added: u64,
}

#[derive(Debug)]
struct Parcel<A> {
    acker: A,
    class: MessageClass,
    left: Vec<Left>,
}

#[derive(Debug)]
struct Left {
    lot: LotId,
    attempt: u16,
    messages: SeqSet,
}

impl<A> Default for Held<A> {
    fn default() -> Self {
        Self { parcels: HashMap::new(), places: HashMap::new(), added: 0 }
    }
}

impl<A: Clone> Held<A> {
    pub(crate) fn add(&mut self, acker: A, class: MessageClass, jobs: &[Job]) {
        self.added += 1;
        for job in jobs {
            self.places.entry((job.lot, job.attempt)).or_default().push(self.added);
        }
        let left = |job: &Job| Left { lot: job.lot, attempt: job.attempt, messages: job.messages.clone() };
        let parcel = Parcel { acker, class, left: jobs.iter().map(left).collect() };
        self.parcels.insert(self.added, parcel);
    }

    /// These messages are done, in whatever parcel they came. Returns what acknowledges those of which nothing is left.
    pub(crate) fn done(&mut self, lot: LotId, attempt: u16, messages: &SeqSet) -> Vec<(MessageClass, A)> {
        let mut over = Vec::new();
        for id in self.places.get(&(lot, attempt)).cloned().unwrap_or_default() {
            let Some(parcel) = self.parcels.get_mut(&id) else { continue };
            for left in parcel.left.iter_mut().filter(|left| left.lot == lot && left.attempt == attempt) {
                left.messages = left.messages.iter().filter(|seq| !messages.contains(*seq)).collect();
            }
            if parcel.left.iter().all(|left| left.messages.is_empty()) {
                over.extend(self.remove(id));
            }
        }
        over
    }

    /// Whether a parcel is here with messages of this lot and attempt.
    pub(crate) fn holds(&self, lot: LotId, attempt: u16) -> bool {
        self.places.contains_key(&(lot, attempt))
    }

    /// Others may have the parcels of these jobs (none: all of them) of which nothing is being worked on.
    pub(crate) fn let_go(
        &mut self,
        jobs: Option<&[Job]>,
        is_worked_on: impl Fn(LotId, u16, &SeqSet) -> bool,
    ) -> Vec<(MessageClass, A)> {
        let mut ids: Vec<u64> = match jobs {
            Some(jobs) => {
                let places = jobs.iter().filter_map(|job| self.places.get(&(job.lot, job.attempt)));
                places.flatten().copied().collect()
            }
            None => self.parcels.keys().copied().collect(),
        };
        ids.sort_unstable();
        ids.dedup();
        ids.retain(|id| {
            let parcel = self.parcels.get(id);
            let mut left = parcel.into_iter().flat_map(|parcel| &parcel.left);
            !left.any(|left| is_worked_on(left.lot, left.attempt, &left.messages))
        });
        ids.into_iter().filter_map(|id| self.remove(id)).collect()
    }

    fn remove(&mut self, id: u64) -> Option<(MessageClass, A)> {
        let parcel = self.parcels.remove(&id)?;
        for left in &parcel.left {
            let place = (left.lot, left.attempt);
            if let Some(ids) = self.places.get_mut(&place) {
                ids.retain(|other| *other != id);
                if ids.is_empty() {
                    self.places.remove(&place);
                }
            }
        }
        Some((parcel.class, parcel.acker))
    }

    /// All of them, to say that they are worked on.
    pub(crate) fn all(&self) -> Vec<A> {
        self.parcels.values().map(|parcel| parcel.acker.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kite_domain::ids::SendingId;
    use kite_domain::slug::{RelayId, TenantId};
    use kite_relay::queue::{JobKind, Waits};
    use uuid::Uuid;

    fn job(number: u32, messages: std::ops::Range<u32>) -> Job {
        Job {
            lot: LotId { sending: SendingId(Uuid::from_u128(7)), number },
            tenant: TenantId::from_trusted("shop"),
            class: MessageClass::Otp,
            relay: RelayId::from_trusted("alpha"),
            attempt: 1,
            kind: JobKind::Submit,
            messages: messages.collect(),
            not_before_ms: 0,
            waits: Waits::default(),
            cause: None,
        }
    }

    fn names(over: Vec<(MessageClass, &'static str)>) -> Vec<&'static str> {
        over.into_iter().map(|(_, name)| name).collect()
    }

    #[test]
    fn a_parcel_is_over_when_nothing_is_left_of_it_however_often_it_came() {
        let mut held = Held::default();
        held.add("first", MessageClass::Otp, &[job(0, 0..10), job(1, 0..2)]);
        held.add("again", MessageClass::Otp, &[job(0, 5..10)]);
        let done = |held: &mut Held<_>, job: Job| names(held.done(job.lot, job.attempt, &job.messages));
        assert_eq!(done(&mut held, job(0, 5..10)), ["again"]);
        assert_eq!(done(&mut held, job(1, 0..2)), [""; 0]);
        assert_eq!(done(&mut held, job(2, 0..2)), [""; 0], "nobody sent that");
        assert_eq!(done(&mut held, job(0, 0..5)), ["first"]);
        assert!(held.all().is_empty() && held.places.is_empty());
    }

    #[test]
    fn what_is_let_go_is_not_acknowledged_later() {
        let mut held = Held::default();
        held.add("first", MessageClass::Otp, &[job(0, 0..10), job(1, 0..2)]);
        held.add("other", MessageClass::Otp, &[job(2, 0..1)]);
        assert_eq!(names(held.let_go(Some(&[job(1, 0..1), job(0, 3..4)]), |_, _, _| false)), ["first"]);
        assert_eq!(held.all(), ["other"]);
        assert!(held.let_go(None, |lot, _, _| lot.number == 2).is_empty());
        assert_eq!(names(held.let_go(None, |lot, _, _| lot.number == 1)), ["other"]);
        assert!(held.done(job(0, 0..10).lot, 1, &(0..10).collect()).is_empty());
    }
}
