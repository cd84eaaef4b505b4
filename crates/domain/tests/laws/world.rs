//! Relays, terms and lots to test with.

use chrono::{DateTime, Duration, Utc};
use kite_domain::address::PhoneKind;
use kite_domain::event::Event;
use kite_domain::failure::FailureClass;
use kite_domain::ids::SendingId;
use kite_domain::lot::*;
use kite_domain::policy::{FailoverTerms, RelayWeight};
use kite_domain::relay::*;
use kite_domain::sending::*;
use kite_domain::seq_set::SeqSet;
use kite_domain::slug::{RelayId, TenantId};
use kite_domain::text::MessageType;
use uuid::Uuid;

pub(crate) const PHONE_RELAYS: [&str; 3] = ["alpha", "beta", "gamma"];
pub(crate) const EMAIL_RELAYS: [&str; 2] = ["mail-a", "mail-b"];

/// Noon in Seoul: the night window is open, and far.
pub(crate) fn noon() -> DateTime<Utc> {
    "2026-03-02T03:00:00Z".parse().unwrap()
}

pub(crate) fn relay(name: &str) -> RelayId {
    RelayId::parse(name).unwrap()
}

pub(crate) fn relays(names: &[&str]) -> Vec<RelayId> {
    names.iter().map(|name| relay(name)).collect()
}

pub(crate) fn profile(name: &str, channels: &[(MessageType, i64)]) -> RelayProfile {
    let terms = |price_milliwon| ChannelTerms {
        price_milliwon,
        bills: BillingMoment::Delivered,
        receipt_deadline_s: 90_000,
    };
    RelayProfile {
        relay: relay(name),
        name: name.to_owned(),
        endpoint: Endpoint::Http { base_url: "http://relay.invalid".to_owned() },
        channels: channels.iter().map(|(channel, price)| (*channel, terms(*price))).collect(),
        reaches: vec![PhoneKind::KoreanMobile],
        batch_max: 100,
        rate_parts_per_second: None,
        calls_in_flight_max: 2,
        answer_timeout_ms: 5_000,
        deduplicates: true,
        answers_status: true,
        receipts: ReceiptMode::Push,
        codes: "solapi".into(),
        tls: RelayTls::default(),
        credentials: RelayCredentials::default(),
    }
}

/// Three relays for text messages and two for e-mail, all in use.
pub(crate) fn directory() -> RelayDirectory {
    let mut directory = RelayDirectory::default();
    let text = [(MessageType::Sms, 9_000), (MessageType::Lms, 27_000)];
    for name in PHONE_RELAYS {
        directory.evolve(&RelayDefined { profile: profile(name, &text) }.into());
    }
    for (name, price) in [("mail-a", 2_000), ("mail-b", 1_000)] {
        directory.evolve(&RelayDefined { profile: profile(name, &[(MessageType::Email, price)]) }.into());
    }
    directory
}

pub(crate) fn suspend(directory: &mut RelayDirectory, name: &str) {
    directory.evolve(&RelaySuspended { relay: relay(name), reason: "test".to_owned() }.into());
}

pub(crate) fn sending_id() -> SendingId {
    SendingId(Uuid::from_u128(0x0197_c0de_0000_7000_8000_0000_0000_0001))
}

pub(crate) fn tenant() -> TenantId {
    TenantId::parse("acme").unwrap()
}

/// A notice of one lot that lives for a day and fails over to all relays.
pub(crate) fn terms() -> SendingAccepted {
    SendingAccepted {
        sending: sending_id(),
        tenant: tenant(),
        class: MessageClass::Notice,
        from_phone: Some("025550100".into()),
        from_email: Some("news@example.com".into()),
        lots: 1,
        messages: 1,
        refused: 0,
        scheduled_at: None,
        expires_at: noon() + Duration::hours(24),
        failover: FailoverTerms { attempts_max: 9, ..FailoverTerms::default() },
        ad: None,
        client_reference: None,
        custom: None,
        body_hash: None,
        personal: SendingContent {
            subject: None,
            text: "hello".to_owned(),
            variables: std::collections::BTreeMap::new(),
        },
    }
}

pub(crate) fn ad_terms(window: WindowAction) -> SendingAccepted {
    SendingAccepted {
        class: MessageClass::Ad,
        ad: Some(AdTerms { window, night_consent: false, brands: vec![] }),
        ..terms()
    }
}

