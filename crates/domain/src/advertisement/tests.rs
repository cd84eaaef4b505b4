//! Which texts are marked as the law demands, as tables of cases and laws.

use super::*;
use crate::text::measure;
use proptest::prelude::*;

fn advertiser() -> Advertiser {
    Advertiser { name: "연날리기".into(), refusal_number: RefusalNumber::parse("080-123-4567").unwrap() }
}

fn check(text: &str) -> Result<(), &'static str> {
    AdvertisementRules::default().check(text, &advertiser()).map_err(|violation| violation.code())
}

fn mark(text: &str) -> Result<String, &'static str> {
    AdvertisementRules::default()
        .mark(text, &advertiser())
        .map(Cow::into_owned)
        .map_err(|violation| violation.code())
}

#[test]
fn texts_that_comply() {
    for text in [
        "(광고)연날리기 봄맞이 할인\n무료수신거부 0801234567",
        "(광고) [연날리기]\n할인!\n무료수신거부 080-123-4567\n",
        "(광고)연날리기 할인 무료수신거부:080.123.4567",
        "(광고)연날리기 할인 (무료수신거부 080-123-4567)",
        "(광고)연날리기 할인 [무료수신거부] 080 123 4567",
    ] {
        assert_eq!(check(text), Ok(()), "{text}");
        assert_eq!(mark(text), Ok(text.to_owned()), "{text}");
    }
}

#[test]
fn texts_that_break_a_rule() {
    let cases = [
        ("", "marking_missing"),
        ("할인", "marking_missing"),
        ("광고 문의 받습니다", "marking_missing"),
        ("[공지] 할인", "marking_missing"),
        ("[광고대행사] 할인", "marking_missing"),
        ("광", "marking_missing"),
        ("(광", "marking_missing"),
        ("[광고]연날리기", "marking_altered"),
        ("(광 고)연날리기", "marking_altered"),
        ("(광.고)연날리기", "marking_altered"),
        ("（광고）연날리기", "marking_altered"),
        ("( 광고 )연날리기", "marking_altered"),
        ("<광고>연날리기", "marking_altered"),
        ("광.고 연날리기", "marking_altered"),
        ("광\u{200B}고 연날리기", "marking_altered"),
        (" (광고)연날리기", "marking_not_first"),
        ("[공지] (광고)연날리기", "marking_not_first"),
        ("(광고)할인\n무료수신거부 0801234567", "sender_name_missing"),
        ("(광고)연날리기 할인", "refusal_missing"),
        ("(광고)연날리기 수신거부 0801234567", "refusal_missing"),
        ("(광고)연날리기 할인 무료수신거부", "refusal_number_missing"),
        ("(광고)연날리기 할인 무료수신거부 02-123-4567", "refusal_number_missing"),
        ("(광고)연날리기 할인 무료수신거부 080-999-9999", "refusal_number_wrong"),
        ("(광고)연날리기 무료수신거부 080-123-4567 지금 할인", "refusal_not_last"),
    ];
    for (text, code) in cases {
        assert_eq!(check(text), Err(code), "{text}");
    }
}

#[test]
fn marking_adds_what_is_missing_and_counts_towards_the_bytes() {
    let marked = mark("봄맞이 할인").unwrap();
    assert_eq!(marked, "(광고)연날리기\n봄맞이 할인\n무료수신거부 0801234567");
    assert_eq!(measure(&marked).unwrap().bytes, 15 + 11 + 24);
    assert_eq!(
        mark("할인\n무료수신거부 080-123-4567").unwrap(),
        "(광고)연날리기\n할인\n무료수신거부 080-123-4567"
    );
    assert_eq!(mark("(광고) 할인").unwrap(), "(광고)연날리기\n할인\n무료수신거부 0801234567");
    assert_eq!(
        mark("#{이름}님 #{혜택}").unwrap(),
        "(광고)연날리기\n#{이름}님 #{혜택}\n무료수신거부 0801234567"
    );
}

