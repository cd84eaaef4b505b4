//! Contacts, merging, groups, and the rest of the book.

use kite_domain::contact::{
    ContactDeleted, ContactDetails, ContactsPersonal, ContactsSaved, GroupDeleted, GroupMembersChanged,
    GroupSaved,
};
use kite_domain::event::Event;
use kite_domain::ids::{ContactId, GroupId};
use kite_domain::opt_out::{ExtendedPerson, OptOutExtended, OptOutPerson, OptOutRecorded, OptOutWithdrawn};
use kite_domain::sender::{
    SaidBy, SenderApproved, SenderKind, SenderRefused, SenderRegistered, SenderRequested, SenderStatus,
    SenderTerms, SenderWithdrawn,
};
use kite_domain::slug::TenantId;
use kite_domain::tenant::TenantCreated;
use proptest::prelude::*;
use std::collections::BTreeMap;
use uuid::Uuid;

use super::{Bench, at, relay, run, tenant};
use crate::address_book::ContactFilter;
use crate::replay;

fn contact_id(number: u128) -> ContactId {
    ContactId(Uuid::from_u128(number))
}

fn group_id(number: u128) -> GroupId {
    GroupId(Uuid::from_u128(1_000 + number))
}

fn details(number: u128, name: &str, phone: Option<&str>, email: Option<&str>) -> ContactDetails {
    ContactDetails {
        contact: contact_id(number),
        name: name.to_owned(),
        phone: phone.map(Into::into),
        email: email.map(Into::into),
        tags: vec![],
        fields: BTreeMap::new(),
    }
}

fn saved(contacts: Vec<ContactDetails>, group: Option<GroupId>) -> Event {
    ContactsSaved { tenant: tenant(), group, personal: ContactsPersonal { contacts } }.into()
}

fn group(number: u128, name: &str) -> Event {
    GroupSaved { tenant: tenant(), group: group_id(number), name: name.to_owned() }.into()
}

fn bench(events: Vec<Event>) -> Bench {
    let mut bench = Bench::new();
    for (time, event) in (0..).zip(events) {
        bench.append("contact-book-acme-202510", at(time), vec![event]);
    }
    bench.project();
    bench
}

#[test]
fn contacts_are_found_by_name_number_address_tag_and_group() {
    let mut tagged = details(2, "김민수", Some("01022220000"), Some("minsu@example.com"));
    tagged.tags = vec!["vip".into()];
    let bench = bench(vec![
        group(1, "regulars"),
        saved(vec![details(1, "Anna Lee", Some("01011110000"), None), tagged], None),
        saved(vec![details(3, "Berta", None, Some("berta@example.org"))], Some(group_id(1))),
    ]);
    let book = &bench.models.address_book;
    let find = |filter: ContactFilter| {
        let found = book.contacts(&tenant(), &filter, None, 9).unwrap().items;
        found.into_iter().map(|contact| contact.name).collect::<Vec<_>>()
    };
    let text = |text: &str| ContactFilter { text: Some(text.to_owned()), ..ContactFilter::default() };
    assert_eq!(find(text("anna")), ["Anna Lee"]);
    assert_eq!(find(text("민수")), ["김민수"]);
    assert_eq!(find(text("010-2222")), ["김민수"]);
    assert_eq!(find(text("EXAMPLE.")), ["김민수", "Berta"]);
    assert_eq!(find(ContactFilter { tag: Some("vip".into()), ..ContactFilter::default() }), ["김민수"]);
    assert_eq!(find(ContactFilter { group: Some(group_id(1)), ..ContactFilter::default() }), ["Berta"]);
    assert_eq!(find(text("%")), Vec::<String>::new());
    let first = book.contacts(&tenant(), &ContactFilter::default(), None, 2).unwrap();
    let rest = book.contacts(&tenant(), &ContactFilter::default(), first.next.as_ref(), 2).unwrap();
    assert_eq!((first.items.len(), rest.items[0].name.as_str(), rest.next), (2, "Berta", None));
    let other = TenantId::parse("other").unwrap();
    assert!(book.contacts(&other, &ContactFilter::default(), None, 9).unwrap().items.is_empty());
    assert_eq!(book.contact(&other, contact_id(1)).unwrap(), None);
}

