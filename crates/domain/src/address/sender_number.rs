//! Sender numbers (발신번호): which telephone numbers may be the sender of a message.
//!
//! Registration is compulsory, per number and per relay, but it is a fact about relays and not about the number. This
//! file only checks the form that any registration requires: a land line with its area code, an 010 mobile number
//! (not 010-0 or 010-1, which are not assigned), 070, 030, 050 or a representative number.

use super::phone::{PhoneError, PhoneKind, PhoneNumber};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use std::fmt;
use strum::{IntoStaticStr, VariantArray};

/// A number that may be registered as a sender, in the canonical form of [`PhoneNumber`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SenderNumber(PhoneNumber);

/// Why a text is not a sender number. Serialises with its stable code and its details.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize)]
#[serde(untagged)]
pub enum SenderNumberError {
    /// It is no telephone number at all.
    #[error(transparent)]
    NotANumber(#[from] PhoneError),
    /// It is a telephone number, but not one that may send.
    #[error("{reason}")]
    MayNotSend {
        /// Which rule forbids it.
        #[serde(rename = "code")]
        reason: SenderRefusal,
        /// The number in canonical form.
        number: PhoneNumber,
    },
}

/// The rule by which a telephone number may not be a sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize, IntoStaticStr, VariantArray)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum SenderRefusal {
    /// 010-0 and 010-1 are not handed out to anyone.
    #[error("numbers beginning with 010-0 and 010-1 are not handed out, so they cannot send")]
    SenderRangeReserved,
    /// 011, 016, 017, 018, 019.
    #[error("of the mobile numbers only those beginning with 010 can send")]
    SenderMobileRetired,
    /// 080 can be called for free, but does not send.
    #[error("080 numbers can be called but cannot send")]
    SenderTollFree,
    /// Only Korean numbers can be registered.
    #[error("a number of another country cannot be registered as a sender")]
    SenderInternational,
}

impl SenderRefusal {
    /// Stable code for problem documents.
    #[must_use]
    pub fn code(self) -> &'static str {
        self.into()
    }
}

impl SenderNumberError {
    /// Stable code for problem documents.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotANumber(error) => error.code(),
            Self::MayNotSend { reason, .. } => reason.code(),
        }
    }
}

impl SenderNumber {
    /// Reads a number like [`PhoneNumber::parse`] and checks that its kind may send.
    ///
    /// # Errors
    /// The text is not a number, or a rule forbids the number to send.
    pub fn parse(raw: &str) -> Result<Self, SenderNumberError> {
        let number = PhoneNumber::parse(raw)?;
        match refusal_of(&number) {
            Some(reason) => Err(SenderNumberError::MayNotSend { reason, number }),
            None => Ok(Self(number)),
        }
    }

    /// Takes the canonical text of a number that was checked when it was stored.
    #[must_use]
    pub fn from_trusted(text: impl Into<SmolStr>) -> Self {
        Self(PhoneNumber::from_trusted(text))
    }

    /// The canonical text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The telephone number that it is.
    #[must_use]
    pub fn phone(&self) -> &PhoneNumber {
        &self.0
    }
}

impl fmt::Display for SenderNumber {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl std::str::FromStr for SenderNumber {
    type Err = SenderNumberError;

    fn from_str(raw: &str) -> Result<Self, Self::Err> {
        Self::parse(raw)
    }
}

fn refusal_of(number: &PhoneNumber) -> Option<SenderRefusal> {
    let text = number.as_str();
    match number.kind() {
        PhoneKind::KoreanMobile if !text.starts_with("010") => Some(SenderRefusal::SenderMobileRetired),
        PhoneKind::KoreanMobile if text.starts_with("0100") || text.starts_with("0101") => {
            Some(SenderRefusal::SenderRangeReserved)
        }
        PhoneKind::TollFree080 => Some(SenderRefusal::SenderTollFree),
        PhoneKind::International => Some(SenderRefusal::SenderInternational),
        PhoneKind::KoreanMobile
        | PhoneKind::KoreanLandline
        | PhoneKind::InternetPhone070
        | PhoneKind::UnifiedMessaging030
        | PhoneKind::Personal050
        | PhoneKind::Representative => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_that_may_send() {
        let cases = [
            ("02-1234-5678", "0212345678"),
            ("031-123-4567", "0311234567"),
            ("010-2345-6789", "01023456789"),
            ("070 1234 5678", "07012345678"),
            ("1588-1234", "15881234"),
            ("16001234", "16001234"),
            ("1899-0000", "18990000"),
            ("0303-1234-5678", "030312345678"),
            ("0505-123-4567", "05051234567"),
            ("+82 2 1234 5678", "0212345678"),
        ];
        for (raw, canonical) in cases {
            assert_eq!(SenderNumber::parse(raw).unwrap().as_str(), canonical, "{raw}");
        }
    }

    #[test]
    fn numbers_that_may_not_send_and_why() {
        let cases = [
            ("010-0123-4567", "sender_range_reserved"),
            ("010-1234-5678", "sender_range_reserved"),
            ("011-234-5678", "sender_mobile_retired"),
            ("080-123-4567", "sender_toll_free"),
            ("+14155552671", "sender_international"),
            ("7345-6789", "unknown_prefix"),
            ("1588-123", "too_short"),
            ("1023456789", "lost_leading_zero"),
            ("050-1234-5678-90", "too_long"),
        ];
        for (raw, code) in cases {
            let error = SenderNumber::parse(raw).expect_err(raw);
            assert_eq!(error.code(), code, "{raw}");
            assert_eq!(serde_json::to_value(&error).unwrap()["code"], code, "{raw}");
        }
    }

    proptest! {
        #[test]
        fn a_sender_is_a_number_in_canonical_form(raw in "0?[0-9]{7,12}") {
            if let Ok(sender) = SenderNumber::parse(&raw) {
                prop_assert_eq!(&PhoneNumber::parse(sender.as_str()).unwrap(), sender.phone());
                prop_assert_eq!(SenderNumber::parse(sender.as_str()), Ok(sender));
            }
        }
    }
}
