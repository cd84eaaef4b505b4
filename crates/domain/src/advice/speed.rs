//! The speed objective: the least expected time for a delivered message, failover and losses included.
//!
//! The time of a relay is its median and its 95th percentile, mixed; a message that it fails costs the time until the
//! next relay may try, and a lost one a fixed penalty. The fastest takes everything, relays within five per cent share
//! with it, and a relay without a minimum sample gets a small share to be measured.

use super::least::Least;
use super::relay_figures::Candidate;
use super::score::Scored;
use super::{AdviceSettings, Merits, number_format};

pub(super) fn merits(
    candidates: &[Candidate<'_>],
    contenders: &[usize],
    scored: &[Scored],
    settings: &AdviceSettings,
) -> Option<Merits> {
    Least {
        of: |scored| scored.parts.time_per_delivered_ms,
        said: number_format::duration,
        order: |scored| &scored.speed_order,
        tie_basis_points: settings.speed_tie_basis_points,
        verb: "takes",
        noun: "time for",
        included: "failures",
    }
    .merits(candidates, contenders, scored)
}

#[cfg(test)]
mod tests {
    use super::super::samples::{figures, settings, shares};
    use super::super::{Role, advise};
    use crate::policy::PolicyObjective;

    #[test]
    fn the_fastest_takes_everything() {
        let relays = [
            figures("alpha").sent(1_000, 990).times(3_000, 8_000).build(),
            figures("beta").sent(1_000, 990).times(1_000, 2_000).build(),
        ];
        let advice = advise(&PolicyObjective::Speed, &relays, &[], &settings());
        assert_eq!(shares(&advice), [("alpha", 0), ("beta", 10_000)]);
        assert_eq!(advice.order[0].as_str(), "beta");
    }

    #[test]
    fn a_fast_relay_that_loses_messages_is_slow() {
        let relays = [
            figures("alpha").sent(1_000, 850).times(500, 900).build(),
            figures("beta").sent(1_000, 990).times(1_000, 2_000).build(),
        ];
        let advice = advise(&PolicyObjective::Speed, &relays, &[], &settings());
        assert_eq!(shares(&advice), [("alpha", 0), ("beta", 10_000)]);
    }

    #[test]
    fn a_relay_below_the_minimum_sample_is_only_measured() {
        let relays = [
            figures("alpha").sent(1_000, 990).times(3_000, 8_000).build(),
            figures("beta").sent(49, 49).times(10, 20).build(),
        ];
        let advice = advise(&PolicyObjective::Speed, &relays, &[], &settings());
        assert_eq!(shares(&advice), [("alpha", 9_800), ("beta", 200)]);
        assert_eq!(advice.entries[1].role, Role::Measuring);
        assert!(advice.entries[1].reasons[1].contains("49"), "{:?}", advice.entries[1].reasons);
    }

    #[test]
    fn nobody_measured_means_even_shares() {
        let relays =
            [figures("alpha").build(), figures("beta").sent(10, 10).build(), figures("gamma").build()];
        let advice = advise(&PolicyObjective::Speed, &relays, &[], &settings());
        assert_eq!(shares(&advice), [("alpha", 3_400), ("beta", 3_300), ("gamma", 3_300)]);
    }
}
