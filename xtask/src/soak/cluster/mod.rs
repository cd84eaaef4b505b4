//! `cargo xtask cluster`: the soak with Kite as several processes, on PostgreSQL with a standby and a cluster of NATS.
//!
//! Traffic, relays, balance and judge are those of the soak. Beside what goes wrong at the relays, turn by turn one of the
//! processes is killed, stopped, paused or cut off from servers, and so are the servers ([`faults`]). In the first half processes of Kite
//! die; in the second they have to live through all the rest, and the memory of each is judged if the run is long enough.
//!
//! Workers share the rates of relays ([`super::pace`]), and whoever sends comes through something that stands before both APIs.
//!
//! Deliberately absent: a second promotion (there is no second standby), and a server of NATS that is left alone by both others.

mod doors;
pub(super) mod faults;
mod postgres;

use std::fmt;
use std::iter;
use std::net::SocketAddr;

use anyhow::{Context, bail};
use clap::Args;
use kite_testkit::nats;
use serde::Serialize;

use super::ground::{Ground, in_postgres};
use super::node::Seat;
use super::{Keeping, On, Plan, hold};
use crate::load::run_optimised;
use crate::servers::Nats;
use doors::{Doors, Peer};
use postgres::Pair;

/// How long there is load in a short run, in seconds, and messages a second.
const SHORT: (u64, u32) = (60, 40);
/// Servers of NATS, each of which keeps every stream.
const NATS_SERVERS: usize = 3;
/// How many processes have which role.
const ROLES: [(&str, usize); 6] =
    [("api", 2), ("router", 2), ("publisher", 2), ("worker", 3), ("projector", 2), ("timekeeper", 2)];
/// Connections of each process to PostgreSQL for reading, and for questions: thirteen processes share one server.
const CONNECTIONS_MAX: usize = 3;

/// Options of `cargo xtask cluster`.
#[derive(Args)]
pub(crate) struct ClusterOptions {
    /// How long there is load, in minutes; what comes after it takes some more.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    minutes: u64,
    /// Messages a second.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    rate: u32,
    /// Some minutes in all, with a small load and without optimisation: shows that everything holds, not for how long.
    #[arg(long, conflicts_with_all = ["minutes", "rate"])]
    short: bool,
    #[command(flatten)]
    keeping: Keeping,
}

/// Builds everything optimised, then runs.
pub(crate) fn run(options: &ClusterOptions) -> anyhow::Result<()> {
    if cfg!(debug_assertions) && !options.short {
        return run_optimised();
    }
    let (seconds, rate) = if options.short { SHORT } else { (options.minutes * 60, options.rate) };
    hold(&Plan { seconds, rate, seed: options.keeping.seed(), on: On::Cluster }, &options.keeping)
}

/// How often what happened.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Strikes {
    pub(super) kills: u64,
    pub(super) stops: u64,
    pub(super) pauses: u64,
    pub(super) cuts: u64,
    pub(super) silences: u64,
    /// Processes that began while a server was away.
    pub(super) started_again: u64,
    pub(super) postgres_kills: u64,
    pub(super) promotions: u64,
    pub(super) nats_kills: u64,
    pub(super) nats_pauses: u64,
}

impl fmt::Display for Strikes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kills, stops, pauses, cuts, silences, started_again, .. } = self;
        write!(
            formatter,
            "processes killed {kills} times, stopped {stops}, paused {pauses}; connections cut {cuts} times, silent {silences}; \
             {started_again} starts in vain; PostgreSQL killed {} times, promoted {}; NATS killed {}, paused {}",
            self.postgres_kills, self.promotions, self.nats_kills, self.nats_pauses
        )
    }
}

/// The servers, and the ways of all processes to them.
pub(crate) struct Cluster {
    postgres: Pair,
    nats: nats::Cluster,
    doors: Vec<Doors>,
    pub(super) strikes: Strikes,
}

impl Cluster {
    /// Installs what is missing and starts the servers.
    pub(super) async fn start() -> anyhow::Result<Self> {
        let installed = Nats::install()?;
        let nats = nats::Cluster::start(installed.installation(), NATS_SERVERS).await?;
        let postgres = Pair::start().await?;
        let addresses: Vec<_> = (0..nats.len()).map(|server| nats[server].address()).collect();
        let doors = names().map(|_| Doors::before(&postgres.addresses(), &addresses));
        let doors = doors.collect::<Result<_, _>>()?;
        Ok(Self { postgres, nats, doors, strikes: Strikes::default() })
    }

    /// All processes.
    pub(super) fn seats(&self) -> Vec<Seat> {
        let seat = |((role, name), doors): ((&'static str, String), &Doors)| Seat {
            name,
            role: Some(role),
            settings: self.settings(&doors.addresses(Peer::Postgres), &doors.addresses(Peer::Nats)),
        };
        names().zip(&self.doors).map(seat).collect()
    }

    /// An operator, who comes to the servers themselves.
    pub(super) fn operator(&self) -> Seat {
        let nats: Vec<_> = (0..self.nats.len()).map(|server| self.nats[server].address()).collect();
        let settings = self.settings(&self.postgres.addresses(), &nats);
        Seat { name: "operator".to_owned(), role: None, settings }
    }

    fn settings(&self, postgres: &[SocketAddr], nats: &[SocketAddr]) -> String {
        let servers: Vec<String> = nats.iter().map(|address| format!("nats://{address}")).collect();
        let in_postgres = in_postgres(&self.postgres.url_at(postgres), Some(CONNECTIONS_MAX));
        format!(
            "{in_postgres}[queue]\nengine = \"nats\"\n[nats]\nservers = {servers:?}\nreplicas = {NATS_SERVERS}\n"
        )
    }

    /// How many parcels are in the work queue, by one of the servers.
    pub(super) async fn parcels(&self) -> anyhow::Result<u64> {
        for server in 0..self.nats.len() {
            if let Ok(told) = self.nats[server].ask("/jsz").await {
                return told["messages"].as_u64().context("no number of messages");
            }
        }
        bail!("no server of NATS answers\n{}", self.nats.log())
    }

    /// Stops the servers.
    pub(super) fn stop(mut self) -> anyhow::Result<()> {
        drop(self.doors);
        for server in 0..self.nats.len() {
            self.nats[server].stop()?;
        }
        self.postgres.stop()
    }
}

/// The role and the name of each process.
fn names() -> impl Iterator<Item = (&'static str, String)> {
    let of_role = |(role, count)| iter::repeat_n(role, count).zip(1..);
    ROLES.into_iter().flat_map(of_role).map(|(role, number)| (role, format!("{role}-{number}")))
}

/// Starts everything that processes stand on.
pub(super) async fn ground() -> anyhow::Result<Ground> {
    Ok(Ground::Cluster(Box::new(Cluster::start().await?)))
}
