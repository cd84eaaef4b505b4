//! How numbers are read, as tables of cases and laws.

use super::*;
use proptest::prelude::*;

fn parse(raw: &str) -> Result<PhoneNumber, PhoneError> {
    PhoneNumber::parse(raw)
}

#[test]
fn korean_numbers_become_domestic_digits() {
    let cases = [
        ("01012345678", "01012345678", PhoneKind::KoreanMobile),
        ("010-1234-5678", "01012345678", PhoneKind::KoreanMobile),
        (" (010) 1234.5678 ", "01012345678", PhoneKind::KoreanMobile),
        ("０１０－１２３４－５６７８", "01012345678", PhoneKind::KoreanMobile),
        ("\u{202A}010\u{200B}1234\u{FEFF}5678\u{202C}", "01012345678", PhoneKind::KoreanMobile),
        ("010–1234—5678", "01012345678", PhoneKind::KoreanMobile),
        ("+82 10-1234-5678", "01012345678", PhoneKind::KoreanMobile),
        ("(+82) 010-1234-5678", "01012345678", PhoneKind::KoreanMobile),
        ("+82 (0)10-1234-5678", "01012345678", PhoneKind::KoreanMobile),
        ("821012345678", "01012345678", PhoneKind::KoreanMobile),
        ("8201012345678", "01012345678", PhoneKind::KoreanMobile),
        ("011-123-4567", "0111234567", PhoneKind::KoreanMobile),
        ("+82 16 123 4567", "0161234567", PhoneKind::KoreanMobile),
        ("02-123-4567", "021234567", PhoneKind::KoreanLandline),
        ("+82 2 1234 5678", "0212345678", PhoneKind::KoreanLandline),
        ("064-123-4567", "0641234567", PhoneKind::KoreanLandline),
        ("070-1234-5678", "07012345678", PhoneKind::InternetPhone070),
        ("0303-123-4567", "03031234567", PhoneKind::UnifiedMessaging030),
        ("0507-1234-5678", "050712345678", PhoneKind::Personal050),
        ("080-123-4567", "0801234567", PhoneKind::TollFree080),
        ("1588-1234", "15881234", PhoneKind::Representative),
        ("+82 1588 1234", "15881234", PhoneKind::Representative),
        ("1800-0000", "18000000", PhoneKind::Representative),
    ];
    for (raw, canonical, kind) in cases {
        let number = parse(raw).unwrap_or_else(|error| panic!("{raw}: {error}"));
        assert_eq!(number.as_str(), canonical, "{raw}");
        assert_eq!(number.kind(), kind, "{raw}");
    }
}

#[test]
fn numbers_of_other_countries_become_e164() {
    let cases = [
        ("+1 (415) 555-2671", "+14155552671"),
        ("+44 (0)20 7946 0958", "+442079460958"),
        ("＋81 90-1234-5678", "+819012345678"),
        ("+86 138 0013 8000", "+8613800138000"),
    ];
    for (raw, canonical) in cases {
        let number = parse(raw).unwrap_or_else(|error| panic!("{raw}: {error}"));
        assert_eq!(number.as_str(), canonical, "{raw}");
        assert_eq!(number.kind(), PhoneKind::International, "{raw}");
        assert_eq!(number.to_e164(), canonical);
    }
}

