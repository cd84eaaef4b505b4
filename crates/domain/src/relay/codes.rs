//! What a relay's codes mean: by its dictionary, and by what an operator says of single ones.
//!
//! The class that a code had when it came in is in the events of the lot. What is said here holds for what comes in from
//! then on; nothing looks a code up again while a history is replayed.

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use std::collections::BTreeMap;

use super::RelayEntry;
use crate::codes::{CodeDictionary, CodeMeaning, CodeOutcome, MeaningSource, unclassified};
use crate::failure::FailureClass;
use crate::slug::RelayId;

/// The most codes of one relay that an operator may give a meaning.
pub const CODES_CLASSED_MAX: usize = 1_000;

/// What an operator says of a code of one relay, in place of the dictionary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeClassed {
    /// Whose code.
    pub relay: RelayId,
    /// The code as the relay gives it.
    pub code: SmolStr,
    /// What it means.
    pub class: FailureClass,
    /// The relay charges for a message that ends with it, where it bills what it delivers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub billable: bool,
    /// One phrase for people, in whatever language the operator writes; none: the dictionary's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// The dictionary decides again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeUnclassed {
    /// Whose code.
    pub relay: RelayId,
    /// The code as the relay gives it.
    pub code: SmolStr,
}

/// What operators say of the codes of one relay, by code.
pub type ClassedCodes = BTreeMap<SmolStr, CodeClassed>;

impl RelayEntry {
    /// What the first of `codes` means of which something is known, the most telling first: what an operator said of it, or
    /// else the dictionary. If nothing is known of any, the first is unclassified.
    pub fn meaning(&self, codes: &[&str]) -> CodeMeaning<'_> {
        let dictionary = CodeDictionary::named(&self.profile.codes);
        let known = |code: &&str| {
            let listed = || dictionary.and_then(|dictionary| dictionary.find(code));
            match self.classed.get(code.trim()) {
                Some(classed) => Some(said(classed, listed())),
                None => listed(),
            }
        };
        let first = codes.first().copied().unwrap_or_default();
        codes.iter().find_map(known).unwrap_or_else(|| unclassified(first))
    }
}

fn said<'entry>(classed: &'entry CodeClassed, listed: Option<CodeMeaning<'entry>>) -> CodeMeaning<'entry> {
    let class = classed.class;
    let listed = listed.unwrap_or_else(|| unclassified(&classed.code));
    let text = classed.text.as_deref();
    CodeMeaning {
        code: classed.code.clone(),
        outcome: CodeOutcome::Failed(class),
        source: MeaningSource::Operator,
        is_final: class != FailureClass::Unknown,
        permanent: listed.permanent && listed.failure() == Some(class),
        failover_eligible: class.is_failover_eligible(),
        billable: classed.billable,
        text_ko: text.unwrap_or(listed.text_ko),
        text_en: text.unwrap_or(listed.text_en),
    }
}
