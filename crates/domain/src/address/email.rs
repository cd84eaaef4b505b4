//! E-mail addresses.
//!
//! The canonical text is NFC with the domain in lower case; the local part keeps its case, because only the
//! receiving host may say that case does not matter there (RFC 5321, section 2.4). A domain with letters
//! outside ASCII is kept as it is written; turning it into its `xn--` form belongs to whoever opens the
//! connection. The syntax is checked by the `email_address` crate, with these narrower rules: no display name,
//! no quoted local part (`"a b"@…`), no address literal (`@[192.0.2.1]`) and a domain of at least two labels, of
//! whose ASCII characters only letters, digits and hyphens are taken (RFC 5321, section 2.3.5).
//!
//! Deliberately absent: asking whether the domain or the mailbox exists.

use email_address::Options;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use std::fmt;
use unicode_normalization::UnicodeNormalization;

/// Longest address in bytes: a path is at most 256 with its angle brackets (RFC 5321, section 4.5.3.1.3).
pub const EMAIL_BYTES_MAX: usize = 254;

const OPTIONS: Options =
    Options { minimum_sub_domains: 2, allow_domain_literal: false, allow_display_text: false };

/// An e-mail address in canonical form. Cloning never copies the text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EmailAddress(SmolStr);

/// Why a text is not an e-mail address. Serialises with its stable code and its details.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, strum::IntoStaticStr)]
#[serde(tag = "code", rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum EmailError {
    /// Nothing is left after spaces.
    #[error("the e-mail address is empty")]
    Empty,
    /// It is longer than mail servers accept.
    #[error("the e-mail address has {bytes} bytes; it may have at most {bytes_max}")]
    EmailTooLong {
        /// Bytes given.
        bytes: usize,
        /// Most bytes allowed.
        bytes_max: usize,
    },
    /// There is no `@`.
    #[error("the e-mail address has no @")]
    AtSignMissing,
    /// Nothing is before the `@`.
    #[error("nothing stands before the @")]
    LocalPartEmpty,
    /// More than 64 bytes before the `@`.
    #[error("the part before the @ has more than 64 bytes")]
    LocalPartTooLong,
    /// Nothing stands after the `@`, or between two dots of the domain.
    #[error("the domain after the @ is empty or has an empty part")]
    DomainEmpty,
    /// The domain, or a part of it between two dots, is too long.
    #[error("the domain has more than 255 bytes, or a part of it more than 63")]
    DomainTooLong,
    /// The domain has no dot.
    #[error("the domain has no ending such as .com or .kr")]
    DomainIncomplete,
    /// A character that may not stand there.
    #[error("{character:?} at index {position} may not stand in an e-mail address")]
    CharacterNotAllowed {
        /// The first such character.
        character: char,
        /// Its index in the raw text, in characters from 0.
        position: usize,
    },
    /// A form of address that is valid on paper but not taken here, or that is malformed in some other way.
    #[error("the e-mail address is not of the form name@example.com")]
    FormNotSupported,
}

impl EmailError {
    /// Stable code for problem documents and stored reasons.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.into()
    }
}

impl EmailAddress {
    /// Reads an address; spaces around it are dropped, the text becomes NFC and the domain lower case.
    ///
    /// # Errors
    /// [`EmailError`] names the part or the character.
    pub fn parse(raw: &str) -> Result<Self, EmailError> {
        let trimmed = raw.trim();
        if trimmed.is_empty() {
            return Err(EmailError::Empty);
        }
        if trimmed.len() > EMAIL_BYTES_MAX {
            return Err(EmailError::EmailTooLong { bytes: trimmed.len(), bytes_max: EMAIL_BYTES_MAX });
        }
        if let Some(error) = first_forbidden(raw, trimmed) {
            return Err(error);
        }
        let canonical = canonical(trimmed).ok_or(EmailError::AtSignMissing)?;
        if canonical.len() > EMAIL_BYTES_MAX {
            return Err(EmailError::EmailTooLong { bytes: canonical.len(), bytes_max: EMAIL_BYTES_MAX });
        }
        match email_address::EmailAddress::parse_with_options(&canonical, OPTIONS) {
            // Composed of characters outside ASCII: it is not in the text as it was given.
            Ok(_) if domain_of(&canonical).chars().any(is_foreign_to_domains) => {
                Err(EmailError::FormNotSupported)
            }
            Ok(_) => Ok(Self(canonical)),
            Err(error) => Err(translate(&error)),
        }
    }

