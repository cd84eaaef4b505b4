//! Limits on the size of an accepted sending in the log.
//!
//! An event is limited because the log is: KurrentDB takes 1 MiB per append by default, and what is stored once is
//! read again with every fold. Sizes are those of the stored JSON.

use kite_domain::lot::Recipient;
use kite_domain::sending::SendingContent;
use serde::Serialize;
use std::io::{self, Write};

use super::limits::{AcceptLimits, check_reference};
use super::request::{RequestRefusal, SendRequest};

/// Subject, text and shared variables, which are stored once with the sending. The text alone may have 100,000 bytes.
const CONTENT_BYTES_MAX: usize = 256 * 1_024;

/// The braces and names of a recipient: `{"to":"","variables":{}},`.
const RECIPIENT_FRAME_BYTES: usize = 40;

/// The name of an optional text: `,"reference":""`.
const TEXT_FRAME_BYTES: usize = 16;

/// `,"contact":"…"`.
const CONTACT_BYTES: usize = 46;

/// Size of the recipient in its lot, rounded up.
pub(super) fn size_of_recipient(recipient: &Recipient) -> usize {
    let variables: usize =
        recipient.variables.iter().map(|(name, value)| size_of_text(name) + size_of_text(value) + 8).sum();
    let texts = [&recipient.email, &recipient.reference];
    let optional: usize = texts.into_iter().flatten().map(|text| size_of_text(text) + TEXT_FRAME_BYTES).sum();
    let contact = if recipient.contact.is_some() { CONTACT_BYTES } else { 0 };
    RECIPIENT_FRAME_BYTES + size_of_text(&recipient.to) + variables + optional + contact
}

/// A text in JSON, without its quotes: some characters are written as `\n` or `\u0001`.
fn size_of_text(text: &str) -> usize {
    let escapes = text.bytes().map(|byte| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' => 1,
        0..=0x1f => 5,
        _ => 0,
    });
    text.len() + escapes.sum::<usize>()
}

/// What the caller adds for itself is short.
pub(super) fn check_own_data(request: &SendRequest, limits: &AcceptLimits) -> Result<(), RequestRefusal> {
    if let Some(reference) = &request.client_reference
        && let Err(too_long) = check_reference(reference, limits)
    {
        let detail = too_long.to_string();
        return Err(RequestRefusal { field: "client_reference", code: "too_long", detail });
    }
    let custom_bytes = request.custom.as_ref().map_or(0, size_of_json);
    if custom_bytes > limits.custom_bytes_max {
        let most = limits.custom_bytes_max;
        let detail = format!("it has {custom_bytes} bytes as JSON; at most {most} are kept");
        return Err(RequestRefusal { field: "custom", code: "too_large", detail });
    }
    Ok(())
}

/// What is stored once for all messages of the sending.
pub(super) fn check_content(content: &SendingContent) -> Result<(), RequestRefusal> {
    let subject = content.subject.as_deref().map_or(0, size_of_text);
    let text = size_of_text(&content.text);
    let variables: usize =
        content.variables.iter().map(|(name, value)| size_of_text(name) + size_of_text(value) + 8).sum();
    let (field, bytes) = match subject + text + variables {
        fits if fits <= CONTENT_BYTES_MAX => return Ok(()),
        _ if subject > CONTENT_BYTES_MAX => ("subject", subject),
        _ if subject + text > CONTENT_BYTES_MAX => ("text", subject + text),
        all => ("variables", all),
    };
    let detail = format!("it brings the content to {bytes} bytes; at most {CONTENT_BYTES_MAX} are stored");
    Err(RequestRefusal { field, code: "too_large", detail })
}

fn size_of_json(value: &impl Serialize) -> usize {
    let mut counter = Counter(0);
    serde_json::to_writer(&mut counter, value).expect("JSON can be written, and counting does not fail");
    counter.0
}

struct Counter(usize);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kite_domain::ids::ContactId;
    use proptest::prelude::*;
    use smol_str::SmolStr;
    use std::collections::BTreeMap;
    use uuid::Uuid;

    proptest! {
        #[test]
        fn a_recipient_is_never_larger_than_it_was_taken_for(
            to in ".{0,20}",
            email in proptest::option::of(any::<String>()),
            reference in proptest::option::of(any::<String>()),
            is_contact in any::<bool>(),
            variables in proptest::collection::btree_map("\\PC{1,10}", any::<String>(), 0..4),
        ) {
            let recipient = Recipient {
                to: to.into(),
                email: email.map(SmolStr::from),
                reference: reference.map(SmolStr::from),
                contact: is_contact.then(|| ContactId(Uuid::max())),
                variables: variables.into_iter().map(|(name, value)| (name.into(), value)).collect::<BTreeMap<_, _>>(),
            };
            prop_assert!(size_of_json(&recipient) < size_of_recipient(&recipient));
        }
    }
}
