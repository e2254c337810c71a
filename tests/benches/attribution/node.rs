//! The release binary on a node of the cluster: what it has in memory, and what it asked for.

use std::{fs, path::Path};

use podmeter_tests::{
    cluster::{service_account::ServiceAccount, wait_until},
    exporter::Exporter,
    http,
};

/// Collections before memory is read: buffers and caches have their size then.
const N_SCRAPES: usize = 20;

/// A running Podmeter.
pub(crate) struct Node {
    exporter: Exporter,
}

/// How often it asked for something.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Requests {
    pub(crate) lists: f64,
    pub(crate) watches: f64,
    pub(crate) gets: f64,
    pub(crate) errors: f64,
}

impl Node {
    /// Starts it, and waits until every pod of the node has a label of its Deployment.
    pub(crate) fn start(
        binary: &Path,
        account: &ServiceAccount,
        (name, n_pods): (&str, usize),
    ) -> Self {
        let node = Self { exporter: Exporter::start(binary, &config(account, name, "")) };
        wait_until(&format!("the pods of {name} are known"), || {
            let page = node.page();
            let is_synced = number(&page, "podmeter_kubernetes_synced") > 0.0;
            let n_objects = number(&page, "podmeter_kubernetes_objects");
            let has_owners = n_pods == 0 || n_objects >= 2.0 * super::fill::N_DEPLOYMENTS as f64;
            let n_known = number(&page, "podmeter_kubernetes_pods{state=\"live\"}");
            (is_synced && has_owners && n_known >= n_pods as f64).then_some(())
        });
        node
    }

    /// What it has in memory after some collections.
    pub(crate) fn settled_bytes(&self) -> u64 {
        for _ in 0..N_SCRAPES {
            drop(self.page());
        }
        let path = format!("/proc/{}/status", self.exporter.id());
        let status = fs::read_to_string(path).expect("it runs");
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = resident.and_then(|text| text.split_whitespace().next()?.parse().ok());
        let kilobytes: u64 = kilobytes.expect("the kernel says it in kB");
        kilobytes * 1024
    }

    /// What it asked the API server for since its start.
    pub(crate) fn requests(&self) -> Requests {
        let page = self.page();
        let of = |operation: &str| {
            number(
                &page,
                &format!("podmeter_kubernetes_requests_total{{operation=\"{operation}\"}}"),
            )
        };
        Requests {
            lists: of("list"),
            watches: of("watch"),
            gets: of("get"),
            errors: number(&page, "podmeter_kubernetes_errors_total"),
        }
    }

    fn page(&self) -> String {
        http::get(&self.exporter.url("/metrics"), &[]).text().to_owned()
    }
}

/// The configuration of Podmeter on a node, with labels of pods and Deployments.
pub(crate) fn config(account: &ServiceAccount, node: &str, further: &str) -> String {
    let kubeconfig = account.kubectl().kubeconfig().display();
    format!(
        "node_name: {node}
kubernetes:
  enabled: true
  kubeconfig: {kubeconfig}
  labels:
    - {{ from: pod.label.region, or: deployment.label.region, to: region }}
    - {{ from: deployment.label.dept, to: dept }}
  {further}
"
    )
}

/// The sum of the samples that begin so.
fn number(page: &str, series: &str) -> f64 {
    let lines = page.lines().filter(|line| line.starts_with(series));
    lines
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .fold(0.0, |sum, one| sum + one)
}
