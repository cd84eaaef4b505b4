//! The shares of a relay: how much of its rate and of its calls this process may use.
//!
//! Several processes call a relay at once, and all together may exceed neither its rate nor its calls in flight. Each
//! share is a lease, worth that part of both; a process without a share does not call. The holder of the first share
//! also pulls receipts, and tries the relay out after a trip.
//!
//! - A process that wants shares announces that by a lease of its own, so all know how many want some, and what is
//!   fair.
//! - A process with more than its fair number gives some back, once its calls fit into the rest.
//! - Shares that a process has lost are taken over only after the lease's time and the longest call.
//! - A share that another process has had comes without a burst: the relay is called no faster while shares move.
//!
//! A process that runs alone has them all from the beginning, and keeps them.

mod keeper;
mod portion;
#[cfg(test)]
mod tests;

use chrono::{DateTime, TimeDelta, Utc};
use kite_commands::describe;
use kite_commands::lease::{Claim, HeldBy, LeaseError, LeaseHolder, Tenure};
use kite_domain::relay::RelayProfile;
use kite_domain::slug::RelayId;
use parking_lot::Mutex;
use smol_str::{SmolStr, format_smolstr};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(crate) use keeper::{OfTheFirstShare, ShareKeeper};
pub(crate) use portion::{Portion, kept_for_passwords};
use portion::{fair, shares_of};

use crate::handover_time::longest_handover;

/// How often a process checks what others have, and whether it has its fair number.
const LOOK_EVERY: TimeDelta = TimeDelta::seconds(2);
/// The share that allows what only one process does.
const FIRST: u32 = 0;

/// Whom a call is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seat {
    /// One-time passwords alone; its number among those.
    Kept(u16),
    /// Everything; its number among those.
    Open(u16),
}

/// Whether a process can use shares of a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wants {
    /// Yes: as many as are fair.
    Shares,
    /// No: others may have them all.
    Nothing,
}

/// The shares of one relay that this process holds. Outlives the relay's definitions.
pub(crate) struct Shares {
    relay: RelayId,
    holder: LeaseHolder,
    state: Mutex<State>,
    /// Held while looking, so that nothing is taken twice.
    looking: tokio::sync::Mutex<()>,
}

struct State {
    /// How many there are.
    of: u32,
    /// How many calls all of them are worth.
    calls: u16,
    longest_call: TimeDelta,
    /// Whether this process can use any.
    wants: Wants,
    held: BTreeMap<u32, Share>,
    /// Says that this process wants some.
    wish: Option<Tenure>,
    /// Whether other processes want some.
    others_want: bool,
    calls_under_way: u16,
    /// Pulls of receipts that are in progress.
    pulls_under_way: u16,
    /// How often a share was taken that another process has had.
    taken_over: u64,
    /// Counts the definitions of the relay.
    definition: u64,
    look_at: Option<DateTime<Utc>>,
}

struct Share {
    tenure: Tenure,
    /// It is not used any more, and is given back as soon as nothing is in progress on it.
    is_going: bool,
}

impl State {
    fn usable(&self, now: DateTime<Utc>) -> impl Iterator<Item = u32> {
        let is_usable = move |(number, share): &(&u32, &Share)| {
            !share.is_going && **number < self.of && share.tenure.holds(now)
        };
        self.held.iter().filter(is_usable).map(|(number, _)| *number)
    }

    fn holds_first(&self, now: DateTime<Utc>) -> bool {
        self.usable(now).next() == Some(FIRST)
    }

    fn portion(&self, now: DateTime<Utc>) -> Portion {
        Portion { held: self.usable(now).count() as u32, of: self.of }
    }

    /// How many calls may be in progress.
    fn calls(&self, now: DateTime<Utc>) -> u16 {
        self.portion(now).part_of(self.calls.into()) as u16
    }

    fn staying(&self) -> u32 {
        self.held.values().filter(|share| !share.is_going).count() as u32
    }

    /// What is to go and has nothing in progress.
    fn let_go(&self, now: DateTime<Utc>) -> Vec<(u32, Tenure)> {
        let is_drained = self.calls_under_way <= self.calls(now);
        let may_go = |(number, share): &(&u32, &Share)| {
            share.is_going && is_drained && (**number != FIRST || self.pulls_under_way == 0)
        };
        self.held.iter().filter(may_go).map(|(number, share)| (*number, share.tenure)).collect()
    }
}

/// A call that may be in progress until this is dropped.
pub(crate) struct UnderWay {
    shares: Arc<Shares>,
    what: What,
}

#[derive(Clone, Copy)]
enum What {
    Call,
    Pull,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut state = self.shares.state.lock();
        match self.what {
            What::Call => state.calls_under_way -= 1,
            What::Pull => state.pulls_under_way -= 1,
        }
    }
}