/// A lot of mobile numbers; every message whose place is even has an e-mail address too.
pub(crate) fn lot_accepted(terms: &SendingAccepted, number: u32, messages: u32) -> LotAccepted {
    let first = number * kite_domain::ids::SEQS_PER_LOT;
    let recipients = (0..messages)
        .map(|place| Recipient {
            to: format!("010{:08}", first + place).into(),
            email: (place % 2 == 0).then(|| format!("p{}@example.com", first + place).into()),
            contact: None,
            reference: None,
            variables: std::collections::BTreeMap::new(),
        })
        .collect();
    LotAccepted {
        sending: terms.sending,
        tenant: terms.tenant.clone(),
        class: terms.class,
        number,
        groups: vec![TypeGroup {
            message_type: MessageType::Sms,
            parts: 1,
            reach: Some(PhoneKind::KoreanMobile),
            messages: (first..first + messages).collect(),
        }],
        personal: LotPersonal { recipients },
    }
}

pub(crate) fn weights(shares: &[(&str, u32)]) -> Vec<RelayWeight> {
    shares.iter().map(|(name, weight)| RelayWeight { relay: relay(name), weight: *weight }).collect()
}

pub(crate) fn policy(shares: &[(&str, u32)]) -> PolicyInForce {
    PolicyInForce {
        name: "acme-sms-1".into(),
        version: 1,
        objective: "ratio",
        weights: weights(shares),
        order: shares.iter().map(|(name, _)| relay(name)).collect(),
    }
}

pub(crate) fn set(seqs: impl IntoIterator<Item = u32>) -> SeqSet {
    seqs.into_iter().collect()
}

/// The registrations that tests use: every relay of the channel.
pub(crate) struct Registered {
    pub(crate) directory: RelayDirectory,
    pub(crate) phone: Vec<RelayId>,
    pub(crate) email: Vec<RelayId>,
    pub(crate) now: DateTime<Utc>,
}

impl Registered {
    pub(crate) fn everywhere() -> Self {
        Self {
            directory: directory(),
            phone: relays(&PHONE_RELAYS),
            email: relays(&EMAIL_RELAYS),
            now: noon(),
        }
    }

    pub(crate) fn context(&self) -> RoutingContext<'_> {
        RoutingContext {
            directory: &self.directory,
            phone_relays: &self.phone,
            email_relays: &self.email,
            now: self.now,
        }
    }
}

/// A lot, driven step by step: given, when, then.
pub(crate) struct Case {
    pub(crate) terms: SendingAccepted,
    pub(crate) world: Registered,
    pub(crate) lot: Lot,
    pub(crate) opted_out: Vec<String>,
    /// The channel whose sender may not send any more, and why.
    pub(crate) unsendable: Option<(MessageType, &'static str)>,
    /// The relay is asked about what is unknown.
    pub(crate) is_asked_again: bool,
    pub(crate) is_cancelled: bool,
    pub(crate) is_paused: bool,
    pub(crate) night: bool,
}

impl Case {
    /// A lot of `messages` that all go to alpha, with beta and gamma as fallbacks.
    pub(crate) fn routed(terms: SendingAccepted, messages: u32) -> Self {
        Self::routed_with(terms, messages, &PHONE_RELAYS)
    }

    /// [`Case::routed`] while the sender is registered with these relays only; then it is with all.
    pub(crate) fn routed_with(terms: SendingAccepted, messages: u32, phone: &[&str]) -> Self {
        let lot = Lot::new(&lot_accepted(&terms, 0, messages));
        let mut case = Self {
            terms,
            world: Registered { phone: relays(phone), ..Registered::everywhere() },
            lot,
            opted_out: Vec::new(),
            unsendable: None,
            is_asked_again: false,
            is_cancelled: false,
            is_paused: false,
            night: false,
        };
        let ledger = SplitLedger::default();
        let in_force =
            PolicyInForce { order: relays(&["alpha", "beta", "gamma"]), ..policy(&[("alpha", 10_000)]) };
        let (routed, blocked) =
            case.lot.route(&mut ledger.ahead(), &case.world.context(), |_, _| in_force.clone());
        assert!(blocked.is_empty());
        case.fold(vec![routed.unwrap().into()]);
        case.world.phone = relays(&PHONE_RELAYS);
        case
    }

    pub(crate) fn fold(&mut self, events: Vec<Event>) -> Vec<Event> {
        events.iter().for_each(|event| self.lot.evolve(event));
        events
    }

