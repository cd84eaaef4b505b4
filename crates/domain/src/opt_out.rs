//! A refusal of advertisements (수신거부). It applies to the tenant's advertisements on all relays and channels, and to
//! nothing else.
//!
//! It applies to every spelling of the address (see [`identity`]) and, once they are known, to the other addresses of
//! the same person. If it names a brand (상호), it applies to the advertisements of that brand, otherwise to all of
//! them. An advertisement without a known brand is stopped by every refusal.
//!
//! The address book, which is a read model, knows which addresses belong to one person. Everything that follows from
//! that is written into the log ([`OptOutExtended`]). So the log alone says which addresses a refusal applies to, and
//! it still applies when the contact is deleted.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use smol_str::{SmolStr, format_smolstr};
use std::collections::HashMap;
use unicode_normalization::UnicodeNormalization;

use crate::address::identity;
use crate::digest::short_hash;
use crate::event::Event;
use crate::mutation;
use crate::slug::TenantId;

/// The one who refuses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OptOutPerson {
    /// The number or address, as it was given.
    pub address: SmolStr,
}

/// A recipient refuses advertisements.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OptOutRecorded {
    /// Whose advertisements.
    pub tenant: TenantId,
    /// Of which brand; none: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub brand: Option<String>,
    /// How the refusal came, in the words of whoever recorded it: `080`, `web`, `customer centre`.
    pub source: String,
    /// When it came, as whoever recorded it says; none: when it was recorded.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "chrono::serde::ts_milliseconds_option"
    )]
    pub refused_at: Option<DateTime<Utc>>,
    /// Who.
    pub personal: OptOutPerson,
}

/// The recipient agrees to advertisements again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OptOutWithdrawn {
    /// Whose advertisements.
    pub tenant: TenantId,
    /// Only the refusal of this brand; none: every refusal of this address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub brand: Option<String>,
    /// Who.
    pub personal: OptOutPerson,
}

/// The personal part of [`OptOutExtended`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtendedPerson {
    /// The address that refused.
    pub address: SmolStr,
    /// Other addresses of the same person.
    pub also: Vec<SmolStr>,
}

/// The refusal also applies to these addresses, because they belong to the same person: until the address that
/// refused agrees again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OptOutExtended {
    /// Whose advertisements.
    pub tenant: TenantId,
    /// Who.
    pub personal: ExtendedPerson,
}

/// The stream of a refusal: `opt-out-<tenant>-<hash of the address>`, because the address itself is personal. Every
/// spelling of an address has the same stream. Older refusals may be in a stream of their own spelling; they are
/// folded like any other.
pub fn stream(tenant: &TenantId, address: &str) -> SmolStr {
    format_smolstr!("opt-out-{tenant}-{}", short_hash(&identity(address), 12))
}

/// The text that a brand is compared by: NFKC, lower case, single spaces.
#[must_use]
pub fn brand_identity(brand: &str) -> SmolStr {
    let folded: String = brand.nfkc().flat_map(char::to_lowercase).nfkc().collect();
    folded.split_whitespace().collect::<Vec<_>>().join(" ").into()
}

/// The brands that an advertisement is sent under.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AdBrands(Vec<SmolStr>);

impl AdBrands {
    /// Of these brands; none: unknown, and every refusal counts.
    #[must_use]
    pub fn of<B: AsRef<str>>(brands: &[B]) -> Self {
        Self(brands.iter().map(|brand| brand_identity(brand.as_ref())).collect())
    }

    fn may_be(&self, brand: &SmolStr) -> bool {
        self.0.is_empty() || self.0.contains(brand)
    }
}

/// Who refused an advertisement that an address does not get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusedBy {
    /// The address itself.
    Itself,
    /// Another address of the same person.
    SamePerson,
}

