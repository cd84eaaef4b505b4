//! Idempotency keys: the same key is the same sending, for ever.
//!
//! A key is asked about before anything of its request is looked up: what a repeat gets does not depend on what became of
//! groups, templates or limits since. Whoever is told that there was nothing holds the key until the request is over, so
//! that no other in this process begins meanwhile. Between processes the claim in the log decides.

use kite_domain::event::Event;
use kite_domain::mutation;
use kite_domain::sending::{MessageClass, SendingAbandoned, SendingClaimed, idempotency_stream};
use kite_domain::slug::TenantId;
use kite_event_store::{AppendError, Expected, StreamName};
use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::Arc;

use super::rates::TooFast;
use super::request::{AcceptError, Accepted, Idempotency};
use super::{Acceptance, lane_of, note_too_fast};
use crate::journal::{Cause, Entry};

/// What an idempotency key stands for.
#[derive(Debug)]
pub enum Earlier {
    /// The sending that a request under it was accepted as.
    Accepted(Accepted),
    /// Nothing that was accepted.
    Nothing(OpenKey),
}

/// A key under which nothing was accepted. As long as it is there, no other request under it is worked on in this process.
#[derive(Debug)]
pub struct OpenKey {
    /// None: the request has no key.
    pub(super) claim: Option<Claim>,
    _working: Option<Working>,
}

/// How a key is claimed.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) stream: StreamName,
    /// Of the last claim that came to nothing; 0: there was none.
    pub(super) version: u64,
    pub(super) body_hash: String,
}

/// The keys that a process is working on. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct KeysInProgress(Arc<Mutex<HashSet<StreamName>>>);

impl KeysInProgress {
    /// Begins to work on a key; none: somebody is at it.
    fn begin(&self, stream: &StreamName) -> Option<Working> {
        let is_first = self.0.lock().insert(stream.clone());
        is_first.then(|| Working { keys: self.clone(), stream: stream.clone() })
    }
}

/// A key that is being worked on, until this is dropped.
#[derive(Debug)]
struct Working {
    keys: KeysInProgress,
    stream: StreamName,
}

impl Drop for Working {
    fn drop(&mut self) {
        mutation::bug!(KeyStaysInProgress, return);
        self.keys.0.lock().remove(&self.stream);
    }
}

impl Acceptance {
    /// Looks whether a request under this key was accepted before; if not, the key is held for this one.
    ///
    /// The request is counted. Where the tenant comes too fast for another one, it may still repeat as many.
    ///
    /// # Errors
    /// The key belongs to another body, is being worked on, or comes too fast; or the log cannot be read.
    pub async fn earlier(
        &self,
        cause: &Cause,
        tenant: &TenantId,
        class: MessageClass,
        idempotency: Idempotency,
    ) -> Result<Earlier, AcceptError> {
        self.directory.stay_current(self.journal()).await?;
        let counted = self.count_under_key(tenant, class)?;
        let Idempotency { key, body_hash } = idempotency;
        let stream = idempotency_stream(tenant, &key);
        let working = self.keys.begin(&stream).ok_or(AcceptError::InProgress)?;
        let mut claim = Claim { stream, version: 0, body_hash };
        if let Some(accepted) = self.find_earlier(cause, tenant, &mut claim).await? {
            return Ok(Earlier::Accepted(accepted));
        }
        match counted {
            Counted::AsRequest => {
                Ok(Earlier::Nothing(OpenKey { claim: Some(claim), _working: Some(working) }))
            }
            Counted::AsRepeat(too_fast) => {
                note_too_fast(&too_fast);
                Err(AcceptError::TooFast(too_fast))
            }
        }
    }

    /// Counts a request without a key, before anything is looked up for it.
    ///
    /// # Errors
    /// It comes too fast, or the log cannot be read.
    pub async fn without_key(&self, tenant: &TenantId, class: MessageClass) -> Result<OpenKey, AcceptError> {
        self.directory.stay_current(self.journal()).await?;
        let counted = self.rates.request(tenant, &self.limits_of(tenant), lane_of(class));
        counted.inspect_err(note_too_fast).map_err(AcceptError::TooFast)?;
        Ok(OpenKey { claim: None, _working: None })
    }

    fn count_under_key(&self, tenant: &TenantId, class: MessageClass) -> Result<Counted, AcceptError> {
        let limits = self.limits_of(tenant);
        let lane = lane_of(class);
        let Err(too_fast) = self.rates.request(tenant, &limits, lane) else { return Ok(Counted::AsRequest) };
        match self.rates.repeat(tenant, &limits, lane) {
            Ok(()) => Ok(Counted::AsRepeat(too_fast)),
            Err(_) => {
                note_too_fast(&too_fast);
                Err(AcceptError::TooFast(too_fast))
            }
        }
    }

    /// The sending of the newest claim, if it is one. If not, the next claim comes after it.
    async fn find_earlier(
        &self,
        cause: &Cause,
        tenant: &TenantId,
        claim: &mut Claim,
    ) -> Result<Option<Accepted>, AcceptError> {
        let claims = self.journal().read_stream(&claim.stream, 0).await?;
        let Some(newest) = claims.last() else { return Ok(None) };
        let Event::SendingClaimed(claimed) = &newest.event else { return Ok(None) };
        claim.version = newest.recorded.version;
        mutation::bug!(KeyForgottenAfterRestart if !self.lots.keeps_sending(claimed.sending), return Ok(None));
        self.settle_claim(cause, tenant, claimed, &claim.body_hash).await
    }

    /// What became of an earlier claim: its sending, or none because it was never sealed and now never will be.
    async fn settle_claim(
        &self,
        cause: &Cause,
        tenant: &TenantId,
        claimed: &SendingClaimed,
        body_hash: &str,
    ) -> Result<Option<Accepted>, AcceptError> {
        if self.lots.sending(claimed.sending).await?.is_none() {
            // Whoever writes first into the sending's stream decides: the seal of a slow request, or this.
            let abandon = Entry {
                stream: claimed.sending.stream(),
                expected: Expected::Version(0),
                tenant: Some(tenant.clone()),
                cause: cause.clone(),
                events: vec![SendingAbandoned { sending: claimed.sending }.into()],
            };
            match self.journal().append_one(abandon).await {
                Ok(_) => return Ok(None),
                Err(AppendError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let Some(sealed) = self.lots.sending(claimed.sending).await? else { return Ok(None) };
        if claimed.body_hash != body_hash {
            return Err(AcceptError::KeyReused);
        }
        // Who asks again may have lost the first answer: he too must find his sending when he reads on.
        let of_sending = self.journal().read_stream(&claimed.sending.stream(), 0).await?;
        let is_seal = |event: &Event| matches!(event, Event::SendingAccepted(_));
        let seal = of_sending.iter().find(|told| is_seal(&told.event));
        let terms = &sealed.terms;
        Ok(Some(Accepted {
            sending: claimed.sending,
            messages: terms.messages,
            lots: terms.lots,
            refused: Vec::new(),
            refused_count: terms.refused,
            duplicates: Vec::new(),
            scheduled_at: terms.scheduled_at,
            position: seal.map_or(0, |told| told.recorded.position),
            repeated: true,
        }))
    }
}

/// As what a request under a key is counted.
enum Counted {
    AsRequest,
    /// There is no room for another request, but if it is a repeat it may be answered.
    AsRepeat(TooFast),
}
