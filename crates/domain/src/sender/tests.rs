use chrono::{DateTime, Duration, Utc};
use proptest::prelude::*;

use super::*;
use crate::address::EmailAddress;
use crate::event::Event;
use crate::slug::{RelayId, TenantId};

const NUMBER: &str = "025550100";

fn tenant(name: &str) -> TenantId {
    TenantId::parse(name).unwrap()
}

fn noon() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

fn relays(names: &[&str]) -> Vec<RelayId> {
    names.iter().map(|name| RelayId::parse(name).unwrap()).collect()
}

fn terms(wanted: &[&str]) -> SenderTerms {
    SenderTerms {
        address: NUMBER.into(),
        kind: SenderKind::Phone,
        brand: Some("Acme".to_owned()),
        refusal_number: None,
        relays: relays(wanted),
    }
}

fn approval(days: i64) -> Approval {
    Approval {
        document: "2027-1".to_owned(),
        expires_at: noon() + Duration::days(days),
        relays: relays(&["alpha"]),
        shared: false,
        requested_at: None,
    }
}

/// An address and its log.
#[derive(Default)]
struct Case {
    senders: Senders,
    events: Vec<Event>,
}

impl Case {
    fn asked(names: &[&str]) -> Self {
        let mut case = Self::default();
        for name in names {
            let asked = case.address().request(&tenant(name), terms(&["alpha", "beta"]));
            case.fold(asked);
        }
        case
    }

    fn address(&self) -> std::sync::Arc<SenderAddress> {
        self.senders.address(NUMBER)
    }

    fn fold(&mut self, event: Option<Event>) -> bool {
        let Some(event) = event else { return false };
        let by = SaidBy { actor: "somebody".into(), at: noon() };
        let stream = stream(NUMBER);
        let envelope = Envelope { stream: &stream, version: self.events.len() as u64 + 1, by };
        assert!(self.senders.evolve(&event, envelope));
        self.events.push(event);
        assert_eq!(self.address().version, self.events.len() as u64);
        true
    }

    fn approve(&mut self, name: &str, approval: Approval, now: DateTime<Utc>) -> Result<(), SenderRefusal> {
        let decided = self.address().approve(&tenant(name), approval, now)?;
        assert!(self.fold(decided));
        Ok(())
    }

    fn status(&self, name: &str, now: DateTime<Utc>) -> Option<SenderStatus> {
        self.senders.identity(&tenant(name), NUMBER).map(|identity| identity.status(now))
    }

    fn sends_with(&self, name: &str, now: DateTime<Utc>) -> Result<Vec<RelayId>, SenderStatus> {
        let identity = self.senders.identity(&tenant(name), NUMBER).unwrap();
        identity.sends_with(now).map(|terms| terms.relays.clone())
    }
}

#[test]
fn only_what_is_approved_sends_and_only_over_the_relays_of_the_approval() {
    let mut case = Case::asked(&["acme"]);
    assert_eq!(case.sends_with("acme", noon()), Err(SenderStatus::Requested));
    case.approve("acme", approval(30), noon()).unwrap();
    assert_eq!(case.sends_with("acme", noon()), Ok(relays(&["alpha"])));
    assert_eq!(case.status("rival", noon()), None);
}

#[test]
fn an_approval_ends_at_its_end_whether_anybody_notes_it_or_not() {
    let mut case = Case::asked(&["acme"]);
    case.approve("acme", approval(30), noon()).unwrap();
    let end = noon() + Duration::days(30);
    assert!(case.sends_with("acme", end - Duration::milliseconds(1)).is_ok());
    assert_eq!(case.sends_with("acme", end), Err(SenderStatus::Expired));
    assert_eq!(case.address().expire(&tenant("acme"), end - Duration::milliseconds(1)), None);
    let noted = case.address().expire(&tenant("acme"), end);
    assert!(case.fold(noted));
    assert_eq!(case.address().expire(&tenant("acme"), end), None, "it is noted once");
    assert_eq!(case.status("acme", noon()), Some(SenderStatus::Expired), "the log has said so");
    case.approve("acme", approval(60), end).unwrap();
    assert_eq!(case.status("acme", end), Some(SenderStatus::Approved), "it can be renewed");
}

#[test]
fn an_approval_ends_after_now_and_within_its_longest_time() {
    let mut case = Case::asked(&["acme"]);
    let ending = |expires_at| Approval { expires_at, ..approval(1) };
    let latest = noon() + Duration::days(APPROVAL_DAYS_MAX);
    let moment = Duration::milliseconds(1);
    assert_eq!(case.approve("acme", ending(noon()), noon()), Err(SenderRefusal::EndIsPast(noon())));
    assert_eq!(case.approve("acme", ending(latest + moment), noon()), Err(SenderRefusal::EndTooFar));
    assert_eq!(case.approve("acme", ending(latest), noon()), Ok(()));
    assert_eq!(case.approve("acme", ending(noon() + moment), noon()), Ok(()));
}

