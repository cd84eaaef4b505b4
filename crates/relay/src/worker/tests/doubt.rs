//! Answers that did not come: what is asked, what is believed, what goes out again.

use super::*;
use crate::queue::{Job, JobKind, Waits};
use crate::worker::hasten::{Looked, look};
use kite_domain::lot::{Asking, Lot};

#[tokio::test]
async fn a_lost_answer_is_asked_about_and_not_sent_again_when_the_relay_has_it() {
    let (mut world, script) = World::scripted(vec![profile("alpha"), profile("beta")]).await;
    let alpha = script.relay("alpha");
    alpha.reply_all(lost());
    alpha.status_all(Standing::Accepted { relay_reference: Some("r9".into()) });
    let lot = world.send(Sent { fallbacks: &["beta"], ..Sent::default() }).await;
    let due = world.settle().await;
    assert_eq!(state(&world.messages(lot).await[0]), AttemptState::Unknown);
    assert_eq!(due, Some(start() + TimeDelta::seconds(1)), "asked after a second");
    world
        .run_until("the status query settles it", |message| state(message) == AttemptState::Accepted, lot)
        .await;
    assert_eq!((alpha.called(), script.relay("beta").called()), (1, 0));
    assert_eq!(alpha.questions.lock().len(), 1);
}

#[tokio::test]
async fn what_the_relay_never_saw_is_handed_over_again_under_the_same_reference() {
    let (mut world, script) = World::scripted(vec![profile("alpha")]).await;
    let alpha = script.relay("alpha");
    alpha.reply_all(lost());
    let lot = world.send(Sent::default()).await;
    world.run_until("accepted in the end", |message| state(message) == AttemptState::Accepted, lot).await;
    let calls = alpha.calls.lock().clone();
    assert_eq!(calls.len(), 2);
    assert_eq!(calls[0][0].reference, calls[1][0].reference);
    assert_eq!(*alpha.intents.lock(), [1, 2], "the repeat has an intent of its own");
    assert_eq!(world.messages(lot).await[0].attempts.len(), 1);
}

#[tokio::test]
async fn a_repeat_that_is_refused_as_a_duplicate_is_asked_about() {
    let (mut world, script) = World::scripted(vec![profile("alpha"), profile("beta")]).await;
    let alpha = script.relay("alpha");
    alpha.reply_all(lost());
    alpha.status_all(Standing::NotFound);
    alpha.reply_all(refused("1026"));
    alpha.status_all(Standing::Accepted { relay_reference: Some("r9".into()) });
    let lot = world.send(Sent { fallbacks: &["beta"], ..Sent::default() }).await;
    world.run_until("the second question", |message| state(message) == AttemptState::Accepted, lot).await;
    assert_eq!(world.clock.now(), start() + TimeDelta::seconds(6), "one second, then five");
    assert_eq!((alpha.called(), alpha.questions.lock().len(), script.relay("beta").called()), (2, 2, 0));
}

#[tokio::test]
async fn a_relay_that_knows_a_duplicate_and_not_the_message_is_left_alone() {
    let (mut world, script) = World::scripted(vec![profile("alpha"), profile("beta")]).await;
    let alpha = script.relay("alpha");
    alpha.reply_all(lost());
    (0..9).for_each(|_| alpha.reply_all(refused("1026")));
    let lot = world.send(Sent { fallbacks: &["beta"], ..Sent::default() }).await;
    while let Some(due) = world.settle().await {
        world.clock.set(due);
    }
    assert_eq!(
        state(&world.messages(lot).await[0]),
        AttemptState::Unknown,
        "until its receipt or its deadline"
    );
    assert_eq!((alpha.called(), alpha.questions.lock().len(), script.relay("beta").called()), (3, 3, 0));
}

