//! What is in a message of the stream: the jobs of one lease, all of one relay, class and kind.
//!
//! It is read by other versions of this program during an upgrade. Whoever adds what an older one must not overlook counts
//! [`VERSION`] up, one release after everybody reads it.

use bytes::Bytes;
use kite_domain::ids::LotId;
use kite_domain::sending::MessageClass;
use kite_domain::seq_set::SeqSet;
use kite_domain::slug::{RelayId, TenantId};
use kite_relay::queue::{Job, JobKind, Waits};
use serde::{Deserialize, Serialize};
use std::hash::{DefaultHasher, Hash, Hasher};
use uuid::Uuid;

const VERSION: u16 = 1;

/// Jobs on their way.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Parcel {
    version: u16,
    relay: RelayId,
    class: MessageClass,
    kind: Kind,
    jobs: Vec<Item>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Submit,
    Inquire,
    Unanswered,
}

/// What differs between the jobs of a parcel. When it may be looked at is over: that was waited for.
#[derive(Debug, Serialize, Deserialize)]
struct Item {
    lot: LotId,
    tenant: TenantId,
    attempt: u16,
    messages: SeqSet,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_hastened: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cause: Option<Uuid>,
}

/// Why a message of the stream is no parcel of ours.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoParcel {
    #[error("is not JSON of a parcel: {0}")]
    Json(#[from] serde_json::Error),
    #[error("is of version {0}, and this program knows {VERSION}")]
    Version(u16),
    #[error("is for the relay {0}, and came over the subject of another")]
    Relay(RelayId),
    #[error("is of another class than its subject")]
    Class,
    #[error("holds no messages")]
    Empty,
}

impl Parcel {
    pub(crate) fn new(relay: &RelayId, class: MessageClass, kind: JobKind, jobs: &[Job]) -> Self {
        let kind = match kind {
            JobKind::Submit => Kind::Submit,
            JobKind::Inquire => Kind::Inquire,
            JobKind::Unanswered => Kind::Unanswered,
        };
        let item = |job: &Job| Item {
            lot: job.lot,
            tenant: job.tenant.clone(),
            attempt: job.attempt,
            messages: job.messages.clone(),
            is_hastened: job.waits == Waits::NoLonger,
            cause: job.cause,
        };
        Self { version: VERSION, relay: relay.clone(), class, kind, jobs: jobs.iter().map(item).collect() }
    }

