//! Commands on reference data, and every way in which they are refused.

use kite_commands::directory::PolicyTail;
use kite_commands::manage::{Advised, ApiKeyTerms, ManageError, ManageRefusal, NewOptOut, key_hash};
use kite_commands::vault::Kept;
use kite_commands::{Vault, WriteSide};
use kite_domain::ids::TemplateId;
use kite_domain::policy::{FailoverTerms, PolicyObjective, WeightsAdvised, WeightsError};
use kite_domain::relay::{BreakerPhase, RelayBreakerChanged, RelayCredentials, RelayProfile};
use kite_domain::sender::{Approval, SenderKind, SenderRefusal};
use kite_domain::sending::PauseBy;
use kite_domain::template::TemplateSaved;
use kite_domain::text::MessageType;
use std::fmt::Debug;
use std::sync::Arc;
use uuid::Uuid;

use crate::faulty_store::Fault;
use crate::house::*;

fn why<T: Debug>(answer: Result<T, ManageError>) -> ManageRefusal {
    match answer {
        Err(ManageError::Refused(refusal)) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

fn breaker(name: &str, from: BreakerPhase, to: BreakerPhase) -> RelayBreakerChanged {
    RelayBreakerChanged { relay: relay(name), from, to, reason: "test".to_owned(), until: None }
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let house = House::furnished().await;
    let manage = &house.manage;
    let (nobody, template) = (relay("nobody"), TemplateId(Uuid::nil()));
    let before = house.log().await.len();
    assert_eq!(
        why(manage.create_tenant(&cause(), acme(), "again".to_owned()).await),
        ManageRefusal::TenantExists(acme())
    );
    let ghost = tenant("ghost");
    assert_eq!(
        why(manage.issue_api_key(&cause(), &ghost, ApiKeyTerms::unbound("label")).await),
        ManageRefusal::NoTenant(ghost.clone())
    );
    assert_eq!(why(manage.revoke_api_key(&cause(), &acme(), "k").await), ManageRefusal::NoKey("k".into()));
    assert_eq!(
        why(manage.suspend_relay(&cause(), &nobody, "x".to_owned()).await),
        ManageRefusal::NoRelay(nobody.clone())
    );
    assert_eq!(why(manage.resume_relay(&cause(), &nobody).await), ManageRefusal::NoRelay(nobody.clone()));
    let change = breaker("nobody", BreakerPhase::Passing, BreakerPhase::Tripped);
    assert_eq!(why(manage.change_breaker(&cause(), change, 0).await), ManageRefusal::NoRelay(nobody.clone()));
    assert_eq!(
        why(manage.withdraw_sender(&cause(), &acme(), "x", None).await),
        ManageRefusal::Sender(SenderRefusal::NotFound)
    );
    assert_eq!(why(manage.withdraw_opt_out(&cause(), &acme(), "x", None).await), ManageRefusal::NoOptOut);
    assert_eq!(
        why(manage.delete_template(&cause(), &acme(), template).await),
        ManageRefusal::NoTemplate(template)
    );
    let terms = sender_terms("025550101", SenderKind::Phone, &["alpha", "nobody"]);
    assert_eq!(
        why(manage.request_sender(&cause(), &acme(), terms).await),
        ManageRefusal::NoRelay(nobody.clone())
    );
    let elsewhere = Approval { relays: vec![nobody.clone()], ..approval(noon()) };
    assert_eq!(
        why(manage.approve_sender(&cause(), &acme(), "025550100", elsewhere).await),
        ManageRefusal::NoRelay(nobody)
    );
    assert_eq!(house.log().await.len(), before, "nothing is written");
}

#[tokio::test]
async fn a_ratio_must_be_one() {
    let house = House::furnished().await;
    let define = async |channel, weights: &[(&str, u32)]| {
        let answer = house
            .manage
            .define_policy(&cause(), &acme(), channel, shares(weights), FailoverTerms::default())
            .await;
        why(answer)
    };
    assert_eq!(define(MessageType::Sms, &[]).await, WeightsError::Empty.into());
    assert_eq!(define(MessageType::Sms, &[("alpha", 9_999)]).await, WeightsError::Sum(9_999).into());
    assert_eq!(
        define(MessageType::Sms, &[("alpha", u32::MAX), ("beta", 1)]).await,
        WeightsError::Sum(u64::from(u32::MAX) + 1).into()
    );
    assert_eq!(
        define(MessageType::Sms, &[("alpha", 5_000), ("alpha", 5_000)]).await,
        WeightsError::Repeated(relay("alpha")).into()
    );
    assert_eq!(
        define(MessageType::Sms, &[("nobody", 10_000)]).await,
        ManageRefusal::NoRelay(relay("nobody"))
    );
    assert_eq!(
        define(MessageType::Email, &[("alpha", 10_000)]).await,
        ManageRefusal::NoChannel { relay: relay("alpha"), channel: MessageType::Email }
    );
    let told = WeightsError::Sum(9_999).to_string();
    assert!(told.starts_with("the weights sum to 99.99 %, not 100 %: a weight is in hundredths"), "{told}");
}

#[tokio::test]
async fn versions_count_up() {
    let house = House::furnished().await;
    for version in 2..5 {
        let defined = house
            .manage
            .define_policy(
                &cause(),
                &acme(),
                MessageType::Sms,
                PolicyObjective::Price,
                FailoverTerms::default(),
            )
            .await
            .unwrap();
        assert_eq!(defined.value.version, version);
        assert_eq!(house.directory.snapshot().policies[&(acme(), MessageType::Sms)].defined, defined.value);
        assert_eq!(defined.position, house.log().await.len() as u64);
    }
}

#[tokio::test]
async fn advice_is_written_on_what_it_was_judged_on_or_not_at_all() {
    let house = House::furnished().await;
    let advised = async |known| {
        let advised = WeightsAdvised {
            tenant: acme(),
            channel: MessageType::Sms,
            version: 1,
            advice: known as u32,
            weights: Vec::new(),
            order: Vec::new(),
            reasons: Vec::new(),
        };
        house.manage.advise_weights(&cause(), advised, known).await.unwrap()
    };
    let tail = || house.directory.snapshot().policy_tails[&(acme(), MessageType::Sms)];
    assert_eq!(tail(), PolicyTail { version: 1, advices: 0 });
    assert_eq!(advised(0).await, Advised::OthersWereFaster);
    assert_eq!(advised(1).await, Advised::Written);
    assert_eq!(advised(1).await, Advised::OthersWereFaster, "nobody advises twice on the same");
    assert_eq!(tail(), PolicyTail { version: 2, advices: 1 });
    assert_eq!(house.events("weights-advised").await.len(), 1);
}

#[tokio::test]
async fn a_key_is_shown_once_and_kept_as_a_hash() {
    let house = House::furnished().await;
    let issued = house
        .manage
        .issue_api_key(&cause(), &acme(), ApiKeyTerms::unbound("production"))
        .await
        .unwrap()
        .value;
    assert!(issued.key.starts_with(&format!("kite_{}_", issued.key_id)));
    let kept = house.directory.snapshot().api_keys[&issued.key_id].clone();
    assert_eq!(kept.hash, key_hash(&issued.key));
    let secret = issued.key.rsplit('_').next().unwrap();
    let log: Vec<u8> = house.log().await.iter().flat_map(|told| told.recorded.data.to_vec()).collect();
    assert!(!String::from_utf8(log).unwrap().contains(secret), "the secret is nowhere in the log");
    assert!(!format!("{issued:?}").contains(secret));

    house.manage.revoke_api_key(&cause(), &acme(), &issued.key_id).await.unwrap();
    assert!(!house.directory.snapshot().api_keys.contains_key(&issued.key_id));
    let again = house.manage.revoke_api_key(&cause(), &acme(), &issued.key_id).await;
    assert_eq!(why(again), ManageRefusal::NoKey(issued.key_id));
}

#[tokio::test]
async fn credentials_that_are_not_given_stay() {
    let house = House::furnished().await;
    let with = |api_key: Option<&str>, user: Option<&str>| RelayProfile {
        credentials: RelayCredentials {
            api_key: api_key.map(str::to_owned),
            user: user.map(str::to_owned),
            ..RelayCredentials::default()
        },
        ..profile("alpha", &[(MessageType::Sms, 1)])
    };
    house.manage.define_relay(&cause(), with(Some("key"), None)).await.unwrap();
    let kept = house.manage.define_relay(&cause(), with(None, Some("user"))).await.unwrap().value.credentials;
    assert_eq!((kept.api_key.as_deref(), kept.user.as_deref()), (Some("key"), Some("user")));
    assert!(!format!("{kept:?}").contains("key"));
}

/// The one who rotates has not heard of it, and who has defined it had no key.
#[tokio::test]
async fn a_relay_that_another_process_has_just_defined_gets_the_new_key_too() {
    let house = House::furnished().await;
    let vault = Arc::new(Vault::parse(&Vault::line("k1", &[7; 32])).unwrap());
    let write_side = WriteSide::new(house.journal.clone(), 1, Arc::new(|| [7; 32])).with_vault(vault.clone());
    write_side.directory.catch_up(&house.journal).await.unwrap();
    let credentials =
        RelayCredentials { api_key: Some("open sesame".to_owned()), ..RelayCredentials::default() };
    let late = RelayProfile { credentials, ..profile("late", &[(MessageType::Sms, 9_000)]) };
    house.manage.define_relay(&cause(), late.clone()).await.unwrap();
    let rotated = write_side.manage.rotate_secrets(&cause()).await.unwrap().value;
    assert_eq!(rotated.relays, [relay("late")]);
    assert!(rotated.locked.is_empty());
    house.directory.catch_up(&house.journal).await.unwrap();
    let kept = house.directory.snapshot().relays.get(&relay("late")).unwrap().profile.clone();
    assert_eq!((vault.kept(&kept), vault.open(&kept).unwrap()), (Kept::Encrypted, late));
}

#[tokio::test]
async fn a_breaker_changes_from_where_it_stands() {
    use BreakerPhase::{Passing, Probing, Tripped};
    let house = House::furnished().await;
    let change = async |from, to, known| {
        house.manage.change_breaker(&cause(), breaker("alpha", from, to), known).await
    };
    let tripped = change(Passing, Tripped, 0).await.unwrap().value;
    assert_eq!(why(change(Passing, Tripped, 0).await), ManageRefusal::BreakerMoved(relay("alpha")));
    house.manage.suspend_relay(&cause(), &relay("alpha"), "test".to_owned()).await.unwrap();
    let probing = change(Tripped, Probing, tripped).await.unwrap().value;
    assert_eq!(probing, tripped + 2, "what else happens to the relay is no change of its breaker");
    change(Probing, Passing, probing).await.unwrap();
    let snapshot = house.directory.snapshot();
    assert_eq!(snapshot.relays.get(&relay("alpha")).unwrap().breaker, Passing);
}

#[tokio::test]
async fn a_breaker_is_not_changed_by_who_has_not_seen_its_last_change() {
    use BreakerPhase::{Passing, Probing, Tripped};
    let house = House::furnished().await;
    let stale = house.restarted().await;
    let change = async |house: &House, from, to, known| {
        house.manage.change_breaker(&cause(), breaker("alpha", from, to), known).await
    };
    let mut known = 0;
    for (from, to) in [(Passing, Tripped), (Tripped, Probing)] {
        known = change(&house, from, to, known).await.unwrap().value;
    }
    let again = change(&house, Probing, Tripped, known).await.unwrap().value;
    change(&house, Tripped, Probing, again).await.unwrap();
    let refused = change(&stale, Probing, Passing, known).await;
    assert_eq!(why(refused), ManageRefusal::BreakerMoved(relay("alpha")), "probes of before the last trip");
    let seen = stale.directory.snapshot().breakers[&relay("alpha")].version();
    assert_eq!(seen, again + 1, "by now it has seen it");
}

#[tokio::test]
async fn what_is_so_already_is_no_event() {
    let house = House::furnished().await;
    house.manage.record_opt_out(&cause(), &acme(), NewOptOut::of("01020000000", "080")).await.unwrap();
    let before = house.log().await.len();
    house.manage.record_opt_out(&cause(), &acme(), NewOptOut::of("01020000000", "web")).await.unwrap();
    house.manage.resume_relay(&cause(), &relay("alpha")).await.unwrap();
    assert_eq!(house.log().await.len(), before);
    house.manage.suspend_relay(&cause(), &relay("alpha"), "test".to_owned()).await.unwrap();
    house.manage.resume_relay(&cause(), &relay("alpha")).await.unwrap();
    assert_eq!(house.log().await.len(), before + 2);
}

#[tokio::test]
async fn a_deleted_template_can_be_saved_again() {
    let house = House::furnished().await;
    let saved = TemplateSaved {
        tenant: acme(),
        template: TemplateId(Uuid::from_u128(1)),
        name: "name".to_owned(),
        subject: None,
        text: "text".to_owned(),
    };
    house.manage.save_template(&cause(), saved.clone()).await.unwrap();
    house.manage.delete_template(&cause(), &acme(), saved.template).await.unwrap();
    let again = house.manage.delete_template(&cause(), &acme(), saved.template).await;
    assert_eq!(why(again), ManageRefusal::NoTemplate(saved.template));
    house.manage.save_template(&cause(), saved.clone()).await.unwrap();
    assert!(house.directory.snapshot().templates.contains_key(&(acme(), saved.template)));
}

#[tokio::test]
async fn a_conflict_is_decided_anew_and_a_failure_is_told() {
    let house = House::furnished().await;
    house.store.fail(0, Fault::Conflict);
    house.manage.create_tenant(&cause(), tenant("other"), "other".to_owned()).await.unwrap();
    house.store.fail(0, Fault::Busy);
    let answer = house.manage.create_tenant(&cause(), tenant("third"), "third".to_owned()).await;
    assert!(matches!(answer, Err(ManageError::Journal(_))));
}

/// The eleventh try would be the last, the twelfth would succeed.
#[tokio::test]
async fn whoever_is_overtaken_again_and_again_gives_up_in_the_end() {
    let house = House::furnished().await;
    let sending = house.accept(notice(recipients(1))).await.unwrap().sending;
    for overtaken in [10, 11] {
        let is_done = overtaken == 10;
        house.store.overtake(overtaken);
        let name = format!("{overtaken}").repeat(2);
        let new = house.manage.create_tenant(&cause(), tenant(&format!("t{name}")), name.clone()).await;
        assert_eq!(new.is_ok(), is_done, "{new:?}");
        house.store.overtake(overtaken);
        let refusal = NewOptOut::of(format!("0102222{name}"), "080");
        let refused = house.manage.record_opt_out(&cause(), &acme(), refusal).await;
        assert_eq!(refused.is_ok(), is_done, "{refused:?}");
        house.store.overtake(overtaken);
        let address = format!("02555{name}");
        let terms = sender_terms(&address, SenderKind::Phone, &["alpha"]);
        let requested = house.manage.request_sender(&cause(), &acme(), terms).await;
        assert_eq!(requested.is_ok(), is_done, "{requested:?}");
    }
    let by = PauseBy::Tenant;
    house.store.overtake(11);
    assert!(house.acceptance.pause(&cause(), &acme(), sending, by, None).await.is_err());
    house.store.overtake(11);
    assert!(house.acceptance.cancel(&cause(), &acme(), sending, None).await.is_err());
    assert_eq!(house.events("sending-paused").await.len() + house.events("sending-cancelled").await.len(), 0);
    house.store.overtake(10);
    house.acceptance.pause(&cause(), &acme(), sending, by, None).await.unwrap();
    house.store.overtake(10);
    house.acceptance.cancel(&cause(), &acme(), sending, None).await.unwrap();
}
