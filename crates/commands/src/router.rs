//! The router: assigns first routes for every sealed, due sending.
//!
//! There is one router for all tenants of a log. It knows the position of every split in its sequence, and nothing
//! else appends first routes, so the split stays exact over sendings and restarts. On start it takes the carries that
//! the routing read model knows, and folds the rest of the log.
//!
//! If several processes could be the router, expected versions make sure that only one is. Before its first append a
//! router gets itself elected ([`kite_domain::election`]) and reads what was routed until then. Its appends succeed
//! only while nobody has been elected after it.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use hashlink::LinkedHashMap;
use kite_domain::breaker::Awaiting;
use kite_domain::election::{self, RouterElected};
use kite_domain::event::{Event, EventKind};
use kite_domain::ids::{LotId, SEQS_PER_LOT, SendingId};
use kite_domain::lot::{LedgerAhead, Lot, MessagesRouted, RoutingBlocked, SplitLedger};
use kite_domain::mutation;
use kite_domain::relay::Ineligible;
use kite_domain::sending::{MessageClass, SendingAccepted};
use kite_domain::slug::TenantId;
use kite_event_store::{AppendError, Expected, Filter, Position};
use smol_str::SmolStr;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use tokio::sync::watch;

use crate::awaited::Awaited;
use crate::directory::{Directory, DirectoryState};
use crate::journal::{Cause, Entry, JournalError};
use crate::lots::{Fence, Lots, LotsError, OF_LOTS};
use crate::open_work::OpenWork;
use crate::policy::{all_policy_names_in_force, is_over, policy_in_force};
use crate::worker::{Step, Worker, WorkerError, describe};

/// How many messages are routed in one append.
const MESSAGES_PER_STEP: u32 = 1_000;
/// How many lots are routed in one append.
const LOTS_PER_STEP: usize = 128;
/// How many events of the log are read at once.
const PAGE: usize = 512;
/// How long a sending that no relay can take waits before it is tried again.
const BLOCKED_RETRY_S: i64 = 5;
/// How long a note that messages wait for a relay is valid: until well after they were tried again.
const AWAITED_S: i64 = 3 * BLOCKED_RETRY_S;

/// See the module.
pub struct Router {
    lots: Lots,
    directory: Directory,
    directory_changes: watch::Receiver<u64>,
    open_work: Arc<dyn OpenWork>,
    awaited: Awaited,
    actor: SmolStr,
    ledger: SplitLedger,
    /// Where it reads on in the log; none: it has to find its position first.
    position: Option<Position>,
    /// Up to here it has read what was routed.
    carries_read: Position,
    /// Its election; none: it has to be elected before it routes anything.
    elected: Option<Fence>,
    waiting: BTreeMap<MessageClass, Turns>,
    known: HashSet<SendingId>,
    /// What is left to route of paused sendings, until they are resumed or over.
    paused: HashMap<SendingId, Waiting>,
    blocked: Vec<Waiting>,
    blocked_until: Option<DateTime<Utc>>,
}

/// What waits in one class. Tenants are served in turn, one lot at a time, so that nobody waits behind another
/// tenant's messages. Within a tenant the order is that of the log.
#[derive(Debug, Default)]
struct Turns {
    /// Of tenants with something that waits, the next one first.
    queues: LinkedHashMap<TenantId, VecDeque<Waiting>>,
}

impl Turns {
    fn queue(&mut self, tenant: &TenantId) -> &mut VecDeque<Waiting> {
        self.queues.entry(tenant.clone()).or_insert_with(VecDeque::new)
    }

    fn push_back(&mut self, waiting: Waiting) {
        self.queue(&waiting.tenant).push_back(waiting);
    }

    fn push_front(&mut self, waiting: Waiting) {
        self.queue(&waiting.tenant).push_front(waiting);
    }