/// What one address refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Refusal {
    is_of_all: bool,
    /// Seldom there: most refuse everything, and are known by one address.
    rest: Option<Box<Rest>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Rest {
    /// Brands that are refused.
    brands: Vec<SmolStr>,
    /// Other addresses of the same person.
    also: Vec<SmolStr>,
}

impl Refusal {
    fn rest(&mut self) -> &mut Rest {
        self.rest.get_or_insert_default()
    }

    fn brands(&self) -> &[SmolStr] {
        self.rest.as_ref().map_or(&[], |rest| &rest.brands)
    }

    fn also(&self) -> &[SmolStr] {
        self.rest.as_ref().map_or(&[], |rest| &rest.also)
    }

    fn binds(&self, ad: &AdBrands) -> bool {
        self.is_of_all || self.brands().iter().any(|brand| ad.may_be(brand))
    }

    fn has(&self, brand: Option<&SmolStr>) -> bool {
        brand.map_or(self.is_of_all, |brand| self.brands().contains(brand))
    }

    fn is_over(&self) -> bool {
        !self.is_of_all && self.brands().is_empty()
    }
}

/// All refusals of a tenant's recipients, folded in the order of the log. Addresses are kept by their identity.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refusals {
    by_address: HashMap<SmolStr, Refusal>,
    /// For an address: the addresses of the same person that refused.
    by_person: HashMap<SmolStr, Vec<SmolStr>>,
}

impl Refusals {
    /// Whether this address may get such an advertisement: not if it, or another address of the same person, refused.
    #[must_use]
    pub fn refused_by(&self, address: &str, ad: &AdBrands) -> Option<RefusedBy> {
        if self.by_address.is_empty() {
            return None;
        }
        let address = identity(address);
        if self.by_address.get(address.as_ref()).is_some_and(|refusal| refusal.binds(ad)) {
            return Some(RefusedBy::Itself);
        }
        mutation::bug!(OtherAddressIgnored, return None);
        let others = self.by_person.get(address.as_ref()).into_iter().flatten();
        let mut refusals = others.filter_map(|other| self.by_address.get(other));
        refusals.any(|refusal| refusal.binds(ad)).then_some(RefusedBy::SamePerson)
    }

    /// Whether the address itself refused this brand; none: everything.
    #[must_use]
    pub fn has(&self, address: &str, brand: Option<&str>) -> bool {
        let brand = brand.map(brand_identity);
        let refusal = self.by_address.get(identity(address).as_ref());
        refusal.is_some_and(|refusal| refusal.has(brand.as_ref()))
    }

    /// Whether the address itself refused anything.
    #[must_use]
    pub fn has_any(&self, address: &str) -> bool {
        self.by_address.contains_key(identity(address).as_ref())
    }

    /// The addresses that refused anything, in no order.
    pub fn addresses(&self) -> impl Iterator<Item = &SmolStr> {
        self.by_address.keys()
    }

    /// Whether a refusal of this address, or of another one of the same person, is known.
    #[must_use]
    pub fn concerns(&self, address: &str) -> bool {
        let address = identity(address);
        self.by_address.contains_key(address.as_ref()) || self.by_person.contains_key(address.as_ref())
    }

    /// Whether the refusal of `address` is known to apply to `other`.
    #[must_use]
    pub fn is_extended(&self, address: &str, other: &str) -> bool {
        let refusal = self.by_address.get(identity(address).as_ref());
        refusal.is_some_and(|refusal| refusal.also().iter().any(|known| known.as_str() == identity(other)))
    }

    /// Takes over a stored refusal of this brand by an address; none: of everything. Both are given as identities.
    pub fn know(&mut self, address: SmolStr, brand: Option<SmolStr>) {
        let refusal = self.by_address.entry(address).or_default();
        match brand {
            None => refusal.is_of_all = true,
            Some(brand) if refusal.has(Some(&brand)) => {}
            Some(brand) => refusal.rest().brands.push(brand),
        }
    }

