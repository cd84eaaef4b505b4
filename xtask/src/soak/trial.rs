//! The end: the log against the ledgers, by a judge that shares no code with Kite; the API and a replay against the
//! log.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, ensure};
use chrono::TimeDelta;
use kite_testkit::customer::NEVER_REPORTED;
use kite_testkit::operator;
use kite_testkit::oracle::{Oracle, Verdict};
use serde::Serialize;

use super::balance::{each_entry, refused_by_mail};
use super::house::House;
use super::pace::{self, Called, Pace};
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
    /// APIs that did so, of each of those sendings.
    apis: usize,
    /// How fast the relays were called that have agreed to a rate.
    called: BTreeMap<&'static str, Called>,
    /// Where it told otherwise.
    api_differs: Option<String>,
    /// What `kite replay --verify` printed, if a read model is not what the log says.
    replay_differs: Option<String>,
}

impl Trial {
    /// Judges a stopped Kite.
    pub(super) async fn hold(house: &mut House, taken: &Taken, turn_ms_max: u64) -> anyhow::Result<Self> {
        let mut oracle = Oracle::default();
        oracle.night(house.night.from, house.night.until);
        oracle.relays_stand_still(TimeDelta::milliseconds(turn_ms_max as i64));
        oracle.never_reported(NEVER_REPORTED);
        for (sending, sent) in &taken.sendings {
            oracle.claim(sending, sent.messages, sent.cancel);
        }
        for sent in &taken.of_others {
            oracle.claim(&sent.id, sent.messages, sent.cancel);
        }
        operator::read_log(&mut oracle, &house.binary(), &house.place())?;
        let mut pace = Pace::new(&house.agreed, &house.standstills);
        each_entry(house, |entry| {
            pace.read(entry);
            oracle.read_ledger(entry);
        })
        .await?;

        house.restart_apis().await?;
        let step = taken.sendings.len().div_ceil(COMPARED_MAX).max(1);
        let (mut compared, mut apis) = (0, 0);
        let mut api_differs = None;
        for customer in house.customer_at_each() {
            apis += 1;
            compared = 0;
            for sending in taken.sendings.keys().step_by(step) {
                match customer.compare(&oracle, sending).await {
                    Ok(()) => compared += 1,
                    Err(error) => api_differs = Some(format!("{}: {error:#}", customer.kite)),
                }
            }
        }
        house.stop()?;
        let verdict = oracle.judge();
        ensure!(verdict.messages > 0, "nothing was sent");
        let refused_by_mail = refused_by_mail(house).await?;
        let replay_differs = operator::replay_differs(&house.binary(), &house.place());
        let replay_differs = replay_differs.context("the log cannot be replayed")?;
        let called = pace.called();
        Ok(Self { verdict, refused_by_mail, compared, apis, called, api_differs, replay_differs })
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
        let complaints = complaints.into_iter().filter(|(is_wrong, _)| *is_wrong).map(|(_, what)| what);
        complaints.chain(pace::complaints(&self.called)).collect()
    }
}

impl fmt::Display for Trial {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.verdict)?;
        match &self.api_differs {
            None => {
                let at_each =
                    if self.apis > 1 { format!(", at each of {}", self.apis) } else { String::new() };
                writeln!(formatter, "API: {} sendings, every message as in the log{at_each}", self.compared)?;
            }
            Some(what) => writeln!(formatter, "API: {what}")?,
        }
        for (relay, called) in &self.called {
            let Called { rate, ahead_seconds_max, counted, .. } = called;
            writeln!(
                formatter,
                "rate of {relay}: {rate} a second, at most {ahead_seconds_max:.2} s ahead of it in {counted} hand-overs"
            )?;
        }
        match &self.replay_differs {
            None => writeln!(formatter, "replay: every read model is what the log says"),
            Some(printed) => writeln!(formatter, "replay: a read model is NOT what the log says\n{printed}"),
        }
    }
}
