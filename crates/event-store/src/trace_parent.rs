//! Where in a trace something happened: the `traceparent` of W3C Trace Context.
//!
//! Only what it says is kept, not how it was written: the log holds 25 bytes of it, and the text is always that of version 00.

use std::fmt;

/// How long the text of version 00 is.
const TEXT_BYTES: usize = 55;
/// The flags that have a meaning: sampled, and that the trace's id is random. The others are not passed on.
const FLAGS_KNOWN: u8 = 0b11;
const SAMPLED: u8 = 0b01;

/// A trace, and the span in it that something follows from. Neither id is ever all zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceParent {
    trace: [u8; 16],
    span: [u8; 8],
    flags: u8,
}

impl TraceParent {
    /// None: an id of zeros is none.
    pub fn new(trace: [u8; 16], span: [u8; 8], flags: u8) -> Option<Self> {
        let is_one = trace != [0; 16] && span != [0; 8];
        is_one.then_some(Self { trace, span, flags: flags & FLAGS_KNOWN })
    }

    /// Reads the header as the specification says, later versions included. None: it is to be ignored.
    pub fn parse(text: &str) -> Option<Self> {
        let (known, rest) = text.as_bytes().split_at_checked(TEXT_BYTES)?;
        let [version] = bytes(&known[..2])?;
        let has_dashes = [2, 35, 52].into_iter().all(|place| known[place] == b'-');
        // What a later version adds comes after another dash.
        let is_fitting = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => rest.is_empty() || rest[0] == b'-',
        };
        if !has_dashes || !is_fitting {
            return None;
        }
        let [flags] = bytes(&known[53..])?;
        Self::new(bytes(&known[3..35])?, bytes(&known[36..52])?, flags)
    }

    /// The same trace, following from another span of it. None: an id of zeros is none.
    pub fn with_span(self, span: [u8; 8]) -> Option<Self> {
        Self::new(self.trace, span, self.flags)
    }

    /// The id of the trace.
    pub fn trace_id(&self) -> [u8; 16] {
        self.trace
    }

    /// The id of the span.
    pub fn span_id(&self) -> [u8; 8] {
        self.span
    }

    /// The flags.
    pub fn flags(&self) -> u8 {
        self.flags
    }

    /// Whether whoever called may have recorded its part of the trace.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// As the log keeps it: the trace, the span, the flags.
    pub fn to_bytes(self) -> [u8; 25] {
        let mut bytes = [0; 25];
        bytes[..16].copy_from_slice(&self.trace);
        bytes[16..24].copy_from_slice(&self.span);
        bytes[24] = self.flags;
        bytes
    }

    /// From what the log keeps. None: nobody has written that.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (trace, rest) = bytes.split_first_chunk::<16>()?;
        let (span, rest) = rest.split_first_chunk::<8>()?;
        let &[flags] = rest else { return None };
        Self::new(*trace, *span, flags).filter(|read| read.flags == flags)
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace, span) = (u128::from_be_bytes(self.trace), u64::from_be_bytes(self.span));
        write!(formatter, "00-{trace:032x}-{span:016x}-{:02x}", self.flags)
    }
}

/// Bytes that are written in lower case.
fn bytes<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let is_lower = !text.iter().any(u8::is_ascii_uppercase);
    (is_lower && hex::decode_to_slice(text, &mut bytes).is_ok()).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn the_example_of_the_specification_is_read_and_written() {
        let parsed = TraceParent::parse(TEXT).unwrap();
        assert_eq!(parsed.to_string(), TEXT);
        assert!(parsed.is_sampled());
        assert_eq!(parsed.span_id(), [0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]);
    }

    #[test]
    fn what_the_specification_says_to_ignore_is_ignored() {
        let malformed = [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0x",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "0g-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01more",
            " 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-é1",
        ];
        for text in malformed {
            assert_eq!(TraceParent::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        for more in ["", "-", "-what-the-future-holds"] {
            let text = TEXT.replacen("00-", "cc-", 1) + more;
            assert_eq!(TraceParent::parse(&text), TraceParent::parse(TEXT), "{text}");
        }
        let unknown_flags = TEXT.replace("-01", "-f9");
        assert_eq!(TraceParent::parse(&unknown_flags).unwrap().to_string(), TEXT, "they are not passed on");
    }

    #[test]
    fn what_nobody_has_written_is_not_read_from_the_log() {
        let bytes = TraceParent::parse(TEXT).unwrap().to_bytes();
        assert_eq!(TraceParent::from_bytes(&bytes[..24]), None);
        assert_eq!(TraceParent::from_bytes(&[&bytes[..], &[0]].concat()), None);
        assert_eq!(TraceParent::from_bytes(&[0; 25]), None);
        assert_eq!(TraceParent::from_bytes(&[&bytes[..24], &[0x80]].concat()), None, "a flag of no meaning");
    }

    proptest! {
        #[test]
        fn whatever_is_a_trace_comes_back_from_its_text_and_from_its_bytes(
            trace: [u8; 16], span: [u8; 8], flags: u8
        ) {
            let Some(parent) = TraceParent::new(trace, span, flags) else { return Ok(()) };
            prop_assert_eq!(TraceParent::parse(&parent.to_string()), Some(parent));
            prop_assert_eq!(TraceParent::from_bytes(&parent.to_bytes()), Some(parent));
            prop_assert_eq!(parent.to_string().len(), TEXT_BYTES);
        }

        #[test]
        fn whatever_a_caller_sends_is_read_or_ignored(text in ".{0,80}") {
            let _ = TraceParent::parse(&text);
        }
    }
}
