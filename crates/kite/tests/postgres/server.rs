//! The server of everything that processes share is killed, taken over from by a standby, or silent; or a process stands still in the
//! middle of what it does there. Nobody is started again, and everything comes to its end.

use anyhow::ensure;
use kite_testkit::postgres::{Installation, Server};
use kite_testkit::wait::{free_address, wait_until, wait_until_ready};

use super::ground::{Ground, Other};
use super::{SOON, with_seed};
use crate::support::{House, Load};

/// Messages to be accepted before the load stops, and how many of them before something happens.
const MESSAGES: u64 = 1_500;
const BEFORE: u64 = MESSAGES / 3;
/// Ends of the process in the middle of calls: the answer to a call that is in progress when the server goes may not be recorded.
const STOPS: u64 = 1;

/// Processes that have the log, the leases and the read models in common.
struct Family {
    /// Takes requests, routes and projects.
    house: House,
    /// Hands over, and can project.
    working: Other,
    /// Answers questions about what the others project.
    asked: Other,
    urls: [String; 2],
}

impl Family {
    /// Starts them. The configuration of each follows from its roles.
    async fn gather(seed: u64, settings: impl Fn(&str) -> String) -> anyhow::Result<Self> {
        let roles = "\"api\", \"router\", \"timekeeper\", \"projector\"";
        let house = House::build_as(seed, &settings(roles)).await?;
        let working = Other::start(&settings("\"publisher\", \"worker\", \"projector\""))?;
        // It has no `/readyz`, and would not begin without the server.
        let works = |line: &str| (line.contains("publisher") && line.contains("works")).then_some(());
        working.process.wait_for_line("that it works", SOON, works)?;
        let address = free_address()?;
        let asked = Other::start(&format!("listen = \"{address}\"\n{}", settings("\"api\"")))?;
        let urls = [house.address(), address].map(|address| format!("http://{address}"));
        wait_until_ready(&format!("{}/readyz", urls[1]), SOON).await?;
        Ok(Self { house, working, asked, urls })
    }

    /// Messages come in, and go on to.
    async fn begin(&self, seed: u64) -> anyhow::Result<Load> {
        Load::start(&self.house, MESSAGES, seed)?.wait_for_accepted(&self.house, BEFORE).await
    }

    /// Waits until `/readyz` of all who answer has this status.
    async fn wait_for_readiness(&self, status: u16) -> anyhow::Result<()> {
        for url in &self.urls {
            self.house.wait_for_readiness(url, status).await?;
        }
        Ok(())
    }

    /// Whoever asks or sends is told to come back.
    async fn refuses(&self) -> anyhow::Result<()> {
        for url in &self.urls {
            self.house.is_told_to_come_back(url).await?;
        }
        Ok(())
    }

    /// Waits until everything is final, and judges it.
    async fn end(self, load: Load) -> anyhow::Result<()> {
        self.wait_for_readiness(200).await?;
        let accepted = load.finish(&self.house).await?;
        self.house.judge(&accepted, STOPS).await?;
        self.working.end()?;
        self.asked.end()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_and_started_again_is_gone_on_with() -> anyhow::Result<()> {
    with_seed(async |seed| {
        let mut server = Server::start(&Installation::from_environment()?, &[])?;
        let ground = Ground::on(&server).await?;
        let address = server.address().to_string();
        let family = Family::gather(seed, |roles| ground.shared_settings_at(&address, roles)).await?;
        let load = family.begin(seed).await?;
        server.kill()?;
        family.refuses().await?;
        family.wait_for_readiness(503).await?;
        family.refuses().await?;
        server.start_again()?;
        family.end(load).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_synchronous_standby_that_takes_over_is_gone_on_with() -> anyhow::Result<()> {
    with_seed(async |seed| {
        let mut primary = Server::start(&Installation::from_environment()?, &[])?;
        let ground = Ground::on(&primary).await?;
        let standby = primary.synchronous_standby().await?;
        let ports = [&primary, &standby].map(|server| server.address().port());
        let either = format!("localhost:{},localhost:{}", ports[0], ports[1]);
        let family = Family::gather(seed, |roles| ground.shared_settings_at(&either, roles)).await?;
        let load = family.begin(seed).await?;
        primary.kill()?;
        // Nothing is written to a standby, nor read from it.
        family.refuses().await?;
        standby.promote()?;
        family.end(load).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_says_nothing_for_a_while_is_gone_on_with() -> anyhow::Result<()> {
    with_seed(async |seed| {
        let ground = Ground::make().await?;
        let family = Family::gather(seed, |roles| ground.shared_settings(roles)).await?;
        let load = family.begin(seed).await?;
        ground.proxy.hold();
        family.wait_for_readiness(503).await?;
        // Connections are given up by then, and new ones are not answered either.
        let is_given_up = |line: &str| {
            line.contains("nobody can be followed: the server does not say anything").then_some(())
        };
        family.asked.process.wait_for_line("that it has given up", SOON, is_given_up)?;
        family.refuses().await?;
        ground.proxy.release();
        family.end(load).await
    })
    .await
}

/// So it is while a projector is in the middle of a transaction, and thinks or is gone.
const IN_THE_MIDDLE: &str = "SELECT count(*) > 0 FROM pg_locks JOIN pg_class ON pg_class.oid = relation JOIN pg_stat_activity USING (pid)
     WHERE datname = current_database() AND state = 'idle in transaction' AND relname = 'checkpoint' AND mode = 'RowExclusiveLock'";
/// So it is once somebody projects all read models.
const ALL_PROJECTED: &str =
    "SELECT count(*) = 5 FROM kite_leases.leases WHERE name LIKE 'projector/%' AND holder IS NOT NULL";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_projector_that_stands_still_in_the_middle_of_a_transaction_holds_nobody_up_for_long()
-> anyhow::Result<()> {
    with_seed(async |seed| {
        let ground = Ground::make().await?;
        let mut projecting = Other::start(&ground.shared_settings("\"projector\""))?;
        let roles = "\"api\", \"router\", \"timekeeper\", \"publisher\", \"worker\"";
        let house = House::build_as(seed, &ground.shared_settings(roles)).await?;
        wait_until("somebody to project", SOON, async || ground.database.is_so(ALL_PROJECTED).await).await?;
        let load = Load::start(&house, MESSAGES, seed)?;
        stop_in_the_middle(&ground, &mut projecting).await?;
        // With another one everything becomes final, and is shown.
        let follows = Other::start(&ground.shared_settings("\"projector\""))?;
        let accepted = load.finish(&house).await?;
        house.wait_until_final(&accepted).await?;
        house.wait_until_projected().await?;
        projecting.process.resume()?;
        house.judge(&accepted, 0).await?;
        projecting.end()?;
        follows.end()
    })
    .await
}

/// Stops a process while it has begun to write and not come to an end.
async fn stop_in_the_middle(ground: &Ground, projecting: &mut Other) -> anyhow::Result<()> {
    wait_until("the middle of a transaction", SOON, async || {
        if projecting.process.pause().is_err() {
            return false;
        }
        let is_it = ground.database.is_so(IN_THE_MIDDLE).await;
        is_it || projecting.process.resume().is_err()
    })
    .await?;
    ensure!(projecting.process.is_running()?, "{}", projecting.process.log());
    Ok(())
}
