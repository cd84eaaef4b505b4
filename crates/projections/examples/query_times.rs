//! How long a search of messages takes, by each filter and by the usual pairs, and what else is asked of delivery results.
//!
//! `cargo run --release -p kite-projections --example query_times -- [messages] [URL] [again]`
//!
//! With the URL of an empty database in PostgreSQL the messages are there. With `again` those of an earlier run are asked for.
//!
//! Tells a history of so many messages of one tenant (1,000,000 if none is said) to the delivery model and asks it: for
//! what most messages are, for what few are, for what none is, for the first page and for one far behind. Lots hold 1,000
//! messages, and every tenth sending is a single message. One in fifty fails, for one of ten reasons; one in a hundred
//! thousand is refused by a rule; the last thousandth is still open. The log is held in memory: some 200 bytes per message.

mod place;

use chrono::{DateTime, Utc};
use kite_domain::event::Event;
use kite_domain::failure::FailureClass;
use kite_domain::ids::{LotId, MessageId, SendingId};
use kite_domain::lot::{
    LotAccepted, LotPersonal, MessagesFinished, MessagesRouted, MessagesSubmitted, Outcome, ReceiptSet,
    ReceiptsRecorded, Recipient, RouteSet, TypeGroup,
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
use kite_projections::{
    Cursor, Dimension, MessageFilter, MessageSearch, MessageStatus, Projected, ReadModels, Runner,
    SendingFilter, StatisticsQuery,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use uuid::Uuid;

const LOT: u32 = 1_000;
const RELAYS: [&str; 3] = ["alpha", "beta", "gamma"];
/// A question is asked so often. The first answer may have to come from the disk.
const ASKED: usize = 5;
/// One in so many lots is of a sender that hardly sends.
const RARE_LOT: u32 = 2_000;

fn main() {
    let messages = std::env::args().nth(1).map_or(1_000_000, |word| word.parse().expect("a number"));
    let url = std::env::args().nth(2);
    let are_there = std::env::args().nth(3).is_some_and(|word| word == "again");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime of one thread").block_on(measure(messages, url.as_deref(), are_there));
}

async fn measure(messages: u64, url: Option<&str>, are_there: bool) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = Arc::new(MemoryEventStore::new());
    let storage = place::storage(url, directory.path()).await;
    let models = ReadModels::open(storage).expect("new ones open");
    let mut runners = models.projectors(store.clone()).expect("new ones open");
    // Only the delivery model is asked.
    runners.retain(|runner| runner.name() == "delivery" && !are_there);
    let (mut told, mut lot, mut events) = (0, 0, 0);
    let begun = now();
    while told < messages {
        let size = if lot % 10 == 9 { 1 } else { LOT };
        let is_open = told + u64::from(size) > messages - messages / 1_000;
        if !are_there {
            for (stream, event) in life(lot, size, is_open) {
                append(&store, stream, event, lot, &mut events).await;
            }
        }
        told += u64::from(size);
        lot += 1;
        if lot % 20 == 0 {
            step_all(&mut runners).await;
        }
    }
    step_all(&mut runners).await;
    println!("{told} messages in {lot} lots, told in {:.0} s", begun.elapsed().as_secs_f64());
    search_all(&models, lot);
    ask_the_rest(&models, lot);
    let bytes = match url {
        Some(url) => place::bytes(url, "delivery").await,
        None => std::fs::metadata(directory.path().join("delivery.db")).map_or(0, |file| file.len()),
    };
    println!("delivery: {:.0} bytes a message", bytes as f64 / told as f64);
}

fn search_all(models: &ReadModels, lots: u32) {
    let any = MessageSearch::default;
    let relay = |name: &str| Some(RelayId::from_trusted(name));
    let word = |word: &str| Some(word.to_owned());
    let status = Some::<MessageStatus>;
    let middle = time(lots / 2);
    let questions: Vec<(&str, MessageSearch)> = vec![
        ("nothing asked", any()),
        ("to: one of few", MessageSearch { to: Some(address(42)), ..any() }),
        ("to: nobody", MessageSearch { to: word("01999999999"), ..any() }),
        ("status: delivered", MessageSearch { status: status(MessageStatus::Delivered), ..any() }),
        ("status: undelivered", MessageSearch { status: status(MessageStatus::Undelivered), ..any() }),
        (
            "status: refused (one in 100,000)",
            MessageSearch { status: status(MessageStatus::Refused), ..any() },
        ),
        ("status: expired (none)", MessageSearch { status: status(MessageStatus::Expired), ..any() }),
        ("status: routed (the newest)", MessageSearch { status: status(MessageStatus::Routed), ..any() }),
        (
            "status: unknown (none of the open)",
            MessageSearch { status: status(MessageStatus::Unknown), ..any() },
        ),
        ("reason: 3043", MessageSearch { reason: word("3043"), ..any() }),
        ("reason: opted_out", MessageSearch { reason: word("opted_out"), ..any() }),
        ("reason: never heard of", MessageSearch { reason: word("9999"), ..any() }),
        ("relay: alpha", MessageSearch { relay: relay("alpha"), ..any() }),
        ("relay: omega (one lot)", MessageSearch { relay: relay("omega"), ..any() }),
        ("channel: email (none)", MessageSearch { channel: Some(MessageType::Email), ..any() }),
        ("sender: common", MessageSearch { sender: word("0212345678"), ..any() }),
        ("sender: rare", MessageSearch { sender: word("0299998888"), ..any() }),
        ("class: otp", MessageSearch { class: Some(MessageClass::Otp), ..any() }),
        ("class: ad (none)", MessageSearch { class: Some(MessageClass::Ad), ..any() }),
        ("client reference", MessageSearch { client_reference: word("order-7"), ..any() }),
        ("client reference: none", MessageSearch { client_reference: word("order-x"), ..any() }),
        ("from: the middle", MessageSearch { from: Some(middle), ..any() }),
        ("until: the middle", MessageSearch { until: Some(middle), ..any() }),
        ("until: before everything", MessageSearch { until: Some(time(0)), ..any() }),
        (
            "status and relay",
            MessageSearch { status: status(MessageStatus::Undelivered), relay: relay("beta"), ..any() },
        ),
        (
            "rare status and relay",
            MessageSearch { status: status(MessageStatus::Refused), relay: relay("beta"), ..any() },
        ),
        (
            "status and reason",
            MessageSearch { status: status(MessageStatus::Undelivered), reason: word("3043"), ..any() },
        ),
        (
            "status and time",
            MessageSearch { status: status(MessageStatus::Refused), until: Some(middle), ..any() },
        ),
        (
            "class and status",
            MessageSearch {
                class: Some(MessageClass::Otp),
                status: status(MessageStatus::Undelivered),
                ..any()
            },
        ),
        (
            "sender and status",
            MessageSearch { sender: word("0299998888"), status: status(MessageStatus::Undelivered), ..any() },
        ),
        (
            "sender and reason that never meet",
            MessageSearch { sender: word("0299998888"), reason: word("opted_out"), ..any() },
        ),
        (
            "relay and channel that never meet",
            MessageSearch { relay: relay("omega"), class: Some(MessageClass::Otp), ..any() },
        ),
        (
            "client reference and status",
            MessageSearch {
                client_reference: word("order-7"),
                status: status(MessageStatus::Undelivered),
                ..any()
            },
        ),
        (
            "to and status",
            MessageSearch { to: Some(address(42)), status: status(MessageStatus::Refused), ..any() },
        ),
    ];
    println!("For each page the median of {ASKED} answers, and the slowest. First page; slowest page.");
    println!(
        "{:<36} {:>10} {:>10} {:>6}   {:>10} {:>10} {:>6} {:>6}",
        "", "median", "slowest", "found", "median", "slowest", "pages", "all"
    );
    for (name, search) in questions {
        let (first, found, next) = ask(models, &search, None);
        let (mut worst, mut pages, mut all, mut after) = (first, 1, found, next);
        // Some pages on, and those until the end where there are few.
        while let Some(cursor) = after.take().filter(|_| pages < 40) {
            let (took, found, next) = ask(models, &search, Some(&cursor));
            worst = Took { median: worst.median.max(took.median), slowest: worst.slowest.max(took.slowest) };
            (pages, all, after) = (pages + 1, all + found, next);
        }
        let more = if after.is_some() { "+" } else { "" };
        println!("{name:<36} {first} {found:>6}   {worst} {pages:>6} {all:>6}{more}");
    }
}

/// Everything but searches.
fn ask_the_rest(models: &ReadModels, lots: u32) {
    let delivery = &models.delivery;
    let tenant = tenant();
    let of_middle = sending_id(lots / 2);
    let statistics = |group_by: &[Dimension]| {
        let query = StatisticsQuery {
            tenant: Some(tenant.clone()),
            group_by: group_by.to_vec(),
            ..StatisticsQuery::default()
        };
        delivery.statistics(&query).expect("the tables are there").len()
    };
    let sendings = |filter: &SendingFilter| {
        delivery.sendings(Some(&tenant), filter, None, 50).expect("the tables are there").items.len()
    };
    let class = SendingFilter { class: Some(MessageClass::Ad), ..SendingFilter::default() };
    let before = SendingFilter { until: Some(time(0)), ..SendingFilter::default() };
    let messages = |filter: &MessageFilter| {
        let page = delivery.messages(&tenant, of_middle, filter, None, 50);
        page.expect("the tables are there").items.len()
    };
    let undelivered = MessageFilter { status: Some(MessageStatus::Undelivered), ..MessageFilter::default() };
    let message = MessageId { sending: of_middle, seq: 0 };
    let questions: [(&str, &dyn Fn() -> usize); 11] = [
        ("sendings, the newest", &|| sendings(&SendingFilter::default())),
        ("sendings of a class (none)", &|| sendings(&class)),
        ("sendings before everything", &|| sendings(&before)),
        ("a sending", &|| {
            usize::from(delivery.sending(&tenant, of_middle).expect("the tables are there").is_some())
        }),
        ("messages of a sending", &|| messages(&MessageFilter::default())),
        ("messages of a sending by status", &|| messages(&undelivered)),
        ("a message", &|| {
            usize::from(delivery.message(&tenant, message).expect("the tables are there").is_some())
        }),
        ("statistics", &|| statistics(&[])),
        ("statistics by relay", &|| statistics(&[Dimension::Relay])),
        ("statistics by day and relay", &|| statistics(&[Dimension::Day, Dimension::Relay])),
        ("statistics by hour, relay and class", &|| {
            statistics(&[Dimension::Hour, Dimension::Relay, Dimension::Class])
        }),
    ];
    for (name, question) in questions {
        let (took, found) = time_of(question);
        println!("{name:<36} {took} {found:>6}");
    }
}

/// How long several answers to one question took.
#[derive(Clone, Copy)]
struct Took {
    median: Duration,
    slowest: Duration,
}

impl std::fmt::Display for Took {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(to, "{:>10.2?} {:>10.2?}", self.median, self.slowest)
    }
}

