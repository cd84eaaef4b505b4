//! Accepting a sending: everything that can be refused is refused now, and a request is answered only after it is
//! durable.
//!
//! Under an idempotency key it is asked first whether the request was accepted before ([`Acceptance::earlier`]); only then
//! are its recipients looked up, and the request accepted.
//!
//! A sending of one lot is appended as a whole: the claim of the idempotency key, the lot and the seal, all or nothing. Of several lots
//! the claim and the lots come first, together, then the seal. A crash in between leaves lots that nobody ever routes, and a
//! claim that the next request under the same key takes over.

mod bounds;
mod cancel;
mod compose;
mod earlier;
mod limits;
mod load_watch;
mod pause;
mod preview;
mod rates;
mod request;
mod room;
mod row;
mod said;
mod terms;

pub use cancel::{CancelError, CancelOutcome};
pub use earlier::{Earlier, OpenKey};
pub use limits::{ACCEPTANCE_EVENT_BYTES_MAX, AcceptLimits, TooLong};
pub use load_watch::LoadWatch;
pub use pause::{PauseError, PauseOutcome};
pub use preview::{Preview, PreviewGroup, PreviewRelay, PreviewRow};
pub use rates::{Pace, TooFast};
pub use request::{AcceptError, Accepted, AdInput, DuplicateRow, Idempotency, RequestRefusal, SendRequest};
pub use room::Room;
pub use row::{GoodRecipient, NoCarrier, RecipientInput, RecipientRow, RefusedRow, RowField, RowRefusal};

use chrono::{DateTime, Utc};
use kite_domain::ids::SendingId;
use kite_domain::load::{Full, LoadKind};
use kite_domain::lot::{Lot, SplitLedger};
use kite_domain::mutation::{self, Mutation};
use kite_domain::opt_out::Refusals;
use kite_domain::sending::{MessageClass, SendingAccepted, SendingClaimed};
use kite_domain::slug::TenantId;
use kite_domain::tenant::LimitsInForce;
use kite_event_store::{AppendError, Appended, BatchMode, Expected, Position, Urgency};
use std::sync::Arc;
use uuid::Uuid;

use crate::directory::{Directory, DirectoryState};
use crate::journal::{Cause, Entry, Journal, JournalError};
use crate::lots::{LoggedLot, Lots, urgency_of};
use compose::Composed;
use earlier::{Claim, KeysInProgress};
use rates::{Lane, Rates};
use room::{NoPlace, Place, Wanted};

/// How far the read side is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BacklogLevel {
    /// Events that the slowest projector has not seen.
    pub projector_lag_events: u64,
}

/// Tells how far the read side is behind; asked before anything is accepted.
pub type BacklogGauge = Arc<dyn Fn() -> BacklogLevel + Send + Sync>;

/// Accepts sendings. Cheap to clone.
#[derive(Clone)]
pub struct Acceptance {
    lots: Lots,
    directory: Directory,
    limits: Arc<AcceptLimits>,
    backlog: BacklogGauge,
    room: Room,
    rates: Rates,
    keys: KeysInProgress,
}

impl Acceptance {
    /// Accepts into these lots, by this directory, within these limits.
    pub fn new(lots: Lots, directory: Directory, limits: AcceptLimits, backlog: BacklogGauge) -> Self {
        let rates = Rates::new(lots.journal().clock().clone(), limits.recipients_max);
        Self {
            lots,
            directory,
            limits: Arc::new(limits),
            backlog,
            room: Room::default(),
            rates,
            keys: KeysInProgress::default(),
        }
    }

    /// What is open and scheduled.
    pub fn room(&self) -> &Room {
        &self.room
    }

    /// The bounds of acceptance.
    pub fn limits(&self) -> &AcceptLimits {
        &self.limits
    }

    /// The limits that count for a tenant.
    pub fn limits_of(&self, tenant: &TenantId) -> LimitsInForce {
        self.directory.snapshot().limits_of(tenant, &self.limits.tenant)
    }

    /// Counts a request of a tenant that is not a request to send: those are counted when they are accepted.
    ///
    /// # Errors
    /// It comes too soon after others.
    pub fn count_request(&self, tenant: &TenantId) -> Result<(), TooFast> {
        self.rates.request(tenant, &self.limits_of(tenant), Lane::Ordinary).inspect_err(note_too_fast)
    }

    fn journal(&self) -> &Journal {
        self.lots.journal()
    }

