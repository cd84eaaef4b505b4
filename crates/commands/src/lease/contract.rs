//! The contract suite: every promise of [`Leases`], as functions that an adapter's tests call.
//!
//! A violated promise panics with what was promised. The adapter decides how time passes.

use chrono::TimeDelta;
use futures::future::{BoxFuture, join_all};
use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;

use super::{Acquired, Granted, Leases, Renewed};

const NO_TIME: TimeDelta = TimeDelta::zero();

/// Leases that nobody holds yet, and their time.
pub struct Ground {
    leases: Arc<dyn Leases>,
    term: TimeDelta,
    pass: Box<dyn Fn(TimeDelta) -> BoxFuture<'static, ()> + Send + Sync>,
}

impl Ground {
    /// They last for this term, and `pass` lets time pass.
    pub fn new<F: Future<Output = ()> + Send + 'static>(
        leases: Arc<dyn Leases>,
        term: TimeDelta,
        pass: impl Fn(TimeDelta) -> F + Send + Sync + 'static,
    ) -> Self {
        Self { leases, term, pass: Box::new(move |time| Box::pin(pass(time))) }
    }

    async fn pass(&self, time: TimeDelta) {
        (self.pass)(time).await;
    }

    /// A part of the term, in hundredths.
    fn part(&self, hundredths: i32) -> TimeDelta {
        self.term * hundredths / 100
    }

    async fn wish(&self, lease: &str, holder: &str, after: TimeDelta) -> Acquired {
        self.leases.acquire(lease, holder, after).await.expect("the leases can be asked")
    }

    /// Takes a lease that is free for it; answers its epoch.
    async fn take(&self, lease: &str, holder: &str) -> u64 {
        match self.wish(lease, holder, NO_TIME).await {
            Acquired::Granted(Granted { epoch, lasts }) => {
                assert_eq!(lasts, self.term, "it lasts for its term");
                epoch
            }
            Acquired::Taken { by, .. } => panic!("{lease} is free for {holder}, and {by} has it"),
        }
    }

    async fn is_taken(&self, lease: &str, holder: &str, after: TimeDelta, by: &str) -> TimeDelta {
        match self.wish(lease, holder, after).await {
            Acquired::Taken { by: told, ends_in } => {
                assert_eq!(told, by, "whoever holds it is told");
                ends_in
            }
            Acquired::Granted(_) => panic!("{by} holds {lease}, and {holder} gets it"),
        }
    }

    async fn renews(&self, lease: &str, holder: &str, epoch: u64) -> bool {
        match self.leases.renew(lease, holder, epoch).await.expect("the leases can be asked") {
            Renewed::Granted(granted) => {
                assert_eq!(granted.epoch, epoch, "a renewal is no change of holder");
                true
            }
            Renewed::Lost => false,
        }
    }

    async fn release(&self, lease: &str, holder: &str, epoch: u64) {
        self.leases.release(lease, holder, epoch).await.expect("the leases can be asked");
    }
}

/// Runs the whole suite, each test on a ground of its own.
pub async fn run_all(make: impl AsyncFn() -> Ground) {
    one_holds_it_and_others_are_told_who(&make().await).await;
    whoever_holds_it_gets_it_again_under_its_epoch(&make().await).await;
    a_renewal_is_for_another_term(&make().await).await;
    what_is_over_is_taken_under_a_higher_epoch(&make().await).await;
    a_taker_that_waits_takes_it_later(&make().await).await;
    what_another_has_taken_is_neither_renewed_nor_given_back(&make().await).await;
    what_is_over_and_nobody_has_taken_is_renewed(&make().await).await;
    what_was_given_back_is_free_at_once_and_its_epoch_grows(&make().await).await;
    an_old_epoch_counts_for_nothing(&make().await).await;
    those_that_are_held_are_told_by_name(&make().await).await;
    of_many_at_once_one_gets_it(&make().await).await;
}

/// It is free, then somebody has it, for a term at the longest.
pub async fn one_holds_it_and_others_are_told_who(ground: &Ground) {
    ground.take("router", "a").await;
    let ends_in = ground.is_taken("router", "b", NO_TIME, "a").await;
    assert!(ends_in > NO_TIME && ends_in <= ground.term, "{ends_in}");
    ground.take("publisher", "b").await;
}

/// Asking twice is no change of holder.
pub async fn whoever_holds_it_gets_it_again_under_its_epoch(ground: &Ground) {
    let epoch = ground.take("router", "a").await;
    ground.pass(ground.part(60)).await;
    assert_eq!(ground.take("router", "a").await, epoch);
    ground.pass(ground.part(60)).await;
    ground.is_taken("router", "b", NO_TIME, "a").await;
}

