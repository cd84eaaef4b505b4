//! Refusals of advertisements: whom they bind, at acceptance and at hand-over.

use async_trait::async_trait;
use kite_commands::journal::Entry;
use kite_commands::manage::Unextended;
use kite_commands::manage::{ManageError, ManageRefusal, NewOptOut};
use kite_commands::open_work::OpenWorkError;
use kite_commands::refusal_keeper::{KnownPeople, RefusalKeeper};
use kite_commands::{Step, Worker};
use kite_domain::event::Event;
use kite_domain::opt_out::{OptOutPerson, OptOutRecorded, OptOutWithdrawn, RefusedBy};
use kite_domain::sender::{SenderKind, SenderTerms};
use kite_event_store::{BatchMode, Expected};
use parking_lot::Mutex;
use std::sync::Arc;

use crate::house::*;

/// As a version before this one wrote it: in the stream of the spelling.
async fn old_refusal(house: &House, stream: &str, event: Event) {
    let entry = Entry {
        stream: stream.into(),
        expected: Expected::Any,
        tenant: Some(acme()),
        cause: cause(),
        events: vec![event],
    };
    house.journal.append(BatchMode::Independent, vec![entry]).await.pop().unwrap().unwrap();
    house.directory.catch_up(&house.journal).await.unwrap();
}

fn refused(address: &str) -> Event {
    OptOutRecorded {
        tenant: acme(),
        brand: None,
        source: "080".to_owned(),
        refused_at: None,
        personal: OptOutPerson { address: address.into() },
    }
    .into()
}

fn of_brand(address: &str, brand: &str) -> NewOptOut {
    NewOptOut { brand: Some(brand.to_owned()), ..NewOptOut::of(address, "080") }
}

async fn refuse(house: &House, refusal: NewOptOut) -> bool {
    house.manage.record_opt_out(&cause(), &acme(), refusal).await.unwrap().value
}

async fn refused_by(house: &House, address: &str) -> Option<RefusedBy> {
    house.refused_by(&acme(), address).await
}

/// Who of these rows gets an advertisement from this number.
async fn taken(house: &House, from: &str, addresses: &[&str]) -> Vec<String> {
    let rows = addresses.iter().zip(0..).map(|(address, number)| row(number, address)).collect();
    let mut request = ad(rows);
    request.from_phone = Some(from.to_owned());
    let accepted = house.accept(request).await.unwrap();
    let is_refused = |row: u32| accepted.refused.iter().any(|refused| refused.row == row);
    let rows = addresses.iter().zip(0..).filter(|(_, row)| !is_refused(*row));
    rows.map(|(address, _)| (*address).to_owned()).collect()
}

#[tokio::test]
async fn a_refusal_binds_every_spelling_and_is_recorded_once() {
    let house = House::furnished().await;
    assert!(refuse(&house, NewOptOut::of("Case@example.com", "080")).await);
    assert!(!refuse(&house, NewOptOut::of("case@example.com", "web")).await, "it is the same address");
    assert!(refuse(&house, NewOptOut::of("kim@한국.kr", "080")).await);
    for address in ["CASE@example.com", "kim@xn--3e0b707e.kr"] {
        assert_eq!(refused_by(&house, address).await, Some(RefusedBy::Itself), "{address}");
    }
    house.manage.withdraw_opt_out(&cause(), &acme(), "cASE@example.com", None).await.unwrap();
    assert_eq!(refused_by(&house, "Case@example.com").await, None);
    assert!(refused_by(&house.restarted().await, "kim@한국.kr").await.is_some());
}

