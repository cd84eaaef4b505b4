//! The refusals of a call's recipients, looked up before the decision who gets a message.

use kite_commands::describe;
use kite_commands::directory::RefusalsOf;
use kite_domain::lot::Lot;
use kite_domain::opt_out::Refusals;
use kite_domain::sending::MessageClass;
use kite_domain::slug::TenantId;
use smol_str::SmolStr;
use std::borrow::Cow;
use std::collections::HashMap;

use super::ActiveRelay;
use super::intent::LotWork;

/// The results of the lookup, by tenant. Nothing for messages that nobody can refuse.
pub(super) struct CallRefusals {
    are_asked: bool,
    by_tenant: HashMap<TenantId, RefusalsOf>,
}

impl CallRefusals {
    /// For the recipients of these lots. A lot that cannot be read is left out: it cannot be decided on either. So is
    /// a tenant whose refusals cannot be looked up: its recipients get nothing for now, and others do.
    pub(super) async fn look_up(active: &ActiveRelay, works: &[LotWork], class: MessageClass) -> Self {
        let mut refusals = Self { are_asked: class == MessageClass::Ad, by_tenant: HashMap::new() };
        if !refusals.are_asked {
            return refusals;
        }
        let mut addresses: HashMap<TenantId, Vec<SmolStr>> = HashMap::new();
        for work in works {
            let jobs = work.jobs.iter().flat_map(|job| &job.messages);
            let look = |lot: &Lot, _: &_| {
                let recipients = jobs.filter_map(|seq| lot.recipient(seq));
                let of_each = recipients.flat_map(|one| std::iter::once(&one.to).chain(&one.email));
                addresses.entry(lot.tenant.clone()).or_default().extend(of_each.cloned());
            };
            let _ = active.parts.lots.read(work.lot, look).await;
        }
        for (tenant, addresses) in addresses {
            let addresses = addresses.iter().map(SmolStr::as_str);
            match active.parts.directory.refusals_of(active.parts.lots.journal(), &tenant, addresses).await {
                Ok(of) => drop(refusals.by_tenant.insert(tenant, of)),
                Err(error) => {
                    tracing::warn!(%tenant, error = describe(&error), "what recipients refuse cannot be looked up: their advertisements wait");
                }
            }
        }
        refusals
    }

    /// The current refusals of a lot's recipients; none: they have to be looked up again.
    pub(super) fn now(&self, active: &ActiveRelay, lot: &Lot) -> Option<Cow<'_, Refusals>> {
        if !self.are_asked {
            // The class of a job is a hint, that of the lot is what counts.
            return (lot.class != MessageClass::Ad).then(|| Cow::Owned(Refusals::default()));
        }
        active.parts.directory.refusals_now(self.by_tenant.get(&lot.tenant)?)
    }
}
