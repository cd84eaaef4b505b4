//! The same key and body are the same sending, for ever (law 6), whatever breaks in between (promise 1).

use kite_commands::accept::{AcceptError, Accepted};
use kite_domain::event::Event;
use kite_domain::ids::SendingId;
use std::collections::HashSet;

use crate::faulty_store::{Fault, everything};
use crate::house::*;

#[tokio::test]
async fn a_repeat_is_answered_with_the_same_sending() {
    let house = House::furnished().await;
    let first = house.accept_once("key", "body", notice(recipients(1_500))).await.unwrap();
    let again = house.accept_once("key", "body", notice(recipients(1_500))).await.unwrap();
    assert_eq!((again.sending, again.messages, again.repeated), (first.sending, 1_500, true));
    assert_eq!(again.position, first.position, "who asks again reads on from his sending");
    let restarted = house.restarted().await;
    let later = restarted.accept_once("key", "body", notice(recipients(1_500))).await.unwrap();
    assert_eq!((later.sending, later.repeated, later.position), (first.sending, true, first.position));
    let other = house.accept_once("other", "body", notice(recipients(1))).await.unwrap();
    assert_ne!(other.sending, first.sending);
}

#[tokio::test]
async fn another_body_under_the_key_is_refused() {
    let house = House::furnished().await;
    house.accept_once("key", "body", notice(recipients(1))).await.unwrap();
    let answer = house.accept_once("key", "another body", notice(recipients(2))).await;
    assert!(matches!(answer, Err(AcceptError::KeyReused)));
}

#[tokio::test]
async fn a_key_belongs_to_its_tenant() {
    let house = House::furnished().await;
    house.move_in("other").await;
    let first = house.accept_once("key", "body", notice(recipients(1))).await.unwrap();
    let other = house.accept_once_of("other", "key", "different", notice(recipients(1))).await.unwrap();
    assert_ne!(other.sending, first.sending);
}

#[tokio::test]
async fn a_refused_request_does_not_use_up_its_key() {
    let house = House::furnished().await;
    let answer = house.accept_once("key", "bad", notice(vec![row(0, "bad")])).await;
    assert!(matches!(answer, Err(AcceptError::RowsRefused(_))));
    house.accept_once("key", "good", notice(recipients(1))).await.unwrap();
}

#[tokio::test]
async fn the_same_key_twice_at_once_is_one_sending() {
    let house = House::furnished().await;
    let answers = futures::future::join_all(
        (0..8).map(|_| house.accept_once("key", "body", notice(recipients(1_200)))),
    )
    .await;
    let good: HashSet<SendingId> =
        answers.iter().filter_map(|answer| Some(answer.as_ref().ok()?.sending)).collect();
    assert_eq!(good.len(), 1);
    let is_clear =
        |answer: &Result<Accepted, AcceptError>| matches!(answer, Ok(_) | Err(AcceptError::InProgress));
    assert!(answers.iter().all(is_clear));
    assert_eq!(house.events("sending-accepted").await.len(), 1);
}

#[tokio::test]
async fn the_same_key_at_two_processes_is_one_sending() {
    let house = House::furnished().await;
    let other = house.restarted().await;
    for round in 0..10 {
        let key = format!("key {round}");
        let (left, right) = tokio::join!(
            house.accept_once(&key, "body", notice(recipients(1_200))),
            other.accept_once(&key, "body", notice(recipients(1_200))),
        );
        let good: HashSet<SendingId> =
            [left, right].into_iter().flatten().map(|accepted| accepted.sending).collect();
        assert!(good.len() <= 1, "{good:?}");
        let after = house.accept_once(&key, "body", notice(recipients(1_200))).await.unwrap();
        assert!(good.iter().all(|sending| *sending == after.sending));
    }
    assert_eq!(house.events("sending-accepted").await.len(), 10);
}

/// Routes everything there is and looks whether only sealed sendings were routed, each of them whole.
async fn only_whole_sendings_are_routed(house: &House) {
    let house = house.restarted().await;
    work_off(&mut house.router()).await;
    let log = house.log().await;
    let mut sealed = Vec::new();
    for told in &log {
        if let Event::SendingAccepted(accepted) = &told.event {
            sealed.push((accepted.sending, accepted.messages));
        }
    }
    let routes = first_routes(&log);
    for (sending, messages) in &sealed {
        let routed = routes.iter().filter(|(message, _)| message.sending == *sending).count();
        assert_eq!(routed, *messages as usize, "a sealed sending is routed whole");
    }
    assert!(
        routes.iter().all(|(message, _)| sealed.iter().any(|(id, _)| *id == message.sending)),
        "nothing else is"
    );
    split_is_exact(&log);
}

/// Claim, three lots, seal: five appends. Each of them fails in every way, then the caller tries again.
#[tokio::test]
async fn whatever_append_fails_a_repeat_gives_exactly_one_sending() {
    for fault in [Fault::Busy, Fault::Unavailable, Fault::LostBefore, Fault::LostAfter, Fault::Conflict] {
        for at in 0..5 {
            let house = House::furnished().await;
            house.store.fail(at, fault);
            let answer = house.accept_once("key", "body", notice(recipients(2_500))).await;
            assert!(answer.is_err(), "{fault:?} at {at}");
            assert!(!house.store.is_armed(), "{fault:?} at {at} did not happen");
            house.store.heal();
            only_whole_sendings_are_routed(&house).await;

            // The caller does not know, and asks another process.
            let house = house.restarted().await;
            let accepted = house.accept_once("key", "body", notice(recipients(2_500))).await.unwrap();
            let again = house.accept_once("key", "body", notice(recipients(2_500))).await.unwrap();
            assert_eq!((again.sending, again.repeated), (accepted.sending, true));
            assert_eq!(
                accepted.repeated,
                fault == Fault::LostAfter && at == 4,
                "only a seal that is in the log counts"
            );
            assert_eq!(house.events("sending-accepted").await.len(), 1, "{fault:?} at {at}");
            only_whole_sendings_are_routed(&house).await;
        }
    }
}