#[tokio::test]
async fn a_refusal_from_before_spellings_were_one_still_binds_and_can_be_taken_back() {
    let house = House::furnished().await;
    old_refusal(&house, "opt-out-acme-000000000000000000000001", refused("Case@example.com")).await;
    assert_eq!(refused_by(&house, "case@example.com").await, Some(RefusedBy::Itself));
    assert!(!refuse(&house, NewOptOut::of("case@example.com", "web")).await, "it is known");
    house.manage.withdraw_opt_out(&cause(), &acme(), "case@example.com", None).await.unwrap();
    assert_eq!(refused_by(&house.restarted().await, "Case@example.com").await, None);
    assert!(refuse(&house, NewOptOut::of("Case@example.com", "080")).await, "and be made again");
    assert_eq!(refused_by(&house.restarted().await, "case@example.com").await, Some(RefusedBy::Itself));
}

#[tokio::test]
async fn a_refusal_of_a_brand_binds_its_senders_and_those_without_a_brand() {
    let house = House::furnished().await;
    house.register("acme", "025550100", SenderKind::Phone, &["alpha", "beta", "gamma"]).await;
    let hats = SenderTerms {
        address: "025550200".into(),
        kind: SenderKind::Phone,
        brand: Some("Acme Hats".to_owned()),
        refusal_number: Some("0805550100".into()),
        relays: vec![relay("alpha"), relay("beta"), relay("gamma")],
    };
    house.approve("acme", hats).await;
    refuse(&house, of_brand("01020000000", "ACME hats")).await;
    refuse(&house, NewOptOut::of("01020000001", "080")).await;
    let all = ["01020000000", "01020000001", "01020000002"];
    assert_eq!(taken(&house, "025550200", &all).await, ["01020000002"]);
    assert_eq!(taken(&house, "025550100", &all).await, ["01020000000", "01020000002"], "of the brand Acme");
    let Some(Event::SendingAccepted(sealed)) = house.events("sending-accepted").await.pop() else {
        panic!("nothing is accepted")
    };
    assert_eq!(sealed.ad.unwrap().brands, ["Acme"], "so that the hand-over asks for the same brand");
    let by_email = SenderTerms {
        address: EMAIL.into(),
        kind: SenderKind::Email,
        brand: None,
        refusal_number: None,
        relays: vec![relay("mail")],
    };
    house.approve("acme", by_email).await;
    let mut request = ad(vec![row(0, "01020000000"), row(1, "01020000002")]);
    request.from_email = Some(EMAIL.to_owned());
    request.subject = Some("Sale".to_owned());
    request.text = Some("Sale\nUnsubscribe: https://example.com/u".to_owned());
    let accepted = house.accept(request).await.unwrap();
    assert_eq!(accepted.refused[0].reason.code(), "opted_out", "one of the senders has no brand");
}

#[tokio::test]
async fn a_refusal_of_a_brand_binds_its_sender_under_any_later_name() {
    let house = House::furnished().await;
    let named = |brand: &str| SenderTerms {
        address: "025550200".into(),
        kind: SenderKind::Phone,
        brand: Some(brand.to_owned()),
        refusal_number: Some("0805550100".into()),
        relays: vec![relay("alpha"), relay("beta"), relay("gamma")],
    };
    house.approve("acme", named("Hats")).await;
    refuse(&house, of_brand("01020000000", "hats")).await;
    house.approve("acme", named("Hats Korea")).await;
    house.approve("acme", named("HATS KOREA")).await;
    let restarted = house.restarted().await;
    let state = restarted.directory.snapshot();
    assert_eq!(state.senders.identity(&acme(), "025550200").unwrap().past_brands, ["Hats"]);
    assert!(["Hats", "hats korea"].iter().all(|brand| state.has_brand(&acme(), brand)));
    assert!(!state.has_brand(&acme(), "Shoes"));
    assert_eq!(taken(&house, "025550200", &["01020000000", "01020000001"]).await, ["01020000001"]);
    // A name that is only asked for changes nothing for those that there are.
    house.manage.request_sender(&cause(), &acme(), named("Caps")).await.unwrap();
    let state = house.restarted().await.directory.snapshot();
    assert!(["Hats", "Hats Korea", "Caps"].iter().all(|brand| state.has_brand(&acme(), brand)));
}

