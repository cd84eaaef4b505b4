//! A key is asked about before its request is looked at: a repeat gets its sending whatever became of all else (law 6).

use chrono::Duration;
use kite_commands::accept::{AcceptError, Earlier, OpenKey, Pace, RefusedRow, RowRefusal, SendRequest};
use kite_domain::sending::{MessageClass, idempotency_stream};
use kite_domain::template::TemplateSaved;
use kite_domain::tenant::TenantLimits;
use uuid::Uuid;

use crate::faulty_store::Fault;
use crate::house::*;

async fn ask(house: &House, key: &str, body: &str) -> Result<Earlier, AcceptError> {
    house.earlier(&acme(), key, body, MessageClass::Notice).await
}

/// The key, which nothing was accepted under.
async fn open_key(house: &House, key: &str, body: &str) -> OpenKey {
    match ask(house, key, body).await.unwrap() {
        Earlier::Nothing(key) => key,
        Earlier::Accepted(accepted) => panic!("{accepted:?}"),
    }
}

async fn found(house: &House, key: &str, body: &str) -> kite_commands::accept::Accepted {
    match ask(house, key, body).await.unwrap() {
        Earlier::Accepted(accepted) => accepted,
        Earlier::Nothing(key) => panic!("{key:?}"),
    }
}

async fn allow_requests(house: &House, per_second: u32) {
    let slow = TenantLimits { requests_per_second: Some(per_second), ..TenantLimits::default() };
    house.manage.set_tenant_limits(&cause(), &acme(), slow).await.unwrap();
}

#[tokio::test]
async fn a_repeat_is_found_without_its_recipients_and_writes_nothing() {
    let house = House::furnished().await;
    let mut rows = recipients(3);
    rows[2].to = "bad".into();
    let first = house.accept_once("key", "body", notice(rows)).await.unwrap();
    let before = house.log().await.len();
    for house in [&house, &house.restarted().await] {
        let again = found(house, "key", "body").await;
        assert_eq!((again.sending, again.messages, again.repeated), (first.sending, 2, true));
        assert_eq!((again.refused_count, again.position), (1, first.position));
    }
    assert_eq!(house.log().await.len(), before);
}

#[tokio::test]
async fn a_repeat_is_found_whatever_became_of_its_template_its_sender_and_its_relays() {
    let house = House::furnished().await;
    let template = kite_domain::ids::TemplateId(Uuid::from_u128(7));
    let saved = TemplateSaved {
        tenant: acme(),
        template,
        name: "parcel".to_owned(),
        subject: None,
        text: "Your parcel is here.".to_owned(),
    };
    house.manage.save_template(&cause(), saved).await.unwrap();
    let request = SendRequest { text: None, template: Some(template), ..notice(recipients(1)) };
    let first = house.accept_once("key", "body", request.clone()).await.unwrap();
    house.manage.delete_template(&cause(), &acme(), template).await.unwrap();
    house.manage.withdraw_sender(&cause(), &acme(), "025550100", None).await.unwrap();
    let new = house.accept_once("another key", "body", request.clone()).await;
    assert!(matches!(new, Err(AcceptError::Refused(_))), "{new:?}");
    let again = house.accept_once("key", "body", request).await.unwrap();
    assert_eq!((again.sending, again.repeated), (first.sending, true));
}

#[tokio::test]
async fn another_body_is_refused_before_it_is_looked_at() {
    let house = House::furnished().await;
    house.accept_once("key", "body", notice(recipients(1))).await.unwrap();
    assert!(matches!(ask(&house, "key", "another body").await, Err(AcceptError::KeyReused)));
}

#[tokio::test]
async fn a_key_is_held_from_the_question_to_the_answer() {
    let house = House::furnished().await;
    let key = open_key(&house, "key", "body").await;
    assert!(matches!(ask(&house, "key", "body").await, Err(AcceptError::InProgress)));
    assert!(matches!(ask(&house, "key", "another body").await, Err(AcceptError::InProgress)));
    open_key(&house, "another key", "body").await;
    let other = house.earlier(&tenant("other"), "key", "body", MessageClass::Notice).await;
    assert!(matches!(other, Ok(Earlier::Nothing(_))), "it is the key of another tenant");
    let accepted = house.acceptance.accept(&cause(), &acme(), notice(recipients(1)), key).await.unwrap();
    assert!(!accepted.repeated);
    assert_eq!(found(&house, "key", "body").await.sending, accepted.sending);
}

#[tokio::test]
async fn whoever_gives_up_between_the_question_and_the_answer_leaves_the_key_free() {
    let house = House::furnished().await;
    let before = house.log().await.len();
    drop(open_key(&house, "key", "body").await);
    assert_eq!(house.log().await.len(), before);
    house.accept_once("key", "another body", notice(recipients(1))).await.unwrap();
}

