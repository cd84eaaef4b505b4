//! When parked receipts are tried again: at once, then each time their wait has doubled, until they are given up.
//!
//! Most of them are about messages that nobody here knows, because somebody else uses the account, too. They must
//! neither hide a receipt that only came early nor cost a look into the log again and again. So there are rounds.
//! Each round goes over the receipts of a relay in the order in which they were parked, in pages, at its own distance
//! behind the present. Nothing is kept for a single receipt, and no number of foreign receipts stops a round.
//!
//! A receipt that a round misses, because the read model showed it late, is tried in the next round.
//!
//! In a copy that has taken its original's place, everything that was parked before then counts as parked at that
//! moment: nobody tried it while the copy waited, however long, and its message may be known only now.

use chrono::{DateTime, Duration, Utc};
use kite_domain::receipt::{ParkedReceipt, ParkedStretch, SettledReceipt};
use kite_domain::slug::RelayId;
use std::collections::BTreeMap;

use crate::open_work::OpenWork;
use crate::receipts::ReceiptBook;
use crate::worker::TickError;

/// How often it looks, and how far the second round is behind the present.
const LOOK_INTERVAL: Duration = Duration::seconds(30);
/// How long a receipt is kept for a message that nobody knows: the longest deadline on record is 80 h.
const KEPT_MAX: Duration = Duration::hours(81);
/// At no distance, at 30 s, at twice that, and so on to 68 h.
const ROUNDS: u32 = 15;
/// How many receipts of a relay one round tries in one look.
const PAGE: usize = 2_048;
/// How many of them at once: each may hold a lot.
const CHUNK: usize = 256;

/// How far a round is behind the present.
fn distance(round: u32) -> Duration {
    match round.checked_sub(1) {
        None => Duration::zero(),
        Some(doublings) => LOOK_INTERVAL * (1 << doublings),
    }
}

/// The ages of receipts, of which none was parked in 1970: by when they were parked, or by when the copy was settled.
#[derive(Debug, Clone, Copy)]
struct Ages {
    now: DateTime<Utc>,
    settled_at: DateTime<Utc>,
}

impl Ages {
    fn new(now: DateTime<Utc>, settled_at: Option<DateTime<Utc>>) -> Self {
        Self { now, settled_at: settled_at.unwrap_or(DateTime::UNIX_EPOCH) }
    }

    /// From when those were parked that are at most so old.
    fn parked_from(self, age: Duration) -> DateTime<Utc> {
        let from = self.now - age;
        if from < self.settled_at { DateTime::UNIX_EPOCH } else { from }
    }

    /// Until when those were parked that are at least so old.
    fn parked_until(self, age: Duration) -> DateTime<Utc> {
        let until = self.now - age;
        if until < self.settled_at { DateTime::UNIX_EPOCH } else { until }
    }
}

/// Where a round continues.
#[derive(Debug)]
struct Round {
    distance: Duration,
    from: DateTime<Utc>,
    after: Option<SettledReceipt>,
}

impl Round {
    /// The rounds of a relay: together they begin with everything that is not too old, each receipt in one of them.
    fn all(ages: Ages) -> Vec<Self> {
        let begin = |round| ages.parked_from(distance(round + 1).min(KEPT_MAX));
        (0..ROUNDS).map(|round| Self { distance: distance(round), from: begin(round), after: None }).collect()
    }

    fn stretch(&self, relay: &RelayId, ages: Ages) -> ParkedStretch {
        let until = ages.parked_until(self.distance);
        ParkedStretch { relay: relay.clone(), from: self.from, after: self.after.clone(), until }
    }

