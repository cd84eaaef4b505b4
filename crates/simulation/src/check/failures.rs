//! The meaning of the simulated relays' codes, and what may follow: written again by hand, so that a change in the
//! platform's own tables shows.

use kite_domain::failure::FailureClass;
use kite_domain::policy::FailoverTerms;

/// Every code that a simulated relay of text messages gives and its dictionary holds.
const TEXT: [(&str, FailureClass); 9] = [
    ("3032", FailureClass::HandsetPermanent),
    ("3043", FailureClass::HandsetTemporary),
    ("3053", FailureClass::RelayFault),
    ("3012", FailureClass::RelayFault),
    ("2254", FailureClass::Content),
    ("3054", FailureClass::Content),
    ("1062", FailureClass::Sender),
    ("1030", FailureClass::Balance),
    ("1026", FailureClass::Duplicate),
];
/// The same of e-mail.
const MAIL: [(&str, FailureClass); 6] = [
    ("450", FailureClass::HandsetTemporary),
    ("4.7.1", FailureClass::Reputation),
    ("550", FailureClass::HandsetPermanent),
    ("451", FailureClass::RelayFault),
    ("5.7.1", FailureClass::Content),
    ("4.4.5", FailureClass::RelayFault),
];

/// What a code means in a dictionary. One that it does not hold is never guessed.
pub(super) fn class_of(dictionary: &str, code: &str) -> FailureClass {
    let table: &[(&str, FailureClass)] = if dictionary == "smtp" { &MAIL } else { &TEXT };
    let known = table.iter().find(|(known, _)| *known == code);
    known.map_or(FailureClass::Unclassified, |(_, class)| *class)
}

/// Whether another relay may try after such a failure.
pub(super) fn may_change_relay(class: FailureClass, terms: &FailoverTerms) -> bool {
    match class {
        FailureClass::RelayFault
        | FailureClass::Reputation
        | FailureClass::Balance
        | FailureClass::Sender => terms.relays,
        FailureClass::Unknown => terms.relays && terms.at_least_once,
        FailureClass::HandsetTemporary
        | FailureClass::HandsetPermanent
        | FailureClass::Content
        | FailureClass::Template
        | FailureClass::ChannelUnavailable
        | FailureClass::OptOut
        | FailureClass::AdRule
        | FailureClass::Duplicate
        | FailureClass::Unclassified => false,
    }
}

/// Whether e-mail may follow after such a failure.
pub(super) fn may_change_channel(class: FailureClass, terms: &FailoverTerms) -> bool {
    match class {
        FailureClass::RelayFault | FailureClass::Reputation | FailureClass::HandsetPermanent => terms.email,
        FailureClass::HandsetTemporary | FailureClass::Unclassified => {
            terms.email && terms.email_after_temporary
        }
        FailureClass::Unknown => terms.email && terms.at_least_once,
        FailureClass::Sender
        | FailureClass::Balance
        | FailureClass::Content
        | FailureClass::Template
        | FailureClass::ChannelUnavailable
        | FailureClass::OptOut
        | FailureClass::AdRule
        | FailureClass::Duplicate => false,
    }
}
