//! What happens to processes and servers, turn by turn, from a seed.

use kite_testkit::dice::Dice;

use super::doors::Peer;
use super::{NATS_SERVERS, names};
use crate::soak::faults::MayDie;
use crate::soak::house::House;

/// The turn in which the standby takes over, if the run is so long.
const PROMOTION_AT: u32 = 20;
/// Turns out of a hundred that are longer than a lease and than what NATS waits for a worker.
const LONG_PER_CENT: u64 = 20;
/// How long those are, in milliseconds.
const LONG_MS: (u64, u64) = (8_000, 12_000);
/// The longest turn.
pub(in crate::soak) const TURN_MS_MAX: u64 = LONG_MS.1;

/// What happens in a turn, beside what happens at the relays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::soak) struct Blow {
    /// How long it lasts, if it does not last as long as any other.
    pub(in crate::soak) length_ms: Option<u64>,
    /// To one of the processes.
    process: Option<(usize, ProcessFault)>,
    postgres: Option<PostgresFault>,
    nats: Option<NatsFault>,
}

/// Each lasts until the turn is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ProcessFault {
    /// SIGKILL.
    Kill,
    /// SIGTERM.
    Stop,
    /// SIGSTOP.
    Pause,
    /// Its connections are cut in the middle of the turn.
    Cut(Peer),
    /// Nothing gets from it to servers or back.
    Silence(Peer),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PostgresFault {
    /// The connections of all processes are cut in the middle of the turn.
    Cut,
    /// Nothing gets to it or from it.
    Silence,
    /// It is killed in the middle of the turn, and started again.
    Kill,
    /// It is killed for good, and its standby takes over.
    Promote,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NatsFault {
    Cut,
    Silence,
    /// One of them is killed, and started again at the end.
    Kill(usize),
    /// SIGTERM.
    Stop(usize),
    Pause(usize),
    KillAll,
}

/// Draws them.
pub(in crate::soak) struct Blows {
    dice: Dice,
    turns: u32,
}

impl Blows {
    pub(in crate::soak) fn new(seed: u64) -> Self {
        Self { dice: Dice::new(seed.rotate_left(32)), turns: 0 }
    }

    /// The next one.
    pub(in crate::soak) fn draw(&mut self, may_die: MayDie) -> Blow {
        self.turns += 1;
        let (first, last) = LONG_MS;
        let length_ms = self.dice.per_cent(LONG_PER_CENT).then(|| self.dice.between(first, last));
        let process = self.dice.between(0, names().count() as u64 - 1) as usize;
        let peer = *self.dice.pick(&[Peer::Postgres, Peer::Nats]);
        let process = match (self.dice.between(1, 100), may_die) {
            (1..=25, MayDie::Yes) => Some((process, ProcessFault::Kill)),
            (26..=35, MayDie::Yes) => Some((process, ProcessFault::Stop)),
            (36..=60, _) => Some((process, ProcessFault::Pause)),
            (61..=70, _) => Some((process, ProcessFault::Cut(peer))),
            (71..=80, _) => Some((process, ProcessFault::Silence(peer))),
            _ => None,
        };
        let server = self.dice.between(0, NATS_SERVERS as u64 - 1) as usize;
        let (mut postgres, mut nats) = (self.postgres(), self.nats(server));
        // Whoever is asked to end has to end well, for which it needs the servers.
        if matches!(process, Some((_, ProcessFault::Stop))) {
            (postgres, nats) = (None, None);
        }
        if self.turns == PROMOTION_AT {
            (postgres, nats) = (Some(PostgresFault::Promote), None);
        }
        Blow { length_ms, process, postgres, nats }
    }

    fn postgres(&mut self) -> Option<PostgresFault> {
        match self.dice.between(1, 100) {
            1..=8 => Some(PostgresFault::Cut),
            9..=14 => Some(PostgresFault::Silence),
            15..=24 => Some(PostgresFault::Kill),
            _ => None,
        }
    }

    fn nats(&mut self, server: usize) -> Option<NatsFault> {
        match self.dice.between(1, 100) {
            1..=6 => Some(NatsFault::Cut),
            7..=10 => Some(NatsFault::Silence),
            11..=22 => Some(NatsFault::Kill(server)),
            23..=27 => Some(NatsFault::Stop(server)),
            28..=34 => Some(NatsFault::Pause(server)),
            35..=39 => Some(NatsFault::KillAll),
            _ => None,
        }
    }
}

impl Blow {
    /// In words, for the log of a run.
    pub(in crate::soak) fn describe(&self) -> String {
        let name = |process: usize| names().nth(process).map_or_else(String::new, |(_, name)| name);
        let process = self.process.map(|(process, fault)| format!("; {}: {fault:?}", name(process)));
        let postgres = self.postgres.map(|fault| format!("; PostgreSQL: {fault:?}"));
        let nats = self.nats.map(|fault| format!("; NATS: {fault:?}"));
        [process, postgres, nats].into_iter().flatten().collect()
    }

    /// What begins with the turn.
    pub(in crate::soak) async fn begin(&self, house: &mut House) -> anyhow::Result<()> {
        let cluster = house.cluster()?;
        if let Some(fault) = self.nats {
            // Never two at once: whoever was away has to have everything first.
            cluster.nats.wait_until_current().await?;
            match fault {
                NatsFault::Silence => cluster.doors.iter().for_each(|doors| doors.hold(Peer::Nats)),
                NatsFault::Kill(server) => cluster.nats[server].kill()?,
                NatsFault::Stop(server) => cluster.nats[server].stop()?,
                NatsFault::Pause(server) => cluster.nats[server].pause()?,
                NatsFault::KillAll => (0..NATS_SERVERS).try_for_each(|server| cluster.nats[server].kill())?,
                NatsFault::Cut => {}
            }
        }
        if self.postgres == Some(PostgresFault::Silence) {
            cluster.doors.iter().for_each(|doors| doors.hold(Peer::Postgres));
        }
        let Some((process, fault)) = self.process else { return Ok(()) };
        if let ProcessFault::Silence(peer) = fault {
            cluster.doors[process].hold(peer);
        }
        match fault {
            ProcessFault::Kill => house.nodes[process].kill(),
            ProcessFault::Stop => house.nodes[process].stop(),
            ProcessFault::Pause => house.nodes[process].pause(),
            ProcessFault::Cut(_) | ProcessFault::Silence(_) => Ok(()),
        }
    }

    /// What happens in the middle of it.
    pub(in crate::soak) async fn strike(&self, house: &mut House) -> anyhow::Result<()> {
        let cluster = house.cluster()?;
        if self.nats == Some(NatsFault::Cut) {
            cluster.doors.iter().for_each(|doors| doors.cut(Peer::Nats));
        }
        if let Some((process, ProcessFault::Cut(peer))) = self.process {
            cluster.doors[process].cut(peer);
        }
        match self.postgres {
            Some(PostgresFault::Cut) => cluster.doors.iter().for_each(|doors| doors.cut(Peer::Postgres)),
            Some(PostgresFault::Kill) => cluster.postgres.kill_and_start_again()?,
            Some(PostgresFault::Promote) => cluster.postgres.promote().await?,
            Some(PostgresFault::Silence) | None => {}
        }
        Ok(())
    }

    /// Servers first, so that whoever begins finds them.
    pub(in crate::soak) async fn end(&self, house: &mut House) -> anyhow::Result<()> {
        let cluster = house.cluster()?;
        self.count(cluster);
        cluster.doors.iter().for_each(|doors| doors.release());
        match self.nats {
            Some(NatsFault::Kill(server) | NatsFault::Stop(server)) => {
                cluster.nats[server].start_again().await?;
            }
            Some(NatsFault::Pause(server)) => cluster.nats[server].resume()?,
            Some(NatsFault::KillAll) => {
                for server in 0..NATS_SERVERS {
                    cluster.nats[server].start_again().await?;
                }
            }
            Some(NatsFault::Cut | NatsFault::Silence) | None => {}
        }
        if let Some((process, _)) = self.process {
            house.nodes[process].bring_back()?;
        }
        house.until_ready().await
    }

    fn count(&self, cluster: &mut super::Cluster) {
        let strikes = &mut cluster.strikes;
        let process = self.process.map(|(_, fault)| fault);
        let counts = [
            (&mut strikes.kills, process == Some(ProcessFault::Kill)),
            (&mut strikes.stops, process == Some(ProcessFault::Stop)),
            (&mut strikes.pauses, process == Some(ProcessFault::Pause)),
            (
                &mut strikes.postgres_kills,
                matches!(self.postgres, Some(PostgresFault::Kill | PostgresFault::Promote)),
            ),
            (&mut strikes.promotions, self.postgres == Some(PostgresFault::Promote)),
            (
                &mut strikes.nats_kills,
                matches!(self.nats, Some(NatsFault::Kill(_) | NatsFault::Stop(_) | NatsFault::KillAll)),
            ),
            (&mut strikes.nats_pauses, matches!(self.nats, Some(NatsFault::Pause(_)))),
        ];
        for (count, has_happened) in counts {
            *count += u64::from(has_happened);
        }
        let has_cut = |is_it: bool| u64::from(is_it);
        strikes.cuts += has_cut(matches!(process, Some(ProcessFault::Cut(_))))
            + has_cut(self.postgres == Some(PostgresFault::Cut))
            + has_cut(self.nats == Some(NatsFault::Cut));
        strikes.silences += has_cut(matches!(process, Some(ProcessFault::Silence(_))))
            + has_cut(self.postgres == Some(PostgresFault::Silence))
            + has_cut(self.nats == Some(NatsFault::Silence));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_process_and_every_server_is_struck_in_every_way_and_one_promotion_comes() {
        let mut blows = Blows::new(5);
        let drawn: Vec<Blow> = (0..3_000).map(|_| blows.draw(MayDie::Yes)).collect();
        let all: String = drawn.iter().map(Blow::describe).collect();
        for (_, name) in names() {
            for fault in ["Kill", "Stop", "Pause", "Cut(Postgres)", "Cut(Nats)", "Silence(Postgres)"] {
                assert!(all.contains(&format!("; {name}: {fault}")), "{name}: {fault}");
            }
        }
        for fault in ["Cut", "Silence", "Kill(0)", "Stop(1)", "Pause(2)", "KillAll"] {
            assert!(all.contains(&format!("; NATS: {fault}")), "{fault}");
        }
        assert_eq!(all.matches("Promote").count(), 1);
        assert!(drawn.iter().any(|blow| blow.length_ms.is_some_and(|length| length > 11_000)));
        let mut again = Blows::new(5);
        assert!(drawn.iter().all(|blow| *blow == again.draw(MayDie::Yes)), "a seed draws the same");
    }

    #[test]
    fn nobody_dies_who_may_not_and_whoever_is_asked_to_end_has_its_servers() {
        let mut blows = Blows::new(6);
        for _ in 0..1_000 {
            let process = blows.draw(MayDie::No).process.map(|(_, fault)| fault);
            assert!(!matches!(process, Some(ProcessFault::Kill | ProcessFault::Stop)));
        }
        for _ in 0..1_000 {
            let blow = blows.draw(MayDie::Yes);
            if matches!(blow.process, Some((_, ProcessFault::Stop))) {
                assert_eq!((blow.postgres, blow.nats), (None, None));
            }
        }
    }
}
