//! When two addresses are the same one.
//!
//! A message goes to an address as it was given. Whether its owner has refused is another question: mail servers that
//! distinguish `Kim` from `kim` are not found in practice, and a domain is the same in its own letters and in
//! punycode. So addresses are compared by a normalised text: NFKC (full-width forms become the usual ones, jamo
//! become syllables), in lower case, the domain as IDNA writes it in ASCII (UTS 46).
//!
//! Deliberately absent: what single mail services do beyond that, such as ignoring dots or what follows a `+`.

use std::borrow::Cow;
use unicode_normalization::UnicodeNormalization;

/// The text that an address is compared by: the same for every spelling of one address. It accepts any text, because
/// a stored address may be older than a stricter rule. Names of streams are made from it, so it must never change.
#[must_use]
pub fn identity(address: &str) -> Cow<'_, str> {
    if address.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase()) {
        return Cow::Borrowed(address);
    }
    let folded: String = address.nfkc().flat_map(char::to_lowercase).nfkc().collect();
    let Some((local, domain)) = folded.rsplit_once('@') else { return Cow::Owned(folded) };
    match idna::domain_to_ascii(domain) {
        Ok(domain) => Cow::Owned(format!("{local}@{domain}")),
        // No name that a mail server could have: compared as it is written.
        Err(_) => Cow::Owned(folded),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Address;
    use proptest::prelude::*;

    #[test]
    fn every_spelling_of_an_address_is_the_same_address() {
        let same: [&[&str]; 5] = [
            &["case@example.com", "Case@Example.com", "CASE@EXAMPLE.COM", "ｃａｓｅ@ｅｘａｍｐｌｅ.com"],
            &[
                "kim@xn--3e0b707e.kr",
                "kim@한국.kr",
                "Kim@한국.KR",
                "kim@\u{1112}\u{1161}\u{11ab}\u{1100}\u{116e}\u{11a8}.kr",
            ],
            &["김@example.com", "\u{1100}\u{1175}\u{11b7}@Example.com"],
            &["josé@example.com", "jose\u{301}@example.com", "JOSÉ@example.com"],
            &["01012345678"],
        ];
        for spellings in same {
            for spelling in spellings {
                let given = Address::parse(spelling).unwrap();
                assert_eq!(identity(given.as_str()), identity(spellings[0]), "{spelling}");
                assert_eq!(identity(spelling), identity(spellings[0]), "{spelling}, as it was never checked");
            }
        }
    }

    #[test]
    fn other_addresses_are_others() {
        let others =
            ["kim@example.com", "k.im@example.com", "kim+a@example.com", "kim@example.co", "kim@한국.kr"];
        for (place, one) in others.iter().enumerate() {
            for other in &others[place + 1..] {
                assert_ne!(identity(one), identity(other));
            }
        }
    }

    #[test]
    fn how_an_address_is_written_does_not_change() {
        assert_eq!(Address::parse("Case@Example.com").unwrap().as_str(), "Case@example.com");
        assert_eq!(Address::parse("kim@한국.kr").unwrap().as_str(), "kim@한국.kr");
    }

    proptest! {
        #[test]
        fn no_text_panics_and_an_identity_is_its_own(text in "\\PC{0,12}(@\\PC{0,12})?") {
            let once = identity(&text).into_owned();
            prop_assert_eq!(identity(&once).into_owned(), once);
        }

        #[test]
        fn letter_case_never_tells_addresses_apart(text in "[a-zA-Z가-힣é]{1,8}@[a-zA-Z가-힣]{1,8}\\.[a-zA-Z]{2,4}") {
            let loud = text.to_uppercase();
            prop_assert_eq!(identity(&text), identity(&loud));
        }
    }
}
