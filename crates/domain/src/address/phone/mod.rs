//! Telephone numbers of recipients.
//!
//! The canonical text is the domestic form of a Korean number (`01012345678`, `15881234`) and E.164 for all
//! others (`+14155552671`). Land lines, 070, 050x and representative numbers are numbers like any other; that
//! most relays cannot send to them is a capability of the relay, not an error here.
//!
//! Korean numbers are read by the table in this file, without allocation. Only numbers of other countries need
//! the metadata of the `phonenumber` crate, whose first use takes about 100 ms: see [`warm_up`].

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use std::fmt;
use unicode_normalization::UnicodeNormalization;

/// Longest raw text that is looked at, in bytes. Far above any written number, with room for hidden characters.
const RAW_BYTES_MAX: usize = 128;
/// E.164 allows 15 digits; one more for the `0` of `+82 (0)10…`, two for an `82` without `+`.
const DIGITS_MAX: usize = 18;
/// The fewest digits of a complete Korean number (a representative number).
const DIGITS_MIN: usize = 8;

/// A telephone number in canonical form. Cloning never allocates.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PhoneNumber(SmolStr);

/// What kind of number it is, as far as its digits tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PhoneKind {
    /// 010, 011, 016, 017, 018, 019.
    KoreanMobile,
    /// An area code (02, 031 … 064) and a number.
    KoreanLandline,
    /// 070.
    InternetPhone070,
    /// 030, which gathers voice, fax and messages.
    UnifiedMessaging030,
    /// 050x, personal and safe numbers.
    Personal050,
    /// 080, free for the caller; also used for refusing advertisements.
    TollFree080,
    /// 15xx, 16xx and 18xx: eight digits without an area code.
    Representative,
    /// A number of another country, in E.164.
    International,
}

/// Why a text is not a telephone number. Serialises with its stable code and its details.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, strum::IntoStaticStr)]
#[serde(tag = "code", rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum PhoneError {
    /// Nothing is left after spaces and hidden characters.
    #[error("the number is empty")]
    Empty,
    /// Something that is neither a digit nor one of the separators that people write.
    #[error("{character:?} at index {position} is not a digit")]
    NotADigit {
        /// The first such character, as it was given.
        character: char,
        /// Its index in the raw text, in characters from 0.
        position: usize,
    },
    /// Digits are missing.
    #[error("the number has {digits} digits; it needs at least {digits_min}")]
    TooShort {
        /// Digits given, in the form in which the rule counts them (domestic, or without the country code).
        digits: usize,
        /// Fewest digits of such a number.
        digits_min: usize,
    },
    /// There are too many digits.
    #[error("the number has too many digits; it may have at most {digits_max}")]
    TooLong {
        /// Most digits of such a number.
        digits_max: usize,
    },
    /// No Korean number begins like this.
    #[error(
        "no Korean number begins with {prefix}; a number of another country begins with + and its country code"
    )]
    UnknownPrefix {
        /// The first digits of the number.
        prefix: SmolStr,
    },
    /// A Korean number without its leading zero, as a spreadsheet leaves it. The repair is only suggested.
    #[error("the leading zero is missing; is {suggestion} meant?")]
    LostLeadingZero {
        /// The number with the zero put back.
        suggestion: PhoneNumber,
    },
    /// No country has this country code.
    #[error("no country has the country code of {number}")]
    UnknownCountryCode {
        /// The number as it was read, `+` and digits.
        number: SmolStr,
    },
    /// The country exists, but has no such numbers.
    #[error("{number} is not a number of its country")]
    NotANumberOfItsCountry {
        /// The number as it was read, `+` and digits.
        number: SmolStr,
    },
}

impl PhoneError {
    /// Stable code for problem documents and stored reasons.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.into()
    }
}

