//! etcd, where the API server keeps its objects.

use std::{path::Path, process::Command};

use serde_json::{Value, json};

use super::{Programs, free_port, start_logged, wait_until};
use crate::{
    http::{post_json, try_get},
    tools::Process,
};

/// A running etcd without peers.
#[derive(Debug)]
pub(super) struct Etcd {
    url: String,
    _process: Process,
}

impl Etcd {
    pub(super) fn start(programs: &Programs, dir: &Path) -> Self {
        let url = format!("http://127.0.0.1:{}", free_port());
        let peer_url = format!("http://127.0.0.1:{}", free_port());
        let mut command = Command::new(programs.debian("usr/bin/etcd"));
        command
            .arg(format!("--data-dir={}", dir.join("etcd").display()))
            .arg(format!("--listen-client-urls={url}"))
            .arg(format!("--advertise-client-urls={url}"))
            .arg(format!("--listen-peer-urls={peer_url}"))
            .arg(format!("--initial-advertise-peer-urls={peer_url}"))
            .arg(format!("--initial-cluster=default={peer_url}"))
            // Nothing here outlives the test.
            .arg("--unsafe-no-fsync");
        let process = start_logged(dir, "etcd", &mut command);
        let health = format!("{url}/health");
        wait_until("etcd is healthy", || {
            try_get(&health, &[]).is_ok_and(|answer| answer.status == 200).then_some(())
        });
        Self { url, _process: process }
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Compacts all revisions up to the last one, and gives that.
    pub(super) fn compact(&self) -> u64 {
        let status = self.post("/v3/maintenance/status", &json!({}));
        // The gateway writes 64-bit numbers as strings.
        let revision = status.pointer("/header/revision").and_then(Value::as_str);
        let revision = revision.and_then(|revision| revision.parse().ok());
        let revision: u64 = revision.unwrap_or_else(|| panic!("no revision in {status}"));
        self.post("/v3/kv/compaction", &json!({ "revision": revision, "physical": true }));
        revision
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let answer = post_json(&format!("{}{path}", self.url), body);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        serde_json::from_str(answer.text()).expect("etcd answers JSON")
    }
}
