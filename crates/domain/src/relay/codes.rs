//! What a relay's codes mean: by its dictionary, and by what an operator says about single ones.
//!
//! The class that a code had when it came in is stored in the events of the lot. A new meaning applies to what comes
//! in from then on; replaying a history looks no code up.

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use std::collections::BTreeMap;

use super::RelayEntry;
use crate::codes::{CodeDictionary, CodeMeaning, CodeOutcome, MeaningSource, unclassified};
use crate::failure::FailureClass;
use crate::slug::RelayId;

/// The most codes of one relay that an operator may give a meaning.
pub const CODES_CLASSED_MAX: usize = 1_000;

/// The meaning that an operator gives a code of one relay, in place of the dictionary.
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

/// The meanings that operators have given to codes of one relay, by code.
pub type ClassedCodes = BTreeMap<SmolStr, CodeClassed>;

impl RelayEntry {
    /// The meaning of the first of `codes` that has one; the most telling code comes first. An operator's meaning
    /// comes before the dictionary. If none is known, the first code is unclassified.
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
