//! A stream has the name that the catalogue tells: whoever looks for an event looks there.

use kite_domain::event::{Event, EventKind};
use kite_domain::ids::{LotId, SendingId, TemplateId};
use kite_domain::slug::{RelayId, TenantId};
use kite_domain::text::Channel;
use kite_domain::{
    contact, keys, not_understood, opt_out, policy, receipt, relay, sender, sending, template, tenant,
};
use uuid::Uuid;

const ID: &str = "0197c0de000070008000000000000001";
/// The beginning of a digest is as good as any.
const HASHED: &str = "<hash";

fn told(kind: EventKind) -> String {
    let told = Event::TYPES.iter().find(|one| one.kind == kind.as_str()).unwrap().stream;
    let told = told.split(HASHED).next().unwrap();
    [
        ("<tenant>", "shop"),
        ("<relay>", "alpha"),
        ("<sending>", ID),
        ("<template>", ID),
        ("<number>", "7"),
        ("<channel>", "sms"),
        ("<address>", "0212345678"),
        ("<year><month><day>", "20260302"),
        ("<year><month>", "202603"),
    ]
    .iter()
    .fold(told.to_owned(), |told, (name, value)| told.replace(name, value))
}

#[test]
fn a_stream_has_the_name_that_the_catalogue_tells() {
    let (shop, alpha) = (TenantId::from_trusted("shop"), RelayId::from_trusted("alpha"));
    let id: Uuid = ID.parse().unwrap();
    let day = "2026-03-02T02:00:00Z".parse().unwrap();
    let named = [
        (tenant::stream(&shop), EventKind::TenantCreated),
        (keys::OPERATOR_KEYS_STREAM.into(), EventKind::OperatorKeyIssued),
        (keys::KEY_USES_STREAM.into(), EventKind::KeysUsed),
        (relay::stream(&alpha), EventKind::RelayDefined),
        (policy::stream(&shop, Channel::Sms), EventKind::PolicyDefined),
        (sender::stream("0212345678"), EventKind::SenderRequested),
        (template::stream(&shop, TemplateId(id)), EventKind::TemplateSaved),
        (contact::stream(&shop, day), EventKind::ContactsSaved),
        (SendingId(id).stream(), EventKind::SendingAccepted),
        (LotId { sending: SendingId(id), number: 7 }.stream(), EventKind::LotAccepted),
        (receipt::parked_stream(&alpha), EventKind::ReceiptsParked),
        (not_understood::stream(&alpha, day), EventKind::RelayNotUnderstood),
    ];
    for (stream, kind) in named {
        assert_eq!(stream, told(kind), "{kind:?}");
    }
}

#[test]
fn what_would_name_a_person_is_hashed_in_the_name_of_a_stream() {
    let shop = TenantId::from_trusted("shop");
    let hashed = [
        (
            opt_out::stream(&shop, "01012345678"),
            opt_out::stream(&shop, "01012345679"),
            EventKind::OptOutRecorded,
        ),
        (
            sending::idempotency_stream(&shop, "a"),
            sending::idempotency_stream(&shop, "b"),
            EventKind::SendingClaimed,
        ),
    ];
    for (one, other, kind) in hashed {
        let hash = one.strip_prefix(&told(kind)).unwrap_or_else(|| panic!("{one}"));
        assert!(hash.len() >= 24 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{one}");
        assert_ne!(one, other);
    }
}
