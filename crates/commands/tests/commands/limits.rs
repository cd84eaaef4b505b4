//! What a tenant may have and do at once, and what one tenant leaves to the others.

use chrono::Duration;
use kite_commands::accept::{AcceptError, LoadWatch, Pace, SendRequest};
use kite_commands::{Step, Worker};
use kite_domain::load::Full;
use kite_domain::sending::MessageClass;
use kite_domain::tenant::TenantLimits;

use crate::faulty_store::Fault;
use crate::house::*;

fn watch(house: &House) -> LoadWatch {
    LoadWatch::new(house.acceptance.clone(), house.work.clone())
}

async fn allow(house: &House, name: &str, limits: TenantLimits) {
    house.manage.set_tenant_limits(&cause(), &tenant(name), limits).await.unwrap();
}

fn open(most: u64) -> TenantLimits {
    TenantLimits { open_messages_max: Some(most), ..TenantLimits::default() }
}

fn otp(count: u32) -> SendRequest {
    SendRequest { class: MessageClass::Otp, ..notice(recipients(count)) }
}

fn later(house: &House, count: u32) -> SendRequest {
    SendRequest { scheduled_at: Some(house.journal.now() + Duration::hours(2)), ..notice(recipients(count)) }
}

#[tokio::test]
async fn a_tenant_has_no_more_open_than_it_may_and_its_passwords_keep_their_share() {
    let house = House::furnished().await;
    allow(&house, "acme", open(100)).await;
    house.accept(notice(recipients(60))).await.unwrap();
    let before = house.log().await.len();
    let full = house.accept(notice(recipients(31))).await;
    assert!(matches!(full, Err(AcceptError::TenantFull { full: Full::TenantOpen, .. })), "{full:?}");
    assert_eq!(house.log().await.len(), before, "nothing of it is accepted");
    house.accept(notice(recipients(30))).await.unwrap();
    house.accept(otp(10)).await.unwrap();
    assert!(matches!(house.accept(otp(1)).await, Err(AcceptError::TenantFull { .. })));
    let never = house.accept(notice(recipients(91))).await;
    assert!(matches!(never, Err(AcceptError::Refused(refusal)) if refusal.code == "over_limit"));
}

/// Room is counted before the lot and the seal are written.
#[tokio::test]
async fn what_the_log_did_not_take_takes_no_room_and_what_is_in_doubt_does() {
    // A lot and its seal in one append; two lots, and then the seal.
    const ONE_LOT: u32 = 600;
    const TWO_LOTS: u32 = 1_050;
    for (count, append, fault, is_in_doubt) in [
        (ONE_LOT, 0, Fault::Busy, false),
        (ONE_LOT, 1, Fault::Unavailable, false),
        (ONE_LOT, 1, Fault::LostBefore, true),
        (ONE_LOT, 1, Fault::LostAfter, true),
        (TWO_LOTS, 0, Fault::Busy, false),
        (TWO_LOTS, 0, Fault::LostBefore, false),
        (TWO_LOTS, 2, Fault::Busy, false),
        (TWO_LOTS, 2, Fault::Unavailable, false),
        (TWO_LOTS, 2, Fault::LostBefore, true),
        (TWO_LOTS, 2, Fault::LostAfter, true),
    ] {
        let house = House::furnished().await;
        allow(&house, "acme", open(1_200)).await;
        house.store.fail(append, fault);
        let failed = house.accept(notice(recipients(count))).await;
        assert!(failed.is_err() && !house.store.is_armed(), "{count}: {fault:?} at {append}");
        house.store.heal();
        let again = house.accept(notice(recipients(count))).await;
        let is_full = matches!(again, Err(AcceptError::TenantFull { full: Full::TenantOpen, .. }));
        assert_eq!((again.is_ok(), is_full), (!is_in_doubt, is_in_doubt), "{count}: {fault:?} at {append}");
    }
}

#[tokio::test]
async fn what_one_tenant_schedules_takes_nothing_from_another_nor_from_its_own_passwords() {
    let house = House::furnished().await;
    house.move_in("bolt").await;
    let few = TenantLimits { scheduled_messages_max: Some(50), ..TenantLimits::default() };
    allow(&house, "acme", few).await;
    let request = later(&house, 50);
    house.accept(request).await.unwrap();
    let full = house.accept(later(&house, 1)).await;
    assert!(matches!(full, Err(AcceptError::TenantFull { full: Full::TenantScheduled, .. })), "{full:?}");
    house.accept(otp(1)).await.unwrap();
    house.accept_of("bolt", notice(recipients(5))).await;
    house.accept_of("bolt", later(&house, 5)).await;
}

