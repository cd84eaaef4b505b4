//! The catalogue of events: type strings, schema versions, reading and writing, upcasting.
//!
//! Events are for ever. A type string is ours and never a Rust path; a change that old readers could not ignore
//! gets a new schema version and one upcaster from the version before it. `golden/` holds one file for every
//! version that was ever written.

use serde_json::Value;
use smol_str::SmolStr;

use crate::contact::{ContactDeleted, ContactsSaved, GroupDeleted, GroupMembersChanged, GroupSaved};
use crate::election::{RouterElected, RoutesClaimed};
use crate::instance::{InstanceCopied, InstanceReleased, InstanceSettled};
use crate::keys::{KeysUsed, OperatorKeyIssued, OperatorKeyRevoked, Scopes};
use crate::lot::{
    LotAccepted, MessagesDoubted, MessagesFinished, MessagesHeld, MessagesRouted, MessagesSubmitted,
    ReceiptsRecorded, RelayResponded,
};
use crate::not_understood::RelayNotUnderstood;
use crate::opt_out::{OptOutExtended, OptOutRecorded, OptOutWithdrawn};
use crate::policy::{PolicyDefined, WeightsAdvised};
use crate::receipt::{ParkedReceiptsSettled, ReceiptsParked};
use crate::relay::{
    CodeClassed, CodeUnclassed, RelayAttended, RelayBreakerChanged, RelayDefined, RelayResumed,
    RelaySuspended, RelayUnattended,
};
use crate::seal::LogSealed;
use crate::sender::{
    SenderApproved, SenderExpired, SenderRefused, SenderRegistered, SenderRequested, SenderWithdrawn,
};
use crate::sending::{
    SendingAbandoned, SendingAccepted, SendingCancelled, SendingClaimed, SendingCompleted, SendingPaused,
    SendingReleased, SendingResumed,
};
use crate::template::{TemplateDeleted, TemplateSaved};
use crate::tenant::{ApiKeyIssued, ApiKeyRevoked, TenantCreated, TenantLimitsSet};

/// Why a stored event could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// A type of a newer program, or not ours.
    #[error("no event type {kind:?} of schema version {version} is known")]
    UnknownKind {
        /// The type string.
        kind: String,
        /// The schema version.
        version: u16,
    },
    /// The data is not of the shape that its type and version promise.
    #[error("the data of a {kind} (schema version {version}) cannot be read")]
    Malformed {
        /// The type string.
        kind: String,
        /// The schema version.
        version: u16,
        /// Where it broke.
        source: serde_json::Error,
    },
}

/// What is known about an event type without looking at an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventType {
    /// The type string.
    pub kind: &'static str,
    /// The newest schema version.
    pub version: u16,
    /// The stream that it is appended to, with the variable parts in angle brackets.
    pub stream: &'static str,
    /// What happened, in words.
    pub description: &'static str,
}

macro_rules! events {
    ($($(#[doc = $doc:literal])* $variant:ident = $kind:literal v $version:literal in $stream:literal),* $(,)?) => {
        /// The type of an event, in the order of the catalogue.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum EventKind {
            $($(#[doc = $doc])* $variant,)*
        }

        impl EventKind {
            /// The type string, as it is stored.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $kind,)* }
            }
        }

        /// Any event that Kite has ever written, in its newest shape.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Event {
            $($(#[doc = $doc])* $variant($variant),)*
        }

        impl Event {
            /// Every type string with its newest schema version.
            pub const KINDS: &'static [(&'static str, u16)] = &[$(($kind, $version)),*];

            /// Every event type, in the order of the catalogue.
            pub const TYPES: &'static [EventType] = &[$(EventType {
                kind: $kind,
                version: $version,
                stream: $stream,
                description: concat!($($doc),*),
            }),*];

            /// Its type.
            pub fn of_kind(&self) -> EventKind {
                match self { $(Self::$variant(_) => EventKind::$variant,)* }
            }

            /// The type string.
            pub fn kind(&self) -> &'static str {
                self.of_kind().as_str()
            }

            /// The schema version that [`Event::to_json`] writes.
            pub fn schema_version(&self) -> u16 {
                match self { $(Self::$variant(_) => $version,)* }
            }

            /// The event's data as JSON text.
            pub fn to_json(&self) -> Vec<u8> {
                let written = match self { $(Self::$variant(data) => serde_json::to_vec(data),)* };
                written.expect("events hold only strings, numbers and string-keyed maps")
            }

            /// Reads stored data, bringing an old version up to the newest shape.
            pub fn from_json(kind: &str, version: u16, data: &[u8]) -> Result<Self, DecodeError> {
                match kind {
                    $($kind => if version == $version {
                        serde_json::from_slice(data).map(Self::$variant)
                    } else {
                        upcast(UPCASTERS, kind, version, $version, data)?
                            .and_then(|value| serde_json::from_value(value)).map(Self::$variant)
                    }
                    .map_err(|source| DecodeError::Malformed { kind: kind.to_owned(), version, source }),)*
                    _ => Err(unknown(kind, version)),
                }
            }
        }

        $(impl From<$variant> for Event {
            fn from(data: $variant) -> Self {
                Self::$variant(data)
            }
        })*
    };
}

