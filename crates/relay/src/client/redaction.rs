//! A relay's words, without personal data.
//!
//! A refusal usually quotes the recipient's address. The words become part of events, where everything personal has a
//! single place, so addresses are removed before the words leave the client. It is better to remove a word too many
//! than to keep an address: the code, which decides, is stored separately.

use std::net::Ipv4Addr;

use super::MessageAnswer;

/// The longest words that are kept, in characters.
const WORDS_MAX: usize = 200;
/// What stands where an address was.
const BLANK: char = '…';
/// How far the end of an address is looked for, in characters.
const ADDRESS_MAX: usize = 1_000;
/// No address is longer (RFC 5321), in characters.
const MAIL_ADDRESS_MAX: usize = 254;
/// A number with at least this many digits may be a telephone number.
const PERSONAL_DIGITS_MIN: usize = 8;

/// The first part of a text.
struct Part {
    bytes: usize,
    content: Content,
}

/// The part at the beginning of a text that could be a mail address.
enum Mail {
    Address {
        bytes: usize,
    },
    /// None begins in so many bytes.
    NoneWithin {
        bytes: usize,
    },
}

#[derive(PartialEq, Eq)]
enum Content {
    Address,
    Words,
}

/// The words with `…` in place of the recipient's address and of everything that looks like an address or a telephone
/// number; at most 200 characters, U+FFFD in place of U+0000. `recipient` is empty if the words are not about one
/// message.
pub(super) fn without_addresses(words: &str, recipient: &str) -> String {
    let mut kept = String::with_capacity(words.len().min(WORDS_MAX));
    let mut rest = words;
    let mut left = WORDS_MAX;
    // Bytes of the rest in which no mail address begins: what stands together is looked through once.
    let mut without_mail = 0;
    while left > 0 && !rest.is_empty() {
        let mail = match without_mail {
            0 => mail_address(rest),
            _ => Mail::NoneWithin { bytes: without_mail },
        };
        let part = first_part(rest, recipient, &mail);
        let (text, after) = rest.split_at(part.bytes);
        if part.content == Content::Address {
            kept.push(BLANK);
            left -= 1;
        } else {
            let before = kept.len();
            kept.extend(
                text.chars().take(left).map(|letter| if letter == '\0' { '\u{fffd}' } else { letter }),
            );
            left -= kept[before..].chars().count();
        }
        rest = after;
        without_mail = match mail {
            Mail::NoneWithin { bytes } => bytes.saturating_sub(part.bytes),
            Mail::Address { .. } => 0,
        };
    }
    kept
}

/// The same answer, its words without addresses.
pub(super) fn impersonal(answer: MessageAnswer, recipient: &str) -> MessageAnswer {
    match answer {
        MessageAnswer::Accepted { .. } | MessageAnswer::NotTried => answer,
        MessageAnswer::RefusedForNow { code, general_code, text, retry_after } => {
            let text = text.map(|text| without_addresses(&text, recipient));
            MessageAnswer::RefusedForNow { code, general_code, text, retry_after }
        }
        MessageAnswer::Refused { code, general_code, text } => {
            let text = text.map(|text| without_addresses(&text, recipient));
            MessageAnswer::Refused { code, general_code, text }
        }
        MessageAnswer::NotTaken { why, reason } => {
            MessageAnswer::NotTaken { why, reason: without_addresses(&reason, recipient).into() }
        }
        MessageAnswer::Unknown { reason } => {
            MessageAnswer::Unknown { reason: without_addresses(&reason, recipient).into() }
        }
    }
}

fn first_part(text: &str, recipient: &str, mail: &Mail) -> Part {
    let mail_bytes = match mail {
        Mail::Address { bytes } => Some(*bytes),
        Mail::NoneWithin { .. } => None,
    };
    let address = own_address(text, recipient).or_else(|| in_brackets(text)).or(mail_bytes);
    if let Some(bytes) = address {
        return Part { bytes, content: Content::Address };
    }
    if let Some(number) = number(text) {
        return number;
    }
    Part { bytes: text.chars().next().map_or(0, char::len_utf8), content: Content::Words }
}

/// The recipient's address as we wrote it, in letters of either case.
fn own_address(text: &str, recipient: &str) -> Option<usize> {
    let same = text.get(..recipient.len())?;
    (!recipient.is_empty() && same.eq_ignore_ascii_case(recipient)).then_some(recipient.len())
}

/// `<…@…>`, whatever is before and after the sign.
fn in_brackets(text: &str) -> Option<usize> {
    let inside = text.strip_prefix('<')?;
    let (end, closing) =
        inside.char_indices().take(ADDRESS_MAX).find(|(_, letter)| matches!(letter, '<' | '>'))?;
    (closing == '>' && inside[..end].contains('@')).then_some(end + 2)
}

/// All that stands together around a `@`.
fn mail_address(text: &str) -> Mail {
    let is_outside = |letter: char| letter.is_whitespace() || "<>()[]{}\",;:".contains(letter);
    let together = text.chars().take(ADDRESS_MAX).take_while(|letter| !is_outside(*letter));
    let end = together.map(char::len_utf8).sum();
    let candidate = &text[..end];
    if candidate.len() > 1 && candidate.contains('@') {
        return Mail::Address { bytes: end };
    }
    // What stands together may continue beyond where it was looked at, and an address begin shortly before that.
    let sure = candidate.char_indices().nth(ADDRESS_MAX - MAIL_ADDRESS_MAX).map_or(end, |(bytes, _)| bytes);
    Mail::NoneWithin { bytes: sure }
}

