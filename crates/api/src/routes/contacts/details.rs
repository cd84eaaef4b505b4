//! What a caller may say of a contact, checked.

use kite_domain::address::{EmailAddress, PhoneNumber};
use kite_domain::contact::ContactDetails;
use kite_domain::ids::ContactId;
use serde::Deserialize;
use smol_str::SmolStr;
use std::collections::BTreeMap;
use utoipa::ToSchema;

use crate::extract::{ZERO_CODE, ZERO_DETAIL};
use crate::problem::FieldError;

const NAME_CHARACTERS_MAX: usize = 200;
const TAGS_MAX: usize = 50;
const WORD_CHARACTERS_MAX: usize = 64;
const FIELDS_MAX: usize = 100;
const VALUE_CHARACTERS_MAX: usize = 2_000;
/// The total of all values: a sending to a group has those of all its members in memory.
const FIELDS_CHARACTERS_MAX: usize = 20_000;

/// A contact as a caller writes it.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ContactBody {
    /// Its name.
    #[schema(example = "홍길동")]
    pub name: String,
    /// A phone number as people write it.
    #[schema(example = "010-1234-5678")]
    pub phone: Option<String>,
    /// An e-mail address.
    #[schema(example = "hong@example.com")]
    pub email: Option<String>,
    /// Free words to find it by.
    #[schema(value_type = Vec<String>)]
    pub tags: Vec<SmolStr>,
    /// Custom fields; they fill `#{variables}` of their names. At most 100, with at most 20,000 characters in all.
    #[schema(value_type = BTreeMap<String, String>)]
    pub fields: BTreeMap<SmolStr, String>,
}

impl ContactBody {
    /// The contact in canonical form, or everything that is wrong with it.
    pub(crate) fn check(self, contact: ContactId) -> Result<ContactDetails, Vec<FieldError>> {
        let mut errors = Vec::new();
        let phone = given(self.phone).and_then(|raw| match PhoneNumber::parse(&raw) {
            Ok(number) => Some(SmolStr::from(number.as_str())),
            Err(error) => {
                errors.push(FieldError::new("phone", error.code(), error.to_string()));
                None
            }
        });
        let email = given(self.email).and_then(|raw| match EmailAddress::parse(&raw) {
            Ok(address) => Some(SmolStr::from(address.as_str())),
            Err(error) => {
                errors.push(FieldError::new("email", error.code(), error.to_string()));
                None
            }
        });
        if phone.is_none() && email.is_none() && errors.is_empty() {
            errors.push(FieldError::new(
                "phone",
                "address_missing",
                "a contact needs a phone number or an e-mail address",
            ));
        }
        check_length("name", &self.name, NAME_CHARACTERS_MAX, &mut errors);
        if self.tags.len() > TAGS_MAX {
            errors.push(FieldError::new(
                "tags",
                "too_many",
                format!("a contact may have at most {TAGS_MAX} tags"),
            ));
        }
        self.tags.iter().for_each(|tag| check_length("tags", tag, WORD_CHARACTERS_MAX, &mut errors));
        if self.fields.len() > FIELDS_MAX {
            errors.push(FieldError::new(
                "fields",
                "too_many",
                format!("a contact may have at most {FIELDS_MAX} fields"),
            ));
        }
        let characters: usize = self.fields.values().map(|value| value.chars().count()).sum();
        if characters > FIELDS_CHARACTERS_MAX {
            let detail =
                format!("{characters} characters in all; at most {FIELDS_CHARACTERS_MAX} are allowed");
            errors.push(FieldError::new("fields", "too_long", detail));
        }
        for (name, value) in &self.fields {
            let path = format!("fields.{name}");
            check_length(&path, name, WORD_CHARACTERS_MAX, &mut errors);
            check_length(&path, value, VALUE_CHARACTERS_MAX, &mut errors);
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(ContactDetails { contact, name: self.name, phone, email, tags: self.tags, fields: self.fields })
    }
}

fn given(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.trim().is_empty())
}