#[test]
fn a_sender_is_known_by_every_brand_that_it_had_or_is_asked_for_with() {
    let mut case = Case::asked(&["acme"]);
    let brands = |case: &Case| {
        let address = case.address();
        let mut brands: Vec<String> =
            address.of(&tenant("acme")).unwrap().brands().map(str::to_owned).collect();
        brands.sort_unstable();
        brands.dedup();
        brands
    };
    assert_eq!(brands(&case), ["Acme"]);
    case.approve("acme", approval(30), noon()).unwrap();
    let other = SenderTerms { brand: Some("Bolt".to_owned()), ..terms(&["alpha"]) };
    let asked = case.address().request(&tenant("acme"), other);
    case.fold(asked);
    assert_eq!(brands(&case), ["Acme", "Bolt"], "the one it has and the one it is to have");
    case.approve("acme", approval(30), noon()).unwrap();
    assert_eq!(brands(&case), ["Acme", "Bolt"], "whoever refused the old one refused this sender");
}

#[test]
fn every_approval_is_counted_and_nothing_else() {
    let mut case = Case::asked(&["acme"]);
    assert_eq!(case.senders.approvals(), 0, "to be asked for is not to be approved");
    case.approve("acme", approval(30), noon()).unwrap();
    case.approve("acme", approval(60), noon()).unwrap();
    assert_eq!(case.senders.approvals(), 2, "once more, with other relays, may help what waits");
    let withdrawn = case.address().withdraw(&tenant("acme"), None).unwrap();
    case.fold(withdrawn);
    assert_eq!(case.senders.approvals(), 2);
}

#[test]
fn a_request_beside_an_approval_changes_nothing_until_it_is_answered() {
    let mut case = Case::asked(&["acme"]);
    case.approve("acme", approval(30), noon()).unwrap();
    let other = SenderTerms { brand: Some("Acme 2".to_owned()), ..terms(&["beta"]) };
    let asked = case.address().request(&tenant("acme"), other.clone());
    assert!(case.fold(asked));
    assert!(!case.fold(case.address().request(&tenant("acme"), other)), "the same is asked once");
    assert_eq!(case.sends_with("acme", noon()), Ok(relays(&["alpha"])));
    let refused = case.address().refuse(&tenant("acme"), "no such brand".to_owned(), None, noon()).unwrap();
    case.fold(refused);
    assert_eq!(case.status("acme", noon()), Some(SenderStatus::Approved));
    assert_eq!(case.status("acme", noon() + Duration::days(30)), Some(SenderStatus::Expired));
}

#[test]
fn only_what_was_looked_at_is_answered() {
    let mut case = Case::asked(&["acme"]);
    let asked_at = |case: &Case| case.address().of(&tenant("acme")).unwrap().request.as_ref().unwrap().by.at;
    let looked_at = asked_at(&case);
    let later = looked_at + Duration::milliseconds(1);
    let approval = |requested_at| Approval { requested_at: Some(requested_at), ..approval(30) };
    assert_eq!(case.approve("acme", approval(later), noon()), Err(SenderRefusal::OtherAsked(later)));
    let refused = case.address().refuse(&tenant("acme"), "no".to_owned(), Some(later), noon());
    assert_eq!(refused, Err(SenderRefusal::OtherAsked(later)));
    case.approve("acme", approval(looked_at), noon()).unwrap();
    let again = case.approve("acme", approval(looked_at), noon());
    assert_eq!(again, Err(SenderRefusal::OtherAsked(looked_at)), "it is answered by now");
}

#[test]
fn what_is_refused_or_withdrawn_has_to_be_asked_for_again() {
    let mut case = Case::asked(&["acme"]);
    let refused = case.address().refuse(&tenant("acme"), "no document".to_owned(), None, noon()).unwrap();
    case.fold(refused);
    assert_eq!(case.sends_with("acme", noon()), Err(SenderStatus::Refused));
    let refusal = case.approve("acme", approval(30), noon());
    assert_eq!(refusal, Err(SenderRefusal::NothingAsked(SenderStatus::Refused)));
    let again = case.address().request(&tenant("acme"), terms(&[]));
    case.fold(again);
    case.approve("acme", approval(30), noon()).unwrap();
    let withdrawn = case.address().withdraw(&tenant("acme"), None).unwrap();
    assert!(case.fold(withdrawn));
    assert_eq!(case.sends_with("acme", noon()), Err(SenderStatus::Withdrawn));
    assert_eq!(case.address().withdraw(&tenant("acme"), None), Ok(None), "a repeat is no news");
    assert_eq!(case.address().withdraw(&tenant("rival"), None), Err(SenderRefusal::NotFound));
    let refusal = case.approve("acme", approval(30), noon());
    assert_eq!(refusal, Err(SenderRefusal::NothingAsked(SenderStatus::Withdrawn)));
}

