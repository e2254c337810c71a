//! Parts of paths and queries of the API. Pure: no name leads out of its place.

/// The path of a group and version.
pub(super) fn group_path(api_version: &str) -> String {
    match api_version.split_once('/') {
        Some((group, version)) => format!("/apis/{}/{}", escaped(group), escaped(version)),
        None => format!("/api/{}", escaped(api_version)),
    }
}

/// A part of a path or a query, where every byte that could mean something there is escaped.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push('%');
            escaped.extend([byte >> 4, byte & 15].map(hex_digit));
        }
    }
    escaped
}

fn hex_digit(number: u8) -> char {
    char::from_digit(number.into(), 16).unwrap_or('0').to_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use super::{escaped, group_path};

    #[test]
    fn names_cannot_leave_their_place() {
        assert_eq!(escaped("node-1.example"), "node-1.example");
        assert_eq!(escaped("a/../b?c=d&e,f"), "a%2F..%2Fb%3Fc%3Dd%26e%2Cf");
    }

    #[test]
    fn a_group_has_a_path_and_no_owner_leads_out_of_it() {
        assert_eq!(group_path("v1"), "/api/v1");
        assert_eq!(group_path("argoproj.io/v1alpha1"), "/apis/argoproj.io/v1alpha1");
        assert_eq!(group_path("a/../secrets"), "/apis/a/..%2Fsecrets");
    }
}
