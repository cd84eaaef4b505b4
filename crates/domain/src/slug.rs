//! Slugs: the short names that people choose for tenants and relays.
//!
//! A slug appears in addresses, stream names, queue subjects, metric labels and log lines, so it is kept to
//! what all of them take without quoting: `[a-z0-9][a-z0-9-]{0,31}`.
//!
//! [`FromStr`](std::str::FromStr) is for outside input and checks. `Deserialize` is for stored events and does
//! not: an event that was once stored must decode even after the rule became stricter. Code at the edge
//! therefore deserialises a `String` and parses it.

use smol_str::SmolStr;

/// Longest slug, in characters (all are ASCII, so also in bytes).
pub const SLUG_LENGTH_MAX: usize = 32;

/// Why a text is not a slug, and of what kind the slug should have been.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {problem}")]
pub struct SlugError {
    /// The kind of slug in plain words, such as `tenant id`.
    pub what: &'static str,
    /// What is wrong with it.
    pub problem: SlugProblem,
}

/// What is wrong with a text that should be a slug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum SlugProblem {
    /// There is no character at all.
    #[error("is empty")]
    Empty,
    /// It has more than [`SLUG_LENGTH_MAX`] characters.
    #[error("has {length} characters, more than the {SLUG_LENGTH_MAX} allowed")]
    TooLong {
        /// Length of what was given, in characters.
        length: usize,
    },
    /// It begins with a hyphen.
    #[error("must begin with a lower-case letter a-z or a digit, not with '-'")]
    LeadingHyphen,
    /// It holds something other than `a-z`, `0-9` and `-`.
    #[error("may hold only a-z, 0-9 and '-', not {character:?} (at index {position})")]
    CharacterNotAllowed {
        /// The first character that is not allowed.
        character: char,
        /// Its index, in characters from 0.
        position: usize,
    },
}

impl SlugError {
    /// Stable code for problem documents.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.problem.into()
    }
}

fn check(text: &str) -> Result<(), SlugProblem> {
    if text.is_empty() {
        return Err(SlugProblem::Empty);
    }
    let offender =
        text.chars().enumerate().find(|(_, character)| !matches!(character, 'a'..='z' | '0'..='9' | '-'));
    if let Some((position, character)) = offender {
        return Err(SlugProblem::CharacterNotAllowed { character, position });
    }
    if text.starts_with('-') {
        return Err(SlugProblem::LeadingHyphen);
    }
    if text.len() > SLUG_LENGTH_MAX {
        return Err(SlugProblem::TooLong { length: text.len() });
    }
    Ok(())
}

fn parse(what: &'static str, text: &str) -> Result<SmolStr, SlugError> {
    check(text).map_err(|problem| SlugError { what, problem })?;
    Ok(SmolStr::new(text))
}

macro_rules! slug_id {
    ($(#[$documentation:meta])* $name:ident, $what:literal) => {
        $(#[$documentation])*
        #[derive(
            Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(SmolStr);

        impl $name {
            #[doc = concat!("Checks that `text` is a slug and takes it as a ", $what, ".")]
            ///
            /// # Errors
            /// [`SlugError`] names the rule that is broken.
            pub fn parse(text: &str) -> Result<Self, SlugError> {
                parse($what, text).map(Self)
            }

            /// Takes a text that was checked when it was stored, without checking it again.
            #[must_use]
            pub fn from_trusted(text: impl Into<SmolStr>) -> Self {
                Self(text.into())
            }

            /// The slug as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = SlugError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::parse(text)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

slug_id!(
    /// Who sends (고객사). Everything but relays belongs to one tenant.
    TenantId,
    "tenant id"
);
slug_id!(
    /// A carrier that accepts messages for delivery (중계사).
    RelayId,
    "relay id"
);
slug_id!(
    /// An operator of the platform: a person, or a program.
    OperatorName,
    "operator name"
);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_the_rule_that_is_broken() {
        let cases = [
            ("", SlugProblem::Empty, "tenant id is empty"),
            (
                "-a",
                SlugProblem::LeadingHyphen,
                "tenant id must begin with a lower-case letter a-z or a digit, not with '-'",
            ),
            (
                "acme_shop",
                SlugProblem::CharacterNotAllowed { character: '_', position: 4 },
                "tenant id may hold only a-z, 0-9 and '-', not '_' (at index 4)",
            ),
            (
                "한글",
                SlugProblem::CharacterNotAllowed { character: '한', position: 0 },
                "tenant id may hold only a-z, 0-9 and '-', not '한' (at index 0)",
            ),
            (
                "a23456789012345678901234567890123",
                SlugProblem::TooLong { length: 33 },
                "tenant id has 33 characters, more than the 32 allowed",
            ),
        ];
        for (text, problem, message) in cases {
            let error = TenantId::parse(text).expect_err(text);
            assert_eq!(error.problem, problem, "{text}");
            assert_eq!(error.to_string(), message);
        }
        assert_eq!(RelayId::parse("A").expect_err("upper case").what, "relay id");
    }

    #[test]
    fn a_stored_slug_decodes_even_if_the_rule_became_stricter() {
        let relay: RelayId = serde_json::from_str("\"Old Relay_1\"").unwrap();
        assert_eq!(relay.as_str(), "Old Relay_1");
        assert_eq!(serde_json::to_string(&relay).unwrap(), "\"Old Relay_1\"");
    }

    proptest! {
        #[test]
        fn every_slug_is_taken_unchanged(text in "[a-z0-9][a-z0-9-]{0,31}") {
            prop_assert_eq!(TenantId::parse(&text).unwrap().to_string(), text);
        }

        #[test]
        fn what_is_taken_is_a_slug(text in any::<String>()) {
            if let Ok(tenant) = TenantId::parse(&text) {
                prop_assert!(tenant.as_str().len() <= SLUG_LENGTH_MAX);
                prop_assert_eq!(tenant.as_str(), text);
            }
        }
    }
}