    /// The next lot, how many messages it has, and the sending if this was its last.
    fn next(&mut self, class: MessageClass) -> Option<(Next, u32, Option<SendingId>)> {
        let (tenant, mut queue) = self.queues.pop_front()?;
        let waiting = queue.front_mut()?;
        let (sending, messages) = (waiting.sending, waiting.messages_per_lot);
        let number = waiting.lots.pop_front();
        let done = waiting.lots.is_empty().then_some(sending);
        if done.is_some() {
            queue.pop_front();
        }
        if !queue.is_empty() {
            self.queues.insert(tenant.clone(), queue);
        }
        // Nothing without a lot is ever put here.
        let lot = LotId { sending, number: number? };
        Some((Next { lot, class, tenant }, messages, done))
    }
}

/// A sending with lots that have no route yet.
#[derive(Debug)]
struct Waiting {
    sending: SendingId,
    tenant: TenantId,
    class: MessageClass,
    lots: VecDeque<u32>,
    messages_per_lot: u32,
}

impl Waiting {
    fn new(terms: &SendingAccepted) -> Self {
        Self {
            sending: terms.sending,
            tenant: terms.tenant.clone(),
            class: terms.class,
            lots: (0..terms.lots).collect(),
            messages_per_lot: terms.messages.div_ceil(terms.lots.max(1)),
        }
    }

    /// A lot that comes back.
    fn one(next: Next) -> Self {
        Self { lots: [next.lot.number].into(), ..Self::none(next) }
    }

    /// No lot of a sending yet.
    fn none(next: Next) -> Self {
        let Next { lot, class, tenant } = next;
        Self { sending: lot.sending, tenant, class, lots: VecDeque::new(), messages_per_lot: SEQS_PER_LOT }
    }
}

/// The lots of these sendings, and how many messages each has.
fn lots_of(queue: &VecDeque<Waiting>) -> impl Iterator<Item = (LotId, u32)> {
    queue.iter().flat_map(|waiting| {
        let lot = |number: &u32| LotId { sending: waiting.sending, number: *number };
        waiting.lots.iter().map(move |number| (lot(number), waiting.messages_per_lot))
    })
}

/// A lot that is to be routed.
#[derive(Debug, Clone)]
struct Next {
    lot: LotId,
    class: MessageClass,
    tenant: TenantId,
}

/// What routing one lot came to.
struct Routed {
    event: Option<MessagesRouted>,
    blocked: Vec<RoutingBlocked>,
    is_paused: bool,
}

impl Router {
    /// What it reads on for. Messages wait until it has seen these.
    pub const AT_ONCE: [EventKind; 5] = [
        EventKind::SendingAccepted,
        EventKind::SendingReleased,
        EventKind::SendingResumed,
        EventKind::SendingCancelled,
        EventKind::SendingPaused,
    ];

    /// Routes these lots by this directory.
    pub fn new(lots: Lots, directory: Directory, open_work: Arc<dyn OpenWork>) -> Self {
        let directory_changes = directory.changes();
        Self {
            lots,
            directory,
            directory_changes,
            open_work,
            awaited: Awaited::default(),
            actor: SmolStr::new_static("router"),
            ledger: SplitLedger::default(),
            position: None,
            carries_read: 0,
            elected: None,
            waiting: BTreeMap::new(),
            known: HashSet::new(),
            paused: HashMap::new(),
            blocked: Vec::new(),
            blocked_until: None,
        }
    }

    /// In how many splits it keeps a place.
    pub fn splits_kept(&self) -> usize {
        self.ledger.carries().count()
    }

    /// Where it notes which relays messages wait for that no other can take.
    pub fn awaited(&self) -> Awaited {
        self.awaited.clone()
    }

    /// Forgets everything, so that the next step finds its position again: whenever the log may hold something that
    /// this router does not know, or another router was elected.
    fn forget(&mut self) {
        self.position = None;
        self.elected = None;
        self.ledger = SplitLedger::default();
        self.waiting.clear();
        self.known.clear();
        self.paused.clear();
        self.blocked.clear();
        self.blocked_until = None;
    }

