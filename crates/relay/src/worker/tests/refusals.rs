//! What recipients refuse cannot always be looked up.

use async_trait::async_trait;
use chrono::Duration;
use kite_commands::directory::{InForce, StoredDirectory, StoredRefusals};
use kite_commands::event_store::Position;
use kite_commands::open_work::OpenWorkError;
use kite_domain::sending::MessageClass;
use kite_domain::slug::TenantId;
use smol_str::SmolStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::testing::*;

/// A read model that does not answer.
#[derive(Default)]
struct Away(AtomicBool);

#[async_trait]
impl StoredDirectory for Away {
    async fn in_force(&self) -> Result<Option<InForce>, OpenWorkError> {
        Ok(None)
    }

    async fn in_force_of(&self, _: SmolStr) -> Result<Option<Vec<u64>>, OpenWorkError> {
        Ok(None)
    }

    async fn refusals(&self, _: TenantId, _: Vec<SmolStr>) -> Result<StoredRefusals, OpenWorkError> {
        match self.0.load(Ordering::Relaxed) {
            true => Err(OpenWorkError::new("away")),
            false => Ok(StoredRefusals::default()),
        }
    }

    fn refusals_position(&self) -> Position {
        0
    }
}

#[tokio::test]
async fn while_refusals_cannot_be_looked_up_advertisements_wait_and_nothing_else_does() {
    let (mut world, script) = World::scripted(vec![profile("alpha")]).await;
    let memory = Arc::new(Away::default());
    world.directory.begin(&world.journal, memory.clone()).await.unwrap();
    memory.0.store(true, Ordering::Relaxed);
    world.send(Sent { class: MessageClass::Ad, to: numbers(3), ..Sent::default() }).await;
    world.send(Sent { to: numbers(2), ..Sent::default() }).await;
    world.settle().await;
    let taken = || script.relay("alpha").calls.lock().iter().map(Vec::len).sum::<usize>();
    assert_eq!(taken(), 2, "the notices");
    memory.0.store(false, Ordering::Relaxed);
    world.clock.advance(Duration::seconds(2));
    world.settle().await;
    assert_eq!(taken(), 5);
}
