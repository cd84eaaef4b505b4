//! The checker itself: it passes the log of a clean case, and objects to the same log with one event gone, doubled, moved
//! or altered.

use kite_event_store::{EventStore, Filter, RecordedEvent};
use serde_json::{Value, json};
use std::sync::OnceLock;

use super::{Checked, Checker};
use crate::case::Case;
use crate::world::World;

/// A ratio, a text that fails over to relays and to e-mail, an advertisement that waits for the morning, and one whose
/// recipient refuses.
const CASE: &str = r#"{"seed":11,"setup":{"kept_messages_max":10000000,"jobs_max":100000,"starts_at_minute":720},"steps":[
{"salt":0,"polls":200,"op":{"Policy":{"tenant":0,"channel":"Sms","objective":{"Ratio":[5000,3000]},"failover":{}}}},
{"salt":1,"polls":200,"op":{"Send":{"tenant":0,"recipients":60,"failover":{"email":true,"after_temporary":true}}}},
{"salt":2,"polls":0,"op":{"Wait":{"ms":90000}}},
{"salt":3,"polls":0,"op":{"CallFault":{"relay":0,"skip":0,"fault":"RequestLost"}}},
{"salt":4,"polls":100,"op":{"Send":{"tenant":0,"recipients":3,"first":5}}},
{"salt":5,"polls":0,"op":{"Clock":{"is_evening":true,"offset_s":30}}},
{"salt":6,"polls":200,"op":{"Send":{"tenant":0,"class":"Ad","recipients":4,"first":7}}},
{"salt":7,"polls":100,"op":{"OptOut":{"tenant":0,"recipient":8,"is_email":false}}},
{"salt":8,"polls":100,"op":{"Send":{"tenant":0,"recipients":1,"first":9,"lifetime_s":3600,"scheduled_s":7200}}}
]}"#;

fn clean() -> &'static [RecordedEvent] {
    static LOG: OnceLock<Vec<RecordedEvent>> = OnceLock::new();
    LOG.get_or_init(|| {
        let case = Case::parse(CASE).unwrap();
        let directory = crate::scratch::data_dir().unwrap();
        let mut world = World::new(&case, directory.path());
        world.run(&case).unwrap();
        let everything = Filter::everything();
        let all = world.log.read_all(0, usize::MAX, &everything);
        futures::FutureExt::now_or_never(all).unwrap().unwrap().events
    })
}

fn check(log: &[RecordedEvent]) -> Checked {
    let mut checker = Checker::default();
    log.iter().try_for_each(|recorded| checker.read(recorded))?;
    checker.everything_is_final()
}

fn place(kind: &str) -> usize {
    clean().iter().position(|one| one.kind == kind).unwrap_or_else(|| panic!("the case has no {kind}"))
}

/// The log with the first event of a kind altered for which the change finds what it changes.
fn altered(kind: &str, change: impl Fn(&mut Value) -> Option<()>) -> Vec<RecordedEvent> {
    let mut log = clean().to_vec();
    for one in log.iter_mut().filter(|one| one.kind == kind) {
        let mut data: Value = serde_json::from_slice(&one.data).unwrap();
        if change(&mut data).is_some() {
            one.data = serde_json::to_vec(&data).unwrap().into();
            return log;
        }
    }
    panic!("no {kind} can be altered so");
}

fn set(data: &mut Value, pointer: &str, value: Value) -> Option<()> {
    let known = data.pointer_mut(pointer)?;
    assert_ne!(*known, value, "{pointer} would not change");
    *known = value;
    Some(())
}

#[track_caller]
fn objects(log: &[RecordedEvent], because: &str) {
    match check(log) {
        Ok(()) => panic!("nobody objects, although {because}"),
        Err(what) => assert!(what.contains(because), "{because} was expected: {what}"),
    }
}

#[test]
fn a_clean_log_passes() {
    check(clean()).unwrap();
}

#[test]
fn an_event_that_is_gone_is_missed() {
    let gone = [
        ("relay-defined", "is not defined"),
        ("sender-registered", "is not approved"),
        ("policy-defined", "is not in force"),
        ("lot-accepted", "law 2: the seal counts"),
        ("sending-accepted", "is not sealed"),
        ("messages-routed", "without a route"),
        ("messages-submitted", "without an intent"),
        ("receipts-recorded", ""),
        ("sending-completed", "is final and not completed"),
    ];
    for (kind, because) in gone {
        let mut log = clean().to_vec();
        log.remove(place(kind));
        objects(&log, because);
    }
}

#[test]
fn an_event_that_comes_twice_is_one_too_many() {
    let twice = [
        ("policy-defined", "policy version 1 follows 1"),
        ("lot-accepted", "accepted twice"),
        ("sending-accepted", "law 2: the seal counts"),
        ("messages-routed", "follows 1"),
        ("messages-submitted", "from Submitted"),
        ("messages-finished", "law 5"),
        ("sending-released", "or twice"),
        ("sending-completed", "or twice"),
    ];
    for (kind, because) in twice {
        let mut log = clean().to_vec();
        let one = log[place(kind)].clone();
        log.insert(place(kind), one);
        objects(&log, because);
    }
}

