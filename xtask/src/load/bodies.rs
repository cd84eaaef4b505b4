//! Request bodies, made before the clock runs.

use std::fmt::Write as _;

use bytes::Bytes;

use super::platform::FROM_PHONE;

/// Korean mobile numbers that begin with this are recipients of a bulk sending.
const BULK_PREFIX: &str = "0102";
/// Korean mobile numbers that begin with this are recipients of a one-time password.
pub(crate) const OTP_PREFIX: &str = "0103";
/// Digits after a prefix.
const DIGITS: usize = 7;
/// Numbers there are with one prefix.
const NUMBERS: u32 = 10_000_000;

/// How urgent a bulk sending is.
#[derive(Clone, Copy)]
pub(crate) enum Bulk {
    /// Ordinary.
    Notice,
    /// An advertisement, with everything that it needs to be handed over at any hour.
    Advertisement,
}

/// A bulk sending to this many different numbers; which ones follows from `number`.
pub(crate) fn bulk(class: Bulk, number: u32, recipients: u32) -> Bytes {
    let (class, ad) = match class {
        Bulk::Notice => ("notice", ""),
        Bulk::Advertisement => ("ad", r#""ad":{"night_consent":true,"mark_automatically":true},"#),
    };
    let mut body = format!(
        r##"{{"class":"{class}",{ad}"from":"{FROM_PHONE}","text":"#{{name}}님, 주문하신 상품이 출발했습니다.","recipients":["##
    );
    for index in 0..recipients {
        let phone = (u64::from(number) * u64::from(recipients) + u64::from(index)) % u64::from(NUMBERS);
        let comma = if index == 0 { "" } else { "," };
        let _ = write!(
            body,
            r#"{comma}{{"to":"{BULK_PREFIX}{phone:0width$}","variables":{{"name":"고객{index}"}}}}"#,
            width = DIGITS
        );
    }
    body.push_str("]}");
    body.into()
}

/// One ordinary message to one number.
pub(crate) fn single(number: u32) -> Bytes {
    bulk(Bulk::Notice, number, 1)
}

/// The recipient of a one-time password.
pub(crate) fn otp_recipient(number: u32) -> String {
    format!("{OTP_PREFIX}{number:0DIGITS$}")
}

/// A one-time password.
pub(crate) fn otp(number: u32) -> Bytes {
    let to = otp_recipient(number);
    let code = number % 1_000_000;
    format!(
        r#"{{"class":"otp","from":"{FROM_PHONE}","text":"인증번호는 {code:06}입니다.","recipients":[{{"to":"{to}"}}]}}"#
    )
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::collections::HashSet;

    #[test]
    fn bodies_are_json_with_different_recipients() {
        let mut recipients = HashSet::new();
        for number in 0..3 {
            let body: Value = serde_json::from_slice(&bulk(Bulk::Advertisement, number, 50)).unwrap();
            assert_eq!(body["class"], "ad");
            for recipient in body["recipients"].as_array().unwrap() {
                let to = recipient["to"].as_str().unwrap();
                assert_eq!((to.len(), to.starts_with(BULK_PREFIX)), (11, true));
                assert!(recipients.insert(to.to_owned()));
            }
        }
        assert_eq!(recipients.len(), 150);
        let body: Value = serde_json::from_slice(&otp(42)).unwrap();
        assert_eq!(body["recipients"][0]["to"], "01030000042");
    }
}
