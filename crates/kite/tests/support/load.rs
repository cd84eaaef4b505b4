//! The customer at work, in a thread of its own.

use anyhow::{bail, ensure};
use kite_testkit::customer::{Mix, Request, Requests, Sent};
use kite_testkit::dice::Dice;
use kite_testkit::wait::wait_until;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{House, now};

/// Mostly single messages; some requests take several calls to a relay, a few more than one lot.
const SIZES: [u64; 29] =
    [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 7, 7, 7, 7, 40, 40, 40, 60, 60, 150, 150, 400, 1_200];
const MIX: Mix = Mix { sizes: &SIZES, ads_per_cent: 0, forced_per_cent: 0 };
/// Requests out of a hundred that are sent again after the last restart.
const REPEATED_PER_CENT: u64 = 5;

/// Every sending that got a 202.
#[derive(Default)]
pub(crate) struct Accepted {
    sendings: BTreeMap<String, Sent>,
    /// Some of the requests, with the ids that they were answered with.
    pub(crate) kept: Vec<(Request, String)>,
}

impl Accepted {
    /// Notes a 202. No two requests are answered with the same sending.
    pub(crate) fn add(&mut self, sent: Sent) -> anyhow::Result<()> {
        match self.sendings.insert(sent.id.clone(), sent) {
            None => Ok(()),
            Some(sent) => bail!("two requests were answered with {}", sent.id),
        }
    }

    /// All of them, by id.
    pub(crate) fn sendings(&self) -> impl Iterator<Item = &Sent> {
        self.sendings.values()
    }

    /// Of all of them.
    pub(crate) fn messages(&self) -> u64 {
        self.sendings().map(|sent| sent.messages).sum()
    }
}

/// Requests one after the other, until enough is accepted.
pub(crate) struct Load {
    accepted: Arc<AtomicU64>,
    work: std::thread::JoinHandle<anyhow::Result<Accepted>>,
}

impl Load {
    /// Starts sending, until this many messages are accepted.
    pub(crate) fn start(house: &House, messages: u64, seed: u64) -> anyhow::Result<Self> {
        let accepted = Arc::new(AtomicU64::new(0));
        let customer = house.customer.clone();
        let mut requests = Requests::new(seed, MIX);
        let mut dice = Dice::new(seed ^ 1);
        let counted = accepted.clone();
        let sending = move || async move {
            let mut taken = Accepted::default();
            while counted.load(Ordering::SeqCst) < messages {
                let request = requests.next(now());
                let Some(sent) = customer.send(&request).await? else { continue };
                counted.fetch_add(request.messages, Ordering::SeqCst);
                if taken.kept.is_empty() || dice.per_cent(REPEATED_PER_CENT) {
                    taken.kept.push((request, sent.id.clone()));
                }
                taken.add(sent)?;
            }
            Ok(taken)
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let work =
            std::thread::Builder::new().name("load".to_owned()).spawn(move || runtime.block_on(sending()))?;
        Ok(Self { accepted, work })
    }

    /// Waits until this many messages got a 202; gives itself back.
    pub(crate) async fn wait_for_accepted(self, house: &House, messages: u64) -> anyhow::Result<Self> {
        let timeout = house.at_most(Duration::from_secs(120))?;
        wait_until(&format!("{messages} accepted messages"), timeout, async || {
            self.work.is_finished() || self.accepted.load(Ordering::SeqCst) >= messages
        })
        .await?;
        if self.accepted.load(Ordering::SeqCst) < messages {
            self.finish(house).await?;
            bail!("the load ended before {messages} messages were accepted");
        }
        Ok(self)
    }

    /// Waits for the end.
    pub(crate) async fn finish(self, house: &House) -> anyhow::Result<Accepted> {
        let timeout = house.at_most(Duration::from_secs(300))?;
        wait_until("the load to end", timeout, async || self.work.is_finished()).await?;
        let taken = self.work.join().map_err(|_| anyhow::anyhow!("the load panicked"))??;
        ensure!(!taken.kept.is_empty(), "nothing was accepted");
        Ok(taken)
    }
}
