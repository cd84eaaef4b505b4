//! Sendings and messages: accepted, shown, previewed, cancelled, counted.

use kite_domain::event::Event;
use kite_domain::ids::MessageId;
use kite_domain::lot::{MessagesRouted, RouteSet, SplitRecord};
use kite_domain::relay::BillingMoment;
use kite_domain::slug::RelayId;
use kite_domain::split::{Carry, SplitKey, WeightedRelays};
use kite_domain::text::MessageType;
use serde_json::json;

use crate::support::{Api, Call, sending, with};

#[tokio::test]
async fn an_accepted_sending_is_listed_shown_and_found_by_recipient() {
    let api = Api::new().await;
    let body = with(sending(&["01012345678", "01012345679"]), "client_reference", json!("order 17"));
    let accepted = api.post("/v1/sendings", &with(body, "custom", json!({"cart": [1, 2]}))).await;
    assert_eq!(accepted.status, 202, "{}", accepted.text());
    let id = accepted.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(accepted.header("location"), Some(format!("/v1/sendings/{id}").as_str()));
    api.project().await;
    let shown = api.get(&format!("/v1/sendings/{id}")).await.json();
    assert_eq!(
        (&shown["messages"], &shown["counts"]["open"], &shown["state"]),
        (&json!(2), &json!(2), &json!("in_progress"))
    );
    assert_eq!(
        (&shown["custom"], &shown["client_reference"]),
        (&json!({"cart": [1, 2]}), &json!("order 17"))
    );
    let listed = api.get("/v1/sendings?class=notice&client_reference=order%2017").await.json();
    assert_eq!(listed["items"][0]["id"], id);
    assert_eq!(api.get("/v1/sendings?class=otp").await.json()["items"], json!([]));
    let messages = api.get(&format!("/v1/sendings/{id}/messages?limit=1")).await.json();
    assert_eq!(messages["items"][0]["id"], format!("{id}-0"));
    let next = messages["next"].as_str().unwrap();
    let rest = api.get(&format!("/v1/sendings/{id}/messages?limit=1&cursor={next}")).await.json();
    assert_eq!(rest["items"][0]["to"], "01012345679");
    let message = api.get(&format!("/v1/messages/{id}-1")).await.json();
    assert_eq!((&message["status"], &message["type"]), (&json!("open"), &json!("sms")));
    let found = api.get("/v1/messages?to=010-1234-5679").await.json();
    assert_eq!(found["items"][0]["id"], format!("{id}-1"));
}

#[tokio::test]
async fn a_preview_shows_types_costs_and_split_and_writes_nothing() {
    let api = Api::new().await;
    let events = api.events().await;
    let body = json!({
        "class": "notice", "from": "0212345678", "text": "#{name}님 안녕하세요",
        "recipients": [
            {"to": "01012345671", "variables": {"name": "홍"}},
            {"to": "01012345672", "variables": {"name": "가".repeat(60)}},
            {"to": "01012345673"},
        ],
    });
    let preview = api.post("/v1/sendings/preview", &body).await;
    assert_eq!(preview.status, 200, "{}", preview.text());
    let preview = preview.json();
    assert_eq!(preview["messages"], 2);
    let types: Vec<_> =
        preview["types"].as_array().unwrap().iter().map(|group| group["type"].clone()).collect();
    assert_eq!(types, ["sms", "lms"]);
    assert_eq!(preview["cost_milliwon"], 9_000 + 25_000);
    assert_eq!(preview["refused"][0]["row"], 2);
    assert_eq!(preview["rows"][0]["text"], "홍님 안녕하세요");
    assert!(!preview["relays"].as_array().unwrap().is_empty());
    assert_eq!(api.events().await, events);
}

/// What the router writes for a sending of one message, and the relay that it goes to.
fn routed(weights: &WeightedRelays, carry: &mut Carry) -> (RelayId, MessagesRouted) {
    let place = carry.take(weights, 1).unwrap()[0];
    let relay = weights.entries()[usize::from(place)].0.clone();
    let route = RouteSet {
        relay: relay.clone(),
        channel: MessageType::Sms,
        attempt: 1,
        messages: [0].into_iter().collect(),
        fallbacks: Vec::new(),
        price_milliwon: 9_000,
        bills: BillingMoment::Delivered,
        reason: "a test".to_owned(),
    };
    let split = SplitRecord {
        key: SplitKey::new("acme-sms-1", weights).as_str().into(),
        channel: MessageType::Sms,
        version: 1,
        objective: "ratio".into(),
        weights: Vec::new(),
        messages: 1,
        carry: carry.clone(),
        left_out: Vec::new(),
    };
    (relay, MessagesRouted { routes: vec![route], splits: vec![split] })
}