#[test]
fn a_wrong_marking_is_refused_and_not_mended() {
    for (text, code) in [
        ("[광고] 할인", "marking_altered"),
        ("할인 (광고)", "marking_not_first"),
        ("할인 무료수신거부 080-999-9999", "refusal_number_wrong"),
        ("할인 무료수신거부 080-123-4567 지금", "refusal_not_last"),
        ("할인 무료수신거부", "refusal_number_missing"),
    ] {
        assert_eq!(mark(text), Err(code), "{text}");
    }
}

#[test]
fn a_name_in_brackets_is_a_name_and_a_blank_one_is_not() {
    let rules = AdvertisementRules::default();
    let named = |name: &str| Advertiser { name: name.into(), ..advertiser() };
    let marked = rules.mark("할인", &named("[연]날리기")).unwrap();
    assert_eq!(marked, "(광고)[연]날리기\n할인\n무료수신거부 0801234567");
    assert_eq!(rules.check(&marked, &named("[연]날리기")), Ok(()));
    for name in [" ", "[(<", " 「 "] {
        assert_eq!(rules.mark("할인", &named(name)).unwrap_err().code(), "sender_name_missing", "{name:?}");
    }
    assert_eq!(rules.check(&marked, &named("")).unwrap_err().code(), "sender_name_missing");
}

#[test]
fn only_an_080_number_is_free() {
    assert_eq!(RefusalNumber::parse("080-1234-5678").unwrap().as_str(), "08012345678");
    assert!(matches!(RefusalNumber::parse("070-1234-5678"), Err(RefusalNumberError::NotFree { .. })));
    assert!(matches!(RefusalNumber::parse("080"), Err(RefusalNumberError::NotANumber(_))));
}

#[test]
fn an_email_is_marked_in_its_subject_and_tells_how_to_unsubscribe() {
    let rules = AdvertisementRules::default();
    let check = |subject: Option<&str>, text: &str| {
        rules.check_email(subject, text).map_err(|violation| violation.code())
    };
    let text = "할인!\n수신거부: https://example.com/u";
    assert_eq!(check(Some("(광고) 할인"), text), Ok(()));
    assert_eq!(check(Some("(광고) Sale"), "Unsubscribe: mailto:no@example.com"), Ok(()));
    assert_eq!(check(None, text), Err("subject_missing"));
    assert_eq!(check(Some("할인"), text), Err("marking_missing"));
    assert_eq!(check(Some("[광고] 할인"), text), Err("marking_altered"));
    assert_eq!(check(Some("(광고) 할인"), "할인!"), Err("unsubscribe_missing"));
    assert_eq!(check(Some("(광고) 할인"), "수신거부는 없습니다"), Err("unsubscribe_missing"));
    assert_eq!(rules.mark_email_subject("할인").unwrap(), "(광고) 할인");
    assert_eq!(rules.mark_email_subject("(광고)할인").unwrap(), "(광고)할인");
    assert_eq!(rules.mark_email_subject(" "), Err(AdRuleViolation::SubjectMissing));
}

#[test]
fn a_violation_serialises_with_its_code() {
    let violation = AdvertisementRules::default().check("[광고]", &advertiser()).unwrap_err();
    let json = serde_json::to_value(&violation).unwrap();
    assert_eq!(json, serde_json::json!({"code": "marking_altered", "found": "[광고]", "marking": "(광고)"}));
}

proptest! {
    #[test]
    fn what_was_marked_complies_and_is_not_marked_again(text in any::<String>()) {
        if let Ok(marked) = mark(&text) {
            prop_assert_eq!(check(&marked), Ok(()));
            prop_assert_eq!(mark(&marked), Ok(marked));
        }
    }

    #[test]
    fn a_text_near_the_rules_never_panics_and_marks_soundly(
        text in "[\\[(（]?광?[ .\\u{200B}]?고?[\\])）]?(연날리기)?[ a할인]{0,4}(무료수신거부)?[ :]?(080-?123-?4567)?[ .!]{0,2}"
    ) {
        if let Ok(marked) = mark(&text) {
            prop_assert_eq!(check(&marked), Ok(()), "{}", marked);
        }
    }

    #[test]
    fn an_unmarked_text_is_kept_whole(text in "[가-괌a-z0-9 ]{1,40}") {
        prop_assert!(mark(&text).unwrap().contains(&text));
    }
}
