//! Lots in memory: locked one by one, re-read when another process was faster, forgotten when there are too many.

use kite_commands::lots::{Fence, SealedSending};
use kite_commands::{JournalError, Lots, LotsError};
use kite_domain::event::Event;
use kite_domain::ids::{LotId, SendingId};
use kite_domain::lot::{Lot, MessagesFinished, Outcome};
use kite_domain::sending::PauseBy;
use uuid::Uuid;

use crate::house::*;

fn end(seq: u32) -> Vec<Event> {
    let messages = std::iter::once(seq).collect();
    vec![
        MessagesFinished { messages, outcome: Outcome::Cancelled, reason: "test".into(), class: None }.into(),
    ]
}

#[tokio::test]
async fn changes_of_many_tasks_to_one_lot_are_all_kept() {
    let house = House::furnished().await;
    let other = house.restarted().await;
    let sending = house.accept(notice(recipients(60))).await.unwrap().sending;
    let id = LotId { sending, number: 0 };
    let changes = (0..60).map(|seq| {
        let lots = if seq % 2 == 0 { &house.lots } else { &other.lots };
        let actor = "test".into();
        async move { lots.change_one(id, &actor, |_, _| (end(seq), ())).await }
    });
    for changed in futures::future::join_all(changes).await {
        changed.unwrap();
    }
    assert_eq!(house.lot(sending, 0).await.counts().cancelled, 60);
    let in_memory = house.lots.read(id, |lot, _| lot.counts()).await.unwrap();
    assert_eq!(in_memory.total(), 60);
}

#[tokio::test]
async fn what_was_forgotten_is_read_back() {
    let house = House::furnished().await;
    let small = Lots::new(house.journal.clone(), 50);
    let mut ids = Vec::new();
    for _ in 0..200 {
        let sending = house.accept(notice(recipients(3))).await.unwrap().sending;
        ids.push(LotId { sending, number: 0 });
    }
    for round in 0..3 {
        for id in &ids {
            small.change_one(*id, &"test".into(), |_, _| (end(round), ())).await.unwrap();
        }
    }
    for id in ids {
        assert_eq!(small.read(id, |lot, _| lot.counts().cancelled).await.unwrap(), 3);
    }
}

#[tokio::test]
async fn only_lots_of_sealed_sendings_are_there() {
    let house = House::furnished().await;
    house.store.fail(2, crate::faulty_store::Fault::LostBefore);
    assert!(house.accept(notice(recipients(1_001))).await.is_err());
    house.store.heal();
    let Some(Event::LotAccepted(lot)) = house.events("lot-accepted").await.pop() else { panic!() };
    for sending in [lot.sending, SendingId(Uuid::nil())] {
        let id = LotId { sending, number: 0 };
        let answer = house.lots.read(id, |_, _| ()).await;
        assert!(matches!(answer, Err(LotsError::NotFound(same)) if same == id));
        let answer = house.lots.change_one(id, &"test".into(), |_, _| (Vec::new(), ())).await;
        assert!(matches!(answer, Err(LotsError::NotFound(_))));
    }
}

/// Lots of two processes on one log.
fn of_two(house: &House) -> [Lots; 2] {
    ["one", "other"].map(|name| Lots::new(house.journal.clone().of_node(name).shared(), 10_000))
}

/// What somebody sees who decides to do nothing.
async fn seen(lots: &Lots, id: LotId) -> Result<(u32, bool), LotsError> {
    lots.change_one(id, &"test".into(), |lot, sending| (Vec::new(), (lot.counts().open, sending.is_paused)))
        .await
}

