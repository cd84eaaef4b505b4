//! Texts: normalising, measuring, filling in, cutting for other countries, the type that results, the marking of
//! advertisements.
//!
//! An input is a text, a value for its variables, a subject and an advertiser's name.

use encoding_rs::{EUC_KR, EncoderResult};
use kite_domain::address::Address;
use kite_domain::advertisement::{AdRuleViolation, AdvertisementRules, Advertiser, RefusalNumber};
use kite_domain::text::{
    MaxType, MeasureError, MessageType, OFFENDERS_MAX, PartEncoding, Parts, RenderError, RequestedType,
    Resolved, Template, TemplateError, TypeLimits, TypeRequest, Unmappable, VARIABLE_NAME_LENGTH_MAX,
    international_parts, measure, normalise, resolve, resolve_text,
};
use smol_str::SmolStr;

use crate::input;

/// What every request is measured against.
const REQUESTED: [RequestedType; 6] = [
    RequestedType::Auto,
    RequestedType::Sms,
    RequestedType::Lms,
    RequestedType::Mms,
    RequestedType::Email,
    RequestedType::Alimtalk,
];

/// A longer subject or text, filled in, is resolved for one type only: the others take their time and show nothing new.
const RESOLVED_FOR_ALL_BYTES_MAX: usize = 64 << 10;

/// Measures and fills in; all the ways to come to the same figure agree.
pub fn text(bytes: &[u8]) {
    let given = input::text(bytes);
    let [text, value, subject, name] = input::parts(&given);
    let normal = normalise(text);
    assert_eq!(normalise(&normal), normal);
    length(text, &normal);
    parts(text);
    match Template::parse(text) {
        Ok(template) => filled_in(&template, text, value, subject),
        Err(error) => malformed(text, &error),
    }
    marking(text, subject, name);
}

/// The measure is what the encoder itself writes; a character that cannot be sent is named where it stands.
fn length(text: &str, normal: &str) {
    match measure(text) {
        Ok(length) => assert_eq!(encoded(normal), Some(length.bytes), "{normal:?}"),
        Err(unmappable) => {
            assert_eq!(encoded(normal), None, "{normal:?}");
            offenders(normal, &unmappable);
        }
    }
}

fn encoded(normal: &str) -> Option<usize> {
    let mut sink = vec![0; normal.len() * 2 + 16];
    let (result, _, written) =
        EUC_KR.new_encoder().encode_from_utf8_without_replacement(normal, &mut sink, true);
    match result {
        EncoderResult::InputEmpty => Some(written),
        EncoderResult::Unmappable(_) => None,
        EncoderResult::OutputFull => panic!("the sink holds two bytes a byte"),
    }
}

fn offenders(normal: &str, unmappable: &Unmappable) {
    let Unmappable { characters, total } = unmappable;
    assert_eq!(characters.len(), (*total).min(OFFENDERS_MAX));
    assert!(!characters.is_empty() && !unmappable.to_string().is_empty());
    for offender in characters {
        assert_eq!(input::character_at(normal, offender.position), offender.character);
        let lines = normal.chars().take(offender.position).filter(|character| *character == '\n').count();
        assert_eq!(offender.line, lines + 1);
        assert!(offender.suggestion.is_none_or(|suggestion| measure(suggestion).is_ok()));
    }
}

/// Every part is full enough that one less would not do, and none is over its size.
fn parts(text: &str) {
    let Parts { encoding, units, parts } = international_parts(text);
    let (single, joined) = match encoding {
        PartEncoding::Gsm7 => (160, 153),
        PartEncoding::Ucs2 => (70, 67),
    };
    match units <= single {
        true => assert_eq!(parts, usize::from(units > 0)),
        false => assert!(parts * joined >= units && (parts - 1) * (joined - 1) < units),
    }
}

fn malformed(text: &str, error: &TemplateError) {
    assert!(!error.to_string().is_empty() && !error.code().is_empty());
    match *error {
        TemplateError::VariableNotClosed { position }
        | TemplateError::VariableNameEmpty { position }
        | TemplateError::VariableNameTooLong { position, length_max: _ } => {
            assert_eq!(input::character_at(text, position), '#');
            assert_eq!(input::character_at(text, position + 1), '{');
        }
        TemplateError::VariableNameCharacterNotAllowed { character, position } => {
            assert_eq!(input::character_at(text, position), character);
        }
        TemplateError::TooManyVariables { count, count_max }
        | TemplateError::TooManyPlaceholders { count, count_max } => {
            assert!(count > count_max && text.matches("#{").count() >= count);
        }
    }
}

