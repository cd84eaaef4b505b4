//! Recipients that force one outcome each, whatever the seed and the scenario's shares.
//!
//! The table here is repeated for people in docs/relay-sim.md; a test plays every documented row against a
//! running simulator.

use std::sync::Arc;

use crate::codes::CodeStyle;

/// What a forced recipient brings about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Forced {
    /// Accepted, delivered and reported at once.
    Delivered,
    /// Refused at hand-over.
    Refused(Arc<str>),
    /// Accepted, then undelivered.
    Undelivered(Arc<str>),
    /// Refused on the first attempt, delivered on later ones.
    RefusedFirst(Arc<str>),
    /// Undelivered on the first attempt, delivered on later ones.
    UndeliveredFirst(Arc<str>),
    /// Deferred at the first so many hand-overs to this recipient, then delivered.
    NotNow { code: Arc<str>, times: u32 },
    /// A fault of the whole call in which the reference is first received.
    Call(ForcedCall),
    /// Delivered, but the receipt misbehaves.
    Receipt(ForcedReceipt),
}

/// Call faults that can be forced; `Once` faults strike only the first time a reference comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ForcedCall {
    AnswerLostOnce,
    AnswerLostAlways,
    SlowOnce,
    ResetOnce,
    UnavailableOnce,
}

/// Misbehaviours of a receipt that can be forced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ForcedReceipt {
    Never,
    Twice,
    BeforeResponse,
    Late,
    Foreign,
    OutOfOrder,
}

/// A row of the table, without the codes.
#[derive(Clone, Copy)]
enum Row {
    Delivered,
    Refused(&'static str),
    Undelivered(&'static str),
    RefusedFirst(&'static str),
    UndeliveredFirst(&'static str),
    NotNow(&'static str, u32),
    Call(ForcedCall),
    Receipt(ForcedReceipt),
}

/// A local part that begins so is a recipient of its own that forces the same as without what follows.
const MANY_GREYLISTED: &str = "greylisted-";

/// Last two digits of `010-9900-00NN`, e-mail local part (none where `refused+CODE@` serves), row.
const TABLE: [(u8, Option<&str>, Row); 39] = [
    (0, Some("delivered"), Row::Delivered),
    (10, None, Row::Refused("server_error")),
    (11, None, Row::Refused("no_such_number")),
    (12, None, Row::Refused("off")),
    (13, None, Row::Refused("sender_unregistered")),
    (14, None, Row::Refused("spam")),
    (15, None, Row::Refused("opt_out")),
    (16, None, Row::Refused("duplicate")),
    (17, None, Row::Refused("ad_rule")),
    (18, None, Row::Refused("balance")),
    (19, None, Row::Refused("timeout")),
    (20, None, Row::Refused("unlisted")),
    (30, None, Row::Undelivered("server_error")),
    (31, None, Row::Undelivered("no_such_number")),
    (32, None, Row::Undelivered("suspended")),
    (33, None, Row::Undelivered("refused_by_handset")),
    (34, None, Row::Undelivered("off")),
    (35, None, Row::Undelivered("busy")),
    (36, None, Row::Undelivered("memory_full")),
    (37, None, Row::Undelivered("spam_later")),
    (38, None, Row::Undelivered("timeout")),
    (39, None, Row::Undelivered("unlisted")),
    (40, None, Row::Undelivered("sender_forged")),
    (41, None, Row::Undelivered("network")),
    (50, Some("answer-lost"), Row::Call(ForcedCall::AnswerLostOnce)),
    (51, Some("slow-answer"), Row::Call(ForcedCall::SlowOnce)),
    (52, Some("reset"), Row::Call(ForcedCall::ResetOnce)),
    (53, Some("unavailable"), Row::Call(ForcedCall::UnavailableOnce)),
    (54, Some("answer-always-lost"), Row::Call(ForcedCall::AnswerLostAlways)),
    (60, Some("receipt-never"), Row::Receipt(ForcedReceipt::Never)),
    (61, Some("receipt-twice"), Row::Receipt(ForcedReceipt::Twice)),
    (62, Some("receipt-before-response"), Row::Receipt(ForcedReceipt::BeforeResponse)),
    (63, Some("receipt-late"), Row::Receipt(ForcedReceipt::Late)),
    (64, Some("receipt-foreign"), Row::Receipt(ForcedReceipt::Foreign)),
    (65, Some("receipt-out-of-order"), Row::Receipt(ForcedReceipt::OutOfOrder)),
    (70, Some("refused-first"), Row::RefusedFirst("server_error")),
    (71, Some("undelivered-first"), Row::UndeliveredFirst("server_error")),
    (80, Some("greylisted"), Row::NotNow("memory_full", 1)),
    (81, Some("never-now"), Row::NotNow("memory_full", u32::MAX)),
];

/// The outcome that a recipient forces at a relay of a dialect; `None` for ordinary recipients and for meanings
/// that the dialect has no code for.
pub(crate) fn forced(recipient: &str, style: CodeStyle) -> Option<Forced> {
    if let Some(number) = recipient.strip_prefix("010990000") {
        return by_number(number, style);
    }
    let (local, _domain) = recipient.split_once('@')?;
    by_local_part(local, style)
}

fn by_number(number: &str, style: CodeStyle) -> Option<Forced> {
    if number.len() != 2 {
        return None;
    }
    let number: u8 = number.parse().ok()?;
    let (_, _, row) = TABLE.iter().find(|(nn, _, _)| *nn == number)?;
    resolve(*row, style)
}

fn by_local_part(local: &str, style: CodeStyle) -> Option<Forced> {
    match local.split_once('+') {
        Some(("refused", code)) if !code.is_empty() => return Some(Forced::Refused(code.into())),
        Some(("undelivered", code)) if !code.is_empty() => return Some(Forced::Undelivered(code.into())),
        Some(_) | None => {}
    }
    let local = if local.starts_with(MANY_GREYLISTED) { "greylisted" } else { local };
    let (_, _, row) = TABLE.iter().find(|(_, name, _)| *name == Some(local))?;
    resolve(*row, style)
}

fn resolve(row: Row, style: CodeStyle) -> Option<Forced> {
    let code = |name| style.code(name).map(Arc::from);
    Some(match row {
        Row::Delivered => Forced::Delivered,
        Row::Refused(name) => Forced::Refused(code(name)?),
        Row::Undelivered(name) => Forced::Undelivered(code(name)?),
        Row::RefusedFirst(name) => Forced::RefusedFirst(code(name)?),
        Row::UndeliveredFirst(name) => Forced::UndeliveredFirst(code(name)?),
        Row::NotNow(name, times) => Forced::NotNow { code: code(name)?, times },
        Row::Call(fault) => Forced::Call(fault),
        Row::Receipt(fault) => Forced::Receipt(fault),
    })
}