    /// Shows what a request would do if it were the next to be routed, after what `ledger` knows. Nothing is written.
    pub async fn preview(
        &self,
        tenant: &TenantId,
        request: &SendRequest,
        ledger: &SplitLedger,
    ) -> Result<Preview, AcceptError> {
        let limits = self.limits_of(tenant);
        self.count_recipients(tenant, &limits, Lane::Ordinary, request)?;
        let (terms, directory) = self.check(tenant, request, self.journal().now()).await?;
        let composed = self.compose(tenant, request, &terms, &directory).await?;
        Ok(preview::preview_of(tenant, &terms, composed, ledger, &directory, self.journal().now()))
    }

    /// Accepts a request, all of it or the rows that are good. Durable when it answers.
    #[tracing::instrument(
        level = "debug", skip_all,
        fields(%tenant, class = request.class.word(), recipients = request.recipients.len())
    )]
    pub async fn accept(
        &self,
        cause: &Cause,
        tenant: &TenantId,
        request: SendRequest,
        key: OpenKey,
    ) -> Result<Accepted, AcceptError> {
        self.directory.stay_current(self.journal()).await?;
        // The key is held until there is an answer.
        self.accept_new(cause, tenant, request, key.claim.as_ref()).await
    }

    async fn accept_new(
        &self,
        cause: &Cause,
        tenant: &TenantId,
        request: SendRequest,
        claim: Option<&Claim>,
    ) -> Result<Accepted, AcceptError> {
        let directory = self.directory.snapshot();
        let now = self.journal().now();
        let limits = directory.limits_of(tenant, &self.limits.tenant);
        self.check_backlog(request.class)?;
        let tenants = directory.tenants.len() as u64;
        let mut place = self.find_place(tenant, &request, &limits, tenants, now)?;
        self.count_recipients(tenant, &limits, lane_of(request.class), &request)?;
        let reads = self.directory.reads();
        let (mut terms, directory) = self.check(tenant, &request, now).await?;
        let mut composed = self.compose(tenant, &request, &terms, &directory).await?;
        let rests_on_relays = composed.refused.iter().any(|row| matches!(row.reason, RowRefusal::NoRelay(_)));
        if rests_on_relays && self.directory.read_on_since(self.journal(), reads).await? {
            // As a request is: no row is refused before the log was read on.
            let (terms_now, directory) = self.check(tenant, &request, now).await?;
            composed = self.compose(tenant, &request, &terms_now, &directory).await?;
            terms = terms_now;
        }
        let is_refused = composed.messages == 0 || (request.strict && !composed.refused.is_empty());
        if is_refused {
            return Err(AcceptError::RowsRefused(composed.refused));
        }
        place.shrink(composed.messages.into());
        let sending = SendingId(self.journal().next_id());
        let cause = Cause { correlation: sending.0, ..cause.clone() };
        let traceparent = cause.traceparent;
        let urgency = urgency_of(request.class);
        let sealed = self.seal_of(sending, tenant, request, terms, &composed, claim);
        mutation::bug!(SealBeforeLots, self.seal_with(Vec::new(), &cause, &sealed).await?);
        let (mut entries, lots) = self.lots_of(&cause, &sealed, claim, composed.lots);
        let seal_cause = cause.of(lots.last().and_then(|logged| logged.last_event));
        // One lot goes into the log with its seal, all or nothing; of several, each by itself before it.
        let is_whole = lots.len() == 1 && !mutation::is_active(Mutation::SealBeforeLots);
        if !is_whole {
            self.write_lots(urgency, std::mem::take(&mut entries)).await?;
        }
        // Kept before the seal lets anybody act on them: what is kept later could be older than the log.
        lots.into_iter().for_each(|logged| self.lots.remember(logged));
        self.lots.remember_sending(Arc::new(sealed.clone()), traceparent);
        let unsealed = Unsealed { lots: &self.lots, sending: Some((sending, sealed.lots)) };
        place.is_sealing();
        let appended = self.seal_with(entries, &seal_cause, &sealed).await;
        mutation::bug!(SealBeforeLots | AcknowledgeBeforeAppend, let appended = appended.or(Ok(0)));
        let position = match appended {
            Err(error) => {
                if !is_in_doubt(&error) {
                    place.not_sealed();
                }
                return Err(error);
            }
            Ok(position) => {
                place.sealed(position);
                position
            }
        };
        unsealed.keep();
        metrics::counter!("kite_accepted_total", "class" => sealed.class.word())
            .increment(sealed.messages.into());
        Ok(Accepted {
            sending,
            messages: sealed.messages,
            lots: sealed.lots,
            refused_count: sealed.refused,
            refused: composed.refused,
            duplicates: composed.duplicates,
            scheduled_at: sealed.scheduled_at,
            position,
            repeated: false,
        })
    }

    /// The part of a request that concerns all rows, with the directory that it was checked by. If others write to
    /// the log, the log is read once more before the request is refused: a policy or a sender may just have been
    /// added.
    async fn check(
        &self,
        tenant: &TenantId,
        request: &SendRequest,
        now: DateTime<Utc>,
    ) -> Result<(terms::CheckedTerms, Arc<DirectoryState>), AcceptError> {
        let check = |directory: &Arc<DirectoryState>| {
            let terms = terms::check(tenant, request, directory, &self.limits, now)?;
            Ok((terms, directory.clone()))
        };
        self.directory.judge(self.journal(), check).await?
    }

    async fn compose(
        &self,
        tenant: &TenantId,
        request: &SendRequest,
        terms: &terms::CheckedTerms,
        directory: &DirectoryState,
    ) -> Result<Composed, JournalError> {
        // Only advertisements are refused.
        let refusals = match request.class {
            MessageClass::Ad => {
                let addresses = compose::addresses(request);
                self.directory.look_at_refusals(self.journal(), tenant, addresses, Refusals::clone).await?
            }
            MessageClass::Otp | MessageClass::Notice => Refusals::default(),
        };
        Ok(compose::compose(tenant, request, terms, directory, &refusals, &self.limits).await)
    }

    /// The second half of the allowed lag of the read side is for passwords only.
    fn check_backlog(&self, class: MessageClass) -> Result<(), AcceptError> {
        let most = match class {
            MessageClass::Otp => self.limits.projector_lag_events_max.saturating_mul(2),
            MessageClass::Notice | MessageClass::Ad => self.limits.projector_lag_events_max,
        };
        if (self.backlog)().projector_lag_events > most {
            note_limited("projector_lag");
            return Err(AcceptError::Backlog { retry_after_s: self.limits.retry_after_s });
        }
        Ok(())
    }

    fn find_place(
        &self,
        tenant: &TenantId,
        request: &SendRequest,
        limits: &LimitsInForce,
        tenants: u64,
        now: DateTime<Utc>,
    ) -> Result<Place<'_>, AcceptError> {
        let messages = request.recipients.len() as u64;
        let kind = LoadKind::of(request.class, request.scheduled_at.is_some_and(|at| at > now));
        let house = self.limits.house();
        let wanted = Wanted { tenant, kind, messages, limits, house: &house, tenants };
        let retry_after_s = self.limits.retry_after_s;
        self.room.reserve(&wanted, self.journal().store()).map_err(|no_place| match no_place {
            NoPlace::Uncounted => {
                note_limited("not_counted_yet");
                AcceptError::Backlog { retry_after_s }
            }
            NoPlace::Never(full) => {
                note_limited(full.word());
                let detail = format!("{messages} recipients are more than the tenant may ever have at once");
                RequestRefusal { field: "recipients", code: "over_limit", detail }.into()
            }
            NoPlace::Full(full) => {
                note_limited(full.word());
                match full {
                    Full::TenantOpen | Full::TenantScheduled => {
                        AcceptError::TenantFull { full, retry_after_s }
                    }
                    Full::Open | Full::Scheduled => AcceptError::Backlog { retry_after_s },
                }
            }
        })
    }

    fn count_recipients(
        &self,
        tenant: &TenantId,
        limits: &LimitsInForce,
        lane: Lane,
        request: &SendRequest,
    ) -> Result<(), AcceptError> {
        self.rates
            .recipients(tenant, limits, lane, request.recipients.len())
            .inspect_err(note_too_fast)
            .map_err(AcceptError::TooFast)
    }

    fn seal_of(
        &self,
        sending: SendingId,
        tenant: &TenantId,
        request: SendRequest,
        terms: terms::CheckedTerms,
        composed: &Composed,
        claim: Option<&Claim>,
    ) -> SendingAccepted {
        SendingAccepted {
            sending,
            tenant: tenant.clone(),
            class: request.class,
            from_phone: terms.from_phone,
            from_email: terms.from_email,
            lots: composed.lots.len() as u32,
            messages: composed.messages,
            refused: composed.refused.len() as u32,
            scheduled_at: request.scheduled_at,
            expires_at: terms.expires_at,
            failover: terms.failover,
            ad: terms.ad,
            client_reference: request.client_reference,
            custom: request.custom,
            body_hash: claim.map(|claim| claim.body_hash.clone()),
            personal: terms.content,
        }
    }

    /// The claim, if there is one, and the lots: what is to be written, each with its id, and what they are once it is.
    fn lots_of(
        &self,
        cause: &Cause,
        sealed: &SendingAccepted,
        claim: Option<&Claim>,
        lots: Vec<compose::ComposedLot>,
    ) -> (Vec<(Uuid, Entry)>, Vec<LoggedLot>) {
        let (sending, tenant) = (sealed.sending, &sealed.tenant);
        let entry = |stream, expected, event| {
            let (tenant, cause) = (Some(tenant.clone()), cause.clone());
            (self.journal().next_id(), Entry { stream, expected, tenant, cause, events: vec![event] })
        };
        let mut entries = Vec::with_capacity(lots.len() + 2);
        if let Some(claim) = claim {
            let claimed = SendingClaimed { sending, body_hash: claim.body_hash.clone() };
            entries.push(entry(claim.stream.clone(), Expected::Version(claim.version), claimed.into()));
        }
        let mut folded = Vec::with_capacity(lots.len());
        for lot in lots {
            let accepted = lot.into_event(sending, tenant);
            let lot = Lot::new(&accepted);
            let (id, entry) = entry(lot.id.stream(), Expected::Version(0), accepted.into());
            entries.push((id, entry));
            folded.push(LoggedLot { lot, version: 1, last_event: Some(id) });
        }
        (entries, folded)
    }

    /// Appends the claim and the lots. If another request wins the claim, the lots of this one are never sealed.
    async fn write_lots(&self, urgency: Urgency, entries: Vec<(Uuid, Entry)>) -> Result<(), AcceptError> {
        // Guarded: without the claim, no lot is written.
        let written = self.journal().append_as(urgency, BatchMode::Guarded, entries).await;
        written.into_iter().try_for_each(|kept| accepted(kept.answer).map(drop))
    }

    /// Appends the seal, and what has to be in the log together with it.
    async fn seal_with(
        &self,
        mut entries: Vec<(Uuid, Entry)>,
        cause: &Cause,
        sealed: &SendingAccepted,
    ) -> Result<Position, AcceptError> {
        let seal = Entry {
            stream: sealed.sending.stream(),
            expected: Expected::Version(0),
            tenant: Some(sealed.tenant.clone()),
            cause: cause.clone(),
            events: vec![sealed.clone().into()],
        };
        let urgency = urgency_of(sealed.class);
        if !self.journal().store().is_atomic_over_streams() && !entries.is_empty() {
            self.write_lots(urgency, std::mem::take(&mut entries)).await?;
        }
        entries.push((self.journal().next_id(), seal));
        let written = self.journal().append_as(urgency, BatchMode::Atomic, entries).await;
        let mut position = 0;
        for kept in written {
            position = accepted(kept.answer)?.position;
        }
        Ok(position)
    }
}

