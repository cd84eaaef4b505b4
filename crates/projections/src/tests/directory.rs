//! What is in force, and what recipients refuse.

use kite_domain::event::Event;
use kite_domain::in_force;
use kite_domain::opt_out::{
    self, ExtendedPerson, OptOutExtended, OptOutPerson, OptOutRecorded, OptOutWithdrawn, Refusals,
};
use kite_domain::relay::{RelayResumed, RelaySuspended};
use kite_domain::tenant::{ApiKeyRevoked, TenantCreated};
use smol_str::SmolStr;

use super::{Bench, at, relay, tenant};
use crate::directory::DirectoryModel;
use crate::read_model::ReadModel;

fn created(name: &str) -> Event {
    TenantCreated { tenant: tenant(), name: name.to_owned() }.into()
}

fn suspended(reason: &str) -> Event {
    RelaySuspended { relay: relay("alpha"), reason: reason.to_owned() }.into()
}

fn recorded(address: &str, brand: Option<&str>) -> Event {
    OptOutRecorded {
        tenant: tenant(),
        brand: brand.map(str::to_owned),
        source: "080".to_owned(),
        refused_at: None,
        personal: OptOutPerson { address: address.into() },
    }
    .into()
}

fn extended(address: &str, other: &str) -> Event {
    let personal = ExtendedPerson { address: address.into(), also: vec![other.into()] };
    OptOutExtended { tenant: tenant(), personal }.into()
}

fn withdrawn(address: &str) -> Event {
    let personal = OptOutPerson { address: address.into() };
    OptOutWithdrawn { tenant: tenant(), brand: None, personal }.into()
}

fn about(bench: &mut Bench, address: &str, event: Event) {
    bench.append(&opt_out::stream(&tenant(), address), at(0), vec![event]);
}

#[test]
fn where_the_events_in_force_stand_is_known_in_the_order_of_the_log() {
    let mut bench = Bench::new();
    bench.append("tenant-acme", at(0), vec![created("Acme")]);
    bench.append("relay-alpha", at(0), vec![suspended("a"), suspended("b")]);
    let revoked = ApiKeyRevoked { tenant: tenant(), key_id: "k".into() };
    bench.append("tenant-acme", at(0), vec![created("Acme Ltd"), revoked.into()]);
    bench.append("relay-alpha", at(0), vec![RelayResumed { relay: relay("alpha") }.into()]);
    bench.project();
    let known = bench.models.directory.in_force().unwrap().unwrap();
    let places: Vec<(&str, u64)> =
        known.events.iter().map(|(stream, version)| (&**stream, *version)).collect();
    assert_eq!(places, [("tenant-acme", 2), ("tenant-acme", 3), ("relay-alpha", 3)]);
    assert_eq!(known.position, 6);
    assert_eq!(bench.models.directory.in_force_of("tenant-acme").unwrap(), Some(vec![2, 3]));
    assert_eq!(bench.models.directory.in_force_of("nothing").unwrap(), Some(vec![]));
}

#[test]
fn where_an_event_is_parked_nobody_says_that_all_is_known() {
    let mut bench = Bench::new();
    bench.append("tenant-acme", at(0), vec![created("Acme")]);
    bench.append_raw("relay-alpha", at(0), vec![("relay-suspended", 1, b"[".to_vec())]);
    bench.project();
    let directory = &bench.models.directory;
    assert_eq!(directory.in_force().unwrap(), None);
    assert_eq!(directory.in_force_of("relay-alpha").unwrap(), None);
    assert_eq!(directory.in_force_of("tenant-acme").unwrap(), Some(vec![1]), "this stream is known");
}

#[test]
fn refusals_are_found_for_many_addresses_and_are_those_that_the_log_makes() {
    let mut bench = Bench::new();
    let mut all = Refusals::default();
    let number = |number: u32| format!("0102000{number:04}");
    for one in 0..450 {
        let mut events = vec![recorded(&number(one), (one % 3 == 0).then_some("Acme Shoes"))];
        if one % 5 == 0 {
            events.push(extended(&number(one), &number(one + 1_000)));
        }
        if one % 7 == 0 {
            events.push(withdrawn(&number(one)));
        }
        for event in events {
            all.evolve(&event);
            about(&mut bench, &number(one), event);
        }
    }
    bench.project();
    let asked: Vec<SmolStr> = (0..1_450).map(|one| number(one).into()).collect();
    let found = bench.models.address_book.refusals(&tenant(), &asked).unwrap();
    assert_eq!((&found.refusals, found.position), (&all, bench.head()));
    assert!(found.parked.is_empty());
    let few = bench.models.address_book.refusals(&tenant(), &[number(1_005).into()]).unwrap();
    let known: Vec<&SmolStr> = few.refusals.addresses().collect();
    assert_eq!(known, [&number(5)], "who refused for the one that was asked for");
    let none = bench.models.address_book.refusals(&tenant(), &[]).unwrap();
    assert_eq!(none.refusals, Refusals::default());
}

#[test]
fn refusals_that_are_parked_are_named() {
    let mut bench = Bench::new();
    about(&mut bench, "01020000001", recorded("01020000001", None));
    let stream = opt_out::stream(&tenant(), "01020000002");
    bench.append_raw(&stream, at(0), vec![("opt-out-recorded", 1, b"[".to_vec())]);
    about(&mut bench, "01020000002", recorded("01020000002", None));
    bench.append_raw("opt-out-other-1", at(0), vec![("opt-out-recorded", 1, b"[".to_vec())]);
    bench.project();
    let found = bench.models.address_book.refusals(&tenant(), &["01020000002".into()]).unwrap();
    assert_eq!(found.parked, [stream]);
    assert_eq!(found.refusals, Refusals::default());
}

/// A file that has passed events without knowing them lacks them for ever.
#[test]
fn whoever_changes_what_is_in_force_raises_the_version_of_the_file() {
    assert_eq!((DirectoryModel::SCHEMA_VERSION, in_force::KINDS.len()), (1, 28));
}
