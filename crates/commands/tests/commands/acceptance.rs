//! What becomes of a good request.

use chrono::Duration;
use kite_commands::accept::{AcceptError, AdInput, RowField, RowRefusal, SendRequest};
use kite_commands::manage::NewOptOut;
use kite_domain::event::Event;
use kite_domain::ids::TemplateId;
use kite_domain::lot::LotAccepted;
use kite_domain::opt_out::RefusedBy;
use kite_domain::policy::{FailoverTerms, PolicyObjective};
use kite_domain::sending::{MessageClass, SendingAccepted, WindowAction};
use kite_domain::template::TemplateSaved;
use kite_domain::text::{MessageType, RequestedType};
use std::collections::HashSet;
use uuid::Uuid;

use crate::house::*;

async fn seal(house: &House) -> SendingAccepted {
    match house.events("sending-accepted").await.pop() {
        Some(Event::SendingAccepted(accepted)) => accepted,
        other => panic!("{other:?}"),
    }
}

async fn lots(house: &House) -> Vec<LotAccepted> {
    let lots = house.events("lot-accepted").await;
    lots.into_iter()
        .map(|event| if let Event::LotAccepted(lot) = event { lot } else { unreachable!() })
        .collect()
}

#[tokio::test]
async fn a_large_request_is_cut_into_lots_and_sealed_last() {
    let house = House::furnished().await;
    let accepted = house.accept(notice(recipients(2_500))).await.unwrap();
    assert_eq!((accepted.messages, accepted.lots, accepted.repeated), (2_500, 3, false));
    let log = house.log().await;
    let tail: Vec<&str> = log.iter().rev().take(4).map(|told| told.event.kind()).collect();
    assert_eq!(tail, ["sending-accepted", "lot-accepted", "lot-accepted", "lot-accepted"]);
    assert_eq!(log.last().unwrap().recorded.position, accepted.position);
    assert!(log.iter().rev().take(4).all(|told| told.recorded.metadata.correlation == accepted.sending.0));
    let sizes: Vec<usize> = lots(&house).await.iter().map(|lot| lot.personal.recipients.len()).collect();
    assert_eq!(sizes, [1_000, 1_000, 500]);
    assert_eq!(seal(&house).await.expires_at, noon() + Duration::hours(24));
}

#[tokio::test]
async fn a_lot_is_bounded_in_bytes_too() {
    let house = House::furnished().await;
    let mut rows = recipients(300);
    for row in &mut rows {
        row.variables.insert("story".into(), "x".repeat(1_900));
        row.variables.insert("unused".into(), "x".repeat(1_900));
    }
    let mut request = notice(rows);
    request.text = Some("#{story}".to_owned());
    request.message_type = RequestedType::Lms;
    let accepted = house.accept(request).await.unwrap();
    assert_eq!((accepted.messages, accepted.lots), (300, 2));
    for lot in lots(&house).await {
        assert!(Event::from(lot.clone()).to_json().len() <= 600 * 1_024);
        assert!(
            lot.personal.recipients.iter().all(|one| !one.variables.contains_key("unused")),
            "only what is needed"
        );
        assert_eq!(
            lot.groups[0].messages.as_slice()[0],
            lot.number * 1_000,
            "a lot begins at its own number"
        );
    }
}

#[tokio::test]
async fn bad_rows_do_not_cost_good_ones() {
    let house = House::furnished().await;
    let mut rows = recipients(3);
    rows.push(row(3, "not a number"));
    rows.push(row(4, "02-555-0199"));
    rows.push(row(5, "010-2000-0001"));
    let mut bad_email = row(6, "010-2000-0006");
    bad_email.email = Some("nobody at home".into());
    rows.push(bad_email);
    let accepted = house.accept(notice(rows)).await.unwrap();
    assert_eq!(accepted.messages, 3);
    let refused: Vec<_> = accepted.refused.iter().map(|one| (one.row, one.reason.field())).collect();
    assert_eq!(refused, [(3, RowField::To), (4, RowField::To), (6, RowField::Email)]);
    assert_eq!(accepted.refused[1].reason.code(), "no_relay");
    assert_eq!(accepted.duplicates.iter().map(|one| one.row).collect::<Vec<_>>(), [5]);
    assert_eq!(seal(&house).await.refused, 3);
}

