//! Tests: the dictionaries against the official lists, and against a table that was written out by hand.

use super::{CodeDictionary, CodeOutcome};
use crate::failure::FailureClass as Class;
use CodeOutcome::{Accepted, Delivered, Failed};

/// A line of the table: codes of Solapi, codes of NHN, and what they mean.
type Line = (&'static [&'static str], &'static [&'static str], CodeOutcome);

/// Codes of both families and what they mean, written out by hand.
const TABLE: &[Line] = &[
    (&["4000"], &["1000"], Delivered),
    (&["2000", "3000"], &["0"], Accepted),
    (&["3010", "3032"], &["1002", "3001", "3003"], Failed(Class::HandsetPermanent)),
    (&["3045"], &["3004"], Failed(Class::HandsetPermanent)),
    (&["3047"], &["3006", "3013"], Failed(Class::HandsetPermanent)),
    // It cannot take this type; another may do.
    (&["3050", "3060"], &["3002", "3007", "3010"], Failed(Class::HandsetPermanent)),
    // Off, out of coverage, busy, full, other.
    (&["3043", "3042"], &["2003", "2005"], Failed(Class::HandsetTemporary)),
    (&["3041", "3051"], &["3005"], Failed(Class::HandsetTemporary)),
    (&["3044", "3046"], &["2004", "2007", "3008"], Failed(Class::HandsetTemporary)),
    // The recipient's operator: another relay ends there, too.
    (&["3056", "3057"], &["2001", "2002"], Failed(Class::HandsetTemporary)),
    (&["3052"], &["2006", "1019"], Failed(Class::HandsetTemporary)),
    (&["3040"], &["2000"], Failed(Class::Unknown)),
    (&["1058", "3058"], &["3015"], Failed(Class::RelayFault)),
    (&["1024", "2024", "3012", "3024", "3053"], &["1001", "3011"], Failed(Class::RelayFault)),
    (&["2254", "3054", "3055"], &["3012"], Failed(Class::Content)),
    (&["1029", "1031", "3011"], &["3009", "3016", "E911", "E913"], Failed(Class::Content)),
    (
        &["1062", "1064", "2062", "2064", "3013", "3059"],
        &["1003", "3017", "3018", "3019", "-2312", "-2313"],
        Failed(Class::Sender),
    ),
    (&["1060", "2060", "1061", "2061"], &["-6001"], Failed(Class::OptOut)),
    (&["1026"], &[], Failed(Class::Duplicate)),
    (&[], &["E915"], Failed(Class::Duplicate)),
    (&["3108"], &["-6003", "E919"], Failed(Class::AdRule)),
    (&["1030", "2063", "2230"], &["-1008"], Failed(Class::Balance)),
    // Kakao: a text message is next. Of what was sent the class says so that is for Kakao alone.
    (&["3102", "3104", "3107"], &[], Failed(Class::ChannelUnavailable)),
    (
        &["1041", "1042", "1043", "1044", "1045", "1046", "3101", "3103", "3105", "3106"],
        &[],
        Failed(Class::Template),
    ),
];

fn outcome(dictionary: &str, code: &str) -> CodeOutcome {
    let dictionary = CodeDictionary::named(dictionary).unwrap();
    let meaning = dictionary.lookup(code);
    assert!(meaning.is_known(), "{} {code}", dictionary.name);
    meaning.outcome
}

fn is_listed(dictionary: &str, code: &str) {
    outcome(dictionary, code);
}

#[test]
fn the_table_of_the_messaging_facts_line_by_line() {
    for (solapi, nhn, expected) in TABLE {
        for code in *solapi {
            assert_eq!(outcome("solapi", code), *expected, "solapi {code}");
        }
        for code in *nhn {
            assert_eq!(outcome("nhn", code), *expected, "nhn {code}");
        }
    }
}

/// How many codes the official lists hold, counted there: a code that is lost, or written twice, shows here.
#[test]
fn every_dictionary_holds_as_many_codes_as_its_official_list() {
    let counts: Vec<_> = CodeDictionary::names()
        .map(|name| (name, CodeDictionary::named(name).map_or(0, CodeDictionary::len)))
        .collect();
    assert_eq!(counts, [("solapi", 85), ("nhn", 142), ("nhn-dlr", 31), ("smtp", SMTP)]);
}

/// The replies of mail servers have no one list; so many keys are written down.
const SMTP: usize = 83;

#[test]
fn every_block_of_the_official_lists_is_there() {
    // Acceptance, the platform, the operator, Kakao.
    let solapi = [
        1010..=1011,
        1013..=1014,
        1020..=1034,
        1041..=1053,
        1058..=1058,
        1060..=1062,
        1064..=1064,
        2000..=2000,
        2011..=2011,
        2024..=2024,
        2060..=2064,
        2230..=2230,
        2254..=2254,
        3000..=3000,
        3010..=3014,
        3024..=3024,
        3031..=3032,
        3040..=3048,
        3050..=3060,
        3101..=3108,
        4000..=4000,
    ];
    solapi.into_iter().flatten().for_each(|code: u16| is_listed("solapi", &code.to_string()));
    // Results at the operator, abroad, and others.
    let results = [1000..=1003, 1019..=1019, 2000..=2007, 3000..=3019, 4001..=4010];
    results.into_iter().flatten().for_each(|code| is_listed("nhn", &code.to_string()));
    // Answers of the interface: sending, templates, categories, senders, statistics, refusals, tags.
    let answers = [
        1000..=1008,
        2000..=2006,
        2008..=2012,
        2014..=2019,
        2021..=2024,
        2043..=2048,
        2050..=2053,
        2100..=2112,
        2114..=2117,
        2200..=2206,
        2312..=2313,
        2700..=2701,
        2703..=2704,
        2706..=2706,
        4000..=4000,
        6000..=6001,
        6003..=6004,
        7000..=7002,
        8000..=8000,
        9995..=9999,
    ];
    answers.into_iter().flatten().for_each(|code: i32| is_listed("nhn", &format!("-{code}")));
    for code in [
        "0", "4", "E900", "E911", "E913", "E915", "E919", "E999", "MTR1", "MTR2", "MTR2_1", "MTR2_2",
        "MTR2_3",
    ] {
        is_listed("nhn", code);
    }
}

/// A number of the DLR list means something else than the same number of the others.
#[test]
fn the_codes_of_a_delivery_report_abroad_have_a_dictionary_of_their_own() {
    assert_eq!((outcome("nhn", "0"), outcome("nhn-dlr", "0")), (Accepted, Delivered));
    assert_eq!(outcome("nhn", "1000"), Delivered);
    assert_eq!(outcome("nhn-dlr", "1000"), Failed(Class::Unclassified));
    for word in ["DELIVERED", "ACCEPTED", "BUFFERED", "EXPIRED", "FAILED", "REJECTED", "UNKNOWN"] {
        is_listed("nhn-dlr", word);
    }
}

/// An operator, or the one who refused, said no: no class of these may lead anywhere else.
#[test]
fn a_blocked_or_refusing_recipient_is_never_tried_elsewhere() {
    for (dictionary, codes) in [("solapi", ["1060", "1061", "2060", "2061"].as_slice()), ("nhn", &["-6001"])]
    {
        for code in codes {
            assert!(!CodeDictionary::named(dictionary).unwrap().lookup(code).failover_eligible, "{code}");
        }
    }
}
