//! Quantities (`100m`, `16Mi`, `1e3`) and times (RFC 3339) as the API writes them. Pure.

/// A quantity in its base unit: cores, bytes, pieces.
pub(super) fn quantity(text: &str) -> Option<f64> {
    const SUFFIXES: &[(&str, f64)] = &[
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("Ei", 1_152_921_504_606_846_976.0),
        ("n", 1e-9),
        ("u", 1e-6),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
        ("E", 1e18),
    ];
    let text = text.trim();
    let (digits, factor) = SUFFIXES
        .iter()
        .find_map(|(suffix, factor)| Some((text.strip_suffix(suffix)?, *factor)))
        .unwrap_or((text, 1.0));
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit() || b".+-eE".contains(&byte));
    let number: f64 = digits.parse().ok().filter(|_| is_number)?;
    // 100m is a tenth: dividing gives the nearest number, where multiplying by 0.001 would not.
    let quantity = if factor < 1.0 { number / (1.0 / factor).round() } else { number * factor };
    // Kubernetes has no quantity that a float does not hold.
    quantity.is_finite().then_some(quantity)
}

/// Seconds since 1970 of a time in UTC, such as `2026-11-22T11:47:53Z`; a fraction of a second is left out, as
/// kube-state-metrics does.
pub(super) fn unix_seconds(text: &str) -> Option<f64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.split('-').map(str::parse::<i64>);
    let mut time = time.split('.').next()?.split(':').map(str::parse::<i64>);
    let mut next = || date.next()?.ok();
    let (year, month, day) = (next()?, next()?, next()?);
    let mut next = || time.next()?.ok();
    let (hour, minute, second) = (next()?, next()?, next()?);
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    if !(0..24).contains(&hour) || !(0..60).contains(&minute) || !(0..=60).contains(&second) {
        return None;
    }
    // Counted from March, so that a leap day is the last of its year.
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let days =
        365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second;
    i32::try_from(seconds / 3_600)
        .ok()
        .zip(i32::try_from(seconds % 3_600).ok())
        .map(|(hours, seconds)| f64::from(hours) * 3_600.0 + f64::from(seconds))
}

#[cfg(test)]
mod tests {
    use super::{quantity, unix_seconds};

    #[test]
    fn quantities_are_in_base_units() {
        let check = |text, expected: Option<f64>| assert_eq!(quantity(text), expected, "{text}");
        check("100m", Some(0.1));
        check("20m", Some(0.02));
        check("1", Some(1.0));
        check("0.5", Some(0.5));
        check("16Mi", Some(16.0 * 1024.0 * 1024.0));
        check("2Gi", Some(2_147_483_648.0));
        check("1500k", Some(1.5e6));
        check("1e3", Some(1000.0));
        check("1E", Some(1e18));
        check("128974848", Some(128_974_848.0));
        check("", None);
        check("Mi", None);
        check("inf", None);
        check("nan", None);
        check("1e400", None);
        check("1e308E", None);
        check("a lot", None);
    }

    #[test]
    fn times_are_seconds_since_1970() {
        let check =
            |text, expected: Option<f64>| assert_eq!(unix_seconds(text), expected, "{text}");
        check("1970-01-01T00:00:00Z", Some(0.0));
        // date -u -d 2026-11-22T11:47:53Z +%s
        check("2026-11-22T11:47:53Z", Some(1_795_348_073.0));
        check("2024-02-29T23:59:59.123456Z", Some(1_709_251_199.0));
        check("2000-03-01T00:00:00Z", Some(951_868_800.0));
        check("2026-13-01T00:00:00Z", None);
        check("2026-11-22", None);
        check("2026-11-22T11:47Z", None);
        check("", None);
    }
}
