//! Memory for bodies of which it is not known yet whether they are genuine, because a signature covers the whole
//! body.
//!
//! Anybody can send such bytes, so they are counted from the first one. When there is no room, it goes to those who
//! use least: a body of the address that uses most is pushed out for an address that would still use less. So nobody
//! can keep others out by filling the memory from some addresses.

use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashMap};
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
    by_address: HashMap<ClientAddress, Share>,
    /// The same addresses by what they hold.
    ranking: BTreeSet<(usize, ClientAddress)>,
}

/// What one address holds.
#[derive(Debug, Default)]
struct Share {
    bytes: usize,
    /// Its unfinished bodies, by size. A finished one will be judged at once: it is not worth pushing out.
    unfinished: BTreeSet<(usize, u64)>,
}

#[derive(Debug)]
struct Entry {
    address: ClientAddress,
    bytes: usize,
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
        let entry = Entry { address, bytes: 0, pushed_out: pushed_out.clone() };
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
        let missing = (ledger.bytes + bytes).saturating_sub(self.pool.bytes_max);
        let wanted = ledger.of(address) + bytes;
        for victim in ledger.greediest(wanted, missing)? {
            ledger.remove(victim).inspect(|entry| entry.pushed_out.notify_one());
        }
        ledger.grow(self.number, bytes);
        Ok(())
    }

    /// The body has come in as a whole.
    pub(crate) fn complete(&self) {
        self.pool.ledger.lock().complete(self.number);
    }

    /// Waits until the room was given to another.
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
        self.by_address.get(&address).map_or(0, |share| share.bytes)
    }

    /// Bodies that together use as much as is missing: always the largest unfinished one of the address that uses
    /// most, while that is more than this. All or none: nobody is pushed out in vain.
    fn greediest(&self, bytes: usize, missing: usize) -> Result<Vec<u64>, NoRoom> {
        let (mut victims, mut freed_bytes) = (Vec::new(), 0);
        // What the addresses would hold still.
        let mut left: BTreeMap<ClientAddress, usize> = BTreeMap::new();
        while freed_bytes < missing {
            let untouched = self.ranking.iter().rev().take_while(|(held, _)| *held > bytes).copied();
            let untouched = untouched.filter(|(_, address)| !left.contains_key(address));
            let touched = left.iter().map(|(address, held)| (*held, *address));
            let has_victim = |address| self.victim(address, &victims).is_some();
            let next = untouched
                .filter(|(_, address)| has_victim(*address))
                .take(1)
                .chain(touched.filter(|(held, address)| *held > bytes && has_victim(*address)))
                .max();
            let (held, address) = next.ok_or(NoRoom)?;
            let (size, number) = self.victim(address, &victims).ok_or(NoRoom)?;
            victims.push(number);
            freed_bytes += size;
            left.insert(address, held - size);
        }
        Ok(victims)
    }

    fn victim(&self, address: ClientAddress, but: &[u64]) -> Option<(usize, u64)> {
        let unfinished = &self.by_address.get(&address)?.unfinished;
        unfinished.iter().rev().find(|(_, number)| !but.contains(number)).copied()
    }

    fn grow(&mut self, number: u64, bytes: usize) {
        let Some(entry) = self.bodies.get_mut(&number) else { return };
        let before = entry.bytes;
        entry.bytes += bytes;
        let (address, after) = (entry.address, entry.bytes);
        self.change(address, |share| {
            share.bytes += bytes;
            share.unfinished.remove(&(before, number));
            share.unfinished.insert((after, number));
        });
        self.bytes += bytes;
    }

    fn complete(&mut self, number: u64) {
        let Some(entry) = self.bodies.get(&number) else { return };
        let (address, bytes) = (entry.address, entry.bytes);
        self.change(address, |share| _ = share.unfinished.remove(&(bytes, number)));
    }

    fn remove(&mut self, number: u64) -> Option<Entry> {
        let entry = self.bodies.remove(&number)?;
        self.bytes -= entry.bytes;
        self.change(entry.address, |share| {
            share.bytes -= entry.bytes;
            share.unfinished.remove(&(entry.bytes, number));
        });
        Some(entry)
    }

    fn change(&mut self, address: ClientAddress, change: impl FnOnce(&mut Share)) {
        let share = self.by_address.entry(address).or_default();
        self.ranking.remove(&(share.bytes, address));
        change(share);
        if share.bytes == 0 {
            self.by_address.remove(&address);
        } else {
            self.ranking.insert((share.bytes, address));
        }
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
    fn nobody_is_pushed_out_in_vain() {
        let pool = Pool::new(1_000);
        let whole = pool.begin(address(1));
        whole.take(500).unwrap();
        whole.complete();
        let [first, second] = [address(2), address(3)].map(|address| {
            let body = pool.begin(address);
            body.take(250).unwrap();
            body
        });
        let newcomer = pool.begin(address(4));
        assert_eq!(newcomer.take(240), Ok(()));
        assert!(!is_pushed_out(&first) && is_pushed_out(&second));
        // 110 more would take more than the first holds.
        assert_eq!(newcomer.take(111), Err(NoRoom));
        assert!(!is_pushed_out(&first));
        assert_eq!(newcomer.take(5), Ok(()), "that much was left");
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
        assert!(
            ledger.bodies.is_empty()
                && ledger.by_address.is_empty()
                && ledger.ranking.is_empty()
                && ledger.bytes == 0
        );
    }

    #[test]
    fn of_who_holds_most_one_body_after_the_other_is_pushed_out() {
        let pool = Pool::new(1_000);
        let many: Vec<Held> = (0..10)
            .map(|_| {
                let body = pool.begin(address(1));
                body.take(60).unwrap();
                body
            })
            .collect();
        let other = pool.begin(address(2));
        other.take(250).unwrap();
        assert_eq!(pool.begin(address(3)).take(250), Ok(()));
        assert_eq!(many.iter().filter(|body| is_pushed_out(body)).count(), 2);
        assert!(!is_pushed_out(&other));
    }
}
