//! What is counted and shown of calls and relays.

use kite_domain::relay::CA;
use kite_testkit::certificates::Made;

use super::*;
use crate::metrics::tests::{recorder, shows};

fn put_off() -> MessageAnswer {
    MessageAnswer::RefusedForNow { code: "3053".into(), general_code: None, text: None, retry_after: None }
}

#[tokio::test]
async fn every_message_of_a_call_is_counted_by_what_became_of_it() {
    let recorder = recorder();
    let _guard = ::metrics::set_default_local_recorder(&recorder);
    let (mut world, script) = World::scripted(vec![profile("alpha")]).await;
    script.relay("alpha").reply(|_| {
        let of_each = [
            (1, accepted()),
            (2, refused("3032")),
            (3, lost()),
            (4, not_taken(NotTaken::NoConnection)),
            (5, put_off()),
        ];
        let messages = of_each.into_iter().flat_map(|(count, answer)| vec![answer; count]).collect();
        SubmitAnswer { messages, retry_after: None }
    });
    world.send(Sent { to: numbers(15), ..Sent::default() }).await;
    world.settle().await;
    assert_eq!(script.relay("alpha").called(), 1);
    let lines = [
        r#"kite_submitted_total{relay="alpha",class="notice"} 15"#,
        r#"kite_responses_total{relay="alpha",class="notice",result="accepted"} 1"#,
        r#"kite_responses_total{relay="alpha",class="notice",result="refused"} 2"#,
        r#"kite_responses_total{relay="alpha",class="notice",result="unknown"} 3"#,
        r#"kite_responses_total{relay="alpha",class="notice",result="deferred"} 4"#,
        r#"kite_responses_total{relay="alpha",class="notice",result="refused_for_now"} 5"#,
    ];
    shows(&recorder, &lines);
}

#[tokio::test]
async fn what_did_not_happen_has_no_counter() {
    let recorder = recorder();
    let _guard = ::metrics::set_default_local_recorder(&recorder);
    let (mut world, _) = World::scripted(vec![profile("alpha")]).await;
    world.send(Sent::default()).await;
    world.settle().await;
    let text = recorder.handle().render();
    let counted: Vec<&str> = text.lines().filter(|line| line.starts_with("kite_responses_total")).collect();
    assert_eq!(counted, [r#"kite_responses_total{relay="alpha",class="notice",result="accepted"} 1"#]);
}

#[tokio::test]
async fn how_long_a_certificate_is_valid_is_shown_until_the_relay_has_none() {
    let recorder = recorder();
    let _guard = ::metrics::set_default_local_recorder(&recorder);
    let mut with = profile("alpha");
    with.tls.ca_pem = Some(Made::self_signed("relay.example", 2031).unwrap().certificate);
    let (mut world, _) = World::scripted(vec![with]).await;
    world.settle().await;
    let end: chrono::DateTime<chrono::Utc> = "2031-01-01T00:00:00Z".parse().unwrap();
    let name = format!(r#"kite_relay_certificate_ends_in_seconds{{relay="alpha",field="{CA}"}}"#);
    shows(&recorder, &[&format!("{name} {}", (end - start()).num_seconds())]);
    world.manage.define_relay(&Cause::new("test", Uuid::from_u128(1)), profile("alpha")).await.unwrap();
    world.settle().await;
    shows(&recorder, &[&format!("{name} inf")]);
}
