//! One question about several ranges of numbers.

use std::ops::Range;

/// A question that is asked of several ranges of numbers.
pub(crate) struct InRanges<'q> {
    /// `?1` is where the range begins, `?2` where it ends; the values follow.
    pub(crate) sql: &'q str,
    /// Of the rows of each range, and so of all of them.
    pub(crate) order: &'q str,
    /// Rows of all of them, at most.
    pub(crate) limit: usize,
    /// In the same order.
    pub(crate) ranges: &'q [Range<i64>],
}

impl InRanges<'_> {
    /// For one range after the other.
    pub(super) fn of_one(&self) -> String {
        format!("{} ORDER BY {}", self.sql, self.order)
    }

    /// For all of them at once, with so many values: one round trip. The ends, being numbers, are part of the text.
    pub(super) fn of_all(&self, values: usize) -> String {
        // With more, `?10` would be taken for `?1`.
        assert!(values <= 7, "{values} values");
        let mut sql = self.of_one().replace("?1", "piece.low").replace("?2", "piece.high");
        for number in 1..=values {
            sql = sql.replace(&format!("?{}", number + 2), &format!("?{number}"));
        }
        let ends = |range: &Range<i64>| format!("({}::bigint, {}::bigint)", range.start, range.end);
        let pieces = self.ranges.iter().map(ends).collect::<Vec<_>>().join(", ");
        // With its limit it cannot be made into a join: each range is looked up by itself.
        format!(
            "SELECT found.* FROM (VALUES {pieces}) AS piece(low, high), LATERAL ({sql} LIMIT {}) AS found ORDER BY {} LIMIT {}",
            self.limit, self.order, self.limit
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_ranges_are_asked_about_in_one_text() {
        let sql = "SELECT id FROM messages WHERE id >= ?1 AND id < ?2 AND (?3 IS NULL OR status = ?3) AND relay = ?4";
        let question = InRanges { sql, order: "id DESC", limit: 9, ranges: &[5..9, 0..3] };
        assert_eq!(question.of_one(), format!("{sql} ORDER BY id DESC"));
        assert_eq!(
            question.of_all(2),
            "SELECT found.* FROM (VALUES (5::bigint, 9::bigint), (0::bigint, 3::bigint)) AS piece(low, high), LATERAL (SELECT id \
             FROM messages WHERE id >= piece.low AND id < piece.high AND (?1 IS NULL OR status = ?1) AND relay = ?2 ORDER BY id \
             DESC LIMIT 9) AS found ORDER BY id DESC LIMIT 9"
        );
    }
}
