//! The log in a real PostgreSQL: several processes that share it, each of them killed with -9, over connections that are cut.

mod ground;
mod queue;
mod server;

use anyhow::{Context, ensure};
use kite_testkit::dice::Dice;
use kite_testkit::wait::{free_address, wait_until_ready};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::support::{House, Load, kite};
use super::with_seed;
use ground::{Ground, Other};

/// Messages to be accepted before the load stops.
const MESSAGES: u64 = 3_000;
/// How often something happens to one of the processes, or to its connections, while messages come in.
const BLOWS: u64 = 9;
/// How long a process may take to end; each of its parts has half of it.
const SOON: Duration = Duration::from_secs(120);

/// Where the read models of several processes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Models {
    /// In the database, one projector for all.
    Shared,
    /// In each data directory.
    Own,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_processes_on_one_log_lose_nothing_and_send_nothing_twice_over_kills_and_cuts()
-> anyhow::Result<()> {
    several_processes(Models::Own).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_processes_with_shared_read_models_lose_nothing_and_send_nothing_twice_over_kills_and_cuts()
-> anyhow::Result<()> {
    several_processes(Models::Shared).await
}

async fn several_processes(models: Models) -> anyhow::Result<()> {
    with_seed(async |seed| {
        let ground = Ground::make().await?;
        // One that takes requests, one that routes if the first does not, and one that hands over; two project if models are shared.
        let settings = |roles: &str| match models {
            Models::Own => ground.settings(&format!("{roles}, \"projector\"")),
            Models::Shared => ground.shared_settings(roles),
        };
        let mut house = House::build_as(seed, &settings("\"api\", \"router\", \"timekeeper\"")).await?;
        let (standby, working) = match models {
            Models::Own => ("\"router\", \"timekeeper\"", "\"publisher\", \"worker\""),
            Models::Shared => {
                ("\"router\", \"timekeeper\", \"projector\"", "\"publisher\", \"worker\", \"projector\"")
            }
        };
        let mut others = [Other::start(&settings(standby))?, Other::start(&settings(working))?];
        let mut load = Load::start(&house, MESSAGES, seed)?;
        let mut dice = Dice::new(!seed);
        let mut moments: Vec<u64> = (0..BLOWS).map(|_| dice.between(1, MESSAGES - 1)).collect();
        moments.sort_unstable();
        let mut stops = 0;
        for (blow, moment) in moments.into_iter().enumerate() {
            load = load.wait_for_accepted(&house, moment).await?;
            others.iter_mut().try_for_each(Other::revive)?;
            match blow % 4 {
                0 => house.kill_and_restart().await?,
                1 => others[0].kill_and_restart()?,
                2 => {
                    others[1].kill_and_restart()?;
                    stops += 1;
                }
                _ => ground.proxy.cut(),
            }
        }
        others.iter_mut().try_for_each(Other::revive)?;
        let accepted = load.finish(&house).await?;
        // Calls in progress when the connection to the log is cut have their answers, only later.
        house.judge(&accepted, stops).await?;
        others.into_iter().try_for_each(Other::end)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_process_on_a_log_in_postgresql_goes_on_after_the_server_was_away() -> anyhow::Result<()> {
    with_seed(async |seed| {
        let ground = Ground::make().await?;
        let mut house = House::build_as(seed, &ground.settings("")).await?;
        let load = Load::start(&house, MESSAGES / 3, seed)?;
        let load = load.wait_for_accepted(&house, MESSAGES / 10).await?;
        ground.proxy.close();
        house.refuses_for_a_while().await?;
        ground.proxy.open();
        let accepted = load.finish(&house).await?;
        house.kill_and_restart().await?;
        house.judge(&accepted, 1).await?;
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_whose_server_is_away_is_not_ready_although_it_has_nothing_to_do() -> anyhow::Result<()> {
    let ground = Ground::make().await?;
    let house = House::build_as(1, &ground.shared_settings("")).await?;
    let url = format!("http://{}", house.address());
    house.wait_until_projected().await?;
    ground.proxy.close();
    house.wait_for_readiness(&url, 503).await?;
    ground.proxy.open();
    house.wait_for_readiness(&url, 200).await?;
    house.terminate().await?;
    Ok(())
}

/// What a process that cannot work says at its end.
fn refusal(settings: &str, make: impl FnOnce(&PathBuf) -> anyhow::Result<()>) -> anyhow::Result<String> {
    let directory = tempfile::tempdir()?;
    let data = directory.path().join("data");
    std::fs::create_dir(&data)?;
    make(&data)?;
    let config = directory.path().join("kite.toml");
    std::fs::write(&config, format!("data_dir = {data:?}\nlisten = \"{}\"\n{settings}", free_address()?))?;
    let output = Command::new(kite()).args(["serve", "--config"]).arg(&config).output()?;
    let said = String::from_utf8([output.stdout, output.stderr].concat())?;
    ensure!(!output.status.success(), "{said}");
    let last = said.lines().last().unwrap_or_default().to_owned();
    ensure!(!said.contains("secret"), "a password is shown: {said}");
    Ok(last)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_the_way_of_a_log_in_postgresql_is_told() -> anyhow::Result<()> {
    let ground = Ground::make().await?;
    let settings = ground.settings("");
    let own_log = refusal(&settings, |data| Ok(std::fs::write(data.join("events.db"), "")?))?;
    assert!(own_log.contains("has a log of its own"), "{own_log}");
    let another = refusal(&settings, |data| Ok(std::fs::write(data.join("log-id"), "another\n")?))?;
    assert!(another.contains("are of another log"), "{another}");
    let foreign = refusal(&settings, |data| Ok(std::fs::write(data.join("thesis.odt"), "")?))?;
    assert!(foreign.contains("is no data directory of Kite"), "{foreign}");

    ground.database.execute("UPDATE kite_log.shape SET number = 0").await;
    let older = refusal(&settings, |_| Ok(()))?;
    assert!(older.contains("kite_log has shape 0") && older.contains("kite postgres migrate"), "{older}");
    ground.database.execute("DROP SCHEMA kite_log CASCADE").await;
    let none = refusal(&settings, |_| Ok(()))?;
    assert!(none.contains("kite_log is not in the database"), "{none}");
    ground.proxy.close();
    let away = refusal(&settings, |_| Ok(()))?;
    assert!(away.contains("cannot open the log in PostgreSQL"), "{away}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn read_models_that_know_more_than_the_log_are_not_used() -> anyhow::Result<()> {
    let ground = Ground::make().await?;
    let house = House::build_as(1, &ground.settings("")).await?;
    // What was set up is in its read models.
    let directory = house.terminate().await?;
    ground.database.execute("TRUNCATE kite_log.events; UPDATE kite_log.head SET position = 1").await;
    let mut again = Other::run(&directory)?;
    let status = again.wait(SOON)?;
    let log = again.log();
    assert!(!status.success() && log.contains("and the log ends at 1"), "{status}: {log}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_started_again_does_not_wait_for_the_leases_of_its_former_life()
-> anyhow::Result<()> {
    let ground = Ground::make().await?;
    let mut house = House::build_as(1, &ground.settings("")).await?;
    let file = house.data_dir().join("log-id");
    let life = || anyhow::Ok(std::fs::read_to_string(&file)?.lines().nth(1).context("a life")?.to_owned());
    let former = life()?;
    let holds = format!("SELECT count(*) > 0 FROM kite_leases.leases WHERE holder = '{former}'");
    ensure!(ground.database.is_so(&holds).await, "{former} works");
    house.kill_and_restart().await?;
    ensure!(life()? != former, "each life has a name of its own");
    ensure!(ground.database.is_so(&format!("NOT ({holds})")).await, "{former} holds something");
    house.terminate().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_whose_log_has_lost_something_ends_and_its_read_models_are_not_used_again()
-> anyhow::Result<()> {
    let ground = Ground::make().await?;
    let mut house = House::build_as(1, &ground.settings("")).await?;
    ground.proxy.close();
    // Others have gone on, so that the log is as long as it was.
    let other = "UPDATE kite_log.events SET id = gen_random_uuid() WHERE position = (SELECT position FROM kite_log.head)";
    ground.database.execute(other).await;
    ground.proxy.open();
    let log = house.wait_for_failure(SOON)?;
    ensure!(log.contains("stands another event than the one that was acknowledged"), "{log}");
    house.start()?;
    let log = house.wait_for_failure(SOON)?;
    ensure!(log.contains("are of another log (something was lost of "), "{log}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_written_at_one_process_is_read_at_another() -> anyhow::Result<()> {
    let settings = |ground: &Ground| ground.settings("\"api\", \"projector\"");
    write_at_one_and_read_at_another(settings, settings).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_without_a_projector_reads_what_another_one_projects() -> anyhow::Result<()> {
    let with = |ground: &Ground| ground.shared_settings("\"api\", \"projector\"");
    let without = |ground: &Ground| ground.shared_settings("\"api\"");
    write_at_one_and_read_at_another(with, without).await
}

async fn write_at_one_and_read_at_another(
    one: impl Fn(&Ground) -> String,
    another: impl Fn(&Ground) -> String,
) -> anyhow::Result<()> {
    with_seed(async |seed| {
        let ground = Ground::make().await?;
        let house = House::build_as(seed, &one(&ground)).await?;
        let address = free_address()?;
        let other = Other::start(&format!("listen = \"{address}\"\n{}", another(&ground)))?;
        wait_until_ready(&format!("http://{address}/readyz"), SOON).await?;
        for number in 0..20 {
            house.write_here_and_read_there(number, &format!("http://{address}")).await?;
        }
        other.end()?;
        house.terminate().await?;
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shared_read_models_are_made_again_by_the_owner_while_everything_goes_on() -> anyhow::Result<()> {
    with_seed(async |seed| {
        let ground = Ground::make().await?;
        let house = House::build_as(seed, &ground.shared_settings("")).await?;
        let load = Load::start(&house, MESSAGES / 2, seed)?;
        let load = load.wait_for_accepted(&house, MESSAGES / 4).await?;
        // Nobody else may.
        let config = house.data_dir().join("../kite.toml");
        let rebuild = |url: Option<String>| {
            let mut command = Command::new(kite());
            command.args(["replay", "--rebuild", "--config"]).arg(&config);
            command.envs(url.map(|url| ("KITE_POSTGRES__URL", url)));
            command.output()
        };
        let refused = rebuild(None)?;
        let said = String::from_utf8([refused.stdout, refused.stderr].concat())?;
        ensure!(!refused.status.success() && said.contains("permission denied"), "{said}");
        for _ in 0..2 {
            let made = rebuild(Some(ground.database.url()))?;
            let said = String::from_utf8([made.stdout, made.stderr].concat())?;
            ensure!(made.status.success(), "{said}");
        }
        let accepted = load.finish(&house).await?;
        house.judge(&accepted, 0).await?;
        Ok(())
    })
    .await
}
