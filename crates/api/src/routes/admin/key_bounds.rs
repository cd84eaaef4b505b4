//! Expiry and allowed addresses of a key, as an operator writes them.

use chrono::{DateTime, Utc};
use kite_domain::keys::{KeyBounds, parse_network};

use crate::problem::{Answer, Code, FieldError, Problem};

/// Networks of one key.
const ALLOWED_ADDRESSES_MAX: usize = 32;

/// Reads them from a body. Whether the time is in the future is checked where the clock is.
pub(super) fn read(
    expires_at: Option<DateTime<Utc>>,
    allowed_addresses: &[String],
) -> Result<KeyBounds, Vec<FieldError>> {
    if allowed_addresses.len() > ALLOWED_ADDRESSES_MAX {
        let detail = format!("at most {ALLOWED_ADDRESSES_MAX} addresses and networks are allowed");
        return Err(vec![FieldError::new("allowed_addresses", "too_many", detail)]);
    }
    let (mut networks, mut errors) = (Vec::new(), Vec::new());
    for (place, text) in allowed_addresses.iter().enumerate() {
        match parse_network(text.trim()) {
            Ok(network) => networks.push(network),
            Err(error) => errors.push(FieldError::new(
                format!("allowed_addresses[{place}]"),
                "invalid_network",
                format!("{text:?} {error}"),
            )),
        }
    }
    networks.sort_unstable();
    networks.dedup();
    match errors.is_empty() {
        true => Ok(KeyBounds { expires_at, allowed_addresses: networks }),
        false => Err(errors),
    }
}

/// A key that is not issued, with all that is wrong.
pub(super) fn refuse_if_any(errors: Vec<FieldError>) -> Answer<()> {
    match errors.first() {
        None => Ok(()),
        Some(first) => {
            let detail = format!("The key cannot be issued: {}: {}.", first.field, first.detail);
            Err(Problem::new(Code::Refused, detail).with_errors(errors))
        }
    }
}

/// As it is shown.
pub(super) fn words(bounds: &KeyBounds) -> Vec<String> {
    bounds.allowed_addresses.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_networks_each_once_and_each_wrong_one_is_named() {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let bounds = read(None, &texts(&["10.1.0.0/16", "192.0.2.1", "192.0.2.1/32 "])).unwrap();
        assert_eq!(words(&bounds), ["10.1.0.0/16", "192.0.2.1/32"]);
        let errors = read(None, &texts(&["10.0.0.1", "office", "10.0.0.0/99"])).unwrap_err();
        let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(fields, ["allowed_addresses[1]", "allowed_addresses[2]"]);
        let many = vec!["10.0.0.1".to_owned(); ALLOWED_ADDRESSES_MAX + 1];
        assert_eq!(read(None, &many).unwrap_err()[0].code, "too_many");
    }
}
