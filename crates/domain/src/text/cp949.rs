//! Measuring a text in CP949, the code page in which Korean relays count and send.
//!
//! `encoding_rs::EUC_KR` is CP949 (the WHATWG name is historical). Its plain `encode` writes `&#8361;` for what
//! it cannot map, so only the encoder without replacement is used: a character that the handset would not show
//! is refused by name, never replaced silently.
//!
//! Every mappable character outside ASCII takes two bytes, and all 11,172 precomposed Hangul syllables are
//! mappable, so the encoder itself is asked only about the rest.

use super::normalise::normalise;
use encoding_rs::{EUC_KR, Encoder, EncoderResult};
use serde::Serialize;
use std::fmt;

/// How many unmappable characters of one text are named.
pub const OFFENDERS_MAX: usize = 20;

/// The length of a text in CP949.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
pub struct Cp949Length {
    /// Bytes on the wire.
    pub bytes: usize,
}

/// The characters of a text that CP949 does not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
pub struct Unmappable {
    /// The first [`OFFENDERS_MAX`] of them, in the order of the text; never empty.
    pub characters: Vec<UnmappableCharacter>,
    /// How many there are in all.
    pub total: usize,
}

/// One character that CP949 does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct UnmappableCharacter {
    /// The character.
    pub character: char,
    /// Its index in the normalised text, in characters from 0.
    pub position: usize,
    /// Its line, from 1.
    pub line: usize,
    /// What could be written instead, if that is beyond doubt; empty: leave the character out.
    pub suggestion: Option<&'static str>,
}

impl fmt::Display for Unmappable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a text message cannot hold ")?;
        for (index, offender) in self.characters.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(formatter, "{separator}{offender}")?;
        }
        match self.total - self.characters.len().min(self.total) {
            0 => Ok(()),
            more => write!(formatter, " and {more} more"),
        }
    }
}

impl fmt::Display for UnmappableCharacter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { character, position, line, suggestion } = self;
        let code = u32::from(*character);
        let shown = if character.is_control() || is_invisible(*character) { ' ' } else { *character };
        write!(formatter, "'{shown}' (U+{code:04X}) at index {position}, line {line}")?;
        match suggestion {
            Some("") => formatter.write_str(" (leave it out)"),
            Some(" ") => formatter.write_str(" (use a plain space)"),
            Some("\n") => formatter.write_str(" (use a line break)"),
            Some(replacement) => write!(formatter, " (use {replacement})"),
            None => Ok(()),
        }
    }
}

/// The length in CP949 of `text` once it is [normalised](normalise).
///
/// # Errors
/// [`Unmappable`] names every character that CP949 does not have, up to [`OFFENDERS_MAX`].
pub fn measure(text: &str) -> Result<Cp949Length, Unmappable> {
    if text.is_ascii() && !text.contains('\r') {
        return Ok(Cp949Length { bytes: text.len() });
    }
    measure_normalised(&normalise(text))
}

/// As [`measure`], for a text that is known to be normalised.
pub(super) fn measure_normalised(text: &str) -> Result<Cp949Length, Unmappable> {
    let mut measurer = Measurer::default();
    measurer.add(text);
    measurer.finish()
}

/// Measures a normalised text that comes in pieces.
#[derive(Default)]
pub(super) struct Measurer {
    bytes: usize,
    position: usize,
    line_ends: usize,
    offenders: Vec<UnmappableCharacter>,
    offenders_total: usize,
}

impl Measurer {
    pub(super) fn add(&mut self, text: &str) {
        let mut encoder = None;
        for character in text.chars() {
            match bytes_of(character, &mut encoder) {
                Some(bytes) => self.bytes += bytes,
                None => self.note(character),
            }
            self.position += 1;
            self.line_ends += usize::from(character == '\n');
        }
    }

    /// Skips text that is not counted, such as the name of a variable.
    pub(super) fn skip(&mut self, characters: usize) {
        self.position += characters;
    }

    pub(super) fn finish(self) -> Result<Cp949Length, Unmappable> {
        if self.offenders_total == 0 {
            return Ok(Cp949Length { bytes: self.bytes });
        }
        Err(Unmappable { characters: self.offenders, total: self.offenders_total })
    }

    fn note(&mut self, character: char) {
        self.offenders_total += 1;
        if self.offenders.len() < OFFENDERS_MAX {
            self.offenders.push(UnmappableCharacter {
                character,
                position: self.position,
                line: self.line_ends + 1,
                suggestion: suggestion_for(character),
            });
        }
    }
}

/// The CP949 length of a text whose characters all stand alone, or nothing if one does not or has no mapping.
pub(super) fn bytes_if_simple(text: &str) -> Option<usize> {
    let mut encoder = None;
    let mut bytes = 0;
    for character in text.chars() {
        if !super::normalise::stands_alone(character) {
            return None;
        }
        bytes += bytes_of(character, &mut encoder)?;
    }
    Some(bytes)
}

/// Bytes of one character. The encoder is made when the first character needs it; CP949 keeps no state between
/// characters, so one serves for all.
fn bytes_of(character: char, encoder: &mut Option<Encoder>) -> Option<usize> {
    if character.is_ascii() {
        return Some(1);
    }
    if matches!(character, '가'..='힣') {
        return Some(2);
    }
    let encoder = encoder.get_or_insert_with(|| EUC_KR.new_encoder());
    let mut source = [0; 4];
    let mut sink = [0; 8];
    let source = character.encode_utf8(&mut source);
    let (result, _, written) = encoder.encode_from_utf8_without_replacement(source, &mut sink, false);
    match result {
        EncoderResult::InputEmpty => Some(written),
        EncoderResult::Unmappable(_) | EncoderResult::OutputFull => None,
    }
}

