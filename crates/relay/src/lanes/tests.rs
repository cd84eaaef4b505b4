//! Laws of the lanes.

use chrono::{DateTime, Utc};
use kite_domain::ids::{LotId, SendingId};
use kite_domain::sending::MessageClass;
use kite_domain::slug::{RelayId, TenantId};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

use super::QueueLimits;
use super::relay::RelayLanes;
use crate::queue::{Hasten, Job, JobKind, Lease, Put, Taken, Waits, Want, WantedLanes};

fn at(ms: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(1_750_000_000_000 + ms).unwrap()
}

fn job(tenant: &str, class: MessageClass, lot: u32, messages: std::ops::Range<u32>) -> Job {
    Job {
        waits: Default::default(),
        lot: LotId { sending: SendingId(Uuid::from_u128(1)), number: lot },
        tenant: TenantId::from_trusted(tenant),
        class,
        relay: RelayId::from_trusted("alpha"),
        attempt: 1,
        kind: JobKind::Submit,
        messages: messages.collect(),
        not_before_ms: 0,
        cause: None,
    }
}

fn lanes() -> RelayLanes {
    RelayLanes::new(QueueLimits::default())
}

fn lanes_of(jobs_max: usize) -> RelayLanes {
    RelayLanes::new(QueueLimits { jobs_max, ..QueueLimits::default() })
}

fn take_from(
    lanes: &mut RelayLanes,
    messages_max: u32,
    wanted: WantedLanes,
    now: DateTime<Utc>,
) -> Option<Lease> {
    match lanes.take(Want { messages_max, lanes: wanted, now }) {
        Taken::Lease(lease) => Some(lease),
        Taken::Nothing(_) => None,
    }
}

fn take(lanes: &mut RelayLanes, messages_max: u32) -> Option<Lease> {
    take_from(lanes, messages_max, WantedLanes::All, at(0))
}

fn per_tenant(lease: &Lease) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for job in &lease.jobs {
        *counts.entry(job.tenant.as_str()).or_default() += job.messages.len();
    }
    counts
}

#[test]
fn a_small_tenant_is_not_behind_a_large_one() {
    let mut lanes = lanes();
    for lot in 0..100 {
        lanes.put(job("large", MessageClass::Notice, lot, 0..1_000));
    }
    lanes.put(job("small", MessageClass::Notice, 200, 0..10));
    let lease = take(&mut lanes, 100).unwrap();
    assert_eq!(per_tenant(&lease), [("large", 90), ("small", 10)].into());
}

#[test]
fn a_password_goes_before_a_campaign_and_the_campaign_still_moves() {
    let mut lanes = lanes();
    for lot in 0..20 {
        lanes.put(job("shop", MessageClass::Ad, lot, 0..1_000));
        lanes.put(job("shop", MessageClass::Notice, 100 + lot, 0..1_000));
        lanes.put(job("bank", MessageClass::Otp, 200 + lot, 0..1_000));
    }
    let mut served = BTreeMap::new();
    for _ in 0..130 {
        let lease = take(&mut lanes, 100).unwrap();
        *served.entry(lease.class).or_insert(0) += lease.len();
        lanes.settle(lease.id, Vec::new());
    }
    assert_eq!(served[&MessageClass::Otp], 10_000);
    assert!((1_900..=2_100).contains(&served[&MessageClass::Notice]), "{served:?}");
    assert!((900..=1_300).contains(&served[&MessageClass::Ad]), "{served:?}");
}

#[test]
fn the_worker_kept_for_passwords_takes_nothing_else() {
    let mut lanes = lanes();
    lanes.put(job("shop", MessageClass::Ad, 0, 0..10));
    assert_eq!(take_from(&mut lanes, 10, WantedLanes::OtpOnly, at(0)), None);
    lanes.put(job("bank", MessageClass::Otp, 1, 0..1));
    assert_eq!(take_from(&mut lanes, 10, WantedLanes::OtpOnly, at(0)).unwrap().class, MessageClass::Otp);
}

#[test]
fn a_password_that_comes_in_a_campaign_is_next() {
    let mut lanes = lanes();
    for lot in 0..50 {
        lanes.put(job("shop", MessageClass::Ad, lot, 0..1_000));
    }
    for _ in 0..10 {
        take(&mut lanes, 100).unwrap();
    }
    lanes.put(job("bank", MessageClass::Otp, 99, 0..1));
    assert_eq!(take(&mut lanes, 100).unwrap().class, MessageClass::Otp);
}