#[test]
fn refusals_name_the_character_or_the_rule() {
    let lost = |text: &str| PhoneError::LostLeadingZero { suggestion: PhoneNumber::from_trusted(text) };
    let cases = [
        ("", PhoneError::Empty),
        (" - ", PhoneError::Empty),
        ("+", PhoneError::Empty),
        ("010-1234-567x", PhoneError::NotADigit { character: 'x', position: 12 }),
        ("전화 010", PhoneError::NotADigit { character: '전', position: 0 }),
        ("010/1234/5678", PhoneError::NotADigit { character: '/', position: 3 }),
        ("010+12345678", PhoneError::NotADigit { character: '+', position: 3 }),
        ("++82", PhoneError::NotADigit { character: '+', position: 1 }),
        ("1.01235E+09", PhoneError::NotADigit { character: 'E', position: 7 }),
        ("010-1234-567", PhoneError::TooShort { digits: 10, digits_min: 11 }),
        ("+82 10 1234 567", PhoneError::TooShort { digits: 10, digits_min: 11 }),
        ("+82", PhoneError::TooShort { digits: 1, digits_min: 8 }),
        ("+82 1588 123", PhoneError::TooShort { digits: 7, digits_min: 8 }),
        ("119", PhoneError::TooShort { digits: 3, digits_min: 8 }),
        ("010-1234-56789", PhoneError::TooLong { digits_max: 11 }),
        ("1588-12345", PhoneError::TooLong { digits_max: 8 }),
        ("0123456789012345678", PhoneError::TooLong { digits_max: DIGITS_MAX }),
        ("001-415-555-2671", PhoneError::UnknownPrefix { prefix: "001".into() }),
        ("060-700-1234", PhoneError::UnknownPrefix { prefix: "060".into() }),
        ("1012345678", lost("01012345678")),
        ("10-1234-5678", lost("01012345678")),
        ("212345678", lost("0212345678")),
        ("161234567", lost("0161234567")),
        ("+999 1234 5678", PhoneError::UnknownCountryCode { number: "+99912345678".into() }),
        ("+1 000 000 0000", PhoneError::NotANumberOfItsCountry { number: "+10000000000".into() }),
        ("+1 415 055 2671", PhoneError::NotANumberOfItsCountry { number: "+14150552671".into() }),
        ("+44 20 7946 09", PhoneError::NotANumberOfItsCountry { number: "+4420794609".into() }),
    ];
    for (raw, error) in cases {
        assert_eq!(parse(raw), Err(error), "{raw}");
    }
}

#[test]
fn an_error_serialises_with_its_code_and_details() {
    let error = parse("1012345678").unwrap_err();
    let json = serde_json::to_value(&error).unwrap();
    assert_eq!(json, serde_json::json!({"code": "lost_leading_zero", "suggestion": "01012345678"}));
    assert_eq!(json["code"], error.code());
    assert_eq!(error.to_string(), "the leading zero is missing; is 01012345678 meant?");
}

#[test]
fn area_codes_are_exactly_those_of_the_plan() {
    let taken: Vec<String> = (30..=69)
        .map(|code| format!("0{code}"))
        .filter(|code| {
            parse(&format!("{code}2345678")).is_ok_and(|number| number.kind() == PhoneKind::KoreanLandline)
        })
        .collect();
    let plan = "031 032 033 041 042 043 044 051 052 053 054 055 061 062 063 064";
    assert_eq!(taken.join(" "), plan);
}

#[test]
fn domestic_numbers_have_an_e164_form() {
    assert_eq!(parse("01012345678").unwrap().to_e164(), "+821012345678");
    assert_eq!(parse("15881234").unwrap().to_e164(), "+8215881234");
}

proptest! {
    #[test]
    fn a_canonical_number_is_read_as_itself(raw in "(\\+|82|\\+82|0)?[0-9]{6,14}") {
        if let Ok(number) = parse(&raw) {
            prop_assert_eq!(parse(number.as_str()), Ok(number.clone()));
            prop_assert_eq!(parse(&number.to_e164()), Ok(number));
        }
    }

    #[test]
    fn separators_never_change_the_number(tail in "[0-9]{8}", separator in "[-. ()\\u{200B}]{0,3}") {
        let plain = format!("010{tail}");
        let written = format!("010{separator}{}{separator}{}", &tail[..4], &tail[4..]);
        let number = parse(&written).unwrap();
        prop_assert_eq!(number.as_str(), plain);
    }

    #[test]
    fn no_text_panics(raw in "[+0-9 ()x０-９\\u{200B}①½]{0,40}") {
        let _ = parse(&raw);
    }
}
