//! What is seen of one relay at this moment.

use chrono::{DateTime, TimeDelta, Utc};
use kite_commands::relay_desk::{LastCall, RelayNow};
use kite_domain::relay::{RelayEntry, RelayProfile};
use kite_domain::slug::RelayId;
use parking_lot::{Mutex, RwLock};
use std::sync::Arc;

use crate::attendance::Attendance;
use crate::breaker::BreakerGuard;
use crate::expiry::Expiry;
use crate::metrics;
use crate::queue::WorkQueue;

/// How long a relay's statement about the time counts.
const TIME_SAID_FOR: TimeDelta = TimeDelta::minutes(10);

/// One relay. Outlives its definitions.
pub(crate) struct Board {
    relay: RelayId,
    breaker: Arc<BreakerGuard>,
    queue: Arc<dyn WorkQueue>,
    attendance: RwLock<Arc<Attendance>>,
    calls: Mutex<Calls>,
    expiry: Mutex<Expiry>,
}

#[derive(Debug, Clone, Default)]
struct Calls {
    last: Option<LastCall>,
    answered_at: Option<DateTime<Utc>>,
    failed_at: Option<DateTime<Utc>>,
    /// How far the clock here is ahead of the relay's, and since when that is known.
    clock_ahead: Option<(TimeDelta, DateTime<Utc>)>,
}

impl Calls {
    fn clock_ahead(&self, now: DateTime<Utc>) -> Option<TimeDelta> {
        self.clock_ahead.filter(|(_, at)| now - *at <= TIME_SAID_FOR).map(|(ahead, _)| ahead)
    }
}

impl Board {
    pub(crate) fn new(
        relay: RelayId,
        breaker: Arc<BreakerGuard>,
        queue: Arc<dyn WorkQueue>,
        attendance: Arc<Attendance>,
    ) -> Self {
        Self {
            relay,
            breaker,
            queue,
            attendance: RwLock::new(attendance),
            calls: Mutex::default(),
            expiry: Mutex::default(),
        }
    }

    pub(crate) fn relay(&self) -> &RelayId {
        &self.relay
    }

    /// The relay is defined again.
    pub(crate) fn attended_by(&self, attendance: Arc<Attendance>) {
        *self.attendance.write() = attendance;
    }

    /// A call has ended.
    pub(crate) fn called(&self, call: LastCall) {
        let mut calls = self.calls.lock();
        let at = if call.is_answered { &mut calls.answered_at } else { &mut calls.failed_at };
        *at = Some(call.at);
        calls.last = Some(call);
    }

    /// The relay has told its time, in an answer to a call that was in progress from `began` to `ended`.
    pub(crate) fn said_time(&self, said: DateTime<Utc>, began: DateTime<Utc>, ended: DateTime<Utc>) {
        self.calls.lock().clock_ahead = Some((ahead_of(said, began, ended), ended));
    }

    /// How far the clock here is ahead of the relay's.
    pub(crate) fn clock_ahead(&self, now: DateTime<Utc>) -> Option<TimeDelta> {
        self.calls.lock().clock_ahead(now)
    }

    /// Sets the gauges.
    pub(crate) fn show(&self, entry: &RelayEntry, now: DateTime<Utc>) {
        let (answered_at, failed_at) = {
            let calls = self.calls.lock();
            (calls.answered_at, calls.failed_at)
        };
        metrics::relay_state(&self.relay, entry.unattended.is_none(), self.breaker.standing(now).phase);
        metrics::last_calls(&self.relay, answered_at, failed_at);
        self.show_certificates(&entry.profile, now);
    }

    /// Reports certificates that expire soon, and sets their gauges.
    fn show_certificates(&self, profile: &Arc<RelayProfile>, now: DateTime<Utc>) {
        let mut expiry = self.expiry.lock();
        let before = expiry.ends();
        expiry.look(profile);
        for news in expiry.news(now) {
            tracing::warn!(relay = %self.relay, "{news}");
        }
        let ends = expiry.ends();
        for (field, end) in &ends {
            metrics::certificate(&self.relay, field, Some(*end - now));
        }
        for (field, _) in before.iter().filter(|(field, _)| ends.iter().all(|(other, _)| other != field)) {
            metrics::certificate(&self.relay, field, None);
        }
    }

