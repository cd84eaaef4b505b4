//! Every end has its reason, in the log and with the relays.

use super::*;

/// Handed over to `one`, which never answered, and expired at its time.
fn expired() -> Case {
    let mut case = Case::handed_over(|_| ());
    case.said(1, "one", "unknown");
    case.later(60_000);
    case.finished("expired");
    case
}

#[test]
fn nothing_expires_before_its_time() {
    let mut case = Case::routed(|_| ());
    case.finished("expired");
    says(&case.judge(), "ends as Expired (so) without a reason for it");
    let mut case = Case::handed_over(|_| ());
    case.later(59_999);
    case.finished("expired");
    says(&case.judge(), "ends as Expired (so) without a reason for it");
    let mut case = Case::routed(|_| ());
    case.later(HOUR_MS);
    case.finished("expired");
    assert_eq!(clean(case).outcomes.expired, 1);
    assert_eq!(clean(expired()).expired_at["one"], 1);
}

#[test]
fn what_a_relay_has_reported_does_not_expire() {
    for (status, is_permitted) in [("refused", true), ("undelivered", false)] {
        let mut case = expired();
        case.ledger("one", 1, status);
        match is_permitted {
            true => assert!(clean(case).violations.is_empty()),
            false => says(&case.judge(), "is expired, and its relay has reported it"),
        }
    }
    let mut case = Case::handed_over(|_| ());
    case.said(1, "one", "accepted");
    case.later(60_000);
    case.finished("expired");
    case.ledger("one", 1, "undelivered");
    says(&case.judge(), "is expired, and its relay has reported it");
}

#[test]
fn a_failure_needs_a_relay_that_says_so() {
    let mut case = Case::handed_over(|_| ());
    case.finished("undelivered");
    says(&case.judge(), "ends as Undelivered (so) without a reason for it");
    let undelivered = || {
        let mut case = Case::handed_over(|_| ());
        case.receipt(1, "one", "undelivered");
        case.finished("undelivered");
        case
    };
    says(&undelivered().judge(), "is undelivered at a relay that does not say so");
    let mut case = undelivered();
    case.ledger("one", 1, "undelivered");
    assert_eq!(clean(case).outcomes.undelivered, 1);
    let refused = || {
        let mut case = Case::handed_over(|_| ());
        case.refused(1, "one", "relay_fault");
        case.finished("undelivered");
        case
    };
    says(&refused().judge(), "was refused by a relay that does not say so");
    let mut case = refused();
    case.ledger("one", 1, "refused");
    clean(case);
    let mut case = refused();
    let mut entry = entry("one", 1, "refused");
    entry.code = "3032".to_owned();
    case.oracle.read_ledger(&entry);
    says(&case.judge(), "says 3032, and the log 3056");
}

#[test]
fn a_cancellation_and_a_refusal_need_their_rule() {
    let mut case = Case::routed(|_| ());
    case.finished("cancelled");
    says(&case.judge(), "ends as Cancelled (so) without a reason for it");
    let mut case = Case::handed_over(|_| ());
    case.cancelled();
    case.finished("cancelled");
    says(&case.judge(), "ends as Cancelled (so) without a reason for it");
    let mut case = Case::routed(|_| ());
    case.finished("refused");
    says(&case.judge(), "ends as Refused (so) without a reason for it");
    let mut case = Case::routed(|terms| terms["class"] = "ad".into());
    let address = json!({ "address": "01012345670" });
    case.event("opt-out-x", "opt-out-recorded", json!({ "tenant": "acme", "personal": address }));
    case.finished("refused");
    assert_eq!(clean(case).outcomes.refused, 1);
}

#[test]
fn a_second_end_is_found_unless_a_receipt_corrects_it() {
    let mut case = expired();
    case.finished("undelivered");
    says(&case.judge(), "ends as Undelivered after it was Expired");
    let mut case = expired();
    case.receipt(1, "one", "undelivered");
    case.finished("undelivered");
    case.ledger("one", 1, "undelivered");
    assert_eq!(clean(case).outcomes.undelivered, 1);
    let mut case = delivered_once();
    case.finished("expired");
    says(&case.judge(), "ends as Expired after it was Delivered");
    let mut case = Case::handed_over(|_| ());
    case.finished("delivered");
    says(&case.judge(), "ends as Delivered (so) without a reason for it");
}

#[test]
fn a_success_that_no_relay_knows_of_is_found() {
    says(&delivered_once().judge(), "knows nothing of it");
    for (status, what) in
        [("undelivered", "no relay delivered it"), ("refused", "a relay that says it refused it")]
    {
        let mut case = delivered_once();
        case.ledger("one", 1, status);
        says(&case.judge(), what);
    }
}

#[test]
fn a_delivery_that_we_do_not_know_of_is_found() {
    let mut case = expired();
    case.ledger("one", 1, "delivered");
    says(&case.judge(), "was delivered, and counts as Expired");
}

#[test]
fn what_nobody_could_tell_is_permitted_and_no_more() {
    let at_post = |answer: &str| {
        let mut case = Case::handed_over(|_| ());
        case.said(1, "one", "accepted");
        case.receipt(1, "one", "undelivered");
        case.again(2, "post");
        case.submitted(2, "post");
        match answer {
            "refused" => case.refused(2, "post", "content"),
            answer => case.said(2, "post", answer),
        }
        case.later(60_000);
        case.finished(if answer == "refused" { "undelivered" } else { "expired" });
        case.ledger("one", 1, "undelivered");
        case.ledger("post", 2, "delivered");
        case
    };
    let verdict = clean(at_post("unknown"));
    assert_eq!((verdict.delivered_untold, verdict.expired_at["post"]), (1, 1));
    says(&at_post("refused").judge(), "was refused by a relay that does not say so");
}

#[test]
fn a_mail_server_refuses_before_it_knows_the_reference() {
    let mut case = Case::handed_over(|_| ());
    case.refused(1, "one", "handset_permanent");
    case.again(2, "post");
    case.submitted(2, "post");
    case.refused(2, "post", "handset_permanent");
    case.finished("undelivered");
    case.ledger("one", 1, "refused");
    assert_eq!(clean(case).refused_unseen, 1);
}

#[test]
fn who_is_never_reported_may_expire_delivered() {
    let silent = |never_reported: bool| {
        let mut case = Case::handed_over(|_| ());
        if never_reported {
            case.oracle.never_reported("01012345670");
        }
        case.said(1, "one", "accepted");
        case.later(60_000);
        case.finished("expired");
        case.ledger("one", 1, "delivered");
        case
    };
    assert_eq!(clean(silent(true)).delivered_untold, 1);
    says(&silent(false).judge(), "was delivered, and counts as Expired");
}