#[test]
fn contacts_that_share_an_address_become_the_oldest_of_them() {
    let mut third = details(3, "Three", Some("01011110000"), Some("two@example.com"));
    third.fields = BTreeMap::from([("city".into(), "Busan".to_owned())]);
    let bench = bench(vec![
        group(1, "one"),
        group(2, "two"),
        saved(vec![details(1, "One", Some("01011110000"), None)], Some(group_id(1))),
        saved(vec![details(2, "Two", None, Some("two@example.com"))], Some(group_id(2))),
        saved(vec![third], None),
    ]);
    let book = &bench.models.address_book;
    let merged = book.contact(&tenant(), contact_id(2)).unwrap().unwrap();
    assert_eq!((merged.id, merged.name.as_str()), (contact_id(1), "Three"));
    assert_eq!(
        (merged.phone.as_deref(), merged.email.as_deref()),
        (Some("01011110000"), Some("two@example.com"))
    );
    assert_eq!((merged.groups.clone(), merged.created_at), (vec![group_id(1), group_id(2)], at(2)));
    assert_eq!(merged.fields.get("city").map(String::as_str), Some("Busan"));
    assert_eq!(book.contact(&tenant(), contact_id(3)).unwrap().unwrap(), merged);
    assert_eq!(book.contacts(&tenant(), &ContactFilter::default(), None, 9).unwrap().items.len(), 1);
    assert_eq!(book.group(&tenant(), group_id(2)).unwrap().unwrap().members, 1);
    assert_eq!(book.contact_by_address(&tenant(), "two@example.com").unwrap(), Some(merged.clone()));
    let by_id = book.contacts_by_id(&tenant(), &[contact_id(9), contact_id(3)]).unwrap();
    assert_eq!((by_id[0].is_none(), by_id[1].as_ref().unwrap().id), (true, contact_id(1)));
}

#[test]
fn without_a_merge_a_contact_is_as_it_was_saved() {
    let bench = bench(vec![
        saved(vec![details(1, "One", Some("01011110000"), Some("one@example.com"))], None),
        saved(vec![details(1, "Uno", Some("01099990000"), None)], None),
        saved(vec![details(2, "Two", Some("01011110000"), None)], None),
    ]);
    let book = &bench.models.address_book;
    let one = book.contact(&tenant(), contact_id(1)).unwrap().unwrap();
    assert_eq!((one.name.as_str(), one.email, one.updated_at), ("Uno", None, at(1)));
    let two = book.contact(&tenant(), contact_id(2)).unwrap().unwrap();
    assert_eq!(
        (two.id, two.phone.as_deref()),
        (contact_id(2), Some("01011110000")),
        "the number was free again"
    );
}

#[test]
fn a_group_is_gone_through_in_pieces() {
    let contacts =
        (0..2_500).map(|number| details(number, "", Some(format!("010{number:08}").as_str()), None));
    let bench = bench(vec![group(1, "all"), saved(contacts.collect(), Some(group_id(1)))]);
    let book = &bench.models.address_book;
    assert_eq!(book.group_by_name(&tenant(), "all").unwrap().unwrap().members, 2_500);
    let mut phones = Vec::new();
    let mut after = None;
    loop {
        let piece = book.group_members(&tenant(), group_id(1), after, 1_000).unwrap();
        let Some(last) = piece.last() else { break };
        assert!(piece.len() <= 1_000);
        after = Some(last.id);
        phones.extend(piece.into_iter().map(|contact| contact.phone.unwrap()));
    }
    assert!(phones.len() == 2_500 && phones.is_sorted());
    let other = TenantId::parse("other").unwrap();
    assert!(book.group_members(&other, group_id(1), None, 9).unwrap().is_empty());
}

#[test]
fn leaving_deleting_and_removing_a_group_keep_the_counts_right() {
    let changed = |added: Vec<u128>, removed: Vec<u128>| -> Event {
        GroupMembersChanged {
            tenant: tenant(),
            group: group_id(1),
            added: added.into_iter().map(contact_id).collect(),
            removed: removed.into_iter().map(contact_id).collect(),
        }
        .into()
    };
    let contacts = |numbers: std::ops::Range<u128>| {
        saved(numbers.map(|number| details(number, "x", None, None)).collect(), None)
    };
    let mut bench = bench(vec![
        group(1, "all"),
        contacts(1..5),
        changed(vec![1, 2, 3, 77], vec![]),
        changed(vec![1, 4], vec![2, 2]),
        ContactDeleted { tenant: tenant(), contact: contact_id(3) }.into(),
    ]);
    assert_eq!(bench.models.address_book.group(&tenant(), group_id(1)).unwrap().unwrap().members, 2);
    assert_eq!(bench.models.address_book.contact(&tenant(), contact_id(3)).unwrap(), None);
    bench.append("b", at(9), vec![GroupDeleted { tenant: tenant(), group: group_id(1) }.into()]);
    bench.project();
    assert!(bench.models.address_book.groups(&tenant(), None, 9).unwrap().items.is_empty());
    let one = bench.models.address_book.contact(&tenant(), contact_id(1)).unwrap().unwrap();
    assert!(one.groups.is_empty());
}

