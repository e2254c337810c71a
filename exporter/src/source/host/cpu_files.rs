//! Pure parsers of a cgroup's cpu files: `cpu.stat` of both versions, `cpu.max` of v2, `cpu.cfs_*_us` of v1.
//!
//! They refuse a file that lacks what every kernel since 5.10 gives, and pass over what newer ones add.

use std::{str, time::Duration};

/// What is wrong with a file's text.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// A line without the number that it should have.
    #[error("line {line:?} has no valid number")]
    Number {
        /// The line.
        line: String,
    },
    /// No line for something that every kernel gives.
    #[error("no line {key}")]
    Missing {
        /// The key that begins the line.
        key: &'static str,
    },
    /// A period of nothing.
    #[error("line {line:?} has a period of zero")]
    ZeroPeriod {
        /// The line.
        line: String,
    },
    /// Longer than any kernel's.
    #[error("longer than the buffer for it")]
    TooLong,
    /// Not even text.
    #[error("not UTF-8")]
    NotText(#[from] str::Utf8Error),
}

/// What `cpu.stat` says about a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuStat {
    /// Periods that had something to run.
    pub n_periods: u64,
    /// Those of them in which the quota was used up.
    pub n_throttled: u64,
    /// Time spent waiting, added up over all CPUs.
    pub throttled: Duration,
}

impl CpuStat {
    /// Whether any of the counters is lower than it was.
    pub(super) fn is_behind(self, last: &Self) -> bool {
        self.n_periods < last.n_periods
            || self.n_throttled < last.n_throttled
            || self.throttled < last.throttled
    }
}

/// Reads `cpu.stat`; other lines than those of the quota are passed over.
pub fn parse_cpu_stat(text: &str) -> Result<CpuStat, ParseError> {
    let (mut n_periods, mut n_throttled, mut throttled) = (None, None, None);
    for line in text.lines() {
        let Some((key, value)) = line.split_once(' ') else {
            continue;
        };
        let count = || count(value).ok_or_else(|| ParseError::Number { line: line.to_owned() });
        match key {
            "nr_periods" => n_periods = Some(count()?),
            "nr_throttled" => n_throttled = Some(count()?),
            "throttled_usec" => throttled = Some(Duration::from_micros(count()?)),
            "throttled_time" => throttled = Some(Duration::from_nanos(count()?)),
            _ => {}
        }
    }
    Ok(CpuStat {
        n_periods: n_periods.ok_or(ParseError::Missing { key: "nr_periods" })?,
        n_throttled: n_throttled.ok_or(ParseError::Missing { key: "nr_throttled" })?,
        throttled: throttled
            .ok_or(ParseError::Missing { key: "throttled_usec or throttled_time" })?,
    })
}

/// Reads `cpu.max`: the quota in cores, `None` for `max`.
pub fn parse_cpu_max(text: &str) -> Result<Option<f64>, ParseError> {
    let line = text.trim_end();
    let error = || ParseError::Number { line: line.to_owned() };
    let (quota, period) = line.split_once(' ').ok_or_else(error)?;
    let period_us = period_us(line, period)?;
    if quota == "max" {
        return Ok(None);
    }
    let quota_us: Option<u64> = quota.parse().ok();
    Ok(Some(number(quota_us.ok_or_else(error)?) / number(period_us)))
}

/// Reads v1's `cpu.cfs_quota_us`: `None` for -1.
pub fn parse_quota_us(text: &str) -> Result<Option<u64>, ParseError> {
    match text.trim_end() {
        "-1" => Ok(None),
        line => match line.parse() {
            Ok(quota_us) => Ok(Some(quota_us)),
            Err(_) => Err(ParseError::Number { line: line.to_owned() }),
        },
    }
}

/// Reads v1's `cpu.cfs_period_us`.
pub fn parse_period_us(text: &str) -> Result<u64, ParseError> {
    let line = text.trim_end();
    period_us(line, line)
}

fn period_us(line: &str, period: &str) -> Result<u64, ParseError> {
    match period.parse() {
        Ok(0) => Err(ParseError::ZeroPeriod { line: line.to_owned() }),
        Ok(period_us) => Ok(period_us),
        Err(_) => Err(ParseError::Number { line: line.to_owned() }),
    }
}

/// The kernel keeps the periods in an `int` and prints it with `%d`: with periods of 1 ms it is negative after 25 days.
fn count(text: &str) -> Option<u64> {
    let wrapped = || text.parse::<i32>().ok().map(|number| u64::from(number.cast_unsigned()));
    text.parse().ok().or_else(wrapped)
}

