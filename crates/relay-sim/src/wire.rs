//! JSON written by hand where it is written twenty thousand times a second: members of answers and receipts.

/// `"name":"text"`, preceded by `before` (an opening brace or a comma).
pub(crate) fn member(body: &mut Vec<u8>, before: u8, name: &str, text: &str) {
    begin(body, before, name);
    let needs_no_escape =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b':' | b'.' | b' ');
    if text.bytes().all(needs_no_escape) {
        body.push(b'"');
        body.extend_from_slice(text.as_bytes());
        body.push(b'"');
    } else {
        serde_json::to_writer(body, text).expect("a string serialises into memory");
    }
}

/// `"relay_reference":"<16 hexadecimal digits>"`, after a comma.
pub(crate) fn relay_reference(body: &mut Vec<u8>, reference: u64) {
    begin(body, b',', "relay_reference");
    let digit = |place: u32| b"0123456789abcdef"[(reference >> (60 - 4 * place)) as usize & 15];
    body.push(b'"');
    body.extend((0..16).map(digit));
    body.push(b'"');
}

/// `"name":true`, after a comma.
pub(crate) fn truth(body: &mut Vec<u8>, name: &str, value: bool) {
    begin(body, b',', name);
    body.extend_from_slice(if value { b"true" } else { b"false" });
}

fn begin(body: &mut Vec<u8>, before: u8, name: &str) {
    body.push(before);
    body.push(b'"');
    body.extend_from_slice(name.as_bytes());
    body.extend_from_slice(b"\":");
}

#[cfg(test)]
mod tests {
    use super::{member, relay_reference, truth};

    #[test]
    fn members_are_json_whatever_the_text() {
        let mut body = Vec::new();
        member(&mut body, b'{', "plain", "0198c0de-1");
        member(&mut body, b',', "odd", "a\"b\\c\n한");
        relay_reference(&mut body, 0x0bdb_6e61_a581_408c);
        truth(&mut body, "duplicate", false);
        body.push(b'}');
        let expected = serde_json::json!({
            "plain": "0198c0de-1", "odd": "a\"b\\c\n한", "relay_reference": "0bdb6e61a581408c", "duplicate": false,
        });
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&body).unwrap(), expected);
    }
}
