//! The marking of advertisements (정보통신망법 제50조 제4항): what must stand in the text, and where.
//!
//! A text message begins with `(광고)` and the sender's name and ends with `무료수신거부` and a number that can
//! be called for free. An e-mail's subject begins with `(광고)` and its text tells how to unsubscribe. Both
//! count towards the bytes of the message, so marking comes before measuring.
//!
//! A text that is not marked can be [marked](AdvertisementRules::mark). A text that is marked *wrongly*, such
//! as `[광고]` or `(광 고)`, is itself a violation and is refused, never fixed: marking it again would hide
//! what its writer did.
//!
//! Deliberately absent: consent, refusals and the forbidden hours, which are about the recipient and the moment
//! and not about the text (see [`time_window`](crate::time_window)).

use crate::address::{PhoneError, PhoneKind, PhoneNumber};
use crate::text::normalise;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use std::borrow::Cow;
use std::fmt;

/// The words of the law, as data of a rule set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AdvertisementRules {
    /// What an advertisement begins with.
    pub marking: SmolStr,
    /// What is before the number for refusing.
    pub refusal_phrase: SmolStr,
    /// Phrases that tell the reader of an e-mail how to unsubscribe, in lower case; the text must contain one of
    /// them.
    pub unsubscribe_phrases: Vec<SmolStr>,
}

impl Default for AdvertisementRules {
    fn default() -> Self {
        Self {
            marking: SmolStr::new_static("(광고)"),
            refusal_phrase: SmolStr::new_static("무료수신거부"),
            unsubscribe_phrases: vec![SmolStr::new_static("수신거부"), SmolStr::new_static("unsubscribe")],
        }
    }
}

/// A number that can be called for free to refuse advertisements: 080 and 7 or 8 more digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RefusalNumber(PhoneNumber);

/// Why a text is not a number for refusing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefusalNumberError {
    /// It is no telephone number.
    #[error(transparent)]
    NotANumber(#[from] PhoneError),
    /// Refusing must be free, and only 080 numbers are.
    #[error("{number} is not free to call; only 080 numbers are")]
    NotFree {
        /// The number in canonical form.
        number: PhoneNumber,
    },
}

impl RefusalNumber {
    /// Reads a number as people write it.
    ///
    /// # Errors
    /// If it is not a number or not an 080 number.
    pub fn parse(raw: &str) -> Result<Self, RefusalNumberError> {
        let number = PhoneNumber::parse(raw)?;
        if number.kind() != PhoneKind::TollFree080 {
            return Err(RefusalNumberError::NotFree { number });
        }
        Ok(Self(number))
    }

    /// The canonical text, digits only.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for RefusalNumber {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Who advertises: what the marking must name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advertiser {
    /// The name by which recipients know the sender.
    pub name: SmolStr,
    /// Where they refuse for free.
    pub refusal_number: RefusalNumber,
}

/// How a text breaks the marking rules. Serialises with its stable code and its details.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, strum::IntoStaticStr)]
#[serde(tag = "code", rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum AdRuleViolation {
    /// The text does not begin with the marking.
    #[error("an advertisement must begin with {marking}")]
    MarkingMissing {
        /// The marking of the law.
        marking: SmolStr,
    },
    /// The text begins with something that imitates the marking but is not it.
    #[error("{found:?} is an altered marking; an advertisement must begin with exactly {marking}")]
    MarkingAltered {
        /// How the text begins.
        found: String,
        /// The marking of the law.
        marking: SmolStr,
    },
    /// The marking is there, but something is before it.
    #[error("{marking} must be the very beginning, not at index {position}")]
    MarkingNotFirst {
        /// Where it stands, in characters from 0.
        position: usize,
        /// The marking of the law.
        marking: SmolStr,
    },
    /// The sender's name does not follow the marking.
    #[error("the sender's name {name} must follow the marking")]
    SenderNameMissing {
        /// The name.
        name: SmolStr,
    },
    /// The text does not say how to refuse.
    #[error("an advertisement must end with {phrase} and an 080 number")]
    RefusalMissing {
        /// The phrase of the law.
        phrase: SmolStr,
    },
    /// The phrase is there, but no 080 number follows it.
    #[error("no 080 number follows {phrase}")]
    RefusalNumberMissing {
        /// The phrase of the law.
        phrase: SmolStr,
    },
    /// The number in the text is not the advertiser's.
    #[error("the number for refusing is {found}, but the sender's is {expected}")]
    RefusalNumberWrong {
        /// The number in the text.
        found: RefusalNumber,
        /// The advertiser's number.
        expected: RefusalNumber,
    },
    /// Something follows the number for refusing.
    #[error("{phrase} and its number must be the end of the text")]
    RefusalNotLast {
        /// The phrase of the law.
        phrase: SmolStr,
    },
    /// An e-mail has no subject to mark.
    #[error("an advertisement by e-mail needs a subject")]
    SubjectMissing,
    /// An e-mail does not say how to unsubscribe.
    #[error("an advertisement by e-mail must tell how to unsubscribe ({phrases}) and give a link or an address for it", phrases = .phrases.join(" or "))]
    UnsubscribeMissing {
        /// What would be recognised.
        phrases: Vec<SmolStr>,
    },
}

