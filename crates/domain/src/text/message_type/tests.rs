//! Which type each text needs, as tables of cases.

use super::*;
use proptest::prelude::*;

const MOBILE: &str = "01012345678";
const ABROAD: &str = "+14155552671";
const EMAIL: &str = "kim@example.com";

fn request(requested: RequestedType) -> TypeRequest {
    TypeRequest { requested, ..TypeRequest::default() }
}

fn resolved(message_type: MessageType, bytes: usize, parts: usize) -> Result<Resolved, TextRefusal> {
    Ok(Resolved { message_type, bytes, parts })
}

fn resolve_for(
    request: &TypeRequest,
    address: &str,
    subject: Option<&str>,
    text: &str,
) -> Result<Resolved, TextRefusal> {
    resolve_text(request, &Address::parse(address).unwrap(), subject, text)
}

#[test]
fn the_type_follows_from_address_subject_and_length() {
    use MessageType::{Email, Lms, Sms};
    let auto = TypeRequest::default();
    let cases = [
        (MOBILE, None, "가".repeat(45), resolved(Sms, 90, 1)),
        (MOBILE, None, format!("{}a", "가".repeat(45)), resolved(Lms, 91, 1)),
        (MOBILE, Some("제목"), "글".to_owned(), resolved(Lms, 2, 1)),
        (MOBILE, Some("  "), "글".to_owned(), resolved(Sms, 2, 1)),
        (MOBILE, None, "a\r\n".repeat(45), resolved(Sms, 90, 1)),
        (MOBILE, None, "가".repeat(1_000), resolved(Lms, 2_000, 1)),
        ("0212345678", None, "글".to_owned(), resolved(Sms, 2, 1)),
        (ABROAD, None, "a".repeat(161), resolved(Sms, 141, 2)),
        (ABROAD, None, "😀".to_owned(), resolved(Sms, 4, 1)),
        (EMAIL, Some("제목"), "😀".to_owned(), resolved(Email, 4, 1)),
        (EMAIL, None, "글".to_owned(), resolved(Email, 3, 1)),
    ];
    for (address, subject, text, expected) in cases {
        assert_eq!(resolve_for(&auto, address, subject, &text), expected, "{address} {subject:?} {text}");
    }
}

#[test]
fn a_text_that_does_not_fit_is_refused_with_the_numbers() {
    use MessageType::{Email, Lms, Mms, Sms};
    use RequestedType as R;
    use TextRefusal as T;
    let ga = |count: usize| "가".repeat(count);
    let long_subject = ga(21);
    let cases = [
        (R::Auto, MOBILE, None, String::new(), T::TextEmpty),
        (R::Auto, ABROAD, None, String::new(), T::TextEmpty),
        (R::Auto, EMAIL, None, String::new(), T::TextEmpty),
        (
            R::Auto,
            MOBILE,
            None,
            ga(1_001),
            T::TextTooLong { message_type: Lms, bytes: 2_002, bytes_max: 2_000 },
        ),
        (R::Sms, MOBILE, None, ga(46), T::TextTooLong { message_type: Sms, bytes: 92, bytes_max: 90 }),
        (R::Sms, MOBILE, Some("제목"), ga(1), T::SubjectNotForType { message_type: Sms }),
        (
            R::Auto,
            MOBILE,
            Some(long_subject.as_str()),
            ga(1),
            T::SubjectTooLong { message_type: Lms, bytes: 42, bytes_max: 40 },
        ),
        (R::Auto, MOBILE, Some("a\r\nb"), ga(1), T::SubjectLineBreak),
        (R::Auto, EMAIL, Some("a\nBcc: b"), ga(1), T::SubjectLineBreak),
        (R::Auto, ABROAD, Some("제목"), ga(1), T::SubjectNotForType { message_type: Sms }),
        (R::Auto, ABROAD, None, ga(671), T::TooManyParts { parts: 11, parts_max: 10 }),
        (R::Lms, ABROAD, None, ga(1), T::AddressNotForType { message_type: Lms }),
        (R::Email, MOBILE, None, ga(1), T::AddressNotForType { message_type: Email }),
        (R::Sms, EMAIL, None, ga(1), T::AddressNotForType { message_type: Sms }),
        (R::Lms, EMAIL, None, ga(1), T::AddressNotForType { message_type: Lms }),
        (R::Mms, MOBILE, None, ga(1), T::TypeNotSupported { message_type: Mms }),
        (R::Alimtalk, MOBILE, None, ga(1), T::TypeNotSupported { message_type: MessageType::Alimtalk }),
    ];
    for (requested, address, subject, text, expected) in cases {
        let refusal = resolve_for(&request(requested), address, subject, &text).unwrap_err();
        assert_eq!(refusal, expected);
        assert_eq!(serde_json::to_value(&refusal).unwrap()["code"], refusal.code());
    }
}

