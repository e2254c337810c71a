//! Writes series and samples as they are served.

use std::borrow::Cow;

use crate::page::spelling::{Quotes, write_escaped};

/// Writes `name="value"`.
pub(super) fn label(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"=\"");
    write_escaped(out, value, Quotes::Escaped);
    out.push(b'"');
}

/// Writes `name{labels}`.
pub(super) fn series<'a>(
    out: &mut Vec<u8>,
    name: &str,
    labels: impl Iterator<Item = (&'a str, &'a str)>,
) {
    out.extend_from_slice(name.as_bytes());
    let mut separator = b'{';
    for (name, value) in labels {
        out.push(separator);
        separator = b',';
        label(out, name, value);
    }
    if separator == b',' {
        out.push(b'}');
    }
}

/// Writes a series as received with more labels behind its own; the suffix is `name="value",…}`, or empty.
///
/// The series is canonical: it ends with a label and `}`, or has no labels at all.
pub(super) fn appended(out: &mut Vec<u8>, raw: &[u8], suffix: &[u8]) {
    match raw.strip_suffix(b"}") {
        _ if suffix.is_empty() => out.extend_from_slice(raw),
        Some(open) => {
            out.extend_from_slice(open);
            out.push(b',');
        }
        None => {
            out.extend_from_slice(raw);
            out.push(b'{');
        }
    }
    out.extend_from_slice(suffix);
}

/// Writes seconds with a fraction, as `OpenMetrics` has them, in the whole milliseconds of text 0.0.4.
///
/// What is finer than a millisecond is cut off: Prometheus keeps none of it either.
pub(super) fn milliseconds(seconds: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(seconds).unwrap_or_default();
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if !is_plain(whole.trim_start_matches(['-', '+'])) || !is_plain(fraction) {
        // With an exponent; the reader has seen that it is a finite number.
        let milliseconds = text.parse::<f64>().unwrap_or(0.0) * 1000.0;
        return format!("{milliseconds:.0}").into_bytes();
    }
    let digits: String = fraction.chars().chain("000".chars()).take(3).collect();
    let joined = format!("{whole}{digits}");
    joined.parse::<i64>().map_or(joined.clone(), |number| number.to_string()).into_bytes()
}

/// The bound of a bucket, or a quantile, as `OpenMetrics` wants it: never like an integer.
pub(super) fn canonical_bound(bound: &str) -> Option<String> {
    let is_integer = bound.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    (is_integer && !bound.is_empty()).then(|| format!("{bound}.0"))
}

/// A text that is the same for all spellings of one bound, and the usual one where there is one, so that a series is the
/// same before its type is known; what is no number stays as it is.
pub(super) fn bound_as_number(bound: &str) -> Cow<'_, str> {
    match bound.parse::<f64>() {
        Ok(f64::INFINITY) => Cow::Borrowed("+Inf"),
        // There is no bucket between -0 and 0.
        Ok(number) => Cow::Owned((number + 0.0).to_string()),
        Err(_) => Cow::Borrowed(bound),
    }
}

#[cfg(test)]
mod tests {
    use super::{appended, bound_as_number, canonical_bound, milliseconds};

    #[test]
    fn labels_are_put_behind_those_that_are_there() {
        let check = |raw: &str, suffix: &str, expected: &str| {
            let mut out = Vec::new();
            appended(&mut out, raw.as_bytes(), suffix.as_bytes());
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        };
        check(r#"a{b="}"}"#, r#"c="d"}"#, r#"a{b="}",c="d"}"#);
        check("a", r#"c="d"}"#, r#"a{c="d"}"#);
        check(r#"a{b="c"}"#, "", r#"a{b="c"}"#);
        check("a", "", "a");
    }

    #[test]
    fn seconds_become_milliseconds() {
        let check = |seconds: &str, expected: &str| {
            assert_eq!(String::from_utf8(milliseconds(seconds.as_bytes())).unwrap(), expected);
        };
        check("1795348134.887", "1795348134887");
        check("1795348134.88712", "1795348134887");
        check("1795348134", "1795348134000");
        check("0.5", "500");
        check("-0.5", "-500");
        check(".5", "500");
        check("1.5e9", "1500000000000");
    }

    #[test]
    fn bounds_look_like_floats() {
        assert_eq!(canonical_bound("1").as_deref(), Some("1.0"));
        assert_eq!(canonical_bound("-10").as_deref(), Some("-10.0"));
        for canonical in ["0.5", "+Inf", "1e+06", "1.0", ""] {
            assert_eq!(canonical_bound(canonical), None);
        }
    }

    #[test]
    fn bounds_are_equal_as_numbers() {
        for spellings in [
            ["1", "1.0", "1e0", "+1", "01.00"],
            ["0", "-0", "0.0", "-0.0", ".0"],
            ["+Inf", "Inf", "inf", "+infinity", "1e999"],
        ] {
            for spelling in spellings {
                assert_eq!(bound_as_number(spelling), bound_as_number(spellings[0]), "{spelling}");
            }
        }
        assert_ne!(bound_as_number("1"), bound_as_number("1.5"));
        assert_ne!(bound_as_number("+Inf"), bound_as_number("-Inf"));
        for none in ["", "x", "1_0"] {
            assert_eq!(bound_as_number(none), none);
        }
    }
}
