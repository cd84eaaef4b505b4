//! Questions: who may ask how many.

use kite_domain::sending::MessageClass;
use kite_testkit::postgres::Database;
use kite_testkit::wait::wait_until;
use std::time::Duration;

use super::super::run;
use super::{ask, bench};

const SOON: Duration = Duration::from_secs(60);

#[test]
fn users_who_wait_for_slow_answers_leave_turns_to_the_write_side() {
    let mut bench = bench();
    bench.accept(1, 3, MessageClass::Notice);
    bench.project();
    let url = bench.database().url();
    let own = bench.models.of_write_side();
    let waits_for = async |what: &str, sessions: usize, granted: &str| {
        let locks = format!(
            "DO $$ BEGIN ASSERT (SELECT count(*) FROM pg_locks WHERE relation = 'kite_delivery_1.totals'::regclass
             AND {granted}) = {sessions}; END $$"
        );
        wait_until(what, SOON, async || Database::attempt(&url, &locks).await.is_ok()).await.unwrap();
    };
    std::thread::scope(|scope| {
        let holding = "BEGIN; LOCK TABLE kite_delivery_1.totals; SELECT pg_sleep(15)";
        let slow = scope.spawn(|| run(Database::attempt(&url, holding)));
        run(waits_for("the lock", 1, "granted"));
        // As many as there are connections, and more.
        let users = [(); 6].map(|()| scope.spawn(|| bench.models.delivery.totals()));
        run(waits_for("users to wait", 4, "NOT granted"));
        let loads = own.work.workload().unwrap().loads;
        assert_eq!(loads.len(), 1);
        assert!(!users.iter().any(|user| user.is_finished()), "it was answered when users were");
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                   WHERE datname = current_database() AND query LIKE 'BEGIN; LOCK TABLE%'";
        ask(&url, end);
        slow.join().unwrap().unwrap_err();
        users.into_iter().for_each(|user| drop(user.join().unwrap()));
    });
}
