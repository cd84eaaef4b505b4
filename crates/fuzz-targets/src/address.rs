//! Phone numbers, sender numbers, numbers for refusing advertisements, e-mail addresses.

use kite_domain::address::{
    Address, EMAIL_BYTES_MAX, EmailAddress, EmailError, PhoneError, PhoneNumber, SenderNumber,
    SenderNumberError,
};
use kite_domain::advertisement::RefusalNumber;

use crate::input;

/// The longest canonical number: `+` and 15 digits.
const NUMBER_LENGTH_MAX: usize = 16;

/// Reads the text as each of them; an accepted text is canonical, and a refusal names a place in the text.
pub fn address(bytes: &[u8]) {
    let raw = &*input::text(bytes);
    plain_ones_are_taken(raw);
    let phone = phone(raw);
    sender(raw, phone.as_ref());
    if let Ok(number) = RefusalNumber::parse(raw) {
        assert_eq!(Some(number.as_str()), phone.as_ref().map(PhoneNumber::as_str));
    }
    email(raw);
    if let Ok(address) = Address::parse(raw) {
        assert_eq!(Address::parse(address.as_str()), Ok(address.clone()));
        assert_eq!(Address::from_trusted(address.as_str()), address);
        let masked = address.masked();
        // A letter and three stars are what masking leaves of any local part.
        let local = address.as_str().split_once('@').map_or("", |(local, _)| local);
        let is_masked_already = local.chars().count() == 4 && local.ends_with("***");
        assert!(masked.contains('*') && (masked != address.as_str() || is_masked_already), "{masked}");
    }
    // What was once stored is masked whatever it is.
    assert!(!Address::from_trusted(raw).masked().is_empty());
}

/// Ordinary addresses are accepted unchanged: a mobile number in digits, a mail address of plain letters.
fn plain_ones_are_taken(raw: &str) {
    if raw.len() == 11 && raw.starts_with("010") && raw.bytes().all(|byte| byte.is_ascii_digit()) {
        assert_eq!(PhoneNumber::parse(raw).map(|number| number.to_string()).as_deref(), Ok(raw));
    }
    let is_plain =
        |part: &str| (1..=60).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_lowercase());
    let domain = raw.split_once('@').filter(|(local, _)| is_plain(local)).map(|(_, domain)| domain);
    if domain
        .and_then(|domain| domain.split_once('.'))
        .is_some_and(|(one, two)| is_plain(one) && is_plain(two))
    {
        assert_eq!(EmailAddress::parse(raw).map(|address| address.to_string()).as_deref(), Ok(raw));
    }
}

fn phone(raw: &str) -> Option<PhoneNumber> {
    match PhoneNumber::parse(raw) {
        Ok(number) => {
            canonical(&number);
            Some(number)
        }
        Err(error) => {
            refusal(raw, &error);
            None
        }
    }
}

fn canonical(number: &PhoneNumber) {
    let text = number.as_str();
    // The shortest: a German pager.
    assert!((7..=NUMBER_LENGTH_MAX).contains(&text.len()), "{text}");
    let digits = text.strip_prefix('+').unwrap_or(text);
    assert!(digits.bytes().all(|byte| byte.is_ascii_digit()), "{text}");
    let again = PhoneNumber::parse(text).unwrap_or_else(|error| panic!("{text} is not read again: {error}"));
    assert_eq!((&again, again.kind()), (number, number.kind()));
}

fn refusal(raw: &str, error: &PhoneError) {
    assert!(!error.to_string().is_empty() && !error.code().is_empty());
    match error {
        PhoneError::NotADigit { character, position } => {
            assert_eq!(input::character_at(raw, *position), *character);
        }
        PhoneError::LostLeadingZero { suggestion } => canonical(suggestion),
        PhoneError::Empty
        | PhoneError::TooShort { .. }
        | PhoneError::TooLong { .. }
        | PhoneError::UnknownPrefix { .. }
        | PhoneError::UnknownCountryCode { .. }
        | PhoneError::NotANumberOfItsCountry { .. } => {}
    }
}

fn sender(raw: &str, phone: Option<&PhoneNumber>) {
    match SenderNumber::parse(raw) {
        Ok(sender) => {
            assert_eq!(Some(sender.phone()), phone);
            assert_eq!(SenderNumber::parse(sender.as_str()), Ok(sender));
        }
        Err(SenderNumberError::NotANumber(_)) => assert!(phone.is_none()),
        Err(SenderNumberError::MayNotSend { number, .. }) => assert_eq!(Some(&number), phone),
    }
}

fn email(raw: &str) {
    match EmailAddress::parse(raw) {
        Ok(address) => {
            let text = address.as_str();
            assert!(text.len() <= EMAIL_BYTES_MAX && text.matches('@').count() == 1, "{text}");
            assert!(!text.contains(char::is_whitespace) && !text.contains(char::is_control), "{text:?}");
            assert_eq!(EmailAddress::parse(text), Ok(address.clone()), "read again");
            assert!(!address.domain().is_empty());
        }
        Err(EmailError::CharacterNotAllowed { character, position }) => {
            assert_eq!(input::character_at(raw, position), character);
        }
        Err(error) => assert!(!error.to_string().is_empty() && !error.code().is_empty()),
    }
}
