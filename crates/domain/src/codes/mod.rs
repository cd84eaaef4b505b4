//! What a relay's code means: the code dictionary, as data.
//!
//! A dictionary is a JSON file in `data/codes`, compiled in and parsed once. It says for each code of one family of
//! relays whether the message was accepted, delivered or failed, and why. A code that it does not hold is
//! [`FailureClass::Unclassified`]: never guessed from its neighbours, and the raw code is kept in every case.
//!
//! A key may stand for many codes: in `4xx` and `5.7.x` an `x` stands for any number. The exact code wins, then the
//! key with the fewest `x`.
//!
//! A dictionary holds every code of its official list. Where the list itself gives no reason, or speaks of another call
//! than a hand-over, the entry's class is unclassified, too: the code is known, and why the message failed is not.
//!
//! What an operator says of a code at one relay wins over the dictionary ([`crate::relay::RelayEntry::meaning`]).
//!
//! Deliberately absent: what to do about a failure ([`crate::failure`]), and when a relay bills (its contract).

mod own;

pub use own::own_reason;

use std::collections::HashMap;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::failure::FailureClass;

/// What a code says about the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CodeOutcome {
    /// Taken over by the relay, or passed on; the result is still to come.
    Accepted,
    /// At the recipient.
    Delivered,
    /// Not delivered, or not known to be, for this reason.
    Failed(FailureClass),
}

/// Who says what a code means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MeaningSource {
    /// The dictionary.
    Dictionary,
    /// An operator, for one relay.
    Operator,
    /// Nobody: the code is unclassified.
    Nobody,
}

/// What one code means. Borrowed from the dictionary, so that looking up a code allocates nothing (codes of up to 23
/// bytes are stored in place).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeMeaning<'dictionary> {
    /// The code as the relay gave it.
    pub code: SmolStr,
    /// What it says about the message.
    pub outcome: CodeOutcome,
    /// Where that is from.
    pub source: MeaningSource,
    /// No other result of the same attempt is expected after this one.
    pub is_final: bool,
    /// The same message to the same recipient would fail the same way again.
    pub permanent: bool,
    /// Something else may be tried: another relay or another channel.
    pub failover_eligible: bool,
    /// A message that ends with this code is charged where the relay bills what it delivers.
    pub billable: bool,
    /// One phrase in Korean.
    pub text_ko: &'dictionary str,
    /// One phrase in English.
    pub text_en: &'dictionary str,
}

impl CodeMeaning<'_> {
    /// Why the message failed; nothing if it was accepted or delivered.
    pub fn failure(&self) -> Option<FailureClass> {
        match self.outcome {
            CodeOutcome::Failed(class) => Some(class),
            CodeOutcome::Accepted | CodeOutcome::Delivered => None,
        }
    }

    /// Whether the dictionary or an operator gives the code a meaning.
    pub fn is_known(&self) -> bool {
        self.source != MeaningSource::Nobody
    }
}

/// The codes of one family of relays.
#[derive(Debug)]
pub struct CodeDictionary {
    name: String,
    entries: HashMap<SmolStr, Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DictionaryFile {
    dictionary: String,
    #[serde(rename = "about")]
    _about: String,
    codes: HashMap<SmolStr, Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    class: EntryClass,
    #[serde(rename = "final")]
    is_final: bool,
    permanent: bool,
    failover_eligible: bool,
    billable: bool,
    text_ko: String,
    text_en: String,
}

/// The word in the file: an outcome, or the class of a failure.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(untagged)]
enum EntryClass {
    Success(SuccessWord),
    Failure(FailureClass),
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SuccessWord {
    Accepted,
    Delivered,
}

impl From<EntryClass> for CodeOutcome {
    fn from(class: EntryClass) -> Self {
        match class {
            EntryClass::Success(SuccessWord::Accepted) => Self::Accepted,
            EntryClass::Success(SuccessWord::Delivered) => Self::Delivered,
            EntryClass::Failure(class) => Self::Failed(class),
        }
    }
}

const FILES: [&str; 4] = [
    include_str!("../../data/codes/solapi.json"),
    include_str!("../../data/codes/nhn.json"),
    include_str!("../../data/codes/nhn-dlr.json"),
    include_str!("../../data/codes/smtp.json"),
];

/// A dictionary file that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the code dictionary cannot be read")]
pub struct DictionaryError(#[from] serde_json::Error);

impl CodeDictionary {
    /// The names of the dictionaries that are compiled in.
    pub fn names() -> impl Iterator<Item = &'static str> {
        built_in().iter().map(|dictionary| dictionary.name.as_str())
    }

    /// The dictionary of that name: `solapi`, `nhn`, `nhn-dlr` or `smtp`.
    pub fn named(name: &str) -> Option<&'static Self> {
        built_in().iter().find(|dictionary| dictionary.name == name)
    }