#[test]
fn an_address_that_one_tenant_has_is_not_given_to_another_without_a_word() {
    let mut case = Case::asked(&["acme", "rival"]);
    case.approve("acme", approval(30), noon()).unwrap();
    let refusal = case.approve("rival", approval(30), noon());
    assert_eq!(refusal, Err(SenderRefusal::TakenBy(tenant("acme"))));
    let end = noon() + Duration::days(30);
    case.approve("rival", approval(60), end).unwrap();
    let refusal = case.approve("acme", approval(60), end);
    assert_eq!(refusal, Err(SenderRefusal::TakenBy(tenant("rival"))), "nor back, after it was over");
    case.approve("acme", Approval { shared: true, ..approval(60) }, end).unwrap();
    assert_eq!(case.status("rival", end), Some(SenderStatus::Approved), "both have it now");
}

#[test]
fn an_approval_ends_in_the_future_and_some_time() {
    let mut case = Case::asked(&["acme"]);
    let refusal = case.approve("acme", approval(0), noon());
    assert_eq!(refusal, Err(SenderRefusal::EndIsPast(noon())));
    let refusal = case.approve("acme", approval(APPROVAL_DAYS_MAX + 1), noon());
    assert_eq!(refusal, Err(SenderRefusal::EndTooFar));
    assert_eq!(case.approve("rival", approval(30), noon()), Err(SenderRefusal::NotFound));
}

#[test]
fn what_was_registered_before_anybody_was_asked_counts_as_approved() {
    let registered = Event::from(SenderRegistered {
        tenant: tenant("acme"),
        address: "News@Example.com".into(),
        kind: SenderKind::Email,
        brand: None,
        refusal_number: None,
        relays: relays(&["mail"]),
    });
    let mut senders = Senders::default();
    let by = SaidBy { actor: "key:1".into(), at: noon() };
    senders.evolve(&registered, Envelope { stream: "sender-acme-News@Example.com", version: 1, by });
    let identity = senders.identity(&tenant("acme"), "news@example.com").unwrap();
    let far = noon() + Duration::days(100_000);
    assert_eq!(identity.sends_with(far).unwrap().relays, relays(&["mail"]));
    assert_eq!(identity.sends_with(far).unwrap().address, "News@Example.com", "sent with as it was written");
    let address = senders.address("NEWS@example.com");
    assert_eq!(address.version, 0, "nothing is in the stream of the address yet");
    assert_eq!(
        address.request(&tenant("rival"), terms(&[])).map(|event| event.kind()),
        Some("sender-requested")
    );
}

#[test]
fn one_mailbox_has_one_stream_however_it_is_written() {
    for (written, known) in [
        ("025550100", "identity-025550100"),
        ("NEWS@EXAMPLE.COM", "identity-news@example.com"),
        ("kim@한국.kr", "identity-kim@xn--3e0b707e.kr"),
        ("kim@XN--3E0B707E.kr", "identity-kim@xn--3e0b707e.kr"),
        // Composed and decomposed.
        ("한@example.com", "identity-한@example.com"),
        ("\u{1112}\u{1161}\u{11ab}@example.com", "identity-한@example.com"),
    ] {
        assert_eq!(stream(written), known, "{written}");
    }
}

/// An address of this many bytes.
fn long_address(bytes: usize) -> String {
    let domain = format!("{}.{}.{}.kr", "b".repeat(61), "c".repeat(61), "d".repeat(61));
    let local = bytes - domain.len() - 1;
    EmailAddress::parse(&format!("{}@{domain}", "a".repeat(local))).unwrap().to_string()
}

#[test]
fn the_stream_of_an_address_names_it_where_it_can_and_is_for_ever() {
    assert_eq!(stream(NUMBER), "identity-025550100");
    assert_eq!(stream("News@example.com"), "identity-news@example.com");
    let longest = long_address(255 - "identity-".len());
    assert_eq!(stream(&longest), format!("identity-{longest}"));
    let long = long_address(250);
    assert_eq!(stream(&long), "identity-011b1f0c41bff943f8c0723b7d014410");
    assert_ne!(stream(&long), stream(&long_address(251)));
}

