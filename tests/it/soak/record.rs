//! What is written down of each page: what Podmeter uses, how long the page took, and what is on it.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs,
    time::{Duration, Instant},
};

use podmeter::source::probe::PROBES;
use podmeter_tests::{
    exporter::Exporter,
    exposition::{Exposition, torn_families},
    http::get,
    whole::{NodePage, PATIENT},
};

use super::schedule::PASSING;

/// A page, and what Podmeter used when it was made.
#[derive(Clone, Debug, Default)]
pub(super) struct Sample {
    /// Since the first page.
    pub(super) seconds: f64,
    pub(super) page_seconds: f64,
    pub(super) cpu_seconds: f64,
    pub(super) resident_bytes: f64,
    /// What of it is no file's: heap, stacks and maps.
    pub(super) anonymous_bytes: f64,
    /// What is in use of the heap.
    pub(super) heap_bytes: f64,
    pub(super) n_files: f64,
    pub(super) n_threads: f64,
    pub(super) n_series: f64,
    pub(super) n_live: f64,
    pub(super) n_dead: f64,
    /// Entries and capacity by map, as `<probe> <map>`.
    pub(super) maps: BTreeMap<String, (f64, f64)>,
}

/// The most that a series ever had, and the page that it was last on.
#[derive(Clone, Copy, Debug)]
struct Highest {
    value: f64,
    page: u64,
}

/// Takes pages, and checks what no page may be.
#[derive(Debug)]
pub(super) struct Scraper {
    began: Instant,
    /// The most that each series which may only rise ever had.
    highest: HashMap<String, Highest>,
    n_pages: u64,
    /// Probes that were on the last page.
    attached: HashSet<&'static str>,
}

impl Scraper {
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            highest: HashMap::new(),
            n_pages: 0,
            attached: HashSet::new(),
        }
    }

    /// Scrapes a page: it must be one, have no series twice and no family apart, and no counter may be less than it ever
    /// was.
    pub(super) fn scrape(&mut self, exporter: &Exporter) -> (Sample, NodePage) {
        let began = Instant::now();
        let answer = get(&exporter.url("/metrics"), &[PATIENT]);
        let page_seconds = began.elapsed().as_secs_f64();
        let page = NodePage::read(&answer);
        assert!(torn_families(answer.text()).is_empty(), "{:?}", torn_families(answer.text()));
        self.forget_ended(&page);
        let fallen = self.fallen(&page.0);
        assert!(fallen.is_empty(), "fell after {:?}: {fallen:#?}", self.began.elapsed());
        let sample = Sample {
            seconds: began.duration_since(self.began).as_secs_f64(),
            page_seconds,
            n_series: page.0.n_series() as f64,
            ..Sample::of(&page, exporter.id())
        };
        for (map, (n_entries, capacity)) in &sample.maps {
            assert!(n_entries <= capacity, "{map}: {n_entries} of {capacity}");
        }
        (sample, page)
    }

    /// For how long it has been at it.
    pub(super) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// What the configuration leaves out counts from nought when it is there again, as a process that is started again: a
    /// probe, and what is told of a target.
    fn forget_ended(&mut self, page: &NodePage) {
        let of_passing = ("job", PASSING);
        if page.0.sum("up", &[of_passing]).is_none() {
            self.highest.retain(|series, _| !series.contains(&format!("job=\"{PASSING}\"")));
        }
        for probe in PROBES {
            let label = ("probe", probe.name);
            if page.count("podmeter_probe_attached", &[label]) > 0.5 {
                self.attached.insert(probe.name);
            } else if self.attached.remove(probe.name) {
                let names: Vec<&str> = probe.metrics.iter().map(|desc| desc.name).collect();
                let label = format!("probe=\"{}\"", probe.name);
                self.highest.retain(|series, _| {
                    !names.iter().any(|name| series.starts_with(name)) && !series.contains(&label)
                });
            }
        }
    }

    /// Series that are less than they ever were: also one that was missing meanwhile goes on from where it was.
    fn fallen(&mut self, page: &Exposition) -> Vec<String> {
        self.n_pages += 1;
        let now = self.n_pages;
        let mut fallen = Vec::new();
        for (series, value) in page.rising() {
            let Some(highest) = self.highest.get_mut(series) else {
                self.highest.insert(series.to_owned(), Highest { value, page: now });
                continue;
            };
            let was_there = highest.page + 1 == now;
            if value < highest.value && (was_there || !may_begin_anew(series)) {
                fallen.push(format!(
                    "{series}: {} on page {}, then {value} on page {now}",
                    highest.value, highest.page
                ));
            }
            *highest = Highest { value, page: now };
        }
        fallen
    }
}

/// Whether a series that was missing may be less than it was: where the only cgroup that had such events is forgotten.
///
/// It comes back with those of another cgroup under the same path. A pod's series goes on for as long as the pod does, and
/// this test makes no path twice.
fn may_begin_anew(series: &str) -> bool {
    let own = format!("podmeter-{}-", std::process::id());
    series.split_once("cgroup=\"/").is_some_and(|(_, path)| !path.starts_with(&own))
}

impl Sample {
    fn of(page: &NodePage, id: u32) -> Self {
        let status = fs::read_to_string(format!("/proc/{id}/status")).expect("the process runs");
        let field = |name: &str| -> f64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let word = line.and_then(|line| line.split_whitespace().next());
            word.and_then(|word| word.parse().ok()).expect("the kernel says it of every process")
        };
        let n_of = |state| page.count("podmeter_cgroups", &[("state", state)]);
        Self {
            cpu_seconds: page.count("process_cpu_seconds_total", &[]),
            resident_bytes: field("VmRSS") * 1024.0,
            anonymous_bytes: field("RssAnon") * 1024.0,
            heap_bytes: page.count("process_heap_bytes", &[]),
            n_files: page.count("process_open_fds", &[]),
            n_threads: field("Threads"),
            n_live: n_of("live"),
            n_dead: n_of("dead"),
            maps: maps(page),
            ..Self::default()
        }
    }
}

/// Entries and capacity of each map that says them.
fn maps(page: &NodePage) -> BTreeMap<String, (f64, f64)> {
    let entries = page.0.named("podmeter_probe_map_entries", &[]);
    entries
        .map(|(series, n_entries)| {
            let capacity = series.replace("_entries{", "_capacity{");
            let capacity = page.0.exactly(&capacity).expect("a map has a capacity");
            let of = |label: &str| {
                let (_, rest) = series.split_once(&format!("{label}=\"")).expect("it has labels");
                rest.split('"').next().unwrap_or_default().to_owned()
            };
            (format!("{} {}", of("probe"), of("map")), (n_entries, capacity))
        })
        .collect()
}
