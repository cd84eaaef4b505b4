//! The seals of the log, where somebody or the disk has made something else of what it holds.

use chrono::TimeDelta;
use kite_commands::sealer::Sealer;
use kite_commands::seals::{self, SealCheck, SealPlace, SealReport, SealTrust, SealWatch};
use kite_commands::{Step, Worker};
use kite_domain::seal::{self, Difference, STREAM};
use kite_event_store::{Batch, BatchMode, EventStore, Expected, Filter, NewEvent, StreamAppend};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, SharedString, Unit};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use uuid::Uuid;

use crate::house::*;

/// Appends an event to a stream; the log does not look into it.
pub(crate) async fn put(house: &House, stream: &str, kind: &str, data: &str) -> u64 {
    put_as(house, stream, (kind, 1), data).await
}

/// The same of a version that this program does not know.
pub(crate) async fn put_of_tomorrow(house: &House, stream: &str, kind: &str) {
    put_as(house, stream, (kind, 900), "{}").await;
}

async fn put_as(house: &House, stream: &str, (kind, schema_version): (&str, u16), data: &str) -> u64 {
    let metadata = kite_event_store::Metadata {
        time: house.journal.now(),
        tenant: None,
        correlation: Uuid::nil(),
        causation: None,
        actor: "test".into(),
        traceparent: None,
    };
    let event = NewEvent {
        id: house.journal.next_id(),
        kind: kind.into(),
        schema_version,
        data: data.to_owned().into(),
    };
    let append =
        StreamAppend { stream: stream.into(), expected: Expected::Any, metadata, events: vec![event] };
    let batch = Batch::new(BatchMode::Independent, vec![append]);
    house.store.append(batch).await.pop().unwrap().unwrap().position
}

async fn put_some(house: &House, events: usize) {
    for _ in 0..events {
        put(house, "some", "something", "{}").await;
    }
}

/// Steps it until it has nothing to do.
async fn rest(worker: &mut dyn Worker) {
    while worker.step().await.unwrap() == Step::Worked {}
}

/// Events, and a seal of them.
async fn put_and_seal(house: &House, sealer: &mut Sealer, events: usize) {
    put_some(house, events).await;
    sealer.seal_the_rest().await.unwrap();
}

async fn verified(house: &House) -> SealReport {
    seals::verify(&*house.store).await.unwrap()
}

fn spoilt(position: u64) -> Difference {
    Difference::Unreadable { position, why: "it is spoilt".to_owned() }
}

#[tokio::test]
async fn a_newest_seal_that_cannot_be_read_is_told_and_sealing_goes_on() {
    for is_row in [false, true] {
        let house = House::empty();
        put_and_seal(&house, &mut Sealer::new(house.journal.clone(), None), 4).await;
        put_some(&house, 2).await;
        let broken = put(&house, STREAM, "log-sealed", "{").await;
        assert_eq!(broken, 8);
        if is_row {
            house.store.spoil(broken);
        }
        put_some(&house, 3).await;
        let trust = SealTrust::default();
        let mut sealer = Sealer::new(house.journal.clone(), None).telling(trust.clone());
        rest(&mut sealer).await;
        let words = trust.difference().unwrap();
        assert!(words.starts_with("the event at position 8 was changed: it cannot be read ("), "{words}");

        put_and_seal(&house, &mut sealer, 5).await;
        let report = verified(&house).await;
        assert_eq!((report.differences, report.first_differences[0].position()), (1, 8), "{report:?}");
        assert_eq!(
            (report.sealed_until, report.unsealed),
            (17, 1),
            "everything but the newest seal is sealed"
        );
    }
}

/// Whoever lets a seal cover what is to come would end all sealing.
#[tokio::test]
async fn a_seal_of_what_is_not_there_yet_is_none() {
    let house = House::empty();
    put_some(&house, 2).await;
    let forged = r#"{"after":0,"until":1000000,"events":1,"digest":"00","marks":""}"#;
    put(&house, STREAM, "log-sealed", forged).await;
    put_and_seal(&house, &mut Sealer::new(house.journal.clone(), None), 1).await;
    let report = verified(&house).await;
    assert_eq!((report.differences, report.first_differences[0].position()), (1, 3), "{report:?}");
    assert_eq!(report.sealed_until, 4);
}

