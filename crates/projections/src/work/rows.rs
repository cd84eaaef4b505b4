//! The rows of open work.

use kite_domain::ids::{LotId, SendingId};
use kite_domain::load::LoadKind;
use kite_domain::sending::MessageClass;
use kite_domain::slug::TenantId;
use smol_str::SmolStr;

use super::schema::{LOADS, OPEN_LOTS, OPEN_SENDINGS, PARKED_RECEIPTS, UNCLASSIFIED_CODES, UNSEALED_LOTS};
use crate::engine::{Cells, Record, Row};
use crate::error::ApplyError;
use crate::table::{Pick, Statement, verbs};

/// The place of a class in the order of urgency.
pub(super) fn urgency(class: MessageClass) -> i64 {
    match class {
        MessageClass::Otp => 0,
        MessageClass::Notice => 1,
        MessageClass::Ad => 2,
    }
}

/// A sealed sending that is not completed.
#[derive(Debug, Clone)]
pub(super) struct OpenSendingRow {
    pub(super) tenant: TenantId,
    pub(super) class: i64,
    pub(super) accepted_ms: i64,
    pub(super) scheduled_ms: Option<i64>,
    pub(super) expires_ms: i64,
    pub(super) is_released: bool,
    pub(super) is_paused: bool,
    pub(super) is_cancelled: bool,
    pub(super) lots: i64,
    pub(super) lots_routed: i64,
    pub(super) open_messages: i64,
}

impl OpenSendingRow {
    /// As what its messages count.
    pub(super) fn kind(&self) -> LoadKind {
        let is_later = self.scheduled_ms.is_some_and(|at_ms| at_ms > self.accepted_ms);
        let is_otp = self.class == urgency(MessageClass::Otp);
        let class = if is_otp { MessageClass::Otp } else { MessageClass::Notice };
        LoadKind::of(class, is_later && !self.is_released)
    }
}

impl Record for OpenSendingRow {
    type Key = SendingId;
    type Aside = ();

    verbs!(OPEN_SENDINGS);

    fn put_key(id: &SendingId, cells: &mut Cells<'_>) {
        cells.put(id);
    }

    fn put(&self, id: &SendingId, cells: &mut Cells<'_>) {
        cells.put(id);
        cells.put(self.tenant.as_str());
        cells.put(self.class);
        cells.put(self.accepted_ms);
        cells.put(self.scheduled_ms);
        cells.put(self.expires_ms);
        cells.put(self.is_released);
        cells.put(self.is_paused);
        cells.put(self.is_cancelled);
        cells.put(self.lots);
        cells.put(self.lots_routed);
        cells.put(self.open_messages);
    }

    fn read(row: &Row<'_>) -> Result<(SendingId, Self), ApplyError> {
        let sending = Self {
            tenant: TenantId::from_trusted(row.text(1)?),
            class: row.get(2)?,
            accepted_ms: row.get(3)?,
            scheduled_ms: row.get(4)?,
            expires_ms: row.get(5)?,
            is_released: row.get(6)?,
            is_paused: row.get(7)?,
            is_cancelled: row.get(8)?,
            lots: row.get(9)?,
            lots_routed: row.get(10)?,
            open_messages: row.get(11)?,
        };
        Ok((SendingId(row.uuid(0)?), sending))
    }
}

fn put_lot(id: &LotId, cells: &mut Cells<'_>) {
    cells.put(&id.sending);
    cells.put(id.number);
}

fn lot_id(row: &Row<'_>) -> Result<LotId, ApplyError> {
    Ok(LotId { sending: SendingId(row.uuid(0)?), number: row.get(1)? })
}

/// What its acceptance says of a lot. The rows of lots begin with it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Accepted {
    /// Where in its stream it was accepted.
    pub(super) version: i64,
    pub(super) tenant: TenantId,
    pub(super) class: i64,
}

impl Accepted {
    fn put(&self, id: &LotId, cells: &mut Cells<'_>) {
        put_lot(id, cells);
        cells.put(self.version);
        cells.put(self.tenant.as_str());
        cells.put(self.class);
    }

    fn read(row: &Row<'_>) -> Result<Self, ApplyError> {
        Ok(Self { version: row.get(2)?, tenant: TenantId::from_trusted(row.text(3)?), class: row.get(4)? })
    }
}

/// A lot of a sealed sending with messages that are not final.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct OpenLotRow {
    pub(super) accepted: Accepted,
    pub(super) open: i64,
    pub(super) has_unrouted: bool,
    pub(super) has_pending: bool,
    pub(super) next_due_ms: Option<i64>,
    pub(super) next_end_ms: i64,
}

/// The open lots of a sending.
pub(super) static OPEN_LOTS_OF: Statement = Statement::select(&OPEN_LOTS, Pick::All, &["sending"]);

impl Record for OpenLotRow {
    type Key = LotId;
    type Aside = ();

    verbs!(OPEN_LOTS);

    fn put_key(id: &LotId, cells: &mut Cells<'_>) {
        put_lot(id, cells);
    }

    fn put(&self, id: &LotId, cells: &mut Cells<'_>) {
        self.accepted.put(id, cells);
        cells.put(self.open);
        cells.put(self.has_unrouted);
        cells.put(self.has_pending);
        cells.put(self.next_due_ms);
        cells.put(self.next_end_ms);
    }

