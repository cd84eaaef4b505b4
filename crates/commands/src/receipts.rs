//! Receipts: delivery reports of the relays, whatever their order. Durable when recorded; only then may they be
//! acknowledged to the relay.

use kite_domain::failure::FailureClass;
use kite_domain::ids::{AttemptReference, LotId};
use kite_domain::lot::Note;
use kite_domain::mutation::{self, Mutation};
use kite_domain::not_understood::{Misread, SaidHow};
use kite_domain::receipt::{
    ParkedReceipt, ParkedReceiptsSettled, RawReceipt, ReceiptStatus, ReceiptsParked, parked_stream,
};
use kite_domain::relay::RelayEntry;
use kite_domain::sending::MessageClass;
use kite_domain::slug::RelayId;
use kite_event_store::Expected;
use smol_str::{SmolStr, format_smolstr};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use crate::directory::{Directory, DirectoryState};
use crate::journal::{Cause, Entry, JournalError};
use crate::lots::{Lots, LotsError};
use crate::not_understood::{KeptSummary, NotUnderstoodBook};
use crate::trace;

/// What became of a delivery of receipts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReceiptSummary {
    /// Recorded, or known before.
    pub matched: usize,
    /// Kept until their message is known.
    pub parked: usize,
}

/// Takes receipts in. Cheap to clone.
#[derive(Clone)]
pub struct ReceiptBook {
    lots: Lots,
    directory: Directory,
    not_understood: NotUnderstoodBook,
}

impl ReceiptBook {
    /// Records into these lots.
    pub fn new(lots: Lots, directory: Directory) -> Self {
        let not_understood = NotUnderstoodBook::new(lots.journal().clone());
        Self { lots, directory, not_understood }
    }

    /// Records what a relay reports. Everything is in the log when this answers with `Ok`; on an error some of it may
    /// be, and the relay should say it all again.
    #[tracing::instrument(name = "record receipts", level = "debug", skip_all, fields(%relay, receipts = receipts.len()))]
    pub async fn record(
        &self,
        relay: &RelayId,
        receipts: Vec<RawReceipt>,
    ) -> Result<ReceiptSummary, JournalError> {
        let total = receipts.len();
        let unmatched = self.place(relay, &receipts).await?;
        let parked: Vec<RawReceipt> = unmatched.into_iter().map(|place| receipts[place].clone()).collect();
        let summary = ReceiptSummary { matched: total - parked.len(), parked: parked.len() };
        if !parked.is_empty() && !mutation::is_active(Mutation::UnmatchedReceiptDropped) {
            self.write(relay, ReceiptsParked { relay: relay.clone(), receipts: parked }.into()).await?;
        }
        if summary.parked > 0 {
            metrics::counter!("kite_receipts_parked_total", "relay" => relay.to_string())
                .increment(summary.parked as u64);
        }
        Ok(summary)
    }

    /// Keeps an answer of a relay that Kite could not read; see [`NotUnderstoodBook::keep`].
    ///
    /// # Errors
    /// The log accepts nothing.
    pub async fn keep_not_understood(
        &self,
        relay: &RelayId,
        how: SaidHow,
        misread: Vec<Misread>,
    ) -> Result<KeptSummary, JournalError> {
        self.not_understood.keep(relay, how, misread).await
    }

    /// Until when nothing more that is not understood of this relay is kept; see [`NotUnderstoodBook::full_until`].
    ///
    /// # Errors
    /// The log cannot be asked.
    pub async fn not_understood_full_until(
        &self,
        relay: &RelayId,
    ) -> Result<Option<chrono::DateTime<chrono::Utc>>, JournalError> {
        self.not_understood.full_until(relay).await
    }

    /// Tries parked receipts of a relay again; those that came before `give_up_before` are given up. Returns how many of
    /// them wait no more.
    pub async fn retry_parked(
        &self,
        relay: &RelayId,
        parked: &[ParkedReceipt],
        give_up_before: chrono::DateTime<chrono::Utc>,
    ) -> Result<usize, JournalError> {
        let receipts: Vec<RawReceipt> = parked.iter().map(|one| one.receipt.clone()).collect();
        let unmatched: HashSet<usize> = self.place(relay, &receipts).await?.into_iter().collect();
        let mut settled =
            ParkedReceiptsSettled { relay: relay.clone(), matched: Vec::new(), given_up: Vec::new() };
        for (place, one) in parked.iter().enumerate() {
            match unmatched.contains(&place) {
                false => settled.matched.push((&one.receipt).into()),
                true if one.parked_at < give_up_before => settled.given_up.push((&one.receipt).into()),
                true => {}
            }
        }
        let count = settled.matched.len() + settled.given_up.len();
        if count > 0 {
            self.write(relay, settled.into()).await?;
        }
        Ok(count)
    }

    async fn write(&self, relay: &RelayId, event: kite_domain::event::Event) -> Result<(), JournalError> {
        let journal = self.lots.journal();
        let entry = Entry {
            stream: parked_stream(relay),
            expected: Expected::Any,
            tenant: None,
            cause: Cause::new(actor(relay), journal.next_id()).in_trace(trace::current_parent()),
            events: vec![event],
        };
        journal.append_one(entry).await?;
        Ok(())
    }

