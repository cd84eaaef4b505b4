//! Steps, checkpoints, parked events, waiting.

use kite_domain::sending::MessageClass;
use std::time::Duration;

use super::{Bench, at, run, sending_id, tenant};
use crate::{ProjectError, Projected};

#[test]
fn a_step_goes_to_the_end_of_the_log_and_then_idles() {
    let mut bench = Bench::new();
    assert_eq!(bench.step(2), Projected::Idle { position: 0 });
    bench.accept(1, 3, MessageClass::Notice);
    assert_eq!(bench.step(2), Projected::Advanced { position: 2, events: 2, has_more: false });
    assert_eq!(bench.step(2), Projected::Idle { position: 2 });
    // What a model does not look at moves its checkpoint all the same.
    assert_eq!(bench.step(0), Projected::Advanced { position: 2, events: 0, has_more: false });
}

#[test]
fn a_large_backlog_is_taken_in_pieces() {
    let mut bench = Bench::new();
    for _ in 0..2_500 {
        bench.append_raw(
            "tenant-acme",
            at(0),
            vec![("tenant-created", 1, br#"{"tenant":"a","name":"A"}"#.to_vec())],
        );
    }
    assert_eq!(bench.step(0), Projected::Advanced { position: 2_000, events: 2_000, has_more: true });
    assert!(matches!(bench.step(0), Projected::Advanced { position: 2_500, events: 500, .. }));
}

#[test]
fn an_event_that_cannot_be_read_is_parked_and_the_rest_goes_on() {
    let mut bench = Bench::new();
    bench.append_raw("lot-x", at(0), vec![("messages-routed", 1, b"{\"routes\":7}".to_vec())]);
    let id = bench.accept(1, 1, MessageClass::Notice);
    bench.project();
    assert!(bench.models.delivery.sending(&tenant(), id).unwrap().is_some());
    let parked = bench.models.parked(0, 9).unwrap();
    let [parked] = &parked.iter().find(|(model, _)| *model == "delivery").unwrap().1[..] else { panic!() };
    assert_eq!((parked.position, parked.kind.as_str()), (1, "messages-routed"));
    assert!(parked.reason.contains("cannot be read: invalid type"), "{parked:?}");
}

#[test]
fn of_two_projectors_the_one_that_was_overtaken_ends_or_follows() {
    let mut bench = Bench::new();
    let mut others = bench.models.projectors(bench.store.clone()).unwrap();
    bench.accept(1, 1, MessageClass::Notice);
    bench.project();
    let overtaken = run(others[2].step(at(0)));
    match bench.has_files() {
        true => {
            let error = overtaken.unwrap_err();
            assert!(matches!(error, ProjectError::TakenOver { expected: 0 }), "{error}");
        }
        // There others may take its place, so it learns where the model stands.
        false => {
            assert!(matches!(overtaken.unwrap(), Projected::Advanced { events: 0, .. }));
            assert_eq!(run(others[2].step(at(0))).unwrap(), Projected::Idle { position: 2 });
        }
    }
    let total = bench.models.delivery.totals().unwrap();
    assert_eq!((total.counts.messages, total.sendings), (1, 1));
}

#[test]
fn a_projector_that_fails_shows_how_far_it_falls_behind() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let metrics = recorder.handle();
    let shown = |measure: &str| {
        let text = metrics.render();
        let line = format!("kite_projector_lag_{measure}{{projector=\"delivery\"}} ");
        let value = text.lines().find_map(|shown| shown.strip_prefix(&line));
        value.unwrap().parse::<f64>().unwrap()
    };
    let mut bench = metrics::with_local_recorder(&recorder, Bench::new);

    // Given a projector that has caught up,
    bench.accept(1, 1, MessageClass::Notice);
    bench.step_at(2, at(10)).unwrap();
    bench.step_at(2, at(20)).unwrap();
    assert_eq!((shown("events"), shown("seconds")), (0.0, 0.0));

    // when it can write no more, then it shows how far it is behind, and more with time;
    bench.refuse("delivery", "UPDATE", "checkpoint", "NEW.id = 1", "no room");
    bench.accept(2, 1, MessageClass::Notice);
    assert!(matches!(bench.step_at(2, at(520)), Err(ProjectError::Apply { .. })));
    assert_eq!((shown("events"), shown("seconds")), (2.0, 0.5));
    bench.accept(3, 1, MessageClass::Notice);
    assert!(bench.step_at(2, at(3_020)).is_err());
    assert_eq!((shown("events"), shown("seconds")), (4.0, 3.0));

    // also when it is started again;
    metrics::with_local_recorder(&recorder, || bench.restart());
    assert!(bench.step_at(2, at(4_001)).is_err());
    assert_eq!((shown("events"), shown("seconds")), (4.0, 4.001));

    // and when it can write again, that it has caught up.
    bench.refuse_no_more("delivery", "checkpoint");
    bench.step_at(2, at(5_000)).unwrap();
    bench.step_at(2, at(5_001)).unwrap();
    assert_eq!((shown("events"), shown("seconds")), (0.0, 0.0));
}

#[test]
fn a_model_that_looks_at_none_of_the_news_is_not_behind() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let metrics = recorder.handle();
    let mut bench = metrics::with_local_recorder(&recorder, Bench::new);
    for number in 1..=3 {
        bench.accept(number, 1, MessageClass::Notice);
        bench.step_at(0, at(number as i64 * 1_000)).unwrap();
        let text = metrics.render();
        assert!(text.contains("kite_projector_lag_seconds{projector=\"address_book\"} 0\n"), "{text}");
    }
}

#[test]
fn a_caller_can_wait_for_its_own_write() {
    let mut bench = Bench::new();
    bench.accept(1, 1, MessageClass::Notice);
    let delivery = bench.models.delivery.clone();
    assert!(!run(delivery.wait_for(2, Duration::from_millis(1))));
    let mut runner = bench.runners().remove(2);
    let reached = run(async {
        let stepping = async { runner.step(at(0)).await.unwrap() };
        tokio::join!(delivery.wait_for(2, Duration::from_secs(10)), stepping).0
    });
    assert!(reached && delivery.position() == 2);
    assert!(delivery.sending(&tenant(), sending_id(1)).unwrap().is_some());
}