    async fn find_place(&mut self) -> Result<(), WorkerError> {
        self.forget();
        self.directory_changes.mark_unchanged();
        let known = self.directory.read_until(self.lots.journal()).await?;
        let policies = all_policy_names_in_force(&self.directory.snapshot());
        let memory = self.open_work.router_memory(policies).await;
        let memory = memory.map_err(WorkerError::retry)?;
        if memory.position > known {
            // It may leave out splits of policies that were not known when it was asked.
            return Err(WorkerError::retry("the log has grown meanwhile"));
        }
        self.ledger = memory.carries.into_iter().collect();
        for id in memory.unrouted {
            self.take_up(id).await?;
        }
        for id in memory.parked {
            self.take_up_due(id).await?;
        }
        self.read_carries(memory.carries_position, memory.position).await?;
        let filter = Filter::kinds([
            EventKind::SendingAccepted,
            EventKind::SendingReleased,
            EventKind::SendingResumed,
            EventKind::MessagesRouted,
            EventKind::RoutesClaimed,
        ]);
        let mut position = memory.position;
        loop {
            let (told, next) = self.lots.journal().read_all(position, PAGE, &filter).await?;
            let is_end = next == position;
            position = next;
            for told in told {
                match &told.event {
                    Event::MessagesRouted(routed) => self.ledger.evolve(routed),
                    Event::RoutesClaimed(claim) => self.ledger.evolve_claim(claim),
                    other => self.note(other).await?,
                }
            }
            if is_end {
                break;
            }
        }
        mutation::bug!(SplitCarryResetAtRestart, self.ledger = SplitLedger::default());
        self.position = Some(position);
        self.carries_read = position;
        Ok(())
    }

    /// Gets itself elected, and reads what was routed until then: after that nothing by others can be in the log.
    /// False: somebody else was faster.
    async fn stand_for_election(&mut self) -> Result<bool, WorkerError> {
        let journal = self.lots.journal();
        let version = journal.count(election::STREAM).await?;
        let entry = Entry {
            stream: election::STREAM.into(),
            expected: Expected::Version(version),
            tenant: None,
            cause: Cause::new(self.actor.clone(), journal.next_id()),
            events: vec![RouterElected { node: journal.node().clone() }.into()],
        };
        let appended = match journal.append_one(entry).await {
            Ok(appended) => appended,
            Err(AppendError::Conflict { .. }) => return Ok(false),
            Err(error) => return Err(JournalError::from(error).into()),
        };
        self.read_carries(self.carries_read, appended.position).await?;
        self.carries_read = appended.position;
        let elected = Fence { stream: election::STREAM, version: appended.version };
        // What the router before has claimed and not told. If that does not succeed, another election tries again.
        self.lots.finish_claim(&elected, &self.actor).await.map_err(WorkerError::retry)?;
        self.elected = Some(elected);
        tracing::debug!(term = elected.version, "this router gives first routes from now on");
        Ok(true)
    }

    /// Reads the carries of routes that the read model has parked, and of all that came after them.
    async fn read_carries(&mut self, after: Position, until: Position) -> Result<(), WorkerError> {
        let filter = Filter::kinds([EventKind::MessagesRouted, EventKind::RoutesClaimed]);
        let mut position = after;
        while position < until {
            let (told, next) = self.lots.journal().read_all(position, PAGE, &filter).await?;
            for told in told.iter().filter(|told| told.recorded.position <= until) {
                match &told.event {
                    Event::MessagesRouted(routed) => self.ledger.evolve(routed),
                    Event::RoutesClaimed(claim) => self.ledger.evolve_claim(claim),
                    _ => {}
                }
            }
            if next == position {
                break;
            }
            position = next;
        }
        Ok(())
    }

