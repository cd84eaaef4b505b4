//! Contacts, groups, import, export, and sending to them.

use kite_api::ApiConfig;
use kite_commands::accept::AcceptLimits;
use serde_json::json;
use tower::ServiceExt;

use crate::support::{Api, Call, sending, with};

fn import(api: &Api, query: &str, csv: &[u8]) -> Call {
    Call::new("POST", format!("/v1/contacts/import{query}"))
        .key(&api.acme)
        .bytes("text/csv; charset=utf-8", csv.to_vec())
}

async fn group(api: &Api, name: &str) -> String {
    let made = api.ok(Call::new("POST", "/v1/groups").key(&api.acme).json(&json!({"name": name}))).await;
    api.project().await;
    made.json()["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_contact_is_saved_shown_changed_and_deleted() {
    let api = Api::new().await;
    let body =
        json!({"name": "홍길동", "phone": "010-1234-5678", "tags": ["vip"], "fields": {"등급": "골드"}});
    let made = api.post("/v1/contacts", &body).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let path = made.header("location").unwrap().to_owned();
    api.project().await;
    let shown = api.get(&path).await.json();
    assert_eq!((&shown["phone"], &shown["fields"]), (&json!("01012345678"), &json!({"등급": "골드"})));
    assert_eq!(api.get("/v1/contacts?tag=vip").await.json()["items"].as_array().unwrap().len(), 1);
    api.ok(Call::new("PUT", path.clone())
        .key(&api.acme)
        .json(&json!({"name": "임꺽정", "phone": "01012345678"})))
        .await;
    api.project().await;
    let shown = api.get(&path).await.json();
    assert_eq!((&shown["name"], &shown["tags"]), (&json!("임꺽정"), &json!([])));
    assert_eq!(api.ok(Call::new("DELETE", path.clone()).key(&api.acme)).await.status, 204);
    api.project().await;
    assert_eq!(api.get(&path).await.problem(), (404, "not-found".to_owned()));
}

#[tokio::test]
async fn a_write_that_rests_on_another_waits_for_it() {
    let api = Api::new().await;
    let made = api.post("/v1/contacts", &json!({"phone": "01012345678"})).await;
    let path = made.header("location").unwrap().to_owned();
    let early = api.send(Call::new("DELETE", path.clone()).key(&api.acme)).await;
    assert_eq!(early.problem(), (503, "not-caught-up".to_owned()));
    api.project().await;
    assert_eq!(api.ok(Call::new("DELETE", path).key(&api.acme)).await.status, 204);
}

#[tokio::test]
async fn an_import_takes_the_good_rows_and_reports_the_others() {
    let api = Api::new().await;
    let id = group(&api, "서울").await;
    let csv = "name,phone,email,등급\nA,01012345671,,골드\nB,1012345672,,\nC,,c@example.com,\nD,010-1234-5671,,실버\n";
    let report = api.ok(import(&api, &format!("?group={id}"), csv.as_bytes())).await.json();
    assert_eq!(
        (&report["imported"], &report["contacts"], &report["refused"]),
        (&json!(3), &json!(2), &json!(1))
    );
    assert_eq!(
        (&report["errors"][0]["row"], &report["errors"][0]["code"]),
        (&json!(3), &json!("lost_leading_zero"))
    );
    assert_eq!(report["merged"], json!([5]));
    api.project().await;
    let members = api.get(&format!("/v1/contacts?group={id}")).await.json();
    assert_eq!(members["items"].as_array().unwrap().len(), 2);
    assert_eq!(api.get(&format!("/v1/groups/{id}")).await.json()["members"], 2);
    let events = api.events().await;
    let strict = api.send(import(&api, "?strict=true", csv.as_bytes())).await;
    assert_eq!(strict.problem(), (422, "rows-refused".to_owned()));
    let unreadable = api.send(import(&api, "", b"name\nA\n")).await;
    assert_eq!(unreadable.problem(), (422, "invalid-csv".to_owned()));
    assert_eq!(api.events().await, events);
}

#[tokio::test]
async fn an_export_can_be_imported_again() {
    let api = Api::new().await;
    let csv = "name,phone,email,tags,등급\n\"가, 나\",01012345671,,vip;서울,골드\n=SUM(1),,c@example.com,,\n";
    api.ok(import(&api, "", csv.as_bytes())).await;
    api.project().await;
    let export = api.get("/v1/contacts/export").await;
    let text = export.text();
    assert!(text.starts_with("\u{feff}name,phone,email,tags,등급\n"), "{text}");
    assert!(text.contains("\"가, 나\",01012345671,,vip;서울,골드\n"), "{text}");
    assert!(text.contains("'=SUM(1)"), "{text}");
    let report = api.ok(import(&api, "", text.as_bytes())).await.json();
    assert_eq!((&report["imported"], &report["refused"]), (&json!(2), &json!(0)));
    let lines = api.get("/v1/contacts/export?format=ndjson").await;
    assert_eq!(lines.header("content-type"), Some("application/x-ndjson"));
    let text = lines.text();
    let fields = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let fields: Vec<_> = fields.map(|contact| contact["fields"]["등급"].clone()).collect();
    assert!(fields.len() == 2 && fields.contains(&json!("골드")), "{fields:?}");
    let page = api.get("/v1/contacts/export?format=json").await;
    assert_eq!(page.problem(), (400, "invalid-parameter".to_owned()), "an export has no pages");
}

#[tokio::test]
async fn an_export_goes_on_from_a_cursor() {
    let api = Api::new().await;
    let csv = "name,phone,등급\na,01012345671,골드\nb,01012345672,\nc,01012345673,\n";
    api.ok(import(&api, "", csv.as_bytes())).await;
    api.project().await;
    let page = api.get("/v1/contacts?limit=1").await.json();
    let (first, cursor) = (page["items"][0]["phone"].as_str().unwrap(), page["next"].as_str().unwrap());
    let rest = api.get(&format!("/v1/contacts/export?format=ndjson&cursor={cursor}")).await.text();
    assert!(rest.lines().count() == 2 && !rest.contains(first), "{rest}");
    let table = api.get(&format!("/v1/contacts/export?cursor={cursor}")).await.text();
    assert!(table.lines().count() == 3 && !table.contains(first), "{table}");
    assert_eq!(table.contains("등급"), table.contains("골드"), "columns are of what is in the file: {table}");
    for format in ["csv", "ndjson"] {
        let wrong = api.get(&format!("/v1/contacts/export?format={format}&cursor=!")).await;
        assert_eq!(wrong.problem(), (400, "invalid-cursor".to_owned()), "{format}");
    }
}

/// Answers whose bodies nobody reads are files that are not at their end.
#[tokio::test]
async fn files_of_the_address_book_are_among_those_that_one_tenant_may_have_written_at_once() {
    let api = Api::new().await;
    let ask = |path: &str| Call::new("GET", path).key(&api.acme).request();
    let mut under_way = Vec::new();
    for path in ["/v1/contacts/export", "/v1/opt-outs?format=csv", "/v1/contacts/export?format=ndjson"] {
        let response = api.router.clone().oneshot(ask(path)).await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        under_way.push(response);
    }
    for path in ["/v1/contacts/export", "/v1/opt-outs?format=csv"] {
        assert_eq!(api.get(path).await.problem(), (429, "too-many-at-once".to_owned()), "{path}");
    }
    drop(under_way);
    assert_eq!(api.get("/v1/contacts/export").await.status, 200);
}

#[tokio::test]
async fn a_sending_goes_to_contacts_and_groups_with_their_fields() {
    let api = Api::new().await;
    let id = group(&api, "회원").await;
    let csv = "name,phone,email,등급\n홍,01012345671,,골드\n임,01012345672,,실버\n";
    api.ok(import(&api, &format!("?group={id}"), csv.as_bytes())).await;
    let body = json!({
        "class": "notice", "from": "0212345678", "text": "#{name}님은 #{등급}입니다",
        "groups": [id], "recipients": [{"to": "01099998888", "variables": {"name": "장", "등급": "동"}}],
    });
    let early = api.post("/v1/sendings", &body).await;
    assert_eq!(early.problem(), (503, "not-caught-up".to_owned()));
    api.project().await;
    let preview = api.post("/v1/sendings/preview", &body).await.json();
    let mut texts: Vec<_> = preview["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["text"].as_str().unwrap().to_owned())
        .collect();
    texts.sort();
    assert_eq!(texts, ["임님은 실버입니다", "장님은 동입니다", "홍님은 골드입니다"]);
    assert_eq!(api.post("/v1/sendings", &body).await.json()["accepted"], 3);
    let contact = api.get("/v1/contacts?text=01012345671").await.json()["items"][0]["id"].clone();
    let mut single = with(body.clone(), "groups", json!([]));
    single["recipients"] = json!([{"contact": contact, "variables": {"등급": "플래티넘"}}]);
    let preview = api.post("/v1/sendings/preview", &single).await.json();
    assert_eq!(preview["rows"][0]["text"], "홍님은 플래티넘입니다");
    let accepted = api.post("/v1/sendings", &single).await.json();
    api.project().await;
    let message = api.get(&format!("/v1/messages/{}-0", accepted["id"].as_str().unwrap())).await.json();
    assert_eq!(message["contact"], contact);
}

#[tokio::test]
async fn a_contact_without_an_address_for_the_type_is_a_refused_row() {
    let api = Api::new().await;
    let id = group(&api, "메일만").await;
    api.ok(import(&api, &format!("?group={id}"), b"name,email\nA,a@example.com\n")).await;
    api.project().await;
    let mut body = with(sending(&["01012345678"]), "groups", json!([id]));
    body["type"] = json!("sms");
    let accepted = api.post("/v1/sendings", &body).await.json();
    assert_eq!(accepted["accepted"], 1, "{accepted}");
    assert_eq!(
        (&accepted["refused"][0]["row"], &accepted["refused"][0]["code"]),
        (&json!(1), &json!("contact_without_address"))
    );
}

#[tokio::test]
async fn members_join_and_leave_and_names_are_one_of_a_kind() {
    let api = Api::new().await;
    let id = group(&api, "하나").await;
    let contact = api.post("/v1/contacts", &json!({"phone": "01012345678"})).await.json()["id"].clone();
    api.project().await;
    let members = format!("/v1/groups/{id}/members");
    let unknown = api.post(&members, &json!({"add": [contact, "0197c0de000070008000000000000009"]})).await;
    assert_eq!(unknown.problem(), (422, "refused".to_owned()));
    assert_eq!(unknown.errors()[0].1, "add[1]");
    let joined = api.post(&members, &json!({"add": [contact, contact]})).await.json();
    assert_eq!(joined, json!({"added": 1, "removed": 0}), "a contact joins once");
    api.project().await;
    let again = api.post(&members, &json!({"add": [contact]})).await.json();
    assert_eq!(again, json!({"added": 0, "removed": 0}));
    api.project().await;
    assert_eq!(api.get(&format!("/v1/groups/{id}")).await.json()["members"], 1);
    let left = api.post(&members, &json!({"remove": [contact]})).await.json();
    assert_eq!(left, json!({"added": 0, "removed": 1}));
    api.project().await;
    let again = api.post(&members, &json!({"remove": [contact]})).await.json();
    assert_eq!(again, json!({"added": 0, "removed": 0}));
    api.project().await;
    assert_eq!(api.get(&format!("/v1/groups/{id}")).await.json()["members"], 0);
    assert_eq!(
        api.post("/v1/groups", &json!({"name": "하나"})).await.problem(),
        (409, "not-possible-now".to_owned())
    );
    let rename = Call::new("PUT", format!("/v1/groups/{id}")).key(&api.acme).json(&json!({"name": "둘"}));
    assert_eq!(api.ok(rename).await.status, 200);
    api.project().await;
    assert_eq!(api.get("/v1/groups").await.json()["items"][0]["name"], "둘");
}

#[tokio::test]
async fn rows_and_members_of_groups_together_are_no_more_than_a_request_may_name() {
    let config = ApiConfig { read_wait_ms: 50, recipients_max: 5, ..ApiConfig::default() };
    let api = Api::with(config, AcceptLimits::default()).await;
    let mut groups = Vec::new();
    for (name, members) in [("셋", 3), ("넷", 4)] {
        let id = group(&api, name).await;
        let mut contacts = Vec::new();
        for number in 0..members {
            let contact = json!({"phone": format!("0103333{members}{number:03}")});
            contacts.push(api.post("/v1/contacts", &contact).await.json()["id"].clone());
        }
        api.project().await;
        api.post(&format!("/v1/groups/{id}/members"), &json!({"add": contacts})).await;
        api.project().await;
        groups.push(id);
    }
    let two = sending(&["01011112222", "01011113333"]);
    let five = with(two.clone(), "groups", json!([groups[0]]));
    let taken = api.post("/v1/sendings", &five).await;
    assert_eq!(taken.json()["accepted"], 5, "{}", taken.text());
    let six = api.post("/v1/sendings", &with(two, "groups", json!([groups[1]]))).await;
    assert_eq!(six.problem(), (422, "too-many-recipients".to_owned()));
}