#[test]
fn what_is_known_is_not_queued_twice() {
    let mut lanes = lanes();
    assert_eq!(lanes.put(job("shop", MessageClass::Notice, 0, 0..10)), Put::Queued);
    assert_eq!(lanes.put(job("shop", MessageClass::Notice, 0, 0..10)), Put::Known);
    assert_eq!(lanes.put(job("shop", MessageClass::Notice, 0, 5..15)), Put::Queued);
    let lease = take(&mut lanes, 100).unwrap();
    assert_eq!((lease.len(), lease.jobs.len()), (15, 1), "one piece for the lot");
}

#[test]
fn follow_ups_wait_for_the_lease_and_a_missing_answer_is_not_missing_during_it() {
    let mut lanes = lanes();
    lanes.put(job("shop", MessageClass::Notice, 0, 0..10));
    let lease = take(&mut lanes, 4).unwrap();
    let unanswered = Job { kind: JobKind::Unanswered, ..job("shop", MessageClass::Notice, 0, 0..4) };
    assert_eq!(lanes.put(unanswered.clone()), Put::Queued);
    assert_eq!(lanes.put(unanswered), Put::Known);
    let inquire = Job { kind: JobKind::Inquire, ..job("shop", MessageClass::Notice, 0, 0..4) };
    assert_eq!(lanes.put(inquire.clone()), Put::Queued);
    assert_eq!(lanes.put(inquire), Put::Known);
    let rest = take(&mut lanes, 100).unwrap();
    assert_eq!((rest.kind, rest.len()), (JobKind::Submit, 6));
    assert_eq!(take(&mut lanes, 100), None);
    assert!(lanes.settle(lease.id, Vec::new()));
    let missing = take(&mut lanes, 100).unwrap();
    assert_eq!((missing.kind, missing.len()), (JobKind::Unanswered, 4));
    assert_eq!(take(&mut lanes, 100), None);
    lanes.settle(missing.id, Vec::new());
    let asked = take(&mut lanes, 100).unwrap();
    assert_eq!((asked.kind, asked.len()), (JobKind::Inquire, 4));
    lanes.settle(rest.id, Vec::new());
    lanes.settle(asked.id, Vec::new());
    assert!(lanes.is_forgotten());
}

#[test]
fn a_delayed_job_comes_when_it_is_due() {
    let mut lanes = lanes();
    let due = at(500).timestamp_millis();
    lanes.put(Job { not_before_ms: due, ..job("shop", MessageClass::Notice, 0, 0..3) });
    let want = |now| Want { messages_max: 10, lanes: WantedLanes::All, now };
    assert_eq!(lanes.take(want(at(499))), Taken::Nothing(Some(at(500))));
    assert_eq!(lanes.depths(), [0, 3, 0]);
    assert!(matches!(lanes.take(want(at(500))), Taken::Lease(lease) if lease.len() == 3));
    assert_eq!(lanes.depths(), [0, 0, 0]);
}

#[test]
fn an_abandoned_lease_comes_back_as_unanswered() {
    let mut lanes = lanes();
    lanes.put(job("shop", MessageClass::Notice, 0, 0..3));
    let lease = take(&mut lanes, 10).unwrap();
    lanes.abandon(lease.id);
    let again = take(&mut lanes, 10).unwrap();
    assert_eq!((again.kind, again.len()), (JobKind::Unanswered, 3));
}

#[test]
fn a_full_lane_says_so_and_the_other_classes_are_not_full() {
    let mut lanes = lanes_of(2);
    assert_eq!(lanes.put(job("shop", MessageClass::Ad, 0, 0..1)), Put::Queued);
    assert_eq!(lanes.put(job("shop", MessageClass::Ad, 1, 0..1)), Put::Queued);
    assert_eq!(lanes.put(job("shop", MessageClass::Ad, 2, 0..1)), Put::Full);
    assert_eq!(lanes.put(job("shop", MessageClass::Ad, 1, 0..1)), Put::Known);
    assert_eq!(lanes.put(job("bank", MessageClass::Otp, 3, 0..1)), Put::Queued);
    let lease = take(&mut lanes, 10).unwrap();
    lanes.settle(lease.id, Vec::new());
    let lease = take(&mut lanes, 10).unwrap();
    // What goes back is never refused.
    lanes.settle(lease.id, lease.jobs);
    assert_eq!(lanes.put(job("shop", MessageClass::Ad, 2, 0..1)), Put::Full);
    assert_eq!(take(&mut lanes, 10).unwrap().len(), 2);
    assert_eq!(lanes.put(job("shop", MessageClass::Ad, 2, 0..1)), Put::Queued);
}

