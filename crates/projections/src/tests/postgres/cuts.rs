//! The connection is lost at every place of a projector's step, and of a query.

use kite_domain::ids::LotId;
use kite_domain::sending::MessageClass;
use kite_event_store::EventStore;
use kite_testkit::postgres::Database;
use kite_testkit::proxy::{Place, Proxy, Way};
use kite_testkit::wait::wait_until;
use std::sync::Arc;
use std::time::Duration;

use super::super::delivery::{receipts, routed, submitted};
use super::super::{Bench, at, route, run, seqs};
use super::ask;
use crate::directory::DirectoryModel;
use crate::register::{Of, Registered};
use crate::{ProjectError, Projected, replay};

/// Read models that are reached through something that can be cut.
fn over_proxy() -> (Bench, Proxy) {
    let database = run(Database::make());
    let proxy = Proxy::start(database.address()).unwrap();
    let address = proxy.address().to_string();
    let url = database.url_at(&address);
    let mut bench = Bench::in_postgres_at(database, url);
    leave_alone_who_follow(&bench, &proxy, 1);
    let runners = bench.models.projectors(bench.store.clone()).unwrap();
    *bench.runners() = runners;
    (bench, proxy)
}

/// So many follow the positions from now on, and are not meant.
fn leave_alone_who_follow(bench: &Bench, proxy: &Proxy, count: usize) {
    let follow = format!(
        "(SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'SELECT (SELECT position%') = {count}"
    );
    // One that only opens them looks in the same way, and is gone a moment later.
    let follow = format!(
        "DO $$ BEGIN ASSERT {follow}; PERFORM pg_sleep(0.2), pg_stat_clear_snapshot(); ASSERT {follow}; END $$"
    );
    let are_there = async || Database::attempt(&bench.database().url(), &follow).await.is_ok();
    run(wait_until("who follow the positions", Duration::from_secs(60), are_there)).unwrap();
    proxy.leave_alone();
}

/// Something for each kind of statement of the delivery model: rows that are new, that change, and that are read again.
fn tell(bench: &mut Bench, number: u128) {
    let id = bench.accept(number, 3, MessageClass::Notice);
    let stream = LotId { sending: id, number: 0 }.stream();
    bench.append(&stream, at(10), vec![routed(vec![route("alpha", 1, seqs(0..3))])]);
    bench.append(&stream, at(20), vec![submitted("alpha", 1, seqs(0..3), 20)]);
    if let Some(earlier) = number.checked_sub(1).filter(|earlier| *earlier > 0) {
        let stream = LotId { sending: super::super::sending_id(earlier), number: 0 }.stream();
        bench.append(&stream, at(30), vec![receipts("alpha", 1, vec![0, 1], 40)]);
    }
}

/// Steps until there is nothing left; how many steps failed.
fn project(bench: &mut Bench, place: usize) -> u32 {
    let mut failed = 0;
    loop {
        match bench.step_at(place, at(0)) {
            Ok(Projected::Idle { .. }) => return failed,
            Ok(Projected::Advanced { .. }) => {}
            Err(ProjectError::Apply { .. }) => {
                failed += 1;
                assert!(failed < 100, "it does not recover");
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn wherever_a_step_is_cut_the_next_ones_come_to_the_same_end() {
    let (mut bench, proxy) = over_proxy();
    let mut number = 0;
    for model in [2, 3] {
        for (way, is_connected) in
            [(Way::There, true), (Way::There, false), (Way::Back, true), (Way::Back, false)]
        {
            let (mut places, mut failed) = (0, 0);
            // Of the second model only between its messages.
            let places_of = |place: &Place| model == 2 || matches!(place, Place::After(_));
            for place in Place::all().filter(places_of) {
                number += 1;
                tell(&mut bench, number);
                if !is_connected {
                    // The last word of a connection that was given up before may be what is cut.
                    proxy.cut_at(Way::There, Place::After(0));
                    while bench.step_at(model, at(0)).is_ok() {
                        tell(&mut bench, {
                            number += 1;
                            number
                        });
                        proxy.cut_at(Way::There, Place::After(0));
                    }
                }
                proxy.cut_at(way, place);
                failed += project(&mut bench, model);
                let was_beyond = proxy.spare();
                places += 1;
                if was_beyond {
                    break;
                }
            }
            assert!(
                places > 10 && failed > places / 3,
                "{way:?} {is_connected}: {places} places, {failed} failed"
            );
        }
    }
    bench.project();
    let report = run(replay::verify(bench.store.clone(), bench.storage())).unwrap();
    assert!(report.is_clean(), "{report}");
    assert!(bench.models.parked_counts().unwrap().iter().all(|(_, parked)| *parked == 0));
}

#[test]
fn a_question_whose_connection_is_lost_is_asked_again() {
    let (mut bench, proxy) = over_proxy();
    bench.accept(1, 3, MessageClass::Notice);
    bench.project();
    for _ in 0..20 {
        assert_eq!(bench.models.delivery.totals().unwrap().counts.messages, 3);
        proxy.cut();
    }
    proxy.close();
    bench.models.delivery.totals().unwrap_err();
    proxy.open();
    assert_eq!(bench.models.delivery.totals().unwrap().counts.messages, 3);
}

/// The generation of the directory that is shown, not asked over the proxy.
fn shown(bench: &Bench) -> i64 {
    let sql = "SELECT generation FROM kite_read_models.models WHERE name = 'directory'";
    ask(&bench.database().url(), sql)[0].get(0)
}

/// Without any pause.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().start_paused(true).build().unwrap().block_on(future)
}

#[test]
fn wherever_a_rebuild_is_cut_it_goes_on_unless_it_had_not_begun() {
    let (mut bench, proxy) = over_proxy();
    tell(&mut bench, 1);
    bench.project();
    let storage = bench.storage();
    leave_alone_who_follow(&bench, &proxy, 2);
    let store: Arc<dyn EventStore> = bench.store.clone();
    for way in [Way::There, Way::Back] {
        let (mut has_gone_on, mut survived) = (false, 0);
        for place in (0..).map(Place::After) {
            let before = shown(&bench);
            // The server may find a moment later that the one before has ended.
            let is_free = "NOT EXISTS (SELECT FROM pg_locks JOIN pg_database ON pg_database.oid = database
                           WHERE locktype = 'advisory' AND datname = current_database())";
            let is_free = async || bench.database().is_so(is_free).await;
            run(wait_until("the lock", Duration::from_secs(60), is_free)).unwrap();
            proxy.leave_alone();
            proxy.cut_at(way, place);
            let rebuilt = at_once(Of::<DirectoryModel>::NEW.rebuild(&store, &storage));
            let was_beyond = proxy.spare();
            let after = shown(&bench);
            match rebuilt {
                Ok(report) => {
                    assert_eq!(report.position, bench.head());
                    assert_ne!(before, after, "{way:?} {place:?}");
                    (has_gone_on, survived) = (true, survived + 1);
                }
                Err(error) => {
                    assert!(!has_gone_on, "{way:?} {place:?}: {error:?}");
                    assert!(error.to_string().contains("can be run again"), "{error}");
                    assert_eq!(before, after, "{way:?} {place:?}");
                }
            }
            assert_eq!(bench.models.directory.in_force().unwrap().unwrap().events.len(), 0);
            if was_beyond {
                break;
            }
        }
        assert!(survived > 50, "{way:?}: {survived}");
    }
    tell(&mut bench, 2);
    bench.project();
    let report = run(replay::verify(bench.store.clone(), bench.storage())).unwrap();
    assert!(report.is_clean(), "{report}");
}
