//! Law 11 through the API: sendings, statistics, messages, metrics and files count the same; lists are found and filtered
//! page by page; files are whole, harmless and end with their reader.

use chrono::{DateTime, TimeDelta, Utc};
use futures::StreamExt;
use kite_domain::event::Event;
use kite_domain::ids::{LotId, SendingId};
use kite_domain::lot::{
    AcceptedSet, MessagesFinished, MessagesRouted, MessagesSubmitted, Outcome, ReceiptSet, ReceiptsRecorded,
    RelayResponded, RouteSet,
};
use kite_domain::receipt::ReceiptStatus;
use kite_domain::relay::BillingMoment;
use kite_domain::slug::RelayId;
use kite_domain::text::MessageType;
use kite_projections::Counter;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tower::ServiceExt;

use crate::support::{ADMIN, Api, Call, sending, start, with};

fn route(relay: &str, attempt: u16, messages: &[u32]) -> Event {
    let route = RouteSet {
        relay: RelayId::from_trusted(relay),
        channel: MessageType::Sms,
        attempt,
        messages: messages.iter().copied().collect(),
        fallbacks: Vec::new(),
        price_milliwon: 9_000,
        bills: BillingMoment::Delivered,
        reason: "a test".to_owned(),
    };
    MessagesRouted { routes: vec![route], splits: Vec::new() }.into()
}

fn submitted(relay: &str, attempt: u16, messages: &[u32]) -> Event {
    let (relay, messages) = (RelayId::from_trusted(relay), messages.iter().copied().collect());
    MessagesSubmitted {
        relay,
        attempt,
        messages,
        receipt_by: start() + chrono::TimeDelta::days(1),
        answer_by: None,
        holder: None,
    }
    .into()
}

fn accepted(relay: &str, attempt: u16, messages: &[u32]) -> Event {
    let accepted = AcceptedSet {
        messages: messages.iter().copied().collect(),
        relay_references: messages.iter().map(|seq| format!("{relay}-{seq}").into()).collect(),
        is_final: false,
    };
    RelayResponded {
        relay: RelayId::from_trusted(relay),
        attempt,
        call_ms: Some(20),
        accepted: Some(accepted),
        refused: Vec::new(),
        unknown: None,
        deferred: None,
        refused_for_now: Vec::new(),
    }
    .into()
}

fn receipts(relay: &str, attempt: u16, status: ReceiptStatus, code: &str, messages: &[u32]) -> Event {
    let set = ReceiptSet {
        attempt,
        status,
        code: code.into(),
        class: (status == ReceiptStatus::Undelivered)
            .then_some(kite_domain::failure::FailureClass::HandsetTemporary),
        billable_failure: false,
        messages: messages.iter().copied().collect(),
        at_ms: messages.iter().map(|_| start().timestamp_millis()).collect(),
    };
    ReceiptsRecorded { relay: RelayId::from_trusted(relay), sets: vec![set] }.into()
}

fn finished(outcome: Outcome, reason: &str, messages: &[u32]) -> Event {
    let messages = messages.iter().copied().collect();
    MessagesFinished { messages, outcome, reason: reason.into(), class: None }.into()
}

async fn happens(api: &Api, sending: &str, events: Vec<Event>) {
    let id: SendingId = sending.parse().unwrap();
    let lot = LotId { sending: id, number: 0 };
    let changed = api.lots.change(&[lot], &"test".into(), |_, _, _| (events.clone(), ())).await;
    changed.into_iter().next().unwrap().unwrap();
}

async fn accept(api: &Api, body: &Value) -> String {
    let accepted = api.post("/v1/sendings", body).await;
    assert_eq!(accepted.status, 202, "{}", accepted.text());
    accepted.json()["id"].as_str().unwrap().to_owned()
}

