//! The result codes of the two carrier dialects that the simulator speaks, and what they mean.
//!
//! Only the simulator's own side: which code it answers for which meaning, and the text beside it. How a client
//! classifies a code is up to the client. Meanings follow the carriers' public code lists; the table is repeated in
//! docs/relay-protocol.md, and a test compares the two.

use serde::{Deserialize, Serialize};

/// The dialect of codes that a relay answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CodeStyle {
    /// Four digits, `2000` accepted, `4000` delivered.
    Solapi,
    /// One to four digits, `0` accepted, `1000` delivered.
    Nhn,
}

/// One meaning and the code for it in each dialect; `None` where the dialect has no code for it.
#[derive(Clone, Copy, Debug)]
pub struct Meaning {
    /// Stable name of the meaning, as used in the documented tables.
    pub name: &'static str,
    /// Code of the Solapi dialect.
    pub solapi: Option<&'static str>,
    /// Code of the NHN dialect.
    pub nhn: Option<&'static str>,
    /// Text that goes with the code.
    pub reason: &'static str,
}

const fn meaning(
    name: &'static str,
    solapi: Option<&'static str>,
    nhn: Option<&'static str>,
    reason: &'static str,
) -> Meaning {
    Meaning { name, solapi, nhn, reason }
}

/// All meanings, in the order of the documented table.
pub const MEANINGS: [Meaning; 23] = [
    meaning("accepted", Some("2000"), Some("0"), "accepted"),
    meaning("delivered", Some("4000"), Some("1000"), "delivered"),
    meaning("no_such_number", Some("3032"), Some("3001"), "no such number"),
    meaning("suspended", Some("3045"), Some("3004"), "number suspended"),
    meaning("refused_by_handset", Some("3047"), Some("3006"), "refused by handset"),
    meaning("off", Some("3043"), Some("2003"), "handset off"),
    meaning("shadow", Some("3042"), Some("2005"), "out of coverage"),
    meaning("busy", Some("3041"), Some("3005"), "handset busy"),
    meaning("memory_full", Some("3044"), Some("2004"), "handset memory full"),
    meaning("timeout", Some("3040"), Some("2000"), "no result in time"),
    meaning("network", Some("3056"), Some("2001"), "radio network failed"),
    meaning("no_route", Some("3058"), Some("3015"), "no route"),
    meaning("queue_full", Some("3053"), Some("1001"), "queue full"),
    meaning("server_error", Some("3012"), Some("3011"), "server error"),
    meaning("spam", Some("2254"), Some("3012"), "spam"),
    meaning("spam_later", Some("3054"), Some("3012"), "spam"),
    meaning("sender_unregistered", Some("1062"), Some("3017"), "sender not registered"),
    meaning("sender_forged", Some("3059"), Some("3018"), "sender forged"),
    meaning("opt_out", Some("1061"), None, "recipient refused"),
    meaning("duplicate", Some("1026"), Some("E915"), "duplicate"),
    meaning("ad_rule", Some("3108"), Some("-6003"), "advertisement rule violated"),
    meaning("balance", Some("1030"), None, "balance exhausted"),
    meaning("unlisted", Some("9876"), Some("9876"), "a code in no dictionary"),
];

impl CodeStyle {
    /// The code for a meaning's name; `None` when the name or the dialect has none.
    #[must_use]
    pub fn code(self, name: &str) -> Option<&'static str> {
        let meaning = MEANINGS.iter().find(|meaning| meaning.name == name)?;
        match self {
            Self::Solapi => meaning.solapi,
            Self::Nhn => meaning.nhn,
        }
    }

    /// The text for a code; codes of a scenario that are not in the dialect get a plain "refused".
    #[must_use]
    pub fn reason(self, code: &str) -> &'static str {
        let matching = |meaning: &&Meaning| match self {
            Self::Solapi => meaning.solapi == Some(code),
            Self::Nhn => meaning.nhn == Some(code),
        };
        MEANINGS.iter().find(matching).map_or("refused", |meaning| meaning.reason)
    }

    /// The code of a successful delivery.
    #[must_use]
    pub fn delivered(self) -> &'static str {
        match self {
            Self::Solapi => "4000",
            Self::Nhn => "1000",
        }
    }

    /// The code of a successful hand-over.
    #[must_use]
    pub fn accepted(self) -> &'static str {
        match self {
            Self::Solapi => "2000",
            Self::Nhn => "0",
        }
    }
}

/// A code of 4xx or 5xx as it is, anything else as a temporary failure.
pub(crate) fn reply_code(code: &str) -> &str {
    let is_reply =
        code.len() == 3 && code.starts_with(['4', '5']) && code.bytes().all(|byte| byte.is_ascii_digit());
    if is_reply { code } else { "451" }
}

/// Whether a mail that is refused with this code may come again.
pub(crate) fn is_for_now(code: &str) -> bool {
    reply_code(code).starts_with('4')
}

#[cfg(test)]
mod tests {
    use super::is_for_now;

    #[test]
    fn codes_of_other_dialects_are_temporary_refusals_of_mail() {
        assert_eq!(["550", "451", "3056"].map(is_for_now), [false, true, true]);
    }
}
