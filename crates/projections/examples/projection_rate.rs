//! How many messages a second the read models follow, over a message's whole life.
//!
//! `cargo run --release -p kite-projections --example projection_rate -- [messages] [messages a transaction] [URL]`
//!
//! With the URL of an empty database in PostgreSQL they are made there, and then rebuilt.
//!
//! Lots of 1,000 are accepted, routed over three relays, handed over and answered in batches of 100, and delivered in
//! sets of 100. The lots overlap, as they do under load: each is a few steps of its life behind the one before.
//! Projectors step whenever about so many messages' worth of events have been appended (2,000: 20,000 messages a second
//! in ten transactions a second).

mod place;

use chrono::{DateTime, Utc};
use kite_domain::event::Event;
use kite_domain::ids::{LotId, SendingId};
use kite_domain::lot::{
    AcceptedSet, LotAccepted, LotPersonal, MessagesRouted, MessagesSubmitted, ReceiptSet, ReceiptsRecorded,
    Recipient, RelayResponded, RouteSet, TypeGroup,
};
use kite_domain::policy::FailoverTerms;
use kite_domain::receipt::ReceiptStatus;
use kite_domain::relay::BillingMoment;
use kite_domain::sending::{MessageClass, SendingAccepted, SendingContent};
use kite_domain::seq_set::SeqSet;
use kite_domain::slug::{RelayId, TenantId};
use kite_domain::text::MessageType;
use kite_event_store::{
    Batch, BatchMode, EventStore, Expected, MemoryEventStore, Metadata, NewEvent, StreamAppend, StreamName,
};
use kite_projections::{MessageSearch, Projected, ReadModels, Runner};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use uuid::Uuid;

const LOT: u32 = 1_000;
const BATCH: u32 = 100;
const RELAYS: [&str; 3] = ["alpha", "beta", "gamma"];

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut number = |otherwise| arguments.next().map_or(otherwise, |word| word.parse().expect("a number"));
    let (messages, piece): (u32, u32) = (number(300_000), number(2_000));
    let url = arguments.next();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime of one thread").block_on(measure(messages / LOT, piece, url.as_deref()));
}

async fn measure(lots: u32, piece: u32, url: Option<&str>) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = Arc::new(MemoryEventStore::new());
    let storage = place::storage(url, directory.path()).await;
    let models = ReadModels::open(storage.clone()).expect("new ones open");
    let mut runners = models.projectors(store.clone()).expect("new ones open");
    let mut spent: BTreeMap<&'static str, Duration> = BTreeMap::new();
    let mut log_bytes = 0;
    let mut events = 0;

    let phases = 1 + 1 + 10 + 10 + 10;
    let lots_at_once = 4;
    let mut since_step = 0;
    for tick in 0..lots.div_ceil(lots_at_once) + phases {
        for lot in 0..lots {
            let Some(phase) = tick.checked_sub(lot / lots_at_once).filter(|phase| *phase < phases) else {
                continue;
            };
            let (stream, data) = event(lot, phase);
            log_bytes += append(&store, stream, data, tick, &mut events).await;
        }
        if tick == phases {
            println!("(warm: {} lots in flight)", phases * lots_at_once);
        }
        since_step += lots_at_once * LOT;
        if since_step >= piece {
            since_step = 0;
            step_all(&mut runners, &mut spent).await;
        }
    }
    step_all(&mut runners, &mut spent).await;

    let totals = models.delivery.totals().expect("the tables are there");
    assert_eq!((totals.counts.delivered, totals.counts.open), (i64::from(lots * LOT), 0));
    print_memory(log_bytes);
    search(&models);
    // The last connections to close put everything into the files.
    drop((runners, models));

    let messages = f64::from(lots * LOT);
    println!(
        "{messages} messages in {events} events, {:.0} bytes of events a message",
        log_bytes as f64 / messages
    );
    let mut total = Duration::ZERO;
    for (name, time) in &spent {
        total += *time;
        let bytes = match url {
            Some(url) => place::bytes(url, name).await,
            None => {
                let file = directory.path().join(format!("{name}.db"));
                std::fs::metadata(&file).map_or(0, |file| file.len())
            }
        };
        println!(
            "{name:>12}: {:>8.0} messages/s, {:>5.2} us a message, {:>5.0} bytes a message",
            messages / time.as_secs_f64(),
            time.as_secs_f64() * 1e6 / messages,
            bytes as f64 / messages
        );
    }
    println!("{:>12}: {:>8.0} messages/s on one core", "together", messages / total.as_secs_f64());
    let begin = now();
    let rebuilt = kite_projections::replay::rebuild(store, storage).await.expect("the log can be read");
    let (rows, took) = (rebuilt.models.iter().map(|model| model.rows).sum::<u64>(), begin.elapsed());
    println!("rebuilt: {rows} rows in {took:.1?}, {:.0} rows/s", rows as f64 / took.as_secs_f64());
}