#[tokio::test]
async fn a_relay_that_may_deliver_twice_is_believed_only_after_a_while() {
    let mut terms = profile("alpha");
    terms.deduplicates = false;
    let (mut world, script) = World::scripted(vec![terms]).await;
    script.relay("alpha").reply_all(lost());
    let lot = world.send(Sent::default()).await;
    world.run_until("accepted in the end", |message| state(message) == AttemptState::Accepted, lot).await;
    assert!(world.clock.now() >= start() + TimeDelta::seconds(36), "not before the third question");
    assert_eq!(script.relay("alpha").questions.lock().len(), 3);
    assert_eq!(script.relay("alpha").called(), 2);
}

#[tokio::test]
async fn a_pause_that_the_relay_asks_for_is_not_time_in_which_it_was_asked() {
    let (mut world, script) = World::scripted(vec![profile("alpha")]).await;
    let alpha = script.relay("alpha");
    alpha.reply_all(lost());
    alpha.reply(|messages| SubmitAnswer {
        retry_after: Some(Duration::from_secs(60)),
        ..SubmitAnswer::all(messages.len(), not_taken(NotTaken::RateLimited))
    });
    let lot = world.send(Sent::default()).await;
    world.run_until("accepted in the end", |message| state(message) == AttemptState::Accepted, lot).await;
    assert_eq!((alpha.called(), alpha.questions.lock().len()), (3, 2));
    let is_as_new = |event: &Event| matches!(event, Event::RelayResponded(said) if said.deferred.is_some());
    assert!(!world.events(lot).await.iter().any(is_as_new), "two questions are not enough");
}

#[tokio::test]
async fn a_relay_is_left_alone_for_as_long_as_it_asks_where_its_status_is_asked_for() {
    let (mut world, script) = World::scripted(vec![profile("alpha")]).await;
    let alpha = script.relay("alpha");
    alpha.reply_all(lost());
    alpha.statuses.lock().push_back(Box::new(|_| {
        Err(CallFailed {
            reason: "429".into(),
            retry_after: Some(Duration::from_secs(60)),
            is_rate_limit: RateLimit::Yes,
        })
    }));
    alpha.status_all(Standing::Accepted { relay_reference: None });
    let lot = world.send(Sent::default()).await;
    world.run_until("accepted", |message| state(message) == AttemptState::Accepted, lot).await;
    assert!(world.clock.now() >= start() + TimeDelta::seconds(61), "asked after a second, then left alone");
    assert_eq!((alpha.called(), alpha.questions.lock().len()), (1, 2));
}

#[tokio::test]
async fn a_refused_repeat_is_believed_when_nothing_can_come_in_any_more() {
    for answers_status in [true, false] {
        let mut terms = profile("alpha");
        terms.answers_status = answers_status;
        let (mut world, script) = World::scripted(vec![terms, profile("beta")]).await;
        let alpha = script.relay("alpha");
        alpha.reply_all(lost());
        (0..9).for_each(|_| alpha.reply_all(refused("3053")));
        if answers_status {
            alpha.status_all(Standing::NotFound);
            (0..9).for_each(|_| alpha.status_all(Standing::Refused { code: "3053".into() }));
        }
        let lot = world.send(Sent { fallbacks: &["beta"], ..Sent::default() }).await;
        world.run_until("accepted elsewhere", |message| state(message) == AttemptState::Accepted, lot).await;
        assert_eq!(world.clock.now(), start() + TimeDelta::seconds(36), "one second, five, thirty");
        let beta = script.relay("beta");
        let asked = alpha.questions.lock().len();
        let expected = if answers_status { (2, 3, 1) } else { (4, 0, 1) };
        assert_eq!((alpha.called(), asked, beta.called()), expected);
        let said = |event: &Event| match event {
            Event::RelayResponded(said) => said.unknown.as_ref().map(|set| set.refusal.clone()),
            _ => None,
        };
        let refusals: Vec<_> = world.events(lot).await.iter().filter_map(said).collect();
        assert_eq!(
            refusals[1].as_ref().map(|refusal| refusal.code.as_str()),
            Some("3053"),
            "the log says it"
        );
    }
}

