//! The objects above a pod, as their controllers would write them.

use serde_json::{Value, json};

use super::node::IMAGE;

/// A container that is throttled and writes without end, as an item of `spec.template.spec.containers` in YAML.
#[must_use]
pub fn busy_container() -> String {
    format!(
        r#"        - name: worker
          image: {IMAGE}
          command: [sh, -c, "while :; do dd if=/dev/zero of=/data/file bs=64k count=16 conv=fsync; done"]
          resources: {{ limits: {{ cpu: 50m, memory: 64Mi }} }}"#
    )
}

/// A controller of `apps/v1` in the namespace `n9e`, for pods with that label `app`.
#[must_use]
pub fn controller(kind: &str, name: &str, app: &str, owners: &Value) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {
            "name": name, "namespace": "n9e", "labels": { "dept": "cloud" }, "ownerReferences": owners,
        },
        "spec": {
            "selector": { "matchLabels": { "app": app } },
            "template": {
                "metadata": { "labels": { "app": app } },
                "spec": { "containers": [{ "name": "main", "image": "main" }] },
            },
        },
    })
}

/// The `ownerReferences` of what a controller of `apps/v1` controls.
#[must_use]
pub fn owned_by(kind: &str, name: &str, uid: &str) -> Value {
    json!([{ "apiVersion": "apps/v1", "kind": kind, "name": name, "uid": uid, "controller": true }])
}
