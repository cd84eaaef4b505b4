//! Which addresses belong to one person, and so which addresses a refusal should apply to.
//!
//! Addresses belong to one person when they are in one contact. An address that a contact gave up is no longer known
//! as theirs (numbers are given to others); an address that it lost in a merge with another contact is. What follows
//! from that for refusals is a row in `bonds`. The row stays, whatever happens to the contact, until the refusal is
//! taken back. The write side makes an event of it, and `is_told` says that it has. All of this follows from the
//! order of the log.

use kite_domain::address::identity;
use kite_domain::ids::ContactId;
use kite_domain::opt_out::{OptOutExtended, OptOutRecorded, OptOutWithdrawn, brand_identity};
use smol_str::SmolStr;
use std::collections::BTreeSet;

use super::book::{Book, Names};
use super::rows::{
    BONDS_BY_ADDRESS, BONDS_BY_OTHER, BondRow, End, OptOutRow, PEOPLE_BY_ADDRESS, PEOPLE_BY_CONTACT, Person,
    PersonRow, REFUSALS, REFUSALS_OF,
};
use crate::engine::{Cells, values};
use crate::error::ApplyError;

/// A person has no more addresses than this, so that chains of contacts cannot cause unlimited work.
const ADDRESSES_MAX: usize = 64;

/// The addresses of a contact, as it was and as it is.
pub(super) struct Addresses {
    /// Those that it had and has no more.
    pub(super) given_up: Vec<SmolStr>,
    /// Those that it has.
    pub(super) present: Vec<SmolStr>,
}

impl Addresses {
    /// From the columns of both rows.
    pub(super) fn of(before: [&Option<SmolStr>; 2], now: [&Option<SmolStr>; 2]) -> Self {
        let identities = |columns: [&Option<SmolStr>; 2]| -> Vec<SmolStr> {
            columns.into_iter().flatten().map(|address| identity(address).into()).collect()
        };
        let present = identities(now);
        let given_up = identities(before).into_iter().filter(|one| !present.contains(one)).collect();
        Self { given_up, present }
    }
}

