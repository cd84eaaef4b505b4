//! Each role as a process of its own, several of each, with log and read models in PostgreSQL and the work queue on NATS: killed, paused,
//! stopped in turn; and the queue's server killed, its stream deleted.

use anyhow::{Context, ensure};
use kite_testkit::dice::Dice;
use kite_testkit::nats::{Installation, Options, Server};
use std::time::Duration;

use super::super::support::Accepted;
use super::ground::{Ground, Other};
use super::{House, Load, with_seed};

/// Messages to be accepted before the load stops.
const MESSAGES: u64 = 1_200;
/// How often something happens while messages come in.
const BLOWS: u64 = 8;
/// Longer than any lease.
const LONG_PAUSE: Duration = Duration::from_secs(9);
/// How often it is looked whether one has ended.
const REVIVED_EVERY: Duration = Duration::from_secs(1);
/// What runs beside the first API process: each of them twice or more.
const OTHERS: [&str; 10] = [
    "\"router\"",
    "\"router\"",
    "\"publisher\"",
    "\"publisher\"",
    "\"worker\"",
    "\"worker\"",
    "\"worker\"",
    "\"projector\"",
    "\"projector\"",
    "\"timekeeper\"",
];
/// Places of the publishers and of the workers among them.
const PUBLISHERS: [usize; 2] = [2, 3];
const WORKERS: [usize; 3] = [4, 5, 6];

/// All processes, and what they share.
struct Many {
    ground: Ground,
    nats: Server,
    house: House,
    others: Vec<Other>,
}

impl Many {
    async fn start(seed: u64) -> anyhow::Result<Self> {
        let ground = Ground::make().await?;
        let nats = Server::start(&Installation::from_environment()?, Options::default()).await?;
        let settings = |roles: &str| {
            let queue = format!("[queue]\nengine = \"nats\"\n[nats]\nservers = [\"{}\"]\n", nats.url());
            format!("{}{queue}", ground.shared_settings(roles))
        };
        let house = House::build_as(seed, &settings("\"api\", \"timekeeper\"")).await?;
        let others = OTHERS.iter().map(|roles| Other::start(&settings(roles)));
        let others = others.collect::<anyhow::Result<_>>()?;
        Ok(Self { ground, nats, house, others })
    }

    fn revive(&mut self) -> anyhow::Result<()> {
        self.others.iter_mut().try_for_each(Other::revive)
    }

    /// Everything became final, and all that was promised held.
    async fn judge(self, accepted: &Accepted, stops: u64) -> anyhow::Result<()> {
        let Self { house, mut others, ground: _ground, nats: _nats } = self;
        // One that was started while its connection was cut has ended by itself.
        let revived = async {
            loop {
                others.iter_mut().try_for_each(Other::revive)?;
                wait(REVIVED_EVERY).await;
            }
        };
        tokio::select! {
            judged = house.judge(accepted, stops) => drop(judged?),
            failed = revived => return failed,
        }
        others.into_iter().try_for_each(Other::end)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_processes_lose_nothing_and_send_nothing_twice_over_kills_pauses_and_a_queue_that_is_lost()
-> anyhow::Result<()> {
    with_seed(async |seed| {
        let mut many = Many::start(seed).await?;
        let mut load = Load::start(&many.house, MESSAGES, seed)?;
        let mut dice = Dice::new(!seed);
        let mut moments: Vec<u64> = (0..BLOWS).map(|_| dice.between(1, MESSAGES - 1)).collect();
        moments.sort_unstable();
        let mut stops = 0;
        for (blow, moment) in moments.into_iter().enumerate() {
            load = load.wait_for_accepted(&many.house, moment).await?;
            many.revive()?;
            match blow % 8 {
                0 => many.others[*dice.pick(&WORKERS)].kill_and_restart()?,
                1 => many.others[*dice.pick(&PUBLISHERS)].kill_and_restart()?,
                2 => {
                    many.nats.kill()?;
                    many.nats.start_again().await?;
                }
                3 => many.house.kill_and_restart().await?,
                4 => pause(&mut many.others[*dice.pick(&WORKERS)]).await?,
                5 => delete_stream(&many.nats).await?,
                6 => {
                    let any = dice.between(0, OTHERS.len() as u64 - 1) as usize;
                    many.others[any].kill_and_restart()?;
                }
                _ => many.ground.proxy.cut(),
            }
            // Whoever called a relay just then is gone.
            stops += 1;
        }
        many.revive()?;
        let accepted = load.finish(&many.house).await?;
        many.revive()?;
        many.judge(&accepted, stops).await
    })
    .await
}

/// Longer than its leases: others have taken over when it goes on.
async fn pause(other: &mut Other) -> anyhow::Result<()> {
    other.process.pause()?;
    wait(LONG_PAUSE).await;
    other.process.resume()
}

#[expect(clippy::disallowed_methods, reason = "processes live in real time")]
async fn wait(duration: Duration) {
    tokio::time::sleep(duration).await;
}

async fn delete_stream(nats: &Server) -> anyhow::Result<()> {
    let url = nats.url();
    let server = kite_nats::Server {
        urls: vec![url],
        login: kite_nats::Login::Nobody,
        tls: None,
        client_name: "test".to_owned(),
    };
    let connection = kite_nats::Connection::open(&server).await.context("the queue")?;
    let deleted = connection.delete_stream("KITE_DISPATCH").await;
    ensure!(deleted.is_ok(), "{deleted:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_of_one_process_of_each_role_under_load_loses_nothing_and_leaves_nothing_in_doubt()
-> anyhow::Result<()> {
    with_seed(async |seed| {
        let mut many = Many::start(seed).await?;
        let load = Load::start(&many.house, MESSAGES, seed)?;
        let mut load = load.wait_for_accepted(&many.house, 1).await?;
        // One of each role, so that another one goes on.
        for place in (0..OTHERS.len()).step_by(2).chain([OTHERS.len() - 1]) {
            let moment = MESSAGES / (OTHERS.len() as u64 + 1) * (place as u64 + 1);
            load = load.wait_for_accepted(&many.house, moment).await?;
            many.others[place].stop_and_restart()?;
        }
        let accepted = load.finish(&many.house).await?;
        // Nobody died: nothing is in doubt because of it.
        many.judge(&accepted, 0).await
    })
    .await
}
