//! The roles of a process, and which of them need each other.
//!
//! The log and the read models of a data directory belong to one process, and a work queue inside a process to the process that
//! fills it; read models in PostgreSQL and a queue on NATS belong to all. So a role whose counterpart is missing here would wait for ever, and nobody would see why.

use anyhow::ensure;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use strum::{IntoStaticStr, VariantArray};

/// A part of Kite that a process can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[derive(IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Role {
    /// HTTP.
    Api,
    /// First routes.
    Router,
    /// From the log to the work queue.
    Publisher,
    /// Hand-over to the relays.
    Worker,
    /// Read models.
    Projector,
    /// What time alone brings about.
    Timekeeper,
}

impl Role {
    /// Every part.
    pub(super) const ALL: &'static [Self] = Self::VARIANTS;

    /// As in the configuration.
    fn word(self) -> &'static str {
        self.into()
    }

    /// What it cannot do without, and why.
    fn needs(self) -> &'static [(Self, &'static str)] {
        match self {
            Self::Worker => {
                &[(Self::Publisher, "the work queue is inside the process, and nothing else fills it")]
            }
            Self::Publisher => &[
                (Self::Worker, "the work queue is inside the process, and nothing else empties it"),
                (Self::Projector, "it finds in the read models what an earlier process left half done"),
            ],
            Self::Timekeeper => &[(Self::Projector, "it finds in the read models what is due")],
            Self::Api | Self::Router | Self::Projector => &[],
        }
    }
}

/// What belongs to all processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Shared {
    /// The read models.
    pub(super) models: bool,
    /// The work queue.
    pub(super) queue: bool,
}

impl Shared {
    /// Whether another process may have it for this one.
    fn may_be_elsewhere(self, needed: Role) -> bool {
        match needed {
            Role::Projector => self.models,
            Role::Publisher | Role::Worker => self.queue,
            Role::Api | Role::Router | Role::Timekeeper => false,
        }
    }
}

/// Whether each of these has what it needs, here or elsewhere.
///
/// # Errors
/// Names the first role that has not, what it lacks, and why it needs it.
pub(super) fn check(roles: &BTreeSet<Role>, shared: Shared) -> anyhow::Result<()> {
    for role in roles {
        let needs = role.needs().iter().filter(|(needed, _)| !shared.may_be_elsewhere(*needed));
        for (needed, reason) in needs {
            ensure!(roles.contains(needed), "{} needs {} beside it: {reason}", role.word(), needed.word());
        }
    }
    Ok(())
}

/// Whether each of these has what it needs where several processes share a log: each has read models of its own.
///
/// # Errors
/// Names the first role that has not.
pub(super) fn check_shared(roles: &BTreeSet<Role>) -> anyhow::Result<()> {
    let reads = |role: &&Role| matches!(role, Role::Api | Role::Router | Role::Worker);
    if let Some(role) = roles.iter().find(reads) {
        ensure!(
            roles.contains(&Role::Projector),
            "{} needs projector beside it: its read models are in its own files (read_models.engine)",
            role.word()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use Role::*;

    fn refusal(roles: &[Role]) -> Option<String> {
        check(&roles.iter().copied().collect(), Shared::default()).err().map(|error| error.to_string())
    }

    #[test]
    fn a_part_that_would_wait_for_ever_is_refused() {
        for (roles, told) in [
            (&[Worker, Projector][..], "worker needs publisher"),
            (&[Publisher, Projector], "publisher needs worker"),
            (&[Publisher, Worker], "publisher needs projector"),
            (&[Timekeeper, Api], "timekeeper needs projector"),
        ] {
            let refusal = refusal(roles).unwrap();
            assert!(refusal.starts_with(told), "{roles:?}: {refusal}");
        }
    }

    #[test]
    fn what_is_of_use_without_the_others_is_not() {
        for roles in [Role::ALL, &[Api], &[Api, Projector], &[Router], &[Worker, Publisher, Projector]] {
            assert_eq!(refusal(roles), None, "{roles:?}");
        }
    }

    #[test]
    fn what_is_shared_may_be_elsewhere() {
        let both = Shared { models: true, queue: true };
        for (shared, roles) in [
            (Shared { models: true, ..Shared::default() }, &[Timekeeper][..]),
            (Shared { models: true, ..Shared::default() }, &[Publisher, Worker]),
            (Shared { queue: true, ..Shared::default() }, &[Worker]),
            (Shared { queue: true, ..Shared::default() }, &[Publisher, Projector]),
            (both, &[Api]),
            (both, &[Publisher]),
            (both, &[Worker]),
        ] {
            check(&roles.iter().copied().collect(), shared).unwrap();
        }
        let models = Shared { models: true, ..Shared::default() };
        check(&[Worker].into_iter().collect(), models).unwrap_err();
        let queue = Shared { queue: true, ..Shared::default() };
        check(&[Publisher].into_iter().collect(), queue).unwrap_err();
    }

    #[test]
    fn the_refusal_says_why() {
        assert_eq!(
            refusal(&[Worker]).unwrap(),
            "worker needs publisher beside it: the work queue is inside the process, and nothing else fills it"
        );
    }
}
