//! First routes where the log cannot write to several lots at once: claimed in one append, then told ([`kite_domain::election`]).

use kite_domain::election::{ClaimedLot, RoutesClaimed};
use kite_domain::event::Event;
use kite_domain::ids::{LotId, SendingId};
use kite_domain::lot::Lot;
use kite_domain::mutation;
use kite_event_store::{AppendError, Appended, BatchMode, Expected, Urgency};
use smol_str::SmolStr;
use std::collections::{BTreeMap, HashMap};
use uuid::Uuid;

use super::{Fence, Lots, LotsError};
use crate::journal::{Cause, Entry, JournalError, Kept};
use crate::tries::Tries;

/// Data of one claim, unless a single lot takes more: every log takes that much in one append.
const CLAIM_BYTES_MAX: usize = 256 * 1024;
/// Events of the stream of claims that are read at first to find the newest claim.
const LOOK_BACK: u64 = 16;

impl Lots {
    /// Whether the log writes to several lots at once.
    pub(crate) fn is_atomic(&self) -> bool {
        self.inner.journal.store().is_atomic_over_streams()
    }

    /// Claims first routes, unless the fence does not hold, and tells their lots. What else was decided stands alone. Returns whether
    /// the fence kept it out.
    pub(super) async fn claim_and_tell(
        &self,
        fence: &mut Fence,
        urgency: Urgency,
        sendings: BTreeMap<SendingId, u64>,
        entries: Vec<Entry>,
    ) -> (Vec<Kept>, bool) {
        let journal = &self.inner.journal;
        let mut entries: Vec<(Uuid, Entry)> =
            entries.into_iter().map(|entry| (journal.next_id(), entry)).collect();
        let (claim, count) = claim_of(&entries);
        // What does not fit is decided again.
        let put_off = all_refused(entries.split_off(count), &AppendError::NotTried);
        let (mut kept, is_fenced) = self.claim_and_tell_all(fence, urgency, sendings, entries, claim).await;
        kept.extend(put_off);
        (kept, is_fenced)
    }

    async fn claim_and_tell_all(
        &self,
        fence: &mut Fence,
        urgency: Urgency,
        sendings: BTreeMap<SendingId, u64>,
        mut entries: Vec<(Uuid, Entry)>,
        claim: RoutesClaimed,
    ) -> (Vec<Kept>, bool) {
        let journal = &self.inner.journal;
        if claim.lots.is_empty() {
            return (journal.append_as(urgency, BatchMode::Independent, entries).await, false);
        }
        if let Some(refused) = self.changed(sendings).await {
            return (all_refused(entries, &refused), false);
        }
        let told: HashMap<Uuid, ClaimedLot> =
            claim.told().into_iter().map(|claimed| (claimed.event, claimed)).collect();
        match self.claim(fence, urgency, &entries, claim).await {
            Ok(appended) => fence.version = appended.version,
            Err(AppendError::Conflict { .. }) => return (all_refused(entries, &AppendError::NotTried), true),
            Err(error) => return (all_refused(entries, &error), false),
        }
        for (id, entry) in &mut entries {
            if let Some(claimed) = told.get(id) {
                entry.events = vec![claimed.routed.clone().into()];
            }
        }
        let order: Vec<(Uuid, SmolStr)> =
            entries.iter().map(|(id, entry)| (*id, entry.cause.actor.clone())).collect();
        let mut kept = journal.append_as(urgency, BatchMode::Independent, entries).await;
        for (kept, (id, actor)) in kept.iter_mut().zip(order) {
            let Some(claimed) = told.get(&id) else { continue };
            if matches!(kept.answer, Err(AppendError::Conflict { .. })) {
                kept.answer = self.tell(claimed, &actor).await;
                kept.events.clear();
            }
            // A claim is carried out, by whoever comes next if need be: nothing of it is decided again.
            if let Err(error) = &kept.answer {
                tracing::debug!(error = kite_event_store::describe(error), "a claimed route is not told yet");
                kept.answer = Err(AppendError::AnswerLost);
            }
        }
        (kept, false)
    }

    /// A pause that was confirmed holds: if one of the sendings has changed since, nothing is claimed.
    async fn changed(&self, sendings: BTreeMap<SendingId, u64>) -> Option<AppendError> {
        let journal = &self.inner.journal;
        if !journal.is_shared() {
            return None;
        }
        let checks = sendings.iter().map(|(id, version)| Entry::check(id.stream(), *version)).collect();
        let answers = journal.append(BatchMode::Independent, checks).await;
        let mut refused = None;
        for (id, answer) in sendings.into_keys().zip(answers) {
            match answer {
                Ok(_) => {}
                Err(AppendError::Conflict { .. }) => {
                    self.forget_sending(id);
                    refused.get_or_insert(AppendError::NotTried);
                }
                Err(error) => refused = Some(error),
            }
        }
        refused
    }

