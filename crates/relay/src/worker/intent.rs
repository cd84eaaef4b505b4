//! The last look before the hand-over, and the intent.

use chrono::{DateTime, TimeDelta, Utc};
use kite_commands::TraceParent;
use kite_commands::lots::SealedSending;
use kite_domain::event::Event;
use kite_domain::ids::LotId;
use kite_domain::lot::{AttemptState, Handover, Lot, NotRepeated, ON_ITS_WAY, Recipient, Submission};
use kite_domain::mutation;
use kite_domain::opt_out::{AdBrands, Refusals};
use kite_domain::sending::{MessageClass, SendingAccepted};
use kite_domain::seq_set::SeqSet;
use kite_domain::slug::RelayId;
use kite_domain::text::MessageType;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::hasten::{self, Looked, look};
use super::{ActiveRelay, LOG_PAUSE};
use crate::handover_time::longest_handover;
use crate::limits::Turn;
use crate::queue::Job;

/// When messages are looked at again that wait for another relay.
const LOOK_AGAIN: TimeDelta = TimeDelta::seconds(5);

/// The jobs of one lease for one lot: one an attempt.
pub(super) struct LotWork {
    pub(super) lot: LotId,
    pub(super) jobs: Vec<Job>,
}

/// Groups the jobs by lot, so that each lot is changed once.
pub(super) fn by_lot(jobs: Vec<Job>) -> Vec<LotWork> {
    let mut works: Vec<LotWork> = Vec::with_capacity(jobs.len());
    let mut places: HashMap<LotId, usize> = HashMap::with_capacity(jobs.len());
    for job in jobs {
        match places.get(&job.lot) {
            Some(place) => works[*place].jobs.push(job),
            None => {
                places.insert(job.lot, works.len());
                works.push(LotWork { lot: job.lot, jobs: vec![job] });
            }
        }
    }
    works
}

/// Messages of one lot and attempt that are to be handed over now.
pub(super) struct Going {
    pub(super) attempt: u16,
    pub(super) round: u8,
    /// Sequence number, channel, place among the recipients.
    pub(super) messages: Vec<(u32, MessageType, usize)>,
    /// Those of them that the relay has refused for now before.
    pub(super) put_off: SeqSet,
}

/// What the last look at a lot came to.
pub(super) struct Planned {
    pub(super) terms: Arc<SendingAccepted>,
    /// The trace that the sending was accepted in.
    pub(super) traceparent: Option<TraceParent>,
    pub(super) recipients: Arc<[Recipient]>,
    pub(super) going: Vec<Going>,
    /// Jobs for later: the pace or the breaker has no room for them.
    pub(super) later: Vec<Job>,
    /// Unknown messages that must not be handed over again now, by attempt.
    pub(super) not_repeated: Vec<(u16, NotRepeated)>,
    /// A job was older than the log's state of its messages: they wait longer.
    pub(super) is_stale: bool,
}

/// Room for messages in one call, over all its lots. A decision that is made again after a conflict is not charged
/// twice.
pub(super) struct Room<'p> {
    left: u32,
    charged: Vec<Option<u32>>,
    turn: Turn<'p>,
}

impl<'p> Room<'p> {
    pub(super) fn new(messages: u32, lots: usize, turn: Turn<'p>) -> Self {
        Self { left: messages, charged: vec![None; lots], turn }
    }
}

/// Which messages of a job are in the state that the job assumes.
pub(super) fn still(lot: &Lot, relay: &RelayId, job: &Job, state: AttemptState) -> SeqSet {
    let is_there = |seq: &u32| {
        lot.message(*seq).filter(|message| message.outcome.is_none()).is_some_and(|message| {
            message.attempts_made() == job.attempt
                && message
                    .attempts
                    .last()
                    .is_some_and(|last| last.state == state && lot.relay_of(last) == relay)
        })
    };
    job.messages.iter().filter(is_there).collect()
}

