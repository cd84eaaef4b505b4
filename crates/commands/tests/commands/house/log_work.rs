//! What a perfect read model would answer, folded from the log on each question. It can be made to lag.

use async_trait::async_trait;
use chrono::{DateTime, Duration, Utc};
use kite_commands::Journal;
use kite_commands::journal::Told;
use kite_commands::open_work::{OpenWork, OpenWorkError, RouterMemory, Workload};
use kite_domain::advice::RelayFigures;
use kite_domain::event::Event;
use kite_domain::ids::{LotId, SendingId};
use kite_domain::load::{Load, LoadKind};
use kite_domain::lot::{Lot, SplitLedger};
use kite_domain::receipt::{ParkedReceipt, ParkedStretch};
use kite_domain::sending::Sending;
use kite_domain::slug::{RelayId, TenantId};
use kite_domain::text::Channel;
use kite_event_store::{Filter, Position};
use parking_lot::Mutex;
use smol_str::SmolStr;
use std::collections::{BTreeMap, BTreeSet, HashSet};

#[derive(Default)]
struct Book {
    position: Position,
    sendings: BTreeMap<SendingId, Sending>,
    lots: BTreeMap<LotId, Lot>,
    ledger: SplitLedger,
    parked: Vec<(RelayId, ParkedReceipt)>,
}

/// See the module.
pub(crate) struct LogWork {
    journal: Journal,
    /// Nothing after this position is known; none: everything is.
    horizon: Mutex<Option<Position>>,
    pub(crate) figures: Mutex<Vec<RelayFigures>>,
    /// How often they were asked for.
    pub(crate) figures_asked: Mutex<usize>,
    /// Questions are refused.
    pub(crate) is_down: Mutex<bool>,
    /// It knows of no sending how it stands, and says so.
    pub(crate) is_blind: Mutex<bool>,
    /// By how much it has come further than whoever asks for the router's place knows.
    pub(crate) ahead: Mutex<Position>,
    /// How many parked receipts were given out.
    pub(crate) parked_given: Mutex<usize>,
}

impl LogWork {
    pub(crate) fn new(journal: Journal) -> Self {
        Self {
            journal,
            horizon: Mutex::default(),
            figures: Mutex::default(),
            figures_asked: Mutex::default(),
            is_down: Mutex::default(),
            is_blind: Mutex::default(),
            ahead: Mutex::default(),
            parked_given: Mutex::default(),
        }
    }

    pub(crate) fn forget_after(&self, position: Option<Position>) {
        *self.horizon.lock() = position;
    }

    /// All receipts of a relay that wait for their message.
    pub(crate) async fn parked(&self, relay: &RelayId) -> Vec<ParkedReceipt> {
        let parked = self.book().await.unwrap().parked.into_iter();
        parked.filter(|(of, _)| of == relay).map(|(_, one)| one).collect()
    }

    /// What hints are taken from.
    async fn hints(&self) -> Result<Book, OpenWorkError> {
        let mut book = self.book().await?;
        if *self.is_blind.lock() {
            book.sendings.clear();
            book.lots.clear();
        }
        Ok(book)
    }

    async fn book(&self) -> Result<Book, OpenWorkError> {
        if *self.is_down.lock() {
            return Err(OpenWorkError::new("it is down"));
        }
        let horizon = self.horizon.lock().unwrap_or(Position::MAX);
        let mut book = Book::default();
        loop {
            let (told, next) =
                self.journal.read_all(book.position, 500, &Filter::everything()).await.unwrap();
            let is_end = next == book.position;
            for told in told.iter().filter(|told| told.recorded.position <= horizon) {
                book.fold(told);
            }
            if is_end || next > horizon {
                book.position = book.position.min(horizon).max(next.min(horizon));
                return Ok(book);
            }
            book.position = next;
        }
    }
}

impl Book {
    fn fold(&mut self, told: &Told) {
        let stream = told.recorded.stream.as_str();
        match &told.event {
            Event::LotAccepted(accepted) => {
                let lot = Lot::new(accepted);
                self.lots.insert(lot.id, lot);
            }
            Event::MessagesRouted(routed) => self.ledger.evolve(routed),
            Event::ReceiptsParked(parked) => {
                let parked_at = told.recorded.metadata.time;
                for receipt in &parked.receipts {
                    let one = ParkedReceipt { receipt: receipt.clone(), parked_at };
                    self.parked.push((parked.relay.clone(), one));
                }
            }
            Event::ParkedReceiptsSettled(settled) => {
                self.parked.retain(|(relay, one)| {
                    let receipt = &one.receipt;
                    *relay != settled.relay || !settled.settles(&receipt.reference, receipt.status)
                });
            }
            _ => {}
        }
        if let Some(lot) = LotId::from_stream(stream).and_then(|id| self.lots.get_mut(&id)) {
            lot.evolve(&told.event);
        }
        if let Some(id) = stream.strip_prefix("sending-").and_then(|id| id.parse().ok()) {
            self.sendings.entry(id).or_default().evolve(&told.event, told.recorded.metadata.time);
        }
    }

    /// Lots of sealed sendings.
    fn sealed(&self) -> impl Iterator<Item = (&Lot, &Sending)> {
        let sending =
            |lot: &Lot| self.sendings.get(&lot.id.sending).filter(|sending| sending.accepted.is_some());
        self.lots.values().filter_map(move |lot| Some((lot, sending(lot)?)))
    }
}

