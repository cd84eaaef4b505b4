//! Pulled receipts against a relay that hands out what it is told to.

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use kite_commands::clock::ManualClock;
use kite_commands::directory::Directory;
use kite_commands::event_store::MemoryEventStore;
use kite_commands::receipts::ReceiptBook;
use kite_commands::{Journal, Lots, Step, Worker};
use kite_domain::event::Event;
use kite_domain::ids::AttemptReference;
use kite_domain::not_understood::{self, KEPT_PER_DAY_MAX, Misread, MisreadReason, SaidHow};
use kite_domain::slug::RelayId;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

use super::ReceiptPuller;
use crate::client::{
    CallFailed, MessageAnswer, OutgoingMessage, PulledReceipts, RateLimit, RelayClient, Standing,
    SubmitAnswer, http,
};

/// Hands these out, one after the other, and notes how much was kept when a lease was acknowledged.
struct Post {
    answers: Mutex<Vec<Result<PulledReceipts, CallFailed>>>,
    misread: Mutex<Vec<(SaidHow, Misread)>>,
    /// What becomes of the next acknowledgements; of all others: they are taken.
    unacknowledged: Mutex<Vec<CallFailed>>,
    kept_at_acknowledgement: Mutex<Vec<usize>>,
    journal: Journal,
    clock: Arc<ManualClock>,
}

fn alpha() -> RelayId {
    RelayId::from_trusted("alpha")
}

async fn kept(journal: &Journal) -> Vec<Event> {
    let stream = not_understood::stream(&alpha(), journal.now());
    let told = journal.read_stream(&stream, 0).await.unwrap();
    told.into_iter().map(|told| told.event).collect()
}

#[async_trait]
impl RelayClient for Post {
    async fn submit(&self, messages: &[OutgoingMessage]) -> SubmitAnswer {
        SubmitAnswer::all(messages.len(), MessageAnswer::NotTried)
    }

    async fn status(&self, _: &[AttemptReference], _: DateTime<Utc>) -> Result<Vec<Standing>, CallFailed> {
        Ok(Vec::new())
    }

    async fn pull_receipts(&self, _: u32) -> Result<PulledReceipts, CallFailed> {
        self.answers.lock().remove(0)
    }

    async fn acknowledge(&self, _: &str) -> Result<(), CallFailed> {
        let count = kept(&self.journal).await.len();
        self.kept_at_acknowledgement.lock().push(count);
        self.unacknowledged.lock().pop().map_or(Ok(()), Err)
    }

    fn take_misread(&self) -> Vec<(SaidHow, Misread)> {
        std::mem::take(&mut *self.misread.lock())
    }
}

fn puller(answers: Vec<Result<PulledReceipts, CallFailed>>) -> (ReceiptPuller, Arc<Post>, Journal) {
    let clock = Arc::new(ManualClock::at(DateTime::from_timestamp(1_800_000_000, 0).unwrap()));
    let journal = Journal::new(Arc::new(MemoryEventStore::new()), clock.clone(), clock.clone());
    let book = ReceiptBook::new(Lots::new(journal.clone(), 1_000), Directory::default());
    let post = Arc::new(Post {
        answers: Mutex::new(answers),
        misread: Mutex::default(),
        unacknowledged: Mutex::default(),
        kept_at_acknowledgement: Mutex::default(),
        journal: journal.clone(),
        clock: clock.clone(),
    });
    let puller = ReceiptPuller::new(alpha(), post.clone(), book, clock, Duration::from_secs(1), 100);
    (puller, post, journal)
}

