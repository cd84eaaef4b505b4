//! While it runs: what was delivered more than once so far, by the relays' own ledgers.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};

use kite_testkit::carriers::{MAIL_RELAY, PHONE_RELAYS};
use kite_testkit::oracle::LedgerEntry;
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
    entries: Vec<PageEntry>,
    next: Option<usize>,
}

#[derive(Deserialize)]
struct PageEntry {
    status: String,
    #[serde(flatten)]
    entry: LedgerEntry,
}

async fn page(house: &House, relay: &str, after: usize) -> anyhow::Result<Page> {
    let path = format!("/ledger?relay={relay}&after={after}&limit={PAGE}");
    Ok(serde_json::from_value(house.relay(Method::GET, &path, &Value::Null).await?)?)
}

fn all_relays() -> impl Iterator<Item = &'static str> {
    PHONE_RELAYS.iter().map(|(relay, _)| *relay).chain([MAIL_RELAY])
}

impl Balance {
    /// Reads what has its result meanwhile. What comes after something that has none yet waits for the next time.
    pub(super) async fn read_on(&mut self, house: &House) -> anyhow::Result<()> {
        for relay in all_relays() {
            loop {
                let after = self.settled.get(relay).copied().unwrap_or(0);
                let page = page(house, relay, after).await?;
                let settled = page.entries.iter().take_while(|entry| entry.status != "accepted").count();
                page.entries[..settled].iter().for_each(|entry| self.note(&entry.entry));
                self.settled.insert(relay, after + settled);
                if settled < page.entries.len() || page.next.is_none() {
                    break;
                }
            }
        }
        Ok(())
    }

    fn note(&mut self, entry: &LedgerEntry) {
        if entry.deliveries == 0 {
            return;
        }
        self.repeated += u64::from(entry.deliveries > 1);
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
                Some((_, true)) => doubles.permitted += 1,
                Some((_, false)) => doubles.forbidden += 1,
                None => {}
            }
        }
        doubles
    }
}

/// Every entry of every ledger, for the judge.
pub(super) async fn each_entry(house: &House, mut read: impl FnMut(&LedgerEntry)) -> anyhow::Result<()> {
    for relay in all_relays() {
        let mut after = Some(0);
        while let Some(from) = after {
            let page = page(house, relay, from).await?;
            page.entries.iter().for_each(|entry| read(&entry.entry));
            after = page.next;
        }
    }
    Ok(())
}