#[tokio::test]
async fn strict_refuses_all_for_one() {
    let house = House::furnished().await;
    let mut rows = recipients(3);
    rows.push(row(3, "bad"));
    let request = SendRequest { strict: true, ..notice(rows) };
    let before = house.log().await.len();
    let Err(AcceptError::RowsRefused(rows)) = house.accept(request).await else { panic!("accepted") };
    assert_eq!(rows.len(), 1);
    assert_eq!(house.log().await.len(), before, "nothing half done");
}

#[tokio::test]
async fn with_no_good_row_there_is_no_sending() {
    let house = House::furnished().await;
    let answer = house.accept(notice(vec![row(0, "bad")])).await;
    assert!(matches!(answer, Err(AcceptError::RowsRefused(rows)) if rows.len() == 1));
}

#[tokio::test]
async fn duplicates_are_kept_when_asked_for() {
    let house = House::furnished().await;
    let mut request = notice(vec![row(0, "010-2000-0001"), row(1, "+82 10 2000 0001")]);
    request.allow_duplicates = true;
    assert_eq!(house.accept(request.clone()).await.unwrap().messages, 2);
    request.allow_duplicates = false;
    let accepted = house.accept(request).await.unwrap();
    assert_eq!((accepted.messages, accepted.duplicates[0].row), (1, 1), "the same number in another form");
}

#[tokio::test]
async fn an_email_address_is_one_however_its_domain_is_written() {
    let house = House::furnished().await;
    let request =
        notice(vec![row(0, "kim@example.com"), row(1, "kim@EXAMPLE.com"), row(2, "lee@example.com")]);
    let accepted = house.accept(request).await.unwrap();
    assert_eq!((accepted.messages, accepted.duplicates.len(), accepted.duplicates[0].row), (2, 1, 1));
}

#[tokio::test]
async fn each_recipient_gets_the_type_that_fits() {
    let house = House::furnished().await;
    let mut rows = vec![row(0, "010-2000-0001"), row(1, "010-2000-0002"), row(2, "kim@example.com")];
    rows[1].variables.insert("name".into(), "가".repeat(50));
    let mut request = notice(rows);
    request.text = Some("Dear #{name}, welcome.".to_owned());
    request.variables.insert("name".into(), "customer".to_owned());
    assert_eq!(house.accept(request).await.unwrap().messages, 3);
    let types: Vec<_> = lots(&house).await[0]
        .groups
        .iter()
        .map(|group| (group.message_type, group.messages.as_slice().to_vec()))
        .collect();
    assert_eq!(
        types,
        [(MessageType::Sms, vec![0]), (MessageType::Lms, vec![1]), (MessageType::Email, vec![2])]
    );
}

#[tokio::test]
async fn a_missing_variable_refuses_that_row() {
    let house = House::furnished().await;
    let mut rows = recipients(2);
    rows[0].variables.insert("name".into(), "Kim".to_owned());
    let mut request = notice(rows);
    request.text = Some("Dear #{name}".to_owned());
    let accepted = house.accept(request).await.unwrap();
    assert_eq!(accepted.messages, 1);
    assert_eq!((accepted.refused[0].row, accepted.refused[0].reason.field()), (1, RowField::Variables));
}

#[tokio::test]
async fn a_template_stands_in_for_the_text_and_is_kept_as_it_was() {
    let house = House::furnished().await;
    let template = TemplateId(Uuid::from_u128(5));
    let saved = TemplateSaved {
        tenant: acme(),
        template,
        name: "parcel".to_owned(),
        subject: Some("Parcel".to_owned()),
        text: "It is here.".to_owned(),
    };
    house.manage.save_template(&cause(), saved.clone()).await.unwrap();
    let mut request = notice(recipients(1));
    (request.text, request.template) = (None, Some(template));
    house.accept(request.clone()).await.unwrap();
    house
        .manage
        .save_template(&cause(), TemplateSaved { text: "Changed.".to_owned(), ..saved })
        .await
        .unwrap();
    let content = seal(&house).await.personal;
    assert_eq!((content.subject.as_deref(), content.text.as_str()), (Some("Parcel"), "It is here."));
    house.manage.delete_template(&cause(), &acme(), template).await.unwrap();
    let Err(AcceptError::Refused(refusal)) = house.accept(request).await else { panic!("accepted") };
    assert_eq!(refusal.code, "template_unknown");
}