/// A count as Prometheus takes it.
#[expect(clippy::cast_precision_loss, reason = "Prometheus has no other numbers")]
pub(super) fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{
        CpuStat, ParseError, parse_cpu_max, parse_cpu_stat, parse_period_us, parse_quota_us,
    };

    fn number_error<T>(line: &str) -> Result<T, ParseError> {
        Err(ParseError::Number { line: line.to_owned() })
    }

    #[test]
    fn reads_cpu_stat() {
        let check = |text: &str, expected: Result<(u64, u64, Duration), ParseError>| {
            let expected = expected.map(|(n_periods, n_throttled, throttled)| CpuStat {
                n_periods,
                n_throttled,
                throttled,
            });
            assert_eq!(parse_cpu_stat(text), expected, "{text:?}");
        };
        let missing = |key| Err(ParseError::Missing { key });
        // v2, 6.12
        check(
            "usage_usec 5\nuser_usec 3\nsystem_usec 2\nnice_usec 0\nnr_periods 41\nnr_throttled 9\n\
             throttled_usec 171724\nnr_bursts 0\nburst_usec 0\n",
            Ok((41, 9, Duration::from_micros(171_724))),
        );
        // v1, as recorded
        check(
            "nr_periods 41\nnr_throttled 9\nthrottled_time 171724900\nnr_bursts 0\nburst_time 0\n",
            Ok((41, 9, Duration::from_nanos(171_724_900))),
        );
        // Without the last newline, in another order
        check(
            "throttled_usec 1\nnr_throttled 2\nnr_periods 3",
            Ok((3, 2, Duration::from_micros(1))),
        );
        // The largest numbers, and an int that went over
        check(
            "nr_periods 18446744073709551615\nnr_throttled 0\nthrottled_usec 18446744073709551615\n",
            Ok((u64::MAX, 0, Duration::from_micros(u64::MAX))),
        );
        check(
            "nr_periods -2147483648\nnr_throttled 1\nthrottled_usec 1\n",
            Ok((2_147_483_648, 1, Duration::from_micros(1))),
        );
        check("", missing("nr_periods"));
        check("usage_usec 5\nuser_usec 3\n", missing("nr_periods"));
        check("nr_periods 1\nthrottled_usec 1\n", missing("nr_throttled"));
        check("nr_periods 1\nnr_throttled 1\n", missing("throttled_usec or throttled_time"));
        check("nr_periods\nnr_throttled 1\nthrottled_usec 1\n", missing("nr_periods"));
        check("nr_periods x\n", number_error("nr_periods x"));
        check("nr_periods \n", number_error("nr_periods "));
        check("nr_periods 1 2\n", number_error("nr_periods 1 2"));
        check("nr_periods 1.5\n", number_error("nr_periods 1.5"));
        check(
            "nr_throttled 18446744073709551616\n",
            number_error("nr_throttled 18446744073709551616"),
        );
        check("garbage\n\0\n", missing("nr_periods"));
    }

    #[test]
    fn reads_cpu_max() {
        let check = |text: &str, expected: Result<Option<f64>, ParseError>| {
            assert_eq!(parse_cpu_max(text), expected, "{text:?}");
        };
        check("max 100000\n", Ok(None));
        check("max 100000", Ok(None));
        check("10000 100000\n", Ok(Some(0.1)));
        check("250000 100000\n", Ok(Some(2.5)));
        check("18446744073709551615 1\n", Ok(Some(18_446_744_073_709_551_615.0)));
        check("", number_error(""));
        check("max\n", number_error("max"));
        check("x 100000\n", number_error("x 100000"));
        check("-1 100000\n", number_error("-1 100000"));
        check("100000 max\n", number_error("100000 max"));
        check("1 2 3\n", number_error("1 2 3"));
        check("10000 0\n", Err(ParseError::ZeroPeriod { line: "10000 0".to_owned() }));
    }

    #[test]
    fn reads_the_two_files_of_v1() {
        let quota = |text: &str, expected: Result<Option<u64>, ParseError>| {
            assert_eq!(parse_quota_us(text), expected, "{text:?}");
        };
        quota("-1\n", Ok(None));
        quota("20000\n", Ok(Some(20_000)));
        quota("20000", Ok(Some(20_000)));
        quota("-2\n", number_error("-2"));
        quota("max\n", number_error("max"));
        quota("", number_error(""));
        let period = |text: &str, expected: Result<u64, ParseError>| {
            assert_eq!(parse_period_us(text), expected, "{text:?}");
        };
        period("100000\n", Ok(100_000));
        period("0\n", Err(ParseError::ZeroPeriod { line: "0".to_owned() }));
        period("-1\n", number_error("-1"));
        period("\n", number_error(""));
    }
}
