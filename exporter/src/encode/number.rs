//! Numbers as both text formats want them. Every form is one that Go's `strconv.ParseFloat` takes.

/// From here on not every integer is a float.
const INTEGERS_END: f64 = 9_007_199_254_740_992.0;

/// Writes a count.
pub(super) fn write_count(out: &mut Vec<u8>, count: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(count).as_bytes());
}

/// Writes a float that always looks like one: `1.0`, `0.25`, `1e+300`, `+Inf`, `-Inf`, `NaN`.
pub(super) fn write_float(out: &mut Vec<u8>, value: f64) {
    let mut buffer = zmij::Buffer::new();
    let text = if value.is_nan() {
        "NaN"
    } else if value.is_infinite() {
        if value.is_sign_positive() { "+Inf" } else { "-Inf" }
    } else {
        buffer.format_finite(value)
    };
    out.extend_from_slice(text.as_bytes());
}

/// Writes a float in the fewest letters: an integer has no fraction.
pub(super) fn write_short(out: &mut Vec<u8>, value: f64) {
    if value.fract() == 0.0 && value.abs() < INTEGERS_END {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "an integer below 2^53 by the line above"
        )]
        let integer = value as i64;
        out.extend_from_slice(itoa::Buffer::new().format(integer).as_bytes());
    } else {
        write_float(out, value);
    }
}

/// The bound of a bucket as Go's `%g` writes it, which every other exporter does too: a `le` is compared as text.
///
/// Go's rule: <https://github.com/golang/go/blob/go1.24.0/src/strconv/ftoa.go#L203-L225>.
pub(super) fn bound_text(bound: f64) -> String {
    if !bound.is_finite() {
        let mut text = Vec::new();
        write_float(&mut text, bound);
        return String::from_utf8_lossy(&text).into_owned();
    }
    // Rust's shortest digits are `d.ddde-7`, with as many d as it takes to read the same float back.
    let shortest = format!("{bound:e}");
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    match exponent.parse::<i32>() {
        Ok(-4..=5) => format!("{bound}"),
        Ok(exponent @ ..0) => format!("{mantissa}e-{:02}", -exponent),
        Ok(exponent) => format!("{mantissa}e+{exponent:02}"),
        Err(_) => shortest,
    }
}

/// The bound of a bucket as `OpenMetrics` asks for it: Go's `%g`, and never like an integer.
pub(super) fn canonical_bound_text(bound: f64) -> String {
    let mut text = bound_text(bound);
    if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') {
        text.push_str(".0");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use proptest::prelude::{any, prop_assert, proptest};

    use super::{bound_text, canonical_bound_text, write_float, write_short};

    fn text(write: impl Fn(&mut Vec<u8>, f64), value: f64) -> String {
        let mut out = Vec::new();
        write(&mut out, value);
        String::from_utf8(out).expect("numbers are ASCII")
    }

    #[test]
    fn values() {
        let check = |value, short, float| {
            assert_eq!(text(write_short, value), short);
            assert_eq!(text(write_float, value), float);
        };
        check(0.0, "0", "0.0");
        check(1.0, "1", "1.0");
        check(-3.0, "-3", "-3.0");
        check(0.25, "0.25", "0.25");
        check(1e-9, "1e-9", "1e-9");
        check(1e6, "1000000", "1000000.0");
        check(9_007_199_254_740_991.0, "9007199254740991", "9007199254740991.0");
        check(1e300, "1e+300", "1e+300");
        check(f64::NAN, "NaN", "NaN");
        check(-f64::NAN, "NaN", "NaN");
        check(f64::INFINITY, "+Inf", "+Inf");
        check(f64::NEG_INFINITY, "-Inf", "-Inf");
    }

    #[test]
    fn bounds() {
        let check = |bound, text, canonical: &str| {
            assert_eq!(bound_text(bound), text);
            assert_eq!(canonical_bound_text(bound), canonical);
        };
        check(0.0, "0", "0.0");
        check(1.0, "1", "1.0");
        check(10.0, "10", "10.0");
        check(-1.0, "-1", "-1.0");
        check(0.5, "0.5", "0.5");
        check(0.0001, "0.0001", "0.0001");
        check(0.000_128, "0.000128", "0.000128");
        check(0.000_01, "1e-05", "1e-05");
        check(1.6e-5, "1.6e-05", "1.6e-05");
        check(1e-10, "1e-10", "1e-10");
        check(100_000.0, "100000", "100000.0");
        check(123_456.5, "123456.5", "123456.5");
        check(1e6, "1e+06", "1e+06");
        check(123_456_789.0, "1.23456789e+08", "1.23456789e+08");
        check(1e100, "1e+100", "1e+100");
        check(f64::INFINITY, "+Inf", "+Inf");
    }

    proptest! {
        #[test]
        fn every_form_is_read_back_as_the_same_float(value in any::<f64>()) {
            for text in [
                text(write_short, value),
                text(write_float, value),
                bound_text(value),
                canonical_bound_text(value),
            ] {
                let read: f64 = text.parse().expect("a number is read back");
                // The sign of zero and the bits of NaN are not kept.
                prop_assert!(read.partial_cmp(&value) == Some(Ordering::Equal) || read.is_nan() && value.is_nan(), "{text}");
            }
            prop_assert!(text(write_float, value).contains(['.', 'e', 'f', 'N']));
        }
    }
}