#[tokio::test]
async fn events_that_cannot_be_read_are_named_one_by_one_and_the_others_are_looked_at() {
    let house = House::empty();
    let mut sealer = Sealer::new(house.journal.clone(), None);
    put_and_seal(&house, &mut sealer, 5).await;
    put_and_seal(&house, &mut sealer, 5).await;
    put_some(&house, 3).await;
    assert!(verified(&house).await.is_clean());
    for position in [2, 4, 9, 14] {
        house.store.spoil(position);
    }
    let report = verified(&house).await;
    assert_eq!(report.first_differences, [2, 4, 9, 14].map(spoilt));
    assert_eq!((report.differences, report.events, report.unsealed), (4, 11, 4));

    // What is sealed over one that was spoilt before agrees with it for ever, and it is still told.
    Sealer::new(house.journal.clone(), None).seal_the_rest().await.unwrap();
    let report = verified(&house).await;
    assert_eq!((report.first_differences, report.sealed_until), ([2, 4, 9, 14].map(spoilt).to_vec(), 15));
}

#[tokio::test]
async fn what_an_earlier_process_left_is_sealed_at_once_and_the_rest_after_its_time() {
    let house = House::empty();
    put_some(&house, 3).await;
    let mut sealer = Sealer::new(house.journal.clone(), None);
    rest(&mut sealer).await;
    assert_eq!(verified(&house).await.sealed_until, 3);
    put_some(&house, 2).await;
    rest(&mut sealer).await;
    assert_eq!(verified(&house).await.sealed_until, 3, "others may come");
    house.advance(TimeDelta::seconds(10));
    rest(&mut sealer).await;
    assert_eq!(verified(&house).await.sealed_until, 6);

    put_some(&house, 2).await;
    sealer.seal_the_rest().await.unwrap();
    let report = verified(&house).await;
    assert_eq!((report.sealed_until, report.unsealed), (9, 1), "at an end nothing is waited for");
    sealer.seal_the_rest().await.unwrap();
    assert_eq!(verified(&house).await.seals, 3, "a seal is no reason for another one");
}

#[tokio::test]
async fn the_watch_begins_anew_and_reads_what_is_kept_and_not_what_is_remembered() {
    let house = House::empty();
    house.store.remember();
    put_and_seal(&house, &mut Sealer::new(house.journal.clone(), None), 5).await;
    let trust = SealTrust::default();
    let mut watch = SealWatch::new(house.journal.clone(), trust.clone());
    assert_eq!(trust.progress(), "not looked at yet");
    watch.step().await.unwrap();
    assert_eq!(trust.progress(), "the newest seals hold, the ones before were not looked at yet");
    house.advance(TimeDelta::milliseconds(999));
    watch.step().await.unwrap();
    assert_eq!(trust.verified_until(), 0, "it is driven more often than it works");
    house.advance(TimeDelta::milliseconds(1));
    watch.step().await.unwrap();
    let words =
        "the log is as it was sealed, looked at up to position 5, last to the end at 2026-03-02T03:00:";
    assert!(trust.progress().starts_with(words), "{}", trust.progress());

    house.store.spoil(2);
    house.advance(TimeDelta::minutes(59));
    watch.step().await.unwrap();
    assert_eq!(trust.difference(), None, "not yet");
    house.advance(TimeDelta::minutes(1));
    watch.step().await.unwrap();
    let words = "the event at position 2 was changed: it cannot be read (it is spoilt) (kite audit --verify)";
    assert_eq!(trust.difference().as_deref(), Some(words));
}