impl From<EventKind> for SmolStr {
    fn from(kind: EventKind) -> Self {
        Self::new_static(kind.as_str())
    }
}

/// A stored type string is compared as it is: this program may not know it.
impl PartialEq<EventKind> for SmolStr {
    fn eq(&self, kind: &EventKind) -> bool {
        *self == kind.as_str()
    }
}

events! {
    /// A tenant exists.
    TenantCreated = "tenant-created" v 1 in "tenant-<tenant>",
    /// A key may speak for the tenant.
    ApiKeyIssued = "api-key-issued" v 2 in "tenant-<tenant>",
    /// It no longer may.
    ApiKeyRevoked = "api-key-revoked" v 1 in "tenant-<tenant>",
    /// An operator set what the tenant may have and do at once. What is not named is as the configuration says.
    TenantLimitsSet = "tenant-limits-set" v 1 in "tenant-<tenant>",
    /// A key may speak for an operator.
    OperatorKeyIssued = "operator-key-issued" v 1 in "operator-keys",
    /// It no longer may.
    OperatorKeyRevoked = "operator-key-revoked" v 1 in "operator-keys",
    /// When keys of tenants and operators were last used: at their first use, and then about once a day.
    KeysUsed = "keys-used" v 1 in "key-uses",
    /// A relay is there, or its terms are new.
    RelayDefined = "relay-defined" v 1 in "relay-<relay>",
    /// An operator took a relay out of use.
    RelaySuspended = "relay-suspended" v 1 in "relay-<relay>",
    /// An operator put it back.
    RelayResumed = "relay-resumed" v 1 in "relay-<relay>",
    /// The breaker of a relay changed its mind.
    RelayBreakerChanged = "relay-breaker-changed" v 1 in "relay-<relay>",
    /// No worker serves a relay: its definition cannot be used, or its workers fail again and again.
    RelayUnattended = "relay-unattended" v 1 in "relay-<relay>",
    /// Somebody works for it again.
    RelayAttended = "relay-attended" v 1 in "relay-<relay>",
    /// An operator gave a code of one relay a meaning, in place of the dictionary. It applies to what comes in from
    /// then on.
    CodeClassed = "relay-code-classed" v 1 in "relay-<relay>",
    /// The dictionary decides again what the code means.
    CodeUnclassed = "relay-code-unclassed" v 1 in "relay-<relay>",
    /// How a tenant wants a channel to be split.
    PolicyDefined = "policy-defined" v 1 in "policy-<tenant>-<channel>",
    /// New weights from live figures, under a policy that follows them.
    WeightsAdvised = "weights-advised" v 1 in "policy-<tenant>-<channel>",
    /// A number or address may send through these relays. Written before senders had to be approved: it counts as
    /// approved, without an expiry. It is no longer written.
    SenderRegistered = "sender-registered" v 1 in "sender-<tenant>-<address>",
    /// A tenant asks to send with a number or address. What was approved before continues until there is an answer.
    SenderRequested = "sender-requested" v 1 in "identity-<address>",
    /// The operator approves it: it may send through these relays, until it expires.
    SenderApproved = "sender-approved" v 1 in "identity-<address>",
    /// The operator refuses what was asked for. What was approved before continues.
    SenderRefused = "sender-refused" v 1 in "identity-<address>",
    /// An approval has expired. The sender has not been usable since then, whenever this is recorded.
    SenderExpired = "sender-expired" v 1 in "identity-<address>",
    /// It may no longer send, and is no longer requested. Before approvals this was in `sender-<tenant>-<address>`.
    SenderWithdrawn = "sender-withdrawn" v 1 in "identity-<address>",
    /// A recipient refuses advertisements. `brand`, if present, names the refused brand. `refused_at`, if present, is
    /// the time of the refusal; otherwise it is the time of the event.
    OptOutRecorded = "opt-out-recorded" v 1 in "opt-out-<tenant>-<hash of the address>",
    /// The refusal was taken back; that of one brand, where `brand` names one.
    OptOutWithdrawn = "opt-out-withdrawn" v 1 in "opt-out-<tenant>-<hash of the address>",
    /// The refusal also applies to other addresses, because they belong to the same person.
    OptOutExtended = "opt-out-extended" v 1 in "opt-out-<tenant>-<hash of the address>",
    /// A message template is new or changed.
    TemplateSaved = "template-saved" v 1 in "template-<tenant>-<template>",
    /// It is gone.
    TemplateDeleted = "template-deleted" v 1 in "template-<tenant>-<template>",
    /// Contacts are new or changed.
    ContactsSaved = "contacts-saved" v 1 in "contact-book-<tenant>-<year><month>",
    /// A contact is gone.
    ContactDeleted = "contact-deleted" v 1 in "contact-book-<tenant>-<year><month>",
    /// A group is new or renamed.
    GroupSaved = "group-saved" v 1 in "contact-book-<tenant>-<year><month>",
    /// A group is gone; its contacts are not.
    GroupDeleted = "group-deleted" v 1 in "contact-book-<tenant>-<year><month>",
    /// Contacts joined or left a group.
    GroupMembersChanged = "group-members-changed" v 1 in "contact-book-<tenant>-<year><month>",
    /// An idempotency key now belongs to a sending.
    SendingClaimed = "sending-claimed" v 1 in "idempotency-<tenant>-<hash of the key>",
    /// The seal: all lots are in the log, and the sending counts from here on.
    SendingAccepted = "sending-accepted" v 1 in "sending-<sending>",
    /// It never will be sealed.
    SendingAbandoned = "sending-abandoned" v 1 in "sending-<sending>",
    /// Its time has come.
    SendingReleased = "sending-released" v 1 in "sending-<sending>",
    /// Nothing of it is routed or handed over from now on, until it is resumed. Messages that a relay already has
    /// continue.
    SendingPaused = "sending-paused" v 1 in "sending-<sending>",
    /// It continues.
    SendingResumed = "sending-resumed" v 1 in "sending-<sending>",
    /// What is not handed over yet never will be.
    SendingCancelled = "sending-cancelled" v 1 in "sending-<sending>",
    /// Every message is final.
    SendingCompleted = "sending-completed" v 1 in "sending-<sending>",
    /// A slice of a sending's messages.
    LotAccepted = "lot-accepted" v 1 in "lot-<sending>-<number>",
    /// Which messages go to which relay, and why.
    MessagesRouted = "messages-routed" v 1 in "lot-<sending>-<number>",
    /// The intent, before the relay is called.
    MessagesSubmitted = "messages-submitted" v 1 in "lot-<sending>-<number>",
    /// The relay's answer to a hand-over or question, or that there was none. `unknown.round` says how many pauses,
    /// growing up to an hour, will have passed since the lost call at `unknown.inquire_at`. `unknown.duplicate_code`,
    /// if present, is the code with which a repeated call was refused as a duplicate. `unknown.refusal` is the
    /// refusal of a repeat while an earlier call might still come in; it counts once that is impossible.
    RelayResponded = "relay-responded" v 1 in "lot-<sending>-<number>",
    /// Delivery reports.
    ReceiptsRecorded = "receipts-recorded" v 1 in "lot-<sending>-<number>",
    /// The log is a copy, and these were open when it was taken: the original may have handed them over since.
    MessagesDoubted = "messages-doubted" v 1 in "lot-<sending>-<number>",
    /// Not now: the window is closed.
    MessagesHeld = "messages-held" v 1 in "lot-<sending>-<number>",
    /// Final, other than by a delivery receipt.
    MessagesFinished = "messages-finished" v 1 in "lot-<sending>-<number>",
    /// Receipts for references that nobody knows yet.
    ReceiptsParked = "receipts-parked" v 1 in "receipts-<relay>",
    /// They were matched, or given up.
    ParkedReceiptsSettled = "parked-receipts-settled" v 2 in "receipts-<relay>",
    /// A relay said something that Kite could not read. It is kept as it came, and the same words only once per day.
    RelayNotUnderstood = "relay-not-understood" v 1 in "not-understood-<relay>-<year><month><day>",
    /// Seals the events up to a position: `digest` covers the digest of the seal before and the digests of all
    /// `events` since then; `marks` has the first four bytes of each, so that a difference has a place.
    LogSealed = "log-sealed" v 1 in "log-seals",
    /// From here on this router assigns first routes, and none before it does.
    RouterElected = "router-elected" v 1 in "router",
    /// First routes that lots are told of from now on, and nobody gives others before all of them were. Only where the
    /// event store cannot append to several streams at once: the splits are exact in the order of these events.
    RoutesClaimed = "routes-claimed" v 1 in "router",
    /// From here on this log is a copy of another, which may still be in use: nothing is handed over.
    InstanceCopied = "instance-copied" v 1 in "instance",
    /// The operator's word that the original is dead.
    InstanceReleased = "instance-released" v 1 in "instance",
    /// Everything that the original may have handed over is in doubt by now: this log takes its place.
    InstanceSettled = "instance-settled" v 1 in "instance",
}