#[tokio::test]
async fn the_refusal_of_a_repeat_counts_in_the_end_although_there_may_be_no_other() {
    let mut terms = profile("alpha");
    terms.answers_status = false;
    let (mut world, script) = World::scripted(vec![terms, profile("beta")]).await;
    let alpha = script.relay("alpha");
    alpha.reply_all(lost());
    alpha.reply_all(refused("3053"));
    let lifetime = TimeDelta::seconds(3);
    let lot = world.send(Sent { fallbacks: &["beta"], lifetime, ..Sent::default() }).await;
    world.run_until("it is over", |message| message.outcome.is_some(), lot).await;
    assert_eq!(world.clock.now(), start() + TimeDelta::seconds(36), "when nothing can come in any more");
    assert_eq!(state(&world.messages(lot).await[0]), AttemptState::Refused);
    assert_eq!(
        (alpha.called(), script.relay("beta").called()),
        (2, 0),
        "its lifetime ended after the repeat"
    );
}

#[tokio::test]
async fn questions_go_on_after_a_restart_where_they_were() {
    let mut terms = profile("alpha");
    terms.deduplicates = false;
    let (mut world, script) = World::scripted(vec![terms.clone()]).await;
    script.relay("alpha").reply_all(lost());
    let lot = world.send(Sent::default()).await;
    for _ in 0..2 {
        let due = world.settle().await.unwrap();
        world.clock.set(due);
    }
    world.settle().await;
    assert_eq!(world.clock.now(), start() + TimeDelta::seconds(6), "asked twice");
    let settings = RelaySettings::default();
    let mut world = World::resume(world.clock, world.store, vec![terms], script.clone(), settings).await;
    world.feeder.feed(lot).await.unwrap();
    world.run_until("accepted in the end", |message| state(message) == AttemptState::Accepted, lot).await;
    assert_eq!(world.clock.now(), start() + TimeDelta::seconds(36), "the third question is the last");
    assert_eq!(script.relay("alpha").questions.lock().len(), 3);
}

#[tokio::test]
async fn what_the_relay_never_had_ends_with_its_lifetime_and_not_with_the_wait_for_a_receipt() {
    for deduplicates in [true, false] {
        let mut terms = profile("alpha");
        terms.deduplicates = deduplicates;
        let (mut world, script) = World::scripted(vec![terms]).await;
        let alpha = script.relay("alpha");
        alpha.reply_all(lost());
        let lot = world.send(Sent { lifetime: TimeDelta::milliseconds(500), ..Sent::default() }).await;
        let is_over = |message: &Message| message.outcome == Some(Outcome::Expired);
        world.run_until("the relay is believed not to have it", is_over, lot).await;
        assert!(
            world.clock.now() < start() + TimeDelta::minutes(1),
            "the receipt would be waited for for days"
        );
        assert_eq!(alpha.called(), 1, "not handed over after its lifetime");
        let given_up = |event: &Event| match event {
            Event::RelayResponded(said) => said.unknown.as_ref().is_some_and(|set| set.inquire_at.is_none()),
            _ => false,
        };
        assert!(!world.events(lot).await.iter().any(given_up), "what is asked about is not given up");
    }
}

#[tokio::test]
async fn a_relay_that_can_neither_be_asked_nor_drops_repeats_is_left_to_its_receipts() {
    let mut terms = profile("alpha");
    (terms.deduplicates, terms.answers_status) = (false, false);
    let (mut world, script) = World::scripted(vec![terms, profile("beta")]).await;
    script.relay("alpha").reply_all(lost());
    let lot = world.send(Sent { fallbacks: &["beta"], ..Sent::default() }).await;
    assert_eq!(world.settle().await, None);
    assert_eq!(state(&world.messages(lot).await[0]), AttemptState::Unknown);
    assert_eq!((script.relay("alpha").called(), script.relay("beta").called()), (1, 0));
}

