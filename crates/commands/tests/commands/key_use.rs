//! When keys were last used: at once in memory, seldom in the log.

use chrono::Duration;
use kite_commands::directory::Directory;
use kite_commands::key_use::KeyUseRecorder;
use kite_commands::manage::{ApiKeyTerms, ManageError, ManageRefusal, OperatorKeyTerms};
use kite_commands::{Step, Worker};
use kite_domain::event::Event;
use kite_domain::keys::{KeyBounds, KeyUse, Role};
use kite_domain::slug::OperatorName;

use crate::house::*;

async fn uses(house: &House) -> Vec<Vec<KeyUse>> {
    let recorded = house.events("keys-used").await;
    let uses = recorded.into_iter().map(|event| match event {
        Event::KeysUsed(used) => used.uses,
        other => panic!("{other:?}"),
    });
    uses.collect()
}

#[tokio::test]
async fn a_use_is_written_at_the_first_time_and_then_once_a_day() {
    let house = House::furnished().await;
    let issued = house.manage.issue_api_key(&cause(), &acme(), ApiKeyTerms::unbound("shop")).await.unwrap();
    let terms = OperatorKeyTerms {
        name: OperatorName::parse("kim").unwrap(),
        role: Role::Auditor,
        bounds: KeyBounds::default(),
    };
    let operator = house.manage.issue_operator_key(&cause(), terms).await.unwrap().value.key_id;
    let tenant = issued.value.key_id;
    let mut recorder = KeyUseRecorder::new(house.journal.clone(), house.directory.clone());
    let is_idle =
        async |recorder: &mut KeyUseRecorder| matches!(recorder.step().await.unwrap(), Step::Idle(Some(_)));
    assert!(is_idle(&mut recorder).await);
    let use_both = || {
        let keys = house.directory.snapshot();
        keys.api_keys[&tenant].note_use(house.journal.now());
        keys.operator_keys[&operator].note_use(house.journal.now());
        house.journal.now()
    };
    let first = use_both();
    assert_eq!(recorder.step().await.unwrap(), Step::Worked);
    let [recorded] = uses(&house).await.try_into().unwrap();
    assert_eq!(recorded.len(), 2, "one event for both keys");
    assert!(recorded.iter().all(|one| one.at.timestamp() == first.timestamp()));

    house.clock.advance(Duration::hours(23));
    let second = use_both();
    assert!(is_idle(&mut recorder).await, "what the log says is not a day old");
    let shown = house.manage.api_keys(&acme()).await.unwrap().pop().unwrap();
    assert_eq!(shown.last_used_at.unwrap().timestamp(), second.timestamp(), "but memory knows");
    house.clock.advance(Duration::hours(1));
    use_both();
    assert_eq!(recorder.step().await.unwrap(), Step::Worked);
    assert!(is_idle(&mut recorder).await);
    assert_eq!(uses(&house).await.len(), 2);
}

#[tokio::test]
async fn another_process_knows_of_the_use_from_the_log() {
    let house = House::furnished().await;
    let issued = house.manage.issue_api_key(&cause(), &acme(), ApiKeyTerms::unbound("shop")).await.unwrap();
    let key_id = issued.value.key_id;
    house.directory.snapshot().api_keys[&key_id].note_use(house.journal.now());
    KeyUseRecorder::new(house.journal.clone(), house.directory.clone()).step().await.unwrap();
    let other = Directory::default();
    other.catch_up(&house.journal).await.unwrap();
    let known = other.snapshot().api_keys[&key_id].last_used_at();
    assert_eq!(known.map(|at| at.timestamp()), Some(house.journal.now().timestamp()));
    let mut recorder = KeyUseRecorder::new(house.journal.clone(), other);
    assert!(matches!(recorder.step().await.unwrap(), Step::Idle(_)), "nothing is written twice");
}

#[tokio::test]
async fn keys_are_known_in_snapshots_that_were_taken_before() {
    let house = House::furnished().await;
    let issued = house.manage.issue_api_key(&cause(), &acme(), ApiKeyTerms::unbound("shop")).await.unwrap();
    let before = house.directory.snapshot();
    house.manage.create_tenant(&cause(), tenant("later"), "Later".to_owned()).await.unwrap();
    before.api_keys[&issued.value.key_id].note_use(house.journal.now());
    assert!(house.directory.snapshot().api_keys[&issued.value.key_id].last_used_at().is_some());
}

/// Some give out a key a day, each for half of one.
#[tokio::test]
async fn expired_keys_take_no_room_and_no_name() {
    let house = House::furnished().await;
    for day in 0..120 {
        let bounds =
            KeyBounds { expires_at: Some(house.journal.now() + Duration::hours(12)), ..KeyBounds::default() };
        let terms = ApiKeyTerms { bounds: bounds.clone(), ..ApiKeyTerms::unbound("daily") };
        let issued = house.manage.issue_api_key(&cause(), &acme(), terms).await;
        assert!(issued.is_ok(), "day {day}");
        let name = OperatorName::parse("robot").unwrap();
        let terms = OperatorKeyTerms { name, role: Role::Auditor, bounds };
        assert!(house.manage.issue_operator_key(&cause(), terms).await.is_ok(), "day {day}");
        house.clock.advance(Duration::days(1));
    }
}

#[tokio::test]
async fn no_two_operators_have_one_name() {
    let house = House::furnished().await;
    let issue = async |name: &str| {
        let name = OperatorName::parse(name).unwrap();
        let terms = OperatorKeyTerms { name, role: Role::Auditor, bounds: KeyBounds::default() };
        house.manage.issue_operator_key(&cause(), terms).await
    };
    let kim = issue("kim").await.unwrap().value.key_id;
    issue("lee").await.unwrap();
    let again = issue("kim").await;
    assert!(matches!(again, Err(ManageError::Refused(ManageRefusal::NameTaken(_)))), "{again:?}");
    house.manage.revoke_operator_key(&cause(), &kim).await.unwrap();
    issue("kim").await.unwrap();
}
