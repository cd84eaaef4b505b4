//! The end: the log against the ledgers, by a judge that shares no code with Kite; the API and a replay against the
//! log.

use std::fmt;

use anyhow::{Context, ensure};
use chrono::TimeDelta;
use kite_testkit::customer::NEVER_REPORTED;
use kite_testkit::operator;
use kite_testkit::oracle::{Oracle, Verdict};
use serde::Serialize;

use super::balance::{each_entry, refused_by_mail};
use super::faults::TURN_MS_MAX;
use super::house::House;
use super::traffic::Taken;

/// Sendings whose messages the API is asked for, one by one.
const COMPARED_MAX: usize = 500;
/// Of a hundred messages, at most this many may expire without a known result.
const EXPIRED_PER_CENT_MAX: u64 = 5;
/// Of a hundred messages that were not cancelled, at least so many are delivered, whatever relays do.
const DELIVERED_PER_CENT_MIN: u64 = 60;

/// What the judge says.
#[derive(Serialize)]
pub(super) struct Trial {
    pub(super) verdict: Verdict,
    /// As the mail server counts them.
    refused_by_mail: u64,
    /// Sendings whose messages the API told one by one as the log has them.
    compared: usize,
    /// Where it told otherwise.
    api_differs: Option<String>,
    /// What `kite replay --verify` printed, if a read model is not what the log says.
    replay_differs: Option<String>,
}

impl Trial {
    /// Judges a stopped Kite.
    pub(super) async fn hold(house: &mut House, taken: &Taken) -> anyhow::Result<Self> {
        let mut oracle = Oracle::default();
        oracle.night(house.night.from, house.night.until);
        oracle.relays_stand_still(TimeDelta::milliseconds(TURN_MS_MAX as i64));
        oracle.never_reported(NEVER_REPORTED);
        for (sending, sent) in &taken.sendings {
            oracle.claim(sending, sent.messages, sent.cancel);
        }
        for sent in &taken.of_others {
            oracle.claim(&sent.id, sent.messages, sent.cancel);
        }
        operator::read_log(&mut oracle, &house.binary(), &house.place())?;
        each_entry(house, |entry| oracle.read_ledger(entry)).await?;

        house.restart().await?;
        let step = taken.sendings.len().div_ceil(COMPARED_MAX).max(1);
        let mut compared = 0;
        let mut api_differs = None;
        for sending in taken.sendings.keys().step_by(step) {
            match house.customer.compare(&oracle, sending).await {
                Ok(()) => compared += 1,
                Err(error) => api_differs = Some(format!("{error:#}")),
            }
        }
        house.stop()?;
        let verdict = oracle.judge();
        ensure!(verdict.messages > 0, "nothing was sent");
        let refused_by_mail = refused_by_mail(house).await?;
        let replay_differs = operator::replay_differs(&house.binary(), &house.place());
        let replay_differs = replay_differs.context("the log cannot be replayed")?;
        Ok(Self { verdict, refused_by_mail, compared, api_differs, replay_differs })
    }

    /// What does not hold, beside what the verdict says word by word.
    pub(super) fn complaints(&self) -> Vec<String> {
        let verdict = &self.verdict;
        let meant = verdict.messages - verdict.outcomes.cancelled;
        let expired: u64 = verdict.expired_at.values().sum();
        let complaints = [
            (!verdict.is_clean(), "the judge has found something".to_owned()),
            (verdict.splits.is_empty(), "nothing was split".to_owned()),
            (verdict.held == 0, "no advertisement was held at night".to_owned()),
            (
                verdict.outcomes.delivered * 100 < meant * DELIVERED_PER_CENT_MIN,
                format!("only {} of {meant} messages were delivered", verdict.outcomes.delivered),
            ),
            (
                expired * 100 > verdict.messages * EXPIRED_PER_CENT_MAX,
                format!("{expired} messages expired without an answer"),
            ),
            (
                verdict.refused_unseen > self.refused_by_mail,
                format!("{} refused by mail, which counts {}", verdict.refused_unseen, self.refused_by_mail),
            ),
            (self.api_differs.is_some(), "the API tells something else than the log".to_owned()),
            (self.replay_differs.is_some(), "a read model is not what the log says".to_owned()),
        ];
        complaints.into_iter().filter(|(is_wrong, _)| *is_wrong).map(|(_, what)| what).collect()
    }
}

impl fmt::Display for Trial {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.verdict)?;
        match &self.api_differs {
            None => writeln!(formatter, "API: {} sendings, every message as in the log", self.compared)?,
            Some(what) => writeln!(formatter, "API: {what}")?,
        }
        match &self.replay_differs {
            None => writeln!(formatter, "replay: every read model is what the log says"),
            Some(printed) => writeln!(formatter, "replay: a read model is NOT what the log says\n{printed}"),
        }
    }
}
