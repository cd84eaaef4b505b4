//! What only the process knows of its readiness.

use async_trait::async_trait;
use kite_api::{Readiness, ReadinessCheck};

use crate::runtime::Supervisor;

/// Ready as long as nothing has failed and no stop was asked for.
pub(super) struct ProcessReadiness {
    workers: Supervisor,
}

impl ProcessReadiness {
    /// Looks at these workers.
    pub(super) fn new(workers: Supervisor) -> Self {
        Self { workers }
    }
}

#[async_trait]
impl Readiness for ProcessReadiness {
    async fn checks(&self) -> Vec<ReadinessCheck> {
        let failure = self.workers.failure();
        let is_stopping = self.workers.stop().is_cancelled();
        vec![
            ReadinessCheck {
                name: "workers".to_owned(),
                is_ready: failure.is_none(),
                detail: failure.unwrap_or_else(|| "all run".to_owned()),
            },
            ReadinessCheck {
                name: "life".to_owned(),
                is_ready: !is_stopping,
                detail: if is_stopping { "stopping" } else { "running" }.to_owned(),
            },
        ]
    }
}
