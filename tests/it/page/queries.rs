//! What a query of deploy/ asks for, by Prometheus' own parser, against the names that pages have: those of
//! docs/metrics.md, and of the pages that were recorded from kubelets and kube-proxies.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use podmeter_tests::{cgroup::wait_for, prometheus::Prometheus};
use serde_json::Value;

/// Labels that come from the attribution, from Prometheus, or from the operator, and may be on every series.
const ON_ALL: &[&str] = &[
    "cgroup",
    "cluster",
    "container",
    "container_id",
    "deployment",
    "instance",
    "job",
    "namespace",
    "node",
    "pod",
    "pod_uid",
    "workload",
    "workload_type",
];

/// Families of the kubelet and of kube-proxy that no recorded page has, with the reason.
const NOT_RECORDED: &[&str] = &[
    // The recorded kubelets were not told to rotate their certificates, kubelet_config.go.
    "kubelet_certificate_manager_client_ttl_seconds",
    "kubelet_certificate_manager_server_ttl_seconds",
    "kubelet_certificate_manager_client_expiration_renew_errors",
    "kubelet_server_expiration_renew_errors",
    // The recorded kube-proxies wrote iptables.
    "kubeproxy_sync_proxy_rules_nftables_sync_failures_total",
];

/// Labels of every metric that a query may ask for.
pub(super) struct Vocabulary(BTreeMap<String, BTreeSet<String>>);

/// What a query asks for.
#[derive(Debug, Default)]
struct Uses {
    metrics: BTreeSet<String>,
    labels: BTreeSet<String>,
    /// Labels that `label_replace` or `label_join` makes.
    made: BTreeSet<String>,
}

impl Vocabulary {
    pub(super) fn read() -> Self {
        let mut known = Self(BTreeMap::new());
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let docs = fs::read_to_string(root.join("../docs/metrics.md")).expect("it is there");
        docs.lines().for_each(|line| known.documented(line));
        for version in ["v1.20.2", "v1.34.9"] {
            let folder = root.join("fixtures").join(version).join("pages");
            for file in fs::read_dir(folder).expect("the folder is there") {
                let path = file.expect("its files are there").path();
                let page = fs::read_to_string(path).expect("a page is UTF-8");
                let samples = page.lines().filter(|line| !line.starts_with('#'));
                samples.for_each(|sample| known.recorded(sample));
            }
        }
        for name in NOT_RECORDED {
            let recorded = known.0.insert((*name).to_owned(), BTreeSet::new());
            assert_eq!(recorded, None, "{name} is recorded now");
        }
        known
    }

    /// Takes a row of docs/metrics.md.
    fn documented(&mut self, line: &str) {
        let cells: Vec<&str> = line.split(" | ").collect();
        let &[name, kind, labels, ..] = cells.as_slice() else { return };
        let Some(name) = name.strip_prefix("| `") else { return };
        let name = name.trim_end_matches('`');
        let labels = labels.split(',').map(|label| label.trim_matches([' ', '`']).to_owned());
        let labels: BTreeSet<String> = labels.collect();
        if kind == "histogram" {
            for suffix in ["bucket", "sum", "count"] {
                self.0.insert(format!("{name}_{suffix}"), labels.clone());
            }
            let buckets = self.0.entry(format!("{name}_bucket")).or_default();
            buckets.insert("le".to_owned());
        } else {
            self.0.insert(name.to_owned(), labels);
        }
    }

    /// Takes a sample of a page.
    fn recorded(&mut self, sample: &str) {
        let end = sample.find(['{', ' ']).expect("a value follows the name");
        let (name, rest) = sample.split_at(end);
        let labels = self.0.entry(name.to_owned()).or_default();
        // Every second piece between quotes is a value; no recorded value has a quote in it.
        let Some((inside, _)) = rest.strip_prefix('{').and_then(|rest| rest.rsplit_once('}'))
        else {
            return;
        };
        assert!(!inside.contains('\\'), "{sample}");
        let names = inside.split('"').step_by(2).map(|piece| piece.trim_matches([',', '=']));
        labels.extend(names.filter(|name| !name.is_empty()).map(str::to_owned));
    }

    /// Takes the result of a recording rule, with the labels of all that it is made from.
    pub(super) fn record(&mut self, prometheus: &Prometheus, name: &str, query: &str) {
        let uses = self.check(prometheus, query);
        let labels = uses.metrics.iter().filter_map(|name| self.0.get(name)).flatten();
        let labels = labels.chain(&uses.made).cloned().collect();
        self.0.insert(name.to_owned(), labels);
    }

    /// A query parses, and asks only for what there is.
    pub(super) fn check_query(&self, prometheus: &Prometheus, query: &str) {
        self.check(prometheus, query);
    }

    fn check(&self, prometheus: &Prometheus, query: &str) -> Uses {
        let mut parsed = None;
        wait_for("Prometheus answers", || {
            parsed = prometheus.parse(query);
            parsed.is_some()
        });
        let parsed = parsed.expect("it has answered").unwrap_or_else(|error| {
            panic!("{error}:\n{query}");
        });
        let mut uses = Uses::default();
        uses.collect(&parsed);
        assert!(!uses.metrics.is_empty(), "it asks for nothing: {query}");
        let mut labels: BTreeSet<&str> = ON_ALL.iter().copied().collect();
        labels.extend(uses.made.iter().map(String::as_str));
        for name in &uses.metrics {
            let of_it = self.0.get(name).unwrap_or_else(|| panic!("there is no {name}:\n{query}"));
            labels.extend(of_it.iter().map(String::as_str));
        }
        for label in &uses.labels {
            assert!(labels.contains(label.as_str()), "nothing has the label {label}:\n{query}");
        }
        uses
    }
}

impl Uses {
    /// Walks a node of the syntax tree and all below it.
    fn collect(&mut self, node: &Value) {
        match node {
            Value::Array(nodes) => nodes.iter().for_each(|node| self.collect(node)),
            Value::Object(fields) => {
                let words = |key: &str| strings(fields.get(key));
                match fields.get("type").and_then(Value::as_str) {
                    Some("vectorSelector" | "matrixSelector") => self.selector(node),
                    Some("aggregation") => self.labels.extend(words("grouping")),
                    Some("call") => self.made.extend(made_label(node)),
                    _ => {}
                }
                if fields.contains_key("card") {
                    self.labels.extend(words("labels").into_iter().chain(words("include")));
                }
                fields.values().for_each(|node| self.collect(node));
            }
            _ => {}
        }
    }

    fn selector(&mut self, selector: &Value) {
        let matchers = selector.get("matchers").and_then(Value::as_array).expect("a list");
        for matcher in matchers {
            let text = |key: &str| matcher.get(key).and_then(Value::as_str).expect("a string");
            match (text("name"), text("type")) {
                ("__name__", "=") => self.metrics.insert(text("value").to_owned()),
                ("__name__", _) => panic!("names must be spelled out: {selector}"),
                (label, _) => self.labels.insert(label.to_owned()),
            };
        }
    }
}

/// The label that a call makes, if it makes one: the second argument.
fn made_label(call: &Value) -> Option<String> {
    let makes = ["label_replace", "label_join"];
    makes.contains(&call.pointer("/func/name")?.as_str()?).then_some(())?;
    Some(call.pointer("/args/1/val")?.as_str()?.to_owned())
}

fn strings(list: Option<&Value>) -> Vec<String> {
    let list = list.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(|word| Some(word.as_str()?.to_owned())).collect()
}
