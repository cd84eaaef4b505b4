//! Memory for bodies of which nobody knows yet whether they are genuine: a signature is over the whole body.
//!
//! Anybody can send such bytes, so they are counted from the first one, and when there is no room it goes to those who
//! hold least: a body of the address that holds most is pushed out for one of an address that would still hold less.
//! Whoever fills the memory from some addresses so keeps nobody else out.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::Notify;

use crate::clients::ClientAddress;

/// The memory. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Pool {
    bytes_max: usize,
    ledger: Arc<Mutex<Ledger>>,
}

#[derive(Debug, Default)]
struct Ledger {
    bytes: usize,
    next: u64,
    bodies: HashMap<u64, Entry>,
    by_address: HashMap<ClientAddress, usize>,
}

#[derive(Debug)]
struct Entry {
    address: ClientAddress,
    bytes: usize,
    /// It has come in as a whole and will be judged at once: not worth pushing out.
    is_whole: bool,
    pushed_out: Arc<Notify>,
}

/// There is no room, or there no longer is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NoRoom;

impl Pool {
    /// So many bytes.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, ledger: Arc::default() }
    }

    /// A body from this address, with no bytes yet.
    pub(crate) fn begin(&self, address: ClientAddress) -> Held {
        let pushed_out = Arc::new(Notify::new());
        let mut ledger = self.ledger.lock();
        let number = ledger.next;
        ledger.next += 1;
        let entry = Entry { address, bytes: 0, is_whole: false, pushed_out: pushed_out.clone() };
        ledger.bodies.insert(number, entry);
        Held { pool: self.clone(), number, pushed_out }
    }
}

/// The place of one body. Free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    pool: Pool,
    number: u64,
    pushed_out: Arc<Notify>,
}

impl Held {
    /// Takes room for so many bytes more.
    pub(crate) fn take(&self, bytes: usize) -> Result<(), NoRoom> {
        let mut ledger = self.pool.ledger.lock();
        let address = ledger.bodies.get(&self.number).ok_or(NoRoom)?.address;
        let wanted = ledger.of(address) + bytes;
        while ledger.bytes + bytes > self.pool.bytes_max {
            let victim = ledger.greediest(wanted).ok_or(NoRoom)?;
            ledger.remove(victim).inspect(|entry| entry.pushed_out.notify_one());
        }
        ledger.bytes += bytes;
        *ledger.by_address.entry(address).or_default() += bytes;
        ledger.bodies.get_mut(&self.number).ok_or(NoRoom)?.bytes += bytes;
        Ok(())
    }

    /// The body has come in as a whole.
    pub(crate) fn complete(&self) {
        if let Some(entry) = self.pool.ledger.lock().bodies.get_mut(&self.number) {
            entry.is_whole = true;
        }
    }

    /// Waits until the room was given to somebody else.
    pub(crate) async fn pushed_out(&self) {
        self.pushed_out.notified().await;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.pool.ledger.lock().remove(self.number);
    }
}

impl Ledger {
    fn of(&self, address: ClientAddress) -> usize {
        self.by_address.get(&address).copied().unwrap_or(0)
    }

    /// The largest unfinished body of the address that holds most, if that is more than this.
    fn greediest(&self, bytes: usize) -> Option<u64> {
        let unfinished = self.bodies.iter().filter(|(_, entry)| !entry.is_whole && entry.bytes > 0);
        let ranked = unfinished.map(|(number, entry)| (self.of(entry.address), entry.bytes, *number));
        ranked.max().filter(|(held, ..)| *held > bytes).map(|(.., number)| number)
    }

    fn remove(&mut self, number: u64) -> Option<Entry> {
        let entry = self.bodies.remove(&number)?;
        self.bytes -= entry.bytes;
        let left = self.of(entry.address) - entry.bytes;
        match left {
            0 => self.by_address.remove(&entry.address),
            left => self.by_address.insert(entry.address, left),
        };
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use std::net::{IpAddr, Ipv4Addr};

    fn address(number: u8) -> ClientAddress {
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, number)).into()
    }

    fn is_pushed_out(body: &Held) -> bool {
        body.pushed_out().now_or_never().is_some()
    }

    #[test]
    fn who_holds_least_gets_room_from_who_holds_most() {
        let pool = Pool::new(1_000);
        let [small, large] = [200, 600].map(|bytes| {
            let body = pool.begin(address(1));
            body.take(bytes).unwrap();
            body
        });
        let genuine = pool.begin(address(2));
        assert_eq!(genuine.take(300), Ok(()));
        assert!(is_pushed_out(&large) && !is_pushed_out(&small));
        assert_eq!(large.take(1), Err(NoRoom), "what was pushed out does not come back");
        assert_eq!(genuine.take(300), Ok(()));
    }

    #[test]
    fn nobody_is_pushed_out_for_who_would_hold_as_much() {
        let pool = Pool::new(1_000);
        let [first, second] = [address(1), address(2)].map(|address| {
            let body = pool.begin(address);
            body.take(500).unwrap();
            body
        });
        assert_eq!(pool.begin(address(1)).take(1), Err(NoRoom));
        assert_eq!(pool.begin(address(3)).take(500), Err(NoRoom));
        assert_eq!(pool.begin(address(3)).take(499), Ok(()));
        assert!(is_pushed_out(&first) || is_pushed_out(&second));
    }

    #[test]
    fn what_has_come_in_as_a_whole_stays() {
        let pool = Pool::new(1_000);
        let whole = pool.begin(address(1));
        whole.take(900).unwrap();
        whole.complete();
        let other = pool.begin(address(2));
        assert_eq!(other.take(200), Err(NoRoom));
        drop(whole);
        assert_eq!(other.take(200), Ok(()));
    }

    #[test]
    fn room_is_given_back() {
        let pool = Pool::new(1_000);
        for number in 0..100 {
            pool.begin(address(number)).take(1_000).unwrap();
        }
        let ledger = pool.ledger.lock();
        assert!(ledger.bodies.is_empty() && ledger.by_address.is_empty() && ledger.bytes == 0);
    }
}