    /// Takes over that the refusal of `address` applies to `other`. Both are given as identities; the refusal itself
    /// must be known already.
    pub fn know_bound(&mut self, address: &SmolStr, other: SmolStr) {
        let Some(refusal) = self.by_address.get_mut(address) else { return };
        if other != *address && !refusal.also().contains(&other) {
            refusal.rest().also.push(other.clone());
            self.by_person.entry(other).or_default().push(address.clone());
        }
    }

    /// Folds an event; those that say nothing of refusals leave it as it is.
    pub fn evolve(&mut self, event: &Event) {
        match event {
            Event::OptOutRecorded(recorded) => self.recorded(recorded),
            Event::OptOutWithdrawn(withdrawn) => self.withdrawn(withdrawn),
            Event::OptOutExtended(extended) => self.extended(&extended.personal),
            _ => {}
        }
    }

    fn recorded(&mut self, recorded: &OptOutRecorded) {
        let brand = recorded.brand.as_deref().map(brand_identity);
        self.know(identity(&recorded.personal.address).into(), brand);
    }

    fn withdrawn(&mut self, withdrawn: &OptOutWithdrawn) {
        let address = identity(&withdrawn.personal.address);
        let Some(refusal) = self.by_address.get_mut(address.as_ref()) else { return };
        if let Some(brand) = withdrawn.brand.as_deref().map(brand_identity) {
            refusal.rest().brands.retain(|refused| *refused != brand);
            if !refusal.is_over() {
                return;
            }
        }
        let Some(refusal) = self.by_address.remove(address.as_ref()) else { return };
        for other in refusal.also() {
            if let Some(refused) = self.by_person.get_mut(other) {
                refused.retain(|one| one.as_str() != address);
                if refused.is_empty() {
                    self.by_person.remove(other);
                }
            }
        }
    }

