//! Who is there in every simulation: two tenants, five relays, and recipients by number.

use chrono::{DateTime, TimeDelta, Utc};
use kite_domain::address::PhoneKind;
use kite_domain::relay::{
    BillingMoment, ChannelTerms, Endpoint, ReceiptMode, RelayCredentials, RelayProfile, RelayTls,
};
use kite_domain::slug::{RelayId, TenantId};
use kite_domain::text::MessageType;
use smol_str::{SmolStr, format_smolstr};

use crate::relays::Traits;
use kite_testkit::dice::Dice;

/// Three for text messages, two for e-mail.
pub(crate) const RELAYS: [&str; 5] = ["alpha", "beta", "gamma", "mail", "post"];
/// Who sends.
pub(crate) const TENANTS: [&str; 2] = ["acme", "bolt"];
/// How many relays carry text messages.
pub(crate) const TEXT_RELAYS: usize = 3;
pub(crate) const PHONE: &str = "02-555-0100";
pub(crate) const PHONE_CANONICAL: &str = "025550100";
pub(crate) const EMAIL: &str = "news@example.com";
/// The brand of all senders.
pub(crate) const BRAND: &str = "카이트";
/// How long a call may take.
pub(crate) const ANSWER_TIMEOUT_MS: u32 = 3_000;
/// How long after the caller gave it up, or died, a call may still come in.
pub(crate) const LATE_MS: u64 = 28_000;

pub(crate) fn relay(index: u8) -> RelayId {
    RelayId::from_trusted(RELAYS[usize::from(index) % RELAYS.len()])
}

pub(crate) fn tenant(index: u8) -> TenantId {
    TenantId::from_trusted(TENANTS[usize::from(index) % TENANTS.len()])
}

pub(crate) fn number_of(recipient: u16) -> SmolStr {
    format_smolstr!("0102{recipient:07}")
}

pub(crate) fn email_of(recipient: u16) -> SmolStr {
    format_smolstr!("r{recipient}@example.org")
}

/// Midnight in Seoul and so many minutes.
pub(crate) fn start(minute: u16) -> DateTime<Utc> {
    let midnight = DateTime::from_timestamp_millis(1_772_290_800_000).unwrap_or_default();
    midnight + TimeDelta::minutes(minute.into())
}

/// What the relays are like in a simulation of this seed.
pub(crate) fn traits_of(seed: u64) -> Vec<Traits> {
    let mut dice = Dice::of(seed, 0xFEED);
    let mut text = |_| {
        let deduplicates = dice.per_cent(60);
        Traits {
            deduplicates,
            refuses_repeats: deduplicates && dice.per_cent(40),
            answers_status: dice.per_cent(55),
            receipts: if dice.per_cent(60) { ReceiptMode::Push } else { ReceiptMode::Pull },
            is_mail: false,
        }
    };
    let mut traits: Vec<Traits> = (0..TEXT_RELAYS).map(&mut text).collect();
    let mail = Traits {
        deduplicates: false,
        refuses_repeats: false,
        answers_status: false,
        receipts: ReceiptMode::None,
        is_mail: true,
    };
    traits.push(mail);
    traits.push(Traits { receipts: ReceiptMode::Push, deduplicates: true, answers_status: true, ..mail });
    traits
}

/// How a relay is defined at first.
pub(crate) fn profile(index: usize, traits: Traits) -> RelayProfile {
    let price_milliwon = 8_000 + 700 * index as i64;
    let terms = ChannelTerms { price_milliwon, bills: BillingMoment::Delivered, receipt_deadline_s: 90_000 };
    let channels: &[MessageType] =
        if traits.is_mail { &[MessageType::Email] } else { &[MessageType::Sms, MessageType::Lms] };
    RelayProfile {
        relay: RelayId::from_trusted(RELAYS[index]),
        name: RELAYS[index].to_owned(),
        endpoint: Endpoint::Http { base_url: "http://relay.invalid".to_owned() },
        channels: channels.iter().map(|channel| (*channel, terms.clone())).collect(),
        reaches: vec![PhoneKind::KoreanMobile],
        batch_max: 20,
        rate_parts_per_second: None,
        calls_in_flight_max: 2,
        answer_timeout_ms: ANSWER_TIMEOUT_MS,
        deduplicates: traits.deduplicates,
        answers_status: traits.answers_status,
        receipts: traits.receipts,
        codes: if traits.is_mail { "smtp".into() } else { "solapi".into() },
        tls: RelayTls::default(),
        credentials: RelayCredentials::default(),
    }
}
