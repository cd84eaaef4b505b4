//! Relays: their terms and credentials, whether they are in use, their breakers.

use kite_domain::event::Event;
use kite_domain::relay::{
    self, CODES_CLASSED_MAX, CodeClassed, CodeUnclassed, Redefinition, RelayAttended, RelayBreakerChanged,
    RelayDefined, RelayDirectory, RelayProfile, RelayResumed, RelaySuspended, RelayUnattended,
};
use kite_domain::slug::RelayId;

use super::{Done, Manage, ManageError, ManageRefusal};
use crate::journal::Cause;
use crate::vault::{DecryptError, Kept};

/// What came of encrypting the credentials of all relays again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SecretsRotated {
    /// Relays that had something which was not encrypted with the newest key.
    pub relays: Vec<RelayId>,
    /// Relays whose credentials cannot be decrypted: they stay as they were.
    pub locked: Vec<(RelayId, DecryptError)>,
}

impl Manage {
    /// A new relay, or new terms for one. Credentials that are not given stay as they are, if the endpoint is the same
    /// ([`Redefinition::after`]); those that are given go into the log encrypted, if there is a key.
    pub async fn define_relay(
        &self,
        cause: &Cause,
        relay: impl Into<Redefinition>,
    ) -> Result<Done<RelayProfile>, ManageError> {
        let Redefinition { profile, without } = relay.into();
        let credentials = self.vault.close(&profile).map_err(ManageRefusal::from)?;
        let given = Redefinition { profile: RelayProfile { credentials, ..profile }, without };
        self.decide(cause, None, relay::stream(&given.profile.relay), |events| {
            let profile = given.after(newest(events))?;
            Ok((Some(RelayDefined { profile: profile.clone() }.into()), profile))
        })
        .await
    }

    /// Encrypts the credentials of every relay with the newest key, if they are not. Returns whose were not, and the
    /// position in the log by which that is done.
    ///
    /// # Errors
    /// If there is no key, or the log cannot be written. Relays that were done before stay done.
    pub async fn rotate_secrets(&self, cause: &Cause) -> Result<Done<SecretsRotated>, ManageError> {
        if !self.vault.has_key() {
            return Err(ManageRefusal::NoEncryptionKey.into());
        }
        // All of them: one that another process has just defined, too.
        self.directory.catch_up(&self.journal).await?;
        let relays: Vec<RelayId> =
            self.directory.snapshot().relays.iter().map(|(relay, _)| relay.clone()).collect();
        let mut rotated = Done { value: SecretsRotated::default(), position: 0 };
        for relay in relays {
            let done = match self.encrypt_anew(cause, &relay).await {
                // A key that is lost does not keep the others from getting a new one.
                Err(ManageError::Refused(ManageRefusal::Locked(locked))) => {
                    rotated.value.locked.push((relay, locked));
                    continue;
                }
                done => done?,
            };
            rotated.position = rotated.position.max(done.position);
            if done.value {
                rotated.value.relays.push(relay);
            }
        }
        Ok(rotated)
    }

    /// Returns whether there was something to do.
    async fn encrypt_anew(&self, cause: &Cause, relay: &RelayId) -> Result<Done<bool>, ManageError> {
        self.decide(cause, None, relay::stream(relay), |events| {
            let known = newest(events).ok_or_else(|| ManageRefusal::NoRelay(relay.clone()))?;
            // One of the same id may be another key: what is said to be encrypted has to open.
            self.vault.open(known)?;
            if matches!(self.vault.kept(known), Kept::Nothing | Kept::Encrypted) {
                return Ok((None, false));
            }
            let credentials = self.vault.close(known)?;
            let profile = RelayProfile { credentials, ..known.clone() };
            Ok((Some(RelayDefined { profile }.into()), true))
        })
        .await
    }

    /// Takes a relay out of use. Only an operator puts it back.
    pub async fn suspend_relay(
        &self,
        cause: &Cause,
        relay: &RelayId,
        reason: String,
    ) -> Result<Done<()>, ManageError> {
        self.decide(cause, None, relay::stream(relay), |events| {
            if events.is_empty() {
                return Err(ManageRefusal::NoRelay(relay.clone()));
            }
            Ok((Some(RelaySuspended { relay: relay.clone(), reason: reason.clone() }.into()), ()))
        })
        .await
    }

    /// Puts a relay back into use; nothing happens if it is in use.
    pub async fn resume_relay(&self, cause: &Cause, relay: &RelayId) -> Result<Done<()>, ManageError> {
        self.decide(cause, None, relay::stream(relay), |events| {
            if events.is_empty() {
                return Err(ManageRefusal::NoRelay(relay.clone()));
            }
            let is_suspended = events.iter().fold(false, |suspended, event| match event {
                Event::RelaySuspended(_) => true,
                Event::RelayResumed(_) => false,
                _ => suspended,
            });
            Ok((is_suspended.then(|| RelayResumed { relay: relay.clone() }.into()), ()))
        })
        .await
    }

