//! During the run: what was delivered more than once so far, by the relays' own ledgers.
//!
//! This anticipates what the judge decides in the end, who reads every ledger again. An entry with a result is read
//! once here; a second delivery under one reference is taken from the relay's own count.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};

use anyhow::Context;
use kite_testkit::oracle::LedgerEntry;
use kite_testkit::relays;
use reqwest::Method;
use serde::Deserialize;
use serde_json::Value;

use super::house::House;
use super::traffic::Taken;

/// Entries of a page.
const PAGE: usize = 10_000;

/// Reads ledgers on from where it stopped.
#[derive(Default)]
pub(super) struct Balance {
    /// By relay: everything before it has its result.
    settled: HashMap<&'static str, usize>,
    /// Attempts that delivered each message, by the hash of its id: ids are long and messages are many.
    attempts: HashMap<u64, u8>,
    /// The sendings of messages that were delivered by more than one attempt.
    doubled: Vec<Box<str>>,
    /// Hand-overs that were delivered more than once under one reference: never permitted.
    repeated: u64,
}

/// Messages delivered more than once.
#[derive(Clone, Copy, Default, serde::Serialize)]
pub(super) struct Doubles {
    pub(super) permitted: u64,
    pub(super) forbidden: u64,
}

#[derive(Deserialize)]
struct Page {
    entries: Vec<LedgerEntry>,
    next: Option<usize>,
}

#[derive(Deserialize)]
struct Summary {
    relays: Vec<Counts>,
}

/// What a relay counts.
#[derive(Deserialize)]
struct Counts {
    id: String,
    refused: u64,
    delivered_more_than_once: u64,
}

async fn counts(house: &House) -> anyhow::Result<Vec<Counts>> {
    let summary = house.relay(Method::GET, "/ledger/summary", &Value::Null).await?;
    Ok(serde_json::from_value::<Summary>(summary)?.relays)
}

/// How many hand-overs the mail server has refused, also those that are not in its ledger.
pub(super) async fn refused_by_mail(house: &House) -> anyhow::Result<u64> {
    let mail = counts(house).await?.into_iter().find(|counts| counts.id == relays::MAIL_RELAY);
    Ok(mail.context("the mail server counts")?.refused)
}

async fn page(house: &House, relay: &str, after: usize) -> anyhow::Result<Page> {
    let path = format!("/ledger?relay={relay}&after={after}&limit={PAGE}");
    Ok(serde_json::from_value(house.relay(Method::GET, &path, &Value::Null).await?)?)
}

impl Balance {
    /// Reads what has its result meanwhile. What comes after something that has none yet waits for the next time.
    pub(super) async fn read_on(&mut self, house: &House) -> anyhow::Result<()> {
        for relay in relays::all() {
            loop {
                let after = self.settled.get(relay).copied().unwrap_or(0);
                let page = page(house, relay, after).await?;
                let settled = page.entries.iter().take_while(|entry| entry.status != "accepted").count();
                page.entries[..settled].iter().for_each(|entry| self.note(entry));
                self.settled.insert(relay, after + settled);
                if settled < page.entries.len() || page.next.is_none() {
                    break;
                }
            }
        }
        self.repeated = counts(house).await?.iter().map(|relay| relay.delivered_more_than_once).sum();
        Ok(())
    }

    fn note(&mut self, entry: &LedgerEntry) {
        if entry.deliveries == 0 {
            return;
        }
        let mut hasher = DefaultHasher::new();
        hasher.write(entry.message.as_bytes());
        let attempts = self.attempts.entry(hasher.finish()).or_default();
        *attempts = attempts.saturating_add(1);
        if *attempts == 2 {
            let sending = entry.message.rsplit_once('-').map_or("", |(sending, _)| sending);
            self.doubled.push(sending.into());
        }
    }

    /// What was delivered more than once. A sending whose answer is still awaited is not judged yet.
    pub(super) fn doubles(&self, taken: &Taken) -> Doubles {
        let mut doubles = Doubles { permitted: 0, forbidden: self.repeated };
        for sending in &self.doubled {
            match taken.sendings.get(sending) {
                Some(sent) if sent.at_least_once => doubles.permitted += 1,
                Some(_) => doubles.forbidden += 1,
                None => {}
            }
        }
        doubles
    }
}

/// Every entry of every ledger, for the judge.
pub(super) async fn each_entry(house: &House, mut read: impl FnMut(&LedgerEntry)) -> anyhow::Result<()> {
    for relay in relays::all() {
        let mut after = Some(0);
        while let Some(from) = after {
            let page = page(house, relay, from).await?;
            page.entries.iter().for_each(&mut read);
            after = page.next;
        }
    }
    Ok(())
}