impl Book<'_> {
    /// A contact is saved.
    pub(super) fn person_saved(
        &mut self,
        names: &Names,
        contact: ContactId,
        addresses: &Addresses,
    ) -> Result<(), ApplyError> {
        let key = |address: &SmolStr| (names.tenant.clone(), address.clone(), contact);
        for address in &addresses.given_up {
            self.rows.people.remove(self.tables, &key(address))?;
        }
        for address in &addresses.present {
            self.add_person(key(address))?;
        }
        // Also where it has one address: a contact that was merged into another has those that it had before.
        if let Some(address) = addresses.present.first()
            && self.anybody_refuses(names)?
        {
            self.bind_person(names, address)?;
        }
        Ok(())
    }

    /// It is first checked whether the row exists: nothing in the row could change.
    fn add_person(&mut self, key: (SmolStr, SmolStr, ContactId)) -> Result<(), ApplyError> {
        match self.rows.people.get(self.tables, &key)? {
            Some(PersonRow) => Ok(()),
            None => self.rows.people.put(self.tables, key, PersonRow),
        }
    }

    /// The addresses of a contact.
    fn addresses_of(&mut self, names: &Names, contact: ContactId) -> Result<Vec<SmolStr>, ApplyError> {
        let contact = Person::Contact(names.tenant.clone(), contact);
        let found = self.rows.people.beside(self.tables, &PEOPLE_BY_CONTACT, Person::put, &contact)?;
        Ok(found.into_iter().map(|(_, address, _)| address).collect())
    }

    /// A contact is the same person as another and goes away.
    pub(super) fn person_merged(
        &mut self,
        names: &Names,
        from: ContactId,
        to: ContactId,
    ) -> Result<(), ApplyError> {
        for address in self.addresses_of(names, from)? {
            self.rows.people.remove(self.tables, &(names.tenant.clone(), address.clone(), from))?;
            self.add_person((names.tenant.clone(), address, to))?;
        }
        Ok(())
    }

    /// A contact is gone: nobody knows any more that its addresses belong to one person. What was refused stays
    /// refused.
    pub(super) fn person_forgotten(&mut self, names: &Names, contact: ContactId) -> Result<(), ApplyError> {
        for address in self.addresses_of(names, contact)? {
            self.rows.people.remove(self.tables, &(names.tenant.clone(), address, contact))?;
        }
        Ok(())
    }

    /// An address refuses. A refusal that is repeated counts from the first time.
    pub(super) fn refused(&mut self, recorded: &OptOutRecorded, time_ms: i64) -> Result<(), ApplyError> {
        let names = Names::new(&recorded.tenant);
        let address: SmolStr = identity(&recorded.personal.address).into();
        let brand = recorded.brand.as_deref().map(brand_identity).unwrap_or_default();
        let key = (names.tenant.clone(), address.clone(), SmolStr::new(brand));
        if self.rows.opt_outs.get(self.tables, &key)?.is_none() {
            let row = OptOutRow {
                address: recorded.personal.address.clone(),
                brand: recorded.brand.clone(),
                source: recorded.source.clone(),
                since_ms: time_ms,
                refused_ms: recorded.refused_at.map_or(time_ms, |at| at.timestamp_millis()),
            };
            self.rows.opt_outs.put(self.tables, key, row)?;
        }
        self.rows.refused.insert(names.tenant.clone(), true);
        for other in self.person_of(&names, &address)? {
            self.bind(&names, &address, &other, false)?;
        }
        Ok(())
    }

    /// An address agrees again.
    pub(super) fn agreed(&mut self, withdrawn: &OptOutWithdrawn) -> Result<(), ApplyError> {
        let names = Names::new(&withdrawn.tenant);
        let address: SmolStr = identity(&withdrawn.personal.address).into();
        let brand = withdrawn.brand.as_deref().map(brand_identity);
        for key in self.refusals_of(&names, &address)? {
            if brand.as_deref().is_none_or(|brand| key.2 == brand) {
                self.rows.opt_outs.remove(self.tables, &key)?;
            }
        }
        if self.refuses(&names, &address)? {
            return Ok(());
        }
        let end = End::Address(names.tenant, address);
        for key in self.rows.bonds.beside(self.tables, &BONDS_BY_ADDRESS, End::put, &end)? {
            self.rows.bonds.remove(self.tables, &key)?;
        }
        Ok(())
    }

    /// The log says whom a refusal binds.
    pub(super) fn extended(&mut self, extended: &OptOutExtended) -> Result<(), ApplyError> {
        let names = Names::new(&extended.tenant);
        let address: SmolStr = identity(&extended.personal.address).into();
        if self.refuses(&names, &address)? {
            for other in &extended.personal.also {
                self.bind(&names, &address, &identity(other).into(), true)?;
            }
        }
        Ok(())
    }

    /// A refusal that applies to one of a person's addresses applies to all of them.
    fn bind_person(&mut self, names: &Names, address: &SmolStr) -> Result<(), ApplyError> {
        let person = self.person_of(names, address)?;
        let mut refusing = BTreeSet::new();
        for address in &person {
            if self.refuses(names, address)? {
                refusing.insert(address.clone());
            }
            let end = End::Other(names.tenant.clone(), address.clone());
            let bonds = self.rows.bonds.beside(self.tables, &BONDS_BY_OTHER, End::put, &end)?;
            refusing.extend(bonds.into_iter().map(|(_, refused, _)| refused));
        }
        for refused in &refusing {
            for other in &person {
                self.bind(names, refused, other, false)?;
            }
        }
        Ok(())
    }

    fn bind(
        &mut self,
        names: &Names,
        address: &SmolStr,
        other: &SmolStr,
        is_told: bool,
    ) -> Result<(), ApplyError> {
        if address == other {
            return Ok(());
        }
        let key = (names.tenant.clone(), address.clone(), other.clone());
        match self.rows.bonds.get(self.tables, &key)? {
            Some(bond) if bond.is_told || !is_told => Ok(()),
            Some(_) | None => self.rows.bonds.put(self.tables, key, BondRow { is_told }),
        }
    }

    /// Without a refusal there is nothing to extend, and no need to look. A refusal that existed some time ago does
    /// no harm.
    fn anybody_refuses(&mut self, names: &Names) -> Result<bool, ApplyError> {
        if let Some(refused) = self.rows.refused.get(&names.tenant) {
            return Ok(*refused);
        }
        let found = self.tables.find(&REFUSALS_OF, values![&names.tenant], |_| Ok::<_, ApplyError>(()))?;
        self.rows.refused.insert(names.tenant.clone(), found.is_some());
        Ok(found.is_some())
    }

    fn refusals_of(
        &mut self,
        names: &Names,
        address: &SmolStr,
    ) -> Result<Vec<(SmolStr, SmolStr, SmolStr)>, ApplyError> {
        let put = |(tenant, address): &(SmolStr, SmolStr), cells: &mut Cells<'_>| {
            cells.put(tenant);
            cells.put(address);
        };
        let of = (names.tenant.clone(), address.clone());
        self.rows.opt_outs.beside(self.tables, &REFUSALS, put, &of)
    }

    fn refuses(&mut self, names: &Names, address: &SmolStr) -> Result<bool, ApplyError> {
        Ok(!self.refusals_of(names, address)?.is_empty())
    }

    /// The addresses that are with this one in contacts, in their order.
    fn beside(&mut self, names: &Names, address: SmolStr) -> Result<BTreeSet<SmolStr>, ApplyError> {
        let by = Person::Address(names.tenant.clone(), address);
        let contacts = self.rows.people.beside(self.tables, &PEOPLE_BY_ADDRESS, Person::put, &by)?;
        let mut beside = BTreeSet::new();
        for (_, _, contact) in contacts {
            beside.extend(self.addresses_of(names, contact)?);
        }
        Ok(beside)
    }

    /// All addresses of the person with this one, itself included.
    fn person_of(&mut self, names: &Names, address: &SmolStr) -> Result<BTreeSet<SmolStr>, ApplyError> {
        let mut person = BTreeSet::from([address.clone()]);
        let mut to_look_at = vec![address.clone()];
        while let Some(next) = to_look_at.pop() {
            for other in self.beside(names, next)? {
                if person.len() < ADDRESSES_MAX && person.insert(other.clone()) {
                    to_look_at.push(other);
                }
            }
        }
        Ok(person)
    }
}