    /// Takes the canonical text of an address that was checked before it was stored.
    #[must_use]
    pub fn from_trusted(text: impl Into<SmolStr>) -> Self {
        Self(text.into())
    }

    /// The canonical text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands after the `@`, in lower case; for statistics and for the limits of receiving hosts.
    #[must_use]
    pub fn domain(&self) -> &str {
        domain_of(&self.0)
    }

    /// The address with its local part hidden, for log lines: `j***@example.com`.
    #[must_use]
    pub fn masked(&self) -> String {
        match self.0.rsplit_once('@') {
            Some((local, domain)) => {
                let first: String = local.chars().take(1).collect();
                format!("{first}***@{domain}")
            }
            None => "***".to_owned(),
        }
    }
}

impl fmt::Display for EmailAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::str::FromStr for EmailAddress {
    type Err = EmailError;

    fn from_str(raw: &str) -> Result<Self, Self::Err> {
        Self::parse(raw)
    }
}

impl AsRef<str> for EmailAddress {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

fn domain_of(address: &str) -> &str {
    address.rsplit_once('@').map_or("", |(_, domain)| domain)
}

/// Not a letter, digit, hyphen or dot, as far as ASCII goes: no mail server has such a name.
fn is_foreign_to_domains(character: char) -> bool {
    character.is_ascii() && !character.is_ascii_alphanumeric() && !matches!(character, '-' | '.')
}

/// NFC, and the domain in lower case. Nothing if there is no `@`.
fn canonical(trimmed: &str) -> Option<SmolStr> {
    if trimmed.is_ascii() {
        let (local, domain) = trimmed.rsplit_once('@')?;
        if !domain.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Some(SmolStr::new(trimmed));
        }
        let domain = domain.to_ascii_lowercase();
        return Some(SmolStr::from_iter([local, "@", &domain]));
    }
    // Lower case may leave NFC, and NFC may bring back upper case, for a handful of letters: NFC comes last.
    let composed: String = trimmed.nfc().collect();
    let (local, domain) = composed.rsplit_once('@')?;
    let domain: String = domain.to_lowercase().nfc().collect();
    Some(SmolStr::from_iter([local, "@", &domain]))
}

/// The first character that the rules here forbid, anywhere in an address or in its domain, found in the text as
/// it was given so that its position helps whoever typed it.
fn first_forbidden(raw: &str, trimmed: &str) -> Option<EmailError> {
    let leading = raw.chars().take_while(|character| character.is_whitespace()).count();
    let domain_begins = trimmed.len() - domain_of(trimmed).len();
    let has_domain = domain_begins < trimmed.len();
    let (position, (_, character)) = trimmed.char_indices().enumerate().find(|(_, (byte, character))| {
        character.is_whitespace()
            || character.is_control()
            || matches!(character, '(' | ')' | '<' | '>' | '[' | ']' | ':' | ';' | '\\' | ',' | '"' | '＠')
            || matches!(character, '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}')
            || (has_domain && *byte >= domain_begins && is_foreign_to_domains(*character))
    })?;
    Some(EmailError::CharacterNotAllowed { character, position: position + leading })
}