fn unknown(kind: &str, version: u16) -> DecodeError {
    DecodeError::UnknownKind { kind: kind.to_owned(), version }
}

/// Hides what no reader of the log may see: credentials of relays, hashes of keys. It stays visible that they exist.
pub fn redact(kind: &str, data: &mut Value) {
    const HIDDEN: &str = "(not shown)";
    match kind {
        "relay-defined" => {
            let credentials = data.pointer_mut("/profile/credentials").and_then(Value::as_object_mut);
            for value in credentials.into_iter().flat_map(|map| map.values_mut()) {
                *value = Value::from(HIDDEN);
            }
        }
        "api-key-issued" | "operator-key-issued" => {
            if let Some(hash) = data.get_mut("hash") {
                *hash = Value::from(HIDDEN);
            }
        }
        _ => {}
    }
}

/// One step from a schema version to the next, on plain values.
struct Upcaster {
    kind: &'static str,
    from: u16,
    step: fn(Value) -> Value,
}

/// Every step there is.
const UPCASTERS: &[Upcaster] = &[
    Upcaster { kind: "api-key-issued", from: 1, step: keys_without_scopes_may_everything },
    Upcaster { kind: "parked-receipts-settled", from: 1, step: bare_references_to_settled_receipts },
];

/// In version 1 a key had no scopes. A program that knows only that version must not take a newer key for one with
/// all permissions, so scopes are not just a new field.
fn keys_without_scopes_may_everything(mut value: Value) -> Value {
    value["scopes"] = serde_json::json!(Scopes::ALL);
    value
}

