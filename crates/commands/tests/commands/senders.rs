//! Sender identities: who may send with what, and who decides it.

use chrono::{DateTime, Duration, Utc};
use kite_commands::accept::{AcceptError, SendRequest};
use kite_commands::journal::Entry;
use kite_commands::manage::{ADDRESSES_MAX, ManageError, ManageRefusal};
use kite_domain::event::Event;
use kite_domain::lot::Outcome;
use kite_domain::sender::{
    Approval, SenderKind, SenderRefusal, SenderRegistered, SenderRequested, SenderStatus, SenderWithdrawn,
};
use kite_event_store::{BatchMode, Expected};

use crate::house::*;

const NUMBER: &str = "025550123";
const MAIL: &str = "Shop@example.com";

/// From this number, which a house does not have by itself.
fn from_number() -> SendRequest {
    SendRequest { from_phone: Some("02-555-0123".to_owned()), ..notice(recipients(1)) }
}

/// From this address, in another spelling.
fn from_mail() -> SendRequest {
    let rows = vec![row(0, "kim@example.com")];
    SendRequest { from_phone: None, from_email: Some("shop@EXAMPLE.com".to_owned()), ..notice(rows) }
}

async fn refusal(house: &House, request: SendRequest) -> (&'static str, &'static str, String) {
    let before = house.log().await.len();
    match house.accept(request).await {
        Err(AcceptError::Refused(refusal)) => {
            assert_eq!(house.log().await.len(), before, "nothing half done");
            (refusal.field, refusal.code, refusal.detail)
        }
        other => panic!("{other:?}"),
    }
}

async fn ask(house: &House, name: &str, address: &str) {
    let (kind, relays) = match address.contains('@') {
        true => (SenderKind::Email, ["mail"]),
        false => (SenderKind::Phone, ["alpha"]),
    };
    let terms = sender_terms(address, kind, &relays);
    house.manage.request_sender(&cause(), &tenant(name), terms).await.unwrap();
}

async fn approve(house: &House, name: &str, address: &str, hours: i64) -> Result<(), ManageError> {
    let relays = vec![relay(if address.contains('@') { "mail" } else { "alpha" })];
    let expires_at = house.journal.now() + Duration::hours(hours);
    let approval = Approval { relays, expires_at, ..approval(house.journal.now()) };
    house.manage.approve_sender(&cause(), &tenant(name), address, approval).await.map(drop)
}