/// What became of an append of a request. Another request under the same key may have been faster.
fn accepted(answer: Result<Appended, AppendError>) -> Result<Appended, AcceptError> {
    match answer {
        Ok(appended) => Ok(appended),
        Err(AppendError::Conflict { .. } | AppendError::NotTried) => Err(AcceptError::InProgress),
        Err(error) => Err(error.into()),
    }
}

fn lane_of(class: MessageClass) -> Lane {
    match class {
        MessageClass::Otp => Lane::Passwords,
        MessageClass::Notice | MessageClass::Ad => Lane::Ordinary,
    }
}

/// Whether the seal may be in the log although there was an error.
fn is_in_doubt(error: &AcceptError) -> bool {
    matches!(error, AcceptError::Journal(JournalError::Append(AppendError::AnswerLost)))
}

fn note_too_fast(too_fast: &TooFast) {
    note_limited(too_fast.pace.word());
}

/// Counts a refusal by a limit. Without the tenant's name, because there may be many; the access log has it.
pub fn note_limited(reason: &'static str) {
    metrics::counter!("kite_limited_total", "reason" => reason).increment(1);
}

/// A sending that is kept and not certain to be sealed: forgotten when the seal fails, and when the caller goes away
/// before the answer, so that nobody takes it for accepted.
struct Unsealed<'a> {
    lots: &'a Lots,
    /// With how many lots.
    sending: Option<(SendingId, u32)>,
}

impl Unsealed<'_> {
    fn keep(mut self) {
        self.sending = None;
    }
}

impl Drop for Unsealed<'_> {
    fn drop(&mut self) {
        if let Some((sending, lots)) = self.sending {
            self.lots.forget_sending(sending);
            self.lots.forget_lots(sending, lots);
        }
    }
}

impl From<AppendError> for AcceptError {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Busy | AppendError::Unavailable(_) => Self::Busy,
            other => Self::Journal(JournalError::Append(other)),
        }
    }
}

/// The end of a message's life, unless the request says otherwise.
pub(crate) fn expires_at(start: DateTime<Utc>, lifetime_s: u32) -> DateTime<Utc> {
    start + chrono::Duration::seconds(lifetime_s.into())
}
