//! Every way in which a request as a whole is refused: a clear word, and nothing written.

use chrono::Duration;
use kite_commands::accept::{AcceptError, AdInput, BacklogLevel, RowRefusal, SendRequest};
use kite_domain::ids::TemplateId;
use kite_domain::policy::FailoverTerms;
use kite_domain::sender::SenderKind;
use kite_domain::sending::MessageClass;
use kite_domain::text::RequestedType;
use uuid::Uuid;

use crate::house::*;

async fn refusal_of(house: &House, change: impl FnOnce(&mut SendRequest)) -> (&'static str, &'static str) {
    let mut request = notice(recipients(1));
    change(&mut request);
    let before = house.log().await.len();
    let preview = house.preview(&request).await;
    let Err(AcceptError::Refused(refusal)) = house.accept(request).await else { panic!("accepted") };
    assert!(matches!(preview, Err(AcceptError::Refused(same)) if same == refusal), "a preview says the same");
    assert_eq!(house.log().await.len(), before, "nothing half done");
    assert!(!refusal.detail.is_empty());
    (refusal.field, refusal.code)
}

#[tokio::test]
async fn what_is_wrong_with_the_request_is_named() {
    let house = House::furnished().await;
    let of = async |change: fn(&mut SendRequest)| refusal_of(&house, change).await;
    assert_eq!(of(|one| one.recipients.clear()).await, ("recipients", "recipients_missing"));
    assert_eq!(
        of(|one| one.recipients = read_rows(recipients(3_001))).await,
        ("recipients", "too_many_recipients")
    );
    assert_eq!(of(|one| (one.from_phone, one.from_email) = (None, None)).await, ("from", "sender_missing"));
    assert_eq!(
        of(|one| one.from_phone = Some("02-555-0101".to_owned())).await,
        ("from", "sender_not_requested")
    );
    assert_eq!(of(|one| one.from_phone = Some("hello".to_owned())).await.0, "from");
    assert_eq!(
        of(|one| one.from_email = Some("x@example.com".to_owned())).await,
        ("from_email", "sender_not_requested")
    );
    assert_eq!(of(|one| one.from_email = Some("at home".to_owned())).await.0, "from_email");
    assert_eq!(of(|one| one.text = None).await, ("text", "text_missing"));
    let template = |one: &mut SendRequest| one.template = Some(TemplateId(Uuid::nil()));
    assert_eq!(of(template).await, ("template", "text_and_template"));
    assert_eq!(of(|one| one.text = Some("Dear #{".to_owned())).await.0, "text");
    assert_eq!(of(|one| one.ad = Some(AdInput::default())).await, ("ad", "not_an_ad"));
    assert_eq!(of(|one| one.lifetime_s = Some(0)).await, ("lifetime_seconds", "lifetime_out_of_range"));
    assert_eq!(
        of(|one| one.lifetime_s = Some(u32::MAX)).await,
        ("lifetime_seconds", "lifetime_out_of_range")
    );
    assert_eq!(
        of(|one| one.scheduled_at = Some(noon() - Duration::seconds(1))).await,
        ("scheduled_at", "scheduled_in_the_past")
    );
    assert_eq!(
        of(|one| one.scheduled_at = Some(noon() + Duration::days(184))).await,
        ("scheduled_at", "scheduled_too_far")
    );
    let email_failover = |one: &mut SendRequest| {
        one.failover = Some(FailoverTerms { email: true, ..FailoverTerms::default() });
        one.from_email = None;
    };
    assert_eq!(of(email_failover).await, ("from_email", "sender_missing"));
}

#[tokio::test]
async fn what_is_just_within_a_bound_is_taken_and_what_is_just_beyond_it_is_not() {
    let house = House::furnished().await;
    let limits = house.acceptance.limits();
    let days = Duration::days(limits.schedule_days_max.into());
    let week_s = 7 * 24 * 3_600;
    let at = |scheduled_at| SendRequest { scheduled_at: Some(scheduled_at), ..notice(recipients(1)) };
    let lasting = |lifetime_s| SendRequest { lifetime_s: Some(lifetime_s), ..notice(recipients(1)) };
    for (taken, refused, code) in [
        (lasting(1), lasting(0), "lifetime_out_of_range"),
        (lasting(week_s), lasting(week_s + 1), "lifetime_out_of_range"),
        (at(noon()), at(noon() - Duration::milliseconds(1)), "scheduled_in_the_past"),
        (at(noon() + days), at(noon() + days + Duration::milliseconds(1)), "scheduled_too_far"),
        (notice(recipients(3_000)), notice(recipients(3_001)), "too_many_recipients"),
    ] {
        assert!(house.accept(taken).await.is_ok(), "{code}");
        let answer = house.accept(refused).await;
        assert!(matches!(&answer, Err(AcceptError::Refused(refusal)) if refusal.code == code), "{answer:?}");
    }
}

