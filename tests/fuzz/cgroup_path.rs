//! A cgroup's path, which whoever starts containers chooses.

use std::sync::Arc;

use podmeter::{
    attribution::{Identity, container::identify},
    subject::PodUid,
};

pub(crate) fn check(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    let path: Arc<str> = text.into();
    match identify(&path) {
        Identity::Container { pod_uid, container_id, .. } => {
            assert!(text.contains(container_id.as_str()), "{container_id:?} is in the path");
            check_uid(text, pod_uid.as_ref().map(PodUid::as_str));
        }
        Identity::Pod { pod_uid, .. } => check_uid(text, Some(pod_uid.as_str())),
        Identity::Other { path: other } => assert_eq!(other, path),
        Identity::Monitor => {}
    }
    // What a pod or container starts itself is still its own.
    let below: Arc<str> = format!("{text}/init.scope").into();
    if let (Identity::Pod { pod_uid, .. }, Identity::Pod { pod_uid: of_child, .. }) =
        (identify(&path), identify(&below))
    {
        assert_eq!(pod_uid, of_child);
    }
}

/// A UID stands in the path, in small letters or large ones, with dashes or, by the systemd driver, with underscores.
fn check_uid(path: &str, uid: Option<&str>) {
    let Some(uid) = uid else { return };
    assert!(
        path.to_ascii_lowercase().replace('_', "-").contains(&uid.replace('_', "-")),
        "{uid} is in {path}"
    );
}
