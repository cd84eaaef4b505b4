//! Places for messages: what is accepted and not final is counted in such a way that two requests at once never get
//! the last place.
//!
//! The work read model knows what was open up to its position in the log. What was given since then is counted here:
//! from the request, before anything is appended, until the read model has seen its seal. So a count may be too high
//! for a moment, but never too low. A request that fails gives its place back.

use kite_domain::load::{Asking, Full, HouseBounds, Load, LoadKind};
use kite_domain::slug::TenantId;
use kite_domain::tenant::LimitsInForce;
use kite_event_store::{EventStore, Position};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::open_work::Workload;

/// All places. Cheap to clone.
#[derive(Clone, Default)]
pub struct Room {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    /// Up to where in the log `known` counts.
    position: Position,
    known: HashMap<TenantId, Load>,
    known_all: Load,
    /// What the read model does not know yet.
    given: HashMap<TenantId, Load>,
    given_all: Load,
    /// Of that, what is in the log by now, by where.
    sealed: BTreeMap<Position, Vec<Given>>,
    /// Of it, what may be in the log or not.
    doubtful: Vec<Doubtful>,
    /// What was accepted before this process began is not counted yet.
    is_uncounted: bool,
}

/// A place whose seal may be in the log.
struct Doubtful {
    given: Given,
    /// Where the log ended when the caller stopped waiting for the answer.
    position: Position,
    /// How many more looks of a read model beyond that position are waited for: the append may still be on its way.
    looks: u8,
}

/// Some seconds of looks.
const DOUBTFUL_LOOKS: u8 = 50;

/// Messages that have a place.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Given {
    tenant: TenantId,
    kind: LoadKind,
    messages: u64,
}

/// What a request asks for.
pub(super) struct Wanted<'a> {
    pub(super) tenant: &'a TenantId,
    pub(super) kind: LoadKind,
    pub(super) messages: u64,
    pub(super) limits: &'a LimitsInForce,
    pub(super) house: &'a HouseBounds,
    /// How many tenants there are.
    pub(super) tenants: u64,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoPlace {
    /// A bound is reached.
    Full(Full),
    /// However little there is at the moment: it is more than the tenant may ever have.
    Never(Full),
    /// It is not known yet what there is.
    Uncounted,
}

impl Room {
    /// Gives a place, or says why there is none.
    pub(super) fn reserve<'s>(
        &self,
        wanted: &Wanted<'_>,
        store: &'s Arc<dyn EventStore>,
    ) -> Result<Place<'s>, NoPlace> {
        let mut inner = self.inner.lock();
        if inner.is_uncounted {
            return Err(NoPlace::Uncounted);
        }
        let asking = Asking {
            own: inner.load_of(wanted.tenant),
            all: inner.known_all.plus(&inner.given_all),
            limits: wanted.limits,
            house: wanted.house,
            tenants: wanted.tenants,
        };
        if let Err(full) = asking.may_take(wanted.kind, wanted.messages) {
            let alone = Asking { own: Load::default(), all: Load::default(), ..asking };
            return Err(match alone.may_take(wanted.kind, wanted.messages) {
                // Of the tenant's own bounds: what is beyond one of the house is no fault of the tenant.
                Err(own @ (Full::TenantOpen | Full::TenantScheduled)) => NoPlace::Never(own),
                Err(Full::Open | Full::Scheduled) | Ok(()) => NoPlace::Full(full),
            });
        }
        let given = Given { tenant: wanted.tenant.clone(), kind: wanted.kind, messages: wanted.messages };
        inner.give(&given);
        drop(inner);
        Ok(Place { room: self.clone(), given: Some(given), store, is_sealing: false })
    }

    /// What a tenant has, as far as this process knows.
    pub fn load_of(&self, tenant: &TenantId) -> Load {
        self.inner.lock().load_of(tenant)
    }

    /// What all tenants have.
    pub fn load_of_all(&self) -> Load {
        let inner = self.inner.lock();
        inner.known.values().fold(inner.given_all, |all, one| all.plus(one))
    }

    /// Counts by what the read model says now. `open_messages_max` is a tenant's own limit.
    pub(super) fn refresh(&self, workload: Workload, open_messages_max: impl Fn(&TenantId) -> u64) {
        let known: HashMap<TenantId, Load> = workload.loads.into_iter().collect();
        let known_all = known
            .iter()
            .fold(Load::default(), |all, (tenant, load)| all.plus(&load.within(open_messages_max(tenant))));
        let mut inner = self.inner.lock();
        if workload.position < inner.position {
            return;
        }
        inner.position = workload.position;
        inner.known = known;
        inner.known_all = known_all;
        let later = inner.sealed.split_off(&(workload.position + 1));
        let seen = std::mem::replace(&mut inner.sealed, later);
        seen.values().flatten().for_each(|given| inner.give_back(given));
        let position = workload.position;
        for doubtful in std::mem::take(&mut inner.doubtful) {
            match doubtful.looks {
                0 => inner.give_back(&doubtful.given),
                looks => {
                    let looks = if doubtful.position <= position { looks - 1 } else { looks };
                    inner.doubtful.push(Doubtful { looks, ..doubtful });
                }
            }
        }
    }

    /// Refuses everything until the log has been counted.
    pub(super) fn is_to_be_counted(&self) {
        self.inner.lock().is_uncounted = true;
    }

    /// What was accepted before this process began is counted.
    pub(super) fn is_counted(&self) {
        self.inner.lock().is_uncounted = false;
    }

    /// A sending that is in the log and got no place here.
    pub(super) fn note(&self, tenant: &TenantId, kind: LoadKind, messages: u64, position: Position) {
        let given = Given { tenant: tenant.clone(), kind, messages };
        let mut inner = self.inner.lock();
        inner.give(&given);
        inner.is_in_log(given, position);
    }
}

