use BreakerPhase::{Passing, Probing, Tripped};
use proptest::prelude::*;

use super::*;
use crate::sending::MessageClass;

fn at(ms: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(1_750_000_000_000 + ms).unwrap()
}

const NO_ANSWER: Observation = Observation::NoAnswer { messages: 1 };

fn answered(worked: u32, faulted: u32) -> Observation {
    Observation::Answered { worked, faulted }
}

/// A breaker that tripped at `at(0)` for five seconds.
fn tripped(settings: &BreakerSettings) -> (Breaker, BreakerChange) {
    let mut breaker = Breaker::new(at(0));
    for _ in 1..settings.failed_calls_in_a_row {
        assert_eq!(breaker.observe(NO_ANSWER, settings, at(0)), None);
    }
    let change = breaker.observe(NO_ANSWER, settings, at(0)).unwrap();
    (breaker, change)
}

fn probing(settings: &BreakerSettings) -> Breaker {
    let (mut breaker, _) = tripped(settings);
    assert_eq!(breaker.tick(at(5_000)).unwrap().to, Probing);
    breaker
}

#[test]
fn calls_in_a_row_without_an_answer_trip_it() {
    let settings = BreakerSettings::default();
    let (mut breaker, change) = tripped(&settings);
    assert_eq!((change.from, change.to, change.until), (Passing, Tripped, Some(at(5_000))));
    assert_eq!(change.reason, "5 calls in a row without an answer; no messages for 5 s");
    assert_eq!(breaker.permit(10, &settings, at(4_999)), Permit::NotBefore(at(5_000)));
    assert_eq!(breaker.due_at(), Some(at(5_000)));
}

#[test]
fn one_answer_breaks_the_row() {
    let settings = BreakerSettings { outcomes_min: 1_000, ..BreakerSettings::default() };
    let mut breaker = Breaker::new(at(0));
    for round in 0..20 {
        for _ in 0..4 {
            assert_eq!(breaker.observe(NO_ANSWER, &settings, at(round)), None);
        }
        assert_eq!(breaker.observe(answered(0, 1), &settings, at(round)), None);
    }
    assert_eq!(breaker.permit(7, &settings, at(30)), Permit::All);
}

#[test]
fn a_share_of_faults_trips_it_only_from_enough_outcomes() {
    let settings = BreakerSettings::default();
    let mut breaker = Breaker::new(at(0));
    assert_eq!(breaker.observe(answered(0, 49), &settings, at(0)), None, "49 outcomes are too few to judge");
    let change = breaker.observe(answered(10, 0), &settings, at(1_000)).unwrap();
    assert_eq!(
        change.reason,
        "83.0 % of the last 59 outcomes within 60 s were its fault; no messages for 5 s"
    );
}

#[test]
fn receipts_that_blame_the_relay_count() {
    let settings = BreakerSettings::default();
    let mut breaker = Breaker::new(at(0));
    assert_eq!(breaker.observe(answered(60, 0), &settings, at(0)), None);
    let change = breaker.observe(Observation::Receipts { worked: 0, faulted: 60 }, &settings, at(100));
    assert_eq!(change.map(|change| change.to), Some(Tripped));
}

#[test]
fn faults_leave_the_window() {
    let settings = BreakerSettings::default();
    let mut breaker = Breaker::new(at(0));
    assert_eq!(breaker.observe(answered(0, 49), &settings, at(0)), None);
    assert_eq!(breaker.observe(answered(60, 1), &settings, at(65_000)), None);
    assert_eq!(breaker.window_counts(), (60, 1));
}

