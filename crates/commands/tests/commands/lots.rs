//! Lots in memory: locked one by one, re-read when another process was faster, forgotten when there are too many.

use kite_commands::{Lots, LotsError};
use kite_domain::event::Event;
use kite_domain::ids::{LotId, SendingId};
use kite_domain::lot::{MessagesFinished, Outcome};
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
    house.store.fail(1, crate::faulty_store::Fault::LostBefore);
    assert!(house.accept(notice(recipients(1))).await.is_err());
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
