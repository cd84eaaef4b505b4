//! Objectives that minimise one figure: the best relay takes everything, and relays that are almost as good share
//! with it.

use super::relay_figures::Candidate;
use super::score::Scored;
use super::{Merits, number_format};

/// The figure to minimise, per delivered message.
pub(super) struct Least {
    /// How much of it a relay needs.
    pub(super) of: fn(&Scored) -> u64,
    /// An amount as people read it.
    pub(super) said: fn(u64) -> String,
    /// Who follows whom when this relay comes first.
    pub(super) order: fn(&Scored) -> &[usize],
    /// How much more than the best is as good as it, in basis points.
    pub(super) tie_basis_points: u32,
    /// What a message does with it: `costs`.
    pub(super) verb: &'static str,
    /// What it is, of one message: `cost of`.
    pub(super) noun: &'static str,
    /// What is part of it: `failover`.
    pub(super) included: &'static str,
}

impl Least {
    pub(super) fn merits(
        &self,
        candidates: &[Candidate<'_>],
        contenders: &[usize],
        scored: &[Scored],
    ) -> Option<Merits> {
        let Self { verb, noun, included, .. } = self;
        let of = |index: usize| (self.of)(&scored[index]);
        let by_amount =
            |&index: &usize| (of(index), std::cmp::Reverse(scored[index].parts.success_basis_points));
        let best = contenders.iter().copied().min_by_key(by_amount)?;
        let least = (self.said)(of(best));
        let limit = u128::from(of(best)) * (10_000 + u128::from(self.tie_basis_points));
        let mut merits = Merits::none(candidates.len(), (self.order)(&scored[best]).to_vec());
        for &index in contenders {
            let own = (self.said)(of(index));
            let ties = u128::from(of(index)) * 10_000 <= limit;
            merits.scores[index] = u128::from(ties);
            merits.reasons[index] = match () {
                () if index == best => {
                    format!("a delivered message {verb} {own}, {included} included: the least")
                }
                () if ties => format!("a delivered message {verb} {own}, as good as the least"),
                () => format!("a delivered message {verb} {own}, more than the {least} of the best"),
            };
        }
        merits.summary = format!(
            "{} has the least expected {noun} a delivered message, {least} with {included} ({})",
            candidates[best].figures.relay,
            number_format::measured(candidates[best].figures),
        );
        Some(merits)
    }
}
