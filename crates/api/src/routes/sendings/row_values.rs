//! The values of a recipient's row, read whatever they are: a row with a number in place of a text costs that row,
//! not the ten thousand beside it.

use kite_commands::accept::RowRefusal;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use smol_str::SmolStr;
use std::collections::BTreeMap;
use std::fmt;

/// A text, or what stands in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowText {
    /// As it should be.
    Text(SmolStr),
    /// Something else: "a number", "a list".
    Other(&'static str),
    /// A text with U+0000.
    Zero,
}

/// Values for variables, or what is wrong with them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowVariables {
    /// Those that are texts.
    pub values: BTreeMap<SmolStr, String>,
    /// What is wrong with them.
    pub wrong: Option<RowRefusal>,
}

impl<'de> Deserialize<'de> for RowText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyText)
    }
}

impl<'de> Deserialize<'de> for RowVariables {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyVariables)
    }
}

/// The kind of a value that is neither text nor object.
macro_rules! other_values {
    ($wrap:expr) => {
        fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
            Ok($wrap("true or false"))
        }

        fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
            Ok($wrap("a number"))
        }

        fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
            Ok($wrap("a number"))
        }

        fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
            Ok($wrap("a number"))
        }

        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok($wrap("null"))
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
            while items.next_element::<IgnoredAny>()?.is_some() {}
            Ok($wrap("a list"))
        }
    };
}

struct AnyText;

impl<'de> Visitor<'de> for AnyText {
    type Value = RowText;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a text")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<RowText, E> {
        Ok(if text.contains('\0') { RowText::Zero } else { RowText::Text(text.into()) })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<RowText, A::Error> {
        while fields.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(RowText::Other("an object"))
    }

    other_values!(RowText::Other);
}

struct AnyVariables;

fn no_object(found: &'static str) -> RowVariables {
    let wrong = Some(RowRefusal::VariablesNotAnObject { found });
    RowVariables { values: BTreeMap::new(), wrong }
}

impl<'de> Visitor<'de> for AnyVariables {
    type Value = RowVariables;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object of texts")
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<RowVariables, E> {
        Ok(no_object("a text"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<RowVariables, A::Error> {
        let mut variables = RowVariables::default();
        while let Some((name, value)) = fields.next_entry::<SmolStr, RowText>()? {
            match value {
                RowText::Text(text) if !name.contains('\0') => {
                    variables.values.insert(name, text.into());
                }
                RowText::Text(_) | RowText::Zero => {
                    let name = name.replace('\0', "\u{fffd}").into();
                    variables.wrong.get_or_insert(RowRefusal::ZeroInVariable { name });
                }
                RowText::Other(found) => {
                    variables.wrong.get_or_insert(RowRefusal::VariableNotAText { name, found });
                }
            }
        }
        Ok(variables)
    }

    other_values!(no_object);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::{ZERO_CODE, ZERO_DETAIL};
    use kite_commands::accept::RowField;

    #[test]
    fn whatever_stands_there_is_read_and_named() {
        let text = |json| serde_json::from_str::<RowText>(json).unwrap();
        assert_eq!(text("\"010\""), RowText::Text("010".into()));
        for (json, what) in [
            ("10", "a number"),
            ("-1", "a number"),
            ("1.5", "a number"),
            ("true", "true or false"),
            ("null", "null"),
            ("[1,[2]]", "a list"),
            ("{\"a\":{}}", "an object"),
        ] {
            assert_eq!(text(json), RowText::Other(what), "{json}");
            let variables: RowVariables =
                serde_json::from_str(&format!("{{\"a\":\"x\",\"b\":{json}}}")).unwrap();
            assert_eq!(variables.wrong.unwrap().to_string(), format!("the value of b is {what}, not a text"));
            assert_eq!(variables.values.len(), 1);
        }
        for json in ["7", "\"a\"", "[]", "false"] {
            let variables: RowVariables = serde_json::from_str(json).unwrap();
            assert!(variables.wrong.unwrap().to_string().starts_with("variables are an object"), "{json}");
        }
    }

    #[test]
    fn a_zero_costs_its_row_in_the_words_in_which_it_costs_a_request() {
        assert_eq!(serde_json::from_str::<RowText>(r#""a\u0000""#).unwrap(), RowText::Zero);
        let wrong = RowRefusal::Zero { field: RowField::To };
        assert_eq!((wrong.code(), wrong.to_string().as_str()), (ZERO_CODE, ZERO_DETAIL));
        for json in [r#"{"a":"\u0000"}"#, r#"{"a\u0000":"b"}"#] {
            let variables: RowVariables = serde_json::from_str(json).unwrap();
            let wrong = variables.wrong.unwrap();
            assert_eq!(wrong.code(), ZERO_CODE, "{json}");
            assert!(wrong.to_string().ends_with(ZERO_DETAIL), "{wrong}");
        }
    }
}