#[test]
fn an_image_is_refused_until_mms_is_supported() {
    let with_image = TypeRequest { images: 1, ..TypeRequest::default() };
    assert_eq!(
        resolve_for(&with_image, MOBILE, None, "글"),
        Err(TextRefusal::TypeNotSupported { message_type: MessageType::Mms })
    );
}

#[test]
fn max_type_refuses_promotion_and_nothing_else() {
    let at_most_sms = TypeRequest { max_type: Some(MaxType::Sms), ..TypeRequest::default() };
    assert_eq!(resolve_for(&at_most_sms, MOBILE, None, &"가".repeat(45)), resolved(MessageType::Sms, 90, 1));
    assert_eq!(resolve_for(&at_most_sms, EMAIL, None, "글"), resolved(MessageType::Email, 3, 1));
    let refusal = resolve_for(&at_most_sms, MOBILE, None, &"가".repeat(46)).unwrap_err();
    assert_eq!(
        refusal,
        TextRefusal::PromotionRefused {
            needed: MessageType::Lms,
            max_type: MaxType::Sms,
            bytes: 92,
            bytes_max: 90
        }
    );
    assert_eq!(refusal.to_string(), "the text of 92 bytes needs lms, but at most sms is allowed");
    assert_eq!(
        resolve_for(&at_most_sms, MOBILE, Some("제목"), "글").unwrap_err().code(),
        "promotion_refused"
    );
    let at_most_lms = TypeRequest { max_type: Some(MaxType::Lms), ..TypeRequest::default() };
    assert_eq!(resolve_for(&at_most_lms, MOBILE, None, &"가".repeat(46)), resolved(MessageType::Lms, 92, 1));
}

