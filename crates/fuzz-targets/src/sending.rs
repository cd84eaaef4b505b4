//! The body of a sending, from JSON through its preview to the log.

use kite_api::fuzzing;
use kite_commands::Cause;
use kite_commands::accept::{AcceptError, AcceptLimits, Accepted, SendRequest};
use kite_commands::event_store::{EventStore, Filter, RecordedEvent};
use kite_domain::event::Event;
use kite_domain::lot::{Lot, SplitLedger};
use kite_domain::slug::TenantId;
use std::cell::RefCell;

use crate::house::{Desk, House};

/// No lot may be larger, in bytes (its whole event).
const LOT_BYTES_MAX: usize = 512 << 10;
/// What a lot's event may take beside its recipients.
const ENVELOPE_BYTES_MAX: usize = 64 << 10;

thread_local! {
    static HOUSE: RefCell<Option<House>> = const { RefCell::new(None) };
}

/// Reads a body and, if it can be read, previews and accepts it. Every row is accounted for, and the log holds exactly
/// what was answered.
pub fn sending(bytes: &[u8]) {
    let request = match fuzzing::sending(bytes, &AcceptLimits::default()) {
        Ok(request) => request,
        Err(problem) => {
            let code = problem.code().kind().code;
            assert!(matches!(code, "malformed-json" | "invalid-body"), "{problem:?}");
            return;
        }
    };
    HOUSE.with_borrow_mut(|kept| {
        let house = kept.get_or_insert_with(House::new);
        let desk = Desk::empty(&house.directory);
        house.runtime.block_on(preview_and_accept(&desk, request));
    });
}

async fn preview_and_accept(desk: &Desk, request: SendRequest) {
    let tenant = TenantId::from_trusted("acme");
    let rows = request.recipients.len();
    let preview = desk.acceptance.preview(&tenant, &request, &SplitLedger::default()).await;
    let cause = Cause::new("fuzz", desk.journal.next_id());
    let strict = request.strict;
    let accepted = match desk.acceptance.without_key(&tenant, request.class).await {
        Ok(open) => desk.acceptance.accept(&cause, &tenant, request, open).await,
        Err(error) => Err(error),
    };
    match (preview, accepted) {
        (Ok(preview), Ok(accepted)) => {
            assert_eq!(preview.messages, accepted.messages);
            assert_eq!(preview.refused, accepted.refused);
            assert_eq!(preview.duplicates, accepted.duplicates);
            assert!(preview.cost_milliwon <= preview.cost_max_milliwon);
            assert!(preview.rows.iter().all(|row| !row.text.contains("#{")));
            let routed: u32 = preview.relays.iter().map(|share| share.messages).sum();
            assert!(routed == preview.messages || !preview.blocked.is_empty(), "{preview:?}");
            assert_eq!(rows, accepted.messages as usize + accepted.refused.len() + accepted.duplicates.len());
            in_the_log(desk, &accepted).await;
        }
        (Ok(preview), Err(AcceptError::RowsRefused(refused))) => {
            assert!(preview.messages == 0 || strict);
            assert_eq!(preview.refused, refused);
        }
        (Err(AcceptError::Refused(previewed)), Err(AcceptError::Refused(accepted))) => {
            assert_eq!(previewed, accepted);
            assert!(!accepted.detail.is_empty() && !accepted.field.is_empty());
        }
        (preview, accepted) => panic!("the preview says {preview:?}, and then {accepted:?}"),
    }
}

async fn in_the_log(desk: &Desk, accepted: &Accepted) {
    let mut after = 0;
    let mut messages = 0;
    let mut is_sealed = false;
    loop {
        let page = desk.store.read_all(after, 1_000, &Filter::everything()).await.expect("memory is read");
        for recorded in &page.events {
            match decoded(recorded) {
                Event::LotAccepted(lot) => {
                    assert!(
                        recorded.data.len() <= LOT_BYTES_MAX + ENVELOPE_BYTES_MAX,
                        "{}",
                        recorded.data.len()
                    );
                    let lot = Lot::new(&lot);
                    assert_eq!(lot.counts().open as usize, lot.len());
                    messages += lot.len();
                }
                Event::SendingAccepted(sealed) => {
                    assert_eq!((sealed.sending, sealed.messages), (accepted.sending, accepted.messages));
                    is_sealed = true;
                }
                other => panic!("{other:?}"),
            }
        }
        if page.next == after {
            break;
        }
        after = page.next;
    }
    assert!(is_sealed);
    assert_eq!(messages, accepted.messages as usize);
}

fn decoded(recorded: &RecordedEvent) -> Event {
    let event = Event::from_json(&recorded.kind, recorded.schema_version, &recorded.data);
    event.unwrap_or_else(|error| panic!("what was written cannot be read: {error}: {recorded:?}"))
}