#[test]
fn probes_begin_small_grow_and_end_in_passing() {
    let settings = BreakerSettings::default();
    let mut breaker = probing(&settings);
    assert_eq!(breaker.permit(100, &settings, at(5_001)), Permit::Probes(1));
    assert_eq!(breaker.permit(100, &settings, at(5_002)), Permit::ProbesOnTheirWay(at(65_001)));
    assert_eq!(breaker.observe(answered(1, 0), &settings, at(5_100)), None);
    assert_eq!(breaker.permit(100, &settings, at(5_101)), Permit::Probes(3));
    assert_eq!(breaker.observe(answered(3, 0), &settings, at(5_200)), None);
    assert_eq!(breaker.permit(100, &settings, at(5_201)), Permit::Probes(9));
    assert_eq!(breaker.observe(answered(9, 0), &settings, at(5_300)), None);
    assert_eq!(breaker.permit(7, &settings, at(5_301)), Permit::Probes(7));
    let change = breaker.observe(answered(7, 0), &settings, at(5_400)).unwrap();
    assert_eq!((change.to, change.reason.as_str()), (Passing, "20 of 20 probes worked"));
    assert_eq!(breaker.permit(1_000, &settings, at(5_401)), Permit::All);
}

#[test]
fn a_failed_probe_trips_it_for_twice_as_long() {
    let settings = BreakerSettings::default();
    let mut breaker = probing(&settings);
    let mut now = 5_000;
    for expected_ms in [10_000, 20_000, 40_000, 80_000, 160_000, 300_000, 300_000] {
        assert_eq!(breaker.permit(1, &settings, at(now)), Permit::Probes(1));
        let change = breaker.observe(NO_ANSWER, &settings, at(now)).unwrap();
        assert_eq!((change.from, change.to), (Probing, Tripped));
        assert_eq!(change.until, Some(at(now + expected_ms)));
        now += expected_ms;
        assert_eq!(breaker.tick(at(now - 1)), None);
        assert_eq!(breaker.tick(at(now)).unwrap().to, Probing);
    }
}

#[test]
fn a_few_faults_among_many_probes_are_forgiven() {
    let settings = BreakerSettings::default();
    let mut breaker = probing(&settings);
    assert_eq!(breaker.observe(answered(15, 1), &settings, at(5_100)), None);
    let change = breaker.observe(answered(5, 0), &settings, at(5_200)).unwrap();
    assert_eq!(change.reason, "20 of 21 probes worked");
    let mut other = probing(&settings);
    let change = other.observe(answered(0, 1), &settings, at(5_100)).unwrap();
    assert!(change.reason.starts_with("1 of 1 probes were failed by the relay"), "{}", change.reason);
}

#[test]
fn lost_probes_do_not_stop_probing_for_ever() {
    let settings = BreakerSettings::default();
    let mut breaker = probing(&settings);
    assert_eq!(breaker.permit(1, &settings, at(6_000)), Permit::Probes(1));
    assert_eq!(breaker.permit(1, &settings, at(65_999)), Permit::ProbesOnTheirWay(at(66_000)));
    assert_eq!(breaker.permit(1, &settings, at(66_000)), Permit::Probes(1));
}

#[test]
fn after_a_calm_time_the_back_off_starts_over() {
    let settings = BreakerSettings::default();
    let mut breaker = probing(&settings);
    breaker.observe(answered(20, 0), &settings, at(6_000)).unwrap();
    let mut soon = breaker.clone();
    let trip = |breaker: &mut Breaker, ms: i64| {
        (0..5).find_map(|_| breaker.observe(NO_ANSWER, &settings, at(ms))).unwrap()
    };
    assert_eq!(trip(&mut soon, 7_000).until, Some(at(17_000)), "soon again: twice as long");
    assert_eq!(trip(&mut breaker, 606_000).until, Some(at(611_000)), "after ten calm minutes: as the first");
}

#[test]
fn late_answers_change_nothing_while_tripped() {
    let settings = BreakerSettings::default();
    let (mut breaker, _) = tripped(&settings);
    let before = breaker.clone();
    assert_eq!(breaker.observe(answered(1_000, 0), &settings, at(100)), None);
    assert_eq!(breaker.observe(NO_ANSWER, &settings, at(200)), None);
    assert_eq!(breaker, before);
}