impl Shares {
    /// None of this relay's is held yet.
    pub(crate) fn new(profile: &RelayProfile, holder: LeaseHolder) -> Self {
        let state = State {
            of: shares_of(profile),
            calls: profile.calls_in_flight_max.max(1),
            longest_call: longest_handover(profile),
            wants: Wants::Shares,
            held: BTreeMap::new(),
            wish: None,
            others_want: false,
            calls_under_way: 0,
            pulls_under_way: 0,
            taken_over: 0,
            definition: 0,
            look_at: None,
        };
        let (relay, looking) = (profile.relay.clone(), tokio::sync::Mutex::default());
        Self { relay, holder, state: Mutex::new(state), looking }
    }

    /// The relay's definition from now on. Returns its number.
    pub(crate) fn define(&self, profile: &RelayProfile) -> u64 {
        let mut state = self.state.lock();
        state.of = shares_of(profile);
        state.calls = profile.calls_in_flight_max.max(1);
        state.longest_call = longest_handover(profile);
        state.look_at = None;
        state.definition += 1;
        state.definition
    }

    /// How much of the relay's rate may be used now.
    pub(crate) fn portion(&self, now: DateTime<Utc>) -> Portion {
        self.state.lock().portion(now)
    }

    /// Both together: how much may be used now, and how often a share was taken that another process has had.
    pub(crate) fn standing(&self, now: DateTime<Utc>) -> (Portion, u64) {
        let state = self.state.lock();
        (state.portion(now), state.taken_over)
    }

    /// Grows when a share is taken that another process has had: it brings no burst.
    pub(crate) fn taken_over(&self) -> u64 {
        self.state.lock().taken_over
    }

    /// Whether the first share is held.
    pub(crate) fn holds_first(&self, now: DateTime<Utc>) -> bool {
        self.state.lock().holds_first(now)
    }

    /// Whether other processes want shares, at the last check.
    pub(crate) fn others_want(&self) -> bool {
        self.state.lock().others_want
    }

    /// A call of this worker begins, if there is room for it.
    pub(crate) fn begin_call(self: &Arc<Self>, seat: Seat, now: DateTime<Utc>) -> Option<UnderWay> {
        let mut state = self.state.lock();
        let calls = state.calls(now);
        let kept = kept_for_passwords(calls);
        let has_room = match seat {
            Seat::Kept(number) => number < kept,
            Seat::Open(number) => number < calls - kept,
        };
        if !has_room || state.calls_under_way >= calls {
            return None;
        }
        state.calls_under_way += 1;
        Some(UnderWay { shares: self.clone(), what: What::Call })
    }

    /// A pull of receipts begins, if this process does that.
    fn begin_pull(self: &Arc<Self>, now: DateTime<Utc>) -> Option<UnderWay> {
        let mut state = self.state.lock();
        if !state.holds_first(now) {
            return None;
        }
        state.pulls_under_way += 1;
        Some(UnderWay { shares: self.clone(), what: What::Pull })
    }

    fn lease(&self, number: u32) -> SmolStr {
        format_smolstr!("{}{number}", self.prefix())
    }

    /// Where all shares and wishes of the relay are.
    fn prefix(&self) -> SmolStr {
        format_smolstr!("relay/{}/", self.relay)
    }

    fn wish(&self) -> SmolStr {
        format_smolstr!("{}wants/{}", self.prefix(), self.holder.name())
    }

    /// Renews its shares, gives back the surplus, and takes its fair number. Returns whether it has more or fewer
    /// than before.
    pub(crate) async fn look(&self, wants: Wants) -> Result<bool, LeaseError> {
        let _looking = self.looking.lock().await;
        let now = self.holder.now();
        let before = self.portion(now);
        {
            let mut state = self.state.lock();
            if state.wants != wants {
                // What is fair is another now.
                state.look_at = None;
            }
            state.wants = wants;
        }
        self.give_back().await?;
        self.renew().await?;
        let is_due = self.state.lock().look_at.is_none_or(|at| at <= now || now + LOOK_EVERY < at);
        if is_due {
            let fair = self.share_out(wants).await?;
            self.give_back().await?;
            let mut state = self.state.lock();
            let has_its_part = state.held.len() as u32 == fair;
            // Who has not got its part yet looks again soon.
            state.look_at = has_its_part.then_some(now + LOOK_EVERY);
        }
        Ok(self.portion(self.holder.now()) != before)
    }

    /// Whether something is to be given back.
    fn is_moving(&self) -> bool {
        self.state.lock().held.values().any(|share| share.is_going)
    }

    /// Gives back the shares that are marked for it, as soon as nothing is in progress on them.
    async fn give_back(&self) -> Result<(), LeaseError> {
        let going = self.state.lock().let_go(self.holder.now());
        for (number, tenure) in going {
            self.holder.release(&self.lease(number), &tenure).await?;
            self.state.lock().held.remove(&number);
        }
        Ok(())
    }

