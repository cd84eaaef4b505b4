//! A log that is a copy of one that may be at work.

use chrono::Duration;
use kite_commands::settler::Settler;
use kite_commands::{Step, Worker};
use kite_domain::event::Event;
use kite_domain::ids::SendingId;
use kite_domain::instance::Standing;
use kite_domain::lot::{AttemptState, Outcome};
use kite_event_store::EventStore;

use crate::house::*;

fn settler(house: &House) -> Settler {
    Settler::new(house.lots.clone(), house.directory.clone())
}

/// From here on the log is a copy.
async fn copy(house: &House) {
    let until = *house.store.head().borrow();
    house.manage.mark_as_copy(&cause(), until, noon()).await.unwrap();
}

async fn release(house: &House) {
    let dead_since = house.journal.now();
    house.manage.release_instance(&cause(), dead_since, "its disk is gone".to_owned()).await.unwrap();
}

async fn states(house: &House, sending: SendingId) -> Vec<AttemptState> {
    let lot = house.lot(sending, 0).await;
    lot.messages().map(|(_, message)| message.attempts.last().unwrap().state).collect()
}

#[tokio::test]
async fn it_accepts_and_routes_and_ends_nothing_before_the_word() {
    let house = House::furnished().await;
    let mut request = notice(recipients(2));
    request.lifetime_s = Some(60);
    let before = house.accept(request).await.unwrap().sending;
    copy(&house).await;
    let after = house.accept(notice(recipients(2))).await.unwrap().sending;
    work_off(&mut house.router()).await;
    house.advance(Duration::hours(1));
    work_off(&mut house.timekeeper()).await;
    assert_eq!(house.events("messages-routed").await, []);
    assert_eq!(house.events("messages-finished").await, []);
    assert_eq!(settler(&house).step().await.unwrap(), Step::Idle(None));
    for sending in [before, after] {
        assert!(house.lot(sending, 0).await.has_unrouted());
    }
}

#[tokio::test]
async fn after_the_word_what_the_original_may_have_handed_over_is_in_doubt_and_nothing_else() {
    let house = House::furnished().await;
    let (with_relays, _) = house.handed_over(4).await;
    let routed = house.accept(notice(recipients(4))).await.unwrap().sending;
    work_off(&mut house.router()).await;
    let unrouted = house.accept(notice(recipients(1))).await.unwrap().sending;
    let mut later = notice(recipients(1));
    later.scheduled_at = Some(house.journal.now() + Duration::hours(2));
    let later = house.accept(later).await.unwrap().sending;
    copy(&house).await;
    let own = house.accept(notice(recipients(1))).await.unwrap().sending;
    release(&house).await;
    assert!(!house.directory.snapshot().instance.may_hand_over(), "not before everything is in doubt");
    work_off(&mut settler(&house)).await;

    assert!(matches!(house.directory.snapshot().instance, Standing::Settled { .. }));
    for sending in [with_relays, routed] {
        assert!(states(&house, sending).await.iter().all(|state| *state == AttemptState::Unknown));
    }
    let lot = house.lot(unrouted, 0).await;
    assert_eq!(lot.messages().next().unwrap().1.outcome, Some(Outcome::Expired));
    for sending in [later, own] {
        assert!(house.lot(sending, 0).await.has_unrouted());
    }
    let settled = house.events("instance-settled").await;
    let [Event::InstanceSettled(settled)] = &settled[..] else { panic!("{settled:?}") };
    assert_eq!((settled.messages_in_doubt, settled.messages_given_up), (9, 1));
    work_off(&mut house.router()).await;
    assert_eq!(states(&house, own).await, [AttemptState::Routed]);
}

#[tokio::test]
async fn a_settler_that_dies_is_followed_by_another_that_puts_nothing_in_doubt_twice() {
    let house = House::furnished().await;
    for _ in 0..300 {
        house.accept(notice(recipients(1))).await.unwrap();
    }
    work_off(&mut house.router()).await;
    copy(&house).await;
    release(&house).await;
    assert_eq!(settler(&house).step().await.unwrap(), Step::Worked);
    let half = house.events("messages-doubted").await.len();
    assert!((1..300).contains(&half), "{half}");
    let house = house.restarted().await;
    work_off(&mut settler(&house)).await;
    assert_eq!(house.events("messages-doubted").await.len(), 300);
    assert_eq!(house.events("instance-settled").await.len(), 1);
    work_off(&mut settler(&house)).await;
    assert_eq!(house.events("instance-settled").await.len(), 1);
}
