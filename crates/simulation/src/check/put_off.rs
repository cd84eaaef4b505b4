//! What a relay refuses for now: that message waits, longer and longer, and no other, until its time is over.

use kite_domain::lot::{RefusedForNowSet, RelayResponded};

use super::message::{PutOff, State};
use super::noted::notice;
use super::{Checked, Checker, Told};

/// How long a message waits at least after it was refused for now, the first time and so on.
const PAUSES_MS: [i64; 7] = [60_000, 300_000, 600_000, 1_800_000, 3_600_000, 7_200_000, 14_400_000];

fn pause_ms(times: u16) -> i64 {
    PAUSES_MS[usize::from(times).min(PAUSES_MS.len() - 1)]
}

impl Checker {
    pub(super) fn refused_for_now(
        &mut self,
        set: &RefusedForNowSet,
        responded: &RelayResponded,
        told: &Told<'_>,
    ) -> Checked {
        let relay = &responded.relay;
        if self.class_told(relay, &set.code) != set.class {
            return Err(format!("{} of {relay} is taken for {}", set.code, set.class));
        }
        let terms = self.terms_of(told)?;
        let is_cancelled = self.sending(terms.sending)?.cancelled.is_some();
        let (at_ms, until_ms) = (told.time().timestamp_millis(), set.until.timestamp_millis());
        for seq in &set.messages {
            let said = self.put_off_with(told, seq, responded)?;
            if self.ledgers.is_some() && said.as_deref() != Some(set.code.as_str()) {
                return Err(format!("{relay} never said {} to message {seq}, but {said:?}", set.code));
            }
            self.was_not_taken(told, seq, responded)?;
            self.nothing_is_on_its_way(told, seq, responded)?;
            let clocks_off_ms = 2 * self.clocks_off_ms;
            let message = self.handed_over(told, seq, responded)?;
            let attempt = message.attempt(responded.attempt);
            let Some(attempt) = attempt.filter(|one| one.state <= State::Unknown) else { continue };
            if attempt.is_in_doubt {
                return Err(format!("law 4: message {seq} is as new although an answer was lost"));
            }
            let before = attempt.put_off.as_ref();
            let times = before.map_or(0, |before| before.times);
            let since_ms = before.map_or(set.since.timestamp_millis(), |before| before.since_ms);
            let waits_ms = until_ms - at_ms;
            let is_told_right = set.times == times + 1
                && set.since.timestamp_millis() == since_ms
                && waits_ms >= pause_ms(times) - notice().num_milliseconds()
                && waits_ms <= pause_ms(times) + clocks_off_ms;
            if !is_told_right {
                return Err(format!("message {seq} is refused for now {before:?}, and then {set:?}"));
            }
            let limit_ms = terms.failover.retry_s.map(|retry_s| since_ms + i64::from(retry_s) * 1_000);
            let is_late = until_ms >= terms.expires_at.timestamp_millis()
                || limit_ms.is_some_and(|limit| until_ms > limit);
            if is_late && !is_cancelled {
                return Err(format!("message {seq} is to be tried again after its time"));
            }
            attempt.put_off =
                Some(PutOff { times: set.times, since_ms, code: set.code.clone(), class: set.class });
            attempt.state = State::Routed;
            attempt.round = 0;
            attempt.not_before_ms = until_ms;
        }
        Ok(())
    }

    /// A refusal for now is final only where no time is left for another try.
    pub(super) fn has_no_time_left(&self, seq: u32, responded: &RelayResponded, told: &Told<'_>) -> Checked {
        let terms = self.terms_of(told)?;
        let message = self.message_at(told, seq)?;
        let at = usize::from(responded.attempt).checked_sub(1);
        let before = at.and_then(|at| message.attempts.get(at)).and_then(|attempt| attempt.put_off.as_ref());
        let at_ms = told.time().timestamp_millis();
        let until_ms = at_ms + pause_ms(before.map_or(0, |before| before.times));
        let since_ms = before.map_or(at_ms, |before| before.since_ms);
        let limit_ms = terms.failover.retry_s.map(|retry_s| since_ms + i64::from(retry_s) * 1_000);
        let is_over =
            until_ms >= terms.expires_at.timestamp_millis() || limit_ms.is_some_and(|limit| until_ms > limit);
        match is_over {
            true => Ok(()),
            false => Err(format!("message {seq} was refused for now, and is given up before its time")),
        }
    }
}