/// What got an answer is in the log before the answer.
#[tokio::test]
async fn what_was_accepted_survives_the_end_of_the_process_right_after() {
    let house = House::furnished().await;
    let appends = house.store.appends();
    let accepted = house.accept(notice(recipients(1_500))).await.unwrap();
    assert_eq!(house.store.appends() - appends, 3, "two lots and the seal");
    house.store.fail(0, Fault::LostBefore);
    let _ = house.accept(notice(recipients(1))).await;
    house.store.heal();
    let house = house.restarted().await;
    work_off(&mut house.router()).await;
    let log = house.log().await;
    assert_eq!(
        first_routes(&log).iter().filter(|(message, _)| message.sending == accepted.sending).count(),
        1_500
    );
}

/// A process that was given up comes back and finds that its place was taken.
#[tokio::test]
async fn a_claim_that_was_given_up_can_not_be_sealed_any_more() {
    let house = House::furnished().await;
    house.store.fail(4, Fault::LostBefore);
    let _ = house.accept_once("key", "body", notice(recipients(2_500))).await;
    house.store.heal();
    let other = house.restarted().await;
    let accepted = other.accept_once("key", "body", notice(recipients(2_500))).await.unwrap();
    let abandoned = house.events("sending-abandoned").await;
    let [Event::SendingAbandoned(abandoned)] = &abandoned[..] else { panic!("{abandoned:?}") };
    assert_ne!(abandoned.sending, accepted.sending);
    let stream = abandoned.sending.stream();
    let streams = everything(&house.store).await.into_iter().filter(|event| event.stream == stream).count();
    assert_eq!(streams, 1, "the mark stands where the seal would have been");
}

/// A slow process has claimed the key and written its lots, and is about to seal; another one takes over.
#[tokio::test]
async fn a_slow_process_cannot_seal_what_was_taken_over() {
    let house = House::furnished().await;
    let other = house.restarted().await;
    let mut slow = Box::pin(house.accept_once("key", "body", notice(recipients(1_001))));
    while house.events("lot-accepted").await.is_empty() {
        assert!(futures::poll!(slow.as_mut()).is_pending(), "it stops between its appends");
    }
    let accepted = other.accept_once("key", "body", notice(recipients(2))).await.unwrap();
    assert!(matches!(slow.await, Err(AcceptError::InProgress)));
    let again = house.accept_once("key", "body", notice(recipients(2))).await.unwrap();
    assert_eq!(again.sending, accepted.sending);
    assert_eq!(house.events("sending-accepted").await.len(), 1);
    only_whole_sendings_are_routed(&house).await;
}

/// The caller hangs up before the seal: what nobody sealed is not taken for accepted, not even in this process.
#[tokio::test]
async fn a_caller_that_goes_away_before_the_seal_leaves_nothing_accepted() {
    let house = House::furnished().await;
    let mut request = Box::pin(house.accept_once("key", "body", notice(recipients(1_001))));
    while house.events("lot-accepted").await.is_empty() {
        assert!(futures::poll!(request.as_mut()).is_pending(), "it stops between its appends");
    }
    drop(request);
    assert_eq!(house.events("sending-accepted").await, []);
    let accepted = house.accept_once("key", "body", notice(recipients(2))).await.unwrap();
    assert!(!accepted.repeated);
    assert_eq!(house.events("sending-accepted").await.len(), 1);
    only_whole_sendings_are_routed(&house).await;
}

/// Claim, lot and seal of a sending with one lot are one append.
#[tokio::test]
async fn a_sending_of_one_lot_is_in_the_log_whole_or_not_at_all() {
    for at in 0..3 {
        for fault in [Fault::Busy, Fault::Conflict, Fault::LostBefore] {
            let house = House::furnished().await;
            let before = house.log().await.len();
            house.store.fail(at, fault);
            house.accept_once("key", "body", notice(recipients(2))).await.unwrap_err();
            assert!(!house.store.is_armed(), "{fault:?} at {at}");
            house.store.heal();
            assert_eq!(house.log().await.len(), before, "{fault:?} at {at}");
            let accepted = house.accept_once("key", "body", notice(recipients(2))).await.unwrap();
            assert!(!accepted.repeated, "{fault:?} at {at}");
            only_whole_sendings_are_routed(&house).await;
        }
    }
}

#[tokio::test]
async fn a_claim_without_a_seal_does_not_bind_the_body() {
    let house = House::furnished().await;
    house.store.fail(4, Fault::LostBefore);
    let _ = house.accept_once("key", "body", notice(recipients(2_500))).await;
    house.store.heal();
    // Nobody was told that the first was accepted, and it was not.
    house.accept_once("key", "corrected body", notice(recipients(1))).await.unwrap();
    let answer = house.accept_once("key", "body", notice(recipients(2_500))).await;
    assert!(matches!(answer, Err(AcceptError::KeyReused)));
}
