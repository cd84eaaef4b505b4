//! One sample of every event, with every optional field set.

use chrono::{DateTime, Utc};
use kite_domain::address::PhoneKind;
use kite_domain::contact::*;
use kite_domain::election::{ClaimedLot, RouterElected, RoutesClaimed};
use kite_domain::event::Event;
use kite_domain::failure::FailureClass;
use kite_domain::ids::{ContactId, GroupId, LotId, SendingId, TemplateId};
use kite_domain::instance::*;
use kite_domain::keys::*;
use kite_domain::lot::*;
use kite_domain::not_understood::{MisreadReason, RelayNotUnderstood, RelayWords, SaidHow};
use kite_domain::opt_out::*;
use kite_domain::policy::*;
use kite_domain::receipt::*;
use kite_domain::relay::*;
use kite_domain::seal::LogSealed;
use kite_domain::sender::*;
use kite_domain::sending::*;
use kite_domain::slug::{OperatorName, RelayId, TenantId};
use kite_domain::split::{Carry, WeightedRelays};
use kite_domain::template::*;
use kite_domain::tenant::*;
use kite_domain::text::MessageType;
use serde_json::json;
use smol_str::SmolStr;
use std::collections::BTreeMap;
use uuid::Uuid;

pub(crate) fn all() -> Vec<Event> {
    [
        reference_data(),
        address_book(),
        sendings(),
        lots(),
        vec![not_understood(), seal(), election(), claim()],
        instance(),
    ]
    .concat()
}