#[tokio::test]
async fn the_newest_digests_that_were_kept_elsewhere_are_compared_at_the_beginning() {
    let house = House::empty();
    let mut sealer = Sealer::new(house.journal.clone(), None);
    for _ in 0..40 {
        put_and_seal(&house, &mut sealer, 1).await;
    }
    let page = house.store.read_all(0, usize::MAX, &Filter::everything()).await.unwrap();
    let seals = page.events.iter().filter(|event| event.kind == "log-sealed");
    let mut kept: BTreeMap<u64, String> = seals
        .map(|event| {
            let seal: serde_json::Value = serde_json::from_slice(&event.data).unwrap();
            (seal["until"].as_u64().unwrap(), seal["digest"].as_str().unwrap().to_owned())
        })
        .collect();
    assert_eq!((kept.len(), kept.contains_key(&39)), (40, true));
    assert!(seals::few_differ_from(&*house.store, 40, &kept).await.unwrap().is_empty());
    kept.insert(39, "0".repeat(64));
    kept.insert(500, "0".repeat(64));
    assert_eq!(seals::few_differ_from(&*house.store, 40, &kept).await.unwrap(), [39, 500]);
    assert_eq!(seals::differ_from(&*house.store, &kept).await.unwrap(), [39, 500]);

    let trust = SealTrust::default();
    SealWatch::new(house.journal.clone(), trust.clone()).with_kept(kept).step().await.unwrap();
    let words =
        "the seal up to position 39 is not the one that was kept elsewhere, or is missing, and 1 more";
    assert!(trust.difference().unwrap().starts_with(words), "{:?}", trust.difference());
}

/// It would be read again and again, with all that is in memory of it.
#[tokio::test]
async fn a_seal_of_more_than_one_can_cover_is_none() {
    let house = House::empty();
    put_some(&house, 9).await;
    let forged = r#"{"after":0,"until":9,"events":4294967295,"digest":"00","marks":""}"#;
    put(&house, STREAM, "log-sealed", forged).await;
    let report = verified(&house).await;
    assert_eq!((report.differences, report.first_differences[0].position()), (1, 10), "{report:?}");
    assert_eq!((report.sealed_until, report.events), (0, 0), "nothing is read for it");
}

#[tokio::test]
async fn the_newest_seal_is_found_however_far_from_it_a_forged_one_stands() {
    let house = House::empty();
    let mut sealer = Sealer::new(house.journal.clone(), None);
    for _ in 0..3 {
        put_and_seal(&house, &mut sealer, 2).await;
    }
    let forged = put(&house, STREAM, "log-sealed", "{").await;
    let far = 1_000_000_000_000_000;
    house.store.number(forged, far);
    let before = house.store.kept_read();
    let check = SealCheck::from(&*house.store, far).await.unwrap();
    assert_eq!(check.place().version, 3);
    assert!(house.store.kept_read() - before < 100, "{}", house.store.kept_read() - before);

    // So it is with many that cannot be read and stand one after another.
    house.store.number(0, 0);
    for _ in 0..200 {
        put(&house, STREAM, "log-sealed", "{").await;
    }
    assert_eq!(SealCheck::from(&*house.store, 204).await.unwrap().place().version, 3);
}

/// Whoever puts a disk back gets what was sealed in the first place, and what was sealed while it could not be read.
#[tokio::test]
async fn a_seal_that_can_be_read_again_does_not_part_those_after_it_from_those_before() {
    for broken in [1, 2] {
        let house = House::empty();
        let mut sealer = Sealer::new(house.journal.clone(), None);
        put_and_seal(&house, &mut sealer, 4).await;
        // Seals at 8 and, of what came after that, at 12.
        put_and_seal(&house, &mut sealer, 2).await;
        put_and_seal(&house, &mut sealer, 3).await;
        let seals = &[12, 8][..broken];
        seals.iter().for_each(|seal| house.store.spoil(*seal));
        let trust = SealTrust::default();
        let mut sealer = Sealer::new(house.journal.clone(), None).telling(trust.clone());
        put_and_seal(&house, &mut sealer, 2).await;
        put_and_seal(&house, &mut sealer, 2).await;
        assert_eq!(verified(&house).await.differences, broken as u64);

        seals.iter().for_each(|seal| house.store.restore(*seal));
        let report = verified(&house).await;
        let is_parted = |difference: &Difference| matches!(difference, Difference::NoSeal { .. });
        assert!(!report.first_differences.iter().any(is_parted), "{report:?}");
        // What stood for it was sealed, and is not what is there now.
        let changed = Difference::Changed { position: *seals.last().unwrap() };
        assert_eq!(report.first_differences, [changed]);
    }
}