#[tokio::test]
async fn an_advertisement_is_marked_and_counted_with_its_marking() {
    let house = House::furnished().await;
    house.accept(ad(recipients(1))).await.unwrap();
    let sealed = seal(&house).await;
    assert!(sealed.personal.text.starts_with("(광고)Acme"), "{}", sealed.personal.text);
    assert!(sealed.personal.text.trim_end().contains("무료수신거부"), "{}", sealed.personal.text);
    assert_eq!(sealed.ad.map(|ad| ad.window), Some(WindowAction::Hold));
}

#[tokio::test]
async fn those_who_refused_are_left_out_of_advertisements_only() {
    let house = House::furnished().await;
    for address in ["01020000000", "p1@example.com"] {
        house.manage.record_opt_out(&cause(), &acme(), NewOptOut::of(address, "080")).await.unwrap();
    }
    let mut rows = recipients(3);
    rows[1].email = Some("p1@example.com".into());
    let accepted = house.accept(ad(rows.clone())).await.unwrap();
    let refused: Vec<_> = accepted.refused.iter().map(|one| (one.row, &one.reason)).collect();
    let opted_out = |field| RowRefusal::OptedOut { field, by: RefusedBy::Itself };
    assert_eq!(refused, [(0, &opted_out(RowField::To)), (1, &opted_out(RowField::Email))]);
    assert_eq!(house.accept(notice(rows)).await.unwrap().messages, 3);
    house.manage.withdraw_opt_out(&cause(), &acme(), "01020000000", None).await.unwrap();
    assert_eq!(house.accept(ad(recipients(1))).await.unwrap().messages, 1);
}

#[tokio::test]
async fn at_night_an_advertisement_is_held_or_refused_as_asked() {
    let house = House::furnished().await;
    house.advance(Duration::hours(10));
    let mut request = ad(recipients(1));
    house.accept(request.clone()).await.unwrap();
    request.ad =
        Some(AdInput { window: WindowAction::Refuse, mark_automatically: true, night_consent: false });
    let Err(AcceptError::Refused(refusal)) = house.accept(request.clone()).await else { panic!("accepted") };
    assert_eq!(refusal.code, "night_window");
    request.scheduled_at = Some(noon() + Duration::hours(24));
    house.accept(request.clone()).await.unwrap();
    request.scheduled_at = None;
    request.ad =
        Some(AdInput { window: WindowAction::Refuse, mark_automatically: true, night_consent: true });
    house.accept(request).await.unwrap();
}

/// Whoever hands over goes by the window that is set, and so does acceptance.
#[tokio::test]
async fn the_night_is_the_one_that_is_set() {
    let house = House::furnished().await.with_night("11:30-12:30".parse().unwrap());
    let mut request = ad(recipients(1));
    request.ad =
        Some(AdInput { window: WindowAction::Refuse, mark_automatically: true, night_consent: false });
    let Err(AcceptError::Refused(refusal)) = house.accept(request.clone()).await else { panic!("accepted") };
    assert!(refusal.code == "night_window" && refusal.detail.contains("11:30-12:30"), "{refusal:?}");
    house.advance(Duration::hours(10));
    house.accept(request.clone()).await.unwrap();
    // Nor does it wait for a morning that is none: its lifetime ends long before eight.
    request.ad = Some(AdInput { window: WindowAction::Hold, mark_automatically: true, night_consent: false });
    request.lifetime_s = Some(3_600);
    house.accept(request).await.unwrap();
}

#[tokio::test]
async fn the_night_is_nothing_to_an_advertisement_by_email() {
    let house = House::furnished().await;
    house.advance(Duration::hours(10));
    let mut request = ad(Vec::new());
    request.message_type = RequestedType::Email;
    request.from_email = Some(EMAIL.to_owned());
    request.subject = Some("Spring sale".to_owned());
    request.text = Some("Spring sale\nUnsubscribe: https://example.com/u".to_owned());
    request.ad =
        Some(AdInput { window: WindowAction::Refuse, mark_automatically: true, night_consent: false });
    request.recipients = read_rows(vec![row(0, "a@example.com")]);
    // A sender for text messages is named as well, and no row is one.
    assert!(request.from_phone.is_some());
    assert_eq!(house.accept(request).await.unwrap().messages, 1);
}

