//! The relay on one core, without a socket: the recorded cadvisor page of Kubernetes 1.34, multiplied to 110 pods with
//! four containers each, with the rules that kube-prometheus-stack has for it and one label of each pod.
//! `cargo bench -p podmeter --bench relay`.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a measurement of recorded pages, not a part of the product"
)]

#[path = "../../xtask/src/bench/relay/cadvisor.rs"]
#[cfg_attr(test, expect(dead_code, unused_imports, reason = "its tests run in xtask"))]
mod cadvisor;

use std::{collections::HashMap, hint::black_box, sync::Arc, time::Duration};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use podmeter::{
    encode::{Format, encode_pieces},
    labelling::{
        relabel::{Rules, rule::RuleConfig},
        relay::{
            Pods, Relay, Relayed, Settings, Timestamps,
            pods::{CgroupOwner, Pod},
        },
    },
    page::{Page, relayed::SeriesHasher},
    source::upstream::exposition::Dialect,
};

use self::cadvisor::{CONTAINERS_PER_POD, DROPPED, FullPage, N_PODS};

const RECORDED: &str =
    include_str!("../../tests/fixtures/v1.34.9/pages/kubelet-metrics-cadvisor.txt");

/// Every pod of the page is known, and has one label.
struct Known(HashMap<(String, String), Arc<Pod>>);

impl Known {
    fn new(page: &FullPage) -> Self {
        let pod = |pod: &cadvisor::Pod| {
            let (namespace, name) = (pod.namespace.clone(), pod.name.clone());
            let labels = vec![("region".to_owned(), "beijing".to_owned())];
            ((namespace.clone(), name.clone()), Arc::new(Pod { namespace, name, labels }))
        };
        Self(page.pods().iter().map(pod).collect())
    }
}

impl Pods for Known {
    fn version(&self) -> u64 {
        0
    }

    fn by_name(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        self.0.get(&(namespace.to_owned(), name.to_owned())).cloned()
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

/// The page of one scrape; the values of each are others.
fn page(full: &FullPage, scrape: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    full.write(scrape, 1_795_348_123_473, &mut bytes);
    bytes
}

fn relayed(relay: &mut Relay, page: &[u8], pods: &Known) -> Relayed {
    relay.relay(page, Dialect::Text, pods).expect("the page is relayed")
}

fn bench(criterion: &mut Criterion) {
    let full = FullPage::new(RECORDED, N_PODS, CONTAINERS_PER_POD);
    let pages = [page(&full, 0), page(&full, 1)];
    let pods = Known::new(&full);
    let hasher = SeriesHasher::default();
    let mut relay = Relay::new(settings(), hasher.clone());
    let first = relayed(&mut relay, &pages[0], &pods).counts;
    println!(
        "page: {} bytes, {} samples, {} served",
        pages[0].len(),
        full.n_samples(),
        first.n_kept
    );
    let mut group = criterion.benchmark_group("relay");
    group.throughput(Throughput::Bytes(pages[0].len() as u64));
    group.measurement_time(Duration::from_secs(5)).sample_size(30);
    let mut scrape = 0;
    group.bench_function("warm", |bencher| {
        bencher.iter(|| {
            scrape += 1;
            black_box(relayed(&mut relay, &pages[scrape % 2], &pods))
        });
    });
    assert_eq!(relayed(&mut relay, &pages[0], &pods).counts.n_misses, 0, "it was warm");
    group.bench_function("warm, merged and written as OpenMetrics", |bencher| {
        bencher.iter(|| {
            scrape += 1;
            let relayed = relayed(&mut relay, &pages[scrape % 2], &pods);
            let page = Page::merged(Vec::new(), vec![relayed.page], &hasher);
            black_box(encode_pieces(&page, Format::OpenMetrics100))
        });
    });
    group.bench_function("cold", |bencher| {
        bencher.iter_batched(
            || Relay::new(settings(), hasher.clone()),
            |mut relay| black_box(relayed(&mut relay, &pages[0], &pods)),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