#[tokio::test]
async fn a_watch_that_does_not_get_on_says_so() {
    let house = House::empty();
    put_and_seal(&house, &mut Sealer::new(house.journal.clone(), None), 5).await;
    let trust = SealTrust::default();
    let mut watch = SealWatch::new(house.journal.clone(), trust.clone());
    let mut sealer = Sealer::new(house.journal.clone(), None).telling(trust.clone());
    house.store.break_streams(true);
    assert!(watch.step().await.is_err() && sealer.step().await.is_err());
    assert_eq!(trust.progress(), "not looked at yet", "once is a hiccup");
    assert!(watch.step().await.is_err() && sealer.step().await.is_err());
    let words = trust.progress();
    assert!(words.starts_with("not looked at yet; the seal-watch does not get on since 2026-03-02T03:00:"));
    assert!(words.contains("; the sealer does not get on since 2026"), "{words}");
    assert!(
        words.ends_with(
            ", after 2 tries: the log cannot be read: the event store cannot read: the disk is gone"
        )
    );
    house.store.break_streams(false);
    assert!(watch.step().await.is_ok() && sealer.step().await.is_ok());
    assert_eq!(trust.progress(), "the newest seals hold, the ones before were not looked at yet");
}

#[tokio::test]
async fn a_new_pass_does_not_take_back_how_far_the_log_was_looked_at() {
    let house = House::empty();
    let mut sealer = Sealer::new(house.journal.clone(), None);
    for _ in 0..100 {
        put_and_seal(&house, &mut sealer, 1).await;
    }
    let shown = Arc::new(AtomicU64::new(0));
    let recorder = OneGauge(shown.clone());
    let _guard = metrics::set_default_local_recorder(&recorder);
    let trust = SealTrust::default();
    let mut watch = SealWatch::new(house.journal.clone(), trust.clone());
    for _ in 0..5 {
        watch.step().await.unwrap();
        house.advance(TimeDelta::seconds(1));
    }
    let shown = || f64::from_bits(shown.load(Ordering::SeqCst));
    assert_eq!((trust.verified_until(), shown()), (199, 199.0));
    house.advance(TimeDelta::hours(1));
    watch.step().await.unwrap();
    assert!(trust.progress().contains(", now again at "), "{}", trust.progress());
    assert_eq!((trust.verified_until(), shown()), (199, 199.0));
}

/// Shows how far the log was looked at.
struct OneGauge(Arc<AtomicU64>);

impl metrics::Recorder for OneGauge {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        match key.name() {
            "kite_log_verified_position" => Gauge::from_arc(self.0.clone()),
            _ => Gauge::noop(),
        }
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[tokio::test]
async fn a_look_reads_no_more_large_seals_than_it_holds_against_the_log() {
    let house = House::empty();
    let mut sealer = Sealer::new(house.journal.clone(), None);
    put_and_seal(&house, &mut sealer, 3 * seal::EVENTS_MAX as usize).await;
    let before = house.store.kept_read();
    let mut check = SealCheck::new(&*house.store, SealPlace::default());
    assert!(check.look().await.unwrap());
    assert_eq!((check.report().seals, house.store.kept_read() - before), (1, 1));

    let house = House::empty();
    let mut sealer = Sealer::new(house.journal.clone(), None);
    for _ in 0..70 {
        put_and_seal(&house, &mut sealer, 1).await;
    }
    let mut check = SealCheck::new(&*house.store, SealPlace::default());
    assert!(check.look().await.unwrap());
    assert_eq!(check.report().seals, 63, "of small ones many are looked at");
    assert!(!check.look().await.unwrap());
    assert_eq!(check.report().seals, 70);
}
