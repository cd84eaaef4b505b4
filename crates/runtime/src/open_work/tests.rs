//! The directory, over read models that know much, little, nothing, or not everything.

use kite_commands::clock::SystemIds;
use kite_commands::directory::Directory;
use kite_commands::manage::Unextended;
use kite_commands::manage::{Advised, ManageError, ManageRefusal, NewOptOut};
use kite_commands::{Cause, Journal, WriteSide};
use kite_domain::opt_out::{AdBrands, Refusals, RefusedBy};
use kite_domain::policy::{self, FailoverTerms, PolicyObjective, WeightsAdvised};
use kite_domain::relay::{
    BreakerPhase, Endpoint, ReceiptMode, RelayBreakerChanged, RelayCredentials, RelayProfile, RelayTls,
};
use kite_domain::slug::{RelayId, TenantId};
use kite_domain::text::Channel;
use kite_event_store::{EventStore, MemoryEventStore};
use kite_projections::{ReadModels, Runner, catch_up};
use std::collections::BTreeMap;
use std::sync::Arc;
use tempfile::TempDir;
use uuid::Uuid;

use super::Reading;
use crate::host::Host;
use crate::parts::Parts;
use crate::testing::Stage;

/// A log and the files of its read models, which outlive processes.
struct House {
    stage: Stage,
    log: Arc<MemoryEventStore>,
    files: TempDir,
}

/// A process.
struct Process {
    write_side: WriteSide,
    models: ReadModels,
    projectors: Vec<Box<dyn Runner>>,
    log: Arc<MemoryEventStore>,
    stage: Stage,
}

fn acme() -> TenantId {
    TenantId::parse("acme").unwrap()
}

fn alpha() -> RelayId {
    RelayId::parse("alpha").unwrap()
}

fn cause() -> Cause {
    Cause::new("test", Uuid::nil())
}

impl House {
    fn new() -> Self {
        Self { stage: Stage::default(), log: Arc::default(), files: TempDir::new().unwrap() }
    }

    fn journal(&self) -> Journal {
        Journal::new(self.log.clone(), self.stage.clock.clone(), Arc::new(SystemIds))
    }

    async fn process(&self) -> Process {
        let models = ReadModels::open(self.files.path()).unwrap();
        let write_side = WriteSide::new(self.journal(), 1_000, Arc::new(|| [7; 32]));
        let reading = Reading { figures_window: chrono::TimeDelta::minutes(15), unrouted_page: 10 };
        Parts::open(&self.stage, write_side.clone(), models.clone(), reading).await.unwrap();
        let projectors = models.projectors(self.log.clone()).unwrap();
        Process { write_side, models, projectors, log: self.log.clone(), stage: self.stage.clone() }
    }

    /// As the whole log says.
    async fn of_the_whole_log(&self) -> Directory {
        let directory = Directory::default();
        directory.catch_up(&self.journal()).await.unwrap();
        directory
    }
}

impl Process {
    async fn project(&mut self) {
        let head = *self.log.head().borrow();
        catch_up(&mut self.projectors, head, self.stage.now()).await.unwrap();
    }

    async fn refuse(&self, address: &str) {
        let refusal = NewOptOut::of(address, "080");
        self.write_side.manage.record_opt_out(&cause(), &acme(), refusal).await.unwrap();
    }

    async fn agree(&self, address: &str) {
        self.write_side.manage.withdraw_opt_out(&cause(), &acme(), address, None).await.unwrap();
    }

    async fn bind(&self, address: &str, other: &str) {
        let bond = Unextended { tenant: acme(), address: address.into(), other: other.into() };
        self.write_side.manage.extend_opt_outs(&cause(), vec![bond]).await.unwrap();
    }

    /// Who of these refuses.
    async fn refused_by(&self, addresses: &[&str]) -> Vec<Option<RefusedBy>> {
        let WriteSide { directory, journal, .. } = &self.write_side;
        let look = |refusals: &Refusals| {
            addresses.iter().map(|one| refusals.refused_by(one, &AdBrands::default())).collect()
        };
        directory.look_at_refusals(journal, &acme(), addresses.iter().copied(), look).await.unwrap()
    }

    /// Much that is over soon.
    async fn furnish(&self) {
        let manage = &self.write_side.manage;
        manage.create_tenant(&cause(), acme(), "Acme".to_owned()).await.unwrap();
        let profile = RelayProfile {
            relay: alpha(),
            name: "Alpha".to_owned(),
            endpoint: Endpoint::Http { base_url: "http://relay.example".to_owned() },
            channels: BTreeMap::new(),
            reaches: Vec::new(),
            batch_max: 100,
            rate_parts_per_second: None,
            calls_in_flight_max: 8,
            answer_timeout_ms: 5_000,
            deduplicates: false,
            answers_status: false,
            receipts: ReceiptMode::Push,
            codes: "solapi".into(),
            tls: RelayTls::default(),
            credentials: RelayCredentials::default(),
        };
        manage.define_relay(&cause(), profile.clone()).await.unwrap();
        manage.suspend_relay(&cause(), &alpha(), "test".to_owned()).await.unwrap();
        manage.define_relay(&cause(), RelayProfile { batch_max: 50, ..profile }).await.unwrap();
        for version in 1..=3 {
            self.follow(PolicyObjective::Price).await;
            for advice in 1..=40 {
                let stream = policy::stream(&acme(), Channel::Sms);
                let known = self.write_side.journal.count(&stream).await.unwrap();
                let advice = (version - 1) * 40 + advice;
                let advised = manage.advise_weights(&cause(), advised(version, advice), known).await.unwrap();
                assert_eq!(advised, Advised::Written);
            }
        }
    }

