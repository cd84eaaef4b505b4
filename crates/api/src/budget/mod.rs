//! How much memory request bodies may use, and whose it is.
//!
//! Tenants, operators and relays each have a budget, and one tenant or relay takes at most its share of it: nobody uses up
//! what is another's. What a body holds is counted when it arrives, not when it is announced. Whoever has shown no key
//! comes out of a budget of its own ([`unverified`]).
//!
//! The first 64 KiB of a tenant's or an operator's body are not counted: a single message must not wait behind, or be
//! refused because of, campaigns.

mod unverified;

use bytes::{Bytes, BytesMut};
use chrono::{DateTime, TimeDelta, Utc};
use hashlink::LruCache;
use kite_domain::slug::{RelayId, TenantId};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use unverified::{Held, NoRoom, Pool};

use crate::clients::{ClientAddress, RequestPermit, Requests};
use crate::config::ApiConfig;
use crate::problem::{Answer, Code, Problem};

/// A permit stands for this many bytes.
const UNIT_BYTES: usize = 1 << 10;
/// Of a body with a genuine key, so much is free.
const FREE_BYTES: usize = 64 << 10;
/// Shares that are kept before unused ones are dropped.
const SHARES_KEPT: usize = 4_096;
/// Places from which genuine receipts came recently; more than relays have.
const PLACES_MAX: usize = 1_024;
/// How long a place is remembered after a genuine call.
const PLACE_KEPT: TimeDelta = TimeDelta::hours(24);

/// A relay, and where it is called from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct RelayAt {
    pub(crate) relay: RelayId,
    pub(crate) address: ClientAddress,
}

/// The budget that a body is counted against. An extension of every request with a genuine key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Payer {
    /// A tenant with a genuine key.
    Tenant(TenantId),
    /// The operator, with the admin key.
    Operator,
    /// A relay of which genuine calls came from the same address.
    Relay(RelayAt),
}

/// All budgets. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Budgets(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    tenants: Budget<TenantId>,
    operators: Budget<()>,
    relays: Budget<RelayAt>,
    unverified: Pool,
    genuine: Mutex<LruCache<RelayAt, DateTime<Utc>>>,
    /// Requests of genuine callers from an address that has reached its limit.
    crowded: Mutex<HashMap<Payer, Requests>>,
}

impl Budgets {
    /// As configured.
    pub(crate) fn new(config: &ApiConfig) -> Self {
        let share = usize::from(config.share_per_cent);
        Self(Arc::new(Inner {
            tenants: Budget::new(config.bytes_in_flight_max, share),
            operators: Budget::new(config.admin_bytes_in_flight_max, 100),
            relays: Budget::new(config.receipts_bytes_in_flight_max, share),
            unverified: Pool::new(config.unverified_bytes_in_flight_max),
            genuine: Mutex::new(LruCache::new(PLACES_MAX)),
            crowded: Mutex::default(),
        }))
    }

    /// A body that somebody pays for.
    pub(crate) fn begin(&self, payer: Payer) -> GrowingBody {
        GrowingBody {
            bytes: Gathered::Nothing,
            account: Account::Paid { budgets: self.clone(), payer, held: None },
        }
    }

    /// A body of which it is not known yet whether it is genuine.
    pub(crate) fn begin_unverified(&self, address: ClientAddress) -> GrowingBody {
        GrowingBody {
            bytes: Gathered::Nothing,
            account: Account::Unverified(self.0.unverified.begin(address)),
        }
    }

    /// A call of the relay from there was genuine.
    pub(crate) fn note_genuine(&self, place: RelayAt, now: DateTime<Utc>) {
        self.0.genuine.lock().insert(place, now);
    }

    /// Whether genuine calls of the relay came from there recently.
    pub(crate) fn is_genuine(&self, place: &RelayAt, now: DateTime<Utc>) -> bool {
        self.0.genuine.lock().peek(place).is_some_and(|last| now - *last <= PLACE_KEPT)
    }

