//! The configuration of a running process changes: by a signal, by an edit, by the swap of a mounted `ConfigMap`. What is
//! wrong with one is said everywhere, and the one before stays.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::symlink,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use podmeter_tests::{
    cgroup::wait_for,
    exporter::{Exporter, with_listen},
    http::get,
    page_server::serve,
    tools::podmeter,
    troubleshooting::assert_explained,
};
use rustix::process::Signal;

/// No cluster, whatever the environment says.
const ALONE: &str = "kubernetes: { enabled: false }\n";

const SUCCESSFUL: &str = "podmeter_config_last_reload_successful";
const TIME: &str = "podmeter_config_last_reload_success_timestamp_seconds";

fn labelled(cluster: &str) -> String {
    format!("{ALONE}external_labels: {{ cluster: {cluster} }}\n")
}

#[test]
fn the_swap_of_a_mounted_config_map_changes_the_labels_and_counters_go_on() {
    let Some(binary) = podmeter() else { return };
    let dir = tempfile::tempdir().unwrap();
    swap(dir.path(), "..2026_11_28_1", &labelled("one"));
    let file = dir.path().join("podmeter.yaml");
    symlink("..data/podmeter.yaml", &file).unwrap();
    let exporter = Exporter::start_in(Command::new(binary), dir, file);
    let first = Page::of(&exporter);
    assert!(first.has("podmeter_build_info", "cluster=\"one\""));
    let (cpu, n_requests) = (first.sum("process_cpu_seconds_total"), first.requests());
    for (version, cluster) in [("..2026_11_28_2", "two"), ("..2026_11_28_3", "three")] {
        swap(exporter.dir(), version, &labelled(cluster));
        let label = format!("cluster=\"{cluster}\"");
        wait_for(&label, || Page::of(&exporter).has("podmeter_build_info", &label));
        let page = Page::of(&exporter);
        assert!(page.lines().all(|line| line.contains(&label)), "{}", page.0);
        assert!(page.is_taken(), "{}", page.0);
        assert!(page.sum("process_cpu_seconds_total") >= cpu);
        assert!(page.requests() > n_requests, "counters go on");
    }
}

#[test]
fn a_bad_configuration_is_refused_everywhere_and_the_one_before_stays() {
    let Some(binary) = podmeter() else { return };
    let exporter = Exporter::start(&binary, &labelled("one"));
    let began = Page::of(&exporter).sum(TIME);
    assert!(began > 1.7e9, "{began}");
    let rule = "relabel_configs: [{ source_labels: [pod], regex: '(', action: drop }]";
    for (bad, said) in [
        (
            "external_lables: { cluster: two }",
            "unknown key `external_lables`, did you mean `external_labels`?",
        ),
        ("external_labels: { cluster: two", "unclosed bracket"),
        (rule, "regex"),
        ("listen: 127.0.0.1:1", "`listen` cannot change while Podmeter runs: restart it"),
    ] {
        if bad.starts_with("listen") {
            fs::write(exporter.file(), format!("{bad}\n{}", labelled("two"))).unwrap();
        } else {
            exporter.configure(&format!("{ALONE}{bad}\n"));
        }
        wait_for(said, || {
            landing(&exporter).is_some_and(|refused| refused.contains(&escaped(said)))
        });
        let page = Page::of(&exporter);
        assert!(!page.is_taken() && page.sum(TIME) <= began, "{bad}: {}", page.0);
        assert!(page.has("podmeter_build_info", "cluster=\"one\""), "{bad}");
        assert_eq!(get(&exporter.url("/readyz"), &[]).status, 200, "{bad}");
    }
    fs::remove_file(exporter.file()).unwrap();
    wait_for("it is gone", || landing(&exporter).is_some_and(|text| text.contains("cannot read")));
    exporter.configure(&labelled("two"));
    wait_for("the next one is taken", || Page::of(&exporter).has(SUCCESSFUL, "cluster=\"two\""));
    let page = Page::of(&exporter);
    assert!(page.is_taken() && page.sum(TIME) > began, "{}", page.0);
    assert_eq!(landing(&exporter), None);
    let (_, log) = exporter.terminate();
    assert_eq!(log.matches("the configuration is refused").count(), 5, "{log}");
    assert!(log.contains("did you mean `external_labels`?"), "{log}");
    assert_explained(&log, "`listen` cannot change");
}

#[test]
fn a_signal_is_enough_and_targets_and_rules_follow() {
    let Some(binary) = podmeter() else { return };
    let counter = Arc::new(AtomicU32::new(0));
    let target = {
        let counter = Arc::clone(&counter);
        serve("text/plain; version=0.0.4", move |_| {
            let value = counter.fetch_add(1, Ordering::Relaxed);
            format!("# TYPE seen_total counter\nseen_total{{a=\"b\"}} {value}\n").into_bytes()
        })
    };
    let exporter = Exporter::start(&binary, ALONE);
    let before = Page::of(&exporter).sum(TIME);
    exporter.signal(Signal::HUP);
    wait_for("the same file is taken again", || Page::of(&exporter).sum(TIME) > before);

    exporter.configure(&scraping(&[("a", target), ("b", target)], ""));
    wait_for("both are scraped", || Page::of(&exporter).n("seen_total{") == 2);
    let rule = "{ source_labels: [a], target_label: c }";
    exporter.configure(&scraping(&[("b", target)], rule));
    wait_for("a rule holds", || Page::of(&exporter).has("seen_total", "c=\"b\""));
    let page = Page::of(&exporter);
    assert_eq!((page.n("up{"), page.n("seen_total{")), (1, 1), "{}", page.0);
    assert!(!page.has("podmeter_target_", "job=\"a\""), "{}", page.0);
    assert!(page.sum("podmeter_target_cache_misses_total") >= 1.0, "{}", page.0);
}

