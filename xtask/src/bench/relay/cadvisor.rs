//! A full node's cadvisor page: a recorded one with more pods and more containers, and other values each time; and the
//! rules that kube-prometheus-stack has for it. Pure, and also a part of `cargo bench --bench relay`.

/// What the chart kube-prometheus-stack drops of cadvisor's page: `source_labels` and `regex` of each rule.
pub(crate) const DROPPED: &[(&[&str], &str)] = &[
    (
        &["__name__"],
        "container_cpu_(cfs_throttled_seconds_total|load_average_10s|system_seconds_total|user_seconds_total)",
    ),
    (
        &["__name__"],
        "container_fs_(io_current|io_time_seconds_total|io_time_weighted_seconds_total|reads_merged_total|sector_reads_total|sector_writes_total|writes_merged_total)",
    ),
    (&["__name__"], "container_memory_(mapped_file|swap)"),
    (&["__name__"], "container_(file_descriptors|tasks_state|threads_max)"),
    (&["__name__", "scope"], "container_memory_failures_total;hierarchy"),
    (&["__name__", "interface"], "container_network_.*;(cali|cilium|cni|lxc|nodelocaldns|tunl).*"),
    (&["__name__"], "container_spec.*"),
    (&["id", "pod"], ".+;"),
];

/// As many pods as a kubelet takes by default.
pub(crate) const N_PODS: usize = 110;

/// So many containers make the page 12 MB large.
pub(crate) const CONTAINERS_PER_POD: usize = 4;

/// A page that is written again and again.
#[derive(Debug)]
pub(crate) struct FullPage {
    lines: Vec<Line>,
    pods: Vec<Pod>,
}

/// A pod of the page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pod {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
}

#[derive(Debug)]
enum Line {
    Metadata(String),
    Sample {
        /// Up to the place in the value where its last digit was.
        head: String,
        /// From there on: an exponent, or nothing.
        exponent: String,
        is_timed: bool,
    },
}

/// Which copy of a pod, and of a container in it; the first of each is the recorded one.
#[derive(Clone, Copy)]
struct Copy {
    pod: usize,
    container: usize,
}

impl FullPage {
    /// Multiplies a recorded page.
    pub(crate) fn new(recorded: &str, n_pods: usize, containers_per_pod: usize) -> Self {
        let names = pods_of(recorded);
        let mut page = Self { lines: Vec::new(), pods: Vec::new() };
        let mut family: Vec<&str> = Vec::new();
        for line in recorded.lines() {
            if line.starts_with('#') {
                page.multiply(&std::mem::take(&mut family), &names, n_pods, containers_per_pod);
                page.lines.push(Line::Metadata(format!("{line}\n")));
            } else {
                family.push(line);
            }
        }
        page.multiply(&family, &names, n_pods, containers_per_pod);
        page
    }

    fn multiply(&mut self, family: &[&str], names: &[&str], n_pods: usize, n_containers: usize) {
        for pod in 0..n_pods.div_ceil(names.len().max(1)) {
            for line in family {
                let place = names.iter().position(|name| Some(*name) == label(line, "pod"));
                let is_there = match place {
                    None => pod == 0,
                    Some(place) => pod * names.len() + place < n_pods,
                };
                if !is_there {
                    continue;
                }
                let has_container = label(line, "container").is_some_and(|name| !name.is_empty());
                let n_copies = if place.is_some() && has_container { n_containers } else { 1 };
                for container in 0..n_copies {
                    self.push(line, Copy { pod, container });
                }
            }
        }
    }

    fn push(&mut self, line: &str, copy: Copy) {
        let (series, tail) = match line.rsplit_once("} ") {
            Some((labels, tail)) => (format!("{labels}}} "), tail),
            None => line
                .split_once(' ')
                .map_or((line.into(), ""), |(name, tail)| (format!("{name} "), tail)),
        };
        let series = renamed(&series, copy);
        let (value, timestamp) = tail.split_once(' ').unwrap_or((tail, ""));
        let (mantissa, exponent) =
            value.find('e').and_then(|at| value.split_at_checked(at)).unwrap_or((value, ""));
        // Its last digit makes place for those that change.
        let mantissa =
            mantissa.strip_suffix(|last: char| last.is_ascii_digit()).unwrap_or(mantissa);
        self.note_pod(&series);
        self.lines.push(Line::Sample {
            head: format!("{series}{mantissa}"),
            exponent: exponent.into(),
            is_timed: !timestamp.is_empty(),
        });
    }

    /// Remembers the pod of a series, if it is new.
    fn note_pod(&mut self, series: &str) {
        let uid = label(series, "id").and_then(|id| id.split('/').find_map(uid_in));
        let (Some(namespace), Some(name), Some(uid)) =
            (label(series, "namespace"), label(series, "pod"), uid)
        else {
            return;
        };
        if !self.pods.iter().any(|pod| pod.uid == uid) {
            let (namespace, name, uid) = (namespace.into(), name.into(), uid.into());
            self.pods.push(Pod { namespace, name, uid });
        }
    }

    /// All pods.
    pub(crate) fn pods(&self) -> &[Pod] {
        &self.pods
    }

    /// How many samples there are.
    pub(crate) fn n_samples(&self) -> usize {
        self.lines.iter().filter(|line| matches!(line, Line::Sample { .. })).count()
    }