    /// One more request of a genuine caller beyond the limit of its address; none if these are too many, too.
    pub(crate) fn begin_crowded(&self, payer: Payer, requests_max: u32) -> Option<RequestPermit> {
        let mut crowded = self.0.crowded.lock();
        if crowded.len() >= SHARES_KEPT {
            crowded.retain(|_, requests| !requests.is_forgotten());
        }
        crowded.entry(payer).or_default().begin(requests_max)
    }

    fn take(&self, payer: &Payer, units: u32) -> Answer<Permits> {
        match payer {
            Payer::Tenant(tenant) => self.0.tenants.take(tenant, units),
            Payer::Operator => self.0.operators.take(&(), units),
            Payer::Relay(place) => self.0.relays.take(place, units),
        }
    }
}

/// A budget in which everybody has the same share. The shares together may be more than the budget.
#[derive(Debug)]
struct Budget<K> {
    all: Arc<Semaphore>,
    share_units: usize,
    shares: Mutex<HashMap<K, Arc<Semaphore>>>,
}

impl<K: Clone + Eq + Hash> Budget<K> {
    fn new(bytes_max: usize, share_per_cent: usize) -> Self {
        let units = (bytes_max / UNIT_BYTES).min(Semaphore::MAX_PERMITS);
        let share_units = (units.saturating_mul(share_per_cent) / 100).min(units);
        Self { all: Arc::new(Semaphore::new(units)), share_units, shares: Mutex::default() }
    }

    fn take(&self, whose: &K, units: u32) -> Answer<Permits> {
        let all = self.all.clone().try_acquire_many_owned(units);
        let all_units =
            all.map_err(|_| Problem::new(Code::Busy, "Too many large requests are being worked on."))?;
        let share = self.share(whose);
        let own_units = share.try_acquire_many_owned(units).map_err(|_| {
            Problem::new(Code::TooManyAtOnce, "Your large requests under way hold all memory of your share.")
        })?;
        Ok(Permits { own_units, all_units })
    }

    fn share(&self, whose: &K) -> Arc<Semaphore> {
        let mut shares = self.shares.lock();
        if let Some(share) = shares.get(whose) {
            return share.clone();
        }
        if shares.len() >= SHARES_KEPT {
            // What is held keeps its share alive.
            shares.retain(|_, share| Arc::strong_count(share) > 1);
        }
        let share = Arc::new(Semaphore::new(self.share_units));
        shares.insert(whose.clone(), share.clone());
        share
    }
}

#[derive(Debug)]
struct Permits {
    own_units: OwnedSemaphorePermit,
    all_units: OwnedSemaphorePermit,
}

impl Permits {
    fn merge(&mut self, more: Self) {
        self.own_units.merge(more.own_units);
        self.all_units.merge(more.all_units);
    }
}

#[derive(Debug)]
enum Account {
    Paid { budgets: Budgets, payer: Payer, held: Option<Permits> },
    Unverified(Held),
}

impl Account {
    fn grow(&mut self, bytes_before: usize, bytes: usize) -> Answer<()> {
        match self {
            Self::Unverified(held) => held.take(bytes).map_err(|NoRoom| pushed_out()),
            Self::Paid { budgets, payer, held } => {
                let free_bytes = if matches!(payer, Payer::Relay(_)) { 0 } else { FREE_BYTES };
                let total_bytes = bytes_before + bytes;
                if total_bytes <= free_bytes {
                    return Ok(());
                }
                let units = total_bytes.div_ceil(UNIT_BYTES);
                let before = held.as_ref().map_or(0, |held| held.all_units.num_permits());
                let Some(missing) = units.checked_sub(before).filter(|missing| *missing > 0) else {
                    return Ok(());
                };
                let permits = budgets.take(payer, u32::try_from(missing).unwrap_or(u32::MAX))?;
                match held {
                    Some(held) => held.merge(permits),
                    None => *held = Some(permits),
                }
                Ok(())
            }
        }
    }
}

/// The room of a body was given to a caller who uses less, or there is none.
pub(crate) fn pushed_out() -> Problem {
    Problem::new(
        Code::Busy,
        "Too many bodies are coming in of which it is not known whether they are genuine.",
    )
}

