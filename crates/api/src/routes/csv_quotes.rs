//! Whether the quotes of a CSV file are in pairs.
//!
//! The reader takes an unclosed quote for one cell with everything that follows, so the rows after it would be lost
//! silently. A file of refusals that loses rows sends advertisements to people who refused them: such a file is
//! refused as a whole, with the row where the quote was opened.

/// Where in a row the next byte stands.
#[derive(Clone, Copy)]
enum Place {
    RowBegin,
    CellBegin,
    /// In a cell without quotes; a quote in it is an ordinary character.
    Plain,
    Quoted,
    /// After a quote within quotes: either it is doubled, or the cell ends.
    AfterQuote,
    /// After the spaces that follow the closing quote.
    AfterCell,
}

/// Says what is wrong with a file with a quote that is not closed, or after whose closing more text stands in the same cell. Rows are
/// counted like those of the reader: the header is row 1, and empty lines are none.
pub(super) fn are_in_pairs(text: &str) -> Result<(), String> {
    let mut place = Place::RowBegin;
    let (mut row, mut opened_in) = (0_u32, 0_u32);
    for byte in text.bytes() {
        if matches!(place, Place::RowBegin) && !matches!(byte, b'\r' | b'\n') {
            row = row.saturating_add(1);
            place = Place::CellBegin;
        }
        place = match (place, byte) {
            (Place::Quoted, b'"') => Place::AfterQuote,
            (Place::Quoted, _) | (Place::AfterQuote, b'"') => Place::Quoted,
            (_, b',') => Place::CellBegin,
            (_, b'\r' | b'\n') => Place::RowBegin,
            (Place::CellBegin, b'"') => {
                opened_in = row;
                Place::Quoted
            }
            (Place::AfterQuote | Place::AfterCell, b' ' | b'\t') => Place::AfterCell,
            (Place::AfterQuote | Place::AfterCell, _) => {
                return Err(format!(
                    "In row {opened_in} a quote is opened, and text follows its end in the same cell. A quote within a \
                     cell is written twice."
                ));
            }
            (Place::RowBegin | Place::CellBegin | Place::Plain, _) => Place::Plain,
        };
    }
    match place {
        Place::Quoted => Err(format!("In row {opened_in} a quote is opened that is never closed.")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detail(text: &str) -> Option<String> {
        are_in_pairs(text).err()
    }

    #[test]
    fn a_quote_that_is_never_closed_is_told_with_its_row() {
        for (text, row) in [("a,b\n1,\"2\n3,4\n", 2), ("a,\"b\n", 1), ("a\r\n\r\nx\r\n\"y\r\nz\r\n", 3)] {
            let expected = format!("In row {row} a quote is opened that is never closed.");
            assert_eq!(detail(text).as_deref(), Some(expected.as_str()), "{text:?}");
        }
    }

    #[test]
    fn a_quote_that_the_next_one_closes_in_the_wrong_row_is_told_with_its_row() {
        for text in
            ["a,b\n1,\"080\n2,web\n3,\"x\"\n", "a,b\n1,\"2\"3\n", "a,b\n1,\"2\" 3\n", "a,b\n1,\"2\" \"\n"]
        {
            let detail = detail(text).unwrap();
            assert!(
                detail.starts_with("In row 2 a quote is opened, and text follows its end"),
                "{text:?}: {detail}"
            );
        }
    }

    #[test]
    fn quotes_in_pairs_are_fine() {
        for text in [
            "",
            "a,b\n\"1,2\",3\n",
            "a\n\"he said \"\"no\"\"\"\n",
            "a\n\"\"\n",
            "a\n\"two\nlines\"",
            "a,b\n\"1\" ,2\n",
            "a\n5\" pipe\n",
        ] {
            assert_eq!(detail(text), None, "{text:?}");
        }
    }
}
