//! Spans of time and numbers of bytes as Prometheus writes them: `1m30s`, `64MB`. Pure.

use std::time::Duration;

/// A span: numbers with `ms`, `s`, `m`, `h`, `d`, `w` or `y`, the larger ones first; `0` alone is none.
pub(crate) fn span(text: &str) -> Option<Duration> {
    const UNITS: [(&str, u64); 7] = [
        ("y", 365 * 86_400_000),
        ("w", 7 * 86_400_000),
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1000),
        ("ms", 1),
    ];
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut milliseconds: u64 = 0;
    let mut units = UNITS.iter();
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|char: char| !char.is_ascii_digit())?);
        let unit_end = after.find(|char: char| char.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        // Those before the one that is found are not found again.
        let (_, factor) = units.find(|(name, _)| *name == unit)?;
        let part = number.parse::<u64>().ok()?.checked_mul(*factor)?;
        milliseconds = milliseconds.checked_add(part)?;
        rest = after;
    }
    (!text.is_empty()).then_some(Duration::from_millis(milliseconds))
}

/// A number of bytes: a whole number with `B`, `KB`, `MB`, `GB` and their like; a kilobyte has 1,024 bytes, with or
/// without an `i`. `0` may stand alone.
pub(super) fn bytes(text: &str) -> Option<u64> {
    const UNITS: [&str; 5] = ["", "K", "M", "G", "T"];
    if text == "0" {
        return Some(0);
    }
    let (number, unit) = text.split_at(text.find(|char: char| !char.is_ascii_digit())?);
    let prefix = unit.strip_suffix('B')?;
    let prefix = prefix.strip_suffix('i').unwrap_or(prefix);
    let power = UNITS.iter().position(|known| *known == prefix)?;
    number.parse::<u64>().ok()?.checked_mul(1 << (10 * power))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{bytes, span};

    #[test]
    fn spans_are_prometheus() {
        let check = |text, expected: Option<u64>| {
            assert_eq!(span(text), expected.map(Duration::from_millis), "{text}");
        };
        check("10s", Some(10_000));
        check("1m30s", Some(90_000));
        check("1d2h", Some(26 * 3_600_000));
        check("500ms", Some(500));
        check("1s500ms", Some(1500));
        check("0", Some(0));
        check("0s", Some(0));
        check("", None);
        check("10", None);
        check("s", None);
        check("30s1m", None);
        check("1s1s", None);
        check("1.5s", None);
        check("-1s", None);
        check("99999999999y", None);
    }

    #[test]
    fn bytes_are_powers_of_two() {
        for (text, expected) in [
            ("0", Some(0)),
            ("17B", Some(17)),
            ("64MB", Some(64 << 20)),
            ("1KiB", Some(1024)),
            ("2GB", Some(2 << 30)),
            ("10", None),
            ("MB", None),
            ("1.5MB", None),
            ("1mb", None),
            ("1iB", Some(1)),
            ("99999999999TB", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }
}