#[tokio::test]
async fn what_another_process_has_written_is_seen_by_who_decides_to_do_nothing() {
    let house = House::furnished().await;
    let sending = house.accept(notice(recipients(3))).await.unwrap().sending;
    let id = LotId { sending, number: 0 };
    let [one, other] = of_two(&house);
    for lots in [&one, &other] {
        assert_eq!(seen(lots, id).await.unwrap(), (3, false));
    }
    one.change_one(id, &"test".into(), |_, _| (end(0), ())).await.unwrap();
    assert_eq!(seen(&other, id).await.unwrap(), (2, false));
    let paused = house.acceptance.pause(&cause(), &tenant("acme"), sending, PauseBy::Tenant, None).await;
    paused.unwrap();
    assert_eq!(seen(&other, id).await.unwrap(), (2, true));
    let read = one.read(id, |lot, sending| (lot.counts().open, sending.is_paused)).await.unwrap();
    assert_eq!(read, (2, true), "who only looks sees it, too");
}

#[tokio::test]
async fn what_was_decided_of_a_sending_that_was_paused_meanwhile_is_not_written() {
    let house = House::furnished().await;
    let [lots, _] = of_two(&house);
    let sending = house.accept(notice(recipients(3))).await.unwrap().sending;
    house.log().await.iter().for_each(|told| lots.note_told(told));
    house.acceptance.pause(&cause(), &tenant("acme"), sending, PauseBy::Tenant, None).await.unwrap();
    let (id, fence) = (LotId { sending, number: 0 }, Fence { stream: "router", version: 0 });
    let mut seen = Vec::new();
    let mut unless_paused = async || {
        let decide = |_, _: &Lot, sending: &SealedSending| {
            seen.push(sending.is_paused);
            (if sending.is_paused { Vec::new() } else { end(0) }, ())
        };
        lots.change_together(&mut { fence }, &[id], &"test".into(), decide).await.pop().unwrap()
    };
    let before = house.log().await.len();
    assert!(matches!(unless_paused().await, Err(LotsError::Contended(_))));
    unless_paused().await.unwrap();
    assert_eq!(house.log().await.len(), before);
    assert_eq!(seen, [false, true, true], "what was told, what was read, and whether it is still so");
}

/// A lot that nothing was decided of at first is read with its sending, of which more is known then.
#[tokio::test]
async fn what_was_decided_before_a_sending_was_read_again_rests_on_what_was_known_then() {
    let house = House::furnished().await;
    let [lots, _] = of_two(&house);
    let sending = house.accept(notice(recipients(1_001))).await.unwrap().sending;
    house.log().await.iter().for_each(|told| lots.note_told(told));
    house.acceptance.pause(&cause(), &tenant("acme"), sending, PauseBy::Tenant, None).await.unwrap();
    let ids = [0, 1].map(|number| LotId { sending, number });
    let mut fence = Fence { stream: "router", version: 0 };
    let before = house.log().await.len();
    let mut calls = 0;
    let decide = |place, _: &Lot, _: &SealedSending| {
        calls += 1;
        let events = match (place, calls) {
            (0, _) => end(0),
            (_, ..=2) => Vec::new(),
            _ => end(1_000),
        };
        (events, ())
    };
    let answers = lots.change_together(&mut fence, &ids, &"test".into(), decide).await;
    assert!(answers.iter().all(|answer| matches!(answer, Err(LotsError::Contended(_)))), "{answers:?}");
    assert_eq!((calls, house.log().await.len()), (3, before));
}

#[tokio::test]
async fn what_is_told_late_takes_nothing_from_what_is_known() {
    let house = House::furnished().await;
    let [lots, _] = of_two(&house);
    let sending = house.accept(notice(recipients(3))).await.unwrap().sending;
    let (pause, resume) = (house.log().await.len(), house.log().await.len() + 1);
    house.acceptance.pause(&cause(), &tenant("acme"), sending, PauseBy::Tenant, None).await.unwrap();
    house.acceptance.resume(&cause(), &tenant("acme"), sending, PauseBy::Tenant, None).await.unwrap();
    let log = house.log().await;
    let is_paused = async || lots.sending(sending).await.unwrap().unwrap().is_paused;
    assert!(!is_paused().await, "as it was read");
    lots.note_told(&log[pause]);
    assert!(!is_paused().await, "that was known");
    lots.forget_sending(sending);
    log[..=pause].iter().for_each(|told| lots.note_told(told));
    assert!(is_paused().await, "as it was told");
    lots.note_told(&log[resume]);
    assert!(!is_paused().await);
    // After the acceptance the pause is left out.
    lots.forget_sending(sending);
    log[..pause].iter().for_each(|told| lots.note_told(told));
    lots.note_told(&log[resume]);
    house.acceptance.pause(&cause(), &tenant("acme"), sending, PauseBy::Tenant, None).await.unwrap();
    assert!(is_paused().await, "it is read again");
}