/// The received bytes: most bodies arrive in one piece, which is kept as it is.
#[derive(Debug)]
enum Gathered {
    Nothing,
    One(Bytes),
    Many(BytesMut),
}

/// A body on its way in.
#[derive(Debug)]
pub(crate) struct GrowingBody {
    bytes: Gathered,
    account: Account,
}

impl GrowingBody {
    /// Bytes so far.
    pub(crate) fn len(&self) -> usize {
        match &self.bytes {
            Gathered::Nothing => 0,
            Gathered::One(bytes) => bytes.len(),
            Gathered::Many(bytes) => bytes.len(),
        }
    }

    /// Takes more in.
    pub(crate) fn extend(&mut self, chunk: Bytes) -> Answer<()> {
        self.account.grow(self.len(), chunk.len())?;
        self.bytes = match std::mem::replace(&mut self.bytes, Gathered::Nothing) {
            Gathered::Nothing => Gathered::One(chunk),
            Gathered::One(first) => {
                let mut bytes = BytesMut::with_capacity(2 * (first.len() + chunk.len()));
                bytes.extend_from_slice(&first);
                bytes.extend_from_slice(&chunk);
                Gathered::Many(bytes)
            }
            Gathered::Many(mut bytes) => {
                bytes.extend_from_slice(&chunk);
                Gathered::Many(bytes)
            }
        };
        Ok(())
    }

    /// Waits until its room was given to another: for ever, if it is counted against a known caller's budget.
    pub(crate) async fn pushed_out(&self) {
        match &self.account {
            Account::Paid { .. } => std::future::pending().await,
            Account::Unverified(held) => held.pushed_out().await,
        }
    }

    /// All of it.
    pub(crate) fn finish(self) -> HeldBody {
        if let Account::Unverified(held) = &self.account {
            held.complete();
        }
        let bytes = match self.bytes {
            Gathered::Nothing => Bytes::new(),
            Gathered::One(bytes) => bytes,
            Gathered::Many(bytes) => bytes.freeze(),
        };
        HeldBody { bytes, _account: self.account }
    }
}