    /// Writes the page; each `scrape` has other values, larger ones for the next hundred or so.
    pub(crate) fn write(&self, scrape: usize, milliseconds: u128, out: &mut Vec<u8>) {
        let digits = (10 + scrape % 90).to_string();
        let timestamp = format!(" {milliseconds}");
        out.clear();
        for line in &self.lines {
            match line {
                Line::Metadata(line) => out.extend_from_slice(line.as_bytes()),
                Line::Sample { head, exponent, is_timed } => {
                    for part in [head, &digits, exponent] {
                        out.extend_from_slice(part.as_bytes());
                    }
                    if *is_timed {
                        out.extend_from_slice(timestamp.as_bytes());
                    }
                    out.push(b'\n');
                }
            }
        }
    }
}

/// The names of the pods of a page, in their order.
fn pods_of(page: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for name in page.lines().filter_map(|line| label(line, "pod")) {
        if !name.is_empty() && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The value of a label; none on this page has an escape.
fn label<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let mut parts = line.split('"');
    while let (Some(before), Some(value)) = (parts.next(), parts.next()) {
        if label_name(before) == name {
            return Some(value);
        }
    }
    None
}

/// The name in what stands before a value: `metric{name=` or `,name=`.
fn label_name(before: &str) -> &str {
    let name = before.strip_suffix('=').unwrap_or_default();
    name.rsplit(['{', ',']).next().unwrap_or_default()
}

/// The UID in a part of a cgroup's path.
fn uid_in(part: &str) -> Option<&str> {
    part.strip_prefix("pod").filter(|uid| uid.len() == 36)
}

/// The series of a copy: other names, and other ids.
fn renamed(series: &str, copy: Copy) -> String {
    let mut out = String::with_capacity(series.len() + 8);
    let mut name = "";
    for (index, part) in series.split('"').enumerate() {
        if index > 0 {
            out.push('"');
        }
        if index % 2 == 0 {
            name = label_name(part);
            out.push_str(part);
            continue;
        }
        match name {
            "pod" if copy.pod > 0 && !part.is_empty() => {
                out.extend([part, &format!("-{:02}", copy.pod)]);
            }
            "container" if copy.container > 0 => {
                out.extend([part, &format!("-{}", copy.container)]);
            }
            "id" | "name" => {
                let parts: Vec<String> = part.split('/').map(|part| marked(part, copy)).collect();
                out.push_str(&parts.join("/"));
            }
            _ => out.push_str(part),
        }
    }
    out
}

/// A part of a cgroup's path, or a container's id, with another beginning for each copy.
fn marked(part: &str, copy: Copy) -> String {
    let Copy { pod, container } = copy;
    let is_id = part.len() == 64 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    match uid_in(part) {
        Some(uid) => format!("pod{pod:04x}{}", uid.get(4..).unwrap_or_default()),
        None if is_id => format!("{pod:02x}{container:02x}{}", part.get(4..).unwrap_or_default()),
        None => part.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{FullPage, label};

    const UID: &str = "7c85ac75-49cc-4c05-b93c-95677628d802";

    fn recorded() -> String {
        let id = "a".repeat(64);
        let labels = format!(r#"id="/kubepods/pod{UID}/{id}",namespace="n",pod="p""#);
        format!(
            "# TYPE a counter\na{{container=\"\",id=\"/\",pod=\"\"}} 1.5e+06 7\n\
             a{{container=\"c\",{labels}}} 0 7\na{{container=\"\",{labels}}} 3\n\
             # TYPE b gauge\nb{{container=\"c\",{labels}}} 12\nmachine 4\n"
        )
    }

    fn written(page: &FullPage, scrape: usize) -> String {
        let mut out = Vec::new();
        page.write(scrape, 99, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_copy_is_a_series_of_its_own() {
        let page = FullPage::new(&recorded(), 3, 2);
        let text = written(&page, 0);
        let series =
            |line: &str| line.rsplit_once("} ").map_or(line, |(series, _)| series).to_owned();
        let all: BTreeSet<String> =
            text.lines().filter(|line| !line.starts_with('#')).map(series).collect();
        // Of a: the node's, and of each of three pods two containers and the sandbox; of b: two of each; `machine`.
        assert_eq!(all.len(), 1 + 3 * 3 + 3 * 2 + 1);
        assert_eq!(page.n_samples(), all.len());
        let names: Vec<&str> = page.pods().iter().map(|pod| pod.name.as_str()).collect();
        assert_eq!(names, ["p", "p-01", "p-02"]);
        let of_second = text.lines().filter(|line| label(line, "pod") == Some("p-01"));
        assert!(of_second.clone().all(|line| line.contains(&page.pods()[1].uid)));
        assert_eq!(of_second.count(), 5);
    }

    #[test]
    fn values_are_others_each_time_and_stay_numbers() {
        let page = FullPage::new(&recorded(), 1, 1);
        let values = |scrape| {
            let text = written(&page, scrape);
            let samples = text.lines().filter(|line| !line.starts_with('#'));
            let value = |line: &str| line.rsplit("} ").next().unwrap_or_default().to_owned();
            samples.map(value).collect::<Vec<String>>()
        };
        assert_eq!(values(0), ["1.10e+06 99", "10 99", "10", "110", "machine 10"]);
        assert_eq!(values(91), ["1.11e+06 99", "11 99", "11", "111", "machine 11"]);
    }
}
