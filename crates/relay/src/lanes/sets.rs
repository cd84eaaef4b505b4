//! Arithmetic of ascending sets, by merging.

use kite_domain::seq_set::SeqSet;

/// What is in `left` and not in `right`.
pub(super) fn minus(left: &SeqSet, right: &SeqSet) -> SeqSet {
    if right.is_empty() {
        return left.clone();
    }
    filter(left, right, |is_in_both| !is_in_both)
}

/// What is in both.
pub(super) fn common(left: &SeqSet, right: &SeqSet) -> SeqSet {
    if right.is_empty() {
        return SeqSet::default();
    }
    filter(left, right, |is_in_both| is_in_both)
}

/// What is in either.
pub(super) fn union(left: &SeqSet, right: &SeqSet) -> SeqSet {
    if left.is_empty() {
        return right.clone();
    }
    if right.is_empty() {
        return left.clone();
    }
    left.iter().chain(right.iter()).collect()
}

fn filter(left: &SeqSet, right: &SeqSet, keep: impl Fn(bool) -> bool) -> SeqSet {
    let mut others = right.as_slice();
    let kept = left.iter().filter(|seq| {
        let passed = others.iter().take_while(|other| *other < seq).count();
        others = &others[passed..];
        keep(others.first() == Some(seq))
    });
    kept.collect()
}
