//! Law 11: every outcome is counted once, and the same in every view. Over random histories the counts of sendings, of
//! statistics in every grouping and of all together are those of the messages as they are shown; and a search finds
//! exactly the messages that it should.

use kite_domain::ids::MessageId;
use kite_domain::sending::MessageClass;
use kite_domain::slug::RelayId;
use kite_domain::text::{Channel, MessageType};
use proptest::prelude::*;
use std::collections::BTreeMap;
use strum::VariantArray;

use super::counting::{Group, by_relay, counted, failures};
use super::histories::{Act, SENDINGS, act, play};
use super::{Bench, relay, tenant};
use crate::Listing;
use crate::delivery::{
    Counts, Dimension, KnownMessage, MessageFilter, MessageSearch, MessageStatus, SendingFilter,
    StatisticsQuery, StatisticsRow,
};

/// Every page of a list.
pub(super) fn all<T>(mut page: impl FnMut(Option<&crate::Cursor>) -> Listing<T>) -> Vec<T> {
    let mut items = Vec::new();
    let mut after = None;
    loop {
        let listing = page(after.as_ref());
        items.extend(listing.items);
        after = listing.next;
        if after.is_none() {
            return items;
        }
    }
}

/// The messages of all sendings that there are, and what the sendings count.
fn shown(bench: &Bench) -> (Vec<KnownMessage>, Counts) {
    let delivery = &bench.models.delivery;
    let of_tenant = Some(tenant());
    let sendings =
        all(|after| delivery.sendings(of_tenant.as_ref(), &SendingFilter::default(), after, 2).unwrap());
    let (mut messages, mut counts) = (Vec::new(), Counts::default());
    for sending in sendings {
        counts += sending.counts;
        let filter = MessageFilter::default();
        messages.extend(all(|after| delivery.messages(&tenant(), sending.id, &filter, after, 3).unwrap()));
    }
    (messages, counts)
}

fn statistics(bench: &Bench, group_by: Vec<Dimension>) -> Vec<StatisticsRow> {
    bench.models.delivery.statistics(&StatisticsQuery { group_by, ..StatisticsQuery::default() }).unwrap()
}

fn sum(rows: &[StatisticsRow]) -> Counts {
    let mut sum = Counts::default();
    rows.iter().for_each(|row| sum += row.counts);
    sum
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_view_comes_to_the_same(acts in proptest::collection::vec(act(), 1..90)) {
        let mut bench = Bench::new();
        // What an unsealed sending would do before its seal comes to nothing: no decision leads there.
        let seals = (0..SENDINGS).map(|sending| Act::Sending(sending, 4));
        let acts: Vec<Act> = acts.into_iter().chain(seals).collect();
        play(&mut bench, &acts);
        let (messages, of_sendings) = shown(&bench);
        let expected = counted(&messages);
        prop_assert_eq!(of_sendings, expected);
        prop_assert_eq!(bench.models.delivery.totals().unwrap().counts, expected);
        let mut of_relays = Counts::default();
        bench.models.delivery.relay_totals().unwrap().iter().for_each(|one| of_relays += one.counts);
        prop_assert_eq!(of_relays, expected);
        for choice in 0..1 << Dimension::VARIANTS.len() {
            let chosen = |place: &usize| choice >> place & 1 == 1;
            let group_by: Vec<Dimension> =
                (0..Dimension::VARIANTS.len()).filter(chosen).map(|place| Dimension::VARIANTS[place]).collect();
            let rows = statistics(&bench, group_by.clone());
            prop_assert_eq!(sum(&rows), expected, "by {:?}", group_by);
        }
        let rows = statistics(&bench, vec![Dimension::Relay, Dimension::Channel]);
        let by_relay: BTreeMap<Group, Counts> = by_relay(&messages);
        let of_rows: BTreeMap<Group, Counts> = rows
            .iter()
            .map(|row| ((row.relay.clone(), row.channel.unwrap()), row.counts))
            .filter(|(_, counts)| *counts != Counts::default())
            .collect();
        prop_assert_eq!(of_rows, by_relay);
        prop_assert_eq!(&statistics(&bench, vec![]).first().map(|row| row.failures.clone()).unwrap_or_default(),
            &failures(&messages));
    }

    /// What is not sealed is nobody's: it is in no view at all.
    #[test]
    fn what_is_not_sealed_is_in_no_view(acts in proptest::collection::vec(act(), 1..60)) {
        let mut bench = Bench::new();
        let acts: Vec<Act> =
            acts.into_iter().filter(|act| !matches!(act, Act::Sending(sending, 4..) if *sending > 0)).collect();
        play(&mut bench, &acts);
        let (messages, of_sendings) = shown(&bench);
        let expected = counted(&messages);
        prop_assert_eq!(of_sendings, expected);
        let rows = statistics(&bench, vec![Dimension::Relay]);
        let totals = sum(&rows);
        prop_assert_eq!((totals.messages, totals.open), (expected.messages, expected.open));
        prop_assert_eq!((totals.delivered, totals.expired), (expected.delivered, expected.expired));
        let found = all(|after| bench.models.delivery.search(&tenant(), &MessageSearch::default(), after, 5).unwrap());
        prop_assert_eq!(found.len(), messages.len());
    }

    #[test]
    fn a_search_finds_what_it_should_and_nothing_else(
        acts in proptest::collection::vec(act(), 1..90),
        limit in 1usize..6,
        searches in proptest::collection::vec(any_search(), 1..12),
    ) {
        let mut bench = Bench::new();
        let seals = (0..SENDINGS).map(|sending| Act::Sending(sending, 4));
        let acts: Vec<Act> = acts.into_iter().chain(seals).collect();
        play(&mut bench, &acts);
        let (messages, _) = shown(&bench);
        for search in searches {
            let found =
                all(|after| bench.models.delivery.search(&tenant(), &search, after, limit).unwrap());
            let mut ids: Vec<MessageId> = found.iter().map(|message| message.id).collect();
            ids.sort_unstable();
            let count = ids.len();
            ids.dedup();
            prop_assert_eq!(ids.len(), count, "found twice by {:?}", search);
            let mut expected: Vec<MessageId> =
                messages.iter().filter(|message| is_meant(message, &search)).map(|message| message.id).collect();
            expected.sort_unstable();
            prop_assert_eq!(ids, expected, "by {:?}", search);
            let at_once = bench.models.delivery.search(&tenant(), &search, None, 10_000).unwrap();
            prop_assert_eq!(found, at_once.items, "in another order by {:?}", search);
        }
    }
}

