//! Who has refused advertisements, by which address, and since when every process must know.

use chrono::{DateTime, Utc};
use kite_domain::contact::ContactDetails;
use kite_domain::ids::ContactId;
use kite_domain::opt_out::ExtendedPerson;
use kite_domain::slug::TenantId;
use kite_event_store::Position;
use std::collections::BTreeMap;

use super::Checked;
use super::noted::notice;

/// One refusal.
#[derive(Debug, Clone, Copy)]
struct Refusal {
    position: Position,
    /// When whoever recorded it was told that it is recorded.
    told_at: Option<DateTime<Utc>>,
    /// When it was taken back.
    withdrawn_at: Option<DateTime<Utc>>,
}

/// That a refusal applies to another address of the same person.
#[derive(Debug, Clone, Copy)]
struct Bond {
    /// Since when it is known that both are one person's.
    due_at: DateTime<Utc>,
    /// Where, and since when, the log says so.
    extended: Option<(Position, DateTime<Utc>)>,
    /// When the refusal was taken back.
    ended_at: Option<DateTime<Utc>>,
}

/// Everybody who ever refused.
#[derive(Debug, Default)]
pub(crate) struct People {
    refusals: BTreeMap<(TenantId, String), Refusal>,
    /// Contacts with a number and an e-mail address.
    contacts: BTreeMap<(TenantId, ContactId), [String; 2]>,
    /// By tenant, the address that is bound, and the address that refused.
    bonds: BTreeMap<(TenantId, String, String), Bond>,
}

impl People {
    pub(crate) fn refuses(
        &mut self,
        tenant: &TenantId,
        address: &str,
        position: Position,
        at: DateTime<Utc>,
    ) {
        let refusal = Refusal { position, told_at: None, withdrawn_at: None };
        self.refusals.insert((tenant.clone(), address.to_owned()), refusal);
        let pairs: Vec<[String; 2]> = self
            .contacts
            .iter()
            .filter(|((whose, _), _)| whose == tenant)
            .map(|(_, pair)| pair.clone())
            .collect();
        pairs.iter().for_each(|pair| self.bind(tenant, pair, at));
    }

    pub(crate) fn agrees(&mut self, tenant: &TenantId, address: &str, at: DateTime<Utc>) {
        if let Some(refusal) = self.refusals.get_mut(&(tenant.clone(), address.to_owned())) {
            refusal.withdrawn_at = Some(at);
        }
        for ((whose, _, refused), bond) in &mut self.bonds {
            if whose == tenant && refused == address {
                bond.ended_at.get_or_insert(at);
            }
        }
    }

    pub(crate) fn is_saved(&mut self, tenant: &TenantId, contact: &ContactDetails, at: DateTime<Utc>) {
        let key = (tenant.clone(), contact.contact);
        match (&contact.phone, &contact.email) {
            (Some(phone), Some(email)) => {
                let pair = [phone.to_string(), email.to_string()];
                self.bind(tenant, &pair, at);
                self.contacts.insert(key, pair);
            }
            _ => drop(self.contacts.remove(&key)),
        }
    }

    pub(crate) fn is_deleted(&mut self, tenant: &TenantId, contact: ContactId) {
        self.contacts.remove(&(tenant.clone(), contact));
    }

    /// Two addresses are one person's.
    fn bind(&mut self, tenant: &TenantId, pair: &[String; 2], at: DateTime<Utc>) {
        let [phone, email] = pair;
        for (refused, other) in [(phone, email), (email, phone)] {
            let refusal = self.refusals.get(&(tenant.clone(), refused.clone()));
            if refusal.is_none_or(|refusal| refusal.withdrawn_at.is_some()) {
                continue;
            }
            let key = (tenant.clone(), other.clone(), refused.clone());
            let bond = self.bonds.entry(key).or_insert(Bond { due_at: at, extended: None, ended_at: None });
            if bond.ended_at.is_some() {
                *bond = Bond { due_at: at, extended: None, ended_at: None };
            }
        }
    }

    /// The log says whom a refusal binds.
    pub(crate) fn extended(
        &mut self,
        tenant: &TenantId,
        person: &ExtendedPerson,
        position: Position,
        at: DateTime<Utc>,
    ) -> Checked {
        for other in &person.also {
            let key = (tenant.clone(), other.to_string(), person.address.to_string());
            let Some(bond) = self.bonds.get_mut(&key) else {
                return Err(format!("a refusal of {} binds {other}, who is somebody else", person.address));
            };
            // What was taken back a moment before binds nobody.
            if bond.ended_at.is_none() {
                bond.extended.get_or_insert((position, at));
            }
        }
        Ok(())
    }

    /// Law 9: what has been known about people for this long is in the log.
    pub(crate) fn are_extended(&self, known_by: DateTime<Utc>) -> Checked {
        let missing = self
            .bonds
            .iter()
            .find(|(_, bond)| bond.ended_at.is_none() && bond.extended.is_none() && bond.due_at < known_by);
        match missing {
            Some(((_, other, refused), bond)) => {
                let since = bond.due_at;
                Err(format!("law 9: {refused} refused, and since {since} nobody says that it binds {other}"))
            }
            None => Ok(()),
        }
    }

    /// The request that recorded it was answered.
    pub(crate) fn told(&mut self, tenant: &TenantId, address: &str, now: DateTime<Utc>) {
        if let Some(refusal) = self.refusals.get_mut(&(tenant.clone(), address.to_owned())) {
            refusal.told_at.get_or_insert(now);
        }
    }

    fn bonds_of<'p>(&'p self, tenant: &'p TenantId, address: &'p str) -> impl Iterator<Item = &'p Bond> {
        let bonds = self.bonds.iter();
        let of_address = bonds.filter(move |((whose, other, _), _)| whose == tenant && other == address);
        of_address.map(|(_, bond)| bond)
    }

    /// Whether somebody who decides at `time` in a process that began at `began_at` must know of a refusal.
    pub(crate) fn is_known(
        &self,
        tenant: &TenantId,
        address: &str,
        time: DateTime<Utc>,
        began_at: Position,
    ) -> bool {
        let refusal = self.refusals.get(&(tenant.clone(), address.to_owned()));
        let is_refused = refusal.is_some_and(|refusal| {
            refusal.withdrawn_at.is_none()
                && (refusal.position <= began_at || refusal.told_at.is_some_and(|told_at| told_at < time))
        });
        is_refused
            || self.bonds_of(tenant, address).any(|bond| {
                let is_read = |(position, at)| position <= began_at || at + notice() < time;
                bond.ended_at.is_none() && bond.extended.is_some_and(is_read)
            })
    }

    /// Whether somebody who decides at `time` may believe that there is a refusal.
    pub(crate) fn may_refuse(&self, tenant: &TenantId, address: &str, time: DateTime<Utc>) -> bool {
        let may = |ended_at: Option<DateTime<Utc>>| ended_at.is_none_or(|at| at + notice() >= time);
        let refusal = self.refusals.get(&(tenant.clone(), address.to_owned()));
        refusal.is_some_and(|refusal| may(refusal.withdrawn_at))
            || self.bonds_of(tenant, address).any(|bond| may(bond.ended_at))
    }

    /// Whether the address ever was that of somebody who refused.
    pub(crate) fn ever_refused(&self, tenant: &TenantId, address: &str) -> bool {
        self.refusals.contains_key(&(tenant.clone(), address.to_owned()))
            || self.bonds_of(tenant, address).next().is_some()
    }
}