    /// Reads on; returns whether there may be more. First routes are not read here: they are the router's own, and folded when
    /// they are appended, or were read at its election.
    async fn read_on(&mut self, position: Position) -> Result<bool, WorkerError> {
        // Only a paused sending is waited for here until it is over.
        let ends = (!self.paused.is_empty()).then_some(EventKind::SendingCompleted);
        let kinds = Self::AT_ONCE.into_iter().chain(ends);
        let (told, next) = self.lots.journal().read_told_and(position, PAGE, kinds, &OF_LOTS).await?;
        for told in &told {
            self.lots.note_told(told);
            self.note(&told.event).await?;
        }
        self.position = Some(next);
        // A page without news may be followed by one with: only a position that stands still is the end.
        Ok(next != position)
    }

    async fn note(&mut self, event: &Event) -> Result<(), WorkerError> {
        match event {
            Event::SendingAccepted(accepted) => {
                let now = self.lots.journal().now();
                if accepted.scheduled_at.is_none_or(|scheduled| scheduled <= now) {
                    self.enqueue(Waiting::new(accepted));
                }
            }
            Event::SendingReleased(released) => self.take_up(released.sending).await?,
            Event::SendingResumed(resumed) => self.go_on(resumed.sending),
            Event::SendingCancelled(cancelled) => drop(self.paused.remove(&cancelled.sending)),
            Event::SendingCompleted(completed) => drop(self.paused.remove(&completed.sending)),
            _ => {}
        }
        Ok(())
    }

    /// Takes up a sending whose state only its stream has. A sending that waits for its time is handled when the time
    /// comes.
    async fn take_up_due(&mut self, id: SendingId) -> Result<(), WorkerError> {
        if let Some(sealed) = self.lots.sending(id).await? {
            self.note(&Event::SendingAccepted((*sealed.terms).clone())).await?;
        }
        Ok(())
    }

    /// The part of a paused sending that was set aside is routed after all. Whatever of it waits elsewhere was not
    /// looked at while it was paused, or is set aside again.
    fn go_on(&mut self, id: SendingId) {
        // What is kept of it may be from before.
        self.lots.forget_sending(id);
        if let Some(waiting) = self.paused.remove(&id) {
            self.waiting.entry(waiting.class).or_default().push_back(waiting);
        }
    }

    async fn take_up(&mut self, id: SendingId) -> Result<(), WorkerError> {
        let sealed = self.lots.sending(id).await?;
        if let Some(sealed) = sealed {
            self.enqueue(Waiting::new(&sealed.terms));
        }
        Ok(())
    }

    fn enqueue(&mut self, waiting: Waiting) {
        if !waiting.lots.is_empty() && self.known.insert(waiting.sending) {
            self.waiting.entry(waiting.class).or_default().push_back(waiting);
        }
    }

    /// What changes when the directory does: splits of policies that nobody follows any more are dropped, and blocked
    /// sendings are tried again. The latter also every few seconds.
    fn follow_directory(&mut self) {
        let has_news = self.directory_changes.has_changed().unwrap_or(false);
        if has_news {
            self.directory_changes.mark_unchanged();
            let directory = self.directory.snapshot();
            self.ledger.retain(|key| !is_over(&directory, key));
            metrics::gauge!("kite_splits_kept").set(self.splits_kept() as f64);
        }
        let now = self.lots.journal().now();
        let is_time = self.blocked_until.is_some_and(|until| until <= now);
        if self.blocked.is_empty() || !(has_news || is_time) {
            return;
        }
        self.blocked_until = None;
        for waiting in std::mem::take(&mut self.blocked) {
            self.waiting.entry(waiting.class).or_default().push_back(waiting);
        }
    }

    /// The next lots to route: the most urgent class first, the tenants of a class in turn.
    fn next_lots(&mut self) -> Vec<Next> {
        let mut lots = Vec::new();
        let mut messages = 0;
        for (class, turns) in &mut self.waiting {
            // What is more urgent is not made to wait for what is routed beside it.
            if !lots.is_empty() {
                return lots;
            }
            while lots.len() < LOTS_PER_STEP && messages < MESSAGES_PER_STEP {
                let Some((next, more, done)) = turns.next(*class) else { break };
                messages += more;
                lots.push(next);
                if let Some(done) = done {
                    self.known.remove(&done);
                }
            }
        }
        lots
    }