#[tokio::test]
async fn lifetimes_follow_the_class_and_begin_at_the_scheduled_time() {
    let house = House::furnished().await;
    let mut request = notice(recipients(1));
    request.class = MessageClass::Otp;
    house.accept(request.clone()).await.unwrap();
    assert_eq!(seal(&house).await.expires_at, noon() + Duration::minutes(10));
    request.lifetime_s = Some(60);
    request.scheduled_at = Some(noon() + Duration::days(2));
    house.accept(request).await.unwrap();
    assert_eq!(seal(&house).await.expires_at, noon() + Duration::days(2) + Duration::minutes(1));
}

#[tokio::test]
async fn the_failover_terms_are_the_requests_or_the_policys() {
    let house = House::furnished().await;
    let of_policy = FailoverTerms { attempts_max: 2, ..FailoverTerms::default() };
    let objective = shares(&[("alpha", 10_000)]);
    house
        .manage
        .define_policy(&cause(), &acme(), MessageType::Sms, objective, of_policy.clone())
        .await
        .unwrap();
    house.accept(notice(recipients(1))).await.unwrap();
    assert_eq!(seal(&house).await.failover, of_policy);
    let own = FailoverTerms { email: true, ..FailoverTerms::default() };
    let mut request = notice(recipients(1));
    request.failover = Some(own.clone());
    house.accept(request).await.unwrap();
    assert_eq!(seal(&house).await.failover, own);
}

#[tokio::test]
async fn a_preview_shows_what_acceptance_and_routing_then_do_and_writes_nothing() {
    let house = House::furnished().await;
    let mut rows = recipients(100);
    rows.push(row(100, "bad"));
    let request = notice(rows);
    let before = house.log().await.len();
    let preview = house.preview(&request).await.unwrap();
    assert_eq!(house.log().await.len(), before);
    assert_eq!((preview.messages, preview.refused.len()), (100, 1));
    let split: Vec<_> = preview.relays.iter().map(|one| (one.relay.as_str(), one.messages)).collect();
    assert_eq!(split, [("alpha", 50), ("beta", 30), ("gamma", 20)]);
    assert_eq!(preview.cost_milliwon, 100 * 9_000);
    assert_eq!(preview.rows[0].text, "Your parcel is here.");
    assert!(preview.blocked.is_empty());

    house.accept(request).await.unwrap();
    work_off(&mut house.router()).await;
    let routes = first_routes(&house.log().await);
    for (row, (message, relay)) in preview.rows.iter().zip(&routes) {
        assert_eq!(row.relay.as_ref(), Some(relay), "message {message}");
    }
}

/// Three relays of three prices; the dearest is the last that anybody fails over to.
#[tokio::test]
async fn a_preview_counts_each_message_at_the_price_of_its_relay_and_at_the_dearest_that_it_may_come_to() {
    let house = House::furnished().await;
    for (name, price_milliwon) in [("alpha", 7_000), ("beta", 8_000), ("gamma", 11_000)] {
        let profile = profile(name, &[(MessageType::Sms, price_milliwon), (MessageType::Lms, 27_000)]);
        house.manage.define_relay(&cause(), profile).await.unwrap();
    }
    let preview = house.preview(&notice(recipients(10))).await.unwrap();
    let costs: Vec<_> = preview.relays.iter().map(|one| (one.relay.as_str(), one.cost_milliwon)).collect();
    assert_eq!(costs, [("alpha", 5 * 7_000), ("beta", 3 * 8_000), ("gamma", 2 * 11_000)]);
    assert_eq!((preview.cost_milliwon, preview.cost_max_milliwon), (81_000, 10 * 11_000));
    for row in &preview.rows {
        let expected = match row.relay.as_ref().unwrap().as_str() {
            "alpha" => 7_000,
            "beta" => 8_000,
            _ => 11_000,
        };
        assert_eq!(row.cost_milliwon, expected, "{:?}", row.relay);
    }
}

