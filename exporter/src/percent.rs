//! Percent-encoding of a part of a URL (RFC 3986). Pure.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};

/// All but the unreserved characters.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A part of a path or a query, where every byte that could mean something there is escaped.
pub(crate) fn escaped(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, RESERVED)
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn names_cannot_leave_their_place() {
        assert_eq!(escaped("node-1.example").to_string(), "node-1.example");
        assert_eq!(escaped("a/../b?c=d&e,f").to_string(), "a%2F..%2Fb%3Fc%3Dd%26e%2Cf");
    }
}