impl PhoneNumber {
    /// Reads a number as people write it: separators, full-width digits and hidden characters are dropped, and
    /// `+82`, `82` and `+820` become the domestic `0`.
    ///
    /// # Errors
    /// [`PhoneError`] names the character or the rule. Nothing is ever repaired silently.
    pub fn parse(raw: &str) -> Result<Self, PhoneError> {
        if is_plain_mobile(raw.as_bytes()) {
            return Ok(Self(SmolStr::new_inline(raw)));
        }
        let digits = Digits::read(raw)?;
        let text = digits.as_str();
        if digits.international {
            return match text.strip_prefix("82") {
                Some(rest) => parse_after_country_code(rest),
                None => parse_international(text),
            };
        }
        if let Some(rest) = text.strip_prefix("82") {
            return parse_after_country_code(rest);
        }
        parse_domestic(text)
    }

    /// Takes the canonical text of a number that was checked when it was stored.
    #[must_use]
    pub fn from_trusted(text: impl Into<SmolStr>) -> Self {
        Self(text.into())
    }

    /// The canonical text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The kind, told by the first digits alone, so that it has an answer for every stored number.
    #[must_use]
    pub fn kind(&self) -> PhoneKind {
        if self.0.starts_with('+') {
            return PhoneKind::International;
        }
        range_of(&self.0).map_or(PhoneKind::KoreanLandline, |range| range.kind)
    }

    /// The number in E.164: `+821012345678`.
    #[must_use]
    pub fn to_e164(&self) -> String {
        if self.0.starts_with('+') {
            return self.0.to_string();
        }
        format!("+82{}", self.0.strip_prefix('0').unwrap_or(&self.0))
    }

    /// The number with its middle hidden, for log lines: `010-12**-**78`.
    #[must_use]
    pub fn masked(&self) -> String {
        let characters: Vec<char> = self.0.chars().collect();
        let (prefix, rest) = match self.kind() {
            // The shortest, German pagers, have four digits after the country code.
            PhoneKind::International if characters.len() < 10 => (characters.len(), 0),
            PhoneKind::International => (4, 0),
            PhoneKind::Representative => (0, 4),
            PhoneKind::KoreanLandline if self.0.starts_with("02") => (2, 4),
            PhoneKind::KoreanMobile
            | PhoneKind::KoreanLandline
            | PhoneKind::InternetPhone070
            | PhoneKind::UnifiedMessaging030
            | PhoneKind::Personal050
            | PhoneKind::TollFree080 => (3, 4),
        };
        if characters.len() < prefix + rest + 3 {
            return "*".repeat(characters.len().max(1));
        }
        if rest == 0 {
            return mask_international(&characters, prefix);
        }
        mask_domestic(&characters, prefix)
    }
}

impl fmt::Display for PhoneNumber {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::str::FromStr for PhoneNumber {
    type Err = PhoneError;

    fn from_str(raw: &str) -> Result<Self, Self::Err> {
        Self::parse(raw)
    }
}

impl AsRef<str> for PhoneNumber {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// Loads the metadata of other countries' numbers, so that the first such number does not wait about 100 ms.
/// Call it once at start.
pub fn warm_up() {
    let loaded = parse_international("14155552671");
    debug_assert!(loaded.is_ok(), "the metadata knows the United States");
}

/// `010` and eight more digits: the form that nearly all recipients are given in.
fn is_plain_mobile(raw: &[u8]) -> bool {
    raw.len() == 11 && raw.starts_with(b"010") && raw.iter().all(u8::is_ascii_digit)
}

/// The digits of a raw text, on the stack.
struct Digits {
    international: bool,
    length: usize,
    bytes: [u8; DIGITS_MAX],
}

impl Digits {
    fn read(raw: &str) -> Result<Self, PhoneError> {
        if raw.len() > RAW_BYTES_MAX {
            return Err(PhoneError::TooLong { digits_max: DIGITS_MAX });
        }
        let mut digits = Self { international: false, length: 0, bytes: [0; DIGITS_MAX] };
        for (position, character) in raw.chars().enumerate() {
            if character.is_ascii() {
                digits.take(character, character, position)?;
                continue;
            }
            for folded in std::iter::once(character).nfkc() {
                digits.take(folded, character, position)?;
            }
        }
        if digits.length == 0 {
            return Err(PhoneError::Empty);
        }
        Ok(digits)
    }