    pub(crate) fn now(&self, now: DateTime<Utc>) -> RelayNow {
        let standing = self.breaker.standing(now);
        let calls = self.calls.lock().clone();
        let clock_ahead = calls.clock_ahead(now);
        let (breaker_since, breaker_reason) = standing.changed.unzip();
        RelayNow {
            workers: self.attendance.read().workers(),
            breaker_reason,
            breaker_since,
            probes_from: standing.probes_from,
            last_call: calls.last,
            last_answer_at: calls.answered_at,
            last_failure_at: calls.failed_at,
            clock_ahead,
            waiting: self.queue.waiting(&self.relay).map(|count| count as u64),
        }
    }
}

/// How far the clock here is at least ahead of one that told this time, in whole seconds, at some moment in between;
/// below zero: behind.
fn ahead_of(said: DateTime<Utc>, began: DateTime<Utc>, ended: DateTime<Utc>) -> TimeDelta {
    let until = said + TimeDelta::seconds(1);
    if until < began {
        began - until
    } else if said > ended {
        ended - said
    } else {
        TimeDelta::zero()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::{InProcessQueue, QueueLimits};
    use crate::metrics::tests::{recorder, shows};
    use crate::worker::testing::{profile, relay};
    use kite_commands::Awaited;
    use kite_commands::directory::Directory;
    use kite_domain::breaker::BreakerSettings;
    use kite_domain::relay::{CA, CLIENT_CERTIFICATE};
    use kite_testkit::certificates::Made;

    #[test]
    fn a_clock_is_ahead_only_as_far_as_no_moment_of_the_call_explains() {
        let at = |ms: i64| DateTime::from_timestamp_millis(1_800_000_000_000 + ms).unwrap();
        let ahead = |began, ended| ahead_of(at(0), at(began), at(ended)).num_milliseconds();
        assert_eq!([ahead(0, 10), ahead(999, 1_200), ahead(-5_000, 5_000)], [0, 0, 0]);
        assert_eq!(ahead(3_600_500, 3_600_700), 3_599_500);
        assert_eq!(ahead(-3_600_700, -3_600_500), -3_600_500);
    }

    #[test]
    fn what_a_relay_said_of_the_time_is_forgotten_after_ten_minutes() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let calls = Calls { clock_ahead: Some((TimeDelta::hours(1), now)), ..Calls::default() };
        assert_eq!(calls.clock_ahead(now + TimeDelta::minutes(10)), Some(TimeDelta::hours(1)));
        assert_eq!(calls.clock_ahead(now + TimeDelta::minutes(11)), None);
    }

    #[test]
    fn only_the_gauge_of_a_field_that_has_no_certificate_any_more_ends() {
        let now: DateTime<Utc> = "2030-12-31T00:00:00Z".parse().unwrap();
        let attendance = Arc::new(Attendance::of_workers(relay("alpha"), 1));
        let queue = Arc::new(InProcessQueue::new(QueueLimits::default()));
        let (settings, directory) = (BreakerSettings::default(), Directory::default());
        let breaker = BreakerGuard::new(relay("alpha"), settings, Awaited::default(), directory, now);
        let board = Board::new(relay("alpha"), Arc::new(breaker), queue, attendance);
        let recorder = recorder();
        let show = |profile: &RelayProfile| {
            let profile = Arc::new(profile.clone());
            ::metrics::with_local_recorder(&recorder, || board.show_certificates(&profile, now));
        };
        let made = |year| Some(Made::self_signed("relay.example", year).unwrap().certificate);
        let mut profile = profile("alpha");
        (profile.tls.ca_pem, profile.tls.client_certificate_pem) = (made(2031), made(2031));
        show(&profile);
        let of = |field: &str, left: &str| {
            let name = "kite_relay_certificate_ends_in_seconds";
            format!(r#"{name}{{relay="alpha",field="{field}"}} {left}"#)
        };
        shows(&recorder, &[&of(CA, "86400"), &of(CLIENT_CERTIFICATE, "86400")]);
        profile.tls.client_certificate_pem = None;
        show(&profile);
        shows(&recorder, &[&of(CA, "86400"), &of(CLIENT_CERTIFICATE, "inf")]);
    }
}
