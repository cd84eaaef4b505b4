//! The router dies, is overtaken, or does not hear: no message is routed twice or never, and the split stays exact.

use kite_commands::{Worker, WorkerError};

use crate::faulty_store::Fault;
use crate::house::*;

/// Steps until there is nothing to do, whatever goes wrong meanwhile.
async fn insist(worker: &mut dyn Worker) {
    for _ in 0..1_000 {
        match worker.step().await {
            Ok(kite_commands::Step::Idle(_)) => return,
            Ok(kite_commands::Step::Worked) | Err(WorkerError::Retry(_)) => {}
            Err(error @ WorkerError::Fatal(_)) => panic!("{error}"),
        }
    }
    panic!("it does not come to an end");
}

/// Sendings of several lots, so that one step of the router is several appends.
async fn crowd(house: &House) -> usize {
    let sizes = [1_003, 1, 2_001, 7, 3];
    for size in sizes {
        house.accept(notice(recipients(size))).await.unwrap();
    }
    sizes.into_iter().map(|size| size as usize).sum()
}

#[tokio::test]
async fn whatever_append_fails_in_whatever_way() {
    for fault in [Fault::Busy, Fault::Unavailable, Fault::LostBefore, Fault::LostAfter, Fault::Conflict] {
        for at in 0..8 {
            let house = House::furnished().await;
            let mut router = house.router();
            let first = crowd(&house).await;
            house.store.fail(at, fault);
            for _ in 0..20 {
                let _ = router.step().await;
                if !house.store.is_armed() {
                    break;
                }
            }
            assert!(!house.store.is_armed(), "{fault:?} at {at} did not happen");
            house.store.heal();
            let second = crowd(&house).await;
            insist(&mut router).await;
            let log = house.log().await;
            split_is_exact(&log);
            assert_eq!(first_routes(&log).len(), first + second, "{fault:?} at {at}");
        }
    }
}

/// It is told, and tried again later; it keeps no other lot from being routed.
#[tokio::test]
async fn a_lot_that_is_too_large_for_the_log_holds_up_no_other() {
    let house = House::furnished().await;
    let mut router = house.router();
    insist(&mut router).await;
    let messages = crowd(&house).await;
    // The election and its count, the fence, one lot.
    house.store.fail(4, Fault::TooLarge);
    insist(&mut router).await;
    assert!(!house.store.is_armed());
    let routed = first_routes(&house.log().await).len();
    assert!(routed > messages / 3 && routed < messages, "{routed} of {messages}");
    house.advance(chrono::TimeDelta::seconds(5));
    insist(&mut router).await;
    let log = house.log().await;
    assert_eq!(first_routes(&log).len(), messages);
    split_is_exact(&log);
}

#[tokio::test]
async fn a_new_router_goes_on_wherever_its_memory_ends() {
    let house = House::furnished().await;
    let mut router = house.router();
    let mut messages = crowd(&house).await;
    insist(&mut router).await;
    messages += crowd(&house).await;
    router.step().await.unwrap();
    // The next router knows the log up to here only from the read model, and reads the rest itself.
    let end = house.log().await.len() as u64;
    for known in (0..=end).step_by(3).chain([end]) {
        let house = house.restarted().await;
        house.work.forget_after(Some(known));
        let mut router = house.router();
        messages += 1;
        house.accept(notice(recipients(1))).await.unwrap();
        insist(&mut router).await;
        let log = house.log().await;
        split_is_exact(&log);
        assert_eq!(first_routes(&log).len(), messages, "with a memory up to {known}");
    }
}

#[tokio::test]
async fn a_router_that_was_overtaken_takes_over_what_the_other_has_done() {
    let house = House::furnished().await;
    let other = house.restarted().await;
    let (mut slow, mut fast) = (house.router(), other.router());
    insist(&mut slow).await;
    insist(&mut fast).await;
    let messages = crowd(&house).await;
    insist(&mut fast).await;
    // It has read the same sendings by now, and finds that another one is elected.
    insist(&mut slow).await;
    let more = crowd(&house).await;
    insist(&mut slow).await;
    let log = house.log().await;
    assert_eq!(first_routes(&log).len(), messages + more);
    split_is_exact(&log);
}

/// What it knows may leave out splits of a policy that is in the log since.
#[tokio::test]
async fn a_router_whose_memory_is_ahead_of_what_it_has_read_asks_again() {
    let house = House::furnished().await;
    let messages = crowd(&house).await;
    *house.work.ahead.lock() = 1;
    let mut router = house.router();
    for _ in 0..2 {
        assert!(matches!(router.step().await, Err(WorkerError::Retry(_))));
    }
    assert!(first_routes(&house.log().await).is_empty());
    *house.work.ahead.lock() = 0;
    insist(&mut router).await;
    assert_eq!(first_routes(&house.log().await).len(), messages);
    split_is_exact(&house.log().await);
}

#[tokio::test]
async fn a_read_model_that_is_down_only_delays() {
    let house = House::furnished().await;
    let messages = crowd(&house).await;
    *house.work.is_down.lock() = true;
    let mut router = house.router();
    assert!(matches!(router.step().await, Err(WorkerError::Retry(_))));
    *house.work.is_down.lock() = false;
    insist(&mut router).await;
    assert_eq!(first_routes(&house.log().await).len(), messages);
}
