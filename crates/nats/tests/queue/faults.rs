//! Processes die, stand still and stop; servers are killed, and streams deleted.

use kite_domain::sending::MessageClass;
use kite_nats::{Connection, DeadLetters};
use kite_relay::WorkQueue;
use kite_relay::queue::WantedLanes;
use kite_testkit::nats::{Cluster, Installation};
use kite_testkit::wait::wait_for;

use crate::ground::{Node, WITHIN, at, job, jobs, limits, server};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_process_had_comes_to_another() {
    let server = server().await;
    let both = at(vec![server.url()]);
    let publisher = Node::start(&both, true).await;
    let dies = Node::start(&both, false).await;
    publisher.put(job(1, MessageClass::Otp, 0..5)).await;
    let lease = dies.take(WantedLanes::All).await;
    let survives = Node::start(&both, false).await;
    dies.kill();
    assert_eq!(survives.take(WantedLanes::All).await.jobs, lease.jobs);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_process_works_on_for_long_comes_to_nobody_else() {
    let server = server().await;
    let both = at(vec![server.url()]);
    let publisher = Node::start(&both, true).await;
    let works = Node::start(&both, false).await;
    publisher.put(job(1, MessageClass::Otp, 0..5)).await;
    let lease = works.take(WantedLanes::All).await;
    let other = Node::start(&both, false).await;
    // Longer than the server waits for a word about it.
    let alpha = &lease.jobs[0].relay;
    let until = crate::ground::in_ms(10_000);
    wait_for("a long call", WITHIN, async || {
        let taken = other.queue.take(alpha, crate::ground::want(WantedLanes::All)).await.unwrap();
        assert!(matches!(taken, kite_relay::queue::Taken::Nothing(_)), "{taken:?}");
        (crate::ground::in_ms(0) > until).then_some(())
    })
    .await
    .unwrap();
    works.settle(&lease, Vec::new()).await;
    works.stop().await;
    assert_eq!(left(&both).await, 0);
}

/// Parcels in the stream.
async fn left(server: &kite_nats::Server) -> u64 {
    let letters = DeadLetters::open(server, "test", limits(1)).await.unwrap();
    letters.counts().await.unwrap()[0]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_stops_gives_back_what_it_has_not_begun_and_ends_what_it_has() {
    let server = server().await;
    let both = at(vec![server.url()]);
    let publisher = Node::start(&both, true).await;
    let stops = Node::start(&both, false).await;
    for number in 0..20 {
        publisher.put(job(number, MessageClass::Notice, 0..50)).await;
    }
    let lease = stops.take(WantedLanes::All).await;
    let ended = tokio::join!(stops.stop_while(lease.clone())).0;
    assert!(ended);
    let other = Node::start(&both, false).await;
    let mut others = Vec::new();
    for number in 0..20 {
        if lease.jobs.iter().all(|job| job.lot.number != number) {
            others.push(job(number, MessageClass::Notice, 0..50));
        }
    }
    assert_eq!(other.work_off(others).await, 0, "what was settled came again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stream_stays_shallow_and_a_password_passes_a_campaign() {
    let server = server().await;
    let both = at(vec![server.url()]);
    let publisher = Node::start(&both, true).await;
    for number in 0..100 {
        publisher.put(job(number, MessageClass::Ad, 0..1_000)).await;
    }
    // Two seconds of 200 a second, in parcels of 50.
    wait_for("the stream to be as full as it gets", WITHIN, async || (left(&both).await == 8).then_some(()))
        .await
        .unwrap();
    publisher.put(job(200, MessageClass::Otp, 0..1)).await;
    wait_for("the password to be in it", WITHIN, async || (left(&both).await == 9).then_some(()))
        .await
        .unwrap();
    let alpha = job(0, MessageClass::Ad, 0..1).relay;
    assert_eq!(publisher.queue.waiting(&alpha), [0, 0, 100_000 - 400]);
    let worker = Node::start(&both, false).await;
    assert_eq!(worker.take(WantedLanes::OtpOnly).await.class, MessageClass::Otp);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_window_opens_although_work_keeps_coming_and_what_is_pulled_does_not_fill_it() {
    let server = server().await;
    let both = at(vec![server.url()]);
    let publisher = Node::start(&both, true).await;
    let worker = Node::start(&both, false).await;
    for number in 0..40 {
        publisher.put(job(number, MessageClass::Ad, 0..50)).await;
    }
    let alpha = job(0, MessageClass::Ad, 0..1).relay;
    // Nothing is settled: what is put off stays with the process.
    let mut number = 1_000;
    wait_for("all to be pulled", WITHIN, async || {
        number += 1;
        publisher.put(job(number, MessageClass::Otp, 0..1)).await;
        let taken = worker.queue.take(&alpha, crate::ground::want(WantedLanes::All)).await.unwrap();
        drop(taken);
        let [_, _, ads] = publisher.queue.waiting(&alpha);
        (ads == 0 && left_to_pull(&both).await == 0).then_some(())
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_notice_passes_a_window_that_was_full_of_passwords() {
    let server = server().await;
    let both = at(vec![server.url()]);
    let publisher = Node::start(&both, true).await;
    // As many as fit, and none that waits.
    publisher.put(job(0, MessageClass::Otp, 0..400)).await;
    let alpha = job(0, MessageClass::Otp, 0..1).relay;
    let is_out = async || (publisher.queue.waiting(&alpha) == [0; 3]).then_some(());
    wait_for("the passwords to be published", WITHIN, is_out).await.unwrap();
    publisher.put(job(1, MessageClass::Notice, 0..1)).await;
    let worker = Node::start(&both, false).await;
    let mut passwords = Vec::new();
    while passwords.iter().map(kite_relay::queue::Lease::len).sum::<usize>() < 400 {
        passwords.push(worker.take(WantedLanes::OtpOnly).await);
    }
    assert_eq!(worker.take(WantedLanes::All).await.class, MessageClass::Notice);
}

/// Parcels of advertisements that nobody has pulled.
async fn left_to_pull(server: &kite_nats::Server) -> u64 {
    Connection::open(server).await.unwrap().not_pulled("TEST_DISPATCH", "alpha_ad").await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_and_comes_back_loses_nothing_that_it_acknowledged() {
    let mut server = server().await;
    let both = at(vec![server.url()]);
    let publisher = Node::start(&both, true).await;
    let all = jobs(0..40, MessageClass::Notice);
    for job in &all[..20] {
        publisher.put(job.clone()).await;
    }
    wait_for("them to be published", WITHIN, async || {
        (publisher.queue.waiting(&all[0].relay) == [0; 3]).then_some(())
    })
    .await
    .unwrap();
    server.kill().unwrap();
    // They wait with the publisher.
    for job in &all[20..] {
        publisher.put(job.clone()).await;
    }
    server.start_again().await.unwrap();
    let worker = Node::start(&both, false).await;
    worker.work_off(all).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_full_stream_does_not_take_waits_with_the_publisher() {
    let server = server().await;
    let both = at(vec![server.url()]);
    // Room for fewer parcels than the window has.
    let small = kite_nats::StreamLimits { jobs_bytes_max: 1_500, ..limits(1) };
    let publisher = Node::start_with(&both, true, small).await;
    let all: Vec<_> = (0..20).map(|number| job(number, MessageClass::Notice, 0..50)).collect();
    for job in &all {
        publisher.put(job.clone()).await;
    }
    let until = crate::ground::in_ms(1_500);
    wait_for("it to be tried again and again", WITHIN, async || {
        (crate::ground::in_ms(0) > until).then_some(())
    })
    .await
    .unwrap();
    assert!((1..8).contains(&left(&both).await), "{} parcels fit", left(&both).await);
    let worker = Node::start_with(&both, false, small).await;
    worker.work_off(all).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_deleted_is_made_again_and_takes_what_is_put() {
    let server = server().await;
    let both = at(vec![server.url()]);
    let publisher = Node::start(&both, true).await;
    let worker = Node::start(&both, false).await;
    publisher.put(job(1, MessageClass::Notice, 0..1)).await;
    let lease = worker.take(WantedLanes::All).await;
    worker.settle(&lease, Vec::new()).await;
    Connection::open(&both).await.unwrap().delete_stream("TEST_DISPATCH").await.unwrap();
    // What was in it comes from the log.
    let all = jobs(10..15, MessageClass::Notice);
    for job in &all {
        publisher.put(job.clone()).await;
    }
    worker.work_off(all).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_goes_on_when_the_leader_of_the_stream_dies() {
    let installation = Installation::from_environment().unwrap();
    let mut cluster = Cluster::start(&installation, 3).await.unwrap();
    let all_of_it = at(cluster.urls());
    let publisher = Node::start_with(&all_of_it, true, limits(3)).await;
    let worker = Node::start_with(&all_of_it, false, limits(3)).await;
    let all = jobs(0..60, MessageClass::Notice);
    for job in &all[..30] {
        publisher.put(job.clone()).await;
    }
    worker.work_off(all[..10].to_vec()).await;
    let leader = cluster.stream_leader("TEST_DISPATCH").await.unwrap();
    cluster[leader].kill().unwrap();
    for job in &all[30..] {
        publisher.put(job.clone()).await;
    }
    worker.work_off(all[30..].to_vec()).await;
    cluster[leader].start_again().await.unwrap();
    cluster.wait_until_current().await.unwrap();
    publisher.put(job(100, MessageClass::Otp, 0..1)).await;
    assert_eq!(worker.take(WantedLanes::OtpOnly).await.len(), 1);
}