#[test]
fn in_a_full_lane_whoever_has_less_than_its_part_still_finds_a_place() {
    let mut lanes = lanes_of(4);
    for lot in 0..4 {
        assert_eq!(lanes.put(job("shop", MessageClass::Otp, lot, 0..1)), Put::Queued);
    }
    assert_eq!(lanes.put(job("shop", MessageClass::Otp, 4, 0..1)), Put::Full);
    assert_eq!(lanes.put(job("bank", MessageClass::Otp, 5, 0..1)), Put::Queued);
    assert_eq!(lanes.put(job("bank", MessageClass::Otp, 6, 0..1)), Put::Full, "it has its part");
    assert_eq!(lanes.put(job("post", MessageClass::Otp, 7, 0..1)), Put::Queued);
}

#[test]
fn what_one_tenant_puts_off_does_not_drive_out_what_another_does() {
    let mut lanes = lanes_of(2);
    let later = |tenant, lot, ms| Job {
        not_before_ms: at(ms).timestamp_millis(),
        ..job(tenant, MessageClass::Otp, lot, 0..1)
    };
    assert_eq!(lanes.put(later("bank", 0, 90_000)), Put::Queued);
    for lot in 1..4 {
        assert_eq!(
            lanes.put(later("shop", lot, 60_000 - i64::from(lot))),
            if lot == 1 { Put::Queued } else { Put::Full }
        );
    }
    assert_eq!(lanes.put(later("post", 5, 95_000)), Put::Queued, "it has none yet");
    assert_eq!(lanes.delayed_jobs(), [3, 0, 0]);
}

#[test]
fn what_is_put_off_does_not_stand_in_the_way_of_what_is_due() {
    let mut lanes = lanes_of(1);
    let later = |lot, ms| Job {
        not_before_ms: at(ms).timestamp_millis(),
        ..job("shop", MessageClass::Notice, lot, 0..1)
    };
    assert_eq!(lanes.put(later(0, 60_000)), Put::Queued);
    assert_eq!(lanes.put(job("shop", MessageClass::Notice, 1, 0..1)), Put::Queued);
    let lease = take(&mut lanes, 10).unwrap();
    assert_eq!(lease.jobs[0].lot.number, 1);
    // Of those that wait, the next to be due are kept, even when they come back from a lease.
    assert_eq!(lanes.put(later(2, 70_000)), Put::Full);
    assert_eq!(lanes.put(later(3, 50_000)), Put::Queued);
    lanes.settle(lease.id, vec![later(1, 40_000)]);
    assert_eq!(lanes.depths(), [0, 1, 0]);
    assert_eq!(lanes.put(later(3, 50_000)), Put::Full, "it was forgotten for one that is due before it");
    let lease = take_from(&mut lanes, 10, WantedLanes::All, at(60_000)).unwrap();
    assert_eq!(lease.jobs[0].lot.number, 1);
    lanes.settle(lease.id, Vec::new());
    assert!(lanes.is_forgotten());
}

/// What a test does to the lanes.
#[derive(Debug, Clone)]
enum Act {
    Put { lot: u32, first: u32, count: u32, delay_ms: i64 },
    Take { messages_max: u32, otp_only: bool },
    Settle { which: usize, back: bool },
    Abandon { which: usize },
    Hasten { what: Hasten },
    Wait { ms: i64 },
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        (0..8_u32, 0..20_u32, 1..20_u32, prop_oneof![Just(0), 1..200_i64])
            .prop_map(|(lot, first, count, delay_ms)| Act::Put { lot, first, count, delay_ms }),
        (1..30_u32, any::<bool>()).prop_map(|(messages_max, otp_only)| Act::Take { messages_max, otp_only }),
        (0..8_usize, any::<bool>()).prop_map(|(which, back)| Act::Settle { which, back }),
        (0..8_usize).prop_map(|which| Act::Abandon { which }),
        prop_oneof![Just(Hasten::PutOff), Just(Hasten::Questions), Just(Hasten::Everything)]
            .prop_map(|what| Act::Hasten { what }),
        (1..100_i64).prop_map(|ms| Act::Wait { ms }),
    ]
}