#[tokio::test]
async fn a_preview_goes_on_from_where_the_split_stands() {
    let api = Api::new().await;
    let shares =
        [("alpha", 7_000), ("beta", 3_000)].map(|(name, weight)| (RelayId::from_trusted(name), weight));
    let weights = WeightedRelays::new(shares.to_vec()).unwrap();
    let mut carry = Carry::new(&weights);
    let body = sending(&["01012345678"]);
    let mut relays = Vec::new();
    for _ in 0..4 {
        let preview = api.post("/v1/sendings/preview", &body).await.json();
        let accepted = api.post("/v1/sendings", &body).await.json();
        let id: MessageId = format!("{}-0", accepted["id"].as_str().unwrap()).parse().unwrap();
        let (relay, event) = routed(&weights, &mut carry);
        let events = vec![Event::from(event)];
        let changed = api.lots.change(&[id.lot()], &"test".into(), |_, _, _| (events.clone(), ())).await;
        changed.into_iter().next().unwrap().unwrap();
        api.project().await;
        assert_eq!(preview["rows"][0]["relay"], relay.as_str(), "after {relays:?}");
        relays.push(relay);
    }
    assert!(relays.iter().any(|relay| *relay != relays[0]), "one after the other, both are used");
}

#[tokio::test]
async fn a_template_fills_in_for_a_text() {
    let api = Api::new().await;
    let template = api.post("/v1/templates", &json!({"name": "인사", "text": "#{name}님, #{what}"})).await;
    assert_eq!((template.status.as_u16(), &template.json()["variables"]), (201, &json!(["name", "what"])));
    let id = template.json()["id"].clone();
    let mut body = sending(&[]);
    body.as_object_mut().unwrap().remove("text");
    body["template"] = id.clone();
    body["variables"] = json!({"what": "반갑습니다"});
    body["recipients"] = json!([{"to": "01012345678", "variables": {"name": "홍"}}]);
    let accepted = api.post("/v1/sendings", &body).await;
    assert_eq!(accepted.status, 202, "{}", accepted.text());
    api.ok(Call::new("DELETE", format!("/v1/templates/{}", id.as_str().unwrap())).key(&api.acme)).await;
    let refused = api.post("/v1/sendings", &body).await;
    assert_eq!(refused.problem(), (422, "request-refused".to_owned()));
}

#[tokio::test]
async fn a_cancelled_sending_is_over() {
    let api = Api::new().await;
    let later = with(sending(&["01012345678"]), "scheduled_at", json!("2027-01-20T00:00:00Z"));
    let accepted = api.post("/v1/sendings", &later).await;
    assert_eq!(accepted.status, 202, "{}", accepted.text());
    let path = accepted.header("location").unwrap().to_owned();
    api.project().await;
    assert_eq!(api.get(&path).await.json()["state"], "scheduled");
    let cancelled = api.post(&format!("{path}/cancel"), &json!({"reason": "mistake"})).await;
    assert_eq!(cancelled.json(), json!({"cancelled": 1, "in_flight": 0, "finished": 0}));
    let again = api.post(&format!("{path}/cancel"), &json!({})).await;
    assert_eq!(again.problem(), (409, "not-possible-now".to_owned()));
    api.project().await;
    let shown = api.get(&path).await.json();
    assert_eq!((&shown["counts"]["cancelled"], &shown["counts"]["open"]), (&json!(1), &json!(0)));
}

#[tokio::test]
async fn an_advertisement_skips_who_refused_and_a_notice_does_not() {
    let api = Api::new().await;
    api.ok(Call::new("POST", "/v1/opt-outs")
        .key(&api.acme)
        .json(&json!({"address": "010-1234-5678", "source": "080"})))
        .await;
    let ad = json!({
        "class": "ad", "from": "0212345678", "text": "세일", "ad": {"mark_automatically": true},
        "recipients": [{"to": "01012345678"}, {"to": "01012345679"}],
    });
    let accepted = api.post("/v1/sendings", &ad).await;
    assert_eq!(accepted.status, 202, "{}", accepted.text());
    assert_eq!(
        (&accepted.json()["accepted"], &accepted.json()["refused"][0]["code"]),
        (&json!(1), &json!("opted_out"))
    );
    let notice = api.post("/v1/sendings", &sending(&["01012345678"])).await;
    assert_eq!(notice.json()["accepted"], 1);
    api.project().await;
    assert_eq!(api.get("/v1/opt-outs").await.json()["items"][0]["address"], "01012345678");
    api.ok(Call::new("DELETE", "/v1/opt-outs/010-1234-5678").key(&api.acme)).await;
    assert_eq!(api.post("/v1/sendings", &ad).await.json()["accepted"], 2);
}