    async fn renew(&self) -> Result<(), LeaseError> {
        let due: Vec<(u32, Tenure)> = {
            let (state, now) = (self.state.lock(), self.holder.now());
            let is_due = |(_, share): &(&u32, &Share)| share.tenure.is_to_be_renewed(now);
            state.held.iter().filter(is_due).map(|(number, share)| (*number, share.tenure)).collect()
        };
        for (number, tenure) in due {
            let renewed = self.holder.renew(&self.lease(number), &tenure).await?;
            let mut state = self.state.lock();
            match renewed {
                Some(tenure) => {
                    state.held.entry(number).and_modify(|share| share.tenure = tenure);
                }
                None => {
                    state.held.remove(&number);
                    state.look_at = None;
                }
            }
        }
        Ok(())
    }

    /// Compares what this process has with its fair number, and returns that.
    async fn share_out(&self, wants: Wants) -> Result<u32, LeaseError> {
        self.say_whether(wants).await?;
        let rows = self.holder.held(&self.prefix()).await?;
        let (own, wishes) = (self.holder.name(), format_smolstr!("{}wants/", self.prefix()));
        let is_wish = |row: &&HeldBy| row.lease.starts_with(&*wishes) && row.ends_in > TimeDelta::zero();
        let mut wanted_by: BTreeSet<&SmolStr> = rows.iter().filter(is_wish).map(|row| &row.holder).collect();
        let others_want = wanted_by.iter().any(|holder| *holder != own);
        match wants {
            Wants::Shares => wanted_by.insert(own),
            Wants::Nothing => wanted_by.remove(own),
        };
        let place = wanted_by.iter().position(|holder| *holder == own);
        let (fair, free) = {
            let mut state = self.state.lock();
            state.others_want = others_want;
            let fair = place.map_or(0, |place| fair(state.of, place, wanted_by.len()));
            state.settle_for(fair);
            let lacking = fair.saturating_sub(state.staying());
            // What is its own here, and it does not know, it has taken without hearing of it.
            let is_to_be_had =
                |row: &HeldBy| row.holder == *own || row.ends_in + state.longest_call <= TimeDelta::zero();
            let is_free = |number: &u32| {
                let name = self.lease(*number);
                let row = rows.iter().find(|row| row.lease == name);
                !state.held.contains_key(number) && row.is_none_or(is_to_be_had)
            };
            (fair, (0..state.of).filter(is_free).take(lacking as usize).collect::<Vec<u32>>())
        };
        for number in free {
            self.take(number).await?;
        }
        Ok(fair)
    }

    /// Announces by a lease that this process wants shares, or no longer does.
    async fn say_whether(&self, wants: Wants) -> Result<(), LeaseError> {
        let wish = self.state.lock().wish;
        let said = match (wants, wish) {
            (Wants::Shares, Some(wish)) if !wish.is_to_be_renewed(self.holder.now()) => return Ok(()),
            (Wants::Shares, _) => match self.holder.acquire(&self.wish(), TimeDelta::zero()).await? {
                Claim::Held(tenure) => Some(tenure),
                Claim::Taken { .. } => None,
            },
            (Wants::Nothing, Some(wish)) => {
                self.holder.release(&self.wish(), &wish).await?;
                None
            }
            (Wants::Nothing, None) => return Ok(()),
        };
        self.state.lock().wish = said;
        Ok(())
    }

    async fn take(&self, number: u32) -> Result<(), LeaseError> {
        let longest_call = self.state.lock().longest_call;
        if let Claim::Held(tenure) = self.holder.acquire(&self.lease(number), longest_call).await? {
            let mut state = self.state.lock();
            // Only its first holder ever gets it with its burst.
            state.taken_over += u64::from(tenure.epoch > 1);
            state.held.insert(number, Share { tenure, is_going: false });
        }
        Ok(())
    }

    /// No new calls, and everything is given back as soon as nothing is in progress. Not if the relay was defined
    /// again: then the new definition continues with the shares.
    pub(crate) async fn end(&self, definition: u64) {
        {
            let mut state = self.state.lock();
            if state.definition != definition {
                return;
            }
            state.settle_for(0);
            state.wants = Wants::Nothing;
        }
        self.leave().await;
    }

    /// A worker has left. If all are to leave, the last of them gives everything back.
    pub(crate) async fn leave(&self) {
        if self.state.lock().wants == Wants::Shares {
            return;
        }
        let _looking = self.looking.lock().await;
        let given = async {
            self.say_whether(Wants::Nothing).await?;
            self.give_back().await
        };
        if let Err(error) = given.await {
            tracing::debug!(relay = %self.relay, error = describe(&error), "shares were not given back");
        }
    }
}

impl State {
    /// Marks the shares beyond this number, the last ones, to be given back. A marked share that is fair again is
    /// kept.
    fn settle_for(&mut self, fair: u32) {
        let of = self.of;
        let mut staying = 0;
        for (number, share) in &mut self.held {
            share.is_going = *number >= of || staying >= fair;
            staying += u32::from(!share.is_going);
        }
    }
}