    /// Records receipts with their lots. Returns the places of those that fit no attempt.
    async fn place(&self, relay: &RelayId, receipts: &[RawReceipt]) -> Result<Vec<usize>, JournalError> {
        // What a code means, and where a failed message goes next.
        let look = |directory: &Arc<DirectoryState>| match directory.relays.get(relay) {
            Some(_) => Ok(directory.clone()),
            None => Err(directory.clone()),
        };
        let directory = self.directory.judge(self.lots.journal(), look).await?;
        let directory = directory.unwrap_or_else(|without| without);
        let entry = directory.relays.get(relay);
        let mut by_lot: BTreeMap<LotId, (Vec<Note>, Vec<usize>)> = BTreeMap::new();
        let mut unmatched = Vec::new();
        for (place, receipt) in receipts.iter().enumerate() {
            let Ok(reference) = receipt.reference.parse::<AttemptReference>() else {
                unmatched.push(place);
                continue;
            };
            let (notes, places) = by_lot.entry(reference.message.lot()).or_default();
            notes.push(note(receipt, reference, entry));
            places.push(place);
        }
        let ids: Vec<LotId> = by_lot.keys().copied().collect();
        let sets: Vec<(Vec<Note>, Vec<usize>)> = by_lot.into_values().collect();
        let now = self.lots.journal().now();
        let answers = self
            .lots
            .change(&ids, &actor(relay), |index, lot, sending| {
                let terms = &sending.terms;
                let context = directory.routing_context(terms, now);
                let (events, strangers) = lot.receive(terms, relay, &sets[index].0, &context);
                (events, (strangers, lot.class))
            })
            .await;
        for ((notes, places), answer) in sets.iter().zip(answers) {
            match answer {
                Ok((strangers, class)) => {
                    count(relay, class, notes, &strangers);
                    unmatched.extend(strangers.into_iter().map(|index| places[index]));
                }
                Err(LotsError::NotFound(_)) => unmatched.extend(places),
                // They wait, and whoever understands the lot finds their message. The others of the call continue.
                Err(LotsError::Journal(error)) if error.is_of_newer_program() => unmatched.extend(places),
                Err(LotsError::Contended(_) | LotsError::Fenced) => {
                    return Err(kite_event_store::AppendError::Busy.into());
                }
                Err(LotsError::Journal(error)) => return Err(error),
            }
        }
        Ok(unmatched)
    }
}

/// Counts receipts that found their message, however they came: pushed, pulled or asked for.
fn count(relay: &RelayId, class: MessageClass, notes: &[Note], strangers: &[usize]) {
    for (status, word) in
        [(ReceiptStatus::Delivered, "delivered"), (ReceiptStatus::Undelivered, "undelivered")]
    {
        let is_counted = |(place, note): &(usize, &Note)| note.status == status && !strangers.contains(place);
        let receipts = notes.iter().enumerate().filter(is_counted).count();
        if receipts > 0 {
            let (relay, class) = (relay.to_string(), class.word());
            metrics::counter!("kite_receipts_total", "relay" => relay, "class" => class, "status" => word)
                .increment(receipts as u64);
        }
    }
    let is_unclassified = |(place, note): &(usize, &Note)| {
        let is_failure = note.status == ReceiptStatus::Undelivered;
        is_failure && note.class == FailureClass::Unclassified && !strangers.contains(place)
    };
    let unclassified = notes.iter().enumerate().filter(is_unclassified).count();
    if unclassified > 0 {
        metrics::counter!("kite_relay_unclassified_codes_total", "relay" => relay.to_string())
            .increment(unclassified as u64);
    }
}

fn actor(relay: &RelayId) -> SmolStr {
    format_smolstr!("relay:{relay}")
}

fn note(receipt: &RawReceipt, reference: AttemptReference, entry: Option<&RelayEntry>) -> Note {
    let meaning = entry.map(|entry| entry.meaning(&[&receipt.code]));
    let class = meaning.as_ref().and_then(|meaning| meaning.failure()).unwrap_or(FailureClass::Unclassified);
    let is_failure = receipt.status == ReceiptStatus::Undelivered;
    Note {
        seq: reference.message.seq,
        attempt: reference.attempt,
        status: receipt.status,
        code: receipt.code.clone(),
        class,
        billable_failure: is_failure && meaning.is_some_and(|meaning| meaning.billable),
        at_ms: receipt.at.timestamp_millis(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receipts_that_found_their_message_are_counted_by_what_they_say() {
        use FailureClass::{Content, Unclassified};
        use ReceiptStatus::{Delivered, Undelivered};
        // No two of the numbers are the same, so that none can stand for another.
        let said = [
            (Undelivered, Unclassified),
            (Undelivered, Unclassified),
            (Undelivered, Content),
            (Undelivered, Content),
            (Delivered, Unclassified),
            (Delivered, Unclassified),
            (Delivered, Unclassified),
            (Delivered, Content),
        ];
        let note = |(seq, (status, class)): (u32, (ReceiptStatus, FailureClass))| Note {
            seq,
            attempt: 1,
            status,
            code: "4000".into(),
            class,
            billable_failure: false,
            at_ms: 0,
        };
        let notes: Vec<Note> = (0..).zip(said).map(note).collect();
        let counted = |notes: &[Note], strangers: &[usize]| {
            let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
            let relay = RelayId::from_trusted("alpha");
            metrics::with_local_recorder(&recorder, || count(&relay, MessageClass::Notice, notes, strangers));
            recorder.handle().render()
        };
        let text = counted(&notes, &[1]);
        for line in [
            r#"kite_receipts_total{relay="alpha",class="notice",status="delivered"} 4"#,
            r#"kite_receipts_total{relay="alpha",class="notice",status="undelivered"} 3"#,
            r#"kite_relay_unclassified_codes_total{relay="alpha"} 1"#,
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line}\n{text}");
        }
        assert_eq!(
            counted(&notes, &[0, 1, 2, 3, 4, 5, 6, 7]),
            "",
            "where there is nothing to count there is no counter"
        );
    }
}
