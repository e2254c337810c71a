//! Pages of real kubelets and kube-proxies, recorded from Kubernetes 1.20 and 1.34, through the relay.

use std::{fs, path::Path, sync::Arc};

use podmeter::{
    labelling::relay::{
        Counts, Pods, Relay, Relayed, Settings,
        pods::{CgroupOwner, Pod},
    },
    page::relayed::{Form, SeriesHasher},
    source::upstream::exposition::Dialect,
};

/// No pod is known.
struct NoPods;

impl Pods for NoPods {
    fn version(&self) -> u64 {
        0
    }

    fn by_name(&self, _namespace: &str, _name: &str) -> Option<Arc<Pod>> {
        None
    }

    fn by_cgroup(&self, _path: &str) -> CgroupOwner {
        CgroupOwner::Node
    }
}

/// Names and texts of the recorded pages.
fn recorded() -> Vec<(String, String)> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let mut pages = Vec::new();
    for version in ["v1.20.2", "v1.34.9"] {
        let folder = fixtures.join(version).join("pages");
        for file in fs::read_dir(folder).expect("the folder is there") {
            let path = file.expect("its files are there").path();
            let page = fs::read_to_string(&path).expect("a page is UTF-8");
            pages.push((path.display().to_string(), page));
        }
    }
    assert_eq!(pages.len(), 11);
    pages
}

/// Two long texts, of which only the first difference is of interest.
fn check_same_lines(name: &str, left: &str, right: &str) {
    let different = left.lines().zip(right.lines()).find(|(left, right)| left != right);
    assert_eq!(different, None, "{name}");
    assert_eq!(left.len(), right.len(), "{name}");
}

/// The samples of text 0.0.4.
fn text(relayed: &Relayed) -> String {
    let lines = relayed.page.lines.iter().filter(|line| line.form != Form::OpenMetricsOnly);
    lines.map(|line| str::from_utf8(relayed.page.line(*line)).expect("UTF-8")).collect()
}

#[test]
fn samples_come_out_as_they_went_in() {
    for (name, page) in recorded() {
        let samples = page.split_inclusive('\n').filter(|line| !line.starts_with('#'));
        let samples: String = samples.collect();
        let n_samples = samples.lines().count();
        let mut relay = Relay::new(Settings::default(), SeriesHasher::default());
        for is_first in [true, false, false] {
            let relayed = relay.relay(page.as_bytes(), Dialect::Text, &NoPods);
            let relayed = relayed.expect("the page is relayed");
            check_same_lines(&name, &text(&relayed), &samples);
            let n_new = if is_first { n_samples } else { 0 };
            let Counts { n_by_owner, .. } = relayed.counts;
            let expected = Counts {
                n_samples,
                n_kept: n_samples,
                n_misses: n_new,
                n_added: n_new,
                n_by_owner,
                ..Counts::default()
            };
            assert_eq!(relayed.counts, expected, "{name}");
            assert_eq!(n_by_owner.iter().sum::<usize>(), n_samples);
            assert_eq!(relay.n_series(), n_samples);
        }
    }
}