    fn take(&mut self, folded: char, given: char, position: usize) -> Result<(), PhoneError> {
        if folded.is_ascii_digit() {
            let slot =
                self.bytes.get_mut(self.length).ok_or(PhoneError::TooLong { digits_max: DIGITS_MAX })?;
            *slot = folded as u8;
            self.length += 1;
            return Ok(());
        }
        if folded == '+' && self.length == 0 && !self.international {
            self.international = true;
            return Ok(());
        }
        if is_separator(folded) {
            return Ok(());
        }
        Err(PhoneError::NotADigit { character: given, position })
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.length]).expect("only ASCII digits are taken")
    }
}

/// Spaces, hyphens of all kinds, dots, brackets, and characters that are not visible.
fn is_separator(character: char) -> bool {
    character.is_whitespace()
        || matches!(
            character,
            '-' | '.' | '(' | ')' | '[' | ']'
                | '\u{2010}'..='\u{2015}' // hyphens and dashes
                | '\u{2212}' // minus sign
                | '\u{00AD}' // soft hyphen
                | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' // zero width, direction
                | '\u{2060}'..='\u{2069}' | '\u{FEFF}'
        )
}

/// One row of the Korean numbering plan, in the domestic form.
struct Range {
    kind: PhoneKind,
    digits_min: usize,
    digits_max: usize,
}

/// The row that a domestic number belongs to by its first digits.
fn range_of(digits: &str) -> Option<Range> {
    let bytes = digits.as_bytes();
    let (kind, digits_min, digits_max) = match (bytes.first()?, bytes.get(1)?, bytes.get(2)) {
        (b'1', b'5' | b'6' | b'8', _) => (PhoneKind::Representative, 8, 8),
        (b'0', b'1', Some(b'0')) => (PhoneKind::KoreanMobile, 11, 11),
        (b'0', b'1', Some(b'1' | b'6'..=b'9')) => (PhoneKind::KoreanMobile, 10, 11),
        (b'0', b'2', _) => (PhoneKind::KoreanLandline, 9, 10),
        (b'0', b'3' | b'6', Some(b'1'..=b'3'))
        | (b'0', b'4' | b'6', Some(b'4'))
        | (b'0', b'4', Some(b'1'..=b'3'))
        | (b'0', b'5', Some(b'1'..=b'5')) => (PhoneKind::KoreanLandline, 10, 11),
        (b'0', b'7', Some(b'0')) => (PhoneKind::InternetPhone070, 11, 11),
        (b'0', b'3', Some(b'0')) => (PhoneKind::UnifiedMessaging030, 10, 12),
        (b'0', b'5', Some(b'0')) => (PhoneKind::Personal050, 10, 12),
        (b'0', b'8', Some(b'0')) => (PhoneKind::TollFree080, 10, 11),
        _ => return None,
    };
    Some(Range { kind, digits_min, digits_max })
}

fn parse_domestic(digits: &str) -> Result<PhoneNumber, PhoneError> {
    if let Some(suggestion) = with_leading_zero(digits) {
        return Err(PhoneError::LostLeadingZero { suggestion });
    }
    let Some(range) = range_of(digits) else {
        if digits.len() < DIGITS_MIN {
            return Err(PhoneError::TooShort { digits: digits.len(), digits_min: DIGITS_MIN });
        }
        return Err(PhoneError::UnknownPrefix { prefix: SmolStr::new(&digits[..3]) });
    };
    if digits.len() < range.digits_min {
        return Err(PhoneError::TooShort { digits: digits.len(), digits_min: range.digits_min });
    }
    if digits.len() > range.digits_max {
        return Err(PhoneError::TooLong { digits_max: range.digits_max });
    }
    Ok(PhoneNumber(SmolStr::new_inline(digits)))
}