proptest! {
    /// Whatever is put (again, where it did not fit) is leased in the end; nobody holds a message that another holds;
    /// nothing stays behind; and the lanes keep their bounds.
    #[test]
    fn nothing_is_lost_and_nothing_is_leased_twice(
        acts in proptest::collection::vec(act(), 1..120),
        jobs_max in prop_oneof![Just(1_usize), 2..6_usize, Just(100_000)],
    ) {
        let mut lanes = lanes_of(jobs_max);
        let mut now_ms = 0;
        let mut put = BTreeSet::new();
        let mut seen = BTreeSet::new();
        let mut leases: Vec<Lease> = Vec::new();
        let check = |leases: &[Lease]| {
            let mut held = BTreeSet::new();
            leases.iter().flat_map(|lease| &lease.jobs).all(|job| {
                job.messages.iter().all(|seq| held.insert((job.lot.number, seq)))
            })
        };
        for act in acts {
            match act {
                Act::Put { lot, first, count, delay_ms } => {
                    // A lot has one class and tenant.
                    let class = MessageClass::ALL[lot as usize % 3];
                    let tenant = format!("t{}", lot % 4);
                    let not_before_ms = if delay_ms > 0 { at(now_ms + delay_ms).timestamp_millis() } else { 0 };
                    lanes.put(Job { not_before_ms, ..job(&tenant, class, lot, first..first + count) });
                    put.extend((first..first + count).map(|seq| (lot, seq)));
                }
                Act::Take { messages_max, otp_only } => {
                    let wanted = if otp_only { WantedLanes::OtpOnly } else { WantedLanes::All };
                    if let Some(lease) = take_from(&mut lanes, messages_max, wanted, at(now_ms)) {
                        prop_assert!(lease.len() <= messages_max as usize && !lease.is_empty());
                        prop_assert!(!otp_only || lease.class == MessageClass::Otp);
                        leases.push(lease);
                        prop_assert!(check(&leases), "{leases:?}");
                    }
                }
                Act::Settle { which, back } if which < leases.len() => {
                    let lease = leases.swap_remove(which);
                    if !back {
                        seen.extend(lease.jobs.iter().flat_map(|job| job.messages.iter().map(|seq| (job.lot.number, seq))));
                    }
                    // What comes back waits for the relay.
                    let later = |job| Job {
                        not_before_ms: at(now_ms + 60_000).timestamp_millis(),
                        waits: Waits::ForTheRelay,
                        ..job
                    };
                    let rest = if back { lease.jobs.into_iter().map(later).collect() } else { Vec::new() };
                    lanes.settle(lease.id, rest);
                }
                Act::Hasten { what } => {
                    lanes.hasten(what);
                }
                Act::Abandon { which } if which < leases.len() => lanes.abandon(leases.swap_remove(which).id),
                Act::Settle { .. } | Act::Abandon { .. } => {}
                Act::Wait { ms } => now_ms += ms,
            }
            // Four tenants, and whoever has less than its part finds a place in a full room, too.
            let most = jobs_max + 4 * (jobs_max / 2).max(1);
            prop_assert!(lanes.delayed_jobs().iter().all(|jobs| *jobs <= most));
        }
        for lease in leases {
            lanes.abandon(lease.id);
        }
        loop {
            while let Some(lease) = take_from(&mut lanes, 50, WantedLanes::All, at(now_ms + 61_000)) {
                seen.extend(lease.jobs.iter().flat_map(|job| job.messages.iter().map(|seq| (job.lot.number, seq))));
                lanes.settle(lease.id, Vec::new());
            }
            // What did not fit is fed again, as often as it takes.
            let Some((lot, seq)) = put.difference(&seen).next().copied() else { break };
            let tenant = format!("t{}", lot % 4);
            let again = job(&tenant, MessageClass::ALL[lot as usize % 3], lot, seq..seq + 1);
            prop_assert!(jobs_max < 100_000, "without a bound nothing is left out");
            prop_assert_eq!(lanes.put(again), Put::Queued);
        }
        prop_assert_eq!(seen, put);
        prop_assert!(lanes.is_forgotten());
        prop_assert_eq!(lanes.depths(), [0, 0, 0]);
    }

    /// While several tenants wait, none gets more of a call than its part, except for the remainder.
    #[test]
    fn tenants_get_equal_parts(tenants in 2..6_u32, messages_max in 10..200_u32) {
        let mut lanes = lanes();
        for tenant in 0..tenants {
            for lot in 0..10 {
                lanes.put(job(&format!("t{tenant}"), MessageClass::Ad, tenant * 10 + lot, 0..1_000));
            }
        }
        let mut served: BTreeMap<String, usize> = BTreeMap::new();
        for _ in 0..20 {
            let lease = take(&mut lanes, messages_max).unwrap();
            for (tenant, count) in per_tenant(&lease) {
                *served.entry(tenant.to_owned()).or_default() += count;
            }
        }
        let most = *served.values().max().unwrap();
        let least = served.values().min().copied().filter(|_| served.len() == tenants as usize).unwrap_or(0);
        prop_assert!(most - least <= messages_max as usize, "{:?}", served);
    }
}