    async fn claim(
        &self,
        fence: &Fence,
        urgency: Urgency,
        entries: &[(Uuid, Entry)],
        claim: RoutesClaimed,
    ) -> Result<Appended, AppendError> {
        let journal = &self.inner.journal;
        let actor = entries.first().map_or_else(SmolStr::default, |(_, entry)| entry.cause.actor.clone());
        let expected = Expected::Version(fence.version);
        mutation::bug!(FenceIgnored, let expected = Expected::Any);
        let entry = Entry {
            stream: fence.stream.into(),
            expected,
            tenant: None,
            cause: Cause::new(actor, journal.next_id()),
            events: vec![claim.into()],
        };
        let mut kept = journal.append_keeping(urgency, BatchMode::Independent, vec![entry]).await;
        kept.pop().map_or(Err(AppendError::AnswerLost), |kept| kept.answer)
    }

    /// Tells a lot what is left of its claim, whatever has happened to it since.
    async fn tell(&self, claimed: &ClaimedLot, actor: &SmolStr) -> Result<Appended, AppendError> {
        let journal = &self.inner.journal;
        let mut tries = Tries::of(journal);
        loop {
            let told = journal.read_stream(&claimed.lot.stream(), 0).await.map_err(unread)?;
            let last = told.last().ok_or(AppendError::AnswerLost)?;
            let is_there =
                Appended { version: last.recorded.version, position: last.recorded.position, repeated: true };
            if told.iter().any(|told| told.recorded.id == claimed.event) {
                return Ok(is_there);
            }
            let lot = Lot::fold(told.iter().map(|told| &told.event)).ok_or(AppendError::AnswerLost)?;
            let Some(left) = claimed.left(&lot) else { return Ok(is_there) };
            let entry = Entry {
                stream: claimed.lot.stream(),
                expected: Expected::Version(last.recorded.version),
                tenant: Some(lot.tenant.clone()),
                cause: Cause::new(actor.clone(), claimed.lot.sending.0).of(Some(last.recorded.id)),
                events: vec![left.into()],
            };
            let urgency = super::urgency_of(lot.class).max(Urgency::Ahead);
            let mut kept =
                journal.append_as(urgency, BatchMode::Independent, vec![(claimed.event, entry)]).await;
            match kept.pop().map_or(Err(AppendError::AnswerLost), |kept| kept.answer) {
                Err(AppendError::Conflict { .. }) if tries.again().await => {}
                answer => return answer,
            }
        }
    }

    /// Carries out what the newest claim before this version of its stream has left.
    pub(crate) async fn finish_claim(&self, fence: &Fence, actor: &SmolStr) -> Result<(), LotsError> {
        if self.is_atomic() {
            return Ok(());
        }
        mutation::bug!(ClaimNotFinished, return Ok(()));
        let Some(claim) = self.newest_claim(fence).await? else { return Ok(()) };
        for claimed in claim.told() {
            self.tell(&claimed, actor).await?;
        }
        Ok(())
    }

    async fn newest_claim(&self, fence: &Fence) -> Result<Option<RoutesClaimed>, JournalError> {
        let mut back = LOOK_BACK;
        loop {
            let after = fence.version.saturating_sub(back);
            let told = self.inner.journal.read_stream(fence.stream, after).await?;
            let before = told.into_iter().rev().filter(|told| told.recorded.version <= fence.version);
            let claim = before.map(|told| told.event).find_map(|event| match event {
                Event::RoutesClaimed(claim) => Some(claim),
                _ => None,
            });
            if claim.is_some() || after == 0 {
                return Ok(claim);
            }
            back = back.saturating_mul(4);
        }
    }
}

/// The routes among these that fit into one claim, and how many entries it covers.
fn claim_of(entries: &[(Uuid, Entry)]) -> (RoutesClaimed, usize) {
    let (mut lots, mut bytes) = (Vec::new(), 0);
    for (place, (id, entry)) in entries.iter().enumerate() {
        let Some(claimed) = claimed_by(*id, entry) else { continue };
        bytes += entry.events.iter().map(|event| event.to_json().len()).sum::<usize>();
        if bytes > CLAIM_BYTES_MAX && !lots.is_empty() {
            return (RoutesClaimed { lots }, place);
        }
        lots.push(claimed);
    }
    (RoutesClaimed { lots }, entries.len())
}

fn claimed_by(id: Uuid, entry: &Entry) -> Option<ClaimedLot> {
    let lot: LotId = LotId::from_stream(&entry.stream)?;
    match entry.events.as_slice() {
        [Event::MessagesRouted(routed)] => Some(ClaimedLot { lot, event: id, routed: routed.clone() }),
        _ => None,
    }
}

fn all_refused(entries: Vec<(Uuid, Entry)>, error: &AppendError) -> Vec<Kept> {
    let refused =
        |(id, entry): (Uuid, Entry)| Kept { events: entry.events, last_id: id, answer: Err(error.clone()) };
    entries.into_iter().map(refused).collect()
}

/// A lot that cannot be read now is told later.
fn unread(_: JournalError) -> AppendError {
    AppendError::AnswerLost
}
