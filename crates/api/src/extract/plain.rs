//! The message of a reader of JSON or of a query about a wrong value, in words for the caller: without names of the
//! program.

/// As a sentence without its full stop.
pub(super) fn plain(message: &str) -> String {
    let (message, place) = match message.rfind(" at line ") {
        Some(place) => message.split_at(place),
        None => (message, ""),
    };
    let words = in_words(message);
    let mut characters = words.chars();
    let first = characters.next().into_iter().flat_map(char::to_uppercase);
    first.chain(characters).chain(place.chars()).collect()
}

/// The same within a sentence.
pub(super) fn in_words(message: &str) -> String {
    for kind in ["invalid type: ", "invalid value: ", "invalid length "] {
        let parts = message.strip_prefix(kind).and_then(|rest| rest.rsplit_once(", expected "));
        if let Some((found, expected)) = parts {
            return format!("{} is expected, not {}", wanted(expected), seen(found));
        }
    }
    if let Some(rest) = message.strip_prefix("unknown variant ") {
        return format!("unknown value {rest}");
    }
    if let Some(rest) = message.strip_prefix("missing field ") {
        return format!("the field {rest} is missing");
    }
    let is_time = TIME_MESSAGES.contains(&message);
    let is_number = NUMBER_MESSAGES.contains(&message);
    match (is_time, is_number) {
        (true, _) => "a time is expected, such as 2026-03-02T15:00:00+09:00".to_owned(),
        (_, true) => "a whole number within its range is expected".to_owned(),
        (false, false) => message.to_owned(),
    }
}

/// What chrono says of a text that is no time.
const TIME_MESSAGES: [&str; 5] = [
    "premature end of input",
    "input contains invalid characters",
    "input is out of range",
    "trailing input",
    "input is not enough for unique date and time",
];

/// What the standard library says of a text that is no number of the size that is read.
const NUMBER_MESSAGES: [&str; 4] = [
    "invalid digit found in string",
    "cannot parse integer from empty string",
    "number too large to fit in target type",
    "number too small to fit in target type",
];

fn wanted(expected: &str) -> String {
    let first = expected.split(' ').next().unwrap_or_default();
    let is_unsigned = ["u8", "u16", "u32", "u64", "u128", "usize"].contains(&first);
    let is_signed = ["i8", "i16", "i32", "i64", "i128", "isize"].contains(&first);
    match expected {
        "a string" | "a borrowed string" | "string" => "a text".to_owned(),
        "a map" => "an object".to_owned(),
        "a sequence" => "a list".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        _ if is_unsigned => "a whole number from 0".to_owned(),
        _ if is_signed => "a whole number".to_owned(),
        _ if first == "struct" || expected.starts_with("a map with ") => "an object".to_owned(),
        _ if ["enum", "tuple", "variant", "unit"].contains(&first) => {
            "one of the documented values".to_owned()
        }
        other => other.to_owned(),
    }
}

fn seen(found: &str) -> String {
    let value = found.split('`').nth(1).unwrap_or_default();
    match found.split(' ').next().unwrap_or_default() {
        "string" => found.replacen("string", "the text", 1),
        "map" => "an object".to_owned(),
        "sequence" => "a list".to_owned(),
        "null" | "unit" => "null".to_owned(),
        "integer" | "floating" => format!("the number {value}"),
        "boolean" => value.to_owned(),
        _ => found.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_names_nothing_of_the_program() {
        for (message, expected) in [
            (
                "invalid type: integer `7`, expected a string at line 1 column 9",
                "A text is expected, not the number 7 at line 1 column 9",
            ),
            (
                "invalid type: sequence, expected struct SendingBody with 19 elements",
                "An object is expected, not a list",
            ),
            (
                "invalid type: string \"x, expected y\", expected u32",
                "A whole number from 0 is expected, not the text \"x, expected y\"",
            ),
            (
                "invalid value: integer `300`, expected u8",
                "A whole number from 0 is expected, not the number 300",
            ),
            ("invalid type: boolean `true`, expected a map", "An object is expected, not true"),
            (
                "invalid type: string \"x\", expected a map with a single key",
                "An object is expected, not the text \"x\"",
            ),
            (
                "invalid type: integer `7`, expected enum Unit",
                "One of the documented values is expected, not the number 7",
            ),
            (
                "invalid type: null, expected tuple of 2 elements",
                "One of the documented values is expected, not null",
            ),
            (
                "invalid type: map, expected a number or a text",
                "A number or a text is expected, not an object",
            ),
            ("invalid type: sequence, expected f64", "A number is expected, not a list"),
            ("invalid type: sequence, expected i64", "A whole number is expected, not a list"),
            ("invalid type: sequence, expected a boolean", "True or false is expected, not a list"),
            ("invalid type: string \"x\", expected a sequence", "A list is expected, not the text \"x\""),
            ("missing field `class`", "The field `class` is missing"),
            (
                "unknown variant `urgent`, expected one of `otp`, `ad`",
                "Unknown value `urgent`, expected one of `otp`, `ad`",
            ),
            ("premature end of input", "A time is expected, such as 2026-03-02T15:00:00+09:00"),
            ("invalid digit found in string", "A whole number within its range is expected"),
            (
                "EOF while parsing an object at line 1 column 1",
                "EOF while parsing an object at line 1 column 1",
            ),
        ] {
            assert_eq!(plain(message), expected);
        }
    }
}
