//! The one form in which a text is measured and sent: NFC, with `\n` as the only line end.

use std::borrow::Cow;
use unicode_normalization::{UnicodeNormalization, is_nfc};

/// NFC, with `\r\n` and `\r` as `\n`. A text that is already so is not copied; ASCII, Latin and precomposed
/// Hangul are recognised without a table.
#[must_use]
pub fn normalise(text: &str) -> Cow<'_, str> {
    let mut line_ends_differ = false;
    let mut all_stand_alone = true;
    for character in text.chars() {
        if character == '\r' {
            line_ends_differ = true;
        } else if !stands_alone(character) {
            all_stand_alone = false;
        }
    }
    let composed =
        if all_stand_alone || is_nfc(text) { Cow::Borrowed(text) } else { Cow::Owned(text.nfc().collect()) };
    if line_ends_differ { Cow::Owned(composed.replace("\r\n", "\n").replace('\r', "\n")) } else { composed }
}

/// Whether a character never changes in normalisation and never joins with the one before it, so that a text
/// beginning with it may be appended to any normalised text. `\r` may join with a following `\n`.
///
/// Below U+0300 nothing combines, and a precomposed Hangul syllable joins only with a jamo after it (Unicode
/// Standard Annex 15: both ranges are `NFC_Quick_Check=Yes` with combining class 0).
pub(super) fn stands_alone(character: char) -> bool {
    character != '\r' && matches!(character, '\0'..='\u{2FF}' | '가'..='힣')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_normal_text_is_not_copied() {
        for text in ["", "plain\nascii", "안녕하세요, 고객님!", "①·…™", "é"] {
            assert!(matches!(normalise(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }

    #[test]
    fn jamo_are_joined_and_line_ends_unified() {
        assert_eq!(normalise("\u{1112}\u{1161}\u{11AB}글"), "한글");
        assert_eq!(normalise("a\r\nb\rc\n\r"), "a\nb\nc\n\n");
        assert_eq!(normalise("가\u{11A8}\r"), "각\n");
    }

    proptest! {
        #[test]
        fn is_idempotent(text in any::<String>()) {
            let once = normalise(&text).into_owned();
            prop_assert!(matches!(normalise(&once), Cow::Borrowed(_)));
            prop_assert_eq!(normalise(&once), once.as_str());
        }

        #[test]
        fn is_nfc_without_carriage_returns(text in "[a가-힣\\u{1100}-\\u{11FF}\\u{300}-\\u{310}\r\n]{0,30}") {
            let expected: String = text.nfc().collect::<String>().replace("\r\n", "\n").replace('\r', "\n");
            prop_assert_eq!(normalise(&text), expected.as_str());
        }

        #[test]
        fn what_stands_alone_may_be_appended(front in "\\PC{0,8}", first in "[ -~\\u{A0}-\\u{2FF}가-힣]", back in "\\PC{0,8}") {
            let front = normalise(&front).into_owned();
            let back = normalise(&format!("{first}{back}")).into_owned();
            if back.chars().next().is_some_and(stands_alone) {
                let joined = format!("{front}{back}");
                prop_assert_eq!(normalise(&joined), joined.as_str());
            }
        }
    }
}