/// From the moment of the renewal.
pub async fn a_renewal_is_for_another_term(ground: &Ground) {
    let epoch = ground.take("router", "a").await;
    for _ in 0..3 {
        ground.pass(ground.part(60)).await;
        assert!(ground.renews("router", "a", epoch).await, "it is still held");
    }
    ground.pass(ground.part(60)).await;
    ground.is_taken("router", "b", NO_TIME, "a").await;
}

/// A holder that is gone is followed by another.
pub async fn what_is_over_is_taken_under_a_higher_epoch(ground: &Ground) {
    let epoch = ground.take("router", "a").await;
    ground.pass(ground.part(120)).await;
    assert!(ground.take("router", "b").await > epoch);
    ground.is_taken("router", "a", NO_TIME, "b").await;
}

/// What its holder began may still be in progress.
pub async fn a_taker_that_waits_takes_it_later(ground: &Ground) {
    ground.take("share", "a").await;
    ground.pass(ground.part(130)).await;
    let ends_in = ground.is_taken("share", "b", ground.term, "a").await;
    assert!(ends_in > NO_TIME && ends_in <= ground.term, "{ends_in}");
    ground.pass(ground.part(90)).await;
    assert!(matches!(ground.wish("share", "b", ground.term).await, Acquired::Granted(_)), "it has waited");
}

/// A holder that stood still learns that it has lost the lease, and does no harm.
pub async fn what_another_has_taken_is_neither_renewed_nor_given_back(ground: &Ground) {
    let epoch = ground.take("router", "a").await;
    ground.pass(ground.part(120)).await;
    let taken = ground.take("router", "b").await;
    for epoch in [epoch, taken] {
        assert!(!ground.renews("router", "a", epoch).await, "it is another's");
        ground.release("router", "a", epoch).await;
    }
    ground.is_taken("router", "c", NO_TIME, "b").await;
    assert!(ground.renews("router", "b", taken).await);
}

/// Nobody has worked in between.
pub async fn what_is_over_and_nobody_has_taken_is_renewed(ground: &Ground) {
    let epoch = ground.take("router", "a").await;
    ground.pass(ground.part(150)).await;
    assert!(ground.renews("router", "a", epoch).await, "nobody has taken it");
    ground.is_taken("router", "b", NO_TIME, "a").await;
}

/// Even for those who would wait for a lost lease: whoever gives it back has ended what it began.
pub async fn what_was_given_back_is_free_at_once_and_its_epoch_grows(ground: &Ground) {
    let first = ground.take("router", "a").await;
    ground.release("router", "a", first).await;
    let second = match ground.wish("router", "b", ground.term).await {
        Acquired::Granted(granted) => granted.epoch,
        Acquired::Taken { by, .. } => panic!("it was given back, and {by} has it"),
    };
    ground.release("router", "b", second).await;
    let third = ground.take("router", "b").await;
    assert!(first < second && second < third, "{first}, {second}, {third}");
}

/// It may belong to a question that was on its way for long.
pub async fn an_old_epoch_counts_for_nothing(ground: &Ground) {
    let old = ground.take("router", "a").await;
    ground.release("router", "a", old).await;
    assert!(!ground.renews("router", "a", old).await, "it was given back");
    ground.take("router", "a").await;
    assert!(!ground.renews("router", "a", old).await, "it was taken anew");
    ground.release("router", "a", old).await;
    ground.is_taken("router", "b", NO_TIME, "a").await;
}

/// Including those that have expired, but none that was given back. Characters of the prefix have no special meaning.
pub async fn those_that_are_held_are_told_by_name(ground: &Ground) {
    ground.take("relay/a_b/1", "x").await;
    ground.pass(ground.part(120)).await;
    ground.take("relay/a_b/0", "y").await;
    let gone = ground.take("relay/a_b/2", "y").await;
    ground.release("relay/a_b/2", "y", gone).await;
    ground.take("relay/a%b/0", "y").await;
    ground.take("relay/acb/0", "y").await;
    let held = ground.leases.held("relay/a_b/").await.expect("the leases can be asked");
    let told: Vec<_> =
        held.iter().map(|held| (&*held.lease, &*held.holder, held.ends_in > NO_TIME)).collect();
    assert_eq!(told, [("relay/a_b/0", "y", true), ("relay/a_b/1", "x", false)]);
}

/// No two at the same time.
pub async fn of_many_at_once_one_gets_it(ground: &Ground) {
    let names: Vec<String> = (0..8).map(|number| format!("holder-{number}")).collect();
    let wishes = join_all(names.iter().map(|name| ground.wish("router", name, NO_TIME))).await;
    let granted = wishes.iter().filter(|wish| matches!(wish, Acquired::Granted(_))).count();
    assert_eq!(granted, 1, "{wishes:?}");
    let holders: BTreeSet<_> = wishes
        .iter()
        .filter_map(|wish| match wish {
            Acquired::Taken { by, .. } => Some(by),
            Acquired::Granted(_) => None,
        })
        .collect();
    assert_eq!(holders.len(), 1, "all are told of the same one");
}