    pub(crate) fn submission(&self, name: &str, attempt: u16, seqs: &[u32]) -> Submission {
        let until = self.world.now + Duration::hours(8);
        let handover = Handover {
            relay: &relay(name),
            attempt,
            is_asked_again: self.is_asked_again,
            is_cancelled: self.is_cancelled,
            is_paused: self.is_paused,
            receipt_deadline: Duration::hours(25),
            answer_by: self.world.now + chrono::TimeDelta::seconds(15),
            holder: None,
            closed_until: &|_| self.night.then_some(until),
            unsendable: &|channel| self.unsendable.filter(|(known, _)| *known == channel).map(|(_, why)| why),
            has_opted_out: &|address| self.opted_out.iter().any(|refused| refused == address),
            context: &self.world.context(),
            now: self.world.now,
        };
        self.lot.submit(&self.terms, &set(seqs.iter().copied()), &handover)
    }

    /// Hands over; answers which messages the relay is called with.
    pub(crate) fn submit(&mut self, name: &str, attempt: u16, seqs: &[u32]) -> Vec<u32> {
        let submission = self.submission(name, attempt, seqs);
        self.fold(submission.events);
        submission.messages.iter().collect()
    }

    pub(crate) fn respond(&mut self, name: &str, attempt: u16, note: ResponseNote) -> Vec<Event> {
        let events = self.lot.respond(&self.terms, &relay(name), attempt, note, &self.world.context());
        self.fold(events)
    }

    pub(crate) fn receive(&mut self, name: &str, notes: &[Note]) -> (Vec<Event>, Vec<usize>) {
        let (events, strangers) = self.lot.receive(&self.terms, &relay(name), notes, &self.world.context());
        (self.fold(events), strangers)
    }

    pub(crate) fn expire(&mut self) -> Vec<Event> {
        let events = self.lot.expire(&self.terms, &self.world.context());
        self.fold(events)
    }

    /// Where each attempt at a message stands, with its relay.
    pub(crate) fn attempts(&self, seq: u32) -> Vec<(String, AttemptState)> {
        let message = self.lot.message(seq).unwrap();
        message
            .attempts
            .iter()
            .map(|attempt| (self.lot.relay_of(attempt).as_str().to_owned(), attempt.state))
            .collect()
    }

    pub(crate) fn outcome(&self, seq: u32) -> Option<Outcome> {
        self.lot.message(seq).unwrap().outcome
    }

    pub(crate) fn last(&self, seq: u32) -> (String, AttemptState) {
        self.attempts(seq).pop().unwrap()
    }
}

pub(crate) fn accepted(seqs: &[u32]) -> ResponseNote {
    let accepted = seqs.iter().map(|seq| AcceptedMessage { seq: *seq, relay_reference: None }).collect();
    ResponseNote { call_ms: Some(5), accepted, ..ResponseNote::default() }
}

pub(crate) fn refused(seqs: &[u32], class: FailureClass) -> ResponseNote {
    let refused =
        seqs.iter().map(|seq| RefusedMessage { seq: *seq, code: "code".into(), class, text: None }).collect();
    ResponseNote { call_ms: Some(5), refused, ..ResponseNote::default() }
}

/// A relay that answers status queries and drops repeats.
pub(crate) const BOTH: Asking = Asking { answers_status: true, deduplicates: true };

/// No answer to a first call; the time of that is where the question about it begins, a second later. None: nobody can be asked.
pub(crate) fn unknown(seqs: &[u32], asked_from: Option<DateTime<Utc>>) -> ResponseNote {
    let unknown = NoAnswer { messages: set(seqs.iter().copied()), reason: "no answer".to_owned() };
    let asking = if asked_from.is_some() { BOTH } else { Asking::default() };
    ResponseNote {
        unknown: Some(unknown),
        answered_at: asked_from.map(|at| at - Duration::seconds(1)),
        asking,
        ..ResponseNote::default()
    }
}

pub(crate) fn deferred(seqs: &[u32], until: DateTime<Utc>) -> ResponseNote {
    let set = DeferredSet { messages: set(seqs.iter().copied()), reason: "429".to_owned(), until };
    ResponseNote { deferred: vec![set], ..ResponseNote::default() }
}

/// Refused for now, as a greylisting server does.
pub(crate) fn refused_for_now(seqs: &[u32], class: FailureClass) -> ResponseNote {
    let message = |seq: &u32| RefusedForNowMessage {
        refused: RefusedMessage {
            seq: *seq,
            code: "4.7.1".into(),
            class,
            text: Some("try again later".to_owned()),
        },
        retry_after: None,
    };
    ResponseNote { refused_for_now: seqs.iter().map(message).collect(), ..ResponseNote::default() }
}

pub(crate) fn receipt(
    seq: u32,
    attempt: u16,
    status: kite_domain::receipt::ReceiptStatus,
    class: FailureClass,
) -> Note {
    Note {
        seq,
        attempt,
        status,
        code: "code".into(),
        class,
        billable_failure: false,
        at_ms: noon().timestamp_millis(),
    }
}