#[tokio::test]
async fn of_two_processes_that_were_told_of_nothing_one_accepts() {
    let house = House::furnished().await;
    let other = house.restarted().await;
    let (left, right) = (open_key(&house, "key", "body").await, open_key(&other, "key", "body").await);
    let accepted = house.acceptance.accept(&cause(), &acme(), notice(recipients(2)), left).await.unwrap();
    let late = other.acceptance.accept(&cause(), &acme(), notice(recipients(2)), right).await;
    assert!(matches!(late, Err(AcceptError::InProgress)), "{late:?}");
    assert_eq!(found(&other, "key", "body").await.sending, accepted.sending);
    assert_eq!(house.events("sending-accepted").await.len(), 1);
}

#[tokio::test]
async fn a_claim_that_was_never_sealed_is_settled_by_the_question() {
    let house = House::furnished().await;
    // Claim, two lots, seal.
    house.store.fail(3, Fault::LostBefore);
    house.accept_once("key", "body", notice(recipients(1_001))).await.unwrap_err();
    house.store.heal();
    let house = house.restarted().await;
    let key = open_key(&house, "key", "corrected body").await;
    assert_eq!(house.events("sending-abandoned").await.len(), 1);
    house.acceptance.accept(&cause(), &acme(), notice(recipients(1)), key).await.unwrap();
    assert!(matches!(ask(&house, "key", "body").await, Err(AcceptError::KeyReused)));
    assert_eq!(house.events("sending-accepted").await.len(), 1);
}

#[tokio::test]
async fn the_stream_of_a_key_is_read_once_for_each_request() {
    let house = House::furnished().await;
    let stream = idempotency_stream(&acme(), "key");
    for reads in 1..=3 {
        house.accept_once("key", "body", notice(recipients(1))).await.unwrap();
        assert_eq!(house.store.reads_of(&stream), reads);
    }
}

#[tokio::test]
async fn whoever_comes_too_fast_for_another_request_may_repeat_as_many() {
    let house = House::furnished().await;
    allow_requests(&house, 2).await;
    let first = house.accept_once("key", "body", notice(recipients(1))).await.unwrap();
    house.accept_once("another key", "body", notice(recipients(1))).await.unwrap();
    let new = house.accept(notice(recipients(1))).await;
    assert!(matches!(new, Err(AcceptError::TooFast(_))), "{new:?}");
    assert_eq!(found(&house, "key", "body").await.sending, first.sending);
    assert!(matches!(ask(&house, "key", "another body").await, Err(AcceptError::KeyReused)));
    let spent = ask(&house, "key", "body").await;
    let Err(AcceptError::TooFast(too_fast)) = spent else { panic!("{spent:?}") };
    assert_eq!((too_fast.pace, too_fast.retry_after_s()), (Pace::Requests, 1));
    house.advance(Duration::seconds(1));
    assert_eq!(found(&house, "key", "body").await.sending, first.sending);
}

#[tokio::test]
async fn a_new_request_that_comes_too_fast_is_refused_under_a_key_too_and_leaves_it_free() {
    let house = House::furnished().await;
    allow_requests(&house, 1).await;
    house.accept(notice(recipients(1))).await.unwrap();
    let fast = ask(&house, "key", "body").await;
    assert!(matches!(fast, Err(AcceptError::TooFast(_))), "{fast:?}");
    let password = house.earlier(&acme(), "password", "body", MessageClass::Otp).await;
    assert!(matches!(password, Ok(Earlier::Nothing(_))), "passwords are counted apart");
    house.advance(Duration::seconds(1));
    open_key(&house, "key", "body").await;
}

#[tokio::test]
async fn a_request_under_a_key_is_counted_once() {
    let house = House::furnished().await;
    allow_requests(&house, 2).await;
    for key in ["one", "two"] {
        house.accept_once(key, "body", notice(recipients(1))).await.unwrap();
    }
}

#[tokio::test]
async fn rows_that_were_refused_before_do_not_use_up_the_key() {
    let house = House::furnished().await;
    let reason = RowRefusal::ContactNotFound;
    let row = RefusedRow { row: 0, reason, to: "".into() };
    let request = SendRequest { recipients: vec![row.into()], ..notice(Vec::new()) };
    let refused = house.accept_once("key", "body", request).await;
    assert!(matches!(refused, Err(AcceptError::RowsRefused(rows)) if rows.len() == 1));
    house.accept_once("key", "another body", notice(recipients(1))).await.unwrap();
}