fn translate(error: &email_address::Error) -> EmailError {
    use email_address::Error;
    match error {
        Error::MissingSeparator => EmailError::AtSignMissing,
        Error::LocalPartEmpty => EmailError::LocalPartEmpty,
        Error::LocalPartTooLong => EmailError::LocalPartTooLong,
        Error::DomainEmpty | Error::SubDomainEmpty => EmailError::DomainEmpty,
        Error::DomainTooLong | Error::SubDomainTooLong => EmailError::DomainTooLong,
        Error::DomainTooFew => EmailError::DomainIncomplete,
        Error::InvalidCharacter
        | Error::DomainInvalidSeparator
        | Error::UnbalancedQuotes
        | Error::InvalidComment
        | Error::InvalidIPAddress
        | Error::UnsupportedDomainLiteral
        | Error::UnsupportedDisplayName
        | Error::MissingDisplayName
        | Error::MissingEndBracket => EmailError::FormNotSupported,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_domain_is_lower_case_and_the_local_part_is_kept() {
        let cases = [
            ("Kim.Lee+tag@Example.COM", "Kim.Lee+tag@example.com"),
            ("  kim@example.com\n", "kim@example.com"),
            ("홍길동@한국.KR", "홍길동@한국.kr"),
            ("e\u{301}@example.com", "é@example.com"),
        ];
        for (raw, canonical) in cases {
            assert_eq!(EmailAddress::parse(raw).unwrap().as_str(), canonical, "{raw}");
        }
        assert_eq!(EmailAddress::parse("a@B.kr").unwrap().domain(), "b.kr");
    }

    #[test]
    fn refusals_name_the_part_or_the_character() {
        let long_local = format!("{}@example.com", "a".repeat(65));
        let long_address = format!("a@{}.com", "b.".repeat(130));
        let cases: [(&str, EmailError); 17] = [
            ("", EmailError::Empty),
            ("  ", EmailError::Empty),
            ("kim.example.com", EmailError::AtSignMissing),
            ("@example.com", EmailError::LocalPartEmpty),
            ("kim@", EmailError::DomainEmpty),
            ("kim@example..com", EmailError::DomainEmpty),
            ("kim@localhost", EmailError::DomainIncomplete),
            (" k im@example.com", EmailError::CharacterNotAllowed { character: ' ', position: 2 }),
            ("Kim <kim@example.com>", EmailError::CharacterNotAllowed { character: ' ', position: 3 }),
            ("kim+a@exa+mple.com", EmailError::CharacterNotAllowed { character: '+', position: 9 }),
            (" 김@my_shop.kr", EmailError::CharacterNotAllowed { character: '_', position: 5 }),
            ("kim@b\u{1FEF}.kr", EmailError::FormNotSupported),
            ("kim@[192.0.2.1]", EmailError::CharacterNotAllowed { character: '[', position: 4 }),
            (
                "kim@example.com\r\nBcc:x@y.kr",
                EmailError::CharacterNotAllowed { character: '\r', position: 15 },
            ),
            ("kim..lee@example.com", EmailError::FormNotSupported),
            (&long_local, EmailError::LocalPartTooLong),
            (&long_address, EmailError::EmailTooLong { bytes: long_address.len(), bytes_max: 254 }),
        ];
        for (raw, error) in cases {
            assert_eq!(EmailAddress::parse(raw), Err(error), "{raw}");
        }
    }

    #[test]
    fn an_address_may_have_254_bytes_as_it_is_given_and_as_it_is_kept() {
        let label = "b".repeat(62);
        let ending_in = |last: &str| format!("a@{label}.{label}.{label}.{last}.kr");
        let longest = ending_in(&"c".repeat(60));
        assert_eq!(
            (longest.len(), EmailAddress::parse(&longest).unwrap().to_string()),
            (254, longest.clone())
        );
        let longer = EmailAddress::parse(&ending_in(&"c".repeat(61)));
        assert_eq!(longer, Err(EmailError::EmailTooLong { bytes: 255, bytes_max: 254 }));
        // In lower case this letter has a byte more.
        let grows = ending_in(&format!("{}İ", "c".repeat(58)));
        assert_eq!(grows.len(), 254);
        let grown = EmailAddress::parse(&grows);
        assert_eq!(grown, Err(EmailError::EmailTooLong { bytes: 255, bytes_max: 254 }));
    }

    #[test]
    fn an_error_serialises_with_its_code() {
        for raw in ["", "a", "@b.kr", "a@", "a@b", "a b@c.kr", "a..b@c.kr"] {
            let error = EmailAddress::parse(raw).unwrap_err();
            assert_eq!(serde_json::to_value(&error).unwrap()["code"], error.code());
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_and_canonical_is_read_as_itself(raw in "\\PC{0,20}@\\PC{1,20}\\.\\PC{1,5}") {
            if let Ok(email) = EmailAddress::parse(&raw) {
                prop_assert_eq!(EmailAddress::parse(email.as_str()), Ok(email));
            }
        }

        #[test]
        fn usual_addresses_are_taken(local in "[a-z0-9]{1,20}([._+-][a-z0-9]{1,9})?", domain in "[a-z0-9]{1,20}\\.(com|co\\.kr)") {
            let text = format!("{local}@{domain}");
            prop_assert_eq!(EmailAddress::parse(&text).unwrap().to_string(), text);
        }
    }
}
