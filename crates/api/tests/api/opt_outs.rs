//! Refusals of advertisements: by any spelling, any address of a person, by brand, and in files.

use serde_json::{Value, json};
use std::pin::pin;

use crate::support::{Api, Call, Reply, approval, sending};

fn import(api: &Api, query: &str, csv: &str) -> Call {
    Call::new("POST", format!("/v1/opt-outs/import{query}"))
        .key(&api.acme)
        .bytes("text/csv", csv.as_bytes().to_vec())
}

fn table(api: &Api) -> Call {
    Call::new("GET", "/v1/opt-outs").key(&api.acme).header("accept", "text/csv")
}

/// A request while the read models are moved on, as they are in production.
async fn post_and_project(api: &Api, path: &str, body: &Value) -> Reply {
    let mut post = pin!(api.post(path, body));
    let projecting = async || {
        api.project().await;
        tokio::task::yield_now().await;
    };
    let reply = loop {
        tokio::select! {
            reply = &mut post => break reply,
            () = projecting() => {}
        }
    };
    assert!(reply.status.is_success(), "{}", reply.text());
    api.project().await;
    reply
}

fn ad(to: &[&str]) -> Value {
    let recipients: Vec<Value> = to.iter().map(|to| json!({"to": to})).collect();
    json!({
        "class": "ad", "from": "0212345678", "text": "세일", "ad": {"mark_automatically": true},
        "recipients": recipients,
    })
}

/// An API whose tenant can advertise by e-mail too.
async fn with_email() -> Api {
    let api = Api::new().await;
    let sender = json!({"address": "news@example.com", "brand": "카이트", "relays": ["alpha", "beta"]});
    api.ok(Call::new("POST", "/v1/senders").key(&api.acme).json(&sender)).await;
    api.approve("acme", "news@example.com", &approval()).await;
    api
}

fn ad_by_email(to: &str) -> Value {
    json!({
        "class": "ad", "type": "email", "from_email": "news@example.com", "subject": "(광고) 세일",
        "text": "세일\n수신거부: https://example.com/u", "ad": {"mark_automatically": true},
        "recipients": [{"to": to}],
    })
}

#[tokio::test]
async fn a_refusal_binds_another_spelling_of_the_address() {
    let api = with_email().await;
    assert_eq!(api.post("/v1/sendings", &ad_by_email("kim@한국.kr")).await.status, 202);
    for (refused, other, asked) in [
        ("Case@Example.com", "case@example.com", "CASE@EXAMPLE.COM"),
        ("kim@xn--3e0b707e.kr", "kim@한국.kr", "KIM@XN--3E0B707E.KR"),
    ] {
        api.ok(Call::new("POST", "/v1/opt-outs").key(&api.acme).json(&json!({"address": refused}))).await;
        let answer = api.post("/v1/sendings", &ad_by_email(other)).await;
        assert_eq!(
            answer.errors(),
            [(Some(0), "to".to_owned(), "opted_out".to_owned())],
            "{}",
            answer.text()
        );
        api.project().await;
        let shown = api.get(&format!("/v1/opt-outs/{asked}")).await;
        assert_eq!(shown.status, 200, "{}", shown.text());
    }
    let gone = Call::new("DELETE", "/v1/opt-outs/CASE@example.com").key(&api.acme);
    api.ok(gone).await;
    assert_eq!(api.post("/v1/sendings", &ad_by_email("Case@example.com")).await.status, 202);
}

#[tokio::test]
async fn a_refusal_by_phone_binds_the_e_mail_address_of_the_same_contact() {
    let api = with_email().await;
    let contact = json!({"name": "홍길동", "phone": "010-1234-5678", "email": "Hong@example.com"});
    let path = post_and_project(&api, "/v1/contacts", &contact).await.header("location").unwrap().to_owned();
    post_and_project(&api, "/v1/opt-outs", &json!({"address": "01012345678", "source": "080"})).await;
    let answer = api.post("/v1/sendings", &ad_by_email("hong@example.com")).await;
    assert_eq!(answer.errors(), [(Some(0), "to".to_owned(), "opted_out".to_owned())], "{}", answer.text());
    let binding = api.get("/v1/opt-outs/Hong@example.com").await.json();
    assert_eq!(
        (&binding["address"], &binding["source"]),
        (&json!("01012345678"), &json!("080")),
        "{binding}"
    );
    let own = json!({"address": "hong@example.com", "brand": "카이트", "source": "web"});
    post_and_project(&api, "/v1/opt-outs", &own).await;
    for (asked, other) in [("hong@example.com", "01012345678"), ("01012345678", "hong@example.com")] {
        let binding = api.get(&format!("/v1/opt-outs/{asked}")).await.json();
        assert_eq!((&binding["address"], &binding["further"][0]["address"]), (&json!(asked), &json!(other)));
        assert!(binding["further"][0]["since"].is_string() && binding["further"][1].is_null(), "{binding}");
    }
    api.ok(Call::new("DELETE", "/v1/opt-outs/hong@example.com").key(&api.acme)).await;
    let notice = json!({
        "class": "notice", "type": "email", "from_email": "news@example.com", "subject": "안내", "text": "안내",
        "recipients": [{"to": "hong@example.com"}],
    });
    assert_eq!(api.post("/v1/sendings", &notice).await.status, 202, "a notice is none of it");
    assert_eq!(api.get(&path).await.json()["opted_out"], true);
    api.ok(Call::new("DELETE", path).key(&api.acme)).await;
    api.project().await;
    let answer = api.post("/v1/sendings", &ad_by_email("hong@example.com")).await;
    assert_eq!(answer.status, 422, "a refusal outlives its contact");
    api.ok(Call::new("DELETE", "/v1/opt-outs/010-1234-5678").key(&api.acme)).await;
    assert_eq!(api.post("/v1/sendings", &ad_by_email("hong@example.com")).await.status, 202);
}