#[tokio::test]
async fn an_unmarked_advertisement_is_refused_and_one_without_a_brand_too() {
    let house = House::furnished().await;
    let unmarked = refusal_of(&house, |one| {
        *one = ad(recipients(1));
        one.ad = Some(AdInput::default());
    });
    assert_eq!(unmarked.await, ("text", "marking_missing"));
    let altered = refusal_of(&house, |one| {
        *one = ad(recipients(1));
        one.text = Some("[광고] sale".to_owned());
    });
    assert_eq!(altered.await, ("text", "marking_altered"));
    let mut plain = sender_terms("025550199", SenderKind::Phone, &["alpha"]);
    house.approve("acme", plain.clone()).await;
    let from_plain = |one: &mut SendRequest| {
        *one = ad(recipients(1));
        one.from_phone = Some("025550199".to_owned());
    };
    assert_eq!(refusal_of(&house, from_plain).await, ("from", "sender_not_for_ads"));
    plain.brand = Some("Acme".to_owned());
    plain.refusal_number = Some("0255501111".into());
    house.approve("acme", plain).await;
    assert_eq!(refusal_of(&house, from_plain).await, ("from", "sender_not_for_ads"), "not free to call");
}

#[tokio::test]
async fn rows_that_no_relay_could_ever_carry_are_refused() {
    let house = House::furnished().await;
    let reason = async |request: SendRequest| match house.accept(request).await {
        Err(AcceptError::RowsRefused(rows)) => {
            let reason = &rows[0].reason;
            (reason.field().word(), reason.code(), reason.to_string())
        }
        other => panic!("{other:?}"),
    };
    let mut without_email = notice(vec![row(0, "kim@example.com")]);
    without_email.from_email = None;
    assert_eq!(reason(without_email).await.1, "sender_missing");
    let mut sms_to_email = notice(vec![row(0, "kim@example.com")]);
    sms_to_email.message_type = RequestedType::Sms;
    assert_eq!(reason(sms_to_email).await.0, "to");
    house.register("acme", "025550100", SenderKind::Phone, &[]).await;
    let (field, code, detail) = reason(notice(recipients(1))).await;
    assert_eq!((field, code), ("to", "no_relay"));
    assert!(detail.contains("the sender is not registered with it"), "{detail}");
    house.register("acme", "025550100", SenderKind::Phone, &["gamma"]).await;
    house.define_policy("acme", shares(&[("alpha", 10_000)])).await;
    let (_, code, detail) = reason(notice(recipients(1))).await;
    assert_eq!(code, "no_relay");
    assert!(detail.contains("no share"), "it would wait for ever: {detail}");
}

#[tokio::test]
async fn a_full_house_takes_nothing_and_says_when_to_come_again() {
    let house = House::furnished().await;
    *house.backlog.lock() = BacklogLevel { projector_lag_events: 500_001 };
    let before = house.log().await.len();
    let answer = house.accept(notice(recipients(2))).await;
    assert!(matches!(answer, Err(AcceptError::Backlog { retry_after_s: 5 })), "{answer:?}");
    assert_eq!(house.log().await.len(), before);
    house.accept(SendRequest { class: MessageClass::Otp, ..notice(recipients(2)) }).await.unwrap();
    *house.backlog.lock() = BacklogLevel { projector_lag_events: 1_000_001 };
    let answer = house.accept(SendRequest { class: MessageClass::Otp, ..notice(recipients(2)) }).await;
    assert!(matches!(answer, Err(AcceptError::Backlog { .. })), "{answer:?}");
    *house.backlog.lock() = BacklogLevel::default();
    house.accept(notice(recipients(2))).await.unwrap();
}

#[tokio::test]
async fn an_advertisement_that_would_expire_while_it_is_held_is_refused() {
    let house = House::furnished().await;
    // 22:00 in Seoul; the window opens at 08:00.
    house.advance(Duration::hours(10));
    let opens = noon() + Duration::hours(20);
    let request = ad(recipients(1));
    assert_eq!(house.preview(&request).await.unwrap().held_until, Some(opens));
    let short = SendRequest { lifetime_s: Some(10 * 3_600), ..request.clone() };
    let Err(AcceptError::RowsRefused(rows)) = house.accept(short.clone()).await else { panic!("accepted") };
    assert_eq!(rows[0].reason, RowRefusal::LifetimeEndsInWindow { opens });
    let by_email = read_rows(vec![row(0, "kim@example.org"), row(1, "010-2000-0001")]);
    let subject = Some("Spring sale".to_owned());
    let mixed = SendRequest { from_email: Some(EMAIL.to_owned()), subject, recipients: by_email, ..short };
    assert_eq!(house.accept(mixed).await.unwrap().messages, 1, "no window binds an e-mail");
    let long_enough = SendRequest { lifetime_s: Some(10 * 3_600 + 1), ..request.clone() };
    assert_eq!(house.accept(long_enough).await.unwrap().messages, 1);
    let by_day = SendRequest { scheduled_at: Some(opens), lifetime_s: Some(60), ..request };
    assert_eq!(house.preview(&by_day).await.unwrap().held_until, None);
    assert_eq!(house.accept(by_day).await.unwrap().messages, 1);
}

#[tokio::test]
async fn an_advertisement_that_says_nothing_is_refused_although_its_marking_does() {
    let house = House::furnished().await;
    let request = SendRequest { text: Some(" \n ".to_owned()), ..ad(recipients(1)) };
    let Err(AcceptError::Refused(refusal)) = house.accept(request).await else { panic!("accepted") };
    assert_eq!((refusal.field, refusal.code), ("text", "text_empty"));
}
