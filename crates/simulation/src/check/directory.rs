//! Law 8 for the basis of decisions: a process that begins with the read models knows the same as one that reads the
//! whole log.

use crate::store::Log;
use async_trait::async_trait;
use futures::FutureExt as _;
use kite_commands::clock::SystemIds;
use kite_commands::describe;
use kite_commands::directory::{Directory, InForce, StoredDirectory, StoredRefusals};
use kite_commands::open_work::OpenWorkError;
use kite_commands::{Clock, Journal};
use kite_domain::event::{Event, EventKind};
use kite_domain::opt_out::Refusals;
use kite_domain::slug::TenantId;
use kite_event_store::{EventStore, Filter, Position};
use kite_projections::{QueryError, ReadModels};
use smol_str::SmolStr;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Checked;

/// The read models, asked without a host.
struct Kept(ReadModels);

fn asked<T>(answer: Result<T, QueryError>) -> Result<T, OpenWorkError> {
    answer.map_err(OpenWorkError::new)
}

#[async_trait]
impl StoredDirectory for Kept {
    async fn in_force(&self) -> Result<Option<InForce>, OpenWorkError> {
        let known = asked(self.0.directory.in_force())?;
        Ok(known.map(|known| InForce { position: known.position, events: known.events }))
    }

    async fn in_force_of(&self, stream: SmolStr) -> Result<Option<Vec<u64>>, OpenWorkError> {
        asked(self.0.directory.in_force_of(&stream))
    }

    async fn refusals(
        &self,
        tenant: TenantId,
        identities: Vec<SmolStr>,
    ) -> Result<StoredRefusals, OpenWorkError> {
        let stored = asked(self.0.address_book.refusals(&tenant, &identities))?;
        let (position, refusals) = (stored.position, stored.refusals);
        Ok(StoredRefusals { position, refusals, parked: stored.parked })
    }

    fn refusals_position(&self) -> Position {
        self.0.address_book.position()
    }
}

/// Compares both at the end of the log.
pub(crate) fn the_directory_agrees(log: &Arc<Log>, clock: Arc<dyn Clock>, models: &ReadModels) -> Checked {
    let journal = Journal::new(log.clone(), clock, Arc::new(SystemIds));
    let (quick, whole) = (Directory::default(), Directory::default());
    let began = quick.begin(&journal, Arc::new(Kept(models.clone()))).now_or_never();
    began.expect("memory never waits").map_err(|error| describe(&error))?;
    let read = whole.catch_up(&journal).now_or_never();
    read.expect("memory never waits").map_err(|error| describe(&error))?;
    if quick.snapshot() != whole.snapshot() {
        return Err(format!(
            "law 8: from what is in force follows {:?}, from the whole log {:?}",
            quick.snapshot(),
            whole.snapshot()
        ));
    }
    for (tenant, addresses) in addresses(log)? {
        let asked = || addresses.iter().map(SmolStr::as_str);
        let [kept, said] = [&quick, &whole].map(|directory| {
            let look = directory.look_at_refusals(&journal, &tenant, asked(), Refusals::clone);
            look.now_or_never().expect("memory never waits").map_err(|error| describe(&error))
        });
        let (kept, said) = (kept?, said?);
        if kept != said {
            return Err(format!(
                "law 9: {tenant}'s recipients refuse {said:?} by the log, {kept:?} by the read model"
            ));
        }
    }
    Ok(())
}

/// All addresses that refusals are about, by tenant.
fn addresses(log: &Log) -> Checked<BTreeMap<TenantId, BTreeSet<SmolStr>>> {
    let filter =
        Filter::kinds([EventKind::OptOutRecorded, EventKind::OptOutWithdrawn, EventKind::OptOutExtended]);
    let page = log.read_all(0, usize::MAX, &filter).now_or_never().expect("memory never waits");
    let mut addresses: BTreeMap<TenantId, BTreeSet<SmolStr>> = BTreeMap::new();
    for recorded in page.map_err(|error| describe(&error))?.events {
        let event = Event::from_json(&recorded.kind, recorded.schema_version, &recorded.data);
        let (tenant, some) = match event.map_err(|error| describe(&error))? {
            Event::OptOutRecorded(refused) => (refused.tenant, vec![refused.personal.address]),
            Event::OptOutWithdrawn(agreed) => (agreed.tenant, vec![agreed.personal.address]),
            Event::OptOutExtended(extended) => (extended.tenant, extended.personal.also),
            _ => continue,
        };
        addresses.entry(tenant).or_default().extend(some);
    }
    Ok(addresses)
}