fn not_understood() -> Event {
    let kept = RelayNotUnderstood {
        relay: relay("alpha"),
        how: SaidHow::Pushed,
        reason: MisreadReason::UnknownWord,
        row: Some(3),
        field: Some("status".into()),
        raw_bytes: 26,
        personal: RelayWords { raw: r#"{"status":"lost somewhere"}"#.to_owned() },
    };
    kept.into()
}

fn election() -> Event {
    RouterElected { node: "kite-2-4711".into() }.into()
}

fn claim() -> Event {
    let lot = LotId { sending: sending(), number: 0 };
    let claimed = ClaimedLot {
        lot,
        event: Uuid::from_u128(0x0199_0000_0000_7000_8000_0000_0000_00c1),
        routed: routed(),
    };
    RoutesClaimed { lots: vec![claimed] }.into()
}

fn seal() -> Event {
    let sealed = LogSealed {
        after: 7,
        until: 9,
        events: 2,
        digest: "3b7c8d2f".repeat(8),
        marks: "0197c0de8d2f3b7c".to_owned(),
    };
    sealed.into()
}

fn instance() -> Vec<Event> {
    vec![
        InstanceCopied { until: 4_711, taken_at: at("2026-03-02T02:00:00Z") }.into(),
        InstanceReleased {
            original_dead_since: at("2026-03-02T03:00:00Z"),
            reason: "its disk is gone".to_owned(),
        }
        .into(),
        InstanceSettled { messages_in_doubt: 128, messages_given_up: 3 }.into(),
    ]
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn relay(name: &str) -> RelayId {
    RelayId::parse(name).unwrap()
}

fn tenant() -> TenantId {
    TenantId::parse("acme").unwrap()
}

fn id(last: u128) -> Uuid {
    Uuid::from_u128(0x0197_c0de_0000_7000_8000_0000_0000_0000 + last)
}

fn sending() -> SendingId {
    SendingId(id(1))
}

fn words(pairs: &[(&str, &str)]) -> BTreeMap<SmolStr, String> {
    pairs.iter().map(|(name, value)| (SmolStr::new(name), (*value).to_owned())).collect()
}

fn weights() -> Vec<RelayWeight> {
    vec![
        RelayWeight { relay: relay("alpha"), weight: 5_000 },
        RelayWeight { relay: relay("beta"), weight: 5_000 },
    ]
}

fn failover() -> FailoverTerms {
    FailoverTerms {
        relays: true,
        email: true,
        email_after_temporary: true,
        at_least_once: false,
        wait_s: Some(3_600),
        retry_s: Some(7_200),
        attempts_max: 3,
    }
}

fn profile() -> RelayProfile {
    let terms =
        ChannelTerms { price_milliwon: 9_200, bills: BillingMoment::Accepted, receipt_deadline_s: 90_000 };
    RelayProfile {
        relay: relay("alpha"),
        name: "Alpha Messaging".to_owned(),
        endpoint: Endpoint::Http { base_url: "https://relay.example/alpha".to_owned() },
        channels: [(MessageType::Sms, terms)].into(),
        reaches: vec![PhoneKind::KoreanMobile],
        batch_max: 1_000,
        rate_parts_per_second: Some(150),
        calls_in_flight_max: 4,
        answer_timeout_ms: 10_000,
        deduplicates: true,
        answers_status: true,
        receipts: ReceiptMode::Push,
        codes: "solapi".into(),
        tls: RelayTls::default(),
        credentials: RelayCredentials {
            api_key: Some("key".to_owned()),
            user: Some("user".to_owned()),
            receipt_secret: Some("whsec_c2VjcmV0".to_owned()),
            ..RelayCredentials::default()
        },
    }
}

fn sender_terms() -> SenderTerms {
    SenderTerms {
        address: "025550100".into(),
        kind: SenderKind::Phone,
        brand: Some("Acme".to_owned()),
        refusal_number: Some("0805550100".into()),
        relays: vec![relay("alpha"), relay("beta")],
    }
}

fn key_bounds() -> KeyBounds {
    KeyBounds {
        expires_at: Some(at("2027-03-02T06:00:00Z")),
        allowed_addresses: vec![parse_network("192.0.2.0/24").unwrap()],
    }
}

fn operator_keys() -> [Event; 3] {
    let name = OperatorName::parse("kim").unwrap();
    let issued = OperatorKeyIssued {
        key_id: "8a2b".into(),
        name: name.clone(),
        role: Role::Operator,
        hash: "3b7c8d2f884c7d65".to_owned(),
        bounds: key_bounds(),
    };
    let revoked = OperatorKeyRevoked { key_id: "8a2b".into(), name };
    let uses = vec![KeyUse { key_id: "7f3a".into(), at: at("2026-03-02T06:00:00Z") }];
    [issued.into(), revoked.into(), KeysUsed { uses }.into()]
}

fn reference_data() -> Vec<Event> {
    let template = TemplateId(id(4));
    let personal = OptOutPerson { address: "01012345678".into() };
    let [key_issued, key_revoked, keys_used] = operator_keys();
    vec![
        TenantCreated { tenant: tenant(), name: "Acme".to_owned() }.into(),
        ApiKeyIssued {
            tenant: tenant(),
            key_id: "7f3a".into(),
            hash: "9f86d081884c7d65".to_owned(),
            label: "production".to_owned(),
            scopes: [Scope::Send, Scope::Read].into_iter().collect(),
            bounds: key_bounds(),
        }
        .into(),
        ApiKeyRevoked { tenant: tenant(), key_id: "7f3a".into() }.into(),
        TenantLimitsSet {
            tenant: tenant(),
            limits: TenantLimits {
                open_messages_max: Some(200_000),
                scheduled_messages_max: Some(50_000),
                requests_per_second: Some(100),
                recipients_per_second: Some(5_000),
                contacts_max: Some(10_000),
            },
        }
        .into(),
        key_issued,
        key_revoked,
        keys_used,
        RelayDefined { profile: profile() }.into(),
        RelaySuspended { relay: relay("alpha"), reason: "maintenance".to_owned() }.into(),
        RelayResumed { relay: relay("alpha") }.into(),
        RelayBreakerChanged {
            relay: relay("alpha"),
            from: BreakerPhase::Passing,
            to: BreakerPhase::Tripped,
            reason: "12 of 20 calls failed".to_owned(),
            until: Some(at("2026-03-02T03:00:30Z")),
        }
        .into(),
        RelayUnattended {
            relay: relay("alpha"),
            cause: UnattendedCause::Unusable,
            reason: "endpoint.base_url: must begin with http:// or https://".to_owned(),
            since: at("2026-03-02T03:00:30Z"),
        }
        .into(),
        RelayAttended { relay: relay("alpha") }.into(),
        CodeClassed {
            relay: relay("alpha"),
            code: "9876".into(),
            class: FailureClass::HandsetTemporary,
            billable: true,
            text: Some("the handset is roaming".to_owned()),
        }
        .into(),
        CodeUnclassed { relay: relay("alpha"), code: "9876".into() }.into(),
        PolicyDefined {
            tenant: tenant(),
            channel: MessageType::Sms,
            version: 3,
            objective: PolicyObjective::Ratio { weights: weights() },
            failover: failover(),
        }
        .into(),
        WeightsAdvised {
            tenant: tenant(),
            channel: MessageType::Lms,
            version: 2,
            advice: 7,
            weights: weights(),
            order: vec![relay("beta"), relay("alpha")],
            reasons: vec!["beta delivers 99.1 % at 8.90 won".to_owned()],
        }
        .into(),
        SenderRegistered {
            tenant: tenant(),
            address: "025550100".into(),
            kind: SenderKind::Phone,
            brand: Some("Acme".to_owned()),
            refusal_number: Some("0805550100".into()),
            relays: vec![relay("alpha"), relay("beta")],
        }
        .into(),
        SenderRequested { tenant: tenant(), terms: sender_terms() }.into(),
        SenderApproved {
            tenant: tenant(),
            terms: sender_terms(),
            document: "2026-0117 telecommunication service certificate".to_owned(),
            expires_at: at("2027-01-16T15:00:00Z"),
            shared: true,
        }
        .into(),
        SenderRefused {
            tenant: tenant(),
            address: "025550100".into(),
            reason: "the certificate names another company".to_owned(),
        }
        .into(),
        SenderExpired {
            tenant: tenant(),
            address: "025550100".into(),
            expires_at: at("2027-01-16T15:00:00Z"),
        }
        .into(),
        SenderWithdrawn { tenant: tenant(), address: "025550100".into(), reason: None }.into(),
        OptOutRecorded {
            tenant: tenant(),
            brand: None,
            source: "080".to_owned(),
            refused_at: None,
            personal: personal.clone(),
        }
        .into(),
        OptOutWithdrawn { tenant: tenant(), brand: None, personal }.into(),
        OptOutExtended {
            tenant: tenant(),
            personal: ExtendedPerson { address: "01012345678".into(), also: vec!["hong@example.com".into()] },
        }
        .into(),
        TemplateSaved {
            tenant: tenant(),
            template,
            name: "welcome".to_owned(),
            subject: Some("Welcome".to_owned()),
            text: "Hello #{name}".to_owned(),
        }
        .into(),
        TemplateDeleted { tenant: tenant(), template }.into(),
    ]
}

fn address_book() -> Vec<Event> {
    let (contact, group) = (ContactId(id(2)), GroupId(id(3)));
    let details = ContactDetails {
        contact,
        name: "홍길동".to_owned(),
        phone: Some("01012345678".into()),
        email: Some("hong@example.com".into()),
        tags: vec!["vip".into()],
        fields: words(&[("city", "Seoul")]),
    };
    vec![
        ContactsSaved {
            tenant: tenant(),
            group: Some(group),
            personal: ContactsPersonal { contacts: vec![details] },
        }
        .into(),
        ContactDeleted { tenant: tenant(), contact }.into(),
        GroupSaved { tenant: tenant(), group, name: "customers".to_owned() }.into(),
        GroupDeleted { tenant: tenant(), group }.into(),
        GroupMembersChanged {
            tenant: tenant(),
            group,
            added: vec![contact],
            removed: vec![ContactId(id(5))],
        }
        .into(),
    ]
}

fn sendings() -> Vec<Event> {
    let sending = sending();
    vec![
        SendingClaimed { sending, body_hash: "9f86d081".to_owned() }.into(),
        SendingAccepted {
            sending,
            tenant: tenant(),
            class: MessageClass::Ad,
            from_phone: Some("025550100".into()),
            from_email: Some("news@example.com".into()),
            lots: 2,
            messages: 1_500,
            refused: 3,
            scheduled_at: Some(at("2026-03-02T03:00:00Z")),
            expires_at: at("2026-03-03T03:00:00Z"),
            failover: failover(),
            ad: Some(AdTerms { window: WindowAction::Refuse, night_consent: true, brands: vec![] }),
            client_reference: Some("spring-sale".to_owned()),
            custom: Some(json!({ "campaign": 7 })),
            body_hash: Some("9f86d081".to_owned()),
            personal: SendingContent {
                subject: Some("(광고) Acme".to_owned()),
                text: "(광고)Acme #{name} 무료수신거부 0805550100".to_owned(),
                variables: words(&[("name", "customer")]),
            },
        }
        .into(),
        SendingAbandoned { sending }.into(),
        SendingReleased { sending }.into(),
        SendingPaused { sending, by: PauseBy::Operator, reason: Some("complaints".to_owned()) }.into(),
        SendingResumed { sending, by: PauseBy::Operator, reason: Some("settled".to_owned()) }.into(),
        SendingCancelled { sending, reason: Some("wrong price".to_owned()) }.into(),
        SendingCompleted { sending }.into(),
    ]
}

fn lots() -> Vec<Event> {
    let alpha = relay("alpha");
    vec![
        accepted_lot().into(),
        routed().into(),
        MessagesSubmitted {
            relay: alpha.clone(),
            attempt: 1,
            messages: [0, 2].into_iter().collect(),
            receipt_by: at("2026-03-03T04:00:00Z"),
            answer_by: None,
            holder: None,
        }
        .into(),
        responded().into(),
        ReceiptsRecorded {
            relay: alpha.clone(),
            sets: vec![ReceiptSet {
                attempt: 1,
                status: ReceiptStatus::Undelivered,
                code: "3043".into(),
                class: Some(FailureClass::HandsetTemporary),
                billable_failure: true,
                messages: [0, 2].into_iter().collect(),
                at_ms: vec![1_772_420_405_000, 1_772_420_406_000],
            }],
        }
        .into(),
        MessagesDoubted { messages: [0, 1, 2, 5].into_iter().collect() }.into(),
        MessagesHeld {
            messages: [1, 3].into_iter().collect(),
            reason: "night window".to_owned(),
            until_ms: vec![1_772_492_400_000, 1_772_492_401_500],
        }
        .into(),
        MessagesFinished {
            messages: std::iter::once(0).collect(),
            outcome: Outcome::Undelivered,
            reason: "3043".into(),
            class: Some(FailureClass::HandsetTemporary),
        }
        .into(),
        ReceiptsParked {
            relay: alpha.clone(),
            receipts: vec![RawReceipt {
                reference: "0197c0de000070008000000000000009-4-1".into(),
                relay_reference: Some("A-77".into()),
                status: ReceiptStatus::Delivered,
                code: "4000".into(),
                at: at("2026-03-02T03:00:05Z"),
            }],
        }
        .into(),
        ParkedReceiptsSettled {
            relay: alpha,
            matched: vec![settled("known-1", ReceiptStatus::Undelivered)],
            given_up: vec![settled("stranger-1", ReceiptStatus::Delivered)],
        }
        .into(),
    ]
}

fn settled(reference: &str, status: ReceiptStatus) -> SettledReceipt {
    SettledReceipt { reference: reference.into(), status: Some(status) }
}

fn accepted_lot() -> LotAccepted {
    let recipient = |to: &str| Recipient {
        to: to.into(),
        email: Some("hong@example.com".into()),
        contact: Some(ContactId(id(2))),
        reference: Some("row-1".into()),
        variables: words(&[("name", "홍길동")]),
    };
    let group = |reach, messages: [u32; 2]| TypeGroup {
        message_type: MessageType::Sms,
        parts: 1,
        reach,
        messages: messages.into_iter().collect(),
    };
    LotAccepted {
        sending: sending(),
        tenant: tenant(),
        class: MessageClass::Ad,
        number: 0,
        groups: vec![
            group(Some(PhoneKind::KoreanMobile), [0, 2]),
            group(Some(PhoneKind::KoreanLandline), [1, 3]),
        ],
        personal: LotPersonal {
            recipients: ["01012345678", "025550101", "01012345679", "025550102"].map(recipient).into(),
        },
    }
}

fn routed() -> MessagesRouted {
    let set = WeightedRelays::try_from(weights().as_slice()).unwrap();
    let mut carry = Carry::new(&set);
    carry.take(&set, 3).unwrap();
    MessagesRouted {
        routes: vec![RouteSet {
            relay: relay("alpha"),
            channel: MessageType::Sms,
            attempt: 1,
            messages: [0, 1, 2].into_iter().collect(),
            fallbacks: vec![relay("beta")],
            price_milliwon: 9_200,
            bills: BillingMoment::Delivered,
            reason: "ratio acme-sms-3: 5000 of 10000".to_owned(),
        }],
        splits: vec![SplitRecord {
            key: "acme-sms-3|alpha:5000,beta:5000".into(),
            channel: MessageType::Sms,
            version: 3,
            objective: "ratio".into(),
            weights: weights(),
            messages: 3,
            carry,
            left_out: vec![LeftOut { relay: relay("gamma"), reason: Ineligible::BreakerTripped }],
        }],
    }
}

fn responded() -> RelayResponded {
    let one = |seq: u32| std::iter::once(seq).collect();
    RelayResponded {
        relay: relay("alpha"),
        attempt: 1,
        call_ms: Some(42),
        accepted: Some(AcceptedSet {
            messages: one(0),
            relay_references: vec!["A-77".into()],
            is_final: true,
        }),
        refused: vec![RefusedSet {
            messages: one(1),
            code: "3056".into(),
            class: FailureClass::RelayFault,
            text: Some("no route".to_owned()),
        }],
        unknown: Some(UnknownSet {
            messages: one(2),
            reason: "connection reset".to_owned(),
            inquire_at: Some(at("2026-03-02T03:00:15Z")),
            round: 2,
            duplicate_code: None,
            refusal: Some(Refusal {
                code: "3053".into(),
                class: FailureClass::RelayFault,
                text: Some("out of order".to_owned()),
            }),
            receipt_by: None,
        }),
        deferred: Some(DeferredSet {
            messages: one(3),
            reason: "429".to_owned(),
            until: at("2026-03-02T03:00:02Z"),
        }),
        refused_for_now: vec![RefusedForNowSet {
            messages: one(4),
            code: "4.7.1".into(),
            class: FailureClass::Reputation,
            text: Some("greylisted".to_owned()),
            times: 2,
            since: at("2026-03-02T02:59:00Z"),
            until: at("2026-03-02T03:05:00Z"),
        }],
    }
}
