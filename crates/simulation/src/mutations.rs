//! Switches one deliberate bug on after another. Each must be found within its budget of seeds; otherwise an
//! invariant is missing, or a fault that would reveal the bug.

use anyhow::bail;
use kite_domain::mutation::{Mutation, activate};
use kite_simulation::{run, run_copied};

use crate::{Found, Options, Play, now, search};

/// Within how many short seeds a bug has to be found: at least twice as many as it took. Those that need two rare things
/// together get more.
fn budget(mutation: Mutation) -> u64 {
    match mutation {
        Mutation::OptOutCheckOnlyAtAcceptance
        | Mutation::CancelIgnoredAtHandover
        | Mutation::AcknowledgeBeforeAppend
        | Mutation::LimitOverAllTenants
        | Mutation::PasswordReserveGivenAway
        | Mutation::PauseIgnoredAtHandover
        | Mutation::ApprovalNotAsked
        | Mutation::ApprovalOfAnotherRelay
        | Mutation::NewPolicyUnheeded
        | Mutation::OtherAddressIgnored
        | Mutation::ParkedWorkForgotten => 1_000,
        Mutation::FenceIgnored | Mutation::BreakerNotFollowed => 4_000,
        of_nodes if is_of_nodes(of_nodes) => 1_000,
        Mutation::RouterPlaceTooFar
        | Mutation::DoubtForgottenOnDeferral
        | Mutation::PauseTakenForQuestions
        | Mutation::RefusedRepeatBelieved
        | Mutation::PatienceForgotten
        | Mutation::StaleJobBelieved => 4_000,
        _ => 200,
    }
}

/// Whether it takes several processes, or one that stands still, to find it.
fn is_of_nodes(mutation: Mutation) -> bool {
    matches!(
        mutation,
        Mutation::StaleLotConcluded
            | Mutation::FenceIgnored
            | Mutation::CallAfterItsTime
            | Mutation::JobAcknowledgedFirst
            | Mutation::RateTimesNodes
            | Mutation::UnansweredTooEarly
            | Mutation::BreakerNotFollowed
    )
}

/// Runs seeds under each bug until one fails.
pub(crate) fn run_all(options: &Options) -> anyhow::Result<()> {
    let mut survived = Vec::new();
    let is_wanted =
        |mutation: &Mutation| options.only.as_ref().is_none_or(|name| *name == format!("{mutation:?}"));
    for mutation in Mutation::ALL.into_iter().filter(is_wanted) {
        let began = now();
        activate(Some(mutation));
        let play: Play = match mutation {
            Mutation::RestoredCopyHandsOver
            | Mutation::OriginalsReceiptDropped
            | Mutation::CancelAtCopyBelieved => run_copied,
            _ => run,
        };
        let options = &Options { nodes: is_of_nodes(mutation), ..options.clone() };
        let found = search(options, options.first(), budget(mutation), play);
        let words = match found {
            Found::Failure(seed) => {
                let what = play(&options.case(seed)).err().map(|failure| failure.what);
                let what = what.unwrap_or_else(|| "(not again)".to_owned());
                let line: String = what.lines().next().unwrap_or_default().chars().take(110).collect();
                format!("found after {} seeds: {line}", seed - options.first() + 1)
            }
            Found::Nothing(_) => {
                survived.push(mutation);
                format!("SURVIVED {} seeds", budget(mutation))
            }
        };
        activate(None);
        println!("{mutation:?}: {words} ({:.1} s)", (now() - began).as_secs_f64());
    }
    if survived.is_empty() { Ok(()) } else { bail!("not found: {survived:?}") }
}