#[test]
fn the_limits_are_data() {
    let limits: TypeLimits =
        serde_json::from_str(r#"{"sms_bytes_max": 80, "subject_bytes_max": 64}"#).unwrap();
    let request = TypeRequest { limits, ..TypeRequest::default() };
    assert_eq!(limits.lms_bytes_max, 2_000);
    assert_eq!(resolve_for(&request, MOBILE, None, &"a".repeat(81)), resolved(MessageType::Lms, 81, 1));
    assert!(resolve_for(&request, MOBILE, Some(&"a".repeat(64)), "글").is_ok());
}

#[test]
fn each_recipient_is_resolved_after_substitution() {
    let mobile = Address::parse(MOBILE).unwrap();
    let text = Template::parse(&format!("{}#{{이름}}", "가".repeat(43))).unwrap();
    let subject = Template::parse("#{제목}").unwrap();
    let type_for = |name: &'static str, title: &'static str| {
        let lookup = move |key: &str| if key == "이름" { Some(name) } else { Some(title) };
        resolve(&TypeRequest::default(), &mobile, Some(&subject), &text, lookup)
    };
    assert_eq!(type_for("홍길", ""), resolved(MessageType::Sms, 90, 1));
    assert_eq!(type_for("홍길동", ""), resolved(MessageType::Lms, 92, 1));
    assert_eq!(type_for("홍길", "안내"), resolved(MessageType::Lms, 90, 1));
    assert_eq!(type_for("홍😀", "").unwrap_err().code(), "unmappable_characters");
    assert_eq!(type_for("#{a}", "").unwrap_err().code(), "placeholder_in_result");
    assert_eq!(
        resolve(&TypeRequest::default(), &mobile, None, &text, |_| None),
        Err(TextRefusal::MissingVariable { name: "이름".into() })
    );
}

#[test]
fn an_unmappable_subject_is_refused_as_the_subject() {
    let refusal = resolve_for(&TypeRequest::default(), MOBILE, Some("₩"), "글").unwrap_err();
    let json = serde_json::to_value(&refusal).unwrap();
    assert_eq!(json["code"], "unmappable_characters");
    assert_eq!(json["part"], "subject");
    assert_eq!(json["characters"][0]["suggestion"], "￦");
}

proptest! {
    #[test]
    fn a_text_goes_out_whole_within_its_limit_or_not_at_all(text in any::<String>(), abroad in any::<bool>()) {
        let address = if abroad { ABROAD } else { MOBILE };
        let limits = TypeLimits::default();
        if let Ok(resolved) = resolve_for(&TypeRequest::default(), address, None, &text) {
            if abroad {
                prop_assert!(resolved.parts >= 1 && resolved.parts <= limits.international_parts_max);
            } else {
                prop_assert_eq!(resolved.bytes, measure(&text).unwrap().bytes);
                prop_assert_eq!(resolved.message_type == MessageType::Sms, resolved.bytes <= limits.sms_bytes_max);
            }
        }
    }

    #[test]
    fn a_template_resolves_like_its_rendered_text(value in any::<String>(), front in "[가-힣a-z ]{0,60}") {
        let template = Template::parse(&format!("{front}#{{v}}!")).unwrap();
        for address in [MOBILE, ABROAD, EMAIL] {
            let address = Address::parse(address).unwrap();
            let request = TypeRequest::default();
            let filled = resolve(&request, &address, None, &template, |_| Some(value.as_str()));
            match template.render(|_| Some(value.as_str())) {
                Ok(text) => prop_assert_eq!(filled, resolve_text(&request, &address, None, &text)),
                Err(_) => prop_assert!(filled.is_err()),
            }
        }
    }
}

#[test]
fn a_text_message_of_nothing_but_space_is_empty() {
    let auto = TypeRequest::default();
    for text in ["   ", "\n\r\n", "\t \u{3000}"] {
        for address in [MOBILE, ABROAD] {
            assert_eq!(
                resolve_for(&auto, address, None, text),
                Err(TextRefusal::TextEmpty),
                "{address} {text:?}"
            );
        }
    }
    let template = Template::parse(" #{a}#{b}\n").unwrap();
    let address = Address::parse(MOBILE).unwrap();
    let of = |b: &'static str| {
        resolve(&auto, &address, None, &template, |name| Some(if name == "a" { " " } else { b }))
    };
    assert_eq!(of("  "), Err(TextRefusal::TextEmpty));
    assert_eq!(of("x"), resolved(MessageType::Sms, 4, 1));
}

#[test]
fn a_control_character_is_refused_with_its_place_and_line_breaks_and_tabs_are_none() {
    let auto = TypeRequest::default();
    let refused =
        |part, character, position| Err(TextRefusal::ControlCharacter { part, character, position });
    assert_eq!(resolve_for(&auto, MOBILE, None, "a\r\nb\tc"), resolved(MessageType::Sms, 5, 1));
    assert_eq!(resolve_for(&auto, MOBILE, None, "한글\u{7}"), refused(TextPart::Text, '\u{7}', 2));
    assert_eq!(resolve_for(&auto, ABROAD, None, "a\u{85}"), refused(TextPart::Text, '\u{85}', 1));
    assert_eq!(resolve_for(&auto, MOBILE, Some("\0x"), "a"), refused(TextPart::Subject, '\0', 0));
    let template = Template::parse("a\r\n#{v}").unwrap();
    let address = Address::parse(MOBILE).unwrap();
    let told = resolve(&auto, &address, None, &template, |_| Some("b\u{7f}")).unwrap_err();
    assert_eq!(told.to_string(), "the text holds the control character U+007F at index 3");
    assert_eq!(told.code(), "control_character");
}