#[test]
fn refusals_senders_and_tenants() {
    let person = || OptOutPerson { address: "01011110000".into() };
    let refusal = |source: &str| -> Event {
        OptOutRecorded {
            tenant: tenant(),
            brand: None,
            source: source.to_owned(),
            refused_at: None,
            personal: person(),
        }
        .into()
    };
    let sender = registered("0212345678");
    let mut bench = bench(vec![
        TenantCreated { tenant: tenant(), name: "Acme".to_owned() }.into(),
        sender.into(),
        saved(vec![details(1, "One", Some("01011110000"), None)], None),
        refusal("080"),
        refusal("web"),
    ]);
    let book = bench.models.address_book.clone();
    let refused = book.opt_outs_of(&tenant(), "01011110000").unwrap().remove(0);
    assert_eq!((refused.source.as_str(), refused.since), ("080", at(3)), "the first one counts");
    assert!(book.contact(&tenant(), contact_id(1)).unwrap().unwrap().opted_out);
    assert_eq!(book.opt_outs(&tenant(), None, 9).unwrap().items.len(), 1);
    let shown = book.sender(&tenant(), "0212345678").unwrap().unwrap();
    assert_eq!(shown.sends_with(at(9)).unwrap().relays, [relay("alpha")]);
    assert_eq!(shown.approval.unwrap().by, SaidBy { actor: "test".into(), at: at(1) });
    assert_eq!(book.tenants().unwrap()[0].name, "Acme");
    let withdrawn = OptOutWithdrawn { tenant: tenant(), brand: None, personal: person() };
    let gone = SenderWithdrawn { tenant: tenant(), address: "0212345678".into(), reason: None };
    bench.append("x", at(9), vec![withdrawn.into(), gone.into()]);
    bench.project();
    assert!(book.opt_outs_of(&tenant(), "01011110000").unwrap().is_empty());
    let senders = book.senders(&tenant()).unwrap();
    assert_eq!(senders[0].sends_with(at(9)), Err(SenderStatus::Withdrawn));
}

fn registered(address: &str) -> SenderRegistered {
    SenderRegistered {
        tenant: tenant(),
        address: address.into(),
        kind: SenderKind::Phone,
        brand: Some("Acme".to_owned()),
        refusal_number: Some("0801234567".into()),
        relays: vec![relay("alpha")],
    }
}

#[test]
fn a_sender_shows_what_was_said_of_it_last_whatever_its_address_is_written_like() {
    let terms = |address: &str| SenderTerms { address: address.into(), ..registered("").terms() };
    let asked =
        |address: &str| -> Event { SenderRequested { tenant: tenant(), terms: terms(address) }.into() };
    let approved = SenderApproved {
        tenant: tenant(),
        terms: terms("News@example.com"),
        document: "2027-1".to_owned(),
        expires_at: at(1_000_000),
        shared: false,
    };
    let refused = SenderRefused {
        tenant: tenant(),
        address: "0212345678".into(),
        reason: "the certificate is of another company".to_owned(),
    };
    let bench = bench(vec![asked("News@example.com"), asked("0212345678"), approved.into(), refused.into()]);
    let book = bench.models.address_book.clone();
    let mail = book.sender(&tenant(), "news@EXAMPLE.com").unwrap().unwrap();
    assert_eq!(mail.status(at(999_999)), SenderStatus::Approved);
    assert_eq!(mail.status(at(1_000_000)), SenderStatus::Expired);
    assert_eq!(mail.approval.unwrap().document.as_deref(), Some("2027-1"));
    let phone = book.sender(&tenant(), "0212345678").unwrap().unwrap();
    assert_eq!((phone.status(at(9)), phone.request), (SenderStatus::Refused, None));
    assert_eq!(book.senders(&tenant()).unwrap().len(), 2);
    assert!(book.senders(&TenantId::from_trusted("rival")).unwrap().is_empty());
}