#[tokio::test]
async fn a_brand_is_taken_back_by_itself() {
    let house = House::furnished().await;
    refuse(&house, of_brand("01020000000", "A")).await;
    refuse(&house, NewOptOut::of("01020000000", "080")).await;
    let manage = &house.manage;
    manage.withdraw_opt_out(&cause(), &acme(), "01020000000", Some("a")).await.unwrap();
    let again = manage.withdraw_opt_out(&cause(), &acme(), "01020000000", Some("A")).await;
    assert!(matches!(again, Err(ManageError::Refused(ManageRefusal::NoOptOut))));
    assert!(refused_by(&house, "01020000000").await.is_some());
    manage.withdraw_opt_out(&cause(), &acme(), "01020000000", None).await.unwrap();
    assert_eq!(refused_by(&house, "01020000000").await, None);
}

#[tokio::test]
async fn many_are_recorded_once_however_often_they_are_given() {
    let house = House::furnished().await;
    let many: Vec<NewOptOut> =
        (0..1_201).map(|number| NewOptOut::of(format!("0102{number:07}"), "letter")).collect();
    let twice = many.iter().cloned().chain([NewOptOut::of("01020000000", "web")]).collect();
    assert_eq!(house.manage.record_opt_outs(&cause(), &acme(), twice).await.unwrap().value, 1_201);
    assert_eq!(house.manage.record_opt_outs(&cause(), &acme(), many).await.unwrap().value, 0);
    assert_eq!(house.events("opt-out-recorded").await.len(), 1_201);
    assert!(refused_by(&house, "01020001200").await.is_some());
}

/// What the address book would say.
#[derive(Default)]
struct Book(Mutex<Vec<Unextended>>);

#[async_trait]
impl KnownPeople for Book {
    async fn unextended(&self, limit: usize) -> Result<Vec<Unextended>, OpenWorkError> {
        Ok(self.0.lock().iter().take(limit).cloned().collect())
    }
}

fn unextended(address: &str, other: &str) -> Unextended {
    Unextended { tenant: acme(), address: address.into(), other: other.into() }
}

#[tokio::test]
async fn a_refusal_binds_the_other_addresses_of_the_person_at_acceptance() {
    let house = House::furnished().await;
    let book = Arc::new(Book::default());
    let mut keeper = RefusalKeeper::new(house.manage.clone(), book.clone());
    assert_eq!(keeper.step().await.unwrap(), Step::Idle(None));
    refuse(&house, NewOptOut::of("kim@example.com", "080")).await;
    book.0
        .lock()
        .extend([unextended("kim@example.com", "01020000000"), unextended("lee@example.com", "01020000001")]);
    assert_eq!(keeper.step().await.unwrap(), Step::Worked);
    assert_eq!(keeper.step().await.unwrap(), Step::Idle(None), "it waits for the book to have read on");
    assert_eq!(house.events("opt-out-extended").await.len(), 1, "lee has not refused");
    assert_eq!(refused_by(&house, "01020000000").await, Some(RefusedBy::SamePerson));
    let both = ["01020000000", "01020000001"];
    assert_eq!(taken(&house, "025550100", &both).await, ["01020000001"]);
    let rows = both.iter().zip(0..).map(|(address, number)| row(number, address)).collect();
    assert_eq!(house.accept(notice(rows)).await.unwrap().messages, 2, "a notice goes to both");
    house.manage.withdraw_opt_out(&cause(), &acme(), "Kim@example.com", None).await.unwrap();
    assert_eq!(taken(&house, "025550100", &both).await, both);
}

#[tokio::test]
async fn a_withdrawal_of_an_earlier_version_takes_back_every_spelling() {
    let house = House::furnished().await;
    refuse(&house, NewOptOut::of("Case@example.com", "080")).await;
    let personal = OptOutPerson { address: "case@example.com".into() };
    let withdrawn = OptOutWithdrawn { tenant: acme(), brand: None, personal };
    old_refusal(&house, "opt-out-acme-000000000000000000000002", withdrawn.into()).await;
    assert_eq!(refused_by(&house, "Case@example.com").await, None);
}
