//! The documented tables of codes and forced recipients, row by row.

use std::collections::HashSet;

use kite_relay_sim::{CodeStyle, EntryStatus, MEANINGS};
use serde_json::{Value, json};

use crate::support::{Alpha, Callback, SECRET, SENDING, eventually, flush, scenario};

const PAGE: &str = concat!(
    include_str!("../../../../docs/relay-protocol.md"),
    include_str!("../../../../docs/relay-sim.md")
);
/// What an ordinary recipient gets here, so that forced ones stand out.
const ORDINARY_CODE: &str = "ordinary";

/// Cells of the table whose header begins with `header`.
fn table(header: &str) -> Vec<Vec<String>> {
    let start = PAGE.find(header).unwrap_or_else(|| panic!("no table {header}"));
    let rows = PAGE[start..].lines().skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

#[test]
fn the_documented_codes_are_the_codes() {
    let documented = table("| meaning | solapi | nhn |");
    let cell = |code: Option<&str>| code.unwrap_or("–").to_owned();
    let held: Vec<Vec<String>> = MEANINGS
        .iter()
        .map(|meaning| vec![meaning.name.to_owned(), cell(meaning.solapi), cell(meaning.nhn)])
        .collect();
    assert_eq!(documented, held);
}

struct Row {
    number: String,
    mail: String,
    hand_over: String,
    code: String,
    result: String,
    receipt: String,
}

fn rows(style: CodeStyle) -> Vec<Row> {
    let code = match style {
        CodeStyle::Solapi => 3,
        CodeStyle::Nhn => 4,
    };
    let row = |cells: Vec<String>| Row {
        number: cells[0].clone(),
        mail: cells[1].clone(),
        hand_over: cells[2].clone(),
        code: cells[code].clone(),
        result: cells[5].clone(),
        receipt: cells[6].clone(),
    };
    table("| NN | e-mail | hand-over |").into_iter().map(row).collect()
}

struct Stage {
    alpha: Alpha,
    callback: Callback,
    style: CodeStyle,
}

impl Stage {
    async fn set(style: CodeStyle) -> Self {
        let callback = Callback::start().await;
        let name = serde_json::to_value(style).unwrap();
        let behaviour = json!({
            "refusals": { ORDINARY_CODE: 1.0 },
            "faults": { "slow_answer": { "ms": 20 } },
            "receipts": { "callback_url": callback.url, "secret": SECRET, "late": { "ms": 3_600_000 },
                          "out_of_order": { "ms": 3_600_000 } },
        });
        let alpha = Alpha::with(scenario(7, name.as_str().unwrap(), behaviour)).await;
        Self { alpha, callback, style }
    }

    async fn play(&self, row: &Row, recipient: &str, sequence: usize) {
        let context = format!("row {} as {recipient} ({:?})", row.number, self.style);
        let first = format!("{SENDING}-{sequence}-1");
        if row.code == "–" {
            let answer = self.alpha.one(&first, recipient).await;
            assert_eq!(answer["code"], ORDINARY_CODE, "{context}: an ordinary recipient");
            return;
        }
        if !self.hand_over(row, recipient, &first, &context).await {
            return;
        }
        self.check_result(row, &first, &context).await;
        if row.result == "undelivered on attempt 1" {
            let second = format!("{SENDING}-{sequence}-2");
            self.accepted(recipient, &second, false, &context).await;
            self.has_status(&second, EntryStatus::Delivered, &context).await;
        }
        self.check_receipts(row, &first, &context).await;
    }

    async fn accepted(&self, recipient: &str, reference: &str, duplicate: bool, context: &str) {
        let answer = self.alpha.one(reference, recipient).await;
        assert_eq!(
            (&answer["status"], &answer["duplicate"]),
            (&json!("accepted"), &json!(duplicate)),
            "{context}"
        );
    }

    /// Plays the hand-over column; true when the first reference was accepted.
    async fn hand_over(&self, row: &Row, recipient: &str, reference: &str, context: &str) -> bool {
        let lot = [(reference.to_owned(), recipient)];
        let call = || self.alpha.hand_over(&lot);
        match row.hand_over.as_str() {
            "accepted" => {
                self.accepted(recipient, reference, false, context).await;
                if row.receipt == "before response" {
                    assert_eq!(
                        self.callback.receipts_of(reference).len(),
                        1,
                        "{context}: not before the response"
                    );
                }
            }
            "refused" | "refused on attempt 1" => {
                let answer = self.alpha.one(reference, recipient).await;
                assert_eq!(
                    (&answer["status"], &answer["code"]),
                    (&json!("refused"), &json!(row.code)),
                    "{context}"
                );
                if row.hand_over != "refused" {
                    let second = format!("{}2", reference.strip_suffix('1').unwrap());
                    self.accepted(recipient, &second, false, context).await;
                }
                return false;
            }
            "deferred once" | "deferred always" => {
                for is_first in [true, false] {
                    let answer = self.alpha.one(reference, recipient).await;
                    if !is_first && row.hand_over == "deferred once" {
                        assert_eq!(answer["status"], json!("accepted"), "{context}");
                        return true;
                    }
                    assert_eq!(answer["status"], json!("deferred"), "{context}");
                    assert_eq!(self.alpha.status_of(reference).await["status"], "not_found", "{context}");
                }
                return false;
            }
            "answer lost" => {
                assert!(call().await.is_err(), "{context}");
                self.accepted(recipient, reference, true, context).await;
            }
            "answer always lost" => {
                assert!(call().await.is_err(), "{context}");
                assert!(call().await.is_err(), "{context}");
            }
            "slow answer" => {
                let before = self.alpha.counters().slow_answers;
                self.accepted(recipient, reference, false, context).await;
                assert_eq!(self.alpha.counters().slow_answers, before + 1, "{context}");
            }
            "reset" => {
                assert!(call().await.is_err(), "{context}");
                assert_eq!(self.alpha.status_of(reference).await["status"], "not_found", "{context}");
                self.accepted(recipient, reference, false, context).await;
            }
            "unavailable" => {
                assert_eq!(call().await.unwrap().0, 503, "{context}");
                assert_eq!(self.alpha.status_of(reference).await["status"], "not_found", "{context}");
                self.accepted(recipient, reference, false, context).await;
            }
            other => panic!("{context}: unknown hand-over {other:?}"),
        }
        true
    }

    async fn has_status(&self, reference: &str, status: EntryStatus, context: &str) {
        let ledger = self.alpha.sim.ledger();
        eventually(context, || ledger.find("alpha", reference).is_some_and(|entry| entry.status == status))
            .await;
    }

    async fn check_result(&self, row: &Row, reference: &str, context: &str) {
        let status = match row.result.as_str() {
            "delivered" => EntryStatus::Delivered,
            "undelivered" | "undelivered on attempt 1" => EntryStatus::Undelivered,
            other => panic!("{context}: unknown result {other:?}"),
        };
        self.has_status(reference, status, context).await;
        assert_eq!(self.alpha.status_of(reference).await["code"], json!(row.code), "{context}");
    }

    async fn check_receipts(&self, row: &Row, reference: &str, context: &str) {
        if row.receipt == "late" {
            assert!(self.callback.receipts_of(reference).is_empty(), "{context}: too early");
        }
        flush(&self.alpha).await;
        let expected = match row.receipt.as_str() {
            "never" => 0,
            "twice" => 2,
            "once" | "late" | "before response" | "and a foreign one" => 1,
            other => panic!("{context}: unknown receipt {other:?}"),
        };
        let receipts = self.callback.receipts_of(reference);
        assert_eq!(receipts.len(), expected, "{context}");
        assert!(receipts.iter().all(|receipt| receipt["code"] == json!(row.code)), "{context}");
        if row.receipt == "and a foreign one" {
            assert!(!self.foreign().is_empty(), "{context}");
        }
    }

    fn foreign(&self) -> Vec<Value> {
        let foreign = |receipt: &Value| !receipt["reference"].as_str().unwrap().starts_with(SENDING);
        self.callback.receipts().into_iter().filter(foreign).collect()
    }
}

#[tokio::test]
async fn every_documented_row_holds_in_both_dialects() {
    for style in [CodeStyle::Solapi, CodeStyle::Nhn] {
        let stage = Stage::set(style).await;
        let rows = rows(style);
        assert!(rows.len() > 30, "the table was not found");
        for (index, row) in rows.iter().enumerate() {
            stage.play(row, &format!("010990000{}", row.number), 100 + index).await;
            if row.mail != "–" {
                stage.play(row, &format!("{}@example.com", row.mail), 300 + index).await;
            }
        }
    }
}

#[tokio::test]
async fn every_other_number_of_the_range_is_an_ordinary_one() {
    let documented: HashSet<String> = rows(CodeStyle::Solapi).into_iter().map(|row| row.number).collect();
    let stage = Stage::set(CodeStyle::Solapi).await;
    for number in (0..100).map(|number| format!("{number:02}")).filter(|number| !documented.contains(number))
    {
        let answer = stage.alpha.one(&format!("{SENDING}-{number}-1"), &format!("010990000{number}")).await;
        assert_eq!(answer["code"], ORDINARY_CODE, "{number} forces something and is not documented");
    }
}

#[tokio::test]
async fn an_email_address_can_force_any_code() {
    let stage = Stage::set(CodeStyle::Solapi).await;
    let refused = stage.alpha.one(&format!("{SENDING}-0-1"), "refused+3057@example.com").await;
    assert_eq!((&refused["status"], &refused["code"]), (&json!("refused"), &json!("3057")));
    stage.alpha.one(&format!("{SENDING}-1-1"), "undelivered+3042@example.com").await;
    stage.has_status(&format!("{SENDING}-1-1"), EntryStatus::Undelivered, "undelivered+3042").await;
}