fn refuses(address: &str, brand: Option<&str>) -> Event {
    OptOutRecorded {
        tenant: tenant(),
        brand: brand.map(Into::into),
        source: "080".to_owned(),
        refused_at: Some(at(-9)),
        personal: OptOutPerson { address: address.into() },
    }
    .into()
}

fn agrees(address: &str, brand: Option<&str>) -> Event {
    let personal = OptOutPerson { address: address.into() };
    OptOutWithdrawn { tenant: tenant(), brand: brand.map(Into::into), personal }.into()
}

fn extended(address: &str, also: &[&str]) -> Event {
    let also = also.iter().map(|other| (*other).into()).collect();
    OptOutExtended { tenant: tenant(), personal: ExtendedPerson { address: address.into(), also } }.into()
}

fn deleted(number: u128) -> Event {
    ContactDeleted { tenant: tenant(), contact: contact_id(number) }.into()
}

/// Of whom the log does not say yet that a refusal binds them.
fn unextended(bench: &Bench) -> Vec<(String, String)> {
    let bonds = bench.models.address_book.unextended_refusals(None, 99).unwrap();
    bonds.into_iter().map(|bond| (bond.address.to_string(), bond.other.to_string())).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(address, other)| ((*address).to_owned(), (*other).to_owned())).collect()
}

const PHONE: &str = "01011110000";
const OTHER_PHONE: &str = "01022220000";

#[test]
fn a_refusal_should_bind_what_a_contact_has_whichever_came_first() {
    let contact = || saved(vec![details(1, "One", Some(PHONE), Some("Kim@example.com"))], None);
    for events in [vec![contact(), refuses(PHONE, None)], vec![refuses(PHONE, None), contact()]] {
        let mut bench = bench(events);
        assert_eq!(unextended(&bench), pairs(&[(PHONE, "kim@example.com")]));
        bench.append("x", at(9), vec![extended(PHONE, &["kim@example.com"])]);
        bench.project();
        assert_eq!(unextended(&bench), [], "the log says so");
        bench.append("x", at(10), vec![agrees(PHONE, None)]);
        bench.project();
        let one = bench.models.address_book.contact(&tenant(), contact_id(1)).unwrap().unwrap();
        assert!(!one.opted_out);
    }
}

#[test]
fn a_refusal_outlives_its_contact_and_what_is_given_up_is_no_longer_theirs() {
    let contact = |phone| saved(vec![details(1, "One", Some(phone), Some("kim@example.com"))], None);
    let gone = bench(vec![contact(PHONE), refuses(PHONE, None), deleted(1)]);
    assert_eq!(unextended(&gone), pairs(&[(PHONE, "kim@example.com")]));
    let before = bench(vec![contact(PHONE), deleted(1), refuses(PHONE, None)]);
    assert_eq!(unextended(&before), [], "nobody knows it any more");
    let given_up = bench(vec![contact(PHONE), contact(OTHER_PHONE), refuses(PHONE, None)]);
    assert_eq!(unextended(&given_up), [], "the number may be somebody else's by now");
    let moved = bench(vec![contact(PHONE), refuses(PHONE, None), contact(OTHER_PHONE)]);
    let known = [(PHONE, OTHER_PHONE), (PHONE, "kim@example.com")];
    assert_eq!(unextended(&moved), pairs(&known), "who has refused goes on refusing under a new number");
}

#[test]
fn contacts_that_were_merged_are_one_person() {
    let merged = bench(vec![
        saved(vec![details(1, "One", Some(PHONE), Some("a@example.com"))], None),
        saved(vec![details(2, "Two", Some(OTHER_PHONE), Some("b@example.com"))], None),
        saved(vec![details(3, "Three", Some(PHONE), Some("b@example.com"))], None),
        refuses(OTHER_PHONE, None),
    ]);
    let all = [(OTHER_PHONE, PHONE), (OTHER_PHONE, "a@example.com"), (OTHER_PHONE, "b@example.com")];
    assert_eq!(unextended(&merged), pairs(&all));
    let one = merged.models.address_book.contact(&tenant(), contact_id(3)).unwrap().unwrap();
    assert!(one.opted_out, "whoever it is refused by an address that no contact shows any more");
}