#[test]
fn what_was_not_waited_out_makes_the_next_trip_no_longer() {
    let settings = BreakerSettings::default();
    let mut breaker = probing(&settings);
    let second = breaker.observe(NO_ANSWER, &settings, at(5_000)).unwrap();
    assert_eq!(second.until, Some(at(15_000)));
    let password = Awaiting { class: MessageClass::Otp, expires_at: at(60_000) };
    let from = breaker.probes_from(&[password], at(5_000)).unwrap();
    assert!(from < at(15_000), "a password does not wait so long: {from}");
    assert_eq!(breaker.tick_awaited(&[password], from).unwrap().to, Probing);
    let third = breaker.observe(NO_ANSWER, &settings, from).unwrap();
    assert_eq!(third.until, Some(from + TimeDelta::seconds(10)));
}

#[test]
fn each_slice_leaves_the_window_by_itself() {
    let settings = BreakerSettings { failed_calls_in_a_row: 100, ..BreakerSettings::default() };
    let mut breaker = Breaker::new(at(0));
    for (ms, worked) in [(0, 1), (20_000, 2), (40_000, 4)] {
        assert_eq!(breaker.observe(answered(worked, 0), &settings, at(ms)), None);
    }
    assert_eq!(breaker.window_counts(), (7, 0));
    assert_eq!(breaker.observe(answered(8, 0), &settings, at(70_000)), None);
    assert_eq!(breaker.window_counts(), (14, 0), "the first slice is too old");
    assert_eq!(breaker.observe(answered(16, 0), &settings, at(69_000)), None);
    assert_eq!(breaker.window_counts(), (30, 0), "a clock that stepped back counts into the newest slice");
}

#[test]
fn settings_may_name_only_what_differs() {
    let settings: BreakerSettings = serde_json::from_str(r#"{"failed_calls_in_a_row":2}"#).unwrap();
    assert_eq!(settings, BreakerSettings { failed_calls_in_a_row: 2, ..BreakerSettings::default() });
    assert!(serde_json::from_str::<BreakerSettings>(r#"{"failed_calls":2}"#).is_err());
}

fn any_observation() -> impl Strategy<Value = Observation> {
    prop_oneof![
        (0_u32..40, 0_u32..40).prop_map(|(worked, faulted)| Observation::Answered { worked, faulted }),
        (1_u32..40).prop_map(|messages| Observation::NoAnswer { messages }),
        (0_u32..40, 0_u32..40).prop_map(|(worked, faulted)| Observation::Receipts { worked, faulted }),
    ]
}

proptest! {
    #[test]
    fn any_history_moves_only_along_the_arrows_and_folds_back(
        steps in prop::collection::vec((any_observation(), 0_i64..20_000, 0_u32..10), 1..120),
    ) {
        let settings = BreakerSettings::default();
        let mut breaker = Breaker::new(at(0));
        let mut folded = Breaker::new(at(0));
        let mut now = 0;
        for (observation, pause, wanted) in steps {
            now += pause;
            let mut changes = Vec::from_iter(breaker.tick(at(now)));
            let permit = breaker.permit(wanted, &settings, at(now));
            prop_assert_eq!(permit == Permit::All, breaker.phase() == Passing);
            if let Permit::Probes(granted) = permit {
                prop_assert!(granted > 0 && granted <= wanted && granted <= settings.probes_max);
            }
            changes.extend(breaker.observe(observation, &settings, at(now)));
            for change in &changes {
                prop_assert!(matches!(
                    (change.from, change.to),
                    (Passing, Tripped) | (Tripped, Probing) | (Probing, Tripped | Passing)
                ));
                prop_assert_eq!(change.until.is_some(), change.to == Tripped);
                let stored = serde_json::to_string(change).unwrap();
                folded.apply(&serde_json::from_str(&stored).unwrap());
            }
            prop_assert_eq!(folded.phase(), breaker.phase());
            prop_assert_eq!(folded.due_at(), breaker.due_at());
            prop_assert_eq!(folded.back_off_ms, breaker.back_off_ms);
            let stored = serde_json::to_string(&breaker).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Breaker>(&stored).unwrap(), &breaker);
        }
    }
}