fn any_search() -> impl Strategy<Value = MessageSearch> {
    fn maybe<T: std::fmt::Debug + Clone + 'static>(values: Vec<T>) -> impl Strategy<Value = Option<T>> {
        prop_oneof![3 => Just(None), 2 => proptest::sample::select(values).prop_map(Some)]
    }
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<String>>();
    let whom = (
        maybe(words(&["01000000001", "01000001002", "p0@example.com", "01099999999"])),
        maybe(words(&["0212345678", "1@example.com", "0@example.com", "0299999999"])),
        maybe(words(&["order-0", "order-1", "order-9"])),
        maybe(vec![MessageClass::Otp, MessageClass::Notice, MessageClass::Ad]),
    );
    let how = (
        maybe(MessageStatus::ALL.to_vec()),
        maybe(words(&["4000", "lifetime", "3041"])),
        maybe(vec![relay("alpha"), relay("beta"), relay("gamma"), relay("nobody")]),
        maybe(vec![MessageType::Sms, MessageType::Email, MessageType::Lms]),
    );
    let when = (
        maybe((0..30).map(|tick| super::at(tick * 90)).collect()),
        maybe((0..30).map(|tick| super::at(tick * 90)).collect()),
    );
    (whom, how, when).prop_map(|(whom, how, when)| MessageSearch {
        to: whom.0,
        sender: whom.1,
        client_reference: whom.2,
        class: whom.3,
        status: how.0,
        reason: how.1,
        relay: how.2,
        channel: how.3,
        from: when.0,
        until: when.1,
    })
}

/// Whether the message is one of those that are looked for: by what is shown of it, and by how histories are told.
fn is_meant(message: &KnownMessage, search: &MessageSearch) -> bool {
    let sending = message.id.sending.0.as_u128() % 0x1_0000;
    let is =
        |wanted: &Option<String>, is: &[&str]| wanted.as_deref().is_none_or(|wanted| is.contains(&wanted));
    let email = message.email.as_deref().unwrap_or_default();
    let newest = message.attempts.last();
    let channel: Channel = newest.map_or(message.message_type, |attempt| attempt.channel);
    let at: Option<&RelayId> = newest.map(|attempt| &attempt.relay);
    let reason = if message.outcome.is_some() { message.reason.as_deref() } else { None };
    is(&search.to, &[message.to.as_str(), email])
        && is(&search.sender, &["0212345678", &format!("{}@example.com", sending % 2)])
        && is(&search.client_reference, &[&format!("order-{}", sending % 2)])
        && is(&search.reason, reason.as_slice())
        && search.class.is_none_or(|class| class == message.class)
        && search.status.is_none_or(|status| status == message.status)
        && search.relay.as_ref().is_none_or(|relay| at == Some(relay))
        && search.channel.is_none_or(|wanted| wanted == channel)
        && search.from.is_none_or(|from| from <= message.accepted_at)
        && search.until.is_none_or(|until| message.accepted_at < until)
}
