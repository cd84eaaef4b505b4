//! What goes wrong, turn by turn, from a seed.

use std::time::Duration;

use kite_testkit::dice::Dice;
use kite_testkit::relays::{self, MAIL_RELAY, PHONE_RELAYS};
use reqwest::Method;
use serde_json::{Value, json};

use super::cluster::faults::{Blow, Blows};
use super::house::House;

/// The longest turn, and the longest that relays stand still.
pub(super) const TURN_MS_MAX: u64 = 6_000;

/// A turn of things going wrong.
pub(super) struct Turn {
    /// For how long.
    pub(super) seconds: f64,
    /// At which relay, and what; beside it perhaps something at another.
    pub(super) relays: Vec<(&'static str, RelayFault)>,
    /// In the middle of it.
    pub(super) kite: Option<KiteFault>,
    /// With the server that everything is in.
    pub(super) server: Option<ServerFault>,
    /// To one of several processes, and to the servers that they have in common.
    pub(super) blow: Option<Blow>,
}

/// What goes wrong at a relay.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum RelayFault {
    /// Out of service; it may continue after the turn.
    Outage { mode: &'static str, seconds: u64 },
    /// It behaves differently.
    Behaviour(Value),
    /// The processes of all relays stand still.
    Pause,
}

/// What goes wrong with Kite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KiteFault {
    /// SIGKILL.
    Kill,
    /// SIGTERM.
    Stop,
}

/// What goes wrong with the server that everything is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ServerFault {
    /// All connections to it are cut, in the middle of the turn.
    Cut,
    /// Nothing gets to it or from it during the turn.
    Silence,
    /// It is killed in the middle of the turn, and started again.
    Kill,
}

/// Draws turns.
pub(super) struct Faults {
    dice: Dice,
    against: Against,
}

/// What beside the relays may be struck.
pub(super) enum Against {
    /// The only process.
    Kite,
    /// The same, and the server that everything is in.
    KiteAndServer,
    /// Several processes, and the servers that they have in common.
    Cluster(Blows),
}

impl Faults {
    pub(super) fn new(seed: u64, against: Against) -> Self {
        Self { dice: Dice::new(!seed), against }
    }

    /// The next turn. Whether processes may die is not for the dice to say.
    pub(super) fn turn(&mut self, may_die: MayDie) -> Turn {
        let mut length_ms = self.dice.between(2_000, TURN_MS_MAX);
        let mut relays = vec![self.relay_fault()];
        if self.dice.per_cent(30) {
            let second = self.relay_fault();
            if second.0 != relays[0].0 {
                relays.push(second);
            }
        }
        let (mut kite, mut server, mut blow) = (None, None, None);
        match &mut self.against {
            Against::Kite => kite = self.kite_fault(may_die),
            Against::KiteAndServer => {
                kite = self.kite_fault(may_die);
                server = self.server_fault(kite);
            }
            Against::Cluster(blows) => {
                let drawn = blows.draw(may_die);
                length_ms = drawn.length_ms.unwrap_or(length_ms);
                blow = Some(drawn);
            }
        }
        Turn { seconds: length_ms as f64 / 1_000.0, relays, kite, server, blow }
    }

    fn kite_fault(&mut self, may_die: MayDie) -> Option<KiteFault> {
        match (may_die, self.dice.between(1, 100)) {
            (MayDie::Yes, 1..=25) => Some(KiteFault::Kill),
            (MayDie::Yes, 26..=35) => Some(KiteFault::Stop),
            _ => None,
        }
    }

    fn server_fault(&mut self, kite: Option<KiteFault>) -> Option<ServerFault> {
        match self.dice.between(1, 100) {
            1..=15 => Some(ServerFault::Cut),
            16..=30 => Some(ServerFault::Kill),
            // A process that is started waits for its server, and the turn for the process.
            31..=45 if kite.is_none() => Some(ServerFault::Silence),
            _ => None,
        }
    }

