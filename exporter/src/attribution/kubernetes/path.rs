//! Paths of the API. Pure: no name leads out of its place.

use crate::percent::escaped;

/// The path of a group and version.
pub(super) fn group_path(api_version: &str) -> String {
    match api_version.split_once('/') {
        Some((group, version)) => format!("/apis/{}/{}", escaped(group), escaped(version)),
        None => format!("/api/{}", escaped(api_version)),
    }
}

#[cfg(test)]
mod tests {
    use super::group_path;

    #[test]
    fn a_group_has_a_path_and_no_owner_leads_out_of_it() {
        assert_eq!(group_path("v1"), "/api/v1");
        assert_eq!(group_path("argoproj.io/v1alpha1"), "/apis/argoproj.io/v1alpha1");
        assert_eq!(group_path("a/../secrets"), "/apis/a/..%2Fsecrets");
    }
}