impl AdRuleViolation {
    /// Stable code for problem documents and stored reasons.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.into()
    }
}

impl AdvertisementRules {
    /// Checks that a text message is marked as the law demands. Works on finished texts and on templates whose
    /// marking is fixed text.
    ///
    /// # Errors
    /// The first rule that is broken, in the order of the text.
    pub fn check(&self, text: &str, advertiser: &Advertiser) -> Result<(), AdRuleViolation> {
        let text = normalise(text);
        let rest = self.check_marking(&text)?;
        self.check_name(rest, advertiser)?;
        self.check_refusal(&text, advertiser)
    }

    /// The text with whatever marking it lacks: `(광고)` and the name before it, the phrase and the number
    /// after it. A text that already complies comes back as it is, [normalised](normalise).
    ///
    /// # Errors
    /// If the text is marked wrongly, which adding the right marking would not correct, or the name is blank or opening brackets
    /// alone.
    pub fn mark<'t>(&self, text: &'t str, advertiser: &Advertiser) -> Result<Cow<'t, str>, AdRuleViolation> {
        let text = normalise(text);
        let front = self.missing_front(&text, advertiser)?;
        let back = match self.check_refusal(&text, advertiser) {
            Ok(()) => None,
            Err(AdRuleViolation::RefusalMissing { .. }) => {
                Some(format!("\n{} {}", self.refusal_phrase, advertiser.refusal_number))
            }
            Err(violation) => return Err(violation),
        };
        if front.is_none() && back.is_none() {
            return Ok(text);
        }
        let (replaced, front) = front.unwrap_or_default();
        let marked = format!("{front}{}{}", &text[replaced..], back.unwrap_or_default());
        Ok(Cow::Owned(normalise(&marked).into_owned()))
    }

    /// The text that replaces the first bytes, and how many bytes it replaces.
    fn missing_front(
        &self,
        text: &str,
        advertiser: &Advertiser,
    ) -> Result<Option<(usize, String)>, AdRuleViolation> {
        if without_opening(&advertiser.name).is_empty() {
            return Err(AdRuleViolation::SenderNameMissing { name: advertiser.name.clone() });
        }
        let front = format!("{}{}\n", self.marking, advertiser.name.trim());
        match self.check_marking(text) {
            Ok(rest) if self.check_name(rest, advertiser).is_ok() => Ok(None),
            Ok(rest) => Ok(Some((text.len() - rest.trim_start().len(), front))),
            Err(AdRuleViolation::MarkingMissing { .. }) => Ok(Some((0, front))),
            Err(violation) => Err(violation),
        }
    }

    /// Checks that an e-mail is marked as the law demands.
    ///
    /// # Errors
    /// The first rule that is broken, the subject before the text.
    pub fn check_email(&self, subject: Option<&str>, text: &str) -> Result<(), AdRuleViolation> {
        let subject = normalise(subject.ok_or(AdRuleViolation::SubjectMissing)?);
        self.check_marking(&subject)?;
        let lower = normalise(text).to_lowercase();
        let tells = self.unsubscribe_phrases.iter().any(|phrase| lower.contains(phrase.as_str()));
        // A link, an address to write to, or a number to call.
        let has_way =
            ["http://", "https://", "mailto:", "@", "080"].into_iter().any(|way| lower.contains(way));
        if !tells || !has_way {
            return Err(AdRuleViolation::UnsubscribeMissing { phrases: self.unsubscribe_phrases.clone() });
        }
        Ok(())
    }

    /// The subject of an e-mail with the marking before it, unless it is there.
    ///
    /// # Errors
    /// If there is no subject, or it is marked wrongly.
    pub fn mark_email_subject<'s>(&self, subject: &'s str) -> Result<Cow<'s, str>, AdRuleViolation> {
        let subject = normalise(subject);
        if subject.trim().is_empty() {
            return Err(AdRuleViolation::SubjectMissing);
        }
        match self.check_marking(&subject) {
            Ok(_) => Ok(subject),
            Err(AdRuleViolation::MarkingMissing { marking }) => {
                Ok(Cow::Owned(format!("{marking} {}", subject.trim_start())))
            }
            Err(violation) => Err(violation),
        }
    }

    /// Checks how a normalised text begins, and gives what follows the marking.
    fn check_marking<'t>(&self, text: &'t str) -> Result<&'t str, AdRuleViolation> {
        let marking = || self.marking.clone();
        if let Some(rest) = text.strip_prefix(self.marking.as_str()) {
            return Ok(rest);
        }
        if let Some(start) = text.find(self.marking.as_str()) {
            let position = text[..start].chars().count();
            return Err(AdRuleViolation::MarkingNotFirst { position, marking: marking() });
        }
        match altered_marking(text, &self.marking) {
            Some(found) => {
                Err(AdRuleViolation::MarkingAltered { found: found.to_owned(), marking: marking() })
            }
            None => Err(AdRuleViolation::MarkingMissing { marking: marking() }),
        }
    }

    /// The name follows the marking, perhaps in brackets of its own.
    fn check_name(&self, rest: &str, advertiser: &Advertiser) -> Result<(), AdRuleViolation> {
        let name = normalise(advertiser.name.trim());
        let name = without_opening(&name);
        if !name.is_empty() && without_opening(rest).starts_with(name) {
            return Ok(());
        }
        Err(AdRuleViolation::SenderNameMissing { name: advertiser.name.clone() })
    }

    /// The last of the phrases in a normalised text is followed by the advertiser's number and nothing else.
    fn check_refusal(&self, text: &str, advertiser: &Advertiser) -> Result<(), AdRuleViolation> {
        let phrase = || self.refusal_phrase.clone();
        let Some(start) = text.rfind(self.refusal_phrase.as_str()) else {
            return Err(AdRuleViolation::RefusalMissing { phrase: phrase() });
        };
        let after = &text[start + self.refusal_phrase.len()..];
        let after = after.trim_start_matches(|character: char| {
            character.is_whitespace() || ":：)]>】〕」-".contains(character)
        });
        let is_number = |character: char| character.is_ascii_digit() || matches!(character, '-' | '.' | ' ');
        let number_end = after.find(|character| !is_number(character)).unwrap_or(after.len());
        let (number, tail) = after.split_at(number_end);
        let Ok(found) = RefusalNumber::parse(number) else {
            return Err(AdRuleViolation::RefusalNumberMissing { phrase: phrase() });
        };
        if found != advertiser.refusal_number {
            let expected = advertiser.refusal_number.clone();
            return Err(AdRuleViolation::RefusalNumberWrong { found, expected });
        }
        let is_closing = |character: char| character.is_whitespace() || ")]>】〕」".contains(character);
        if !tail.trim_matches(is_closing).is_empty() {
            return Err(AdRuleViolation::RefusalNotLast { phrase: phrase() });
        }
        Ok(())
    }
}

