//! Figures as people read them: `98.9 %`, `4,120`, `8.0 won`, `2.1 s`.

use super::relay_figures::RelayFigures;

/// Basis points as per cent, to a tenth, rounded down so that a failure is never rounded away.
pub(super) fn percent(basis_points: u64) -> String {
    format!("{}.{} %", basis_points / 100, basis_points % 100 / 10)
}

/// A whole share without a fraction where it has none: `2 %`, `2.5 %`.
pub(super) fn share(basis_points: u32) -> String {
    if basis_points.is_multiple_of(100) {
        return format!("{} %", basis_points / 100);
    }
    percent(basis_points.into())
}

/// With a comma between thousands.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Thousandths of a won as won, to a tenth, halves rounded up.
pub(super) fn won(milliwon: i64) -> String {
    let tenths = milliwon.max(0).unsigned_abs().saturating_add(50) / 100;
    format!("{}.{} won", count(tenths / 10), tenths % 10)
}

/// Milliseconds below a second as they are, from there as seconds to a tenth.
pub(super) fn duration(milliseconds: u64) -> String {
    if milliseconds < 1_000 {
        return format!("{milliseconds} ms");
    }
    let tenths = milliseconds.saturating_add(50) / 100;
    format!("{}.{} s", count(tenths / 10), tenths % 10)
}

/// What was measured, in one line: `98.9 % delivered of 4,120, 8.0 won, p95 2.1 s`.
pub(super) fn measured(figures: &RelayFigures) -> String {
    let judged = figures.judged();
    let delivered = match judged {
        0 => "nothing measured".to_owned(),
        _ => {
            let basis_points = u128::from(figures.delivered) * 10_000 / u128::from(judged);
            format!("{} delivered of {}", percent(basis_points as u64), count(judged))
        }
    };
    let time = figures.delivery_ms.map_or(String::new(), |time| format!(", p95 {}", duration(time.p95_ms)));
    format!("{delivered}, {}{time}", won(figures.price_milliwon))
}

#[cfg(test)]
mod tests {
    use super::super::samples::figures;
    use super::*;

    #[test]
    fn figures_read_as_people_write_them() {
        assert_eq!(percent(9_899), "98.9 %");
        assert_eq!((share(200), share(250)), ("2 %".to_owned(), "2.5 %".to_owned()));
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([7_949, 7_950, 1_234_000].map(won), ["7.9 won", "8.0 won", "1,234.0 won"]);
        assert_eq!([850, 2_100, 60_000].map(duration), ["850 ms", "2.1 s", "60.0 s"]);
    }

    #[test]
    fn what_was_measured_in_one_line() {
        let alpha = figures("alpha").sent(4_120, 4_075).price(8_000).times(900, 2_100).build();
        assert_eq!(measured(&alpha), "98.9 % delivered of 4,120, 8.0 won, p95 2.1 s");
        assert_eq!(measured(&figures("beta").price(9_000).build()), "nothing measured, 9.0 won");
    }
}