#[test]
fn a_refusal_binds_the_number_that_a_contact_gets_by_a_merge() {
    let one = |number, phone| saved(vec![details(number, "One", Some(phone), None)], None);
    let merged = bench(vec![one(1, PHONE), one(2, OTHER_PHONE), refuses(OTHER_PHONE, None), one(2, PHONE)]);
    assert_eq!(unextended(&merged), pairs(&[(OTHER_PHONE, PHONE)]));
}

#[test]
fn a_contact_shows_what_the_person_refuses() {
    let mut bench = bench(vec![
        saved(
            vec![
                details(1, "One", Some(PHONE), Some("Kim@example.com")),
                details(2, "Two", Some(OTHER_PHONE), None),
            ],
            None,
        ),
        refuses("kim@EXAMPLE.com", Some("Shoes")),
        refuses("KIM@example.com", Some("Hats")),
    ]);
    let shown = |bench: &Bench, number| {
        let book = &bench.models.address_book;
        let contact = book.contact(&tenant(), contact_id(number)).unwrap().unwrap();
        (contact.opted_out, contact.refused_brands)
    };
    assert_eq!(shown(&bench, 1), (true, vec!["Hats".to_owned(), "Shoes".to_owned()]));
    assert_eq!(shown(&bench, 2), (false, vec![]));
    let listed = bench.models.address_book.opt_outs(&tenant(), None, 1).unwrap();
    assert_eq!(listed.items[0].brand.as_deref(), Some("Hats"));
    assert_eq!((listed.items[0].refused_at, listed.items[0].since), (at(-9), at(2)));
    let next = bench.models.address_book.opt_outs(&tenant(), listed.next.as_ref(), 1).unwrap();
    assert_eq!((next.items[0].brand.as_deref(), next.next), (Some("Shoes"), None));
    bench.append("x", at(9), vec![refuses(PHONE, None)]);
    bench.project();
    assert_eq!(shown(&bench, 1), (true, vec![]), "those of all brands");
    bench.append("x", at(10), vec![agrees(PHONE, None), agrees("kim@example.com", Some("hats"))]);
    bench.project();
    assert_eq!(shown(&bench, 1), (true, vec!["Shoes".to_owned()]));
}

#[test]
fn a_refusal_binds_nobody_of_another_tenant() {
    let rival = TenantId::parse("rival").unwrap();
    let details = vec![details(1, "One", Some(PHONE), Some("kim@example.com"))];
    let personal = ContactsPersonal { contacts: details };
    let theirs = ContactsSaved { tenant: rival, group: None, personal };
    let bench = bench(vec![theirs.into(), refuses(PHONE, None)]);
    assert_eq!(unextended(&bench), []);
}

/// Whether the other contact is in memory still or is read from its row.
#[test]
fn contacts_of_two_tenants_are_not_merged_although_they_share_number_and_mail() {
    let rival = TenantId::parse("rival").unwrap();
    for restarts in [false, true] {
        let contacts = vec![details(1, "Theirs", Some(PHONE), Some("kim@example.com"))];
        let theirs =
            ContactsSaved { tenant: rival.clone(), group: None, personal: ContactsPersonal { contacts } };
        let mut bench = bench(vec![theirs.into()]);
        if restarts {
            bench.restart();
        }
        let by_phone = details(2, "By number", Some(PHONE), None);
        let by_mail = details(3, "By mail", None, Some("kim@example.com"));
        bench.append("b", at(9), vec![saved(vec![by_phone, by_mail], None)]);
        bench.project();
        let book = &bench.models.address_book;
        let names = |whose: &TenantId| {
            let found = book.contacts(whose, &ContactFilter::default(), None, 9).unwrap().items;
            found.into_iter().map(|contact| contact.name).collect::<Vec<_>>()
        };
        assert_eq!(names(&tenant()), ["By number", "By mail"]);
        assert_eq!(names(&rival), ["Theirs"]);
        let ours = book.contact(&tenant(), contact_id(2)).unwrap().unwrap();
        assert_eq!((ours.phone.as_deref(), ours.email.as_deref()), (Some(PHONE), None));
        let theirs = book.contact(&rival, contact_id(1)).unwrap().unwrap();
        assert_eq!(
            (theirs.phone.as_deref(), theirs.email.as_deref()),
            (Some(PHONE), Some("kim@example.com"))
        );
    }
}