/// The number that `digits` would be with a leading zero, if it is not a number without it.
fn with_leading_zero(digits: &str) -> Option<PhoneNumber> {
    if digits.starts_with('0') || is_complete(digits) {
        return None;
    }
    let mut buffer = [0; DIGITS_MAX + 1];
    let repaired = prepend_zero(digits, &mut buffer);
    is_complete(repaired).then(|| PhoneNumber(SmolStr::new_inline(repaired)))
}

fn is_complete(digits: &str) -> bool {
    range_of(digits).is_some_and(|range| (range.digits_min..=range.digits_max).contains(&digits.len()))
}

fn prepend_zero<'a>(digits: &str, buffer: &'a mut [u8; DIGITS_MAX + 1]) -> &'a str {
    buffer[0] = b'0';
    buffer[1..=digits.len()].copy_from_slice(digits.as_bytes());
    std::str::from_utf8(&buffer[..=digits.len()]).expect("only ASCII digits were copied")
}

/// What follows `+82` or `82`. The zero of the domestic form is left out there by rule, but some write it;
/// representative numbers have none.
fn parse_after_country_code(rest: &str) -> Result<PhoneNumber, PhoneError> {
    let is_representative = rest.starts_with("15") || (rest.len() == 8 && rest.starts_with(['1']));
    if rest.starts_with('0') || is_representative {
        return parse_domestic(rest);
    }
    parse_domestic(prepend_zero(rest, &mut [0; DIGITS_MAX + 1]))
}

fn parse_international(digits: &str) -> Result<PhoneNumber, PhoneError> {
    let number = SmolStr::from_iter(["+", digits]);
    let refused = |error: &phonenumber::ParseError| match error {
        phonenumber::ParseError::InvalidCountryCode => {
            PhoneError::UnknownCountryCode { number: number.clone() }
        }
        phonenumber::ParseError::TooLong => PhoneError::TooLong { digits_max: 15 },
        phonenumber::ParseError::TooShortAfterIdd
        | phonenumber::ParseError::TooShortNsn
        | phonenumber::ParseError::NoNumber
        | phonenumber::ParseError::MalformedInteger(_) => {
            PhoneError::NotANumberOfItsCountry { number: number.clone() }
        }
    };
    let parsed = phonenumber::parse(None, &number).map_err(|error| refused(&error))?;
    let canonical = parsed.format().mode(phonenumber::Mode::E164).to_string();
    // Written with a trunk prefix (`+44 (0)20 …`), the canonical text is shorter than what was read; it must
    // itself be read as the same number, or two texts would stand for one recipient.
    let is_stable = || {
        canonical == number.as_str()
            || phonenumber::parse(None, &canonical).is_ok_and(|again| {
                again.is_valid() && again.format().mode(phonenumber::Mode::E164).to_string() == canonical
            })
    };
    let is_e164 = canonical.len() <= 16 && canonical.bytes().skip(1).all(|byte| byte.is_ascii_digit());
    if !parsed.is_valid() || canonical.starts_with("+82") || !is_e164 || !is_stable() {
        return Err(PhoneError::NotANumberOfItsCountry { number });
    }
    Ok(PhoneNumber(SmolStr::new_inline(&canonical)))
}

fn mask_international(characters: &[char], shown: usize) -> String {
    let last = characters.len() - 2;
    let mark = |(index, character): (usize, &char)| {
        if index < shown + 1 || index >= last { *character } else { '*' }
    };
    characters.iter().enumerate().map(mark).collect()
}

/// Shows the prefix, the start of the middle group and the last two digits.
fn mask_domestic(characters: &[char], prefix: usize) -> String {
    let last_group = characters.len() - 4;
    let mut masked = String::with_capacity(characters.len() + 2);
    for (index, character) in characters.iter().enumerate() {
        if (index == prefix && prefix > 0) || index == last_group {
            masked.push('-');
        }
        let middle_hidden = index >= (last_group - 2).max(prefix) && index < last_group + 2;
        masked.push(if middle_hidden { '*' } else { *character });
    }
    masked
}

#[cfg(test)]
mod tests;