#[test]
fn an_event_that_comes_too_early_is_out_of_place() {
    let early = [
        ("sending-accepted", "lot-accepted", "law 2"),
        ("messages-routed", "sending-accepted", "is not sealed"),
        ("messages-submitted", "messages-routed", "without a route"),
        ("relay-responded", "messages-submitted", "without an intent"),
        ("sending-completed", "messages-submitted", "completed with"),
    ];
    for (later, earlier, because) in early {
        let mut log = clean().to_vec();
        let one = log.remove(place(later));
        log.insert(place(earlier), one);
        objects(&log, because);
    }
}

#[test]
fn a_split_that_is_not_the_policys_is_found() {
    let weight = |data: &mut Value| set(data, "/splits/0/weights/0/weight", json!(4_999));
    objects(&altered("messages-routed", weight), "law 3: the key");
    let version = |data: &mut Value| set(data, "/splits/0/version", json!(2));
    objects(&altered("messages-routed", version), "law 3: the key");
    let carry = |data: &mut Value| {
        let slot = data.pointer("/splits/0/carry/slot")?.as_u64()?;
        set(data, "/splits/0/carry/slot", json!(slot + 1))
    };
    objects(&altered("messages-routed", carry), "law 3: the carry");
    let left_out = |data: &mut Value| {
        let splits = data.pointer_mut("/splits/0")?.as_object_mut()?;
        splits.insert("left_out".into(), json!([{"relay": "alpha", "reason": "suspended"}]));
        Some(())
    };
    objects(&altered("messages-routed", left_out), "law 3: alpha is used: true");
    let relay = |data: &mut Value| {
        data.pointer("/splits/0")?;
        let other = if data.pointer("/routes/0/relay")? == "alpha" { "beta" } else { "alpha" };
        set(data, "/routes/0/relay", json!(other))
    };
    objects(&altered("messages-routed", relay), "come");
    let price = |data: &mut Value| set(data, "/routes/0/price_milliwon", json!(1));
    objects(&altered("messages-routed", price), "is not the price");
}

#[test]
fn a_failover_that_may_not_be_is_found() {
    let failover = |data: &Value| data.pointer("/splits").is_none().then_some(());
    let to_the_same = |data: &mut Value| {
        failover(data)?;
        let fallbacks = data.pointer("/routes/0/fallbacks")?.clone();
        // Back to where it must have been: the one relay of the channel that is neither new nor still to come.
        let new = data.pointer("/routes/0/relay")?.clone();
        let is_free =
            |relay: &&str| json!(**relay) != new && !fallbacks.as_array().unwrap().contains(&json!(**relay));
        let before = ["alpha", "beta", "gamma"].into_iter().find(|relay| is_free(relay))?;
        (data.pointer("/routes/0/channel")? == "sms").then_some(())?;
        set(
            data,
            "/routes/0/price_milliwon",
            json!(8_000 + 700 * ["alpha", "beta", "gamma"].iter().position(|one| *one == before).unwrap()),
        );
        set(data, "/routes/0/relay", json!(before))
    };
    objects(&altered("messages-routed", to_the_same), "it was there before");
    let too_soon = |data: &mut Value| {
        failover(data)?;
        set(data, "/routes/0/attempt", json!(3))
    };
    objects(&altered("messages-routed", too_soon), "follows 1");
    let class = |data: &mut Value| {
        let known = data.pointer("/refused/0/class")?;
        let other = if known == "content" { "relay_fault" } else { "content" };
        set(data, "/refused/0/class", json!(other))
    };
    objects(&altered("relay-responded", class), "is taken for");
}

#[test]
fn a_question_before_its_time_is_found() {
    let is_question = |data: &Value| data.pointer("/unknown/inquire_at").and_then(Value::as_i64);
    let round = |data: &mut Value| {
        is_question(data)?;
        set(data, "/unknown/round", json!(3))
    };
    objects(&altered("relay-responded", round), "comes too early");
    let sooner = |data: &mut Value| {
        let known = is_question(data)?;
        set(data, "/unknown/inquire_at", json!(known - 5_000))
    };
    objects(&altered("relay-responded", sooner), "comes too early");
}

#[test]
fn an_end_that_nothing_led_to_is_found() {
    let outcome = |data: &mut Value| {
        (data.pointer("/outcome")? == "undelivered").then_some(())?;
        set(data, "/outcome", json!("expired"))
    };
    objects(&altered("messages-finished", outcome), "law 5");
    let reason = |data: &mut Value| set(data, "/reason", json!("cancelled"));
    objects(&altered("messages-finished", reason), "law 5");
    let until = |data: &mut Value| {
        let known = data.pointer("/until_ms/0")?.as_i64()?;
        set(data, "/until_ms/0", json!(known - 3_600_000))
    };
    objects(&altered("messages-held", until), "is held until");
    let receipt = |data: &mut Value| {
        (data.pointer("/sets/0/status")? == "undelivered").then_some(())?;
        let known = data.pointer("/sets/0/class")?;
        let other = if known == "content" { "relay_fault" } else { "content" };
        set(data, "/sets/0/class", json!(other))
    };
    objects(&altered("receipts-recorded", receipt), "is taken for");
    let deadline = |data: &mut Value| {
        let known = data.pointer("/receipt_by")?.as_i64()?;
        set(data, "/receipt_by", json!(known + 60_000))
    };
    objects(&altered("messages-submitted", deadline), "is due at");
}