    /// Lots whose turn comes soon, about as many as are routed at once and in that order: those that are not kept are read while others
    /// are routed. In a process that runs alone all of them are kept from their acceptance on.
    fn ahead(&self) -> Vec<LotId> {
        let (mut lots, mut messages) = (Vec::new(), 0);
        if !self.lots.journal().is_shared() {
            return lots;
        }
        for turns in self.waiting.values() {
            let mut queues: Vec<_> = turns.queues.values().take(LOTS_PER_STEP).map(lots_of).collect();
            while !queues.is_empty() {
                queues.retain_mut(|queue| {
                    let has_room = lots.len() < LOTS_PER_STEP && messages < MESSAGES_PER_STEP;
                    let Some((lot, more)) = queue.next().filter(|_| has_room) else { return false };
                    lots.push(lot);
                    messages += more;
                    true
                });
            }
        }
        lots
    }

    #[tracing::instrument(level = "debug", skip_all, fields(lots = next.len()))]
    async fn route(&mut self, next: Vec<Next>, mut elected: Fence) -> Result<(), WorkerError> {
        use AppendError::{Busy, TooLarge, Unavailable};
        let directory = self.directory.snapshot();
        let now = self.lots.journal().now();
        let mut ledger = self.ledger.ahead();
        let ids: Vec<LotId> = next.iter().map(|next| next.lot).collect();
        let answers = self
            .lots
            .change_together(&mut elected, &ids, &self.actor, |_, lot, sending| {
                if sending.is_cancelled {
                    return (lot.cancel(), Routed { event: None, blocked: Vec::new(), is_paused: false });
                }
                if sending.is_paused && lot.counts().open > 0 {
                    return (Vec::new(), Routed { event: None, blocked: Vec::new(), is_paused: true });
                }
                let (event, blocked) = route_lot(lot, &sending.terms, &mut ledger, &directory, now);
                note_awaited(&self.awaited, &blocked, &sending.terms, now);
                (
                    event.clone().map(Event::from).into_iter().collect(),
                    Routed { event, blocked, is_paused: false },
                )
            })
            .await;
        self.elected = Some(elected);
        for misfit in ledger.take_misfits() {
            metrics::counter!("kite_split_restarts_total").increment(1);
            tracing::error!(%misfit, "the place of a split is none of its sequence: it begins anew, and is not exact over this");
        }
        let mut not_taken = Vec::new();
        let mut failure: Option<JournalError> = None;
        let mut is_certain = true;
        for (next, answer) in next.into_iter().zip(answers) {
            match answer {
                Ok(routed) => self.routed(next, routed),
                Err(LotsError::NotFound(lot)) => tracing::error!(%lot, "a sealed sending lacks a lot"),
                Err(LotsError::Journal(
                    error @ (JournalError::Decode { .. } | JournalError::Append(TooLarge { .. })),
                )) => {
                    tracing::error!(lot = %next.lot, error = describe(&error), "a lot cannot be routed; the others go on");
                    let retry_at = self.lots.journal().now() + chrono::Duration::seconds(BLOCKED_RETRY_S);
                    self.blocked_until.get_or_insert(retry_at);
                    self.blocked.push(Waiting::one(next));
                }
                // All or none: a lot that others have changed keeps the others out, too. It is read again next time.
                Err(LotsError::Contended(_)) => not_taken.push(next),
                Err(LotsError::Journal(error)) => {
                    use JournalError::{Append, Read};
                    // Of a lot that could not be read nothing was appended.
                    is_certain &= matches!(error, Read(_) | Append(Busy | Unavailable(_)));
                    not_taken.push(next);
                    failure = Some(error);
                }
                Err(LotsError::Fenced) => {
                    tracing::warn!("another router was elected; this one finds its place anew");
                    self.forget();
                    return Ok(());
                }
            }
        }
        self.after_failure(not_taken, is_certain);
        failure.map_or(Ok(()), |error| Err(error.into()))
    }