#[test]
fn by_whichever_of_its_ids_a_merged_contact_is_deleted_it_leaves_its_groups_and_is_gone() {
    for one_of_its_ids in 1..=3 {
        let first = details(1, "One", Some(PHONE), None);
        let stays = details(9, "Another", Some(OTHER_PHONE), None);
        let second = details(2, "Two", None, Some("two@example.com"));
        let bench = bench(vec![
            group(1, "one"),
            group(2, "two"),
            saved(vec![first, stays], Some(group_id(1))),
            saved(vec![second], Some(group_id(2))),
            saved(vec![details(3, "Three", Some(PHONE), Some("two@example.com"))], None),
            deleted(one_of_its_ids),
        ]);
        let book = &bench.models.address_book;
        for id in 1..=3 {
            let found = book.contact(&tenant(), contact_id(id)).unwrap();
            assert_eq!(found, None, "{id}, deleted as {one_of_its_ids}");
        }
        for (number, expected) in [(1, vec![contact_id(9)]), (2, vec![])] {
            let group = book.group(&tenant(), group_id(number)).unwrap().unwrap();
            let members = book.group_members(&tenant(), group.id, None, 9).unwrap();
            let ids: Vec<ContactId> = members.into_iter().map(|contact| contact.id).collect();
            assert_eq!((group.members as usize, ids), (expected.len(), expected));
        }
    }
}

#[test]
fn who_is_saved_under_the_id_of_a_deleted_contact_is_in_none_of_its_groups() {
    let bench = bench(vec![
        group(1, "one"),
        saved(vec![details(1, "One", Some(PHONE), Some("one@example.com"))], Some(group_id(1))),
        deleted(1),
        saved(vec![details(1, "New", Some(PHONE), None)], None),
    ]);
    let book = &bench.models.address_book;
    let new = book.contact(&tenant(), contact_id(1)).unwrap().unwrap();
    assert_eq!((new.name.as_str(), new.email, new.groups), ("New", None, vec![]));
    assert_eq!(book.group(&tenant(), group_id(1)).unwrap().unwrap().members, 0);
    let membership = book.membership(&tenant(), group_id(1), &[contact_id(1)]).unwrap();
    assert!(!membership[&contact_id(1)]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Few ids and few addresses, so that nearly everything merges.
    #[test]
    fn an_address_has_one_contact_whatever_the_order_and_a_rebuild_agrees(
        acts in proptest::collection::vec((0u8..8, 0u128..6, 0u8..5, 0u8..5, 0u128..2, any::<bool>()), 1..60),
    ) {
        let mut bench = Bench::new();
        for (time, (kind, number, phone, email, in_group, step)) in (0..).zip(acts) {
            let event: Event = match kind {
                0 => ContactDeleted { tenant: tenant(), contact: contact_id(number) }.into(),
                1 => group(in_group, "g"),
                2 => GroupMembersChanged {
                    tenant: tenant(),
                    group: group_id(in_group),
                    added: vec![contact_id(number)],
                    removed: vec![contact_id(u128::from(phone))],
                }
                .into(),
                3 => refuses(&format!("{email}@Example.com"), in_group.eq(&0).then_some("A")),
                4 => agrees(&format!("{email}@example.COM"), in_group.eq(&0).then_some("a")),
                5 => extended(&format!("{email}@example.com"), &[&format!("0101111000{phone}")]),
                _ => {
                    let phone = (phone > 0).then(|| format!("0101111000{phone}"));
                    let email = (email > 0).then(|| format!("{email}@example.com"));
                    saved(vec![details(number, "n", phone.as_deref(), email.as_deref())], Some(group_id(in_group)))
                }
            };
            bench.append("contact-book-acme-202510", at(time), vec![event]);
            if step {
                bench.step(0);
            }
        }
        bench.project();
        let report = run(replay::verify(bench.store.clone(), bench.storage())).unwrap();
        prop_assert!(report.is_clean(), "{report}");
        let book = &bench.models.address_book;
        for number in 0..2 {
            if let Some(group) = book.group(&tenant(), group_id(number)).unwrap() {
                let members = book.group_members(&tenant(), group.id, None, 99).unwrap();
                prop_assert_eq!(group.members as usize, members.len());
            }
        }
    }
}
