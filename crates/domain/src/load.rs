//! Who may still be given a place: limits on what is accepted and not final, by tenant and over all.
//!
//! Messages that are due and not final are *open*. Messages accepted for later are *scheduled* until they are due,
//! and are counted separately. What becomes due was accepted and is never refused: from then on it counts as open,
//! even beyond a limit, and new requests wait.
//!
//! One-time passwords have a reserve. A share of the limit over all tenants is only for them, and is divided equally
//! among the tenants: a password is accepted while there is room for anybody, and beyond that while the open
//! passwords of its tenant fit into the tenant's part of the reserve. The parts together are the reserve, so nobody
//! can use up another's. The same share of every tenant's own limit is only for its passwords, so that its own
//! campaign cannot take it.

use strum::{IntoStaticStr, VariantArray};

use crate::mutation;
use crate::sending::MessageClass;
use crate::tenant::LimitsInForce;

/// Messages that are accepted and not final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Due, and no passwords.
    pub ordinary: u64,
    /// Due one-time passwords.
    pub passwords: u64,
    /// Accepted for later and not due yet, of any class.
    pub scheduled: u64,
}

/// As what a message counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LoadKind {
    /// See [`Load::ordinary`].
    Ordinary,
    /// See [`Load::passwords`].
    Password,
    /// See [`Load::scheduled`].
    Scheduled,
}

impl LoadKind {
    /// As what the messages of a sending count.
    pub fn of(class: MessageClass, is_scheduled: bool) -> Self {
        match class {
            _ if is_scheduled => Self::Scheduled,
            MessageClass::Otp => Self::Password,
            MessageClass::Notice | MessageClass::Ad => Self::Ordinary,
        }
    }
}

impl Load {
    /// So many of one kind.
    pub fn of(kind: LoadKind, messages: u64) -> Self {
        let mut load = Self::default();
        load.add(kind, messages);
        load
    }

    /// Due, of any class.
    pub fn open(&self) -> u64 {
        self.ordinary.saturating_add(self.passwords)
    }

    fn place(&mut self, kind: LoadKind) -> &mut u64 {
        match kind {
            LoadKind::Ordinary => &mut self.ordinary,
            LoadKind::Password => &mut self.passwords,
            LoadKind::Scheduled => &mut self.scheduled,
        }
    }

    /// More of one kind.
    pub fn add(&mut self, kind: LoadKind, messages: u64) {
        let place = self.place(kind);
        *place = place.saturating_add(messages);
    }

    /// Less of one kind.
    pub fn take(&mut self, kind: LoadKind, messages: u64) {
        let place = self.place(kind);
        *place = place.saturating_sub(messages);
    }

    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            ordinary: self.ordinary.saturating_add(other.ordinary),
            passwords: self.passwords.saturating_add(other.passwords),
            scheduled: self.scheduled.saturating_add(other.scheduled),
        }
    }

    /// What counts against the limit over all tenants: what became due beyond the tenant's own limit does not.
    #[must_use]
    pub fn within(&self, open_messages_max: u64) -> Self {
        let passwords = self.passwords.min(open_messages_max);
        Self {
            ordinary: self.ordinary.min(open_messages_max - passwords),
            passwords,
            scheduled: self.scheduled,
        }
    }
}

/// The bounds over all tenants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HouseBounds {
    /// Open messages.
    pub open_messages_max: u64,
    /// Scheduled messages.
    pub scheduled_messages_max: u64,
    /// The share of every limit on open messages that is kept for one-time passwords, in per cent.
    pub password_reserve_per_cent: u8,
}

impl HouseBounds {
    /// The part of a limit on open messages that is only for passwords.
    pub fn reserve_of(&self, open_messages_max: u64) -> u64 {
        let per_cent = u128::from(self.password_reserve_per_cent.min(100));
        // No more than the bound itself.
        (u128::from(open_messages_max) * per_cent).div_ceil(100) as u64
    }
}

/// Which bound is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case", suffix = "_messages")]
pub enum Full {
    /// The tenant's open messages.
    TenantOpen,
    /// The tenant's scheduled messages.
    TenantScheduled,
    /// The open messages of all tenants.
    Open,
    /// The scheduled messages of all tenants.
    Scheduled,
}