    fn read(row: &Row<'_>) -> Result<(LotId, Self), ApplyError> {
        let lot = Self {
            accepted: Accepted::read(row)?,
            open: row.get(5)?,
            has_unrouted: row.get(6)?,
            has_pending: row.get(7)?,
            next_due_ms: row.get(8)?,
            next_end_ms: row.get(9)?,
        };
        Ok((lot_id(row)?, lot))
    }
}

/// A lot whose sending has no seal.
#[derive(Debug, Clone)]
pub(super) struct UnsealedLotRow {
    pub(super) accepted: Accepted,
    pub(super) messages: i64,
    pub(super) accepted_ms: i64,
}

/// The lots of a sending without a seal.
pub(super) static UNSEALED_LOTS_OF: Statement = Statement::select(&UNSEALED_LOTS, Pick::All, &["sending"]);

impl Record for UnsealedLotRow {
    type Key = LotId;
    type Aside = ();

    verbs!(UNSEALED_LOTS);

    fn put_key(id: &LotId, cells: &mut Cells<'_>) {
        put_lot(id, cells);
    }

    fn put(&self, id: &LotId, cells: &mut Cells<'_>) {
        self.accepted.put(id, cells);
        cells.put(self.messages);
        cells.put(self.accepted_ms);
    }

    fn read(row: &Row<'_>) -> Result<(LotId, Self), ApplyError> {
        let lot = Self { accepted: Accepted::read(row)?, messages: row.get(5)?, accepted_ms: row.get(6)? };
        Ok((lot_id(row)?, lot))
    }
}

/// How much of a tenant's is not final, of a kind.
#[derive(Debug, Clone)]
pub(super) struct LoadRow(pub(super) i64);

impl Record for LoadRow {
    /// The tenant, and the place of the kind.
    type Key = (SmolStr, i64);
    type Aside = ();

    verbs!(LOADS);

    fn put_key((tenant, kind): &Self::Key, cells: &mut Cells<'_>) {
        cells.put(tenant);
        cells.put(*kind);
    }

    fn put(&self, key: &Self::Key, cells: &mut Cells<'_>) {
        Self::put_key(key, cells);
        cells.put(self.0);
    }

    fn read(row: &Row<'_>) -> Result<(Self::Key, Self), ApplyError> {
        Ok(((row.text(0)?, row.get(1)?), Self(row.get(2)?)))
    }
}

/// A receipt that fits no message yet.
#[derive(Debug, Clone)]
pub(super) struct ReceiptRow {
    pub(super) code: SmolStr,
    pub(super) relay_reference: Option<SmolStr>,
    pub(super) at_ms: i64,
    pub(super) parked_ms: i64,
}

/// The parked receipts of a reference, whatever they say.
pub(super) static RECEIPTS_OF: Statement =
    Statement::select(&PARKED_RECEIPTS, Pick::All, &["relay", "reference"]);

impl Record for ReceiptRow {
    /// Relay, reference, status.
    type Key = (SmolStr, SmolStr, SmolStr);
    type Aside = ();

    verbs!(PARKED_RECEIPTS);

    fn put_key((relay, reference, status): &Self::Key, cells: &mut Cells<'_>) {
        cells.put(relay);
        cells.put(reference);
        cells.put(status);
    }

    fn put(&self, key: &Self::Key, cells: &mut Cells<'_>) {
        Self::put_key(key, cells);
        cells.put(&self.code);
        cells.put(self.relay_reference.as_ref());
        cells.put(self.at_ms);
        cells.put(self.parked_ms);
    }

    fn read(row: &Row<'_>) -> Result<(Self::Key, Self), ApplyError> {
        let receipt = Self {
            code: row.text(3)?,
            relay_reference: row.optional_str(4)?.map(SmolStr::new),
            at_ms: row.get(5)?,
            parked_ms: row.get(6)?,
        };
        Ok(((row.text(0)?, row.text(1)?, row.text(2)?), receipt))
    }
}

/// A code of a relay that had no class when it came.
#[derive(Debug, Clone)]
pub(super) struct CodeRow {
    pub(super) times: i64,
    pub(super) newest_ms: i64,
}

/// The codes of a relay.
pub(super) static CODES_OF: Statement = Statement::select(&UNCLASSIFIED_CODES, Pick::All, &["relay"]);

impl Record for CodeRow {
    /// Relay and code.
    type Key = (SmolStr, SmolStr);
    type Aside = ();

    verbs!(UNCLASSIFIED_CODES);

    fn put_key((relay, code): &Self::Key, cells: &mut Cells<'_>) {
        cells.put(relay);
        cells.put(code);
    }

    fn put(&self, key: &Self::Key, cells: &mut Cells<'_>) {
        Self::put_key(key, cells);
        cells.put(self.times);
        cells.put(self.newest_ms);
    }

    fn read(row: &Row<'_>) -> Result<(Self::Key, Self), ApplyError> {
        Ok(((row.text(0)?, row.text(1)?), Self { times: row.get(2)?, newest_ms: row.get(3)? }))
    }
}