/// A text without the spaces and brackets that it opens with.
fn without_opening(text: &str) -> &str {
    text.trim_start_matches(|character: char| character.is_whitespace() || "[(<【〔「".contains(character))
}

/// The beginning of a text that has the letters of the marking as a word of its own, but with other brackets or
/// with something between them: `[광고]`, `(광 고)`, `(광.고)`, `（광고）`.
///
/// A text that begins with the bare word (`광고 문의`) or with a longer one (`[광고대행사]`) has no marking.
fn altered_marking<'t>(text: &'t str, marking: &str) -> Option<&'t str> {
    let word: String = marking.chars().filter(|character| character.is_alphanumeric()).collect();
    let mut letters = word.chars().peekable();
    let mut end = 0;
    for (index, character) in text.char_indices() {
        if character.is_alphanumeric() {
            letters.next_if_eq(&character)?;
        }
        end = index + character.len_utf8();
        if letters.peek().is_none() {
            break;
        }
    }
    let is_whole_word = letters.peek().is_none() && !text[end..].starts_with(char::is_alphanumeric);
    let has_bracket = text.trim_start().starts_with(|first: char| !first.is_alphanumeric());
    let is_split = !text[..end].contains(&word);
    if !is_whole_word || !(has_bracket || is_split) {
        return None;
    }
    let closing = text[end..].chars().next().filter(|next| !next.is_whitespace());
    Some(&text[..end + closing.map_or(0, char::len_utf8)])
}

#[cfg(test)]
mod tests;