    /// What is certainly not in the log is tried again. If that is not certain, the position in the log is found
    /// again, under another election: after that, appends that are still on their way cannot succeed.
    fn after_failure(&mut self, not_taken: Vec<Next>, is_certain: bool) {
        if !is_certain {
            self.forget();
            return;
        }
        for next in not_taken.into_iter().rev() {
            self.waiting.entry(next.class).or_default().push_front(Waiting::one(next));
        }
    }

    fn routed(&mut self, next: Next, routed: Routed) {
        if routed.is_paused {
            let lot = next.lot;
            let lots = &mut self.paused.entry(lot.sending).or_insert_with(|| Waiting::none(next)).lots;
            lots.push_back(lot.number);
            return;
        }
        if let Some(event) = &routed.event {
            self.ledger.evolve(event);
            for route in &event.routes {
                let (relay, class) = (route.relay.to_string(), next.class.word());
                metrics::counter!("kite_routed_total", "relay" => relay, "class" => class)
                    .increment(route.messages.len() as u64);
            }
        }
        let Some(blocked) = routed.blocked.first() else { return };
        if self.blocked.is_empty() {
            // The others of this round are left out for the same reasons, or will be named next time.
            let (lot, channel) = (next.lot, blocked.channel);
            tracing::warn!(%lot, %channel, reason = blocked.reason(), "no relay can take these messages now");
        }
        let retry_at = self.lots.journal().now() + chrono::Duration::seconds(BLOCKED_RETRY_S);
        self.blocked_until.get_or_insert(retry_at);
        self.blocked.push(Waiting::one(next));
    }
}

#[async_trait]
impl Worker for Router {
    fn name(&self) -> &str {
        "router"
    }

    fn stands_by(&mut self) {
        self.forget();
    }

    async fn step(&mut self) -> Result<Step, WorkerError> {
        // A copy whose original may still be in use decides nothing about messages that both logs contain.
        if !self.directory.snapshot().instance.may_hand_over() {
            return Ok(Step::Idle(None));
        }
        self.directory.stay_current(self.lots.journal()).await?;
        let Some(position) = self.position else {
            self.find_place().await?;
            return Ok(Step::Worked);
        };
        let has_news = self.read_on(position).await?;
        self.follow_directory();
        if self.elected.is_none() && !self.waiting.values().all(|turns| turns.queues.is_empty()) {
            // Of an election whose answer was lost nothing is known, but that the next one counts.
            if !self.stand_for_election().await? {
                self.forget();
                return Ok(Step::Worked);
            }
        }
        let lots = self.next_lots();
        let Some(elected) = self.elected.filter(|_| !lots.is_empty()) else {
            return Ok(if has_news { Step::Worked } else { Step::Idle(self.blocked_until) });
        };
        let (all, ahead) = (self.lots.clone(), self.ahead());
        let (routed, ()) = tokio::join!(self.route(lots, elected), all.gather(&ahead));
        routed?;
        Ok(Step::Worked)
    }
}

/// These messages wait for whichever of the tripped relays comes back first.
fn note_awaited(awaited: &Awaited, blocked: &[RoutingBlocked], terms: &SendingAccepted, now: DateTime<Utc>) {
    let waiting = Awaiting { class: terms.class, expires_at: terms.expires_at };
    let valid_until = now + chrono::Duration::seconds(AWAITED_S);
    let left_out = blocked.iter().flat_map(|blocked| &blocked.left_out);
    for left in left_out.filter(|left| left.reason == Ineligible::BreakerTripped) {
        awaited.note(&left.relay, waiting, valid_until, now);
    }
}

fn route_lot(
    lot: &Lot,
    terms: &SendingAccepted,
    ledger: &mut LedgerAhead<'_>,
    directory: &DirectoryState,
    now: DateTime<Utc>,
) -> (Option<MessagesRouted>, Vec<RoutingBlocked>) {
    let context = directory.routing_context(terms, now);
    lot.route(ledger, &context, |channel, eligible| {
        policy_in_force(directory, &terms.tenant, channel, eligible)
    })
}