    /// A new version of the policy; answers its number.
    async fn follow(&self, objective: PolicyObjective) -> u32 {
        let (manage, failover) = (&self.write_side.manage, FailoverTerms::default());
        let defined = manage.define_policy(&cause(), &acme(), Channel::Sms, objective, failover).await;
        defined.unwrap().value.version
    }

    /// The breaker trips and comes back, so many times; and trips.
    async fn trip(&self, times: u32) {
        use BreakerPhase::{Passing, Probing, Tripped};
        let mut known =
            self.write_side.directory.snapshot().breakers.get(&alpha()).map_or(0, |one| one.version());
        let changes = [(Passing, Tripped), (Tripped, Probing), (Probing, Passing)];
        for (from, to) in changes.into_iter().cycle().take(3 * times as usize + 1) {
            let until = (to == Tripped).then(|| self.stage.now() + chrono::TimeDelta::seconds(5));
            let change = RelayBreakerChanged { relay: alpha(), from, to, reason: "test".to_owned(), until };
            known = self.write_side.manage.change_breaker(&cause(), change, known).await.unwrap().value;
        }
    }
}

fn advised(version: u32, advice: u32) -> WeightsAdvised {
    WeightsAdvised {
        tenant: acme(),
        channel: Channel::Sms,
        version,
        advice,
        weights: Vec::new(),
        order: Vec::new(),
        reasons: Vec::new(),
    }
}

#[tokio::test]
async fn a_start_reads_what_is_in_force_and_knows_what_the_whole_log_says() {
    let house = House::new();
    let mut process = house.process().await;
    process.furnish().await;
    process.trip(20).await;
    assert_eq!(
        house.process().await.write_side.directory.snapshot(),
        house.of_the_whole_log().await.snapshot()
    );
    process.project().await;
    let events = process.models.directory.in_force().unwrap().unwrap().events;
    assert!(events.len() <= 10, "of more than 180 events are in force: {events:?}");
    let again = house.process().await;
    assert_eq!(again.write_side.directory.snapshot(), house.of_the_whole_log().await.snapshot());
    // What came after that is read from the log, and decisions rest on both.
    again.write_side.manage.resume_relay(&cause(), &alpha()).await.unwrap();
    assert_eq!(again.follow(PolicyObjective::Speed).await, 4);
    let known = again.write_side.directory.snapshot().breakers[&alpha()].version();
    let (from, to) = (BreakerPhase::Tripped, BreakerPhase::Probing);
    let change = RelayBreakerChanged { relay: alpha(), from, to, reason: "test".to_owned(), until: None };
    let stale = again.write_side.manage.change_breaker(&cause(), change.clone(), known - 1).await;
    assert!(matches!(stale, Err(ManageError::Refused(ManageRefusal::BreakerMoved(_)))));
    again.write_side.manage.change_breaker(&cause(), change, known).await.unwrap();
    assert_eq!(
        house.process().await.write_side.directory.snapshot(),
        house.of_the_whole_log().await.snapshot()
    );
}

#[tokio::test]
async fn refusals_are_those_of_the_log_wherever_the_read_model_stands() {
    let house = House::new();
    let mut process = house.process().await;
    let all = ["01020000001", "01020000002", "Kim@Example.com", "lee@example.com"];
    let (itself, same) = (Some(RefusedBy::Itself), Some(RefusedBy::SamePerson));
    process.refuse(all[0]).await;
    process.refuse(all[2]).await;
    process.bind(all[2], all[3]).await;
    assert_eq!(process.refused_by(&all).await, [itself, None, itself, same], "nothing is projected yet");
    process.project().await;
    assert_eq!(process.refused_by(&all).await, [itself, None, itself, same]);
    // News about what the read model knows, and what it does not.
    process.bind(all[0], all[1]).await;
    assert_eq!(process.refused_by(&all).await, [itself, same, itself, same]);
    assert_eq!(process.refused_by(&all[1..2]).await, [same], "although nobody asked for the one who refused");
    process.agree(all[2]).await;
    assert_eq!(process.refused_by(&all).await, [itself, same, None, None]);
    assert_eq!(process.refused_by(&all[3..]).await, [None]);
    process.project().await;
    process.agree(all[0]).await;
    process.refuse(all[2]).await;
    let expected = [None, None, itself, None];
    assert_eq!(process.refused_by(&all).await, expected);
    let mut again = house.process().await;
    assert_eq!(again.refused_by(&all).await, expected, "and so after a start");
    again.project().await;
    assert_eq!(again.refused_by(&all).await, expected);
}
