//! Reduces a failing case: as few steps as possible, each as small as possible, that still fail.

use crate::case::{Case, CaseStep};
use crate::operation::Operation;
use crate::{Failure, run};

/// How many runs are spent on it at most.
const RUNS_MAX: usize = 1_500;

/// The smallest case that was found to fail in the same way, and how it fails.
pub fn shrink(failure: Failure) -> Failure {
    let mut best = failure;
    let mut runs = 0;
    loop {
        let before = best.case.clone();
        cut(&mut best, &mut runs);
        simplify(&mut best, &mut runs);
        if best.case == before || runs >= RUNS_MAX {
            return best;
        }
    }
}

/// Whether two failures are of one kind: the words of the first line without digits are the same. Ids, times and
/// counts all contain digits.
fn is_same(left: &str, right: &str) -> bool {
    kind(left).eq(kind(right))
}

fn kind(what: &str) -> impl Iterator<Item = &str> {
    /// What comes after is about this case.
    const WORDS: usize = 8;
    let line = what.lines().next().unwrap_or_default();
    // Which law it is counts, though it is a figure.
    let law = line.strip_prefix("law ").and_then(|rest| rest.split(':').next());
    let words = line.split_whitespace().filter(|word| !word.contains(|letter: char| letter.is_ascii_digit()));
    law.into_iter().chain(words.take(WORDS))
}

fn attempt(best: &mut Failure, steps: Vec<CaseStep>, runs: &mut usize) -> bool {
    if *runs >= RUNS_MAX {
        return false;
    }
    *runs += 1;
    let case = Case { steps, ..best.case.clone() };
    match run(&case) {
        Err(failure) if is_same(&failure.what, &best.what) => {
            *best = *failure;
            true
        }
        _ => false,
    }
}

/// Leaves out ever smaller runs of steps (delta debugging).
fn cut(best: &mut Failure, runs: &mut usize) {
    let mut size = best.case.steps.len().div_ceil(2).max(1);
    loop {
        let mut from = 0;
        while from < best.case.steps.len() {
            let mut steps = best.case.steps.clone();
            steps.drain(from..(from + size).min(steps.len()));
            if !attempt(best, steps, runs) {
                from += size;
            }
        }
        if size == 1 {
            return;
        }
        size = size.div_ceil(2);
    }
}

/// Makes each step smaller where that changes nothing.
fn simplify(best: &mut Failure, runs: &mut usize) {
    for place in 0..best.case.steps.len() {
        for candidate in smaller(best.case.steps[place]) {
            let mut steps = best.case.steps.clone();
            steps[place] = candidate;
            attempt(best, steps, runs);
        }
    }
}

fn smaller(step: CaseStep) -> Vec<CaseStep> {
    let mut candidates = Vec::new();
    for polls in [0, step.polls / 2, step.polls.saturating_sub(1)] {
        if polls != step.polls {
            candidates.push(CaseStep { polls, ..step });
        }
    }
    if let Operation::Send(send) = step.op {
        for recipients in [1, 2, send.recipients / 2] {
            if recipients > 0 && recipients < send.recipients {
                candidates
                    .push(CaseStep { op: Operation::Send(crate::SendOrder { recipients, ..send }), ..step });
            }
        }
        candidates
            .push(CaseStep { op: Operation::Send(crate::SendOrder { failover: None, ..send }), ..step });
        candidates.push(CaseStep { op: Operation::Send(crate::SendOrder { key: None, ..send }), ..step });
    }
    candidates
}

#[cfg(test)]
mod tests {
    use super::is_same;

    #[test]
    fn failures_of_one_kind_differ_in_figures_only() {
        let stuck = |id: &str, seconds: u32| {
            format!("message {id} is Unknown at beta for {seconds} s although all is calm\n  at position 7")
        };
        assert!(is_same(&stuck("019ca9444ff3-2", 13), &stuck("fabcde000000-11", 40)));
        assert!(!is_same(&stuck("019ca9444ff3-2", 13), "message 019ca9444ff3-2 is Routed at beta for 13 s"));
        assert!(!is_same("law 3: 5 of 6", "law 4: 5 of 6"));
    }
}