    /// Reads a dictionary in the form of the files in `data/codes`.
    ///
    /// # Errors
    /// The text is not JSON of that form; the source says where.
    pub fn from_json(text: &str) -> Result<Self, DictionaryError> {
        let file: DictionaryFile = serde_json::from_str(text)?;
        Ok(Self { name: file.dictionary, entries: file.codes })
    }

    /// What `code` means. A code that is not in the dictionary is unclassified: not final knowledge of anything, never a
    /// guess.
    pub fn lookup(&self, code: &str) -> CodeMeaning<'_> {
        self.find(code).unwrap_or_else(|| unclassified(code))
    }

    /// What the first of `codes` that the dictionary holds means; for a reply with more than one code, the most telling
    /// first (for SMTP the enhanced code, then the basic one). If it holds none, the first code is unclassified.
    pub fn lookup_first(&self, codes: &[&str]) -> CodeMeaning<'_> {
        codes
            .iter()
            .find_map(|code| self.find(code))
            .unwrap_or_else(|| unclassified(codes.first().copied().unwrap_or_default()))
    }

    /// How many keys it has.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What `code` means, if the dictionary holds it.
    pub fn find(&self, code: &str) -> Option<CodeMeaning<'_>> {
        let code = code.trim();
        let entry = self.entries.get(code).or_else(|| self.find_pattern(code))?;
        Some(CodeMeaning {
            code: code.into(),
            outcome: entry.class.into(),
            source: MeaningSource::Dictionary,
            is_final: entry.is_final,
            permanent: entry.permanent,
            failover_eligible: entry.failover_eligible,
            billable: entry.billable,
            text_ko: &entry.text_ko,
            text_en: &entry.text_en,
        })
    }

    /// Tries the keys with an `x` that can stand for `code`: `5.7.x`, `5.x.x` for a dotted code, `4xx` for one of three
    /// digits.
    fn find_pattern(&self, code: &str) -> Option<&Entry> {
        if code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_digit()) {
            return self.entries.get(format!("{}xx", &code[..1]).as_str());
        }
        let (class, rest) = code.split_once('.')?;
        let (subject, detail) = rest.split_once('.')?;
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if ![class, subject, detail].into_iter().all(is_number) {
            return None;
        }
        self.entries
            .get(format!("{class}.{subject}.x").as_str())
            .or_else(|| self.entries.get(format!("{class}.x.x").as_str()))
    }
}

pub(crate) fn unclassified(code: &str) -> CodeMeaning<'static> {
    CodeMeaning {
        code: code.trim().into(),
        outcome: CodeOutcome::Failed(FailureClass::Unclassified),
        source: MeaningSource::Nobody,
        is_final: true,
        permanent: false,
        failover_eligible: FailureClass::Unclassified.is_failover_eligible(),
        billable: false,
        text_ko: "사전에 없는 코드",
        text_en: "a code that the dictionary does not hold",
    }
}

fn built_in() -> &'static [CodeDictionary] {
    static DICTIONARIES: OnceLock<Vec<CodeDictionary>> = OnceLock::new();
    DICTIONARIES.get_or_init(|| {
        FILES
            .iter()
            .map(|text| CodeDictionary::from_json(text).expect("the files compiled in are read by a test"))
            .collect()
    })
}

#[cfg(test)]
mod official;
#[cfg(test)]
mod tests {
    use super::*;
    use FailureClass as Class;

    fn class_of(dictionary: &str, code: &str) -> CodeOutcome {
        CodeDictionary::named(dictionary).unwrap().lookup(code).outcome
    }

