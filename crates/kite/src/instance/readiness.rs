//! What only the process knows of its readiness.

use async_trait::async_trait;
use kite_api::{Readiness, ReadinessCheck};
use tokio::sync::watch;

use crate::runtime::Supervisor;

/// Ready as long as nothing has failed and no stop was asked for.
pub(super) struct ProcessReadiness {
    workers: Supervisor,
    projectors: Supervisor,
    log_stopped: watch::Receiver<Option<String>>,
}

impl ProcessReadiness {
    /// Looks at these.
    pub(super) fn new(
        workers: Supervisor,
        projectors: Supervisor,
        log_stopped: watch::Receiver<Option<String>>,
    ) -> Self {
        Self { workers, projectors, log_stopped }
    }
}

#[async_trait]
impl Readiness for ProcessReadiness {
    async fn checks(&self) -> Vec<ReadinessCheck> {
        let is_stopping = self.workers.stop().is_cancelled();
        vec![
            check("log", self.log_stopped.borrow().clone(), "takes appends"),
            check("workers", self.workers.failure(), "all run"),
            check("projectors", self.projectors.failure(), "all run"),
            check("life", is_stopping.then(|| "stopping".to_owned()), "running"),
        ]
    }
}

fn check(name: &str, failure: Option<String>, otherwise: &str) -> ReadinessCheck {
    ReadinessCheck {
        name: name.to_owned(),
        is_ready: failure.is_none(),
        detail: failure.unwrap_or_else(|| otherwise.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_log_that_takes_nothing_makes_the_process_unready_and_says_why() {
        let log_stopped = watch::Sender::new(None);
        let readiness = ProcessReadiness::new(Supervisor::new(), Supervisor::new(), log_stopped.subscribe());
        assert!(readiness.checks().await.iter().all(|check| check.is_ready));
        log_stopped.send_replace(Some("a commit failed: database or disk is full".to_owned()));
        let checks = readiness.checks().await;
        let log = checks.iter().find(|check| !check.is_ready).unwrap();
        assert_eq!((&*log.name, &*log.detail), ("log", "a commit failed: database or disk is full"));
    }

    #[tokio::test]
    async fn so_does_a_projector_that_has_given_up() {
        let projectors = Supervisor::new();
        let log_stopped = watch::Sender::new(None);
        let readiness = ProcessReadiness::new(Supervisor::new(), projectors.clone(), log_stopped.subscribe());
        projectors.fail("projector delivery: its file is damaged".to_owned());
        assert!(readiness.checks().await.iter().any(|check| check.name == "projectors" && !check.is_ready));
    }
}