/// How long the answers took, and the last one.
fn time_of<T>(question: impl Fn() -> T) -> (Took, T) {
    let mut times = Vec::with_capacity(ASKED);
    let mut answer = None;
    for _ in 0..ASKED {
        let begun = now();
        answer = Some(question());
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    (Took { median: times[ASKED / 2], slowest: times[ASKED - 1] }, answer.expect("it was asked"))
}

/// How long a page took, how many messages it holds, and where the next begins.
fn ask(models: &ReadModels, search: &MessageSearch, after: Option<&Cursor>) -> (Took, usize, Option<Cursor>) {
    let (took, page) =
        time_of(|| models.delivery.search(&tenant(), search, after, 50).expect("the tables are there"));
    (took, page.items.len(), page.next)
}

#[expect(clippy::disallowed_methods, reason = "a measurement measures real time")]
fn now() -> Instant {
    Instant::now()
}

async fn step_all(runners: &mut [Box<dyn Runner>]) {
    for runner in runners {
        while let Projected::Advanced { .. } = runner.step(time(0)).await.expect("events of ours apply") {}
    }
}

/// Everything that happens to a lot.
fn life(lot: u32, size: u32, is_open: bool) -> Vec<(StreamName, Event)> {
    let sending = sending_id(lot);
    let id = LotId { sending, number: 0 };
    let relay = match lot == RARE_LOT / 2 {
        true => RelayId::from_trusted("omega"),
        false => RelayId::from_trusted(RELAYS[lot as usize % RELAYS.len()]),
    };
    let class = if size == 1 { MessageClass::Otp } else { MessageClass::Notice };
    let all: SeqSet = (0..size).collect();
    let mut events = vec![
        (id.stream(), accepted(sending, lot, size, class).into()),
        (sending.stream(), sealed(sending, lot, size, class).into()),
        (id.stream(), routed(&relay, all.clone())),
    ];
    if is_open {
        return events;
    }
    let submitted = MessagesSubmitted {
        relay: relay.clone(),
        attempt: 1,
        messages: all,
        receipt_by: time(u32::MAX >> 8),
        answer_by: None,
        holder: None,
    };
    events.push((id.stream(), submitted.into()));
    // One in a hundred lots has a message that a rule forbids.
    let refused: SeqSet =
        (0..size).filter(|seq| size == LOT && lot.is_multiple_of(100) && *seq == 500).collect();
    if !refused.is_empty() {
        let finished = MessagesFinished {
            messages: refused.clone(),
            outcome: Outcome::Refused,
            reason: "opted_out".into(),
            class: None,
        };
        events.push((id.stream(), finished.into()));
    }
    let failed: SeqSet =
        (0..size).filter(|seq| (seq + lot).is_multiple_of(50) && !refused.contains(*seq)).collect();
    let delivered: SeqSet =
        (0..size).filter(|seq| !failed.contains(*seq) && !refused.contains(*seq)).collect();
    let code = format!("30{}", 40 + lot % 10);
    events.push((id.stream(), receipts(&relay, delivered, ReceiptStatus::Delivered, "4000", lot)));
    if !failed.is_empty() {
        let finished = MessagesFinished {
            messages: failed.clone(),
            outcome: Outcome::Undelivered,
            reason: code.as_str().into(),
            class: Some(FailureClass::HandsetTemporary),
        };
        events.push((id.stream(), receipts(&relay, failed, ReceiptStatus::Undelivered, &code, lot)));
        events.push((id.stream(), finished.into()));
    }
    events
}

fn accepted(sending: SendingId, lot: u32, size: u32, class: MessageClass) -> LotAccepted {
    let recipients = (0..size).map(|seq| Recipient {
        to: address(lot * LOT + seq).into(),
        email: None,
        contact: None,
        reference: None,
        variables: BTreeMap::new(),
    });
    LotAccepted {
        sending,
        tenant: tenant(),
        class,
        number: 0,
        groups: vec![TypeGroup {
            message_type: MessageType::Sms,
            parts: 1,
            reach: None,
            messages: (0..size).collect(),
        }],
        personal: LotPersonal { recipients: recipients.collect() },
    }
}

fn sealed(sending: SendingId, lot: u32, size: u32, class: MessageClass) -> SendingAccepted {
    let sender = if lot % RARE_LOT == 1 { "0299998888" } else { "0212345678" };
    SendingAccepted {
        sending,
        tenant: tenant(),
        class,
        from_phone: Some(sender.into()),
        from_email: None,
        lots: 1,
        messages: size,
        refused: 0,
        scheduled_at: None,
        expires_at: time(u32::MAX >> 8),
        failover: FailoverTerms::default(),
        ad: None,
        client_reference: Some(format!("order-{lot}")),
        custom: None,
        body_hash: None,
        personal: SendingContent { subject: None, text: "Hello".to_owned(), variables: BTreeMap::new() },
    }
}

fn routed(relay: &RelayId, messages: SeqSet) -> Event {
    let route = RouteSet {
        relay: relay.clone(),
        channel: MessageType::Sms,
        attempt: 1,
        messages,
        fallbacks: vec![],
        price_milliwon: 9_000,
        bills: BillingMoment::Delivered,
        reason: "ratio acme-sms-1".to_owned(),
    };
    MessagesRouted { routes: vec![route], splits: vec![] }.into()
}

fn receipts(relay: &RelayId, messages: SeqSet, status: ReceiptStatus, code: &str, lot: u32) -> Event {
    let set = ReceiptSet {
        attempt: 1,
        status,
        code: code.into(),
        class: (status == ReceiptStatus::Undelivered).then_some(FailureClass::HandsetTemporary),
        billable_failure: false,
        at_ms: messages.iter().map(|_| time(lot).timestamp_millis()).collect(),
        messages,
    };
    ReceiptsRecorded { relay: relay.clone(), sets: vec![set] }.into()
}

async fn append(store: &MemoryEventStore, stream: StreamName, event: Event, lot: u32, events: &mut u128) {
    *events += 1;
    let new = NewEvent {
        id: Uuid::from_u128(*events),
        kind: event.kind().into(),
        schema_version: event.schema_version(),
        data: event.to_json().into(),
    };
    let append = StreamAppend {
        stream,
        expected: Expected::Any,
        metadata: Metadata {
            time: time(lot),
            tenant: Some("acme".into()),
            correlation: Uuid::nil(),
            causation: None,
            actor: "search".into(),
            traceparent: None,
        },
        events: vec![new],
    };
    store.append(Batch::new(BatchMode::Independent, vec![append])).await;
}

fn sending_id(lot: u32) -> SendingId {
    SendingId(Uuid::from_u128(0x0199_0000_0000_7000_8000_0000_0000_0000 + u128::from(lot)))
}

/// Numbers in no order, as recipients are.
fn address(number: u32) -> String {
    format!("010{:08}", u64::from(number) * 2_654_435_761 % 100_000_000)
}

fn tenant() -> TenantId {
    TenantId::from_trusted("acme")
}

/// Ten seconds a lot.
fn time(lot: u32) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(1_760_000_000_000 + i64::from(lot) * 10_000)
        .expect("a time of this century")
}