#[tokio::test]
async fn a_large_request_is_read_elsewhere_and_accepted_whole() {
    let api = Api::new().await;
    let recipients: Vec<_> = (0..10_000)
        .map(|count| json!({"to": format!("010{count:08}"), "reference": format!("customer-{count}")}))
        .collect();
    let accepted = api.post("/v1/sendings", &with(sending(&[]), "recipients", json!(recipients))).await;
    assert_eq!(accepted.status, 202, "{}", accepted.text());
    let answer = accepted.json();
    let refused = answer["refused_count"].as_u64().unwrap();
    assert_eq!(answer["accepted"].as_u64().unwrap() + refused, 10_000, "{refused} refused");
    assert!(answer["accepted"].as_u64().unwrap() > 9_000);
}

#[tokio::test]
async fn statistics_are_counted_for_the_tenant_and_as_a_table() {
    let api = Api::new().await;
    api.post("/v1/sendings", &sending(&["01012345678", "01012345679"])).await;
    api.ok(Call::new("POST", "/v1/sendings").key(&api.rival).json(&sending(&["01012345678"]))).await;
    api.project().await;
    let rows = api.get("/v1/statistics").await.json();
    assert_eq!(rows["rows"][0]["messages"], 2);
    let everybody =
        api.ok(Call::new("GET", "/v1/statistics?group_by=tenant").key(crate::support::ADMIN)).await.json();
    assert_eq!(everybody["rows"].as_array().unwrap().len(), 2);
    let table = api
        .ok(Call::new("GET", "/v1/statistics?group_by=class").key(&api.acme).header("accept", "text/csv"))
        .await;
    assert_eq!(table.header("content-type"), Some("text/csv; charset=utf-8"));
    let text = table.text();
    assert!(text.starts_with("\u{feff}relay,channel,type,class"), "{text}");
    assert_eq!(text.lines().count(), 2);
    assert!(text.lines().nth(1).unwrap().starts_with(",,,notice,,,,2,"), "{text}");
}

#[tokio::test]
async fn a_recommendation_shows_every_relay_and_says_why() {
    let api = Api::new().await;
    for objective in ["price", "speed", "recommended", "ratio"] {
        let advice = api.get(&format!("/v1/routing/recommendation?channel=sms&objective={objective}")).await;
        assert_eq!(advice.status, 200, "{}", advice.text());
        let advice = advice.json();
        assert_eq!(advice["objective"], objective);
        let relays = advice["relays"].as_array().unwrap();
        assert_eq!(relays.len(), 2);
        assert_eq!(relays.iter().map(|relay| relay["weight"].as_u64().unwrap()).sum::<u64>(), 10_000);
        assert!(relays.iter().all(|relay| !relay["reasons"].as_array().unwrap().is_empty()));
        assert_eq!(relays[0]["live"]["price_milliwon"], 9_000);
        assert!(!advice["reason"].as_str().unwrap().is_empty());
    }
    let suspend = Call::new("POST", "/v1/admin/relays/beta/suspend").key(crate::support::ADMIN);
    api.ok(suspend.json(&json!({"reason": "contract ended"}))).await;
    let advice =
        api.get("/v1/routing/recommendation?channel=sms&objective=price&from=02-1234-5678").await.json();
    assert_eq!(
        (&advice["left_out"][0]["relay"], &advice["left_out"][0]["code"]),
        (&json!("beta"), &json!("suspended"))
    );
    assert_eq!(api.get("/v1/routing/recommendation?channel=lms&objective=ratio").await.status, 400);
}

#[tokio::test]
async fn statistics_take_whole_hours_and_count_days_of_seoul() {
    let api = Api::new().await;
    api.post("/v1/sendings", &sending(&["01012345678"])).await;
    api.project().await;
    for (query, field, code) in [
        ("from=2027-01-15T08:30:00Z", "from", "not_on_the_hour"),
        ("until=2027-01-15T08:00:01Z", "until", "not_on_the_hour"),
        ("from=2027-01-15T08:00:00Z&until=2027-01-15T08:00:00Z", "until", "window_empty"),
        ("from=2027-01-15T09:00:00Z&until=2027-01-15T08:00:00Z", "until", "window_empty"),
    ] {
        let reply = api.get(&format!("/v1/statistics?{query}")).await;
        assert_eq!(reply.problem(), (400, "invalid-parameter".to_owned()), "{query}");
        assert_eq!(reply.errors(), [(None, field.to_owned(), code.to_owned())]);
    }
    let by_day = api.get("/v1/statistics?group_by=day&from=2020-01-01T00:00:00%2B09:00").await.json();
    let day = by_day["rows"][0]["day"].as_str().unwrap_or_else(|| panic!("{by_day}"));
    assert_eq!((day.len(), &by_day["rows"][0]["messages"]), (10, &json!(1)));
}