#[test]
fn what_comes_before_its_time_depends_on_who_is_back_and_on_what_it_waits_for() {
    use JobKind::{Inquire, Submit, Unanswered};
    use Waits::{ForItsTime, ForTheRelay};
    let all = [Submit, Inquire, Unanswered].map(|kind| [(kind, ForItsTime), (kind, ForTheRelay)]).concat();
    for (what, expected) in [
        (Hasten::PutOff, vec![(Submit, ForTheRelay), (Inquire, ForTheRelay), (Unanswered, ForTheRelay)]),
        (Hasten::Questions, vec![(Inquire, ForItsTime), (Inquire, ForTheRelay)]),
        (
            Hasten::Everything,
            vec![
                (Submit, ForTheRelay),
                (Inquire, ForItsTime),
                (Inquire, ForTheRelay),
                (Unanswered, ForTheRelay),
            ],
        ),
    ] {
        let mut lanes = lanes();
        for ((kind, waits), lot) in all.iter().copied().zip(0..) {
            let not_before_ms = at(60_000).timestamp_millis();
            lanes.put(Job { kind, waits, not_before_ms, ..job("shop", MessageClass::Notice, lot, 0..1) });
        }
        assert!(lanes.hasten(what));
        assert!(!lanes.hasten(what), "{what:?}: once");
        let mut hastened = Vec::new();
        while let Some(lease) = take(&mut lanes, 100) {
            hastened.extend(lease.jobs.iter().map(|job| all[job.lot.number as usize]));
        }
        hastened.sort_by_key(|one| all.iter().position(|known| known == one));
        assert_eq!(hastened, expected, "{what:?}");
    }
}

#[test]
fn of_a_job_that_comes_back_only_what_another_has_leased_goes_on_waiting() {
    let mut lanes = lanes();
    lanes.put(job("shop", MessageClass::Notice, 0, 0..10));
    let (first, second) = (take(&mut lanes, 4).unwrap(), take(&mut lanes, 6).unwrap());
    lanes.put(Job { kind: JobKind::Unanswered, ..job("shop", MessageClass::Notice, 0, 0..10) });
    lanes.settle(first.id, Vec::new());
    assert_eq!(lanes.depths(), [0, 4, 0], "the rest is with the second");
    let third = take(&mut lanes, 100).unwrap();
    assert_eq!((third.kind, third.len()), (JobKind::Unanswered, 4));
    lanes.settle(third.id, Vec::new());
    assert_eq!(take(&mut lanes, 100), None);
    lanes.settle(second.id, Vec::new());
    let rest = take(&mut lanes, 100).unwrap();
    assert_eq!((rest.kind, rest.len()), (JobKind::Unanswered, 6));
    lanes.settle(rest.id, Vec::new());
    assert!(lanes.is_forgotten());
}

#[test]
fn who_has_nothing_of_the_kind_that_is_taken_keeps_its_turn() {
    let mut lanes = lanes();
    let kinds = [("a", JobKind::Inquire), ("b", JobKind::Unanswered), ("c", JobKind::Unanswered)];
    for ((tenant, kind), lot) in kinds.into_iter().zip(0..) {
        lanes.put(Job { kind, ..job(tenant, MessageClass::Notice, lot, 0..5) });
    }
    let turns: Vec<_> = (0..3)
        .map(|turn| {
            let lease = take(&mut lanes, if turn == 0 { 100 } else { 1 }).unwrap();
            (lease.kind, lease.jobs[0].tenant.to_string(), lease.len())
        })
        .collect();
    let expected = [
        (JobKind::Inquire, "a".to_owned(), 5),
        (JobKind::Unanswered, "b".to_owned(), 1),
        (JobKind::Unanswered, "c".to_owned(), 1),
    ];
    assert_eq!(turns, expected);
}