/// A whole body. Its share of the budget is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct HeldBody {
    /// The body.
    pub(crate) bytes: Bytes,
    _account: Account,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    fn budgets(kibibytes: usize) -> Budgets {
        let bytes = kibibytes << 10;
        Budgets::new(&ApiConfig {
            bytes_in_flight_max: bytes,
            admin_bytes_in_flight_max: bytes,
            receipts_bytes_in_flight_max: bytes,
            unverified_bytes_in_flight_max: bytes,
            ..ApiConfig::default()
        })
    }

    fn tenant(name: &str) -> Payer {
        Payer::Tenant(TenantId::from_trusted(name))
    }

    fn place(number: u8) -> RelayAt {
        let address = IpAddr::V4(Ipv4Addr::new(192, 0, 2, number)).into();
        RelayAt { relay: RelayId::from_trusted("alpha"), address }
    }

    /// A body of this many KiB that has arrived, or why it has not.
    fn body(budgets: &Budgets, payer: Payer, kibibytes: usize) -> Result<HeldBody, Code> {
        let mut body = budgets.begin(payer);
        for _ in 0..kibibytes {
            body.extend(vec![b'x'; 1 << 10].into()).map_err(|problem| problem.code())?;
        }
        Ok(body.finish())
    }

    #[test]
    fn one_tenant_takes_its_share_and_leaves_the_rest_to_others() {
        let budgets = budgets(400);
        let held = body(&budgets, tenant("greedy"), 200).unwrap();
        assert_eq!(body(&budgets, tenant("greedy"), 100).unwrap_err(), Code::TooManyAtOnce);
        let other = body(&budgets, tenant("modest"), 200).unwrap();
        assert_eq!(body(&budgets, tenant("third"), 100).unwrap_err(), Code::Busy);
        drop(held);
        assert!(
            body(&budgets, tenant("third"), 100).is_ok() && body(&budgets, tenant("greedy"), 100).is_ok()
        );
        assert_eq!(other.bytes.len(), 200 << 10);
    }

    #[test]
    fn small_bodies_pass_even_when_nothing_is_left() {
        let budgets = budgets(0);
        for payer in [tenant("acme"), Payer::Operator] {
            assert!(body(&budgets, payer.clone(), 64).is_ok());
            assert!(body(&budgets, payer, 65).is_err());
        }
    }

    #[test]
    fn tenants_operators_and_relays_do_not_share() {
        let budgets = budgets(400);
        let tenants = ["a", "b"].map(|name| body(&budgets, tenant(name), 200).unwrap());
        let relays = [1, 2].map(|number| body(&budgets, Payer::Relay(place(number)), 200).unwrap());
        assert!(body(&budgets, Payer::Operator, 400).is_ok());
        assert_eq!(body(&budgets, tenant("c"), 65).unwrap_err(), Code::Busy);
        assert_eq!(body(&budgets, Payer::Relay(place(3)), 1).unwrap_err(), Code::Busy);
        drop((tenants, relays));
        let units = budgets.0.tenants.all.available_permits();
        assert_eq!((units, budgets.0.relays.all.available_permits()), (400, 400));
    }

    #[test]
    fn what_is_announced_takes_nothing_until_it_arrives() {
        let budgets = budgets(400);
        let announced: Vec<GrowingBody> =
            (0..87).map(|_| budgets.begin_unverified(place(1).address)).collect();
        let mut genuine = budgets.begin_unverified(place(2).address);
        assert!(genuine.extend(vec![0; 400 << 10].into()).is_ok());
        drop(announced);
    }

    #[test]
    fn a_body_in_many_pieces_is_put_together() {
        let mut body = budgets(400).begin(Payer::Operator);
        for piece in ["a", "bc", "", "def"] {
            body.extend(Bytes::from_static(piece.as_bytes())).unwrap();
        }
        assert_eq!(body.len(), 6);
        assert_eq!(body.finish().bytes, "abcdef");
    }

    #[test]
    fn places_of_genuine_calls_are_remembered_for_a_day_and_not_without_bound() {
        let budgets = budgets(1);
        let at = |hours| DateTime::from_timestamp(1_800_000_000, 0).unwrap() + TimeDelta::hours(hours);
        budgets.note_genuine(place(1), at(0));
        assert!(budgets.is_genuine(&place(1), at(24)) && !budgets.is_genuine(&place(1), at(25)));
        assert!(!budgets.is_genuine(&place(2), at(0)));
        for number in 0..2_000 {
            let relay = RelayId::from_trusted(format!("relay-{number}"));
            budgets.note_genuine(RelayAt { relay, ..place(1) }, at(1));
        }
        assert_eq!(budgets.0.genuine.lock().len(), PLACES_MAX);
        assert!(!budgets.is_genuine(&place(1), at(1)), "the oldest is forgotten");
    }

    #[test]
    fn who_has_no_request_in_progress_is_not_remembered_without_bound() {
        let budgets = budgets(1);
        let crowded = |name: String| budgets.begin_crowded(tenant(&name), 1);
        let first = crowded("first".to_owned());
        let at_once: Vec<_> = (0..SHARES_KEPT).map(|number| crowded(format!("tenant-{number}"))).collect();
        assert!(at_once.iter().all(Option::is_some));
        drop(at_once);
        assert!(crowded("one more".to_owned()).is_some());
        assert_eq!(budgets.0.crowded.lock().len(), 2);
        assert!(first.is_some() && crowded("first".to_owned()).is_none(), "its request is still in progress");
    }

    #[test]
    fn who_holds_nothing_has_no_share_that_is_kept_without_bound() {
        let budgets = budgets(400);
        let held = body(&budgets, tenant("first"), 200).unwrap();
        let share = |name: &str| budgets.0.tenants.share(&TenantId::from_trusted(name));
        let at_once: Vec<_> = (0..SHARES_KEPT).map(|number| share(&format!("tenant-{number}"))).collect();
        drop(at_once);
        share("one-more");
        assert_eq!(budgets.0.tenants.shares.lock().len(), 2);
        assert_eq!(body(&budgets, tenant("first"), 100).unwrap_err(), Code::TooManyAtOnce);
        drop(held);
    }
}