/// Eight messages: 0 delivered by alpha, 1 by beta after alpha failed, 2 undelivered, 3 expired before any relay took it,
/// 4 refused and 5 cancelled before they had one, 6 taken by beta, 7 without a relay.
async fn lives(api: &Api) -> String {
    let to: Vec<String> = (0..8).map(|seq| format!("0101234567{seq}")).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    let body = with(sending(&to), "client_reference", json!("order 17"));
    let id = accept(api, &body).await;
    happens(api, &id, vec![route("alpha", 1, &[0, 1, 2, 3]), route("beta", 1, &[6])]).await;
    happens(api, &id, vec![submitted("alpha", 1, &[0, 1, 2]), submitted("beta", 1, &[6])]).await;
    happens(api, &id, vec![accepted("alpha", 1, &[0, 1, 2]), accepted("beta", 1, &[6])]).await;
    let failed = receipts("alpha", 1, ReceiptStatus::Undelivered, "3041", &[1, 2]);
    happens(api, &id, vec![failed, route("beta", 2, &[1]), finished(Outcome::Undelivered, "3041", &[2])])
        .await;
    happens(api, &id, vec![submitted("beta", 2, &[1]), accepted("beta", 2, &[1])]).await;
    happens(api, &id, vec![receipts("alpha", 1, ReceiptStatus::Delivered, "4000", &[0])]).await;
    happens(api, &id, vec![receipts("beta", 2, ReceiptStatus::Delivered, "4000", &[1])]).await;
    let ends = vec![
        finished(Outcome::Expired, "lifetime", &[3]),
        finished(Outcome::Refused, "opted_out", &[4]),
        finished(Outcome::Cancelled, "cancelled", &[5]),
    ];
    happens(api, &id, ends).await;
    api.project().await;
    id
}

/// The rows of a CSV file by the names of its columns.
fn table(text: &str) -> Vec<BTreeMap<String, String>> {
    let text = text.strip_prefix('\u{feff}').expect("it begins with a byte order mark");
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let names = reader.headers().unwrap().clone();
    let row = |record: csv::StringRecord| {
        names.iter().map(str::to_owned).zip(record.iter().map(str::to_owned)).collect()
    };
    reader.records().map(|record| row(record.unwrap())).collect()
}

async fn csv_of(api: &Api, path: &str) -> Vec<BTreeMap<String, String>> {
    let reply = api.get(path).await;
    assert_eq!(reply.header("content-type"), Some("text/csv; charset=utf-8"), "{}", reply.text());
    table(&reply.text())
}

#[tokio::test]
async fn what_ends_before_it_has_a_relay_is_counted_everywhere_and_once() {
    let api = Api::new().await;
    let id = lives(&api).await;
    let shown = api.get(&format!("/v1/sendings/{id}")).await.json();
    let counts = json!({
        "open": 2, "delivered": 2, "undelivered": 1, "expired": 1, "cancelled": 1, "refused": 1
    });
    assert_eq!(shown["counts"], counts);
    assert_eq!(
        (&shown["messages"], &shown["routed"], &shown["handed_over"]),
        (&json!(8), &json!(5), &json!(4))
    );
    assert_eq!(
        (&shown["attempts"], &shown["failovers"], &shown["success_rate"]),
        (&json!(6), &json!(1), &json!(0.5))
    );
    let all = api.get("/v1/statistics").await.json()["rows"][0].clone();
    for counter in Counter::ALL {
        let word = counter.word();
        let of_sending = if shown[word].is_null() { &shown["counts"][word] } else { &shown[word] };
        assert_eq!(&all[word], of_sending, "{word}");
    }
    assert_eq!(all["success_rate"], shown["success_rate"]);
    // By relay the rows add up to all, and each to its messages.
    let by_relay = api.get("/v1/statistics?group_by=relay").await.json()["rows"].clone();
    let rows = by_relay.as_array().unwrap();
    for counter in Counter::ALL {
        let sum: f64 = rows.iter().map(|row| row[counter.word()].as_f64().unwrap()).sum();
        assert_eq!(Some(sum), all[counter.word()].as_f64(), "{counter:?}");
    }
    let row =
        |relay: &str| rows.iter().find(|row| row["relay"].as_str().unwrap_or_default() == relay).unwrap();
    let messages =
        ["messages", "open", "delivered", "undelivered", "expired", "cancelled", "refused", "routed"];
    let of = |relay: &str| messages.map(|name| row(relay)[name].as_i64().unwrap());
    assert_eq!(of("alpha"), [3, 0, 1, 1, 1, 0, 0, 3]);
    assert_eq!(of("beta"), [2, 1, 1, 0, 0, 0, 0, 2]);
    assert_eq!(of(""), [3, 1, 0, 0, 0, 1, 1, 0]);
    // The metrics say the same, and what it means.
    let metrics = api.send(Call::new("GET", "/metrics")).await.text();
    let line =
        |relay: &str| format!("kite_counted_expired{{relay=\"{relay}\",channel=\"sms\",class=\"notice\"}}");
    assert!(metrics.contains(&format!("{} 1\n", line("alpha"))), "{metrics}");
    assert!(metrics.contains(&format!("{} 0\n", line("beta"))) && metrics.starts_with("kite_up 1\n"));
    assert!(metrics.contains(&format!("# HELP kite_counted_expired {}\n", Counter::Expired.definition())));
}