    fn pass(&mut self, tried: &[ParkedReceipt], until: DateTime<Utc>) {
        match tried.last().filter(|_| tried.len() >= PAGE) {
            Some(last) => {
                self.from = last.parked_at;
                self.after = Some((&last.receipt).into());
            }
            None if until >= self.from => {
                self.from = until + Duration::milliseconds(1);
                self.after = None;
            }
            None => {}
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct ParkedRetries {
    looked_at: Option<DateTime<Utc>>,
    rounds: BTreeMap<RelayId, Vec<Round>>,
}

impl ParkedRetries {
    /// Tries what is due, unless it was looked a moment ago.
    pub(crate) async fn look(
        &mut self,
        open_work: &dyn OpenWork,
        receipts: &ReceiptBook,
        now: DateTime<Utc>,
        settled_at: Option<DateTime<Utc>>,
    ) -> Result<(), TickError> {
        if self.looked_at.is_some_and(|last| (now - last).abs() < LOOK_INTERVAL) {
            return Ok(());
        }
        self.looked_at = Some(now);
        let ages = Ages::new(now, settled_at);
        let relays = open_work.parked_relays().await?;
        self.rounds.retain(|relay, _| relays.contains(relay));
        let mut failure = None;
        for relay in relays {
            let rounds = self.rounds.entry(relay.clone()).or_insert_with(|| Round::all(ages));
            let look = RelayLook { open_work, receipts, relay, ages };
            // One relay's trouble is not the others'.
            if let Err(error) = look.go(rounds).await {
                failure = Some(error);
            }
        }
        failure.map_or(Ok(()), Err)
    }
}

/// One look at one relay's receipts.
struct RelayLook<'a> {
    open_work: &'a dyn OpenWork,
    receipts: &'a ReceiptBook,
    relay: RelayId,
    ages: Ages,
}

impl RelayLook<'_> {
    async fn go(&self, rounds: &mut [Round]) -> Result<(), TickError> {
        for round in rounds {
            let stretch = round.stretch(&self.relay, self.ages);
            let until = stretch.until;
            let tried = self.try_again(stretch).await?;
            round.pass(&tried, until);
        }
        // What is too old goes away by that, so there is no place to remember.
        let too_old = ParkedStretch {
            relay: self.relay.clone(),
            from: DateTime::UNIX_EPOCH,
            after: None,
            until: self.ages.parked_until(KEPT_MAX),
        };
        self.try_again(too_old).await.map(drop)
    }

    async fn try_again(&self, stretch: ParkedStretch) -> Result<Vec<ParkedReceipt>, TickError> {
        let parked = self.open_work.parked_receipts(stretch, PAGE).await?;
        for some in parked.chunks(CHUNK) {
            self.receipts.retry_parked(&self.relay, some, self.ages.parked_until(KEPT_MAX)).await?;
        }
        Ok(parked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rounds_reach_to_where_receipts_are_given_up() {
        assert!(distance(ROUNDS - 1) < KEPT_MAX && KEPT_MAX < distance(ROUNDS));
        let now = DateTime::UNIX_EPOCH + Duration::days(20_000);
        let rounds = Round::all(Ages::new(now, None));
        assert_eq!((rounds[0].distance, rounds[1].distance), (Duration::zero(), LOOK_INTERVAL));
        // Each begins where the next one, further behind, ends.
        assert!(rounds.windows(2).all(|pair| pair[0].from == now - pair[1].distance));
        assert_eq!(rounds[rounds.len() - 1].from, now - KEPT_MAX);
    }

    #[test]
    fn in_a_copy_what_was_parked_before_it_was_settled_is_as_old_as_that() {
        let settled_at = DateTime::UNIX_EPOCH + Duration::days(20_000);
        let parked_at = settled_at - Duration::days(4);
        let relay = RelayId::parse("alpha").unwrap();
        for age in [Duration::zero(), LOOK_INTERVAL, Duration::seconds(31), Duration::hours(70)] {
            let ages = Ages::new(settled_at + age, Some(settled_at));
            let all = Round::all(ages);
            let tries = |round: &&Round| {
                let stretch = round.stretch(&relay, ages);
                stretch.from <= parked_at && parked_at <= stretch.until
            };
            let trying: Vec<Duration> = all.iter().filter(tries).map(|round| round.distance).collect();
            let [distance] = trying[..] else { panic!("{age}: {trying:?}") };
            assert!(
                distance <= age && (age < distance * 2 || distance <= LOOK_INTERVAL),
                "{age}: {distance}"
            );
            assert!(ages.parked_until(KEPT_MAX) < parked_at, "it is not given up");
        }
        assert!(parked_at < Ages::new(settled_at + KEPT_MAX, Some(settled_at)).parked_until(KEPT_MAX));
    }
}