/// Decides what of a lot goes now, and charges the pace for it. Without the refusals of its recipients nothing goes,
/// and they are looked up again.
pub(super) fn plan(
    active: &ActiveRelay,
    lot: &Lot,
    sending: &SealedSending,
    (place, work): (usize, &LotWork),
    state: AttemptState,
    (room, refusals): (&mut Room<'_>, Option<&Refusals>),
    now: DateTime<Utc>,
) -> (Vec<Event>, Planned) {
    let mut planned = Planned {
        terms: sending.terms.clone(),
        traceparent: sending.traceparent,
        recipients: lot.recipients.clone(),
        going: Vec::new(),
        later: Vec::new(),
        not_repeated: Vec::new(),
        is_stale: false,
    };
    let Some(refusals) = refusals else {
        let not_before_ms = (now + LOG_PAUSE).timestamp_millis();
        planned.later.extend(work.jobs.iter().cloned().map(|job| Job { not_before_ms, ..job }));
        return (Vec::new(), planned);
    };
    let mut events = Vec::new();
    let mut granted = room.charged[place];
    for job in &work.jobs {
        let waiting = still(lot, active.relay(), job, state);
        let looked = look(lot, waiting, job, active.asking(), now);
        mutation::bug!(StaleJobBelieved, let looked = super::mutations::all_now(active.relay(), lot, job, state));
        let Looked { candidates, round, later, is_stale } = looked;
        planned.is_stale |= is_stale;
        if round.is_in_time() {
            planned.later.extend(later.clone());
        }
        if candidates.is_empty() {
            continue;
        }
        let leave = match granted {
            // Nothing goes, so nothing is charged.
            _ if sending.is_paused => Ok(u32::MAX),
            Some(count) => Ok(count),
            None => take_leave(lot, &candidates, room),
        };
        let (candidates, rest, not_before_ms) = match leave {
            Ok(count) => {
                let (now_set, rest) = candidates.as_slice().split_at(candidates.len().min(count as usize));
                (now_set.iter().copied().collect(), rest.iter().copied().collect(), 0)
            }
            Err(until) => (SeqSet::default(), candidates, until.timestamp_millis()),
        };
        if !rest.is_empty() {
            planned.later.push(Job { messages: rest, not_before_ms, ..job.clone() });
        }
        if candidates.is_empty() {
            continue;
        }
        if !sending.is_paused {
            granted = granted.map(|count| count - candidates.len() as u32);
            room.charged[place] = Some(room.charged[place].unwrap_or(0) + candidates.len() as u32);
        }
        let submission = submit(active, lot, sending, refusals, &candidates, job.attempt, now);
        let Submission { events: more, messages, waiting } = submission;
        if !waiting.is_empty() {
            let not_before_ms = (now + LOOK_AGAIN).timestamp_millis();
            planned.later.push(Job { messages: waiting, not_before_ms, ..job.clone() });
        }
        if state == AttemptState::Unknown && messages.len() < candidates.len() {
            let stays: SeqSet = candidates.iter().filter(|seq| !messages.contains(*seq)).collect();
            match round.is_in_time() {
                true => planned
                    .not_repeated
                    .push((job.attempt, lot.not_repeated(stays, job.attempt, active.asking()))),
                // It was too early to say anything: they are looked at when their time comes.
                false => planned.later.extend(hasten::of(&later, &stays)),
            }
        }
        events.extend(more);
        planned.going.push(going(lot, job, &messages, round.number()));
    }
    (events, planned)
}

/// How many of the candidates may go now; none of them before the time that is named.
fn take_leave(lot: &Lot, candidates: &SeqSet, room: &mut Room<'_>) -> Result<u32, DateTime<Utc>> {
    let parts_max = room.turn.parts_max(lot.class);
    let mut parts = 0_u32;
    let mut count = 0_u32;
    for seq in candidates.iter().take(room.left as usize) {
        let more = lot.message(seq).map_or(1, |message| u32::from(message.parts.max(1)));
        // The first one goes even if it alone is more than the pace takes at once.
        if count > 0 && parts.saturating_add(more) > parts_max {
            break;
        }
        parts = parts.saturating_add(more);
        count += 1;
    }
    if count == 0 {
        return Ok(0);
    }
    room.turn.charge(lot.class, parts)?;
    room.left -= count;
    Ok(count)
}

fn submit(
    active: &ActiveRelay,
    lot: &Lot,
    sending: &SealedSending,
    refusals: &Refusals,
    candidates: &SeqSet,
    attempt: u16,
    now: DateTime<Utc>,
) -> Submission {
    let settings = &active.parts.settings;
    // The hand-over itself comes a moment after this look; it must not come after the window has closed.
    let answer_by = answer_by(active, now);
    let lead = answer_by - now + ON_ITS_WAY;
    let closed = [now, now + lead].into_iter().find(|at| settings.night.contains(*at));
    let opens = closed.map(|at| settings.night.next_open(at));
    let spread = Duration::from_secs(settings.night_spread_s.into());
    let sending_key = lot.id.sending.0.as_u64_pair();
    let closed_until = |seq: u32| {
        let key = sending_key.0 ^ sending_key.1 ^ u64::from(seq).rotate_left(32);
        opens.map(|open| settings.night.spread_after_open(open, key, spread))
    };
    // Once for all messages: they have one sender on each channel.
    let snapshot = active.parts.directory.snapshot();
    let [by_phone, by_email] = [MessageType::Sms, MessageType::Email]
        .map(|channel| snapshot.unsendable(&sending.terms, channel, now));
    let unsendable = |channel| if channel == MessageType::Email { by_email } else { by_phone };
    let brands = sending.terms.ad.as_ref().map_or(&[][..], |ad| &ad.brands);
    let brands = AdBrands::of(brands);
    let has_opted_out = |address: &str| refusals.refused_by(address, &brands).is_some();
    let journal = active.parts.lots.journal();
    let handover = Handover {
        relay: active.relay(),
        attempt,
        is_cancelled: sending.is_cancelled,
        is_paused: sending.is_paused,
        is_asked_again: active.profile.answers_status,
        receipt_deadline: receipt_deadline(active, lot, sending, candidates),
        answer_by,
        holder: journal.is_shared().then(|| journal.node().clone()),
        closed_until: &closed_until,
        unsendable: &unsendable,
        has_opted_out: &has_opted_out,
        context: &snapshot.routing_context(&sending.terms, now),
        now,
    };
    lot.submit(&sending.terms, candidates, &handover)
}

/// Until when the relay must have answered if its call is decided on now.
pub(super) fn answer_by(active: &ActiveRelay, now: DateTime<Utc>) -> DateTime<Utc> {
    now + longest_handover(&active.profile)
}

/// How long to wait for receipts: as the sending says, else the longest of the channels in the call.
fn receipt_deadline(
    active: &ActiveRelay,
    lot: &Lot,
    sending: &SealedSending,
    candidates: &SeqSet,
) -> TimeDelta {
    if let Some(wait_s) = sending.terms.failover.wait_s {
        return TimeDelta::seconds(wait_s.into());
    }
    let channel =
        |seq| lot.message(seq).and_then(|message| message.attempts.last()).map(|attempt| attempt.channel);
    let mut last = None;
    let mut deadline_s = 0;
    for seq in candidates {
        let channel = channel(seq);
        if channel != last {
            let terms = channel.and_then(|channel| active.profile.channels.get(&channel));
            deadline_s = deadline_s.max(terms.map_or(0, |terms| terms.receipt_deadline_s));
            last = channel;
        }
    }
    // A channel that the relay no longer offers has no deadline of its own.
    TimeDelta::seconds(if deadline_s == 0 { 259_200 } else { deadline_s.into() })
}

fn going(lot: &Lot, job: &Job, messages: &SeqSet, round: u8) -> Going {
    let first = lot.id.first_seq();
    let one = |seq: u32| {
        let channel =
            lot.message(seq).and_then(|message| message.attempts.last()).map(|attempt| attempt.channel);
        (seq, channel.unwrap_or(MessageType::Sms), (seq - first) as usize)
    };
    // Nearly always there are none.
    let put_off = messages.iter().filter(|seq| lot.was_put_off(*seq, job.attempt)).collect();
    Going { attempt: job.attempt, round, messages: messages.iter().map(one).collect(), put_off }
}

/// The class of the messages of a lease, for figures.
pub(super) fn class_of(works: &[LotWork]) -> MessageClass {
    works.first().and_then(|work| work.jobs.first()).map_or(MessageClass::Notice, |job| job.class)
}