#[tokio::test]
async fn files_of_sendings_messages_and_statistics_add_up_to_each_other() {
    let api = Api::new().await;
    lives(&api).await;
    let second = with(sending(&["01012345678"]), "client_reference", json!("order 18"));
    accept(&api, &second).await;
    api.ok(Call::new("POST", "/v1/sendings").key(&api.rival).json(&sending(&["01012345678"]))).await;
    api.project().await;
    let messages = csv_of(&api, "/v1/messages?format=csv").await;
    let sendings = csv_of(&api, "/v1/sendings?format=csv").await;
    let statistics = csv_of(&api, "/v1/statistics?group_by=relay,class&format=csv").await;
    assert_eq!((messages.len(), sendings.len()), (9, 2));
    let sum = |rows: &[BTreeMap<String, String>], name: &str| {
        rows.iter().map(|row| row[name].parse::<f64>().unwrap()).sum::<f64>() as usize
    };
    for outcome in ["delivered", "undelivered", "expired", "cancelled", "refused"] {
        let count = messages.iter().filter(|row| row["status"] == outcome).count();
        assert_eq!(sum(&sendings, outcome), count, "{outcome}");
        assert_eq!(sum(&statistics, outcome), count, "{outcome}");
    }
    for counter in Counter::ALL {
        assert_eq!(sum(&sendings, counter.word()), sum(&statistics, counter.word()), "{counter:?}");
    }
    assert_eq!(sum(&sendings, "attempts"), sum(&messages, "attempts"));
    assert_eq!(sum(&sendings, "cost_milliwon"), sum(&messages, "cost_milliwon"));
    let by_relay = |relay: &str| messages.iter().filter(|row| row["relay"] == relay).count();
    for row in &statistics {
        assert_eq!(row["messages"].parse::<usize>().unwrap(), by_relay(&row["relay"]), "{row:?}");
    }
    // The same as objects, a line each.
    let lines = api
        .send(Call::new("GET", "/v1/messages").key(&api.acme).header("accept", "application/x-ndjson"))
        .await;
    assert_eq!(lines.header("content-type"), Some("application/x-ndjson"));
    let objects: Vec<Value> = lines.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ids =
        |rows: &[BTreeMap<String, String>]| rows.iter().map(|row| row["id"].clone()).collect::<Vec<_>>();
    assert_eq!(
        objects.iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>(),
        ids(&messages)
    );
    let of_one = csv_of(&api, &format!("/v1/sendings/{}/messages?format=csv", sendings[1]["id"])).await;
    assert_eq!(of_one.len(), 8);
    let expired = of_one.iter().find(|row| row["status"] == "expired").unwrap();
    assert_eq!((expired["reason"].as_str(), expired["from"].as_str()), ("lifetime", "0212345678"));
    assert_eq!((expired["to"].as_str(), expired["first_submitted_at"].as_str()), ("01012345673", ""));
    assert_eq!(expired["accepted_at"], "2027-01-15T08:00:00.000Z");
}

/// No two of the times are the same, so that two that changed places would show.
#[tokio::test]
async fn every_time_of_a_message_stands_under_its_own_name_as_an_object_and_in_a_file() {
    let api = Api::new().await;
    api.clock.advance(TimeDelta::seconds(1));
    let id = accept(&api, &sending(&["01012345678"])).await;
    for event in [
        route("alpha", 1, &[0]),
        submitted("alpha", 1, &[0]),
        accepted("alpha", 1, &[0]),
        // Which says that it was delivered at the start.
        receipts("alpha", 1, ReceiptStatus::Delivered, "4000", &[0]),
    ] {
        api.clock.advance(TimeDelta::seconds(1));
        happens(&api, &id, vec![event]).await;
    }
    api.project().await;
    let seconds = |text: &str| (text.parse::<DateTime<Utc>>().unwrap() - start()).num_seconds();
    let message = api.get(&format!("/v1/messages/{id}-0")).await.json();
    let attempt = &message["attempts"][0];
    for (name, expected) in [
        ("routed_at", 2),
        ("submitted_at", 3),
        ("responded_at", 4),
        ("receipt_at", 0),
        ("receipt_received_at", 5),
    ] {
        assert_eq!(seconds(attempt[name].as_str().unwrap()), expected, "{name}");
    }
    let row = csv_of(&api, "/v1/messages?format=csv").await.remove(0);
    for (name, expected) in [("accepted_at", 1), ("first_submitted_at", 3), ("final_at", 5)] {
        assert_eq!(seconds(message[name].as_str().unwrap()), expected, "{name}");
        assert_eq!(seconds(&row[name]), expected, "{name} in the file");
    }
}

