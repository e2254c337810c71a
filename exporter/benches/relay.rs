//! The relay on one core, without a socket: the recorded cadvisor page of Kubernetes 1.34, multiplied to 110 pods, with
//! the rules that kube-prometheus-stack has for it and one label of each pod. `cargo bench -p podmeter --bench relay`.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a measurement of recorded pages, not a part of the product"
)]

use std::{hint::black_box, sync::Arc, time::Duration};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use podmeter::{
    encode::{Format, encode_pieces},
    labelling::{
        relabel::{Rules, rule::RuleConfig},
        relay::{
            Pods, Relay, Settings, Timestamps,
            pods::{CgroupOwner, Pod},
        },
    },
    page::{Page, relayed::SeriesHasher},
    source::upstream::exposition::Dialect,
};

const RECORDED: &str =
    include_str!("../../tests/fixtures/v1.34.9/pages/kubelet-metrics-cadvisor.txt");

/// The recorded page has ten pods.
const N_COPIES: usize = 11;

/// What the chart kube-prometheus-stack drops of cadvisor's page.
const DROPPED: &[(&[&str], &str)] = &[
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

/// Every pod is known, and has one label.
struct Known;

impl Pods for Known {
    fn version(&self) -> u64 {
        0
    }

    fn by_name(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        let labels = vec![("region".to_owned(), "beijing".to_owned())];
        Some(Arc::new(Pod { namespace: namespace.into(), name: name.into(), labels }))
    }

    fn by_cgroup(&self, _path: &str) -> CgroupOwner {
        CgroupOwner::Node
    }
}

fn rules() -> Rules {
    let config = |(sources, regex): &(&[&str], &str)| RuleConfig {
        source_labels: Some(sources.iter().map(|name| (*name).to_owned()).collect()),
        regex: Some((*regex).to_owned()),
        action: Some("drop".to_owned()),
        ..RuleConfig::default()
    };
    let configs: Vec<_> = DROPPED.iter().map(config).collect();
    Rules::new(&configs).expect("the chart's rules are rules")
}

fn settings() -> Settings {
    Settings {
        labels: vec![("job".into(), "cadvisor".into()), ("node".into(), "n1".into())],
        timestamps: Timestamps::LeftOut,
        rules: vec![Arc::new(rules())],
        ..Settings::default()
    }
}

/// The page with 110 pods; the values of each `scrape` are others.
fn page(scrape: usize) -> String {
    let mut page = String::new();
    let mut family: Vec<&str> = Vec::new();
    for line in RECORDED.lines().chain(["# HELP"]) {
        if line.starts_with("# HELP") {
            for copy in 0..N_COPIES {
                for line in &family {
                    let is_pods = !line.contains("pod=\"\"") && line.contains("pod=\"");
                    if copy == 0 || is_pods {
                        push_copy(&mut page, line, copy, scrape);
                    }
                }
            }
            family.clear();
        }
        if line.starts_with('#') {
            page.push_str(line);
            page.push('\n');
        } else {
            family.push(line);
        }
    }
    page.truncate(page.len() - "# HELP\n".len());
    page
}

fn push_copy(page: &mut String, line: &str, copy: usize, scrape: usize) {
    let (series, tail) = line.rsplit_once("} ").expect("cadvisor's series have labels");
    let (value, timestamp) = tail.split_once(' ').unwrap_or((tail, ""));
    let series = series.replace("/pod", &format!("/pod{copy:02}"));
    let series = series.replace(",pod=\"", &format!(",pod=\"p{copy:02}-"));
    page.push_str(&series);
    page.push_str("} ");
    // Another digit, so that the values of two scrapes have other lengths, too.
    page.push_str(value);
    if scrape % 2 == 1 && !value.contains('e') {
        page.push_str(if value.contains('.') { "5" } else { ".5" });
    }
    if !timestamp.is_empty() {
        page.push(' ');
        page.push_str(timestamp);
    }
    page.push('\n');
}

fn relayed(relay: &mut Relay, page: &str) -> podmeter::labelling::relay::Relayed {
    relay.relay(page.as_bytes(), Dialect::Text, &Known).expect("the page is relayed")
}

fn bench(criterion: &mut Criterion) {
    let pages = [page(0), page(1)];
    let hasher = SeriesHasher::default();
    let mut relay = Relay::new(settings(), hasher.clone());
    let first = relayed(&mut relay, &pages[0]).counts;
    println!(
        "page: {} bytes, {} samples, {} served",
        pages[0].len(),
        first.n_samples,
        first.n_kept
    );
    let mut group = criterion.benchmark_group("relay");
    group.throughput(Throughput::Bytes(pages[0].len() as u64));
    group.measurement_time(Duration::from_secs(5)).sample_size(30);
    let mut scrape = 0;
    group.bench_function("warm", |bencher| {
        bencher.iter(|| {
            scrape += 1;
            black_box(relayed(&mut relay, &pages[scrape % 2]))
        });
    });
    assert_eq!(relayed(&mut relay, &pages[0]).counts.n_misses, 0, "it was warm");
    group.bench_function("warm, merged and written as OpenMetrics", |bencher| {
        bencher.iter(|| {
            scrape += 1;
            let relayed = relayed(&mut relay, &pages[scrape % 2]);
            let page = Page::merged(Vec::new(), vec![relayed.page], &hasher);
            black_box(encode_pieces(&page, Format::OpenMetrics100))
        });
    });
    group.bench_function("cold", |bencher| {
        bencher.iter_batched(
            || Relay::new(settings(), hasher.clone()),
            |mut relay| black_box(relayed(&mut relay, &pages[0])),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
