//! Switches one deliberate bug on after another. Each must be found within its budget of seeds; otherwise an
//! invariant is missing, or a fault that would reveal the bug.

use anyhow::bail;
use kite_domain::mutation::{Mutation, activate};
use kite_simulation::{run, run_copied};
use strum::VariantArray;

use crate::{Found, Options, Play, now, search};

/// In which cases a bug is looked for, and within how many short seeds it has to be found: at least twice as many as it took.
struct Hunt {
    play: Play,
    /// It takes several processes, or one that stands still, to find it.
    nodes: bool,
    seeds: u64,
}

/// Those that need two rare things together get more seeds.
fn hunt(mutation: Mutation) -> Hunt {
    let alone = |seeds| Hunt { play: run, nodes: false, seeds };
    let nodes = |seeds| Hunt { play: run, nodes: true, seeds };
    let copied = |seeds| Hunt { play: run_copied, nodes: false, seeds };
    match mutation {
        Mutation::RestoredCopyHandsOver
        | Mutation::OriginalsReceiptDropped
        | Mutation::CancelAtCopyBelieved => copied(200),
        Mutation::StaleLotConcluded
        | Mutation::CallAfterItsTime
        | Mutation::JobAcknowledgedFirst
        | Mutation::RateTimesNodes
        | Mutation::UnansweredTooEarly => nodes(1_000),
        Mutation::FenceIgnored | Mutation::BreakerNotFollowed => nodes(4_000),
        Mutation::ClaimNotFinished => nodes(1_000),
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
        | Mutation::ParkedWorkForgotten => alone(1_000),
        Mutation::RouterPlaceTooFar
        | Mutation::DoubtForgottenOnDeferral
        | Mutation::PauseTakenForQuestions
        | Mutation::RefusedRepeatBelieved
        | Mutation::PatienceForgotten
        | Mutation::StaleJobBelieved => alone(4_000),
        _ => alone(200),
    }
}

/// Runs seeds under each bug until one fails.
pub(crate) fn run_all(options: &Options) -> anyhow::Result<()> {
    let mut survived = Vec::new();
    let is_wanted =
        |mutation: &Mutation| options.only.as_ref().is_none_or(|name| *name == format!("{mutation:?}"));
    for mutation in Mutation::VARIANTS.iter().copied().filter(is_wanted) {
        let began = now();
        activate(Some(mutation));
        let Hunt { play, nodes, seeds } = hunt(mutation);
        let options = &Options { nodes, ..options.clone() };
        let found = search(options, options.first(), seeds, play);
        let words = match found {
            Found::Failure(seed) => {
                let what = play(&options.case(seed)).err().map(|failure| failure.what);
                let what = what.unwrap_or_else(|| "(not again)".to_owned());
                let line: String = what.lines().next().unwrap_or_default().chars().take(110).collect();
                format!("found after {} seeds: {line}", seed - options.first() + 1)
            }
            Found::Nothing(_) => {
                survived.push(mutation);
                format!("SURVIVED {seeds} seeds")
            }
        };
        activate(None);
        println!("{mutation:?}: {words} ({:.1} s)", (now() - began).as_secs_f64());
    }
    if survived.is_empty() { Ok(()) } else { bail!("not found: {survived:?}") }
}