#[expect(clippy::disallowed_methods, reason = "a measurement measures real time")]
fn now() -> Instant {
    Instant::now()
}

async fn step_all(runners: &mut [Box<dyn Runner>], spent: &mut BTreeMap<&'static str, Duration>) {
    for runner in runners {
        let begin = now();
        while let Projected::Advanced { .. } = runner.step(time(0)).await.expect("events of ours apply") {}
        *spent.entry(runner.name()).or_default() += begin.elapsed();
    }
}

fn search(models: &ReadModels) {
    let begin = now();
    let search = MessageSearch { to: Some(address(42)), ..MessageSearch::default() };
    let found = models.delivery.search(&tenant(), &search, None, 10).expect("the tables are there");
    println!("search by recipient: {} found in {:?}", found.items.len(), begin.elapsed());
}

/// Resident memory; the log in memory is part of it.
fn print_memory(log_bytes: usize) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    for line in status.lines().filter(|line| line.starts_with("VmRSS") || line.starts_with("VmHWM")) {
        println!("{line}, of which {} kB are the data of the log", log_bytes / 1024);
    }
}

async fn append(
    store: &MemoryEventStore,
    stream: StreamName,
    data: Vec<Event>,
    tick: u32,
    events: &mut u128,
) -> usize {
    let mut bytes = 0;
    let appended = data.iter().map(|event| {
        *events += 1;
        let json = event.to_json();
        bytes += json.len();
        NewEvent {
            id: Uuid::from_u128(*events),
            kind: event.kind().into(),
            schema_version: event.schema_version(),
            data: json.into(),
        }
    });
    let append = StreamAppend {
        stream,
        expected: Expected::Any,
        metadata: Metadata {
            time: time(tick),
            tenant: Some("acme".into()),
            correlation: Uuid::nil(),
            causation: None,
            actor: "rate".into(),
            traceparent: None,
        },
        events: appended.collect(),
    };
    store.append(Batch::new(BatchMode::Independent, vec![append])).await;
    bytes
}

/// What happens to a lot in this step of its life.
fn event(lot: u32, phase: u32) -> (StreamName, Vec<Event>) {
    let sending = SendingId(Uuid::from_u128(0x0199_0000_0000_7000_8000_0000_0000_0000 + u128::from(lot)));
    let id = LotId { sending, number: 0 };
    let relay = |place: u32| RelayId::from_trusted(RELAYS[place as usize % RELAYS.len()]);
    let batch = |place: u32| numbers(place).collect::<SeqSet>();
    match phase {
        0 => (id.stream(), vec![accepted(sending, lot).into()]),
        1 => (sending.stream(), vec![sealed(sending).into()]),
        2 => {
            let routes = (0..3).map(|place| RouteSet {
                relay: relay(place),
                channel: MessageType::Sms,
                attempt: 1,
                messages: (0..10).filter(|one| one % 3 == place).flat_map(numbers).collect(),
                fallbacks: vec![relay(place + 1), relay(place + 2)],
                price_milliwon: 9_000,
                bills: BillingMoment::Delivered,
                reason: "ratio acme-sms-1: 5000 of 10000".to_owned(),
            });
            let routed = MessagesRouted { routes: routes.collect(), splits: vec![] };
            let mut events: Vec<Event> = vec![routed.into()];
            events.push(submitted(relay(0), batch(0)));
            (id.stream(), events)
        }
        3..=11 => {
            let place = phase - 2;
            let before = place - 1;
            (id.stream(), vec![submitted(relay(place), batch(place)), answered(relay(before), batch(before))])
        }
        12 => (id.stream(), vec![answered(relay(9), batch(9))]),
        13..=22 => (id.stream(), vec![receipts(relay(phase - 13), batch(phase - 13), phase)]),
        _ => (id.stream(), vec![receipts(relay(phase), batch(phase % 10), phase)]),
    }
}

