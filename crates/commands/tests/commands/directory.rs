//! The directory is folded from the log: by whoever has just written, and by its feed.

use async_trait::async_trait;
use kite_commands::accept::{AcceptError, AcceptLimits, BacklogLevel};
use kite_commands::directory::{
    Directory, DirectoryFeed, DirectoryState, InForce, StoredDirectory, StoredRefusals,
};
use kite_commands::manage::NewOptOut;
use kite_commands::manage::Unextended;
use kite_commands::open_work::OpenWorkError;
use kite_commands::{Step, Worker, WriteSide};
use kite_domain::opt_out::{self, AdBrands, Refusals, RefusedBy};
use kite_domain::policy::FailoverTerms;
use kite_domain::sender::{Approval, SenderKind};
use kite_domain::slug::TenantId;
use kite_domain::text::MessageType;
use kite_event_store::Position;
use smol_str::SmolStr;
use std::sync::Arc;

use crate::house::*;

#[tokio::test]
async fn a_new_process_knows_what_the_old_one_knew() {
    let house = House::furnished().await;
    house.manage.record_opt_out(&cause(), &acme(), NewOptOut::of("01020000000", "080")).await.unwrap();
    let restarted = house.restarted().await;
    let (old, new) = (house.directory.snapshot(), restarted.directory.snapshot());
    assert_eq!(old.relays, new.relays);
    assert_eq!((&old.policies, &old.senders, &old.tenants), (&new.policies, &new.senders, &new.tenants));
    let [acme, other] = ["acme", "other"].map(tenant);
    assert_eq!(restarted.refused_by(&acme, "01020000000").await, Some(RefusedBy::Itself));
    assert_eq!(restarted.refused_by(&other, "01020000000").await, None, "it binds one tenant");
    assert_eq!(restarted.refused_by(&acme, "01020000001").await, None);
}

/// A page of the log may hold nothing of interest although there is more behind it.
#[tokio::test]
async fn it_reads_to_the_end_however_much_else_is_in_the_log() {
    let house = House::furnished().await;
    house.accept(notice(recipients(3_000))).await.unwrap();
    work_off(&mut house.router()).await;
    house.move_in("late").await;
    house.store.look_at_most_at(1);
    let directory = Directory::default();
    assert!(directory.catch_up(&house.journal).await.unwrap());
    assert!(directory.snapshot().tenants.contains_key(&tenant("late")));
    assert!(!directory.catch_up(&house.journal).await.unwrap(), "nothing is new");
}

/// Whoever waits for news would wait until the next, for what is known already.
#[tokio::test]
async fn what_was_read_before_a_page_that_cannot_be_read_is_news() {
    let house = House::furnished().await;
    let other = house.restarted().await;
    let mut changes = other.directory.changes();
    changes.mark_unchanged();
    house.move_in("early").await;
    let readable = house.log().await.len() as u64;
    house.move_in("late").await;
    house.store.look_at_most_at(1);
    house.store.spoil(readable + 1);
    other.directory.catch_up(&other.journal).await.unwrap_err();
    assert!(changes.has_changed().unwrap());
    let tenants = &other.directory.snapshot().tenants;
    assert!(tenants.contains_key(&tenant("early")) && !tenants.contains_key(&tenant("late")));
    house.store.restore(readable + 1);
    assert!(other.directory.catch_up(&other.journal).await.unwrap());
    assert!(other.directory.snapshot().tenants.contains_key(&tenant("late")));
}

#[tokio::test]
async fn the_feed_tells_when_something_has_changed() {
    let house = House::furnished().await;
    let other = house.restarted().await;
    let mut feed = DirectoryFeed::new(other.directory.clone(), other.journal.clone());
    let mut changes = other.directory.changes();
    changes.mark_unchanged();
    assert_eq!(feed.step().await.unwrap(), Step::Idle(None));
    house.accept(notice(recipients(1))).await.unwrap();
    assert_eq!(feed.step().await.unwrap(), Step::Idle(None), "sendings are none of its business");
    assert!(!changes.has_changed().unwrap());
    let before = other.directory.snapshot();
    house.manage.suspend_relay(&cause(), &relay("alpha"), "test".to_owned()).await.unwrap();
    assert_eq!(feed.step().await.unwrap(), Step::Worked);
    assert!(changes.has_changed().unwrap());
    assert!(other.directory.snapshot().relays.get(&relay("alpha")).unwrap().suspended.is_some());
    assert!(before.relays.get(&relay("alpha")).unwrap().suspended.is_none(), "a snapshot does not change");
}

/// Somebody else may just have written it.
#[tokio::test]
async fn where_the_log_is_shared_nobody_is_told_that_something_is_not_there_before_it_was_read_on() {
    let house = House::furnished().await;
    let (alone, shared) = (house.journal.clone(), house.journal.clone().shared());
    let other = Directory::default();
    other.catch_up(&shared).await.unwrap();
    house.move_in("late").await;
    let late = tenant("late");
    let look = |directory: &DirectoryState| directory.tenants.get(&late).map(|tenant| tenant.name.clone());
    assert_eq!(other.find(&alone, look).await.unwrap(), None, "what it wrote itself it has read");
    assert!(other.find(&shared, look).await.unwrap().is_some());
    let nobody = |directory: &DirectoryState| directory.tenants.get(&tenant("nobody")).map(drop);
    assert_eq!(other.find(&shared, nobody).await.unwrap(), None);
}