    fn relay_fault(&mut self) -> (&'static str, RelayFault) {
        let mode = *self.dice.pick(&["refuse", "hang", "reset"]);
        let outage = RelayFault::Outage { mode, seconds: self.dice.between(1, 8) };
        if self.dice.per_cent(15) {
            let mail = [
                outage,
                RelayFault::Behaviour(json!({ "latency_ms": { "p50": 300, "spread": 4 } })),
                RelayFault::Behaviour(json!({ "refusals": { "451": 0.4 } })),
                RelayFault::Behaviour(json!({ "faults": { "answer_lost": 0.2 } })),
            ];
            return (MAIL_RELAY, self.dice.pick(&mail).clone());
        }
        let relay = self.dice.pick(&PHONE_RELAYS).0;
        let rate = self.dice.between(20, 200);
        let behaviours = [
            json!({ "latency_ms": { "p50": 600, "spread": 3 } }),
            json!({ "faults": { "answer_lost": 0.3 } }),
            json!({ "faults": { "slow_answer": { "share": 0.3, "ms": 4_000 } } }),
            json!({ "faults": { "reset_before_acceptance": 0.3, "unavailable": 0.3 } }),
            json!({ "refusals": { "3053": 0.4 } }),
            json!({ "undelivered": { "3012": 0.4 } }),
            json!({ "rate_parts_per_second": rate }),
            json!({ "receipts": { "late": { "share": 0.5, "ms": 6_000 }, "twice": 0.5, "foreign": 0.1 } }),
            json!({ "receipts": { "out_of_order": { "share": 0.8, "ms": 2_000 }, "before_response": 0.3 } }),
        ];
        let fault = match self.dice.between(1, 14) {
            1..=3 => outage,
            4 | 5 => RelayFault::Pause,
            _ => RelayFault::Behaviour(self.dice.pick(&behaviours).clone()),
        };
        (relay, fault)
    }
}

/// Whether Kite's process may be ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum MayDie {
    Yes,
    No,
}

