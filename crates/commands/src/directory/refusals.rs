//! The refusals of recipients: stored by a read model, looked up for those who are about to get a message, and
//! completed by what the log has said since.
//!
//! A tenant may have more refusals than fit into memory. Only those are kept here that the read model may not have
//! yet.

use kite_domain::address::identity;
use kite_domain::event::Event;
use kite_domain::opt_out::Refusals;
use kite_domain::slug::TenantId;
use kite_event_store::Position;
use smol_str::SmolStr;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use super::stored::StoredRefusals;

/// An event about refusals.
#[derive(Debug)]
struct Said {
    position: Position,
    tenant: TenantId,
    /// Whose refusal it is about.
    address: SmolStr,
    /// Whom it binds, too.
    others: Vec<SmolStr>,
    event: Event,
}

impl Said {
    fn of(position: Position, event: &Event) -> Option<Self> {
        let (tenant, address, others) = match event {
            Event::OptOutRecorded(recorded) => (&recorded.tenant, &recorded.personal.address, &[][..]),
            Event::OptOutWithdrawn(withdrawn) => (&withdrawn.tenant, &withdrawn.personal.address, &[][..]),
            Event::OptOutExtended(extended) => {
                (&extended.tenant, &extended.personal.address, &extended.personal.also[..])
            }
            _ => return None,
        };
        let others = others.iter().map(|other| identity(other).into()).collect();
        Some(Self {
            position,
            tenant: tenant.clone(),
            address: identity(address).into(),
            others,
            event: event.clone(),
        })
    }

    fn addresses(&self) -> impl Iterator<Item = &SmolStr> {
        std::iter::once(&self.address).chain(&self.others)
    }
}

/// What the log has said about refusals that the read model may not have yet.
#[derive(Debug, Default)]
pub(super) struct RecentRefusals {
    /// What the log said up to here is no longer kept here.
    since: Position,
    in_order: VecDeque<Arc<Said>>,
    by_address: HashMap<(TenantId, SmolStr), Vec<Arc<Said>>>,
}

impl RecentRefusals {
    /// Of a log that is read after this position.
    pub(super) fn since(position: Position) -> Self {
        Self { since: position, ..Self::default() }
    }

    /// The log says this.
    pub(super) fn note(&mut self, position: Position, event: &Event) {
        if position <= self.since {
            return;
        }
        let Some(said) = Said::of(position, event).map(Arc::new) else { return };
        for address in said.addresses() {
            self.by_address.entry((said.tenant.clone(), address.clone())).or_default().push(said.clone());
        }
        self.in_order.push_back(said);
    }

    /// The read model knows everything up to here.
    pub(super) fn forget_until(&mut self, position: Position) {
        while let Some(said) = self.in_order.pop_front_if(|said| said.position <= position) {
            self.since = said.position;
            for address in said.addresses() {
                let key = (said.tenant.clone(), address.clone());
                if let Some(known) = self.by_address.get_mut(&key) {
                    known.retain(|one| one.position > position);
                    if known.is_empty() {
                        self.by_address.remove(&key);
                    }
                }
            }
        }
    }

    fn of<'s>(&'s self, tenant: &TenantId, address: &SmolStr) -> impl Iterator<Item = &'s Arc<Said>> {
        self.by_address.get(&(tenant.clone(), address.clone())).into_iter().flatten()
    }

    /// These addresses, and those that refused for them as well.
    fn concerned(&self, tenant: &TenantId, asked: &BTreeSet<SmolStr>) -> BTreeSet<SmolStr> {
        if self.in_order.is_empty() {
            return asked.clone();
        }
        let said = asked.iter().flat_map(|address| self.of(tenant, address));
        asked.iter().cloned().chain(said.map(|said| said.address.clone())).collect()
    }
}

/// The refusals that concern some recipients of a tenant.
#[derive(Debug)]
pub struct RefusalsOf {
    tenant: TenantId,
    asked: BTreeSet<SmolStr>,
    /// Those that were looked up.
    concerned: BTreeSet<SmolStr>,
    stored: StoredRefusals,
    /// Refusals that the read model could not store, by position.
    parked: BTreeMap<Position, Arc<Said>>,
}