impl Inner {
    fn load_of(&self, tenant: &TenantId) -> Load {
        let known = self.known.get(tenant).copied().unwrap_or_default();
        self.given.get(tenant).map_or(known, |given| known.plus(given))
    }

    fn give(&mut self, given: &Given) {
        self.given_all.add(given.kind, given.messages);
        match self.given.get_mut(&given.tenant) {
            Some(load) => load.add(given.kind, given.messages),
            None => {
                self.given.insert(given.tenant.clone(), Load::of(given.kind, given.messages));
            }
        }
    }

    fn give_back(&mut self, given: &Given) {
        self.given_all.take(given.kind, given.messages);
        if let Some(load) = self.given.get_mut(&given.tenant) {
            load.take(given.kind, given.messages);
            if *load == Load::default() {
                self.given.remove(&given.tenant);
            }
        }
    }

    fn is_in_log(&mut self, given: Given, position: Position) {
        if position <= self.position {
            self.give_back(&given);
        } else {
            self.sealed.entry(position).or_default().push(given);
        }
    }
}

/// The places of one request. Given back when it is dropped, unless the seal is in the log, or may be.
pub(super) struct Place<'s> {
    room: Room,
    given: Option<Given>,
    store: &'s Arc<dyn EventStore>,
    is_sealing: bool,
}

