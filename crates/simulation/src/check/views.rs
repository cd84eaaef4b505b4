//! Law 11: every outcome is counted once, and the same in every view.

use kite_commands::describe;
use kite_domain::lot::Outcome;
use kite_domain::slug::RelayId;
use kite_domain::text::MessageType;
use kite_projections::{Counts, Dimension, MessageSearch, ReadModels, StatisticsQuery};
use std::collections::{BTreeMap, BTreeSet};

use super::message::State;
use super::{Checked, Checker, MessageState};

/// A relay, or none as yet, and a channel.
type Place = (Option<RelayId>, MessageType);

/// The counts of these messages, without what the log states in other words: the planned shares and the cost.
pub(super) fn counted<'m>(messages: impl Iterator<Item = &'m MessageState>) -> Counts {
    let mut all = Counts::default();
    let mut places = BTreeMap::new();
    messages.for_each(|message| count(message, &mut places));
    places.into_values().for_each(|counts| all += counts);
    all
}

fn count(message: &MessageState, places: &mut BTreeMap<Place, Counts>) {
    let newest = message.newest();
    let place = newest.map_or((None, message.channel), |one| (Some(one.relay.clone()), one.channel));
    let counts = places.entry(place).or_default();
    counts.messages += 1;
    match message.outcome {
        None => counts.open += 1,
        Some(Outcome::Delivered) => counts.delivered += 1,
        Some(Outcome::Undelivered) => counts.undelivered += 1,
        Some(Outcome::Expired) => counts.expired += 1,
        Some(Outcome::Cancelled) => counts.cancelled += 1,
        Some(Outcome::Refused) => counts.refused += 1,
    }
    counts.routed += i64::from(newest.is_some());
    counts.delivered_twice += i64::from(message.is_delivered_twice());
    let attempts = message.attempts.len();
    for (number, attempt) in (1..).zip(&message.attempts) {
        let counts = places.entry((Some(attempt.relay.clone()), attempt.channel)).or_default();
        counts.attempts += 1;
        counts.first_routed += i64::from(number == 1);
        counts.failovers += i64::from(number < attempts);
        match attempt.state {
            State::Unknown => counts.attempts_unknown += 1,
            State::Refused => counts.attempts_refused += 1,
            State::Delivered => counts.attempts_delivered += 1,
            State::Undelivered => counts.attempts_undelivered += 1,
            State::Expired => counts.attempts_expired += 1,
            State::Routed | State::Submitted | State::Accepted => {}
        }
    }
}

/// Of what a view shows, what this checker counts too.
pub(super) fn comparable(counts: &Counts) -> Counts {
    Counts {
        planned: 0,
        cost_milliwon: 0,
        handed_over: 0,
        attempts_handed_over: 0,
        attempts_accepted: 0,
        ..*counts
    }
}

impl Checker {
    /// The sums over all sendings are those of the statistics, in whatever they are grouped by, and of what a search finds.
    pub(super) fn views_agree(&self, models: &ReadModels) -> Checked {
        let mut places = BTreeMap::new();
        let sealed = self.sendings.values().filter(|sending| sending.terms.is_some());
        sealed.clone().flat_map(|sending| sending.messages.values()).for_each(|one| count(one, &mut places));
        let mut known = Counts::default();
        places.values().for_each(|counts| known += *counts);
        for group_by in
            [vec![], vec![Dimension::Tenant], vec![Dimension::Day], vec![Dimension::Class, Dimension::Type]]
        {
            let shown = statistics(models, group_by.clone())?;
            let mut sum = Counts::default();
            shown.into_values().for_each(|counts| sum += counts);
            if comparable(&sum) != known {
                return Err(format!(
                    "law 11: statistics by {group_by:?} count {sum:?}, the log has {known:?}"
                ));
            }
        }
        let shown = statistics(models, vec![Dimension::Relay, Dimension::Channel])?;
        for (place, counts) in &shown {
            let known = places.get(place).copied().unwrap_or_default();
            if comparable(counts) != known {
                return Err(format!(
                    "law 11: statistics of {place:?} count {counts:?}, the log has {known:?}"
                ));
            }
        }
        if let Some(place) = places.keys().find(|place| !shown.contains_key(place)) {
            return Err(format!("law 11: {place:?} is in no row of the statistics"));
        }
        let tenants: BTreeSet<_> =
            sealed.filter_map(|sending| Some(sending.terms.as_ref()?.tenant.clone())).collect();
        let mut found = 0;
        for tenant in tenants {
            let mut after = None;
            loop {
                let search = MessageSearch::default();
                let page = models.delivery.search(&tenant, &search, after.as_ref(), 200);
                let page = page.map_err(|error| describe(&error))?;
                found += page.items.len() as i64;
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }
        match found == known.messages {
            true => Ok(()),
            false => Err(format!("law 11: a search finds {found} of {} messages", known.messages)),
        }
    }
}

/// Rows of statistics by their relay and channel; those of one place are added up.
fn statistics(models: &ReadModels, group_by: Vec<Dimension>) -> Checked<BTreeMap<Place, Counts>> {
    let query = StatisticsQuery { group_by, ..StatisticsQuery::default() };
    let mut places: BTreeMap<Place, Counts> = BTreeMap::new();
    for row in models.delivery.statistics(&query).map_err(|error| describe(&error))? {
        let place = (row.relay, row.channel.unwrap_or(MessageType::Sms));
        *places.entry(place).or_default() += row.counts;
    }
    Ok(places)
}