    #[test]
    fn every_file_is_read_and_found_by_its_name() {
        assert_eq!(CodeDictionary::names().collect::<Vec<_>>(), ["solapi", "nhn", "nhn-dlr", "smtp"]);
        assert!(CodeDictionary::named("Solapi").is_none());
    }

    #[test]
    fn smtp_replies() {
        use CodeOutcome::{Accepted, Failed};
        for (code, expected) in [
            ("250", Accepted),
            ("2.1.5", Accepted),
            ("421", Failed(Class::RelayFault)),
            ("451", Failed(Class::RelayFault)),
            ("499", Failed(Class::RelayFault)),
            ("4.4.5", Failed(Class::RelayFault)),
            ("550", Failed(Class::HandsetPermanent)),
            ("5.1.1", Failed(Class::HandsetPermanent)),
            ("552", Failed(Class::HandsetTemporary)),
            ("5.2.2", Failed(Class::HandsetTemporary)),
            ("4.2.2", Failed(Class::HandsetTemporary)),
            ("5.7.1", Failed(Class::Content)),
            ("5.7.509", Failed(Class::Content)),
            ("5.7.23", Failed(Class::Sender)),
            ("5.7.8", Failed(Class::RelayFault)),
            ("554", Failed(Class::Unclassified)),
            ("5.0.0", Failed(Class::Unclassified)),
        ] {
            assert_eq!(class_of("smtp", code), expected, "{code}");
        }
    }

    #[test]
    fn the_most_telling_known_code_of_a_reply_decides() {
        let smtp = CodeDictionary::named("smtp").unwrap();
        let spam = smtp.lookup_first(&["5.7.1", "550"]);
        assert_eq!((spam.code.as_str(), spam.failure()), ("5.7.1", Some(Class::Content)));
        let vague = smtp.lookup_first(&["5.0.0", "550"]);
        assert_eq!((vague.code.as_str(), vague.failure()), ("550", Some(Class::HandsetPermanent)));
        let nothing = smtp.lookup_first(&["5.0.0", "554"]);
        assert_eq!((nothing.code.as_str(), nothing.is_known()), ("5.0.0", false));
        assert!(!smtp.lookup_first(&[]).is_known());
    }

    #[test]
    fn an_unknown_code_is_never_guessed_and_is_kept() {
        let solapi = CodeDictionary::named("solapi").unwrap();
        for code in ["3099", "4001", "", "xx", "3xx", "-1", "999"] {
            let meaning = solapi.lookup(code);
            assert_eq!(meaning.failure(), Some(Class::Unclassified), "{code}");
            assert_eq!(meaning.code, code);
            assert!(!meaning.billable && !meaning.is_known());
        }
        assert_eq!(class_of("smtp", "5.7."), CodeOutcome::Failed(Class::Unclassified));
        assert_eq!(class_of("smtp", "4.x"), CodeOutcome::Failed(Class::Unclassified));
    }

    #[test]
    fn every_entry_agrees_with_the_rules_of_its_class() {
        for dictionary in built_in() {
            for (code, entry) in &dictionary.entries {
                let place = format!("{} {code}", dictionary.name);
                assert!(!entry.text_ko.is_empty() && !entry.text_en.is_empty(), "{place}: no text");
                match CodeOutcome::from(entry.class) {
                    CodeOutcome::Accepted => {
                        assert!(!entry.is_final && !entry.billable && !entry.failover_eligible, "{place}");
                    }
                    CodeOutcome::Delivered => {
                        assert!(entry.is_final && entry.billable && !entry.failover_eligible, "{place}");
                    }
                    CodeOutcome::Failed(class) => {
                        assert_eq!(entry.failover_eligible, class.is_failover_eligible(), "{place}");
                        assert_eq!(entry.is_final, class != Class::Unknown, "{place}");
                        assert!(!entry.billable, "{place}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_file_with_a_wrong_word_is_refused() {
        let wrong = r#"{"dictionary":"d","about":"","codes":{"1":{"class":"relay_falt","final":true,
            "permanent":false,"failover_eligible":true,"billable":false,"text_ko":"가","text_en":"a"}}}"#;
        assert!(CodeDictionary::from_json(wrong).is_err());
        assert!(CodeDictionary::from_json(&wrong.replace("falt", "fault")).is_ok());
    }
}
