//! An event in 32 bytes: everything that the log says about it, and nothing that an engine adds.
//!
//! SHA-256 over the fields in the order below. A number is little-endian in its full width; a text is its length in eight
//! bytes and its bytes; what may be missing is a byte 0, or a byte 1 and the value. The position is left out: it is the
//! engine's, and the order of events is in the order of their digests.
//!
//! The trace came later: an event without one has the digest that it had before, and one with it a byte 1 and its 25 bytes at the
//! very end.

use sha2::{Digest, Sha256};

use crate::envelope::{Metadata, RecordedEvent};

/// So that a digest of something else is never one of an event.
const WHAT: &[u8] = b"kite event 1\n";

impl RecordedEvent {
    /// See the module.
    pub fn digest(&self) -> [u8; 32] {
        let Self { position: _, stream, version, id, kind, schema_version, metadata, data } = self;
        let Metadata { time, tenant, correlation, causation, actor, traceparent } = metadata;
        let mut sum = Sum(Sha256::new_with_prefix(WHAT));
        sum.text(stream.as_bytes());
        sum.0.update(version.to_le_bytes());
        sum.0.update(id.as_bytes());
        sum.text(kind.as_bytes());
        sum.0.update(schema_version.to_le_bytes());
        sum.0.update(time.timestamp_millis().to_le_bytes());
        sum.maybe(tenant.as_ref(), |sum, tenant| sum.text(tenant.as_bytes()));
        sum.0.update(correlation.as_bytes());
        sum.maybe(causation.as_ref(), |sum, causation| sum.0.update(causation.as_bytes()));
        sum.text(actor.as_bytes());
        sum.text(data);
        if let Some(traceparent) = traceparent {
            sum.0.update([1]);
            sum.0.update(traceparent.to_bytes());
        }
        sum.0.finalize().into()
    }
}

struct Sum(Sha256);

impl Sum {
    fn text(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    fn maybe<T>(&mut self, value: Option<T>, add: impl FnOnce(&mut Self, T)) {
        self.0.update([u8::from(value.is_some())]);
        if let Some(value) = value {
            add(self, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace_parent::TraceParent;
    use bytes::Bytes;
    use chrono::DateTime;
    use std::collections::BTreeSet;
    use uuid::Uuid;

    fn event() -> RecordedEvent {
        RecordedEvent {
            position: 7,
            stream: "lot-1".into(),
            version: 3,
            id: Uuid::from_u128(1),
            kind: "lot-accepted".into(),
            schema_version: 1,
            metadata: Metadata {
                time: DateTime::from_timestamp_millis(1_800_000_000_123).unwrap(),
                tenant: Some("acme".into()),
                correlation: Uuid::from_u128(2),
                causation: None,
                actor: "key:1".into(),
                traceparent: None,
            },
            data: Bytes::from_static(b"{}"),
        }
    }

    #[test]
    fn every_field_is_in_it_but_the_position() {
        let changes: [fn(&mut RecordedEvent); 12] = [
            |event| event.stream = "lot-2".into(),
            |event| event.version = 4,
            |event| event.id = Uuid::from_u128(9),
            |event| event.kind = "lot-routed".into(),
            |event| event.schema_version = 2,
            |event| event.metadata.time += chrono::TimeDelta::milliseconds(1),
            |event| event.metadata.tenant = None,
            |event| event.metadata.correlation = Uuid::from_u128(9),
            |event| event.metadata.causation = Some(Uuid::from_u128(9)),
            |event| event.metadata.actor = "admin".into(),
            |event| event.metadata.traceparent = TraceParent::new([1; 16], [2; 8], 1),
            |event| event.data = Bytes::from_static(b"[]"),
        ];
        let digests: BTreeSet<[u8; 32]> = changes
            .iter()
            .map(|change| {
                let mut event = event();
                change(&mut event);
                event.digest()
            })
            .collect();
        assert_eq!(digests.len(), changes.len());
        assert!(!digests.contains(&event().digest()));
        assert_eq!(RecordedEvent { position: 8, ..event() }.digest(), event().digest());
    }

    #[test]
    fn where_a_text_ends_is_in_it() {
        let with = |stream: &str, kind: &str| {
            RecordedEvent { stream: stream.into(), kind: kind.into(), ..event() }.digest()
        };
        assert_ne!(with("ab", "c"), with("a", "bc"));
    }

    /// It must never change: seals in existing logs depend on it.
    #[test]
    fn it_stays_what_it_is() {
        let digest: String = event().digest().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digest, "9b9cd288a4a1b6dce90cccb726f44cd85623d31eef5212d6fd9ec72514a562c6");
        let mut traced = event();
        traced.metadata.traceparent = TraceParent::new([0xab; 16], [0xcd; 8], 1);
        let digest: String = traced.digest().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digest, "e6fad39e927003e006880bd8111f2f55f30b6215053eeae72b31524d32708428");
    }
}