#[tokio::test]
async fn a_contact_that_is_saved_later_is_bound_at_once() {
    let api = with_email().await;
    post_and_project(&api, "/v1/opt-outs", &json!({"address": "hong@example.com"})).await;
    assert_eq!(api.post("/v1/sendings", &ad(&["01012345678"])).await.json()["accepted"], 1);
    post_and_project(&api, "/v1/contacts", &json!({"phone": "01012345678", "email": "hong@example.com"}))
        .await;
    let answer = api.post("/v1/sendings", &ad(&["01012345678"])).await;
    assert_eq!(answer.errors(), [(Some(0), "to".to_owned(), "opted_out".to_owned())], "{}", answer.text());
}

#[tokio::test]
async fn a_file_with_a_quote_left_open_or_without_rows_is_refused_and_nothing_is_recorded() {
    let api = Api::new().await;
    for (file, detail) in [
        (
            "address,source\n010-4444-0001,\"080\n010-4444-0002,web\n",
            "In row 2 a quote is opened that is never closed.",
        ),
        ("address,source\n", "The file has no rows."),
    ] {
        let answer = api.send(import(&api, "", file)).await;
        assert_eq!(answer.problem(), (422, "invalid-csv".to_owned()), "{}", answer.text());
        assert_eq!(answer.json()["detail"], detail);
    }
    let answer =
        api.ok(import(&api, "", "address,source\n01044440001,\"080\nweb\"\n01044440002,web\n")).await;
    let report = answer.json();
    assert_eq!((&report["recorded"], &report["refused"]), (&json!(1), &json!(1)));
    assert_eq!(
        (&report["errors"][0]["row"], &report["errors"][0]["code"]),
        (&json!(2), &json!("line_break"))
    );
    api.project().await;
    assert_eq!(api.get("/v1/opt-outs").await.json()["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_refusal_of_a_brand_is_shown_and_binds_that_brand() {
    let api = Api::new().await;
    let hats = json!({
        "address": "02-8765-4321", "brand": "모자", "refusal_number": "080-123-4567", "relays": ["alpha", "beta"]
    });
    api.ok(Call::new("POST", "/v1/senders").key(&api.acme).json(&hats)).await;
    api.approve("acme", "0287654321", &approval()).await;
    let unknown = api.post("/v1/opt-outs", &json!({"address": "01012345678", "brand": "모지"})).await;
    assert_eq!(unknown.errors(), [(None, "brand".to_owned(), "brand_unknown".to_owned())]);
    let refusal = json!({
        "address": "01012345678", "brand": "모자", "source": "letter", "refused_at": "2026-12-24T10:00:00+09:00"
    });
    post_and_project(&api, "/v1/opt-outs", &refusal).await;
    assert_eq!(api.post("/v1/sendings", &ad(&["01012345678"])).await.json()["accepted"], 1);
    let mut of_hats = ad(&["01012345678"]);
    of_hats["from"] = json!("0287654321");
    assert_eq!(api.post("/v1/sendings", &of_hats).await.status, 422);
    let shown = api.get("/v1/opt-outs/01012345678").await.json();
    assert_eq!((&shown["brand"], &shown["source"]), (&json!("모자"), &json!("letter")));
    assert_eq!(shown["refused_at"], "2026-12-24T01:00:00Z");
    post_and_project(&api, "/v1/contacts", &json!({"phone": "01012345678"})).await;
    let contact = &api.get("/v1/contacts").await.json()["items"][0];
    assert_eq!((&contact["opted_out"], &contact["refused_brands"]), (&json!(true), &json!(["모자"])));
    let query = "?brand=%EC%B9%B4%EC%9D%B4%ED%8A%B8";
    let of_other = Call::new("DELETE", format!("/v1/opt-outs/01012345678{query}")).key(&api.acme);
    assert_eq!(api.send(of_other).await.problem(), (404, "not-found".to_owned()));
    api.ok(Call::new("DELETE", "/v1/opt-outs/01012345678?brand=%EB%AA%A8%EC%9E%90").key(&api.acme)).await;
    assert_eq!(api.post("/v1/sendings", &of_hats).await.json()["accepted"], 1);
}

#[tokio::test]
async fn a_refusal_of_the_future_is_none() {
    let api = Api::new().await;
    let body = json!({"address": "01012345678", "refused_at": "2099-01-01T00:00:00Z"});
    let answer = api.post("/v1/opt-outs", &body).await;
    assert_eq!(answer.errors(), [(None, "refused_at".to_owned(), "in_the_future".to_owned())]);
}

#[tokio::test]
async fn an_import_records_the_good_rows_and_reports_the_others() {
    let api = Api::new().await;
    let csv = "\u{feff}address,brand,source,refused_at\n\
               010-1234-5671,,080,2026-03-02\n\
               1012345672,,080,\n\
               Case@Example.com,카이트,web,2026-03-02T12:00:00+09:00\n\
               010-1234-5673,모지,web,\n\
               010-1234-5674,,web,gestern\n\
               01012345671,,letter,\n\
               010-1234-5675\n";
    let report = api.ok(import(&api, "", csv)).await.json();
    let counted = (&report["recorded"], &report["known"], &report["refused"]);
    assert_eq!(counted, (&json!(2), &json!(1), &json!(4)), "{report}");
    let errors: Vec<_> = report["errors"].as_array().unwrap().iter().collect();
    let told: Vec<_> =
        errors.iter().map(|one| (one["row"].as_u64().unwrap(), one["code"].as_str().unwrap())).collect();
    assert_eq!(
        told,
        [(3, "lost_leading_zero"), (5, "brand_unknown"), (6, "time_unreadable"), (8, "column_count")]
    );
    let fields: Vec<_> = errors.iter().map(|one| one["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["address", "brand", "refused_at", "row"]);
    let events = api.events().await;
    let again = api.ok(import(&api, "", csv)).await.json();
    assert_eq!((&again["recorded"], &again["known"]), (&json!(0), &json!(3)));
    assert_eq!(api.events().await, events, "to import it again does no harm");
    let strict = api.send(import(&api, "?strict=true", csv)).await;
    assert_eq!(strict.problem(), (422, "rows-refused".to_owned()));
    for unreadable in ["brand\nA\n", "address,notes\n01012345678,x\n", "주소,전화번호\na,b\n"] {
        let answer = api.send(import(&api, "", unreadable)).await;
        assert_eq!(answer.problem(), (422, "invalid-csv".to_owned()), "{unreadable}");
    }
    assert_eq!(api.post("/v1/sendings", &ad(&["01012345671"])).await.status, 422);
    assert_eq!(api.post("/v1/sendings", &sending(&["01012345671"])).await.status, 202);
}

#[tokio::test]
async fn what_is_exported_can_be_imported() {
    let api = Api::new().await;
    let numbers: String = (0..1_100).map(|number| format!("010{number:08},=1+1,2026-03-02\n")).collect();
    let csv = format!("address,source,refused_at\n{numbers}Case@Example.com,web,\n");
    api.ok(import(&api, "", &csv)).await;
    api.project().await;
    let file = api.ok(table(&api)).await;
    assert_eq!(file.header("content-type"), Some("text/csv; charset=utf-8"));
    let text = file.text();
    assert!(text.starts_with("\u{feff}address,brand,source,refused_at\n"), "{text:.80}");
    assert_eq!(text.lines().count(), 1_102, "more than one page");
    assert!(
        text.contains("\n01000000007,,'=1+1,2026-03-01T15:00:00.000Z\n"),
        "no spreadsheet runs it: {text:.200}"
    );
    assert!(text.contains("\nCase@example.com,,web,"), "as it was given");
    let events = api.events().await;
    let again = api.ok(import(&api, "", &text)).await.json();
    assert_eq!((&again["recorded"], &again["known"]), (&json!(0), &json!(1_101)));
    assert_eq!(api.events().await, events);
    let lines = api.get("/v1/opt-outs?format=ndjson").await;
    assert_eq!(lines.header("content-type"), Some("application/x-ndjson"));
    assert_eq!(lines.text().lines().count(), 1_101);
    let limited = api.get("/v1/opt-outs?format=csv&limit=5").await;
    assert_eq!(limited.errors(), [(None, "limit".to_owned(), "not_with_a_file".to_owned())]);
    let rival = api.send(Call::new("GET", "/v1/opt-outs").key(&api.rival).header("accept", "text/csv")).await;
    assert_eq!(rival.text().lines().count(), 1, "only the header");
}