#[tokio::test]
async fn messages_are_found_by_everything_that_they_are_asked_for_by() {
    let api = Api::new().await;
    let id = lives(&api).await;
    let other = accept(&api, &sending(&["01012345678"])).await;
    api.ok(Call::new("POST", "/v1/sendings").key(&api.rival).json(&sending(&["01012345670"]))).await;
    api.project().await;
    for (query, expected) in [
        ("status=expired", &[3][..]),
        ("status=delivered", &[1, 0]),
        ("status=accepted", &[6]),
        ("status=held", &[]),
        ("reason=3041", &[2]),
        ("reason=opted_out&status=refused", &[4]),
        ("reason=never-said", &[]),
        ("relay=alpha", &[3, 2, 0]),
        ("relay=beta&status=delivered", &[1]),
        ("channel=email", &[]),
        ("client_reference=order%2017", &[7, 6, 5, 4, 3, 2, 1, 0]),
        ("client_reference=order%2017&channel=sms&status=open", &[7]),
        ("client_reference=order%2019", &[]),
        ("sender=02-1234-5678&class=notice&status=cancelled", &[5]),
        ("sender=02-9999-9999", &[]),
        ("class=otp", &[]),
        ("to=010-1234-5670", &[0]),
        ("to=010-1234-5670&status=open", &[]),
        ("to=010-1234-5670&client_reference=order%2017", &[0]),
        ("to=010-1234-5670&client_reference=other", &[]),
        ("until=2027-01-15T08:00:00Z", &[]),
        ("from=2027-01-15T08:00:00Z&until=2027-01-15T08:00:01Z&status=refused", &[4]),
    ] {
        for limit in [1, 50] {
            let (mut found, mut cursor) = (Vec::new(), String::new());
            loop {
                let page = api.get(&format!("/v1/messages?{query}&limit={limit}{cursor}")).await;
                assert_eq!(page.status, 200, "{query}: {}", page.text());
                let page = page.json();
                let items = page["items"].as_array().unwrap();
                assert!(items.len() <= limit);
                found.extend(items.iter().map(|message| message["id"].as_str().unwrap().to_owned()));
                match page["next"].as_str() {
                    Some(next) => cursor = format!("&cursor={next}"),
                    None => break,
                }
            }
            let expected: Vec<String> = expected.iter().map(|seq| format!("{id}-{seq}")).collect();
            assert_eq!(found, expected, "{query}, {limit} a page");
        }
    }
    let all = api.get("/v1/messages").await.json()["items"].as_array().unwrap().len();
    assert_eq!(all, 9);
    assert_eq!(api.get("/v1/messages?limit=1").await.json()["items"][0]["id"], format!("{other}-0"));
    for wrong in [
        "status=moon",
        "relay=-",
        "to=12",
        "from=yesterday",
        "format=pdf",
        "color=red",
        "from=2027-01-15T08:00:00Z&until=2027-01-15T08:00:00Z",
    ] {
        let reply = api.get(&format!("/v1/messages?{wrong}")).await;
        assert_eq!(reply.problem(), (400, "invalid-parameter".to_owned()), "{wrong}");
    }
    let limited = api.get("/v1/messages?format=csv&limit=10").await;
    assert_eq!(
        limited.errors(),
        [(None, "limit".to_owned(), "not_with_a_file".to_owned())],
        "{}",
        limited.text()
    );
    for cursor in ["x", "00", "0000000000000000000000000000000000000000000000000000"] {
        for query in ["", "&client_reference=order%2017", "&to=010-1234-5670", "&format=csv"] {
            let reply = api.get(&format!("/v1/messages?cursor={cursor}{query}")).await;
            assert_eq!(reply.problem(), (400, "invalid-cursor".to_owned()), "{cursor}{query}");
        }
    }
}

#[tokio::test]
async fn every_page_of_sendings_is_the_callers_own() {
    let api = Api::new().await;
    let mut own = Vec::new();
    for _ in 0..3 {
        own.push(accept(&api, &sending(&["01012345678"])).await);
        api.ok(Call::new("POST", "/v1/sendings").key(&api.rival).json(&sending(&["01012345678"]))).await;
    }
    api.project().await;
    own.reverse();
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = api.get(&format!("/v1/sendings?limit=1{cursor}")).await.json();
        found.extend(
            page["items"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()),
        );
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(found, own);
    let ids: Vec<String> =
        csv_of(&api, "/v1/sendings?format=csv").await.into_iter().map(|row| row["id"].clone()).collect();
    assert_eq!(ids, own);
}