#[tokio::test]
async fn what_becomes_due_is_sent_and_new_requests_wait() {
    let house = House::furnished().await;
    allow(&house, "acme", open(20)).await;
    house.accept(later(&house, 30)).await.unwrap();
    house.accept(notice(recipients(10))).await.unwrap();
    let mut watch = watch(&house);
    work_off(&mut watch).await;
    house.advance(Duration::hours(3));
    work_off(&mut house.timekeeper()).await;
    work_off(&mut watch).await;
    let load = house.acceptance.room().load_of(&acme());
    assert_eq!((load.open(), load.scheduled), (40, 0));
    assert!(matches!(house.accept(otp(1)).await, Err(AcceptError::TenantFull { .. })));
}

#[tokio::test]
async fn a_process_that_begins_counts_what_the_read_model_has_not_seen() {
    let house = House::furnished().await;
    allow(&house, "acme", open(100)).await;
    house.accept(notice(recipients(40))).await.unwrap();
    house.work.forget_after(Some(house.log().await.last().unwrap().recorded.position));
    house.accept(notice(recipients(40))).await.unwrap();
    house.accept(later(&house, 7)).await.unwrap();
    let again = house.restarted().await;
    let mut watch = LoadWatch::new(again.acceptance.clone(), house.work.clone());
    let early = again.accept(notice(recipients(1))).await;
    assert!(
        matches!(early, Err(AcceptError::Backlog { .. })),
        "it does not know yet what there is: {early:?}"
    );
    work_off(&mut watch).await;
    let load = again.acceptance.room().load_of(&acme());
    assert_eq!((load.open(), load.scheduled), (80, 7));
    assert!(matches!(again.accept(notice(recipients(11))).await, Err(AcceptError::TenantFull { .. })));
    house.work.forget_after(None);
    again.advance(Duration::seconds(1));
    work_off(&mut watch).await;
    assert_eq!(again.acceptance.room().load_of(&acme()).open(), 80, "and nothing is counted twice");
}

#[tokio::test]
async fn requests_and_recipients_come_no_faster_than_allowed_and_passwords_count_apart() {
    let house = House::furnished().await;
    house.move_in("bolt").await;
    let slow = TenantLimits { requests_per_second: Some(2), ..TenantLimits::default() };
    allow(&house, "acme", slow).await;
    house.accept(notice(recipients(1))).await.unwrap();
    house.acceptance.count_request(&acme()).unwrap();
    let fast = house.accept(notice(recipients(1))).await;
    let Err(AcceptError::TooFast(too_fast)) = fast else { panic!("{fast:?}") };
    assert_eq!((too_fast.pace, too_fast.retry_after_s()), (Pace::Requests, 1));
    house.accept(otp(1)).await.unwrap();
    house.accept_of("bolt", notice(recipients(1))).await;
    house.advance(Duration::seconds(too_fast.retry_after_s().into()));
    house.accept(notice(recipients(1))).await.unwrap();
}

#[tokio::test]
async fn the_largest_request_fits_and_the_next_waits_until_its_recipients_have_room() {
    let house = House::furnished().await;
    let slow = TenantLimits { recipients_per_second: Some(100), ..TenantLimits::default() };
    allow(&house, "acme", slow).await;
    house.accept(notice(recipients(3_000))).await.unwrap();
    let fast = house.accept(notice(recipients(250))).await;
    let Err(AcceptError::TooFast(too_fast)) = fast else { panic!("{fast:?}") };
    assert_eq!((too_fast.pace, too_fast.retry_after_s()), (Pace::Recipients, 3));
    house.advance(Duration::seconds(3));
    house.accept(notice(recipients(250))).await.unwrap();
}

#[tokio::test]
async fn limits_are_set_as_a_whole_and_the_same_again_is_no_news() {
    let house = House::furnished().await;
    allow(&house, "acme", open(10)).await;
    allow(&house, "acme", open(10)).await;
    assert_eq!(house.events("tenant-limits-set").await.len(), 1);
    assert_eq!(house.acceptance.limits_of(&acme()).open_messages_max, 10);
    allow(&house, "acme", TenantLimits::default()).await;
    assert_eq!(house.acceptance.limits_of(&acme()), house.acceptance.limits().tenant);
    let nobody = house.manage.set_tenant_limits(&cause(), &tenant("nobody"), open(1)).await;
    assert!(nobody.is_err());
}

#[tokio::test]
async fn whoever_counts_what_is_open_looks_again_at_the_moment_that_it_has_named() {
    let house = House::furnished().await;
    let mut watch = watch(&house);
    for _ in 0..3 {
        let Step::Idle(Some(again)) = watch.step().await.unwrap() else { panic!("it waits") };
        assert_eq!(watch.step().await.unwrap(), Step::Idle(Some(again)), "not before");
        assert!(again > house.journal.now());
        house.clock.set(again);
    }
    // Nor does a clock that was set back keep it from looking.
    house.clock.set(noon());
    let Step::Idle(Some(again)) = watch.step().await.unwrap() else { panic!("it waits") };
    assert!(again - noon() < Duration::seconds(1));
}
