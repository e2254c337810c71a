//! Pods that the Kubernetes API tells of.

use std::collections::HashSet;

use expect_test::expect;

use super::{check_account, relay, text};
use crate::{
    attribution::kubernetes::{testing, workload::AttributedPod},
    labelling::relay::{NamedPods, OwnerKind, Settings},
    source::upstream::exposition::Dialect,
    subject::ContainerId,
};

const UID: &str = "0c3e7a66-d7b6-4e0d-8a4e-5a4f6f3e2a10";
const CONTAINER: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const SANDBOX: &str = "ff23456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

const NEW: &str = "ee23456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

#[test]
fn series_are_named_by_labels_and_by_path() {
    let mut pod = testing::pod(UID, "web-0", &[("web", &[CONTAINER])]);
    pod.metadata = testing::metadata(&[("region", "beijing")]);
    let view = testing::view(vec![pod]);
    let region = |pod: &AttributedPod| {
        let region = pod.pod.metadata.label("region").unwrap_or_default();
        vec![("region".to_owned(), region.to_owned())]
    };
    let sandboxes = HashSet::from([ContainerId::new(SANDBOX)]);
    let pods = NamedPods::new(1, &view, sandboxes.clone(), region);
    assert!(pods.is_of(&view, &sandboxes) && !pods.is_of(&view, &HashSet::new()));
    let root = format!("/kubepods/burstable/pod{UID}");
    let page = format!(
        "container_x{{id=\"{root}/{CONTAINER}\"}} 1\ncontainer_x{{id=\"{root}/{SANDBOX}\"}} 2\n\
         container_x{{id=\"{root}/{NEW}\"}} 8\n\
         container_x{{id=\"{root}\"}} 3\ncontainer_x{{id=\"/kubepods\"}} 4\n\
         container_x{{id=\"/kubepods/podffffffff-d7b6-4e0d-8a4e-5a4f6f3e2a10\"}} 5\n\
         kubelet_x{{namespace=\"n9e\",pod=\"web-0\"}} 6\nkubelet_x{{namespace=\"n9e\",pod=\"other\"}} 7\n"
    );
    let relayed = relay(Settings::default()).relay(page.as_bytes(), Dialect::Text, &pods);
    let relayed = relayed.expect("the page is relayed");
    check_account(&relayed);
    let short = text(&relayed).replace(&root, "ROOT");
    expect![[r#"
        container_x{container="web",id="ROOT/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",namespace="n9e",pod="web-0",region="beijing"} 1
        container_x{container="POD",id="ROOT/ff23456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",namespace="n9e",pod="web-0",region="beijing"} 2
        container_x{container_id="ee23456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",id="ROOT/ee23456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",namespace="n9e",pod="web-0",region="beijing"} 8
        container_x{id="ROOT",namespace="n9e",pod="web-0",region="beijing"} 3
        container_x{id="/kubepods"} 4
        container_x{id="/kubepods/podffffffff-d7b6-4e0d-8a4e-5a4f6f3e2a10"} 5
        kubelet_x{namespace="n9e",pod="web-0",region="beijing"} 6
        kubelet_x{namespace="n9e",pod="other"} 7
    "#]]
    .assert_eq(&short);
    let of_kind = OwnerKind::ALL.map(|kind| relayed.counts.owned_by(kind));
    assert_eq!(of_kind, [1, 2, 2, 1, 2]);
}