    /// What was taken back before this was written binds nobody.
    fn extended(&mut self, person: &ExtendedPerson) {
        let address: SmolStr = identity(&person.address).into();
        for other in &person.also {
            self.know_bound(&address, identity(other).into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant() -> TenantId {
        TenantId::parse("acme").unwrap()
    }

    fn recorded(address: &str, brand: Option<&str>) -> Event {
        OptOutRecorded {
            tenant: tenant(),
            brand: brand.map(Into::into),
            source: "080".to_owned(),
            refused_at: None,
            personal: OptOutPerson { address: address.into() },
        }
        .into()
    }

    fn withdrawn(address: &str, brand: Option<&str>) -> Event {
        let personal = OptOutPerson { address: address.into() };
        OptOutWithdrawn { tenant: tenant(), brand: brand.map(Into::into), personal }.into()
    }

    fn extended(address: &str, also: &[&str]) -> Event {
        let also = also.iter().map(SmolStr::new).collect();
        OptOutExtended { tenant: tenant(), personal: ExtendedPerson { address: address.into(), also } }.into()
    }

    fn after(events: &[Event]) -> Refusals {
        let mut refusals = Refusals::default();
        events.iter().for_each(|event| refusals.evolve(event));
        refusals
    }

    fn ad(brands: &[&str]) -> AdBrands {
        AdBrands::of(brands)
    }

    #[test]
    fn the_stream_of_a_refusal_is_for_ever() {
        assert_eq!(stream(&tenant(), "01012345678"), "opt-out-acme-e60124f2fe2045215abda1ae");
        assert_eq!(stream(&tenant(), "Case@Example.com"), stream(&tenant(), "case@example.com"));
    }

    #[test]
    fn a_refusal_binds_every_spelling_of_its_address() {
        let refusals = after(&[recorded("Case@example.com", None), recorded("kim@한국.kr", None)]);
        for address in ["case@example.com", "CASE@example.com", "kim@xn--3e0b707e.kr"] {
            assert_eq!(refusals.refused_by(address, &ad(&[])), Some(RefusedBy::Itself), "{address}");
        }
        assert_eq!(refusals.refused_by("other@example.com", &ad(&[])), None);
        let again = after(&[recorded("Case@example.com", None), withdrawn("case@EXAMPLE.com", None)]);
        assert_eq!(again, Refusals::default(), "and so does its withdrawal");
    }

    #[test]
    fn a_refusal_of_a_brand_binds_that_brand_and_ads_of_no_known_brand() {
        let refusals = after(&[recorded("1", Some("Acme  Shoes"))]);
        assert!(refusals.refused_by("1", &ad(&["ACME shoes"])).is_some());
        assert!(refusals.refused_by("1", &ad(&["Acme Hats", "acme shoes"])).is_some());
        assert!(refusals.refused_by("1", &ad(&["Acme Hats"])).is_none());
        assert!(refusals.refused_by("1", &ad(&[])).is_some());
        let all = after(&[recorded("1", Some("Acme Shoes")), recorded("1", None)]);
        assert!(all.refused_by("1", &ad(&["Acme Hats"])).is_some());
    }

    #[test]
    fn a_withdrawal_takes_back_what_it_names() {
        let refused = [recorded("1", None), recorded("1", Some("A")), recorded("1", Some("B"))];
        let mut refusals = after(&refused);
        refusals.evolve(&withdrawn("1", Some("a")));
        assert!(refusals.has("1", None) && refusals.has("1", Some("B")) && !refusals.has("1", Some("A")));
        refusals.evolve(&withdrawn("1", None));
        assert_eq!(refusals, Refusals::default());
        assert_eq!(after(&[recorded("1", Some("A")), withdrawn("1", Some("A"))]), Refusals::default());
    }

    #[test]
    fn a_refusal_binds_the_other_addresses_of_the_person() {
        let mut refusals = after(&[recorded("1", Some("A")), extended("1", &["Kim@example.com", "1"])]);
        assert_eq!(refusals.refused_by("kim@example.com", &ad(&["A"])), Some(RefusedBy::SamePerson));
        assert_eq!(refusals.refused_by("kim@example.com", &ad(&["B"])), None);
        assert!(refusals.is_extended("1", "KIM@example.com") && !refusals.is_extended("1", "2"));
        assert!(refusals.concerns("kim@example.com") && !refusals.has_any("kim@example.com"));
        refusals.evolve(&recorded("1", None));
        assert!(
            refusals.refused_by("kim@example.com", &ad(&["B"])).is_some(),
            "whatever it refuses later, too"
        );
        refusals.evolve(&withdrawn("1", None));
        assert_eq!(refusals, Refusals::default());
    }

    #[test]
    fn two_refusals_of_a_person_are_taken_back_one_by_one() {
        let mut refusals = after(&[recorded("1", None), recorded("2", None), extended("1", &["2", "3"])]);
        refusals.evolve(&extended("2", &["1", "3"]));
        refusals.evolve(&withdrawn("1", None));
        for address in ["1", "3"] {
            assert_eq!(refusals.refused_by(address, &ad(&[])), Some(RefusedBy::SamePerson), "{address}");
        }
        refusals.evolve(&withdrawn("2", None));
        assert_eq!(refusals, Refusals::default());
    }

    #[test]
    fn what_was_taken_back_is_not_extended() {
        let refusals = after(&[recorded("1", None), withdrawn("1", None), extended("1", &["2"])]);
        assert_eq!(refusals, Refusals::default());
        let again =
            after(&[recorded("1", None), withdrawn("1", None), extended("1", &["2"]), recorded("1", None)]);
        assert_eq!(again.refused_by("2", &ad(&[])), None);
    }

    #[test]
    fn a_refusal_of_an_earlier_version_is_one_of_everything() {
        let data = br#"{"tenant":"acme","source":"080","personal":{"address":"Case@example.com"}}"#;
        let event = Event::from_json("opt-out-recorded", 1, data).unwrap();
        assert_eq!(event, recorded("Case@example.com", None));
        assert_eq!(event.to_json(), data);
    }
}
