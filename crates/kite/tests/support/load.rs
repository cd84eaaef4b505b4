//! The customer at work, in a thread of its own.

use anyhow::ensure;
use kite_testkit::customer::{Mix, Requests};
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

/// Every sending that got a 202, with its number of messages.
pub(crate) type Accepted = BTreeMap<String, u64>;

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
        let counted = accepted.clone();
        let sending = move || async move {
            let mut sendings = Accepted::new();
            while counted.load(Ordering::SeqCst) < messages {
                let request = requests.next(now());
                if let Some(id) = customer.send(&request).await? {
                    sendings.insert(id, request.messages);
                    counted.fetch_add(request.messages, Ordering::SeqCst);
                }
            }
            Ok(sendings)
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let work =
            std::thread::Builder::new().name("load".to_owned()).spawn(move || runtime.block_on(sending()))?;
        Ok(Self { accepted, work })
    }

    /// Waits until this many messages got a 202.
    pub(crate) async fn wait_for_accepted(&self, messages: u64) -> anyhow::Result<()> {
        wait_until(&format!("{messages} accepted messages"), Duration::from_secs(120), async || {
            self.work.is_finished() || self.accepted.load(Ordering::SeqCst) >= messages
        })
        .await?;
        ensure!(self.accepted.load(Ordering::SeqCst) >= messages, "the load ended early");
        Ok(())
    }

    /// Waits for the end.
    pub(crate) async fn finish(self) -> anyhow::Result<Accepted> {
        wait_until("the load to end", Duration::from_secs(300), async || self.work.is_finished()).await?;
        self.work.join().map_err(|_| anyhow::anyhow!("the load panicked"))?
    }
}