#[async_trait]
impl OpenWork for LogWork {
    async fn router_memory(&self, _: Vec<SmolStr>) -> Result<RouterMemory, OpenWorkError> {
        let book = self.hints().await?;
        let mut unrouted: Vec<SendingId> = book
            .sealed()
            .filter(|(lot, sending)| {
                let is_free = sending.accepted.as_ref().unwrap().scheduled_at.is_none()
                    || sending.released_at.is_some();
                lot.has_unrouted() && is_free
            })
            .map(|(lot, _)| lot.id.sending)
            .collect();
        unrouted.dedup();
        let carries = book.ledger.carries().map(|(key, carry)| (key.clone(), carry.clone())).collect();
        let position = book.position;
        let parked = self.parked_sendings(None, usize::MAX).await?;
        let position = position + *self.ahead.lock();
        Ok(RouterMemory { position, carries_position: position, carries, unrouted, parked })
    }

    async fn workload(&self) -> Result<Workload, OpenWorkError> {
        let book = self.book().await?;
        let mut loads: BTreeMap<TenantId, Load> = BTreeMap::new();
        for (lot, sending) in book.sealed() {
            let accepted = sending.accepted.as_ref().unwrap();
            let is_scheduled = accepted.scheduled_at.is_some() && sending.released_at.is_none();
            let kind = LoadKind::of(accepted.class, is_scheduled);
            loads.entry(accepted.tenant.clone()).or_default().add(kind, lot.counts().open.into());
        }
        Ok(Workload { position: book.position, loads: loads.into_iter().collect() })
    }

    async fn due_sendings(&self, now: DateTime<Utc>, limit: usize) -> Result<Vec<SendingId>, OpenWorkError> {
        let book = self.hints().await?;
        let due = book.sendings.iter().filter(|(_, sending)| {
            let scheduled = sending.accepted.as_ref().and_then(|accepted| accepted.scheduled_at);
            scheduled.is_some_and(|at| at <= now) && sending.released_at.is_none()
        });
        Ok(due.map(|(id, _)| *id).take(limit).collect())
    }

    async fn due_lots(&self, now: DateTime<Utc>, limit: usize) -> Result<Vec<LotId>, OpenWorkError> {
        let book = self.hints().await?;
        let mut due: Vec<(i64, LotId)> = book
            .sealed()
            .filter_map(|(lot, sending)| {
                let due_ms = lot.next_due_ms(sending.accepted.as_ref()?.expires_at)?;
                (due_ms <= now.timestamp_millis()).then_some((due_ms, lot.id))
            })
            .collect();
        due.sort_unstable();
        Ok(due.into_iter().map(|(_, id)| id).take(limit).collect())
    }

    async fn lots_to_sweep(&self, after: Option<LotId>, limit: usize) -> Result<Vec<LotId>, OpenWorkError> {
        let book = self.hints().await?;
        let mut waiting: Vec<LotId> = book
            .sealed()
            .filter(|(lot, _)| after.is_none_or(|after| lot.id > after) && !lot.pending().is_empty())
            .map(|(lot, _)| lot.id)
            .collect();
        waiting.sort_unstable();
        waiting.truncate(limit);
        Ok(waiting)
    }

    async fn cancelled_lots(&self, limit: usize) -> Result<Vec<LotId>, OpenWorkError> {
        let book = self.hints().await?;
        let open =
            book.sealed().filter(|(lot, sending)| sending.cancelled_at.is_some() && lot.counts().open > 0);
        Ok(open.map(|(lot, _)| lot.id).take(limit).collect())
    }

    async fn finished_sendings(&self, limit: usize) -> Result<Vec<SendingId>, OpenWorkError> {
        let book = self.hints().await?;
        let open: HashSet<SendingId> =
            book.sealed().filter(|(lot, _)| lot.counts().open > 0).map(|(lot, _)| lot.id.sending).collect();
        let finished = book
            .sendings
            .iter()
            .filter(|(id, sending)| sending.accepted.is_some() && !sending.completed && !open.contains(id));
        Ok(finished.map(|(id, _)| *id).take(limit).collect())
    }

    async fn parked_sendings(
        &self,
        after: Option<SendingId>,
        limit: usize,
    ) -> Result<Vec<SendingId>, OpenWorkError> {
        let sendings = self.book().await?.sendings.into_keys();
        let is_blind = *self.is_blind.lock();
        Ok(sendings.filter(|id| is_blind && after.is_none_or(|after| *id > after)).take(limit).collect())
    }

    async fn parked_relays(&self) -> Result<Vec<RelayId>, OpenWorkError> {
        let relays: BTreeSet<RelayId> =
            self.book().await?.parked.into_iter().map(|(relay, _)| relay).collect();
        Ok(relays.into_iter().collect())
    }

    async fn parked_receipts(
        &self,
        stretch: ParkedStretch,
        limit: usize,
    ) -> Result<Vec<ParkedReceipt>, OpenWorkError> {
        let mut parked: Vec<_> = self
            .book()
            .await?
            .parked
            .into_iter()
            .filter(|(relay, one)| *relay == stretch.relay && one.parked_at <= stretch.until)
            .map(|(_, one)| ((one.parked_at, one.receipt.reference.clone(), Some(one.receipt.status)), one))
            .collect();
        let after = stretch.after.map_or((SmolStr::default(), None), |last| (last.reference, last.status));
        let after = (stretch.from, after.0, after.1);
        parked.retain(|(place, _)| *place > after);
        parked.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        parked.truncate(limit);
        *self.parked_given.lock() += parked.len();
        Ok(parked.into_iter().map(|(_, one)| one).collect())
    }

    async fn figures(
        &self,
        channels: BTreeSet<Channel>,
        now: DateTime<Utc>,
    ) -> Result<Vec<RelayFigures>, OpenWorkError> {
        *self.figures_asked.lock() += 1;
        let fits =
            |one: &&RelayFigures| channels.contains(&one.channel) && one.until <= now + Duration::seconds(1);
        Ok(self.figures.lock().iter().filter(fits).cloned().collect())
    }
}
