//! The judgement: the log, as `kite audit` prints it, against what the relays believe they received.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, ensure};
use kite_domain::ids::SEQS_PER_LOT;
use kite_relay_sim::LedgerView;
use kite_testkit::operator::{self, Place};
use kite_testkit::oracle::{Oracle, Verdict};
use kite_testkit::relays::{MAIL_CALLS, MAIL_RELAY, PHONE_RELAYS};

use super::load::Accepted;

/// Of a hundred messages that were not cancelled, at least so many are delivered: relays refuse and fail a few of them.
const DELIVERED_PER_CENT_MIN: u64 = 80;

/// Reads what the relays believe.
pub(crate) fn read_ledgers(oracle: &mut Oracle, ledger: &LedgerView) -> anyhow::Result<()> {
    for entry in ledger.all_entries() {
        oracle.read_ledger(&serde_json::from_value(serde_json::to_value(&entry)?)?);
    }
    Ok(())
}

/// Judges. `stops` is how often the process ended in the middle of calls.
pub(crate) fn judge(
    verdict: &Verdict,
    ledger: &LedgerView,
    accepted: &Accepted,
    stops: u64,
) -> anyhow::Result<()> {
    ensure!(verdict.is_clean(), "{verdict}");
    ensure!(verdict.messages == accepted.messages(), "{verdict}");
    ensure!(!verdict.splits.is_empty(), "nothing was routed: {verdict}");
    let meant = verdict.messages - verdict.outcomes.cancelled;
    let share_is_met = verdict.outcomes.delivered * 100 >= meant * DELIVERED_PER_CENT_MIN;
    ensure!(share_is_met, "too little was delivered: {verdict}");
    check_unknown(verdict, ledger, stops)
}

/// What the log says of the lots of messages that expired at a relay which could have told: where it happened cannot be
/// looked at later.
pub(crate) fn stories(verdict: &Verdict, kite: &Path, place: &Place) -> anyhow::Result<String> {
    let mut stories = String::new();
    let names = |relay: &str| verdict.expired_messages.get(relay).into_iter().flatten();
    for message in tellers().flat_map(names) {
        let (sending, seq) = message.rsplit_once('-').context("the id of a message")?;
        let lot = seq.parse::<u32>()? / SEQS_PER_LOT;
        let told = operator::read_stream(kite, place, &format!("lot-{sending}-{lot}"))?;
        writeln!(stories, "the lot of {message}:\n{told}")?;
    }
    Ok(stories)
}

/// The relays that can be asked, or called again.
fn tellers() -> impl Iterator<Item = &'static str> {
    PHONE_RELAYS.iter().map(|(relay, _)| *relay).filter(|relay| *relay != "gamma")
}

/// Who may be left not knowing, and how often. A relay that can be asked, or called again, leaves nothing unknown here,
/// where none is out for long. The mail server does, of what was in a call when the process died or the answer was lost.
/// The last relay can do neither: what expires there was refused in such an answer or never arrived, message by message.
fn check_unknown(verdict: &Verdict, ledger: &LedgerView, stops: u64) -> anyhow::Result<()> {
    let expired_at = |relay: &str| verdict.expired_at.get(relay).copied().unwrap_or(0);
    for relay in tellers() {
        ensure!(expired_at(relay) == 0, "{} messages expired at {relay}: {verdict}", expired_at(relay));
    }
    let mail = ledger.counters(MAIL_RELAY).context("the mail server counts")?;
    let unseen = verdict.refused_unseen;
    ensure!(unseen <= mail.refused, "{unseen} refused by mail, which counts {}: {verdict}", mail.refused);
    let by_mail = stops * MAIL_CALLS + mail.answers_lost;
    ensure!(expired_at(MAIL_RELAY) <= by_mail, "more than {by_mail} expired at {MAIL_RELAY}: {verdict}");
    Ok(())
}