#[tokio::test]
async fn what_there_is_no_room_for_is_not_acknowledged_and_the_pauses_grow_up_to_a_minute() {
    let body = br#"{"lease":"lease-1","receipts":[
        {"reference":"of nobody","status":"delivered","code":"1000","at":"2027-01-15T08:00:05Z"},
        {"reference":"a","status":"gone"}]}"#;
    let answers = (0..9).map(|_| Ok(http::read_pulled(body).unwrap())).collect();
    let (mut puller, post, journal) = puller(answers);
    let book = ReceiptBook::new(Lots::new(journal.clone(), 1_000), Directory::default());
    let filling = |number: u64| Misread {
        row: None,
        field: None,
        reason: MisreadReason::NoJson,
        raw: format!("filling {number}"),
    };
    let filled = (0..KEPT_PER_DAY_MAX).map(filling).collect();
    assert_eq!(book.keep_not_understood(&alpha(), SaidHow::Pulled, filled).await.unwrap().beyond, 0);

    let mut pauses = Vec::new();
    for _ in 0..8 {
        let Step::Idle(Some(until)) = puller.step().await.unwrap() else { panic!("it does not wait") };
        pauses.push((until - journal.now()).num_seconds());
    }
    assert_eq!(pauses, [2, 4, 8, 16, 32, 60, 60, 60]);
    assert!(post.kept_at_acknowledgement.lock().is_empty(), "it comes again");
    // What is understood is in the log all the same.
    let parked = journal.read_stream(&kite_domain::receipt::parked_stream(&alpha()), 0).await.unwrap();
    assert!(!parked.is_empty(), "the receipt that nobody knows is parked");

    // On another day there is room.
    post.clock.advance(TimeDelta::days(1));
    assert_eq!(puller.step().await.unwrap(), Step::Worked);
    assert_eq!(*post.kept_at_acknowledgement.lock(), [1]);
}

#[tokio::test]
async fn what_is_not_understood_is_kept_before_the_lease_is_acknowledged() {
    let body = br#"{"lease":"lease-1","receipts":[{"reference":"a","status":"gone"},7]}"#;
    let pulled = || Ok(http::read_pulled(body).unwrap());
    let (mut puller, post, journal) = puller(vec![pulled(), pulled()]);
    for _ in 0..2 {
        assert_eq!(puller.step().await.unwrap(), Step::Worked);
    }
    // Handed out again, it is not kept again.
    assert_eq!(*post.kept_at_acknowledgement.lock(), [2, 2]);
    let said: Vec<_> = kept(&journal)
        .await
        .into_iter()
        .filter_map(|event| match event {
            Event::RelayNotUnderstood(said) => Some((said.how, said.row, said.personal.raw)),
            _ => None,
        })
        .collect();
    let expected = [
        (SaidHow::Pulled, Some(0), r#"{"reference":"a","status":"gone"}"#.to_owned()),
        (SaidHow::Pulled, Some(1), "7".to_owned()),
    ];
    assert_eq!(said, expected);
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_at_all_is_kept_and_acknowledged_by_nobody() {
    let failed = CallFailed { reason: "no JSON".into(), retry_after: None, is_rate_limit: RateLimit::No };
    let (mut puller, post, journal) = puller(vec![Err(failed)]);
    let raw = "<html>".to_owned();
    let misread = Misread { row: None, field: None, reason: MisreadReason::NoJson, raw };
    post.misread.lock().push((SaidHow::Pulled, misread));
    assert!(matches!(puller.step().await.unwrap(), Step::Idle(_)));
    assert_eq!(kept(&journal).await.len(), 1);
    assert!(post.kept_at_acknowledgement.lock().is_empty());
}

fn left_alone_for(retry_after: Option<Duration>) -> CallFailed {
    CallFailed { reason: "429".into(), retry_after, is_rate_limit: RateLimit::Yes }
}

#[tokio::test]
async fn a_relay_is_left_alone_for_as_long_as_it_asks_where_receipts_are_pulled_and_acknowledged() {
    let asked = |seconds| left_alone_for(Some(Duration::from_secs(seconds)));
    let body = br#"{"lease":"lease-1","receipts":[7]}"#;
    let answers = vec![
        Err(left_alone_for(None)),
        Err(asked(40)),
        Err(asked(3_000)),
        Ok(http::read_pulled(body).unwrap()),
    ];
    let (mut puller, post, journal) = puller(answers);
    post.unacknowledged.lock().push(asked(50));
    let mut pauses = Vec::new();
    for _ in 0..4 {
        let Step::Idle(Some(until)) = puller.step().await.unwrap() else { panic!("it does not wait") };
        pauses.push((until - journal.now()).num_seconds());
    }
    assert_eq!(pauses, [1, 40, 3_000, 50], "its own pause only where the relay names none");
    assert_eq!(*post.kept_at_acknowledgement.lock(), [1], "kept before it was to be acknowledged");
}
