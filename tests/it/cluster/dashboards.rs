//! Each query of deploy/dashboards gives data in a Prometheus that scrapes a real node, or stands in a list with the
//! reason why it cannot here; each rule of deploy/alerts is evaluated there.

use std::collections::BTreeSet;

use podmeter_tests::{
    cluster::{node::Node, wait_until},
    dashboards::{ALL, Dashboard, filled, list, text},
    prometheus::Prometheus,
};
use serde_json::Value;

use super::workload;

/// What is chosen in the dashboards' variables; all of the others, as when a dashboard is opened.
const CHOSEN: &[(&str, &str)] = &[
    ("cluster", "beijing01"),
    ("node", "node-1"),
    ("namespace", "n9e"),
    ("workload", "n9e-webapi"),
];

/// The filter of the user's own label, as Grafana adds it to each selector where a dashboard lets one choose it.
const FILTER: &str = ",region=\"beijing\"";

/// Why a query gives nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// On this machine it never can: if it does, the list is stale.
    NotHere(&'static str),
    /// It shows what may go wrong at any time, and mostly does not.
    AllIsWell(&'static str),
}

use Why::{AllIsWell, NotHere};

/// Those of "containers" are asked in the guests: see `kernel::prometheus`.
const NO_DURATIONS: Why =
    NotHere("the kernel refuses the probe cpu_throttle, which needs fentry or kprobes");
const NO_ROTATION: Why = NotHere("this kubelet was given its certificates");

/// The dashboard, a title and the place of the query in that panel, for all queries that may give nothing.
const EMPTY: &[(&str, &str, usize, Why)] = &[
    ("containers", "How long each throttle lasted", 0, NO_DURATIONS),
    ("containers", "Throttles of more than 50 ms", 0, NO_DURATIONS),
    ("application", "How long each throttle lasted", 0, NO_DURATIONS),
    ("containers", "Time in which all tasks waited", 0, NotHere("cgroup v1 has no pressure files")),
    ("containers", "Requests that failed", 0, NotHere("the disk fails no request")),
    ("kubelet", "Certificates are valid for", 0, NO_ROTATION),
    ("kubelet", "Certificates are valid for", 1, NO_ROTATION),
    (
        "kube-proxy",
        "Services without an endpoint on the node",
        0,
        NotHere("kube-proxy of 1.20 does not count them"),
    ),
    ("kube-proxy", "Failures to write the rules", 1, NotHere("kube-proxy of 1.20 has no nftables")),
    ("kube-proxy", "Rules of iptables", 0, NotHere("kube-proxy of 1.20 does not count them")),
    ("podmeter", "Failures by reason", 0, AllIsWell("all targets answer")),
    ("podmeter", "Sources that fail", 0, AllIsWell("all give their families")),
    ("podmeter", "Time in the programs", 0, NotHere("the machine's kernel.bpf_stats_enabled is 0")),
    ("podmeter", "Errors", 0, AllIsWell("the API server answers")),
    (
        "podmeter",
        "What the role forbids",
        0,
        NotHere("the role of the chart has all that is asked"),
    ),
    ("podmeter", "Requests to its endpoint", 1, AllIsWell("nobody meets a limit")),
];

/// A pod with a volume, which the kubelet mounts, and with an image that nobody has, so that a request of it fails.
const BROKEN: &str = "
apiVersion: v1
kind: Pod
metadata: { name: broken, namespace: default }
spec:
  containers:
    - name: broken
      image: localhost/nobody-has-this:1
      volumeMounts: [ { name: empty, mountPath: /empty } ]
  volumes: [ { name: empty, emptyDir: {} } ]
";

/// A query of a panel.
struct Query {
    dashboard: String,
    panel: String,
    idx: usize,
    text: String,
}

impl Query {
    fn why_empty(&self) -> Option<Why> {
        let is_it = |(dashboard, panel, idx, _): &&(&str, &str, usize, Why)| {
            *dashboard == self.dashboard && *panel == self.panel && *idx == self.idx
        };
        EMPTY.iter().find(is_it).map(|(.., why)| *why)
    }

    /// Whether it gives at least one number.
    fn has_data(&self, prometheus: &Prometheus) -> bool {
        let Self { dashboard, panel, text, .. } = self;
        let found = prometheus.try_query(text);
        let found = found.unwrap_or_else(|error| panic!("{dashboard}: {panel}: {error}:\n{text}"));
        found.iter().any(|(_labels, number)| !number.is_nan())
    }
}

/// All queries give data, but for those that are listed.
pub(super) fn check(node: &Node, prometheus: &Prometheus) {
    let mut queries = Vec::new();
    for dashboard in Dashboard::all() {
        check_choices(prometheus, &dashboard);
        queries.extend(queries_of(&dashboard));
    }
    let n_queries = queries.len();
    for (dashboard, panel, idx, _) in EMPTY {
        let is_it = |query: &Query| {
            (query.dashboard.as_str(), query.panel.as_str(), query.idx) == (dashboard, panel, *idx)
        };
        assert!(queries.iter().any(is_it), "{dashboard} has no query {idx} of {panel}");
    }
    let (listed, mut wanted): (Vec<Query>, Vec<Query>) =
        queries.into_iter().partition(|query| query.why_empty().is_some());
    node.cluster().kubectl().apply(BROKEN);
    let mut n_changes = 0;
    let mut missing = BTreeSet::new();
    wait_until("the queries give data", || {
        workload::change_service(node, &mut n_changes);
        wanted.retain(|query| !query.has_data(prometheus));
        let still: BTreeSet<String> = wanted
            .iter()
            .map(|query| format!("{}: {} {}", query.dashboard, query.panel, query.idx))
            .collect();
        if still != missing {
            println!("dashboards: no data yet: {still:#?}");
            missing = still;
        }
        wanted.is_empty().then_some(())
    });
    for query in &listed {
        let has_data = query.has_data(prometheus);
        let Query { dashboard, panel, idx, .. } = query;
        let why = query.why_empty();
        let is_stale = has_data && matches!(why, Some(NotHere(_)));
        assert!(!is_stale, "{dashboard}: {panel}, query {idx}, gives data: not {why:?}");
    }
    println!("report: dashboards | queries | {n_queries}, {} may be empty", listed.len());
}

/// Each variable has something to choose from, and what this test chooses is there.
fn check_choices(prometheus: &Prometheus, dashboard: &Dashboard) {
    for (selector, label) in dashboard.choices() {
        let selector = filled(selector, chosen);
        wait_until(&format!("{}: {selector} has a {label}", dashboard.name), || {
            let found = prometheus.series(&selector)?;
            let mut values = found.iter().filter_map(|series| series.get(label));
            match chosen(label) {
                ALL => values.next().map(|_any| ()),
                chosen => values.any(|value| value == chosen).then_some(()),
            }
        });
    }
}

fn queries_of(dashboard: &Dashboard) -> Vec<Query> {
    let name = dashboard.name.as_str();
    let mut variables = list(&dashboard.json, "/templating/list").iter();
    let is_filtered = variables.any(|variable| variable["type"] == "adhoc");
    let mut queries = Vec::new();
    for panel in dashboard.panels() {
        for (target, idx) in list(panel, "/targets").iter().zip(0..) {
            let mut query = text(target, "/expr").to_owned();
            if is_filtered {
                // The last of what stands in each selector.
                let last = "workload=~\"$workload\"";
                assert!(query.contains(last), "{name}: {query}");
                query = query.replace(last, &format!("{last}{FILTER}"));
            }
            queries.push(Query {
                dashboard: name.to_owned(),
                panel: text(panel, "/title").to_owned(),
                idx,
                text: filled(&query, chosen),
            });
        }
    }
    queries
}

fn chosen(variable: &str) -> &'static str {
    CHOSEN.iter().find(|(name, _)| *name == variable).map_or(ALL, |(_, value)| value)
}

/// Prometheus evaluates each rule of deploy/alerts without an error.
pub(super) fn check_rules(prometheus: &Prometheus) {
    let rules = wait_until("all rules are evaluated", || {
        let rules = prometheus.rules()?;
        let is_known = |rule: &Value| rule["health"] != "unknown";
        (!rules.is_empty() && rules.iter().all(is_known)).then_some(rules)
    });
    for rule in &rules {
        assert_eq!(rule["health"], "ok", "{}: {}", rule["name"], rule["lastError"]);
    }
    let firing =
        rules.iter().filter(|rule| rule["state"] == "firing" || rule["state"] == "pending");
    let firing: Vec<&str> = firing.map(|rule| text(rule, "/name")).collect();
    println!("report: alerts | rules {} | firing or pending: {}", rules.len(), firing.join(", "));
}
