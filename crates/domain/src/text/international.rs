//! Counts parts for numbers of other countries, where a text is sent as GSM-7 or UCS-2 (3GPP TS 23.038).
//!
//! One part holds 160 septets or 70 UTF-16 units. The network cuts a longer text into parts of 153 or 67, because
//! each then carries a header that joins them again. A character of two units is never cut in half.

use super::normalise::normalise;
use serde::Serialize;

/// In which alphabet a text goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PartEncoding {
    /// The GSM 7-bit default alphabet with its extension table.
    Gsm7,
    /// UTF-16, for any text that holds a character outside that alphabet.
    Ucs2,
}

/// How a text is cut for sending abroad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct Parts {
    /// The alphabet.
    pub encoding: PartEncoding,
    /// Septets (GSM-7, extension characters count two) or UTF-16 units (UCS-2).
    pub units: usize,
    /// Parts that are sent and charged; 0 for an empty text.
    pub parts: usize,
}

impl Parts {
    /// Octets of the text on the wire, without the headers of the parts.
    #[must_use]
    pub fn octets(&self) -> usize {
        match self.encoding {
            PartEncoding::Gsm7 => (self.units * 7).div_ceil(8),
            PartEncoding::Ucs2 => self.units * 2,
        }
    }
}

/// The basic table of the GSM 7-bit default alphabet outside ASCII.
const GSM_BASIC_NOT_ASCII: &str = "£¥èéùìòÇØøÅåΔΦΓΛΩΠΨΣΘΞÆæßÉ¤¡ÄÖÑÜ§¿äöñüà";

/// How `text`, once it is [normalised](normalise), is cut for sending abroad.
#[must_use]
pub fn international_parts(text: &str) -> Parts {
    let text = normalise(text);
    if text.chars().all(|character| septets_of(character).is_some()) {
        let units = || text.chars().filter_map(septets_of);
        return cut(PartEncoding::Gsm7, units, 160, 153);
    }
    cut(PartEncoding::Ucs2, || text.chars().map(char::len_utf16), 70, 67)
}

fn cut<I: Iterator<Item = usize>>(
    encoding: PartEncoding,
    units_of_characters: impl Fn() -> I,
    single_units_max: usize,
    joined_units_max: usize,
) -> Parts {
    let units: usize = units_of_characters().sum();
    if units <= single_units_max {
        return Parts { encoding, units, parts: usize::from(units > 0) };
    }
    let mut parts = 1;
    let mut filled = 0;
    for units in units_of_characters() {
        if filled + units > joined_units_max {
            parts += 1;
            filled = 0;
        }
        filled += units;
    }
    Parts { encoding, units, parts }
}

fn septets_of(character: char) -> Option<usize> {
    match character {
        '^' | '{' | '}' | '\\' | '[' | '~' | ']' | '|' | '€' | '\u{C}' => Some(2),
        '`' => None,
        '\n' | '\r' | ' '..='~' => Some(1),
        _ if GSM_BASIC_NOT_ASCII.contains(character) => Some(1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parts(text: &str) -> (PartEncoding, usize, usize) {
        let Parts { encoding, units, parts } = international_parts(text);
        (encoding, units, parts)
    }

    #[test]
    fn counts_septets_and_utf16_units() {
        use PartEncoding::{Gsm7, Ucs2};
        let cases = [
            (String::new(), (Gsm7, 0, 0)),
            ("a".repeat(160), (Gsm7, 160, 1)),
            ("a".repeat(161), (Gsm7, 161, 2)),
            ("a".repeat(306), (Gsm7, 306, 2)),
            ("a".repeat(307), (Gsm7, 307, 3)),
            ("€".repeat(80), (Gsm7, 160, 1)),
            ("^{}\\[~]|€".to_owned(), (Gsm7, 18, 1)),
            ("`".to_owned(), (Ucs2, 1, 1)),
            ("가".repeat(70), (Ucs2, 70, 1)),
            ("가".repeat(71), (Ucs2, 71, 2)),
            ("가".repeat(134), (Ucs2, 134, 2)),
            ("가".repeat(135), (Ucs2, 135, 3)),
            ("😀".to_owned(), (Ucs2, 2, 1)),
            ("a\r\nb".to_owned(), (Gsm7, 3, 1)),
        ];
        for (text, expected) in cases {
            assert_eq!(parts(&text), expected, "{text}");
        }
    }

    #[test]
    fn a_character_is_never_cut_in_half() {
        // 153 is odd: the 77th two-septet character does not fit into the first part.
        assert_eq!(parts(&"€".repeat(153)), (PartEncoding::Gsm7, 306, 3));
        assert_eq!(parts(&"😀".repeat(67)), (PartEncoding::Ucs2, 134, 3));
    }

    #[test]
    fn octets_are_those_on_the_wire() {
        assert_eq!(international_parts(&"a".repeat(160)).octets(), 140);
        assert_eq!(international_parts(&"가".repeat(70)).octets(), 140);
    }

    #[test]
    fn the_basic_table_is_complete() {
        let alphabet = (0..=0x10_FFFF).filter_map(char::from_u32).filter(|c| *c != '\r');
        let single = alphabet.clone().filter(|c| septets_of(*c) == Some(1)).count();
        let double = alphabet.filter(|c| septets_of(*c) == Some(2)).count();
        // 128 places, less the escape and the carriage return; ten extension characters with the form feed.
        assert_eq!((single, double), (126, 10));
    }

    proptest! {
        #[test]
        fn parts_hold_all_units(text in any::<String>()) {
            let Parts { encoding, units, parts } = international_parts(&text);
            let (single, joined) = if encoding == PartEncoding::Gsm7 { (160, 153) } else { (70, 67) };
            if units <= single {
                prop_assert_eq!(parts, usize::from(units > 0));
            } else {
                prop_assert!(parts * joined >= units && (parts - 1) * (joined - 1) < units);
            }
        }
    }
}