/// Relays are interleaved within a lot, so a batch is every tenth message.
fn numbers(place: u32) -> impl Iterator<Item = u32> {
    (0..BATCH).map(move |index| index * 10 + place % 10)
}

fn accepted(sending: SendingId, lot: u32) -> LotAccepted {
    let recipients = (0..LOT).map(|seq| Recipient {
        to: address(lot * LOT + seq).into(),
        email: None,
        contact: None,
        reference: None,
        variables: BTreeMap::from([("name".into(), format!("guest {seq}"))]),
    });
    LotAccepted {
        sending,
        tenant: tenant(),
        class: MessageClass::Notice,
        number: 0,
        groups: vec![TypeGroup {
            message_type: MessageType::Sms,
            parts: 1,
            reach: None,
            messages: (0..LOT).collect(),
        }],
        personal: LotPersonal { recipients: recipients.collect() },
    }
}

fn sealed(sending: SendingId) -> SendingAccepted {
    SendingAccepted {
        sending,
        tenant: tenant(),
        class: MessageClass::Notice,
        from_phone: Some("0212345678".into()),
        from_email: None,
        lots: 1,
        messages: LOT,
        refused: 0,
        scheduled_at: None,
        expires_at: time(1_000_000),
        failover: FailoverTerms::default(),
        ad: None,
        client_reference: None,
        custom: None,
        body_hash: None,
        personal: SendingContent {
            subject: None,
            text: "Hello #{name}".to_owned(),
            variables: BTreeMap::new(),
        },
    }
}

fn submitted(relay: RelayId, messages: SeqSet) -> Event {
    MessagesSubmitted {
        relay,
        attempt: 1,
        messages,
        receipt_by: time(500_000),
        answer_by: None,
        holder: None,
    }
    .into()
}

fn answered(relay: RelayId, messages: SeqSet) -> Event {
    let relay_references = messages.iter().map(|seq| format!("{relay}-0123456789-{seq}").into()).collect();
    RelayResponded {
        relay,
        attempt: 1,
        call_ms: Some(20),
        accepted: Some(AcceptedSet { messages, relay_references, is_final: false }),
        refused: vec![],
        unknown: None,
        deferred: None,
        refused_for_now: Vec::new(),
    }
    .into()
}

fn receipts(relay: RelayId, messages: SeqSet, phase: u32) -> Event {
    let set = ReceiptSet {
        attempt: 1,
        status: ReceiptStatus::Delivered,
        code: "4000".into(),
        class: None,
        billable_failure: false,
        at_ms: messages.iter().map(|seq| time(phase).timestamp_millis() + i64::from(seq % 50)).collect(),
        messages,
    };
    ReceiptsRecorded { relay, sets: vec![set] }.into()
}

/// Numbers in no order, as recipients are.
fn address(number: u32) -> String {
    format!("010{:08}", u64::from(number) * 2_654_435_761 % 100_000_000)
}

fn tenant() -> TenantId {
    TenantId::from_trusted("acme")
}

/// Fifty milliseconds a tick.
fn time(tick: u32) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(1_760_000_000_000 + i64::from(tick) * 50).expect("a time of this century")
}
