//! The rule that picks the relay of one slot: among the relays that would not run ahead of their quota, the one
//! whose next message is due first.
//!
//! With weights w, their sum W and x messages routed so far, the (x+1)-th message of a relay belongs in the window of
//! slots `floor(x·W/w) + 1 ..= ceil((x+1)·W/w)`. Before it, the relay would be a whole message ahead; after it, a whole
//! message behind. The windows of unit jobs on one machine can always be met (the total density is exactly one), and
//! serving the earliest deadline meets them (R. Tijdeman, "The chairman assignment problem", 1980; G. Steiner and
//! S. Yeomans, "Level schedules for mixed-model, just-in-time processes", 1993). So |x − n·w/W| < 1 after every slot n.
//!
//! Largest deficit first (smooth weighted round-robin) was not taken: with five relays or more it can leave one a whole
//! message behind; a test below shows it.
//!
//! Windows are moved on by addition alone: a slot costs one pass over the relays, no division and no allocation.

/// Where the next message of one relay belongs, and how to get to the one after.
///
/// All weights are divided by their greatest common divisor, so a period is as long as the sum of the weights.
struct Window {
    index: u16,
    weight: u64,
    /// The last slot before the window opens: `floor(x·W/w)`.
    opens_after: u64,
    /// `floor((x+1)·W/w)` and its remainder, of which the deadline is the ceiling.
    closes_floor: u64,
    closes_remainder: u64,
    deadline: u64,
    /// Whole part and remainder of `W/w`: what one message moves the window by.
    step: u64,
    step_remainder: u64,
}

impl Window {
    fn new(index: u16, weight: u64, total: u64, routed: u64) -> Self {
        let opens = u128::from(routed) * u128::from(total) / u128::from(weight);
        let closes = (u128::from(routed) + 1) * u128::from(total);
        let closes_floor = (closes / u128::from(weight)) as u64;
        let closes_remainder = (closes % u128::from(weight)) as u64;
        Self {
            index,
            weight,
            opens_after: opens as u64,
            closes_floor,
            closes_remainder,
            deadline: closes_floor + u64::from(closes_remainder > 0),
            step: total / weight,
            step_remainder: total % weight,
        }
    }

    fn advance(&mut self) {
        self.opens_after = self.closes_floor;
        self.closes_floor += self.step;
        self.closes_remainder += self.step_remainder;
        if self.closes_remainder >= self.weight {
            self.closes_remainder -= self.weight;
            self.closes_floor += 1;
        }
        self.deadline = self.closes_floor + u64::from(self.closes_remainder > 0);
    }
}

/// The running sequence of one set of weights, started at any slot of its period.
pub(super) struct Sequence {
    windows: Vec<Window>,
    period: u64,
    slot: u64,
}

impl Sequence {
    /// Starts after `slot` messages of the current period, of which `routed[i]` went to entry i.
    ///
    /// `weights` are divided by their greatest common divisor and sum to `period`; `slot < period`.
    pub(super) fn resume(weights: &[u64], period: u64, slot: u64, routed: &[u64]) -> Self {
        let mut windows: Vec<Window> = weights
            .iter()
            .zip(routed)
            .enumerate()
            .filter(|(_, (weight, _))| **weight > 0)
            .map(|(index, (weight, routed))| Window::new(index as u16, *weight, period, *routed))
            .collect();
        // A stable sort: equal weights stay in the order of the set, which settles every tie.
        windows.sort_by_key(|window| std::cmp::Reverse(window.weight));
        Self { windows, period, slot }
    }

    /// Gives the next slot away and says to which entry of the set.
    pub(super) fn next(&mut self) -> u16 {
        if self.slot == self.period {
            self.start_over();
        }
        self.slot += 1;
        let mut chosen = 0;
        let mut earliest = u64::MAX;
        for (position, window) in self.windows.iter().enumerate() {
            // The windows stand by falling weight, so a strict comparison gives a tie to the larger weight.
            if window.opens_after < self.slot && window.deadline < earliest {
                earliest = window.deadline;
                chosen = position;
            }
        }
        let window = &mut self.windows[chosen];
        window.advance();
        window.index
    }

    /// At the end of a period every relay has exactly its weight, so the next period starts from nothing.
    fn start_over(&mut self) {
        self.slot = 0;
        for window in &mut self.windows {
            *window = Window::new(window.index, window.weight, self.period, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    /// Largest deficit first: what most balancers do.
    fn largest_deficit_routes(weights: &[i64], slots: i64) -> Vec<i64> {
        let total: i64 = weights.iter().sum();
        let mut routed = vec![0; weights.len()];
        for slot in 1..=slots {
            let chosen = (0..weights.len())
                .max_by_key(|&i| (slot * weights[i] - routed[i] * total, std::cmp::Reverse(i)))
                .unwrap();
            routed[chosen] += 1;
        }
        routed
    }

    #[test]
    fn largest_deficit_first_breaks_the_law_with_five_relays() {
        let routed = largest_deficit_routes(&[1, 21, 33, 1, 1], 38);
        // The third relay is due 38 × 33/57 = 22 messages and has got 21: a whole message behind.
        assert_eq!(routed[2], 21);
    }
}