#[tokio::test]
async fn nothing_in_a_file_is_run_by_a_spreadsheet() {
    let api = Api::new().await;
    let mut body = sending(&["01012345678"]);
    body["text"] = json!("=1+1");
    body["client_reference"] = json!("@order, \"7\"\nsecond line");
    accept(&api, &body).await;
    api.project().await;
    let rows = csv_of(&api, "/v1/sendings?format=csv").await;
    assert_eq!(
        (rows[0]["text"].as_str(), rows[0]["client_reference"].as_str()),
        ("'=1+1", "'@order, \"7\"\nsecond line")
    );
    let disposition = api.get("/v1/sendings?format=csv").await;
    assert_eq!(disposition.header("content-disposition"), Some("attachment; filename=\"sendings.csv\""));
}

#[tokio::test]
async fn the_log_is_a_file_for_its_tenant_and_for_the_operator() {
    let api = Api::new().await;
    let id = lives(&api).await;
    let own = csv_of(&api, "/v1/audit/events?format=csv").await;
    assert!(own.len() > 8 && own.iter().all(|row| row["tenant"] == "acme"));
    let positions: Vec<u64> = own.iter().map(|row| row["position"].parse().unwrap()).collect();
    assert!(positions.is_sorted());
    let data: Value = serde_json::from_str(&own.last().unwrap()["data"]).unwrap();
    assert!(data.is_object());
    let everything = api.ok(Call::new("GET", "/v1/audit/events?format=ndjson").key(ADMIN)).await.text();
    let tenants: Vec<Value> = everything
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["tenant"].clone())
        .collect();
    assert!(tenants.contains(&json!("rival")) && tenants.contains(&json!("acme")));
    assert_eq!(tenants.len(), api.events().await, "all of it, over pages");
    let of_message = csv_of(&api, &format!("/v1/audit/events?format=csv&message={id}-3")).await;
    assert!(of_message.len() >= 3);
}

#[tokio::test]
async fn a_file_of_many_pages_is_whole_and_ends_with_its_reader() {
    let api = Api::new().await;
    let to: Vec<String> = (0..1_050).map(|seq| format!("0101234{seq:04}")).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    accept(&api, &sending(&to)).await;
    api.project().await;
    let rows = csv_of(&api, "/v1/messages?format=csv").await;
    let mut ids: Vec<&String> = rows.iter().map(|row| &row["id"]).collect();
    ids.dedup();
    assert_eq!(ids.len(), 1_050);
    // Whoever reads one piece and goes away gives the place back: no more than three are written at once.
    let call = || Call::new("GET", "/v1/messages?format=csv").key(&api.acme).request();
    let mut reading = Vec::new();
    for _ in 0..3 {
        let response = api.router.clone().oneshot(call()).await.unwrap();
        assert_eq!(response.status(), 200);
        let mut body = response.into_body().into_data_stream();
        assert!(body.next().await.unwrap().unwrap().starts_with("\u{feff}id,".as_bytes()));
        reading.push(body);
    }
    assert_eq!(api.send_request(call()).await.problem(), (429, "too-many-at-once".to_owned()));
    let of_others = api.send(Call::new("GET", "/v1/messages?format=csv").key(&api.rival)).await;
    assert_eq!(of_others.status, 200);
    drop(reading.pop());
    assert_eq!(api.send_request(call()).await.status, 200);
}

#[tokio::test]
async fn a_number_that_cannot_be_kept_exactly_is_refused_with_its_place() {
    let api = Api::new().await;
    let body = sending(&["01012345678"]).to_string();
    let with_custom =
        |custom: &str| format!("{},\"custom\":{custom}}}", body.strip_suffix('}').unwrap()).into_bytes();
    let send = |custom: &str| {
        Call::new("POST", "/v1/sendings").key(&api.acme).bytes("application/json", with_custom(custom))
    };
    let events = api.events().await;
    let refused = api.send(send("{\"big\": 123456789012345678901234567890}")).await;
    assert_eq!(refused.problem(), (422, "invalid-body".to_owned()));
    assert_eq!(refused.errors(), [(None, "custom.big".to_owned(), "number_not_exact".to_owned())]);
    assert_eq!(api.events().await, events);
    let kept = "{\"big\":18446744073709551615,\"rate\":0.1,\"small\":-9223372036854775808}";
    let taken = api.ok(send(kept)).await.json();
    api.project().await;
    let shown = api.get(&format!("/v1/sendings/{}", taken["id"].as_str().unwrap())).await.json();
    assert_eq!(shown["custom"].to_string(), kept);
}
