//! The header `Idempotency-Key`.

use axum::http::HeaderMap;

use crate::problem::{Answer, Code, Problem};

const LENGTH_MAX: usize = 255;

/// The key, if there is one: 1 to 255 printable ASCII characters.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Answer<Option<String>> {
    let mut values = headers.get_all("idempotency-key").iter();
    let Some(value) = values.next() else { return Ok(None) };
    let refused = |detail: &str| Err(Problem::new(Code::InvalidIdempotencyKey, detail));
    if values.next().is_some() {
        return refused("The header stands in the request more than once.");
    }
    let bytes = value.as_bytes();
    if bytes.is_empty() || bytes.len() > LENGTH_MAX {
        return refused("The key must have 1 to 255 characters.");
    }
    if !bytes.iter().all(|byte| (b' '..=b'~').contains(byte)) {
        return refused("The key may hold only printable ASCII characters.");
    }
    Ok(Some(bytes.iter().map(|byte| char::from(*byte)).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(value: &[u8]) -> Answer<Option<String>> {
        let mut headers = HeaderMap::new();
        headers.insert("idempotency-key", axum::http::HeaderValue::from_bytes(value).unwrap());
        idempotency_key(&headers)
    }

    #[test]
    fn printable_ascii_up_to_255_characters() {
        assert_eq!(idempotency_key(&HeaderMap::new()), Ok(None));
        assert_eq!(key(b"order 17/a~"), Ok(Some("order 17/a~".to_owned())));
        assert!(key(&[b'k'; 255]).is_ok());
        for wrong in [&b""[..], &[b'k'; 256], "주문".as_bytes(), b"a\tb"] {
            assert_eq!(key(wrong).unwrap_err().code(), Code::InvalidIdempotencyKey, "{wrong:?}");
        }
    }

    #[test]
    fn two_keys_are_no_key() {
        let mut headers = HeaderMap::new();
        headers.append("idempotency-key", "a".parse().unwrap());
        headers.append("idempotency-key", "b".parse().unwrap());
        assert_eq!(idempotency_key(&headers).unwrap_err().code(), Code::InvalidIdempotencyKey);
    }
}