fn is_invisible(character: char) -> bool {
    suggestion_for(character).is_some_and(|suggestion| suggestion.trim().is_empty())
}

/// What could replace a character without changing what the reader sees. Letters with accents have no entry: the
/// writer has to say whether `é` may become `e`.
fn suggestion_for(character: char) -> Option<&'static str> {
    let suggestion = match character {
        '₩' => "￦",
        '‐' | '‑' | '‒' | '–' | '—' | '−' => "-",
        '•' | '∙' | '⋅' | '‧' => "·",
        '〜' => "～",
        '©' => "(c)",
        '«' => "《",
        '»' => "》",
        '❤' => "♥",
        '\u{A0}' | '\u{2000}'..='\u{200A}' | '\u{202F}' | '\u{205F}' => " ",
        '\u{2028}' | '\u{2029}' | '\u{85}' => "\n",
        '\u{200B}'..='\u{200F}'
        | '\u{202A}'..='\u{202E}'
        | '\u{2060}'..='\u{2064}'
        | '\u{FE0E}'
        | '\u{FE0F}'
        | '\u{FEFF}' => "",
        _ => return None,
    };
    Some(suggestion)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What the encoder itself writes, or the first character that it cannot.
    fn encoded(text: &str) -> Result<Vec<u8>, char> {
        let mut encoder = EUC_KR.new_encoder();
        let mut sink = vec![0; text.len() * 2 + 16];
        let (result, _, written) = encoder.encode_from_utf8_without_replacement(text, &mut sink, true);
        match result {
            EncoderResult::InputEmpty => Ok(sink[..written].to_vec()),
            EncoderResult::Unmappable(character) => Err(character),
            EncoderResult::OutputFull => panic!("the sink holds two bytes a character"),
        }
    }

    #[test]
    fn counts_as_relays_do() {
        let cases = [
            ("", 0),
            ("hello", 5),
            ("안녕", 4),
            ("똠방각하 뷁", 11),
            ("a\r\nb", 3),
            ("\u{1112}\u{1161}\u{11AB}", 2),
            ("￦€™…·①♥", 14),
            ("(광고)", 6),
        ];
        for (text, bytes) in cases {
            assert_eq!(measure(text), Ok(Cp949Length { bytes }), "{text}");
        }
    }

    #[test]
    fn every_hangul_syllable_takes_two_bytes() {
        for syllable in '가'..='힣' {
            assert_eq!(encoded(&syllable.to_string()).map(|bytes| bytes.len()), Ok(2), "{syllable}");
        }
    }

    #[test]
    fn names_each_offender_with_position_line_and_suggestion() {
        let offender = |character, position, line, suggestion| UnmappableCharacter {
            character,
            position,
            line,
            suggestion,
        };
        let error = measure("가격 ₩1,000\r\n홍길동😀 café").unwrap_err();
        assert_eq!(error.total, 3);
        assert_eq!(
            error.characters,
            vec![offender('₩', 3, 1, Some("￦")), offender('😀', 13, 2, None), offender('é', 18, 2, None),]
        );
        assert_eq!(
            error.to_string(),
            "a text message cannot hold '₩' (U+20A9) at index 3, line 1 (use ￦), \
             '😀' (U+1F600) at index 13, line 2, 'é' (U+00E9) at index 18, line 2"
        );
    }

    #[test]
    fn names_a_bounded_number_of_offenders() {
        let error = measure(&"😀".repeat(50)).unwrap_err();
        assert_eq!((error.characters.len(), error.total), (OFFENDERS_MAX, 50));
        assert!(error.to_string().ends_with("and 30 more"));
    }

    #[test]
    fn a_suggestion_replaces_what_is_unmappable_by_what_is_not() {
        let mut suggestions = 0;
        for character in '\0'..='\u{FFFF}' {
            if let Some(suggestion) = suggestion_for(character) {
                suggestions += 1;
                assert_eq!(encoded(&character.to_string()), Err(character), "U+{:04X}", u32::from(character));
                assert!(encoded(suggestion).is_ok(), "{suggestion}");
            }
        }
        assert!(suggestions > 30);
    }

    proptest! {
        #[test]
        fn is_the_length_of_the_encoder_s_output(text in any::<String>()) {
            let normal = normalise(&text);
            match (measure(&text), encoded(&normal)) {
                (Ok(length), Ok(bytes)) => prop_assert_eq!(length.bytes, bytes.len()),
                (Err(error), Err(character)) => prop_assert_eq!(error.characters[0].character, character),
                (measured, encoded) => prop_assert!(false, "{:?} but {:?}", measured, encoded),
            }
        }

        #[test]
        fn is_the_length_of_usual_korean_text(text in "[가-힣ㄱ-ㅎ一-龥 -~\r\n①-⑮♥★·…￦€ｱ-ﾝА-я]{0,100}") {
            let normal = normalise(&text);
            if let Ok(bytes) = encoded(&normal) {
                prop_assert_eq!(measure(&text), Ok(Cp949Length { bytes: bytes.len() }));
            }
        }

        #[test]
        fn positions_point_at_the_offender(text in any::<String>()) {
            let normal: Vec<char> = normalise(&text).chars().collect();
            if let Err(error) = measure(&text) {
                for offender in error.characters {
                    prop_assert_eq!(normal[offender.position], offender.character);
                    let lines = normal[..offender.position].iter().filter(|c| **c == '\n').count();
                    prop_assert_eq!(offender.line, lines + 1);
                }
            }
        }
    }
}