    /// Gives a code of a relay another class than the dictionary does; nothing happens if it has that already.
    pub async fn class_code(
        &self,
        cause: &Cause,
        classed: CodeClassed,
    ) -> Result<Done<CodeClassed>, ManageError> {
        let relay = &classed.relay;
        self.decide(cause, None, relay::stream(relay), |events| {
            let directory = folded(events);
            let known = &directory.get(relay).ok_or_else(|| ManageRefusal::NoRelay(relay.clone()))?.classed;
            let is_new = !known.contains_key(&classed.code);
            if is_new && known.len() >= CODES_CLASSED_MAX {
                return Err(ManageRefusal::TooManyCodes(relay.clone()));
            }
            let is_known = known.get(&classed.code) == Some(&classed);
            Ok(((!is_known).then(|| classed.clone().into()), classed.clone()))
        })
        .await
    }

    /// Leaves a code of a relay to the dictionary again.
    pub async fn unclass_code(
        &self,
        cause: &Cause,
        unclassed: CodeUnclassed,
    ) -> Result<Done<()>, ManageError> {
        let relay = &unclassed.relay;
        self.decide(cause, None, relay::stream(relay), |events| {
            let directory = folded(events);
            let known = &directory.get(relay).ok_or_else(|| ManageRefusal::NoRelay(relay.clone()))?.classed;
            if !known.contains_key(&unclassed.code) {
                return Err(ManageRefusal::NoCode(unclassed.code.clone()));
            }
            Ok((Some(unclassed.clone().into()), ()))
        })
        .await
    }

    /// Records a change of a breaker that was decided on the last change at version `known` of the relay's stream; 0:
    /// there was none. If there is a newer change nothing is written: the directory has it by then, and the caller
    /// judges again. Returns the version of the change.
    pub async fn change_breaker(
        &self,
        cause: &Cause,
        change: RelayBreakerChanged,
        known: u64,
    ) -> Result<Done<u64>, ManageError> {
        let done = self.decide_at(cause, None, relay::stream(&change.relay), |told| {
            let Some(end) = told.last() else {
                return Err(ManageRefusal::NoRelay(change.relay.clone()));
            };
            let last = told.iter().rev().find_map(|told| match &told.event {
                Event::RelayBreakerChanged(changed) => Some((told.recorded.version, changed.to)),
                _ => None,
            });
            if last.unwrap_or_default() != (known, change.from) {
                return Err(ManageRefusal::BreakerMoved(change.relay.clone()));
            }
            Ok((Some(change.clone().into()), end.recorded.version + 1))
        });
        let done = done.await;
        if matches!(done, Err(ManageError::Refused(ManageRefusal::BreakerMoved(_)))) {
            self.directory.catch_up(&self.journal).await?;
        }
        done
    }

    /// Records that no worker serves a relay; if that is known, with this cause and reason, nothing happens.
    pub async fn leave_relay(&self, cause: &Cause, left: RelayUnattended) -> Result<Done<()>, ManageError> {
        self.decide(cause, None, relay::stream(&left.relay), |events| {
            if events.is_empty() {
                return Err(ManageRefusal::NoRelay(left.relay.clone()));
            }
            let is_known = unattended(events)
                .is_some_and(|known| (known.cause, &known.reason) == (left.cause, &left.reason));
            Ok(((!is_known).then(|| left.clone().into()), ()))
        })
        .await
    }

    /// Records that workers serve a relay again; if they already do, nothing happens.
    pub async fn attend_relay(&self, cause: &Cause, relay: &RelayId) -> Result<Done<()>, ManageError> {
        self.decide(cause, None, relay::stream(relay), |events| {
            if events.is_empty() {
                return Err(ManageRefusal::NoRelay(relay.clone()));
            }
            let is_unattended = unattended(events).is_some();
            Ok((is_unattended.then(|| RelayAttended { relay: relay.clone() }.into()), ()))
        })
        .await
    }
}

/// The terms that count.
fn newest(events: &[Event]) -> Option<&RelayProfile> {
    events.iter().rev().find_map(|event| match event {
        Event::RelayDefined(defined) => Some(&defined.profile),
        _ => None,
    })
}

/// The relay as its stream says it stands.
fn folded(events: &[Event]) -> RelayDirectory {
    let mut directory = RelayDirectory::default();
    for event in events {
        directory.evolve(event);
    }
    directory
}

/// Why no worker serves the relay; none if one does.
fn unattended(events: &[Event]) -> Option<&RelayUnattended> {
    events.iter().fold(None, |known, event| match event {
        Event::RelayUnattended(left) => Some(left),
        Event::RelayAttended(_) => None,
        _ => known,
    })
}