/// So it is with a row that only a relay of a moment ago can carry.
#[tokio::test]
async fn a_row_is_refused_for_want_of_a_relay_only_after_the_log_was_read_on() {
    let house = House::furnished().await;
    house.register("acme", "025550100", SenderKind::Phone, &[]).await;
    let journal = house.journal.clone().shared();
    let write_side = WriteSide::new(journal.clone(), 1_000, Arc::new(|| [7; 32]));
    let acceptance = write_side.acceptance(AcceptLimits::default(), Arc::new(BacklogLevel::default));
    write_side.directory.catch_up(&journal).await.unwrap();
    let request = notice(recipients(1));
    let refused = accept_without_key(&acceptance, &acme(), request.clone()).await;
    assert!(matches!(refused, Err(AcceptError::RowsRefused(_))), "{refused:?}");
    house.register("acme", "025550100", SenderKind::Phone, &["gamma"]).await;
    let accepted = accept_without_key(&acceptance, &acme(), request).await.unwrap();
    assert_eq!((accepted.messages, accepted.refused_count), (1, 0));
}

/// So it is with a request to send that names a sender of a moment ago.
#[tokio::test]
async fn a_request_is_refused_only_after_the_log_was_read_on() {
    let house = House::furnished().await;
    let journal = house.journal.clone().shared();
    let write_side = WriteSide::new(journal.clone(), 1_000, Arc::new(|| [7; 32]));
    let acceptance = write_side.acceptance(AcceptLimits::default(), Arc::new(BacklogLevel::default));
    write_side.directory.catch_up(&journal).await.unwrap();
    let mut request = notice(recipients(1));
    request.from_phone = Some("02-555-0177".to_owned());
    let refused = accept_without_key(&acceptance, &acme(), request.clone()).await;
    assert!(matches!(refused, Err(AcceptError::Refused(_))), "{refused:?}");
    house.register("acme", "025550177", SenderKind::Phone, &["alpha"]).await;
    accept_without_key(&acceptance, &acme(), request).await.unwrap();
}

/// So it is with whatever names a relay of a moment ago.
#[tokio::test]
async fn nobody_is_told_that_there_is_no_such_relay_before_the_log_was_read_on() {
    let house = House::furnished().await;
    let journal = house.journal.clone().shared();
    let newest = |name: &str| profile(name, &[(MessageType::Sms, 8_000)]);
    for what in ["policy", "request", "approval"] {
        let other = WriteSide::new(journal.clone(), 1_000, Arc::new(|| [7; 32]));
        other.directory.catch_up(&journal).await.unwrap();
        let terms = sender_terms("025550177", SenderKind::Phone, &[what]);
        house.manage.define_relay(&cause(), newest(what)).await.unwrap();
        match what {
            "policy" => {
                let objective = shares(&[(what, 10_000)]);
                let failover = FailoverTerms::default();
                let defined = other
                    .manage
                    .define_policy(&cause(), &acme(), MessageType::Sms, objective, failover)
                    .await;
                assert_eq!(defined.unwrap().value.version, 2);
            }
            "request" => drop(other.manage.request_sender(&cause(), &acme(), terms).await.unwrap()),
            _ => {
                let approval = Approval { relays: vec![relay(what)], ..approval(journal.now()) };
                other.manage.approve_sender(&cause(), &acme(), "025550177", approval).await.unwrap();
            }
        }
    }
}

/// A read model that knows of no refusal, and says of which streams that is so.
struct Blind {
    position: Position,
    parked: Vec<SmolStr>,
}

#[async_trait]
impl StoredDirectory for Blind {
    async fn in_force(&self) -> Result<Option<InForce>, OpenWorkError> {
        Ok(None)
    }

    async fn in_force_of(&self, _: SmolStr) -> Result<Option<Vec<u64>>, OpenWorkError> {
        Ok(None)
    }

    async fn refusals(&self, _: TenantId, _: Vec<SmolStr>) -> Result<StoredRefusals, OpenWorkError> {
        let parked = self.parked.clone();
        Ok(StoredRefusals { position: self.position, refusals: Refusals::default(), parked })
    }

    fn refusals_position(&self) -> Position {
        self.position
    }
}

/// Also of somebody whom another one's refusal binds, when nobody asked for that one.
#[tokio::test]
async fn what_the_read_model_has_parked_of_refusals_is_read_from_the_log() {
    let house = House::furnished().await;
    let (one, other) = ("01020000001", "01020000003");
    house.manage.record_opt_out(&cause(), &acme(), NewOptOut::of(one, "080")).await.unwrap();
    let bond = Unextended { tenant: acme(), address: one.into(), other: other.into() };
    house.manage.extend_opt_outs(&cause(), vec![bond]).await.unwrap();
    for (parked, expected) in
        [(vec![opt_out::stream(&acme(), one)], Some(RefusedBy::SamePerson)), (vec![], None)]
    {
        let directory = Directory::default();
        let memory = Blind { position: *house.journal.store().head().borrow(), parked };
        directory.begin(&house.journal, Arc::new(memory)).await.unwrap();
        let look = |refusals: &Refusals| refusals.refused_by(other, &AdBrands::default());
        let found = directory.look_at_refusals(&house.journal, &acme(), [other], look).await.unwrap();
        assert_eq!(found, expected);
    }
}