impl Full {
    /// The word for it in metrics and answers.
    pub fn word(self) -> &'static str {
        self.into()
    }
}

/// Who asks for places, and how things stand.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    /// What the tenant has.
    pub own: Load,
    /// What all tenants have, each within its own limit.
    pub all: Load,
    /// The tenant's limits.
    pub limits: &'a LimitsInForce,
    /// The bounds over all tenants.
    pub house: &'a HouseBounds,
    /// How many tenants there are.
    pub tenants: u64,
}

impl Asking<'_> {
    /// Whether there is room for so many more messages of a kind.
    ///
    /// # Errors
    /// The limit that is reached.
    pub fn may_take(&self, kind: LoadKind, messages: u64) -> Result<(), Full> {
        let own = self.own;
        mutation::bug!(LimitOverAllTenants, let own = self.all);
        let fits = |taken: u64, most: u64| taken.saturating_add(messages) <= most;
        if kind == LoadKind::Scheduled {
            return match () {
                () if !fits(own.scheduled, self.limits.scheduled_messages_max) => Err(Full::TenantScheduled),
                () if !fits(self.all.scheduled, self.house.scheduled_messages_max) => Err(Full::Scheduled),
                () => Ok(()),
            };
        }
        let own_max = self.limits.open_messages_max;
        let is_ordinary = kind == LoadKind::Ordinary;
        let passes_own =
            fits(own.open(), own_max) && (!is_ordinary || fits(own.ordinary, self.for_anybody(own_max)));
        if !passes_own {
            return Err(Full::TenantOpen);
        }
        let finds_room = fits(self.all.open(), self.for_anybody(self.house.open_messages_max));
        let has_part = !is_ordinary && fits(own.passwords, self.part_of_reserve());
        if finds_room || has_part { Ok(()) } else { Err(Full::Open) }
    }

    /// What of a bound is not kept for passwords.
    fn for_anybody(&self, open_messages_max: u64) -> u64 {
        mutation::bug!(PasswordReserveGivenAway, return open_messages_max);
        open_messages_max - self.house.reserve_of(open_messages_max)
    }

    /// The tenant's part of the reserve over all, at least one message.
    fn part_of_reserve(&self) -> u64 {
        let reserve = self.house.reserve_of(self.house.open_messages_max);
        (reserve / self.tenants.max(1)).max(u64::from(reserve > 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUSE: HouseBounds = HouseBounds {
        open_messages_max: 1_000,
        scheduled_messages_max: 5_000,
        password_reserve_per_cent: 10,
    };
    const LIMITS: LimitsInForce = LimitsInForce {
        open_messages_max: 400,
        scheduled_messages_max: 2_000,
        requests_per_second: 10,
        recipients_per_second: 100,
        contacts_max: 100,
    };

    fn asking(own: Load, all: Load) -> Asking<'static> {
        Asking { own, all, limits: &LIMITS, house: &HOUSE, tenants: 4 }
    }

    fn load(ordinary: u64, passwords: u64, scheduled: u64) -> Load {
        Load { ordinary, passwords, scheduled }
    }

    #[test]
    fn a_tenants_campaign_leaves_its_passwords_their_share() {
        let own = load(350, 0, 0);
        assert_eq!(asking(own, own).may_take(LoadKind::Ordinary, 10), Ok(()));
        assert_eq!(asking(own, own).may_take(LoadKind::Ordinary, 11), Err(Full::TenantOpen));
        assert_eq!(asking(load(360, 0, 0), own).may_take(LoadKind::Password, 40), Ok(()));
        assert_eq!(asking(load(360, 0, 0), own).may_take(LoadKind::Password, 41), Err(Full::TenantOpen));
    }

    #[test]
    fn what_others_have_is_not_counted_to_a_tenant() {
        let all = load(800, 0, 4_000);
        assert_eq!(asking(Load::default(), all).may_take(LoadKind::Ordinary, 100), Ok(()));
        assert_eq!(asking(Load::default(), all).may_take(LoadKind::Ordinary, 101), Err(Full::Open));
        assert_eq!(asking(Load::default(), all).may_take(LoadKind::Scheduled, 1_000), Ok(()));
        assert_eq!(asking(Load::default(), all).may_take(LoadKind::Scheduled, 1_001), Err(Full::Scheduled));
    }

    #[test]
    fn what_is_scheduled_counts_apart() {
        let own = load(0, 0, 2_000);
        assert_eq!(asking(own, own).may_take(LoadKind::Scheduled, 1), Err(Full::TenantScheduled));
        assert_eq!(asking(own, own).may_take(LoadKind::Ordinary, 360), Ok(()));
    }

    #[test]
    fn in_a_full_house_every_tenant_has_its_part_of_the_reserve_and_no_more() {
        // Another tenant's passwords have passed its part long ago.
        let all = load(500, 400, 0);
        assert_eq!(asking(Load::default(), all).may_take(LoadKind::Ordinary, 1), Err(Full::Open));
        assert_eq!(asking(Load::default(), all).may_take(LoadKind::Password, 25), Ok(()));
        assert_eq!(asking(Load::default(), all).may_take(LoadKind::Password, 26), Err(Full::Open));
        assert_eq!(asking(load(0, 25, 0), all).may_take(LoadKind::Password, 1), Err(Full::Open));
    }

    #[test]
    fn what_became_due_beyond_a_limit_takes_no_place_from_others() {
        assert_eq!(load(900, 50, 7).within(400), load(350, 50, 7));
        assert_eq!(load(900, 500, 0).within(400), load(0, 400, 0));
    }

    #[test]
    fn a_part_of_the_reserve_is_at_least_one_message_while_there_is_a_reserve() {
        let full = load(900, 99, 0);
        let among = |tenants| Asking { tenants, ..asking(Load::default(), full) };
        for (tenants, part) in [(0, 100), (1, 100), (100, 1), (101, 1), (1_000_000, 1)] {
            assert_eq!(among(tenants).part_of_reserve(), part, "{tenants} tenants");
        }
        let kept = HouseBounds { password_reserve_per_cent: 0, ..HOUSE };
        let none = Asking { house: &kept, ..asking(Load::default(), load(1_000, 0, 0)) };
        assert_eq!(none.may_take(LoadKind::Password, 1), Err(Full::Open), "nothing was kept for anybody");
    }

    #[test]
    fn what_is_added_is_there_and_what_is_taken_is_not() {
        use LoadKind::{Ordinary, Password, Scheduled};
        let mut kept = Load::of(Ordinary, 5);
        kept.add(Password, 3);
        kept.add(Scheduled, 7);
        assert_eq!((kept, kept.open()), (load(5, 3, 7), 8));
        kept.take(Ordinary, 2);
        kept.take(Password, 9);
        kept.take(Scheduled, 7);
        assert_eq!(kept, load(3, 0, 0));
        assert_eq!(kept.plus(&load(1, 2, 4)), load(4, 2, 4));
    }

    #[test]
    fn a_message_counts_by_its_class_once_it_is_due() {
        use MessageClass::{Ad, Notice, Otp};
        let due: Vec<_> =
            MessageClass::ALL.iter().map(|class| (*class, LoadKind::of(*class, false))).collect();
        assert_eq!(due, [(Otp, LoadKind::Password), (Notice, LoadKind::Ordinary), (Ad, LoadKind::Ordinary)]);
        assert!(MessageClass::ALL.iter().all(|class| LoadKind::of(*class, true) == LoadKind::Scheduled));
    }

    proptest! {
        /// Whatever the others ask for, and in whatever order, a tenant finds its part of the reserve.
        #[test]
        fn nobody_takes_a_tenants_part_of_the_reserve(
            requests in proptest::collection::vec((1_u8..4, any::<bool>(), 1_u64..300), 0..60),
        ) {
            let mut loads = [Load::default(); 4];
            for (tenant, is_password, messages) in requests {
                let kind = if is_password { LoadKind::Password } else { LoadKind::Ordinary };
                let all = loads.iter().fold(Load::default(), |all, one| all.plus(one));
                let own = &mut loads[usize::from(tenant)];
                if asking(*own, all).may_take(kind, messages).is_ok() {
                    own.add(kind, messages);
                }
            }
            let all = loads.iter().fold(Load::default(), |all, one| all.plus(one));
            prop_assert!(all.open() <= HOUSE.open_messages_max);
            prop_assert_eq!(asking(loads[0], all).may_take(LoadKind::Password, 25), Ok(()));
        }
    }
}
