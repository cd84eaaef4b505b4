//! Law 6 over random sequences of requests, failing appends and restarts: the same key and body give the same sending,
//! for ever; the same key with another body is refused.

use kite_commands::accept::{AcceptError, Accepted};
use kite_domain::event::Event;
use kite_domain::ids::SendingId;
use kite_domain::sending::idempotency_stream;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use std::collections::{BTreeMap, BTreeSet};

use crate::faulty_store::Fault;
use crate::house::*;

const KEYS: [&str; 3] = ["red", "green", "blue"];

/// The bodies, by their hash and the number of their recipients. The last takes two lots.
const BODIES: [(&str, u32); 3] = [("one", 1), ("two", 2), ("many", 1_001)];

/// The most appends of one request: an earlier claim is given up, then claim, two lots and seal.
const APPENDS_MAX: usize = 5;

/// One request, and what happens before it or to it.
#[derive(Debug, Clone)]
struct Ask {
    key: &'static str,
    body: usize,
    trouble: Trouble,
}

#[derive(Debug, Clone)]
enum Trouble {
    Nothing,
    /// One of the request's appends fails, this many after the first; the log is well again after the request.
    AppendFails(usize, Fault),
    /// Another process takes the request, which knows nothing but the log.
    Restart,
}

fn ask() -> impl Strategy<Value = Ask> {
    let fault = prop::sample::select(vec![
        Fault::Busy,
        Fault::Unavailable,
        Fault::LostBefore,
        Fault::LostAfter,
        Fault::Conflict,
    ]);
    let trouble = prop_oneof![
        2 => Just(Trouble::Nothing),
        4 => (0..APPENDS_MAX, fault).prop_map(|(skip, fault)| Trouble::AppendFails(skip, fault)),
        1 => Just(Trouble::Restart),
    ];
    (prop::sample::select(&KEYS[..]), 0..BODIES.len(), trouble).prop_map(|(key, body, trouble)| Ask {
        key,
        body,
        trouble,
    })
}

/// What callers were told: by key the body that got the first answer, and its sending.
type Owners = BTreeMap<&'static str, (usize, SendingId)>;

/// The sealed sendings that claimed a key, with the hash of their body.
type Seals = BTreeMap<&'static str, BTreeSet<(SendingId, String)>>;

async fn request(house: &House, key: &str, body: usize) -> Result<Accepted, AcceptError> {
    let (hash, messages) = BODIES[body];
    house.accept_once(key, hash, notice(recipients(messages))).await
}

async fn seals(house: &House) -> Result<Seals, TestCaseError> {
    let mut claims = BTreeMap::new();
    let mut seals = Seals::new();
    for told in house.log().await {
        match told.event {
            Event::SendingClaimed(claimed) => {
                let claims_it =
                    |key: &&&'static str| idempotency_stream(&acme(), key) == told.recorded.stream;
                claims.insert(claimed.sending, *KEYS.iter().find(claims_it).unwrap());
            }
            Event::SendingAccepted(accepted) => {
                let key = claims.get(&accepted.sending);
                prop_assert!(key.is_some(), "{} is sealed and claimed no key before", accepted.sending);
                let hash = accepted.body_hash.unwrap_or_default();
                seals.entry(key.unwrap()).or_default().insert((accepted.sending, hash));
            }
            _ => {}
        }
    }
    Ok(seals)
}

/// Holds one answer against those before it.
async fn check_answer(
    house: &House,
    owners: &mut Owners,
    ask: &Ask,
    answer: Result<Accepted, AcceptError>,
    has_failed: bool,
) -> Result<(), TestCaseError> {
    match (answer, owners.get(ask.key)) {
        (Ok(accepted), Some((body, sending))) => {
            prop_assert_eq!((ask.body, accepted.sending, accepted.repeated), (*body, *sending, true));
            prop_assert_eq!(accepted.messages, BODIES[*body].1);
        }
        (Ok(accepted), None) => {
            prop_assert_eq!(accepted.messages, BODIES[ask.body].1);
            owners.insert(ask.key, (ask.body, accepted.sending));
        }
        (Err(AcceptError::KeyReused), Some((body, _))) => prop_assert_ne!(ask.body, *body),
        (Err(AcceptError::KeyReused), None) => {
            // Only a seal whose answer was lost can own a key that nobody got an answer under.
            let seals = seals(house).await?;
            let is_owned =
                seals.get(ask.key).into_iter().flatten().any(|(_, hash)| hash != BODIES[ask.body].0);
            prop_assert!(is_owned, "the key is refused, but no other body is sealed under it");
        }
        (Err(error), _) => prop_assert!(has_failed, "no append failed, but: {error}"),
    }
    Ok(())
}

async fn check_law(asks: Vec<Ask>) -> Result<(), TestCaseError> {
    let mut house = House::furnished().await;
    let mut owners = Owners::new();
    for ask in &asks {
        let mut is_armed = false;
        match ask.trouble {
            Trouble::Nothing => {}
            Trouble::AppendFails(skip, fault) => {
                house.store.fail(skip, fault);
                is_armed = true;
            }
            Trouble::Restart => house = house.restarted().await,
        }
        let answer = request(&house, ask.key, ask.body).await;
        let has_failed = is_armed && !house.store.is_armed();
        house.store.heal();
        check_answer(&house, &mut owners, ask, answer, has_failed).await?;
    }
    check_end(&house.restarted().await, &owners).await
}

/// What was answered is in the log, nothing else is sealed under its key, and a new process answers the same.
async fn check_end(house: &House, owners: &Owners) -> Result<(), TestCaseError> {
    let sealed = seals(house).await?;
    for (key, under_key) in &sealed {
        prop_assert!(under_key.len() <= 1, "{key}: {under_key:?}");
    }
    for (key, (owner, sending)) in owners {
        let hash = BODIES[*owner].0.to_owned();
        prop_assert_eq!(sealed.get(key), Some(&BTreeSet::from([(*sending, hash)])));
        for body in 0..BODIES.len() {
            match request(house, key, body).await {
                Ok(again) => prop_assert_eq!((body, again.sending, again.repeated), (*owner, *sending, true)),
                Err(AcceptError::KeyReused) => prop_assert_ne!(body, *owner),
                Err(error) => prop_assert!(false, "{key}: {error}"),
            }
        }
    }
    prop_assert_eq!(seals(house).await?, sealed, "a repeat seals nothing");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_key_belongs_to_the_first_body_that_was_answered_for_ever(
        asks in prop::collection::vec(ask(), 1..=12),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(check_law(asks))?;
    }
}