/// Digits, and what is written between the groups of a telephone number.
fn number(text: &str) -> Option<Part> {
    let (mut digits, mut between, mut bytes) = (0, 0, 0);
    for (at, letter) in text.char_indices() {
        if letter.is_numeric() {
            (digits, between, bytes) = (digits + 1, 0, at + letter.len_utf8());
        } else if digits > 0 && between < 2 && matches!(letter, '-' | '.' | ' ' | '(' | ')') {
            between += 1;
        } else {
            break;
        }
    }
    let is_personal = digits >= PERSONAL_DIGITS_MIN && text[..bytes].parse::<Ipv4Addr>().is_err();
    let content = if is_personal { Content::Address } else { Content::Words };
    (digits > 0).then_some(Part { bytes, content })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::NotTaken;
    use proptest::prelude::*;

    fn cleaned(words: &str) -> String {
        without_addresses(words, "")
    }

    #[test]
    fn mail_addresses_are_taken_out() {
        let cases = [
            ("5.1.1 <jieun@mail.example>: Recipient address rejected", "5.1.1 …: Recipient address rejected"),
            ("5.1.1 jieun@mail.example is not taken here", "5.1.1 … is not taken here"),
            ("no mailbox (to:o'brien+x=1@mail.example, sorry)", "no mailbox (to:…, sorry)"),
            ("지은@메일.한국 없음", "… 없음"),
            (r#"<"ji eun"@mail.example> unknown"#, "… unknown"),
            ("last: jieun@mail.example", "last: …"),
        ];
        for (words, expected) in cases {
            assert_eq!(cleaned(words), expected);
        }
    }

    #[test]
    fn telephone_numbers_are_taken_out_however_they_are_written() {
        for number in [
            "01012345678",
            "010-1234-5678",
            "010 1234 5678",
            "010.1234.5678",
            "02) 123-45678",
            "15881234",
            "01012345678",
        ] {
            assert_eq!(cleaned(&format!("수신번호 {number}이 없음")), "수신번호 …이 없음", "{number}");
        }
        assert_eq!(cleaned("to +82 10-1234-5678: blocked"), "to +…: blocked");
    }

    #[test]
    fn other_words_stay() {
        for words in [
            "",
            "550 5.1.1 User unknown",
            "429: at most 6000 parts a second, again in 1200 ms",
            "connection to 192.168.100.200:2525 refused (os error 111)",
            "a < b and b > c, @ nobody",
        ] {
            assert_eq!(cleaned(words), words);
        }
    }

    #[test]
    fn the_recipient_goes_whatever_it_looks_like() {
        let words = r#"no "Ji Eun"@mail.example here"#;
        assert_eq!(without_addresses(words, r#""ji eun"@mail.example"#), "no … here");
        assert_eq!(without_addresses("number 114 is closed", "114"), "number … is closed");
    }

    #[test]
    fn every_kind_of_answer_loses_its_addresses_and_nothing_else() {
        let reason = "about a@b.example";
        let of = |answer| impersonal(answer, "a@b.example");
        let refused = |text: &str| MessageAnswer::Refused {
            code: "5.1.1".into(),
            general_code: Some("550".into()),
            text: Some(text.to_owned()),
        };
        let for_now = |text: &str| MessageAnswer::RefusedForNow {
            code: "4.7.1".into(),
            general_code: Some("451".into()),
            text: Some(text.to_owned()),
            retry_after: None,
        };
        let not_taken =
            |reason: &str| MessageAnswer::NotTaken { why: NotTaken::OutOfService, reason: reason.into() };
        let unknown = |reason: &str| MessageAnswer::Unknown { reason: reason.into() };
        assert_eq!(of(refused(reason)), refused("about …"));
        assert_eq!(of(for_now(reason)), for_now("about …"));
        assert_eq!(of(not_taken(reason)), not_taken("about …"));
        assert_eq!(of(MessageAnswer::NotTried), MessageAnswer::NotTried);
        assert_eq!(of(unknown(reason)), unknown("about …"));
        let accepted =
            MessageAnswer::Accepted { relay_reference: Some("12345678901".into()), duplicate: false };
        assert_eq!(of(accepted.clone()), accepted);
    }

    proptest! {
        #[test]
        fn words_are_bounded(words in any::<String>(), times in 1_usize..100) {
            prop_assert!(cleaned(&words.repeat(times)).chars().count() <= WORDS_MAX);
        }

        #[test]
        fn no_address_survives(
            before in "[ a-zA-Z0-9가-힣:,<>(]{0,250}",
            address in "[a-z0-9._+'-]{1,20}@[a-z]{1,10}\\.example|010-?[0-9]{4}-?[0-9]{4}",
            after in "[ a-z:,.)>]{0,50}",
        ) {
            let kept = cleaned(&format!("{before}{address}{after}"));
            prop_assert!(!kept.contains(&address), "{kept:?}");
            prop_assert!(!kept.contains('@'), "{kept:?}");
        }

        #[test]
        fn the_recipient_never_survives(before in "[a-z ]{0,20}", recipient in "[A-Z][ A-Z]{3,20}", after in "[a-z ]{0,20}") {
            let kept = without_addresses(&format!("{before}{recipient}{after}"), &recipient.to_lowercase());
            prop_assert!(!kept.contains(&recipient), "{kept:?}");
        }
    }
}