impl RefusalsOf {
    /// Nothing is looked up yet.
    pub(super) fn new<'a>(tenant: &TenantId, addresses: impl IntoIterator<Item = &'a str>) -> Self {
        let asked: BTreeSet<SmolStr> =
            addresses.into_iter().map(|address| identity(address).into()).collect();
        Self {
            tenant: tenant.clone(),
            concerned: BTreeSet::new(),
            asked,
            stored: StoredRefusals::default(),
            parked: BTreeMap::new(),
        }
    }

    /// Which addresses are to be looked up.
    pub(super) fn wanted(&mut self, recent: &RecentRefusals) -> Vec<SmolStr> {
        self.concerned = recent.concerned(&self.tenant, &self.asked);
        self.concerned.iter().cloned().collect()
    }

    /// What was found of them.
    pub(super) fn found(&mut self, stored: StoredRefusals) {
        self.concerned.extend(stored.refusals.addresses().cloned());
        self.stored = stored;
        self.parked.clear();
    }

    pub(super) fn parked_streams(&self) -> &[SmolStr] {
        &self.stored.parked
    }

    /// An event of a stream of which the read model could not write something down.
    pub(super) fn note_parked(&mut self, position: Position, event: &Event) {
        if let Some(said) = Said::of(position, event).filter(|said| said.tenant == self.tenant) {
            self.parked.insert(position, Arc::new(said));
        }
    }

    /// The refusals by the log as it is now; none: the log has since said something that needs another lookup.
    pub(super) fn now(&self, recent: &RecentRefusals) -> Option<Cow<'_, Refusals>> {
        if self.stored.position < recent.since {
            return None;
        }
        if !recent.in_order.is_empty() {
            let mut said = self.asked.iter().flat_map(|address| recent.of(&self.tenant, address));
            if said.any(|said| !self.concerned.contains(&said.address)) {
                return None;
            }
        }
        let mut said = self.parked.clone();
        if !recent.in_order.is_empty() {
            let of_each = self.concerned.iter().flat_map(|address| recent.of(&self.tenant, address));
            let news = of_each.filter(|said| said.position > self.stored.position);
            said.extend(news.map(|said| (said.position, said.clone())));
        }
        if said.is_empty() {
            return Some(Cow::Borrowed(&self.stored.refusals));
        }
        let mut refusals = self.stored.refusals.clone();
        said.values().for_each(|said| refusals.evolve(&said.event));
        Some(Cow::Owned(refusals))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kite_domain::opt_out::{AdBrands, ExtendedPerson, OptOutExtended, OptOutPerson, OptOutRecorded};

    fn acme() -> TenantId {
        TenantId::from_trusted("acme")
    }

    fn recorded(address: &str) -> Event {
        let personal = OptOutPerson { address: address.into() };
        OptOutRecorded { tenant: acme(), brand: None, source: "080".to_owned(), refused_at: None, personal }
            .into()
    }

    fn extended(address: &str, other: &str) -> Event {
        let personal = ExtendedPerson { address: address.into(), also: vec![other.into()] };
        OptOutExtended { tenant: acme(), personal }.into()
    }

    fn refuses(of: &RefusalsOf, recent: &RecentRefusals, address: &str) -> Option<bool> {
        Some(of.now(recent)?.refused_by(address, &AdBrands::default()).is_some())
    }

    #[test]
    fn what_the_read_model_knows_is_not_kept() {
        let mut recent = RecentRefusals::since(3);
        for (position, address) in [(3, "1"), (5, "1"), (6, "2"), (9, "1")] {
            recent.note(position, &recorded(address));
        }
        recent.note(10, &extended("1", "3"));
        assert_eq!(recent.in_order.len(), 4, "what was there before is the read model's");
        recent.forget_until(6);
        assert_eq!((recent.in_order.len(), recent.since), (2, 6));
        assert_eq!(recent.by_address.len(), 2, "of the second address nothing is left");
        recent.forget_until(10);
        assert!(recent.in_order.is_empty() && recent.by_address.is_empty());
    }

    #[test]
    fn a_look_counts_until_something_is_said_that_it_does_not_cover() {
        let mut recent = RecentRefusals::default();
        recent.note(1, &recorded("1"));
        let mut of = RefusalsOf::new(&acme(), ["2"]);
        assert_eq!(of.wanted(&recent), ["2"]);
        of.found(StoredRefusals::default());
        assert_eq!(refuses(&of, &recent, "2"), Some(false));
        recent.note(2, &recorded("2"));
        assert_eq!(refuses(&of, &recent, "2"), Some(true), "news of those who were looked up count");
        let mut other = RefusalsOf::new(&acme(), ["3"]);
        other.wanted(&recent);
        other.found(StoredRefusals::default());
        recent.note(3, &extended("1", "3"));
        assert_eq!(refuses(&other, &recent, "3"), None, "what the first refused was not looked up");
        assert_eq!(other.wanted(&recent), ["1", "3"]);
        assert_eq!(refuses(&other, &recent, "3"), Some(true));
        recent.forget_until(3);
        assert_eq!(refuses(&other, &recent, "3"), None, "the look is older than what is kept here");
        let mut refusals = Refusals::default();
        refusals.evolve(&recorded("1"));
        refusals.evolve(&extended("1", "3"));
        other.wanted(&recent);
        other.found(StoredRefusals { position: 3, refusals, parked: Vec::new() });
        assert_eq!(refuses(&other, &recent, "3"), Some(true));
    }
}
