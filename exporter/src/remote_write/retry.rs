//! When a receiver says that it wants to be asked again: the header `Retry-After`. Pure.

use std::time::{Duration, SystemTime};

/// No receiver is waited for longer than this between two attempts, whatever it says.
const MOST: Duration = Duration::from_mins(10);

/// The wait that the header asks for, in seconds or until a date.
pub(super) fn after(header: &str, now: SystemTime) -> Option<Duration> {
    let header = header.trim();
    let wait = match header.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_no_number) => {
            // A date that has passed is no wait.
            httpdate::parse_http_date(header).ok()?.duration_since(now).unwrap_or_default()
        }
    };
    Some(wait.min(MOST))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::{MOST, after};

    #[test]
    fn both_forms_are_understood() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let check = |header, expected: Option<u64>| {
            assert_eq!(after(header, now), expected.map(Duration::from_secs), "{header}");
        };
        check("7", Some(7));
        check(" 0 ", Some(0));
        check("999999", Some(MOST.as_secs()));
        check("Sun, 06 Nov 1994 08:49:37 GMT", Some(0));
        check("Sun, 06 Nov 1994 08:50:07 GMT", Some(30));
        check("Sun, 06 Nov 1994 08:49:00 GMT", Some(0));
        check("Tue, 31 Dec 2199 23:59:59 GMT", Some(MOST.as_secs()));
        for none in ["", "-1", "soon", "1.5"] {
            check(none, None);
        }
    }
}