#[test]
fn a_list_goes_on_after_any_of_its_entries() {
    let mut senders = Senders::default();
    for (version, (address, name)) in
        [("0212345678", "acme"), ("0212345678", "bolt"), ("025550100", "acme"), ("a@b.kr", "bolt")]
            .into_iter()
            .enumerate()
    {
        let terms = SenderTerms { address: address.into(), ..terms(&[]) };
        let asked = senders.address(address).request(&tenant(name), terms).unwrap();
        let by = SaidBy { actor: "key:1".into(), at: noon() };
        senders.evolve(&asked, Envelope { stream: &stream(address), version: version as u64 + 1, by });
    }
    let all: Vec<(&str, &str)> =
        senders.iter().map(|(address, tenant, _)| (address, tenant.as_str())).collect();
    assert_eq!(all.len(), 4);
    for (place, after) in all.iter().enumerate() {
        let rest: Vec<(&str, &str)> =
            senders.iter_after(Some(*after)).map(|(address, tenant, _)| (address, tenant.as_str())).collect();
        assert_eq!(rest, all[place + 1..]);
    }
    assert_eq!(senders.iter_after(None).count(), 4);
}

/// What may be said to an address.
#[derive(Debug, Clone)]
enum Step {
    Ask(usize),
    Approve { whose: usize, days: i64, shared: bool },
    Refuse(usize),
    Withdraw(usize),
    Expire(usize),
    Wait(i64),
}

fn any_step() -> impl Strategy<Value = Step> {
    let whose = 0..3_usize;
    prop_oneof![
        whose.clone().prop_map(Step::Ask),
        (whose.clone(), 1..20_i64, any::<bool>()).prop_map(|(whose, days, shared)| Step::Approve {
            whose,
            days,
            shared
        }),
        whose.clone().prop_map(Step::Refuse),
        whose.clone().prop_map(Step::Withdraw),
        whose.prop_map(Step::Expire),
        (1..10_i64).prop_map(Step::Wait),
    ]
}

proptest! {
    /// However it goes, two tenants have an address only where the operator has said so of the later one, and nobody has
    /// it without an approval that counts.
    #[test]
    fn an_address_belongs_to_one_tenant_unless_the_operator_says_otherwise(
        steps in prop::collection::vec(any_step(), 0..60)
    ) {
        const NAMES: [&str; 3] = ["acme", "bolt", "rival"];
        let mut case = Case::default();
        let mut now = noon();
        for step in steps {
            let address = case.address();
            let name = |whose: usize| tenant(NAMES[whose]);
            match step {
                Step::Ask(whose) => drop(case.fold(address.request(&name(whose), terms(&["alpha"])))),
                Step::Approve { whose, days, shared } => {
                    let others = NAMES.iter().filter(|other| **other != NAMES[whose]);
                    let is_taken =
                        others.clone().any(|other| case.status(other, now) == Some(SenderStatus::Approved));
                    let approval = Approval { shared, expires_at: now + Duration::days(days), ..approval(1) };
                    match address.approve(&name(whose), approval, now) {
                        Ok(event) => {
                            prop_assert!(shared || !is_taken);
                            case.fold(event);
                        }
                        Err(SenderRefusal::TakenBy(other)) => {
                            prop_assert!(is_taken && !shared);
                            prop_assert_eq!(case.status(other.as_str(), now), Some(SenderStatus::Approved));
                        }
                        Err(SenderRefusal::NotFound | SenderRefusal::NothingAsked(_)) => {}
                        Err(other) => prop_assert!(false, "{}", other),
                    }
                }
                Step::Refuse(whose) => {
                    if let Ok(event) = address.refuse(&name(whose), "no".to_owned(), None, now) {
                        case.fold(event);
                    }
                }
                Step::Withdraw(whose) => {
                    if let Ok(event) = address.withdraw(&name(whose), None) {
                        case.fold(event);
                        prop_assert_ne!(case.status(NAMES[whose], now), Some(SenderStatus::Approved));
                    }
                }
                Step::Expire(whose) => drop(case.fold(address.expire(&name(whose), now))),
                Step::Wait(days) => now += Duration::days(days),
            }
            for (_, _, identity) in case.senders.iter() {
                let counts = identity.approval.as_ref().is_some_and(|approval| approval.counts_at(now));
                prop_assert_eq!(identity.sends_with(now).is_ok(), counts);
                prop_assert_eq!(identity.status(now) == SenderStatus::Approved, counts);
            }
        }
    }
}
