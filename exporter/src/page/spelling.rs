//! How texts and timestamps are spelled, for the lines that `labelling` writes and those that `encode` writes. Pure.

/// What happens to `"`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quotes {
    /// It is written as `\"`.
    Escaped,
    /// It stays.
    Plain,
}

/// Writes text with `\` and line ends escaped.
pub(crate) fn write_escaped(out: &mut Vec<u8>, text: &str, quotes: Quotes) {
    let is_special = |byte: &u8| match byte {
        b'\\' | b'\n' => true,
        b'"' => quotes == Quotes::Escaped,
        _ => false,
    };
    for piece in text.as_bytes().split_inclusive(is_special) {
        match piece.split_last() {
            Some((last, plain)) if is_special(last) => {
                out.extend_from_slice(plain);
                out.push(b'\\');
                out.push(if *last == b'\n' { b'n' } else { *last });
            }
            _ => out.extend_from_slice(piece),
        }
    }
}

/// Writes a timestamp in milliseconds, which is a whole number, as the seconds that `OpenMetrics` wants.
pub(crate) fn write_seconds(out: &mut Vec<u8>, milliseconds: &[u8]) {
    let digits = match milliseconds.split_first() {
        Some((b'-', digits)) => {
            out.push(b'-');
            digits
        }
        Some((b'+', digits)) => digits,
        _ => milliseconds,
    };
    // Fewer than four digits are all of the fraction.
    let (seconds, fraction) = digits
        .len()
        .checked_sub(3)
        .and_then(|at| digits.split_at_checked(at))
        .unwrap_or((b"", digits));
    out.extend_from_slice(if seconds.is_empty() { b"0" } else { seconds });
    out.push(b'.');
    out.extend(std::iter::repeat_n(b'0', 3_usize.saturating_sub(fraction.len())));
    out.extend_from_slice(fraction);
}

#[cfg(test)]
mod tests {
    use super::write_seconds;

    #[test]
    fn milliseconds_become_seconds() {
        let check = |milliseconds: &str, expected: &str| {
            let mut out = Vec::new();
            write_seconds(&mut out, milliseconds.as_bytes());
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        };
        check("1795348134887", "1795348134.887");
        check("-1500", "-1.500");
        check("+1500", "1.500");
        check("887", "0.887");
        check("7", "0.007");
        check("0", "0.000");
    }
}