#[tokio::test]
async fn a_preview_goes_on_from_where_the_splits_stand() {
    let house = House::furnished().await;
    let (mut ratio, mut advised) = (Vec::new(), Vec::new());
    for objective in [None, Some(PolicyObjective::Speed)] {
        let previewed = if objective.is_none() { &mut ratio } else { &mut advised };
        if let Some(objective) = objective {
            house.define_policy("acme", objective).await;
        }
        for _ in 0..7 {
            let request = notice(recipients(1));
            previewed.extend(house.preview(&request).await.unwrap().rows.remove(0).relay);
            house.accept(request).await.unwrap();
            work_off(&mut house.router()).await;
        }
    }
    let relays: Vec<_> = first_routes(&house.log().await).into_iter().map(|(_, relay)| relay).collect();
    assert_eq!((ratio.as_slice(), advised.as_slice()), (&relays[..7], &relays[7..]));
    assert!(
        HashSet::<_>::from_iter(&relays[..7]).len() > 1,
        "one message each, and not always the same relay"
    );
}

#[tokio::test]
async fn a_preview_says_why_nothing_can_be_routed_now() {
    let house = House::furnished().await;
    for name in ["alpha", "beta", "gamma"] {
        house.manage.suspend_relay(&cause(), &relay(name), "maintenance".to_owned()).await.unwrap();
    }
    let preview = house.preview(&notice(recipients(2))).await.unwrap();
    assert_eq!(preview.messages, 2, "it would be accepted, and wait");
    assert_eq!(preview.relays, []);
    assert!(preview.blocked[0].contains("suspended by an operator"), "{:?}", preview.blocked);
}

#[tokio::test]
async fn a_preview_counts_by_type_and_parts_and_by_relay_and_type_over_all_lots() {
    let house = House::furnished().await;
    house.define_policy("acme", shares(&[("alpha", 10_000)])).await;
    let objective = shares(&[("alpha", 10_000)]);
    let failover = FailoverTerms::default();
    house.manage.define_policy(&cause(), &acme(), MessageType::Lms, objective, failover).await.unwrap();
    let mut rows = recipients(1_500);
    for row in rows.iter_mut().step_by(3) {
        row.variables.insert("name".into(), "가".repeat(50));
    }
    rows.push(row(1_500, "kim@example.com"));
    let mut request = notice(rows);
    request.text = Some("Dear #{name}, welcome.".to_owned());
    request.variables.insert("name".into(), "customer".to_owned());
    let preview = house.preview(&request).await.unwrap();
    let mut groups: Vec<_> =
        preview.groups.iter().map(|group| (group.message_type, group.parts, group.messages)).collect();
    groups.sort();
    let expected = [(MessageType::Sms, 1, 1_000), (MessageType::Lms, 1, 500), (MessageType::Email, 1, 1)];
    assert_eq!(groups, expected);
    let of = |relay: &str, channel| {
        let mut found =
            preview.relays.iter().filter(|one| (one.relay.as_str(), one.channel) == (relay, channel));
        (found.next().map(|one| (one.messages, one.cost_milliwon)), found.count())
    };
    assert_eq!(of("alpha", MessageType::Sms), (Some((1_000, 1_000 * 9_000)), 0));
    assert_eq!(of("alpha", MessageType::Lms), (Some((500, 500 * 27_000)), 0));
    assert_eq!(of("mail", MessageType::Email), (Some((1, 1_000)), 0));
    assert_eq!(preview.relays.len(), 3);
}

#[tokio::test]
async fn nothing_but_an_advertisement_as_a_text_message_waits_for_the_morning() {
    let house = House::furnished().await;
    house.advance(Duration::hours(10));
    let held = async |request: &SendRequest| house.preview(request).await.unwrap().held_until.is_some();
    let one = || ad(recipients(1));
    assert!(held(&one()).await);
    assert!(!held(&notice(recipients(1))).await, "a notice");
    let consent = AdInput { night_consent: true, ..one().ad.unwrap() };
    assert!(!held(&SendRequest { ad: Some(consent), ..one() }).await, "whoever agreed to the night");
    let by_email = SendRequest {
        message_type: RequestedType::Email,
        from_email: Some(EMAIL.to_owned()),
        subject: Some("Spring sale".to_owned()),
        text: Some("Spring sale\nUnsubscribe: https://example.com/u".to_owned()),
        recipients: read_rows(vec![row(0, "a@example.com")]),
        ..one()
    };
    assert!(!held(&by_email).await, "an e-mail");
    let by_day = SendRequest { scheduled_at: Some(noon() + Duration::hours(24)), ..one() };
    assert!(!held(&by_day).await, "what is for the day");
    let refuse = AdInput { window: WindowAction::Refuse, ..one().ad.unwrap() };
    assert!(!held(&SendRequest { ad: Some(refuse), ..by_day }).await);
}