    pub(crate) fn encode(&self) -> Bytes {
        // Maps with other keys than texts are all that could fail.
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    /// What came over the subject of a relay and a class.
    pub(crate) fn decode(bytes: &[u8], relay: &RelayId, class: MessageClass) -> Result<Vec<Job>, NoParcel> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u16,
        }
        let Versioned { version } = serde_json::from_slice(bytes)?;
        if version > VERSION {
            return Err(NoParcel::Version(version));
        }
        let parcel: Self = serde_json::from_slice(bytes)?;
        if parcel.relay != *relay {
            return Err(NoParcel::Relay(parcel.relay));
        }
        if parcel.class != class {
            return Err(NoParcel::Class);
        }
        if parcel.jobs.is_empty() || parcel.jobs.iter().any(|item| item.messages.is_empty()) {
            return Err(NoParcel::Empty);
        }
        Ok(parcel.into_jobs())
    }

    fn into_jobs(self) -> Vec<Job> {
        let kind = match self.kind {
            Kind::Submit => JobKind::Submit,
            Kind::Inquire => JobKind::Inquire,
            Kind::Unanswered => JobKind::Unanswered,
        };
        let job = |item: Item| Job {
            lot: item.lot,
            tenant: item.tenant,
            class: self.class,
            relay: self.relay.clone(),
            attempt: item.attempt,
            kind,
            messages: item.messages,
            not_before_ms: 0,
            waits: if item.is_hastened { Waits::NoLonger } else { Waits::ForItsTime },
            cause: item.cause,
        };
        self.jobs.into_iter().map(job).collect()
    }

    /// What a repeat is recognised by: the events that it follows from. None: it follows from no event, but from the state of its
    /// lots, and whoever puts it again means it.
    pub(crate) fn identity(&self) -> Option<String> {
        let mut hasher = DefaultHasher::new();
        for item in &self.jobs {
            (item.cause?, item.attempt, item.messages.as_slice()).hash(&mut hasher);
        }
        let first = self.jobs.first()?;
        Some(format!("{}-{:x}-{}", first.cause?.simple(), hasher.finish(), self.kind as u8))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kite_domain::ids::SendingId;

    fn job(number: u32, cause: Option<Uuid>) -> Job {
        Job {
            lot: LotId { sending: SendingId(Uuid::from_u128(7)), number },
            tenant: TenantId::from_trusted("shop"),
            class: MessageClass::Notice,
            relay: RelayId::from_trusted("alpha"),
            attempt: 2,
            kind: JobKind::Inquire,
            messages: [0, 1, 2, 5].into_iter().collect(),
            not_before_ms: 0,
            waits: Waits::NoLonger,
            cause,
        }
    }

    fn parcel(jobs: &[Job]) -> Parcel {
        Parcel::new(&RelayId::from_trusted("alpha"), MessageClass::Notice, JobKind::Inquire, jobs)
    }

    #[test]
    fn jobs_come_out_as_they_went_in() {
        let jobs = [job(0, Some(Uuid::from_u128(9))), job(1, None)];
        let bytes = parcel(&jobs).encode();
        let relay = RelayId::from_trusted("alpha");
        let empty = parcel(&[]).encode();
        assert_eq!(Parcel::decode(&bytes, &relay, MessageClass::Notice).unwrap(), jobs);
        for (bytes, relay, class, told) in [
            (&bytes[..], "beta", MessageClass::Notice, "is for the relay alpha"),
            (&bytes[..], "alpha", MessageClass::Otp, "is of another class"),
            (b"{\"version\":2,\"new\":true}", "alpha", MessageClass::Otp, "is of version 2"),
            (&empty[..], "alpha", MessageClass::Notice, "holds no messages"),
            (b"nonsense", "alpha", MessageClass::Otp, "is not JSON"),
            (b"{\"version\":1}", "alpha", MessageClass::Otp, "is not JSON of a parcel"),
        ] {
            let refusal = Parcel::decode(bytes, &RelayId::from_trusted(relay), class).unwrap_err();
            assert!(refusal.to_string().starts_with(told), "{refusal}");
        }
    }

    #[test]
    fn what_a_version_wrote_once_is_read_for_ever() {
        let kept = br#"{"version":1,"relay":"alpha","class":"notice","kind":"inquire","jobs":[{"lot":"00000000000000000000000000000007-0","tenant":"shop","attempt":2,"messages":[[0,2],5],"is_hastened":true,"cause":"00000000-0000-0000-0000-000000000009"}]}"#;
        let jobs = [job(0, Some(Uuid::from_u128(9)))];
        assert_eq!(parcel(&jobs).encode(), &kept[..]);
        let relay = RelayId::from_trusted("alpha");
        assert_eq!(Parcel::decode(kept, &relay, MessageClass::Notice).unwrap(), jobs);
    }

    #[test]
    fn a_repeat_is_one_that_follows_from_the_same_events() {
        let (one, other) = (Some(Uuid::from_u128(1)), Some(Uuid::from_u128(2)));
        let identity = |jobs: &[Job]| parcel(jobs).identity();
        assert_eq!(identity(&[job(0, one), job(1, other)]), identity(&[job(0, one), job(1, other)]));
        assert_ne!(identity(&[job(0, one)]), identity(&[job(0, other)]));
        assert_ne!(identity(&[job(0, one)]), identity(&[job(0, one), job(1, other)]));
        assert_eq!(identity(&[job(0, one), job(1, None)]), None);
    }
}