impl Place<'_> {
    /// Fewer messages than were asked for.
    pub(super) fn shrink(&mut self, messages: u64) {
        let Some(given) = &mut self.given else { return };
        let surplus = given.messages.saturating_sub(messages);
        if surplus > 0 {
            given.messages = messages;
            let back = Given { messages: surplus, ..given.clone() };
            self.room.inner.lock().give_back(&back);
        }
    }

    /// From now on the seal may get into the log, even if nobody waits for the answer.
    pub(super) fn is_sealing(&mut self) {
        self.is_sealing = true;
    }

    /// The seal is in the log.
    pub(super) fn sealed(mut self, position: Position) {
        if let Some(given) = self.given.take() {
            self.room.inner.lock().is_in_log(given, position);
        }
    }

    /// The seal is certainly not in the log.
    pub(super) fn not_sealed(mut self) {
        self.is_sealing = false;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let Some(given) = self.given.take() else { return };
        let mut inner = self.room.inner.lock();
        if self.is_sealing {
            // If it is in the log after all, it is not far from here: it counts until the read model must have seen it.
            let position = *self.store.head().borrow();
            inner.doubtful.push(Doubtful { given, position, looks: DOUBTFUL_LOOKS });
        } else {
            inner.give_back(&given);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kite_event_store::MemoryEventStore;

    const HOUSE: HouseBounds = HouseBounds {
        open_messages_max: 1_000,
        scheduled_messages_max: 1_000,
        password_reserve_per_cent: 10,
    };

    fn tenant(name: &str) -> TenantId {
        TenantId::parse(name).unwrap()
    }

    fn store() -> Arc<dyn EventStore> {
        Arc::new(MemoryEventStore::new())
    }

    fn ask<'s>(room: &Room, store: &'s Arc<dyn EventStore>, messages: u64) -> Result<Place<'s>, NoPlace> {
        let limits = LimitsInForce { open_messages_max: 100, ..LimitsInForce::default() };
        let acme = tenant("acme");
        let wanted = Wanted {
            tenant: &acme,
            kind: LoadKind::Ordinary,
            messages,
            limits: &limits,
            house: &HOUSE,
            tenants: 2,
        };
        room.reserve(&wanted, store)
    }

    fn seen(room: &Room, position: Position, open: u64) {
        let loads = vec![(tenant("acme"), Load::of(LoadKind::Ordinary, open))];
        room.refresh(Workload { position, loads }, |_| 100);
    }

    #[test]
    fn two_requests_at_once_do_not_get_the_last_place() {
        let (room, store) = (Room::default(), store());
        let first = ask(&room, &store, 90).unwrap();
        assert_eq!(ask(&room, &store, 1).err(), Some(NoPlace::Full(Full::TenantOpen)));
        drop(first);
        assert!(ask(&room, &store, 90).is_ok(), "what comes to nothing gives its place back");
    }

    #[test]
    fn a_place_counts_until_the_read_model_has_seen_the_seal_and_not_twice() {
        let (room, store) = (Room::default(), store());
        let mut place = ask(&room, &store, 60).unwrap();
        place.shrink(50);
        place.is_sealing();
        place.sealed(7);
        seen(&room, 6, 0);
        assert_eq!(room.load_of(&tenant("acme")).open(), 50);
        seen(&room, 7, 50);
        assert_eq!(room.load_of(&tenant("acme")).open(), 50);
        seen(&room, 5, 0);
        assert_eq!(room.load_of(&tenant("acme")).open(), 50, "an older answer that came later");
        seen(&room, 9, 10);
        assert_eq!(room.load_of(&tenant("acme")).open(), 10);
        assert_eq!(room.load_of_all().open(), 10);
    }

    #[test]
    fn a_read_model_that_was_faster_than_the_answer_is_believed() {
        let (room, store) = (Room::default(), store());
        let place = ask(&room, &store, 50).unwrap();
        seen(&room, 7, 50);
        place.sealed(7);
        assert_eq!(room.load_of(&tenant("acme")).open(), 50);
    }

    #[test]
    fn whoever_goes_away_while_the_seal_is_written_keeps_the_place_for_a_while() {
        let (room, store) = (Room::default(), store());
        let mut place = ask(&room, &store, 50).unwrap();
        place.is_sealing();
        drop(place);
        assert_eq!(room.load_of(&tenant("acme")).open(), 50);
        for _ in 0..DOUBTFUL_LOOKS {
            seen(&room, 1, 0);
            assert_eq!(room.load_of(&tenant("acme")).open(), 50);
        }
        seen(&room, 1, 0);
        assert_eq!(room.load_of(&tenant("acme")).open(), 0);
    }

    #[test]
    fn what_can_never_fit_is_told_apart() {
        let (room, store) = (Room::default(), store());
        assert_eq!(ask(&room, &store, 91).err(), Some(NoPlace::Never(Full::TenantOpen)));
    }

    #[test]
    fn nothing_is_given_before_the_log_has_been_counted() {
        let (room, store) = (Room::default(), store());
        room.is_to_be_counted();
        assert_eq!(ask(&room, &store, 1).err(), Some(NoPlace::Uncounted));
        room.note(&tenant("acme"), LoadKind::Ordinary, 90, 3);
        room.is_counted();
        assert_eq!(ask(&room, &store, 1).err(), Some(NoPlace::Full(Full::TenantOpen)));
    }
}
