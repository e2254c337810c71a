//! Questions to a page that Podmeter made, inside this process.

use std::{
    collections::{BTreeMap, HashMap},
    panic,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use podmeter::{
    agent::Agent,
    attribution::kubernetes::KubernetesStatus,
    caps::{
        Machine, confine,
        privileged::{Keep, Privileged},
    },
    cgroup::hierarchy::Hierarchy,
    config::Config,
    metric::{Histogram, Kind, Value},
    page::Page,
    source::probe,
};
use tokio::runtime::{Builder, Runtime};

/// An agent as `podmeter run` has it, without the server: what needs capabilities is done on a thread of its own, and
/// nothing else has any.
pub struct TestAgent {
    runtime: Runtime,
    agent: Arc<Agent>,
}

/// A page, to be asked for values.
#[derive(Debug)]
pub struct TestPage(Arc<Page>);

impl TestAgent {
    /// Starts one with the configuration.
    #[must_use]
    pub fn start(config: &Config) -> Self {
        // The test itself keeps its rights, to make cgroups and namespaces.
        let config = config.clone();
        let started = thread::spawn(move || {
            let cgroups = Hierarchy::find(&config.paths).ok().map(|hierarchy| hierarchy.version);
            let keep = Keep::Needed(Machine::find(cgroups));
            let privileged = Privileged::start(keep, probe::lift_memlock_limit);
            let privileged = privileged.expect("the thread starts");
            confine::drop_all().expect("capabilities can be dropped");
            let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
            let runtime = runtime.expect("the runtime starts");
            let agent = {
                let _entered = runtime.enter();
                Agent::start(&config, &privileged).expect("the agent starts")
            };
            (runtime, agent)
        });
        let (runtime, agent) =
            started.join().unwrap_or_else(|panicked| panic::resume_unwind(panicked));
        Self { runtime, agent }
    }

    /// Gives it another configuration, which it must take.
    pub fn reload(&self, config: Config) {
        self.runtime.block_on(self.agent.reload(Ok(config))).expect("it is taken");
    }

    /// Collects a page.
    #[must_use]
    pub fn collect(&self) -> TestPage {
        TestPage(self.runtime.block_on(self.agent.collect()).expect("there is a page"))
    }

    /// How it stands with the Kubernetes API, if it is asked.
    #[must_use]
    pub fn kubernetes(&self) -> Option<KubernetesStatus> {
        self.agent.kubernetes()
    }

    /// Collects a page as if it were later.
    #[must_use]
    pub fn collect_after(&self, time: Duration) -> TestPage {
        let page = self.agent.collect_at(Instant::now() + time);
        TestPage(self.runtime.block_on(page).expect("there is a page"))
    }
}

impl TestPage {
    /// The value of the one series of a family that has these labels, and maybe others.
    #[must_use]
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<&Value> {
        let family = self.0.families().iter().find(|family| family.desc.name == name)?;
        let has_all = |series: &&podmeter::page::Series| {
            labels.iter().all(|(name, value)| series.labels.get(name) == Some(value))
        };
        let mut found = family.series.iter().filter(has_all);
        let first = found.next()?;
        assert!(found.next().is_none(), "{name} has more than one series with {labels:?}");
        Some(&first.value)
    }

    /// All histograms of a family, with the value of a label of theirs.
    #[must_use]
    pub fn histograms(&self, name: &str, label: &str) -> Vec<(String, &Histogram)> {
        let families = self.0.families().iter().filter(|family| family.desc.name == name);
        let mut found = Vec::new();
        for series in families.flat_map(|family| &family.series) {
            let Value::Histogram(histogram) = &series.value else { panic!("{name} is a number") };
            found.push((series.labels.get(label).unwrap_or_default().to_owned(), histogram));
        }
        found
    }

    /// Every number that may only rise, by name and labels; two equal series fail the test.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "no test counts that many events")]
    pub fn rising(&self) -> HashMap<String, Vec<f64>> {
        let mut rising = HashMap::new();
        let counted = self.0.families().iter().filter(|family| family.desc.kind != Kind::Gauge);
        for (name, series) in
            counted.flat_map(|family| family.series.iter().map(|one| (family.desc.name, one)))
        {
            let numbers = match &series.value {
                Value::Number(number) => vec![*number],
                Value::Histogram(Histogram { buckets, sum, .. }) => {
                    buckets.iter().map(|n| *n as f64).chain([*sum]).collect()
                }
            };
            let labels: Vec<_> = series.labels.iter().collect();
            let twice = rising.insert(format!("{name} {labels:?}"), numbers);
            assert_eq!(twice, None, "two series of {name} have the labels {labels:?}");
        }
        rising
    }

    /// What may only rise and is less here than on an earlier page, as lines.
    #[must_use]
    pub fn fallen_since(&self, earlier: &Self) -> Vec<String> {
        let after = self.rising();
        let fallen = earlier.rising().into_iter().filter_map(|(name, before)| {
            let after = after.get(&name)?;
            let fell = before.iter().zip(after).any(|(before, after)| after < before);
            fell.then(|| format!("{name} fell from {before:?} to {after:?}"))
        });
        fallen.collect()
    }

    /// The labels of all series of a family that have this value.
    #[must_use]
    pub fn labels_of(&self, name: &str, value: f64) -> Vec<BTreeMap<String, String>> {
        let families = self.0.families().iter().filter(|family| family.desc.name == name);
        let series = families.flat_map(|family| &family.series);
        let series = series.filter(|one| one.value == Value::Number(value));
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        series.map(|one| one.labels.iter().map(owned).collect()).collect()
    }

    /// The counters or gauges of a family, by the values of their labels.
    #[must_use]
    pub fn numbers(&self, name: &str) -> BTreeMap<String, f64> {
        let families = self.0.families().iter().filter(|family| family.desc.name == name);
        let number = |one: &podmeter::page::Series| {
            let labels: Vec<_> = one.labels.iter().map(|(_, value)| value).collect();
            let Value::Number(number) = one.value else { panic!("{name} is a histogram") };
            (labels.join(" "), number)
        };
        families.flat_map(|family| &family.series).map(number).collect()
    }

    /// A counter or gauge.
    #[must_use]
    pub fn number(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        match self.value(name, labels)? {
            Value::Number(number) => Some(*number),
            Value::Histogram(_) => panic!("{name} is a histogram"),
        }
    }

    /// A counter or gauge of whole things.
    #[must_use]
    pub fn count(&self, name: &str, labels: &[(&str, &str)]) -> Option<u64> {
        self.number(name, labels).map(|number| number.to_string().parse().expect("a whole number"))
    }

    /// A histogram.
    #[must_use]
    pub fn histogram(&self, name: &str, labels: &[(&str, &str)]) -> Option<&Histogram> {
        match self.value(name, labels)? {
            Value::Histogram(histogram) => Some(histogram),
            Value::Number(_) => panic!("{name} is no histogram"),
        }
    }
}
