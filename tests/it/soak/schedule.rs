//! When which part of what is around Podmeter is gone, and which configuration holds: the same in each run, and in each
//! half minute, so that the quarters of two minutes can be compared.

use std::{fmt::Write as _, net::SocketAddr, ops::Range};

use podmeter_tests::{
    gate::Gate,
    whole::{NodePage, Whole},
};

use super::target::CHANGING;

/// Between two collections that are pushed.
pub(super) const PUSH_SECONDS: i64 = 5;

/// The target that is gone at times, and is not asked at times.
pub(super) const PASSING: &str = "passing";

/// In which all of it happens.
pub(super) const PERIOD_SECONDS: u64 = 30;

/// For how long a configuration holds.
const VARIANT_SECONDS: u64 = 3;

/// Seconds of the period in which something is gone.
const OF_TARGET: Range<u64> = 10..15;
const OF_API: Range<u64> = 20..24;
/// Two collections wait meanwhile.
const OF_RECEIVER: Range<u64> = 3..14;

/// What differs from the first configuration, one after the other; it comes back in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variant {
    /// It is that of the start.
    First,
    /// All series have one label more.
    Labelled,
    /// A probe is unloaded, and loaded again afterwards.
    WithoutProbe,
    /// The target `passing` is not asked any more.
    WithoutTarget,
    /// Some series of the target `changing` are left out.
    Relabelled,
}

const VARIANTS: [Variant; 10] = [
    Variant::First,
    Variant::First,
    Variant::First,
    Variant::Labelled,
    Variant::First,
    Variant::WithoutProbe,
    Variant::First,
    Variant::WithoutTarget,
    Variant::First,
    Variant::Relabelled,
];

/// The schedule, and the ways that it opens and closes.
pub(super) struct Schedule {
    pages: SocketAddr,
    passing: Door,
    receiver: Door,
    is_api_gone: bool,
    max_cgroups: usize,
    variant: Variant,
    n_reloads: u64,
}

struct Door {
    gate: Gate,
    is_gone: bool,
}

impl Schedule {
    pub(super) fn new(pages: SocketAddr, receiver: SocketAddr, max_cgroups: usize) -> Self {
        let door = |behind| Door { gate: Gate::before(behind), is_gone: false };
        Self {
            pages,
            passing: door(pages),
            receiver: door(receiver),
            is_api_gone: false,
            max_cgroups,
            variant: Variant::First,
            n_reloads: 0,
        }
    }

    /// What of the configuration follows the list of the usual targets. The times of recorded pages are too old for a
    /// receiver.
    pub(super) fn more(&self) -> String {
        let Self { pages, passing, receiver, max_cgroups, variant, .. } = self;
        let (passing, receiver) = (passing.gate.address(), receiver.gate.address());
        let mut more = format!("- {{ job_name: changing, url: 'http://{pages}/{CHANGING}' }}\n");
        if *variant != Variant::WithoutTarget {
            writeln!(more, "- {{ job_name: {PASSING}, url: 'http://{passing}/{CHANGING}' }}")
                .expect("a string takes all");
        }
        write!(
            more,
            "cgroups: {{ max_tracked: {max_cgroups} }}
remote_write_interval: {PUSH_SECONDS}s
remote_write:
- url: 'http://{receiver}/api/v1/write'
  write_relabel_configs: [ {{ source_labels: [ job ], regex: 'kubelet-.*', action: drop }} ]
"
        )
        .expect("a string takes all");
        match variant {
            Variant::Labelled => more += "external_labels: { soak: labelled }\n",
            Variant::Relabelled => {
                more += "relabel_configs: [ { source_labels: [ __name__ ], regex: soak_generation_info, action: drop } ]\n";
            }
            Variant::First | Variant::WithoutProbe | Variant::WithoutTarget => {}
        }
        more
    }

    /// Brings about what holds from this second on.
    pub(super) fn tick(&mut self, second: u64, whole: &mut Whole) {
        let second = second % PERIOD_SECONDS;
        self.passing.set(OF_TARGET.contains(&second));
        self.receiver.set(OF_RECEIVER.contains(&second));
        set(&mut whole.around.api, &mut self.is_api_gone, OF_API.contains(&second));
        let idx = usize::try_from(second / VARIANT_SECONDS).expect("a small number");
        let variant = *VARIANTS.get(idx).expect("there is one for each part of the period");
        if variant != self.variant {
            self.load(variant, whole);
        }
    }

    /// All is there again, and the first configuration holds.
    pub(super) fn end(&mut self, whole: &mut Whole) {
        self.passing.set(false);
        self.receiver.set(false);
        set(&mut whole.around.api, &mut self.is_api_gone, false);
        if self.variant != Variant::First {
            self.load(Variant::First, whole);
        }
    }

    pub(super) fn n_reloads(&self) -> u64 {
        self.n_reloads
    }

    /// What must hold of each page, whatever is gone.
    pub(super) fn check(page: &NodePage) {
        let is_taken = page.count("podmeter_config_last_reload_successful", &[]);
        assert!(is_taken > 0.5, "the configuration is refused");
        // Each sample of the target is on the page, or was counted when it was left out.
        let n_served = page.0.of_job("changing").filter(|name| name.starts_with("soak_")).count();
        let job = [("job", "changing")];
        let n_left = page.count("scrape_samples_post_metric_relabeling", &job);
        assert!((n_served as f64 - n_left).abs() < 0.5, "{n_served} of {n_left} are on the page");
    }

    fn load(&mut self, variant: Variant, whole: &Whole) {
        self.variant = variant;
        self.n_reloads += 1;
        let mut config = whole.around.config() + &self.more();
        if variant == Variant::WithoutProbe {
            let probes = "probes: { ";
            assert!(config.contains(probes), "{config}");
            config = config.replace(probes, "probes: { drops: { enabled: false }, ");
        }
        whole.exporter.configure(&config);
    }
}

impl Door {
    fn set(&mut self, is_gone: bool) {
        set(&mut self.gate, &mut self.is_gone, is_gone);
    }
}

fn set(gate: &mut Gate, was_gone: &mut bool, is_gone: bool) {
    match (*was_gone, is_gone) {
        (false, true) => gate.close(),
        (true, false) => gate.open(),
        _ => {}
    }
    *was_gone = is_gone;
}