/// Of a sending each.
async fn three_lots(house: &House) -> Vec<LotId> {
    let mut ids = Vec::new();
    for _ in 0..3 {
        let sending = house.accept(notice(recipients(4))).await.unwrap().sending;
        ids.push(LotId { sending, number: 0 });
    }
    ids
}

#[tokio::test]
async fn a_damaged_lot_keeps_no_other_from_being_changed() {
    let house = House::furnished().await;
    let ids = three_lots(&house).await;
    house.store.damage(&ids[1].stream());
    for lots in [&of_two(&house)[0], &Lots::new(house.journal.clone(), 10_000)] {
        let answers = lots.change(&ids, &"test".into(), |_, _, _| (end(0), ())).await;
        assert!(answers[0].is_ok() && answers[2].is_ok(), "{answers:?}");
        assert!(matches!(answers[1], Err(LotsError::Journal(JournalError::Read(_)))), "{answers:?}");
    }
}

#[tokio::test]
async fn what_a_change_needs_is_asked_for_at_once() {
    let house = House::furnished().await;
    let ids = three_lots(&house).await;
    let questions_of = async |lots: &Lots, seq: u32| {
        let before = house.store.questions();
        let answers = lots.change(&ids, &"test".into(), |_, _, _| (end(seq), ())).await;
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        house.store.questions() - before
    };
    let [shared, gathering] = of_two(&house);
    assert_eq!(questions_of(&shared, 0).await, 1, "lots and sendings that are not kept");
    assert_eq!(questions_of(&shared, 1).await, 1, "what has come of them since");
    let alone = Lots::new(house.journal.clone(), 10_000);
    assert_eq!(questions_of(&alone, 2).await, 1);
    assert_eq!(questions_of(&alone, 3).await, 0, "nobody else writes");

    let before = house.store.questions();
    gathering.gather_sendings(ids.iter().map(|id| id.sending)).await.unwrap();
    for id in &ids {
        assert!(gathering.sending(id.sending).await.unwrap().is_some());
    }
    assert_eq!(house.store.questions() - before, 1);
}

#[tokio::test]
async fn what_a_newer_program_has_written_to_one_lot_keeps_no_other_from_being_changed() {
    for known_before in [0, 500] {
        let house = House::furnished().await;
        let mut ids = Vec::new();
        for _ in 0..3 {
            let sending = house.accept(notice(recipients(2))).await.unwrap().sending;
            ids.push(LotId { sending, number: 0 });
        }
        let [lots, _] = of_two(&house);
        for id in &ids {
            seen(&lots, *id).await.unwrap();
        }
        // Also where it stands beyond what is read at once.
        for _ in 0..known_before {
            let held = r#"{"messages":[],"reason":"test","until_ms":[]}"#;
            crate::seals::put(&house, &ids[1].stream(), "messages-held", held).await;
        }
        crate::seals::put(&house, &ids[1].stream(), "of-tomorrow", "{}").await;
        let answers = lots.change(&ids, &"test".into(), |_, _, _| (end(0), ())).await;
        assert!(answers[0].is_ok() && answers[2].is_ok(), "{answers:?}");
        assert!(matches!(answers[1], Err(LotsError::Journal(JournalError::Decode { .. }))), "{answers:?}");
        // The same of a sending.
        crate::seals::put(&house, &ids[2].sending.stream(), "of-tomorrow", "{}").await;
        assert!(seen(&lots, ids[0]).await.is_ok());
        assert!(matches!(seen(&lots, ids[2]).await, Err(LotsError::Journal(JournalError::Decode { .. }))));
    }
}
