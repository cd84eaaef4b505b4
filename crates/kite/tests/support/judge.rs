//! The judgement: the log, as `kite audit` prints it, against what the relays believe they received.

use anyhow::{Context, ensure};
use kite_relay_sim::LedgerView;
use kite_testkit::carriers::{MAIL_CALLS, MAIL_RELAY, PHONE_BATCH, PHONE_CALLS, PHONE_RELAYS};
use kite_testkit::oracle::{LedgerEntry, Oracle, Outcomes, Verdict};
use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

use super::load::Accepted;

/// More events than any test writes.
const EVENTS_MAX: usize = 10_000_000;

/// Reads the whole log of a stopped house.
pub(crate) fn read_log(oracle: &mut Oracle, data: &Path) -> anyhow::Result<()> {
    let limit = EVENTS_MAX.to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_kite"));
    let output = command.args(["audit", "--limit", &limit, "--data"]).arg(data).output()?;
    let complaints = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "kite audit ended with {}: {complaints}", output.status);
    let printed = String::from_utf8(output.stdout)?;
    printed.lines().try_for_each(|line| oracle.read_event(line).with_context(|| line.to_owned()))
}

/// Reads what the relays believe.
pub(crate) fn read_ledgers(oracle: &mut Oracle, ledger: &LedgerView) {
    for entry in ledger.all_entries() {
        oracle.read_ledger(&LedgerEntry {
            relay: entry.relay.to_string(),
            message: entry.message,
            attempt: entry.attempt,
            recipient: entry.recipient,
            times_received: entry.times_received.into(),
            deliveries: entry.deliveries.into(),
        });
    }
}

/// Judges a stopped house. `stops` is how often its process ended in the middle of calls.
pub(crate) fn judge(
    mut oracle: Oracle,
    data: &Path,
    ledger: &LedgerView,
    accepted: &Accepted,
    stops: u64,
) -> anyhow::Result<Verdict> {
    accepted.iter().for_each(|(sending, messages)| oracle.claim(sending, *messages));
    read_log(&mut oracle, data)?;
    read_ledgers(&mut oracle, ledger);
    let verdict = oracle.judge();
    ensure!(verdict.is_clean(), "{verdict}");
    ensure!(verdict.messages == accepted.values().sum::<u64>(), "{verdict}");
    ensure!(!verdict.splits.is_empty(), "nothing was routed: {verdict}");
    check_unknown(&verdict, ledger, stops)?;
    Ok(verdict)
}

/// Who may be left not knowing, and how often. A relay that can be asked, or called again, or that reports what it got,
/// leaves nothing unknown. Of the others, only what was in a call when the process died or the answer was lost.
fn check_unknown(verdict: &Verdict, ledger: &LedgerView, stops: u64) -> anyhow::Result<()> {
    let expired_at = |relay: &str| verdict.expired_at.get(relay).copied().unwrap_or(0);
    for (relay, _) in PHONE_RELAYS.iter().filter(|(relay, _)| *relay != "gamma") {
        ensure!(expired_at(relay) == 0, "{} messages expired at {relay}: {verdict}", expired_at(relay));
    }
    // What it refused in an answer that was lost gets no receipt either.
    let refused = ledger.counters("gamma").context("gamma counts")?.refused;
    let at_gamma = stops * PHONE_CALLS * PHONE_BATCH + refused;
    ensure!(expired_at("gamma") <= at_gamma, "more than {at_gamma} expired at gamma: {verdict}");
    let answers_lost = ledger.counters(MAIL_RELAY).context("the mail server counts")?.answers_lost;
    let by_mail = stops * MAIL_CALLS + answers_lost;
    ensure!(expired_at(MAIL_RELAY) <= by_mail, "more than {by_mail} expired at {MAIL_RELAY}: {verdict}");
    Ok(())
}

/// The read models say what the log says.
pub(crate) fn compare(outcomes: &Outcomes, told: &HashMap<String, String>) -> anyhow::Result<()> {
    let count = |word: &str| told.values().filter(|outcome| *outcome == word).count() as u64;
    let told = Outcomes {
        delivered: count("delivered"),
        undelivered: count("undelivered"),
        expired: count("expired"),
        cancelled: count("cancelled"),
        refused: count("refused"),
    };
    ensure!(told == *outcomes, "the API tells {told:?}, the log {outcomes:?}");
    Ok(())
}