fn filled_in(template: &Template, text: &str, value: &str, subject: &str) {
    let lookup = |_: &str| Some(value);
    let names = template.variables();
    assert_eq!(template.is_literal(), names.is_empty());
    assert!(names.iter().all(|name| (1..=VARIABLE_NAME_LENGTH_MAX).contains(&name.chars().count())));
    if let Some(first) = names.first() {
        let missing = RenderError::MissingVariable { name: first.clone() };
        assert_eq!(template.render(|_| None), Err(missing));
    }
    let rendered = template.render(lookup);
    if let Err(RenderError::TooLong { bytes_max }) = rendered {
        assert!(most_bytes(text, value) > bytes_max);
        assert_eq!(template.measure(lookup), Err(MeasureError::Render(RenderError::TooLong { bytes_max })));
        return;
    }
    // Line ends are unified piece by piece: one of the text and one of a value are two.
    if !text.contains('\r') && !value.contains('\r') {
        let expected = Some(by_hand(text, value)).filter(|filled| !filled.contains("#{"));
        assert_eq!(rendered.as_ref().ok(), expected.as_ref());
    }
    match (&rendered, template.measure(lookup)) {
        (Ok(text), measured) => {
            assert!(!text.contains("#{") && normalise(text) == *text, "{text:?}");
            assert_eq!(measured, measure(text).map_err(MeasureError::Unmappable));
            if let (Ok(fixed), Ok(all)) = (template.literal_length(), measure(text)) {
                // Marks of a value may join with what is before them, and only then is it less.
                assert!(fixed <= all || !value.is_ascii(), "{fixed:?} {all:?}");
            }
        }
        (Err(error), measured) => assert_eq!(measured, Err(MeasureError::Render(error.clone()))),
    }
    resolved(template, rendered.ok().as_deref(), [text, value, subject]);
}

/// What a text may have at most, filled in.
fn most_bytes(text: &str, value: &str) -> usize {
    text.len() + text.matches("#{").count() * value.len()
}

/// Filled in by hand: every `#{…}` of the text as it was written is the value.
fn by_hand(text: &str, value: &str) -> String {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, variable)) = rest.split_once("#{") {
        filled.push_str(before);
        filled.push_str(value);
        rest = variable.split_once('}').map_or("", |(_, after)| after);
    }
    filled.push_str(rest);
    normalise(&filled).into_owned()
}

/// The type for a template is the type for its finished text, and within its limits.
fn resolved(template: &Template, finished: Option<&str>, [text, value, subject]: [&str; 3]) {
    let addresses = ["01012345678", "+14155552671", "kim@example.com"].map(Address::from_trusted);
    let subject_template = Template::parse(subject).ok().filter(|_| !subject.is_empty());
    let subject_text = subject_template.as_ref().map(|template| template.render(|_| Some(value)));
    let is_long = most_bytes(text, value) + most_bytes(subject, value) > RESOLVED_FOR_ALL_BYTES_MAX;
    let requested = if is_long { &REQUESTED[..1] } else { &REQUESTED[..] };
    for (index, requested) in requested.iter().copied().enumerate() {
        let max_type = [None, Some(MaxType::Sms), Some(MaxType::Lms)][index % 3];
        let request = TypeRequest { requested, max_type, ..TypeRequest::default() };
        for address in &addresses {
            let answer = resolve(&request, address, subject_template.as_ref(), template, |_| Some(value));
            if let Ok(resolved) = answer {
                within_limits(&resolved, address);
            }
            let subject_of_finished = match &subject_text {
                None => None,
                Some(Ok(text)) => Some(text.as_str()),
                Some(Err(_)) => continue,
            };
            if let Some(finished) = finished {
                assert_eq!(answer, resolve_text(&request, address, subject_of_finished, finished));
            }
        }
    }
}

fn within_limits(resolved: &Resolved, address: &Address) {
    let TypeLimits { sms_bytes_max, lms_bytes_max, international_parts_max, email_bytes_max, .. } =
        TypeLimits::default();
    let Resolved { message_type, bytes, parts } = *resolved;
    assert!(bytes > 0 && parts > 0);
    let is_foreign = address.as_str().starts_with('+');
    let bytes_max = match message_type {
        MessageType::Sms if is_foreign => 140 * international_parts_max,
        MessageType::Sms => sms_bytes_max,
        MessageType::Lms => lms_bytes_max,
        MessageType::Email => email_bytes_max,
        MessageType::Mms | MessageType::Alimtalk => panic!("{message_type} is not offered"),
    };
    assert!(bytes <= bytes_max, "{resolved:?}");
    assert!(parts <= if is_foreign { international_parts_max } else { 1 }, "{resolved:?}");
}

/// What was marked complies, and marking it again changes nothing.
fn marking(text: &str, subject: &str, name: &str) {
    let rules = AdvertisementRules::default();
    let refusal_number = RefusalNumber::parse("080-123-4567").expect("080 is free to call");
    let advertiser = Advertiser { name: SmolStr::new(name), refusal_number };
    match rules.mark(text, &advertiser) {
        Ok(marked) => {
            assert_eq!(rules.check(&marked, &advertiser), Ok(()), "{marked:?}");
            assert_eq!(rules.mark(&marked, &advertiser).as_deref(), Ok(&*marked));
        }
        Err(violation) => named(&normalise(text), &violation),
    }
    if let Ok(marked) = rules.mark_email_subject(subject) {
        assert_eq!(rules.mark_email_subject(&marked).as_deref(), Ok(&*marked));
        let _ = rules.check_email(Some(&marked), text);
    }
}

fn named(normal: &str, violation: &AdRuleViolation) {
    assert!(!violation.to_string().is_empty() && !violation.code().is_empty());
    if let AdRuleViolation::MarkingNotFirst { position, marking } = violation {
        assert_eq!(input::character_at(normal, *position), marking.chars().next().unwrap_or_default());
    }
}