/// Adds an error if the text is longer than it may be, or holds U+0000.
pub(crate) fn check_length(field: &str, text: &str, characters_max: usize, errors: &mut Vec<FieldError>) {
    let characters = text.chars().count();
    if characters > characters_max {
        let detail = format!("{characters} characters; at most {characters_max} are allowed");
        errors.push(FieldError::new(field, "too_long", detail));
    }
    if text.contains('\0') {
        errors.push(FieldError::new(field.replace('\0', "\u{fffd}"), ZERO_CODE, ZERO_DETAIL));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn check(body: ContactBody) -> Result<ContactDetails, Vec<String>> {
        body.check(ContactId(Uuid::nil())).map_err(|errors| {
            errors.into_iter().map(|error| format!("{}:{}", error.field, error.code)).collect()
        })
    }

    #[test]
    fn addresses_become_canonical() {
        let details = check(ContactBody {
            phone: Some("+82 10-1234-5678".into()),
            email: Some("Hong@EXAMPLE.com".into()),
            ..ContactBody::default()
        })
        .unwrap();
        assert_eq!(details.phone.as_deref(), Some("01012345678"));
        assert_eq!(details.email.as_deref(), Some("Hong@example.com"));
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let errors = check(ContactBody {
            name: "이".repeat(201),
            phone: Some("1012345678".into()),
            email: Some("nobody".into()),
            ..ContactBody::default()
        });
        assert_eq!(
            errors.unwrap_err(),
            ["phone:lost_leading_zero", "email:at_sign_missing", "name:too_long"]
        );
        assert_eq!(check(ContactBody::default()).unwrap_err(), ["phone:address_missing"]);
    }

    /// Makes something as large as it may be, and so much larger.
    type Change<'c> = &'c dyn Fn(&mut ContactBody, usize);

    #[test]
    fn what_is_just_within_a_bound_is_taken_and_what_is_just_beyond_it_is_not() {
        let texts = |count: usize, characters: usize| -> Vec<SmolStr> {
            (0..count).map(|number| format!("{number:0>characters$}").into()).collect()
        };
        let fields = |count: usize, characters: usize| -> BTreeMap<SmolStr, String> {
            texts(count, 3).into_iter().map(|name| (name, "가".repeat(characters))).collect()
        };
        let one = |change: Change<'_>, beyond: usize| {
            let mut body = ContactBody { phone: Some("01012345678".into()), ..ContactBody::default() };
            change(&mut body, beyond);
            check(body).err().unwrap_or_default()
        };
        let cases: [(Change<'_>, &str); 7] = [
            (&|body, beyond| body.name = "이".repeat(NAME_CHARACTERS_MAX + beyond), "name:too_long"),
            (&|body, beyond| body.tags = texts(TAGS_MAX + beyond, 3), "tags:too_many"),
            (&|body, beyond| body.tags = texts(1, WORD_CHARACTERS_MAX + beyond), "tags:too_long"),
            (&|body, beyond| body.fields = fields(FIELDS_MAX + beyond, 1), "fields:too_many"),
            (&|body, beyond| body.fields = fields(1, VALUE_CHARACTERS_MAX + beyond), "fields.000:too_long"),
            (
                &|body, beyond| {
                    body.fields = fields(10, VALUE_CHARACTERS_MAX);
                    body.fields.extend((0..beyond).map(|_| ("more".into(), "x".to_owned())));
                },
                "fields:too_long",
            ),
            (
                &|body, beyond| {
                    let name = "이".repeat(WORD_CHARACTERS_MAX + beyond);
                    body.fields = [(name.into(), "x".to_owned())].into();
                },
                "too_long",
            ),
        ];
        for (change, error) in cases {
            assert_eq!(one(change, 0), [""; 0], "{error}");
            let errors = one(change, 1);
            assert!(errors.len() == 1 && errors[0].ends_with(error), "{error}: {errors:?}");
        }
    }
}
