//! What is not understood is put aside, and has a way back.

use kite_domain::sending::MessageClass;
use kite_nats::{Connection, DeadLetters};
use kite_relay::queue::WantedLanes;
use kite_testkit::wait::wait_for;

use crate::ground::{Node, WITHIN, at, job, limits, server};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_is_put_aside_with_its_reason_and_holds_up_nobody() {
    let server = server().await;
    let both = at(vec![server.url()]);
    let publisher = Node::start(&both, true).await;
    let worker = Node::start(&both, false).await;
    let somebody = Connection::open(&both).await.unwrap();
    for text in ["nonsense", "{\"version\":9}"] {
        somebody.publish("test.dispatch.alpha.notice", text.into()).await.unwrap();
    }
    publisher.put(job(1, MessageClass::Notice, 0..1)).await;
    let lease = worker.take(WantedLanes::All).await;
    worker.settle(&lease, Vec::new()).await;

    let letters = DeadLetters::open(&both, "test", limits(1)).await.unwrap();
    let listed = wait_for("both to be put aside", WITHIN, async || {
        let listed = letters.list(1, 10).await.unwrap();
        (listed.len() == 2).then_some(listed)
    });
    let listed = listed.await.unwrap();
    assert_eq!(listed[0].subject, "test.dispatch.alpha.notice");
    assert_eq!(&listed[0].payload[..], b"nonsense");
    assert!(listed[0].reason.contains("is not JSON"), "{listed:?}");
    assert!(listed[1].reason.contains("version 9"), "{listed:?}");
    assert_eq!(letters.list(1, 1).await.unwrap(), listed[..1]);
    assert_eq!(letters.list(2, 10).await.unwrap(), listed[1..]);
    assert_eq!(letters.find(2).await.unwrap().as_ref(), listed.get(1));
    assert_eq!(letters.find(99).await.unwrap(), None);

    // It is as little understood as before, and comes back under another number.
    assert!(letters.retry(1).await.unwrap());
    let listed = wait_for("it to be put aside again", WITHIN, async || {
        worker.queue_look().await;
        let listed = letters.list(1, 10).await.unwrap();
        (listed.last().is_some_and(|last| last.number == 3)).then_some(listed)
    });
    assert_eq!(listed.await.unwrap().len(), 2);
    assert!(!letters.retry(1).await.unwrap(), "it is gone");
    assert!(letters.discard(2).await.unwrap() && letters.discard(3).await.unwrap());
    assert!(!letters.discard(3).await.unwrap());
    assert_eq!(letters.list(1, 10).await.unwrap(), []);
    let counts = wait_for("nothing to be left", WITHIN, async || {
        let counts = letters.counts().await.unwrap();
        (counts == [0, 0]).then_some(counts)
    });
    counts.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_is_understood_by_now_goes_to_a_worker() {
    let server = server().await;
    let both = at(vec![server.url()]);
    let worker = Node::start(&both, false).await;
    let somebody = Connection::open(&both).await.unwrap();
    let letters = DeadLetters::open(&both, "test", limits(1)).await.unwrap();
    let text = r#"{"version":1,"relay":"alpha","class":"otp","kind":"submit","jobs":[{"lot":"00000000000000000000000000000007-0","tenant":"shop","attempt":1,"messages":[0]}]}"#;
    somebody.publish("test.dead.alpha.otp", text.into()).await.unwrap();
    assert!(letters.retry(1).await.unwrap());
    let lease = worker.take(WantedLanes::All).await;
    assert_eq!((lease.class, lease.len()), (MessageClass::Otp, 1));
}
