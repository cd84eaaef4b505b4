//! Where a message goes to and where it comes from.
//!
//! Every type here is parsed once, at the edge, and trusted inside. All of them keep a canonical text that is cheap
//! to clone, serialise as that text, and *decode without checking*: a stored event must decode even after a rule
//! became stricter (law 1). Outside input is therefore read as a `String` and given to `parse`.
//!
//! Deliberately absent: which relay can send to which kind of number. That is a capability of the relay.

mod email;
mod identity;
mod phone;
mod sender_number;

pub use email::{EMAIL_BYTES_MAX, EmailAddress, EmailError};
pub use identity::identity;
pub use phone::{PhoneError, PhoneKind, PhoneNumber, warm_up};
pub use sender_number::{SenderNumber, SenderNumberError, SenderRefusal};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smol_str::SmolStr;
use std::fmt;

/// The address of one recipient.
///
/// Serialises as the canonical text; the two kinds are told apart by the `@` that only an e-mail address has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// A telephone number, for sms, lms, mms and alimtalk.
    Phone(PhoneNumber),
    /// An e-mail address.
    Email(EmailAddress),
}

/// Why a text is neither a telephone number nor an e-mail address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize)]
#[serde(untagged)]
pub enum AddressError {
    /// It has no `@`, so it was read as a telephone number.
    #[error(transparent)]
    Phone(#[from] PhoneError),
    /// It has an `@`, so it was read as an e-mail address.
    #[error(transparent)]
    Email(#[from] EmailError),
}

impl AddressError {
    /// Stable code for problem documents and stored reasons.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Phone(error) => error.code(),
            Self::Email(error) => error.code(),
        }
    }
}

impl Address {
    /// Reads a text with an `@` as an e-mail address and any other as a telephone number.
    ///
    /// # Errors
    /// The error of the kind that the text was read as.
    pub fn parse(raw: &str) -> Result<Self, AddressError> {
        if raw.contains(['@', '＠']) {
            Ok(Self::Email(EmailAddress::parse(raw)?))
        } else {
            Ok(Self::Phone(PhoneNumber::parse(raw)?))
        }
    }

    /// Takes the canonical text of an address that was checked when it was stored.
    #[must_use]
    pub fn from_trusted(text: impl Into<SmolStr>) -> Self {
        let text = text.into();
        if text.contains('@') {
            Self::Email(EmailAddress::from_trusted(text))
        } else {
            Self::Phone(PhoneNumber::from_trusted(text))
        }
    }

    /// The canonical text: equal addresses have equal texts.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Phone(phone) => phone.as_str(),
            Self::Email(email) => email.as_str(),
        }
    }

    /// The telephone number, if it is one.
    #[must_use]
    pub fn as_phone(&self) -> Option<&PhoneNumber> {
        match self {
            Self::Phone(phone) => Some(phone),
            Self::Email(_) => None,
        }
    }

    /// The e-mail address, if it is one.
    #[must_use]
    pub fn as_email(&self) -> Option<&EmailAddress> {
        match self {
            Self::Phone(_) => None,
            Self::Email(email) => Some(email),
        }
    }

    /// The address with its personal part hidden, for log lines: `010-12**-**78`, `j***@example.com`.
    #[must_use]
    pub fn masked(&self) -> String {
        match self {
            Self::Phone(phone) => phone.masked(),
            Self::Email(email) => email.masked(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl From<PhoneNumber> for Address {
    fn from(phone: PhoneNumber) -> Self {
        Self::Phone(phone)
    }
}

impl From<EmailAddress> for Address {
    fn from(email: EmailAddress) -> Self {
        Self::Email(email)
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        SmolStr::deserialize(deserializer).map(Self::from_trusted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_kind_is_seen_from_the_at_sign() {
        assert_eq!(Address::parse("010-1234-5678").unwrap().as_str(), "01012345678");
        assert_eq!(Address::parse("Kim@Example.COM").unwrap().as_str(), "Kim@example.com");
        assert_eq!(Address::parse("kim@").unwrap_err().code(), "domain_empty");
        assert_eq!(Address::parse("010").unwrap_err().code(), "too_short");
    }

    #[test]
    fn a_stored_address_comes_back_as_its_kind() {
        for text in ["01012345678", "+14155552671", "kim@example.com", "what was once allowed"] {
            let json = serde_json::to_string(text).unwrap();
            let address: Address = serde_json::from_str(&json).unwrap();
            assert_eq!(address.as_email().is_some(), text.contains('@'));
            assert_eq!(serde_json::to_string(&address).unwrap(), json);
        }
    }

    #[test]
    fn masked_hides_the_personal_part() {
        let cases = [
            ("01012345678", "010-12**-**78"),
            ("0111234567", "011-1**-**67"),
            ("0212345678", "02-12**-**78"),
            ("15881234", "15**-**34"),
            ("+14155552671", "+1415*****71"),
            ("+491649", "*******"),
            ("kim@example.com", "k***@example.com"),
        ];
        for (raw, masked) in cases {
            assert_eq!(Address::parse(raw).unwrap().masked(), masked, "{raw}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_is_taken_is_canonical(raw in any::<String>()) {
            if let Ok(address) = Address::parse(&raw) {
                prop_assert_eq!(&Address::parse(address.as_str()).unwrap(), &address);
                prop_assert_eq!(&Address::from_trusted(address.as_str()), &address);
            }
        }

        #[test]
        fn masking_takes_any_stored_text(raw in any::<String>()) {
            let address = Address::from_trusted(raw.as_str());
            prop_assert!(!address.masked().is_empty());
        }
    }
}