/// What the relays do when nothing is wrong.
pub(super) struct Calm(Vec<(&'static str, Value)>);

impl Calm {
    /// As they are now.
    pub(super) async fn of(house: &House) -> anyhow::Result<Self> {
        let mut behaviours = Vec::new();
        for relay in relays::all() {
            let path = format!("/relays/{relay}/behaviour");
            behaviours.push((relay, house.relay(Method::GET, &path, &Value::Null).await?));
        }
        Ok(Self(behaviours))
    }

    /// Brings a relay back to it.
    pub(super) async fn restore(&self, house: &House, relay: &str) -> anyhow::Result<()> {
        let calm = self.0.iter().find(|(id, _)| *id == relay).map(|(_, behaviour)| behaviour);
        let Some(mut behaviour) = calm.cloned() else { return Ok(()) };
        // An outage lasts as long as it was said to.
        behaviour.as_object_mut().map(|behaviour| behaviour.remove("outages"));
        let path = format!("/relays/{relay}/behaviour");
        // What is put is merged with what is there: a code that the relay has only in its fault goes by having no share.
        let now = house.relay(Method::GET, &path, &Value::Null).await?;
        for shares in ["refusals", "undelivered"] {
            for code in now[shares].as_object().into_iter().flat_map(|shares| shares.keys()) {
                if behaviour[shares].get(code).is_none() {
                    behaviour[shares][code] = json!(0.0);
                }
            }
        }
        house.relay(Method::PUT, &path, &behaviour).await?;
        Ok(())
    }

    /// Brings all of them back, and ends their outages.
    pub(super) async fn restore_all(&self, house: &House) -> anyhow::Result<()> {
        for (relay, _) in &self.0 {
            self.restore(house, relay).await?;
            house.relay(Method::POST, &format!("/relays/{relay}/outage"), &json!({ "seconds": 0 })).await?;
        }
        Ok(())
    }
}

impl Turn {
    /// In words, for the log of a run.
    pub(super) fn describe(&self) -> String {
        let relays: Vec<String> =
            self.relays.iter().map(|(relay, fault)| format!("{relay}: {fault:?}")).collect();
        let kite = self.kite.map_or(String::new(), |fault| format!("; Kite: {fault:?}"));
        let server = self.server.map_or(String::new(), |fault| format!("; PostgreSQL: {fault:?}"));
        let blow = self.blow.as_ref().map_or(String::new(), Blow::describe);
        format!("{:.1} s {}{kite}{server}{blow}", self.seconds, relays.join("; "))
    }

    /// Half of its time.
    pub(super) fn half(&self) -> Duration {
        Duration::from_secs_f64(self.seconds / 2.0)
    }

    pub(super) async fn begin(&self, house: &mut House) -> anyhow::Result<()> {
        for (relay, fault) in &self.relays {
            match fault {
                RelayFault::Outage { mode, seconds } => {
                    let outage = json!({ "seconds": seconds, "mode": mode });
                    house.relay(Method::POST, &format!("/relays/{relay}/outage"), &outage).await?;
                }
                RelayFault::Behaviour(behaviour) => {
                    house.relay(Method::PUT, &format!("/relays/{relay}/behaviour"), behaviour).await?;
                }
                RelayFault::Pause => {}
            }
        }
        if self.pauses() {
            house.pause_relays()?;
        }
        if self.server == Some(ServerFault::Silence) {
            house.server()?.hold();
        }
        match &self.blow {
            Some(blow) => blow.begin(house).await,
            None => Ok(()),
        }
    }

    /// What happens in the middle of it.
    pub(super) async fn strike(&self, house: &mut House) -> anyhow::Result<()> {
        match self.server {
            Some(ServerFault::Cut) => house.server()?.cut(),
            Some(ServerFault::Kill) => house.server()?.kill_and_start_again()?,
            Some(ServerFault::Silence) | None => {}
        }
        if let Some(blow) = &self.blow {
            blow.strike(house).await?;
        }
        match self.kite {
            None => Ok(()),
            Some(KiteFault::Kill) => {
                house.kill()?;
                house.restart().await
            }
            Some(KiteFault::Stop) => {
                house.stop()?;
                house.restart().await
            }
        }
    }

    pub(super) async fn end(&self, house: &mut House, calm: &Calm) -> anyhow::Result<()> {
        if self.pauses() {
            house.resume_relays()?;
        }
        if self.server.is_some() {
            house.server()?.release();
            house.until_ready().await?;
        }
        if let Some(blow) = &self.blow {
            blow.end(house).await?;
        }
        for (relay, _) in &self.relays {
            calm.restore(house, relay).await?;
        }
        Ok(())
    }

    fn pauses(&self) -> bool {
        self.relays.iter().any(|(_, fault)| *fault == RelayFault::Pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_draws_the_same_turns_and_every_kind_of_fault() {
        let draw = |seed| {
            let mut faults = Faults::new(seed, Against::KiteAndServer);
            (0..400).map(|_| faults.turn(MayDie::Yes)).collect::<Vec<_>>()
        };
        let describe = |turns: &[Turn]| turns.iter().map(Turn::describe).collect::<Vec<_>>().join("\n");
        let turns = draw(5);
        assert_eq!(describe(&turns), describe(&draw(5)));
        let all = describe(&turns);
        for part in [
            "refuse",
            "hang",
            "reset",
            "answer_lost",
            "3012",
            "late",
            "rate_parts",
            "Pause",
            "Kill",
            "Stop",
            "Cut",
            "Silence",
            "PostgreSQL: Kill",
            "post",
        ] {
            assert!(all.contains(part), "no {part} in 400 turns");
        }
        let mut faults = Faults::new(5, Against::Kite);
        assert!(
            (0..400)
                .map(|_| faults.turn(MayDie::No))
                .all(|turn| turn.kite.is_none() && turn.server.is_none())
        );
    }
}