/// Version 1 named only references, and settled everything that was parked under them.
fn bare_references_to_settled_receipts(mut value: Value) -> Value {
    for list in ["matched", "given_up"] {
        for settled in value.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            *settled = serde_json::json!({ "reference": settled.take() });
        }
    }
    value
}

/// Brings data of version `from` to version `to`. The outer error: there is no such chain; the inner: not JSON.
fn upcast(
    chain: &[Upcaster],
    kind: &str,
    from: u16,
    to: u16,
    data: &[u8],
) -> Result<Result<Value, serde_json::Error>, DecodeError> {
    let mut value: Value = match serde_json::from_slice(data) {
        Ok(value) => value,
        Err(error) => return Ok(Err(error)),
    };
    if from > to {
        return Err(unknown(kind, from));
    }
    for version in from..to {
        let upcaster = chain
            .iter()
            .find(|upcaster| upcaster.kind == kind && upcaster.from == version)
            .ok_or_else(|| unknown(kind, version))?;
        value = (upcaster.step)(value);
    }
    Ok(Ok(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn secrets_are_hidden_and_their_presence_is_not() {
        let mut data = json!({"profile": {"relay": "alpha", "credentials": {"api_key": "s", "receipt_secret": "whsec_x"}}});
        redact("relay-defined", &mut data);
        let hidden = json!({"api_key": "(not shown)", "receipt_secret": "(not shown)"});
        assert_eq!(data["profile"], json!({"relay": "alpha", "credentials": hidden}));
        for kind in ["api-key-issued", "operator-key-issued"] {
            let mut data = json!({"key_id": "k", "hash": "h"});
            redact(kind, &mut data);
            assert_eq!(data, json!({"key_id": "k", "hash": "(not shown)"}));
        }
    }

    #[test]
    fn old_data_climbs_the_chain_one_step_at_a_time() {
        fn rename(mut value: Value) -> Value {
            let old = value["relay_name"].take();
            json!({ "relay": old })
        }
        fn add(mut value: Value) -> Value {
            value["reason"] = json!("not recorded before version 3");
            value
        }
        let chain = [
            Upcaster { kind: "relay-suspended", from: 2, step: add },
            Upcaster { kind: "relay-suspended", from: 1, step: rename },
        ];
        let raised = upcast(&chain, "relay-suspended", 1, 3, br#"{"relay_name":"alpha"}"#).unwrap().unwrap();
        assert_eq!(raised, json!({ "relay": "alpha", "reason": "not recorded before version 3" }));
        assert!(matches!(
            upcast(&chain, "relay-suspended", 4, 3, b"{}"),
            Err(DecodeError::UnknownKind { .. })
        ));
        assert!(matches!(upcast(&chain, "relay-resumed", 1, 2, b"{}"), Err(DecodeError::UnknownKind { .. })));
    }

    #[test]
    fn a_settlement_without_statuses_settles_all_of_a_reference() {
        use crate::receipt::ReceiptStatus::{Delivered, Undelivered};
        let old = br#"{"relay":"alpha","matched":["one"],"given_up":["two"]}"#;
        let Event::ParkedReceiptsSettled(settled) =
            Event::from_json("parked-receipts-settled", 1, old).unwrap()
        else {
            panic!("another event");
        };
        for status in [Delivered, Undelivered] {
            assert!(settled.settles("one", status) && settled.settles("two", status));
            assert!(!settled.settles("three", status));
        }
        let new = br#"{"relay":"alpha","matched":[{"reference":"one","status":"delivered"}],"given_up":[]}"#;
        let Event::ParkedReceiptsSettled(settled) =
            Event::from_json("parked-receipts-settled", 2, new).unwrap()
        else {
            panic!("another event");
        };
        assert!(settled.settles("one", Delivered) && !settled.settles("one", Undelivered));
        let garbled = Event::from_json("parked-receipts-settled", 1, br#"{"relay":"alpha","matched":7}"#);
        assert!(matches!(garbled, Err(DecodeError::Malformed { .. })));
    }

    #[test]
    fn a_key_from_before_there_were_scopes_may_everything() {
        let old = br#"{"tenant":"acme","key_id":"k","hash":"h","label":""}"#;
        let Event::ApiKeyIssued(issued) = Event::from_json("api-key-issued", 1, old).unwrap() else {
            panic!("another event");
        };
        assert_eq!(issued.scopes, Scopes::ALL);
        assert_eq!(issued.bounds, crate::keys::KeyBounds::default());
        let without = Event::from_json("api-key-issued", 2, old);
        assert!(matches!(without, Err(DecodeError::Malformed { .. })), "a new one names its scopes");
    }

    #[test]
    fn an_event_of_a_newer_program_is_named() {
        let error = Event::from_json("message-teleported", 1, b"{}").unwrap_err();
        assert_eq!(error.to_string(), "no event type \"message-teleported\" of schema version 1 is known");
        assert!(matches!(Event::from_json("lot-accepted", 9, b"{}"), Err(DecodeError::UnknownKind { .. })));
        assert!(matches!(Event::from_json("lot-accepted", 1, b"[1"), Err(DecodeError::Malformed { .. })));
    }

    #[test]
    fn type_strings_are_distinct_and_plain() {
        let mut kinds: Vec<_> = Event::KINDS.iter().map(|(kind, _)| *kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        assert_eq!(kinds.len(), Event::KINDS.len());
        assert!(kinds.iter().all(|kind| kind.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')));
    }
}