#[tokio::test]
async fn a_status_query_may_bring_the_result_itself() {
    let (mut world, script) = World::scripted(vec![profile("alpha")]).await;
    let alpha = script.relay("alpha");
    alpha.reply_all(lost());
    alpha.statuses.lock().push_back(Box::new(|asked| {
        let over = |reference: &kite_domain::ids::AttemptReference| {
            Standing::Over(kite_domain::receipt::RawReceipt {
                reference: reference.to_string().into(),
                relay_reference: Some("r1".into()),
                status: kite_domain::receipt::ReceiptStatus::Delivered,
                code: "4000".into(),
                at: start(),
            })
        };
        Ok(asked.iter().map(over).collect())
    }));
    let lot = world.send(Sent::default()).await;
    world.run_until("delivered", |message| message.outcome == Some(Outcome::Delivered), lot).await;
    assert_eq!(alpha.called(), 1);
}

/// Of a lot of two, the first message is asked about after six seconds, and the second after two.
#[tokio::test]
async fn what_is_asked_about_early_is_what_waits_for_a_relay_that_is_back_and_is_not_yet_due() {
    let (mut world, script) = World::scripted(vec![profile("alpha")]).await;
    let alpha = script.relay("alpha");
    alpha.reply(|_| SubmitAnswer {
        messages: vec![lost(), not_taken(NotTaken::NoConnection)],
        retry_after: None,
    });
    alpha.status_all(Standing::Unclear);
    alpha.reply_all(lost());
    let lot = world.send(Sent { to: numbers(2), ..Sent::default() }).await;
    world.settle().await;
    world.clock.advance(TimeDelta::seconds(1));
    world.settle().await;
    assert_eq!((alpha.called(), alpha.questions.lock().len()), (2, 1));
    let due_ms = |lot: &Lot| [0, 1].map(|seq| lot.waits_until_ms(seq) - START_MS);
    assert_eq!(world.lots.read(lot, |lot, _| due_ms(lot)).await.unwrap(), [6_000, 2_000]);

    let look_at = async |ms: i64, kind, waits| {
        let now = start() + TimeDelta::milliseconds(ms);
        let job = Job {
            waits,
            lot,
            tenant: tenant(),
            class: MessageClass::Notice,
            relay: relay("alpha"),
            attempt: 1,
            kind,
            messages: (0..2).collect(),
            not_before_ms: 0,
            cause: None,
        };
        let asking = Asking::of(&profile("alpha"));
        let looked = world.lots.read(lot, |lot, _| look(lot, (0..2).collect(), &job, asking, now)).await;
        let Looked { candidates, round, later, is_stale } = looked.unwrap();
        let later: Vec<_> = later
            .into_iter()
            .map(|job| (job.messages.as_slice().to_vec(), job.not_before_ms - START_MS, job.waits))
            .collect();
        (candidates.as_slice().to_vec(), round.is_in_time(), later, is_stale)
    };
    use JobKind::{Inquire, Submit};
    use Waits::{ForItsTime, NoLonger};
    // Neither is due.
    let at_their_times = vec![(vec![1], 2_000, ForItsTime), (vec![0], 6_000, ForItsTime)];
    assert_eq!(look_at(1_500, Inquire, NoLonger).await, (vec![0, 1], false, at_their_times, false));
    assert_eq!(look_at(1_500, Inquire, ForItsTime).await, (vec![], true, vec![], true));
    assert_eq!(look_at(1_500, Submit, NoLonger).await, (vec![], true, vec![], true));
    // One is due: the other one is next.
    let next = vec![(vec![0], 3_250, NoLonger)];
    assert_eq!(look_at(3_000, Inquire, NoLonger).await, (vec![1], true, next, false));
    assert_eq!(look_at(3_000, Inquire, ForItsTime).await, (vec![1], true, vec![], true));
    // Both are due, and in different rounds.
    let next = vec![(vec![0], 6_250, ForItsTime)];
    assert_eq!(look_at(6_000, Inquire, ForItsTime).await, (vec![1], true, next, false));
}