/// A page is by one configuration or by the other, and none is refused, while it changes fifty times; nothing is left.
#[test]
fn fifty_reloads_leave_nothing_behind() {
    const N_RELOADS: usize = 50;

    let Some(binary) = podmeter() else { return };
    let target = serve("text/plain; version=0.0.4", |_| b"seen_total 1\n".to_vec());
    let config = |idx: usize| {
        // Every other one has a target more, and every third one a rule.
        let jobs = [("a", target), ("b", target)];
        let rule =
            if idx.is_multiple_of(3) { "{ target_label: rule, replacement: r }" } else { "" };
        let scraped = scraping(&jobs[..=idx % 2], rule);
        format!("{scraped}external_labels: {{ turn: t{idx} }}\n")
    };
    let exporter = Exporter::start(&binary, &config(0));
    let reload = |idx: usize| {
        exporter.configure(&config(idx));
        exporter.signal(Signal::HUP);
        let turn = format!("turn=\"t{idx}\"");
        wait_for(&turn, || {
            let page = Page::of(&exporter);
            let first = page.lines().next().expect("it has lines");
            let of = |line: &str| {
                line.split("turn=\"").nth(1).map(|rest| rest.split('"').next().unwrap().to_owned())
            };
            assert!(page.lines().all(|line| of(line) == of(first)), "{}", page.0);
            page.has("podmeter_build_info", &turn)
        });
    };
    // The first ones make what is kept: threads for blocking work, connections to the target.
    (1..5).for_each(reload);
    let before = kept(exporter.id());
    (5..5 + N_RELOADS).for_each(reload);
    let after = kept(exporter.id());
    println!("report: reload | threads and descriptors before {before:?} | after {after:?}");
    let limit = |n: usize| n + 4;
    assert!(after.0 <= limit(before.0) && after.1 <= limit(before.1), "{before:?} {after:?}");
}

/// Threads and descriptors of a process.
fn kept(pid: u32) -> (usize, usize) {
    let count = |dir: &str| fs::read_dir(format!("/proc/{pid}/{dir}")).expect("it runs").count();
    (count("task"), count("fd"))
}

fn scraping(jobs: &[(&str, SocketAddr)], rule: &str) -> String {
    let jobs = jobs.iter();
    let jobs: Vec<_> = jobs
        .map(|(job, address)| format!("{{ job_name: {job}, url: 'http://{address}/metrics' }}"))
        .collect();
    format!("{ALONE}scrape_configs: [{}]\nrelabel_configs: [{rule}]\n", jobs.join(", "))
}

/// As the kubelet's `AtomicWriter` does it.
fn swap(mount: &Path, version: &str, config: &str) {
    let data = mount.join(version);
    fs::create_dir(&data).unwrap();
    fs::write(data.join("podmeter.yaml"), with_listen(config)).unwrap();
    symlink(version, mount.join("..data_tmp")).unwrap();
    let before = fs::read_link(mount.join("..data")).ok();
    fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
    if let Some(before) = before {
        fs::remove_dir_all(mount.join(before)).unwrap();
    }
}

/// Why the last configuration was refused, as `/` says it.
fn landing(exporter: &Exporter) -> Option<String> {
    let answer = get(&exporter.url("/"), &[]);
    let mut lines = answer.text().lines();
    lines.find(|line| line.contains("<td>refused</td>")).map(str::to_owned)
}

fn escaped(text: &str) -> String {
    text.replace('\'', "&#39;")
}

/// A page as text.
struct Page(String);

impl Page {
    fn of(exporter: &Exporter) -> Self {
        let answer = get(&exporter.url("/metrics"), &[]);
        assert_eq!(answer.status, 200);
        Self(answer.text().to_owned())
    }

    fn lines(&self) -> impl Iterator<Item = &str> {
        self.0.lines().filter(|line| !line.starts_with('#'))
    }

    fn of_family<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.lines().filter(move |line| line.starts_with(name))
    }

    fn has(&self, name: &str, label: &str) -> bool {
        self.of_family(name).any(|line| line.contains(label))
    }

    fn n(&self, name: &str) -> usize {
        self.of_family(name).count()
    }

    /// The sum of a family's samples.
    fn sum(&self, name: &str) -> f64 {
        let value = |line: &str| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
        self.of_family(name).map(value).sum()
    }

    /// Whether the configuration that was read last is in force.
    fn is_taken(&self) -> bool {
        let values: Vec<_> =
            self.of_family(SUCCESSFUL).map(|line| line.rsplit(' ').next()).collect();
        assert!(values == [Some("0")] || values == [Some("1")], "{values:?}");
        values == [Some("1")]
    }

    fn requests(&self) -> f64 {
        self.sum("podmeter_http_requests_total")
    }
}