fn why(answer: Result<(), ManageError>) -> SenderRefusal {
    match answer {
        Err(ManageError::Refused(ManageRefusal::Sender(refusal))) => refusal,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn only_an_approved_sender_sends_and_a_refusal_says_where_it_stands() {
    for (address, field, request) in
        [(NUMBER, "from", from_number as fn() -> SendRequest), (MAIL, "from_email", from_mail)]
    {
        let house = House::furnished().await;
        let code = async || {
            let (named, code, detail) = refusal(&house, request()).await;
            assert_eq!(named, field);
            assert!(detail.to_lowercase().contains(&address.to_lowercase()), "{detail}");
            (code, detail)
        };
        assert_eq!(code().await.0, "sender_not_requested");
        ask(&house, "acme", address).await;
        assert_eq!(code().await.0, "sender_requested");
        house.manage.refuse_sender(&cause(), &acme(), address, "no document".to_owned(), None).await.unwrap();
        let (refused, detail) = code().await;
        assert_eq!(refused, "sender_refused");
        assert!(detail.ends_with("no document"), "{detail}");
        ask(&house, "acme", address).await;
        approve(&house, "acme", address, 24).await.unwrap();
        house.accept(request()).await.unwrap();
        house.advance(Duration::hours(24));
        let (expired, detail) = code().await;
        assert_eq!(expired, "sender_expired");
        assert!(detail.contains("2026-03-03T03:00:00"), "{detail}");
        approve(&house, "acme", address, 24).await.unwrap();
        house.accept(request()).await.unwrap();
        house.manage.withdraw_sender(&cause(), &acme(), address, None).await.unwrap();
        assert_eq!(code().await.0, "sender_withdrawn");
    }
}

#[tokio::test]
async fn what_another_tenant_may_send_with_is_not_ones_own() {
    let house = House::furnished().await;
    house.move_in("rival").await;
    for (address, request) in [(NUMBER, from_number as fn() -> SendRequest), (MAIL, from_mail)] {
        ask(&house, "rival", address).await;
        approve(&house, "rival", address, 24).await.unwrap();
        assert_eq!(refusal(&house, request()).await.1, "sender_not_requested", "{address}");
        ask(&house, "acme", address).await;
        assert_eq!(refusal(&house, request()).await.1, "sender_requested", "{address}");
        house.accept_of("rival", request()).await;
    }
}

#[tokio::test]
async fn a_sending_is_not_taken_for_a_time_after_the_approval_of_its_sender() {
    for (address, field, request) in
        [(NUMBER, "from", from_number as fn() -> SendRequest), (MAIL, "from_email", from_mail)]
    {
        let house = House::furnished().await;
        ask(&house, "acme", address).await;
        approve(&house, "acme", address, 24).await.unwrap();
        let at = |hours| Some(noon() + Duration::hours(hours));
        let refused = refusal(&house, SendRequest { scheduled_at: at(24), ..request() }).await;
        assert_eq!((refused.0, refused.1), (field, "sender_expired"));
        house.accept(SendRequest { scheduled_at: at(23), ..request() }).await.unwrap();
    }
}

/// Two operators, each at a process of its own that has not read what the other has written.
#[tokio::test]
async fn of_two_approvals_of_an_address_at_once_one_is_refused() {
    let house = House::furnished().await;
    house.move_in("rival").await;
    for address in [NUMBER, MAIL] {
        ask(&house, "acme", address).await;
        ask(&house, "rival", &address.to_lowercase()).await;
        let other = house.restarted().await;
        let otherwise = address.to_uppercase();
        let (one, two) =
            futures::join!(approve(&house, "acme", address, 24), approve(&other, "rival", &otherwise, 24),);
        let refused = [one, two].into_iter().filter_map(Result::err).collect::<Vec<_>>();
        let [ManageError::Refused(ManageRefusal::Sender(SenderRefusal::TakenBy(_)))] = &refused[..] else {
            panic!("{refused:?}")
        };
    }
    let approved = house.events("sender-approved").await;
    let of_both = approved.iter().filter(|event| matches!(event, Event::SenderApproved(one) if !one.shared));
    assert_eq!(of_both.count(), 2, "one of each address");
}

#[tokio::test]
async fn a_process_that_lags_behind_decides_on_what_the_log_says() {
    let house = House::furnished().await;
    house.move_in("rival").await;
    ask(&house, "acme", NUMBER).await;
    ask(&house, "rival", NUMBER).await;
    let other = house.restarted().await;
    approve(&house, "acme", NUMBER, 24).await.unwrap();
    let status = |house: &House| {
        let directory = house.directory.snapshot();
        directory.senders.identity(&acme(), NUMBER).unwrap().status(noon())
    };
    assert_eq!((status(&house), status(&other)), (SenderStatus::Approved, SenderStatus::Requested));
    assert_eq!(why(approve(&other, "rival", NUMBER, 24).await), SenderRefusal::TakenBy(acme()));
}

#[tokio::test]
async fn what_waits_for_a_relay_is_not_handed_over_after_its_sender_may_not_send_any_more() {
    let by_number = (NUMBER, from_number as fn() -> SendRequest);
    let by_mail = (MAIL, from_mail as fn() -> SendRequest);
    for ((address, request), withdraws) in
        [(by_number, false), (by_number, true), (by_mail, false), (by_mail, true)]
    {
        let house = House::furnished().await;
        ask(&house, "acme", address).await;
        approve(&house, "acme", address, 2).await.unwrap();
        let sending = house.accept(request()).await.unwrap().sending;
        work_off(&mut house.router()).await;
        assert_eq!(house.lot(sending, 0).await.pending().len(), 1, "{address}");
        let reason = if withdraws {
            house.manage.withdraw_sender(&cause(), &acme(), address, None).await.unwrap();
            "sender_withdrawn"
        } else {
            house.advance(Duration::hours(2));
            "sender_expired"
        };
        assert_eq!(house.hand_over(sending, 0).await, 0);
        assert_eq!(house.lot(sending, 0).await.message(0).unwrap().outcome, Some(Outcome::Refused));
        let finished = house.events("messages-finished").await;
        let [Event::MessagesFinished(finished)] = &finished[..] else { panic!("{finished:?}") };
        assert_eq!(finished.reason, reason);
    }
}

#[tokio::test]
async fn nothing_is_routed_for_a_sender_that_may_not_send_any_more() {
    let house = House::furnished().await;
    ask(&house, "acme", NUMBER).await;
    approve(&house, "acme", NUMBER, 2).await.unwrap();
    let later = Some(noon() + Duration::hours(1));
    let sending = house.accept(SendRequest { scheduled_at: later, ..from_number() }).await.unwrap().sending;
    house.manage.withdraw_sender(&cause(), &acme(), NUMBER, None).await.unwrap();
    house.advance(Duration::hours(1));
    work_off(&mut house.timekeeper()).await;
    work_off(&mut house.router()).await;
    assert!(house.lot(sending, 0).await.message(0).unwrap().attempts.is_empty());
    // It waits for its sender until its lifetime is over.
    ask(&house, "acme", NUMBER).await;
    approve(&house, "acme", NUMBER, 2).await.unwrap();
    house.advance(Duration::minutes(1));
    work_off(&mut house.router()).await;
    assert_eq!(house.lot(sending, 0).await.message(0).unwrap().attempts.len(), 1);
}

#[tokio::test]
async fn the_end_of_an_approval_is_noted_once_and_by_whom() {
    let house = House::furnished().await;
    for address in [NUMBER, MAIL] {
        ask(&house, "acme", address).await;
        approve(&house, "acme", address, 2).await.unwrap();
    }
    let mut timekeeper = house.timekeeper();
    work_off(&mut timekeeper).await;
    assert!(house.events("sender-expired").await.is_empty());
    house.advance(Duration::hours(2));
    work_off(&mut timekeeper).await;
    work_off(&mut house.restarted().await.timekeeper()).await;
    let log = house.log().await;
    let noted: Vec<_> = log.iter().filter(|told| told.event.kind() == "sender-expired").collect();
    assert_eq!(noted.len(), 2);
    for told in noted {
        assert_eq!(told.recorded.metadata.actor, "timekeeper");
        assert_eq!(told.recorded.metadata.tenant.as_deref(), Some("acme"));
        let Event::SenderExpired(expired) = &told.event else { panic!("{told:?}") };
        assert_eq!(expired.expires_at, noon() + Duration::hours(2));
    }
}

/// As a directory from before approvals has it.
async fn registered_once(house: &House, name: &str, at: DateTime<Utc>) {
    let registered = SenderRegistered {
        tenant: tenant(name),
        address: NUMBER.into(),
        kind: SenderKind::Phone,
        brand: None,
        refusal_number: None,
        relays: vec![relay("beta")],
    };
    assert_eq!(house.journal.now(), at);
    write(house, name, registered.into()).await;
}

async fn write(house: &House, name: &str, event: Event) {
    let entry = Entry {
        stream: format!("sender-{name}-{NUMBER}").into(),
        expected: Expected::Any,
        tenant: Some(tenant(name)),
        cause: cause(),
        events: vec![event],
    };
    house.journal.append_one(entry).await.unwrap();
    house.directory.catch_up(&house.journal).await.unwrap();
}

#[tokio::test]
async fn what_was_registered_before_approvals_goes_on_sending_and_belongs_to_its_tenant() {
    let house = House::furnished().await;
    house.move_in("rival").await;
    registered_once(&house, "acme", noon()).await;
    let sending = house.accept(from_number()).await.unwrap().sending;
    work_off(&mut house.router()).await;
    let lot = house.lot(sending, 0).await;
    assert_eq!(*lot.relay_of(&lot.message(0).unwrap().attempts[0]), relay("beta"), "registered nowhere else");
    ask(&house, "rival", NUMBER).await;
    assert_eq!(why(approve(&house, "rival", NUMBER, 24).await), SenderRefusal::TakenBy(acme()));
    house.manage.withdraw_sender(&cause(), &acme(), NUMBER, None).await.unwrap();
    assert_eq!(refusal(&house, from_number()).await.1, "sender_withdrawn");
    approve(&house, "rival", NUMBER, 24).await.unwrap();
}

#[tokio::test]
async fn what_was_withdrawn_before_approvals_stays_withdrawn() {
    let house = House::furnished().await;
    registered_once(&house, "acme", noon()).await;
    let withdrawn = SenderWithdrawn { tenant: acme(), address: NUMBER.into(), reason: None };
    write(&house, "acme", withdrawn.into()).await;
    assert_eq!(refusal(&house, from_number()).await.1, "sender_withdrawn");
    ask(&house, "acme", NUMBER).await;
    approve(&house, "acme", NUMBER, 24).await.unwrap();
    house.accept(from_number()).await.unwrap();
}

/// Each address is kept for ever, with all that was said of it.
#[tokio::test]
async fn a_tenant_cannot_ask_for_addresses_without_end() {
    let house = House::furnished().await;
    let number = |place: usize| format!("02{place:08}");
    let have = house.directory.snapshot().senders.iter().filter(|(_, holder, _)| **holder == acme()).count();
    for start in (have..ADDRESSES_MAX).step_by(1_000) {
        let events = (start..ADDRESSES_MAX.min(start + 1_000)).map(|place| {
            let address = number(place);
            let terms = sender_terms(&address, SenderKind::Phone, &["alpha"]);
            let requested = SenderRequested { tenant: acme(), terms }.into();
            let withdrawn =
                SenderWithdrawn { tenant: acme(), address: address.as_str().into(), reason: None };
            Entry {
                stream: kite_domain::sender::stream(&address),
                expected: Expected::Any,
                tenant: Some(acme()),
                cause: cause(),
                events: vec![requested, withdrawn.into()],
            }
        });
        let answers = house.journal.append(BatchMode::Independent, events.collect()).await;
        assert!(answers.iter().all(Result::is_ok));
    }
    house.directory.catch_up(&house.journal).await.unwrap();
    let request = async |place: usize| {
        let terms = sender_terms(&number(place), SenderKind::Phone, &["alpha"]);
        house.manage.request_sender(&cause(), &acme(), terms).await
    };
    let refused = request(ADDRESSES_MAX).await;
    let is_full = matches!(refused, Err(ManageError::Refused(ManageRefusal::TooManyAddresses)));
    assert!(is_full, "{refused:?}");
    request(ADDRESSES_MAX - 1).await.unwrap();
}
