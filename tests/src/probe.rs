//! A probe under test: started alone, asked for its families, and questioned.

use std::{borrow::Cow, sync::Arc};

use podmeter::{
    metric::{Histogram, Value},
    paths::HostPaths,
    source::{
        Collected, Source as _, SourceStats,
        probe::{self, HookKind, Probe, ProbeHost, ProbeStats},
    },
    subject::Subject,
};

use crate::machine::{attached, lacks_types};

/// A running probe.
pub struct TestProbe(Probe);

/// What a probe gave.
#[derive(Debug)]
pub struct Reading(Collected);

impl TestProbe {
    /// Starts the probe by one of these kinds of hook, or gives nothing where the machine's kernel refuses it, after
    /// checking that it says why.
    #[must_use]
    pub fn start(name: &str, hooks: &[HookKind]) -> Option<Self> {
        Self::start_on(&ProbeHost::find(&HostPaths::default()), name, hooks)
    }

    /// Starts the probe by a kind of hook for which not every kernel has what it needs.
    #[must_use]
    pub fn start_where_types_fit(host: &ProbeHost, name: &str, hooks: &[HookKind]) -> Option<Self> {
        let started = probe::start(host, hooks, |probe| probe.name == name);
        if lacks_types(&started.1) { None } else { attached(started).map(Self) }
    }

    /// The same on a machine that is not quite as it was found.
    #[must_use]
    pub fn start_on(host: &ProbeHost, name: &str, hooks: &[HookKind]) -> Option<Self> {
        attached(probe::start(host, hooks, |probe| probe.name == name)).map(Self)
    }

    /// Reads the probe's maps.
    pub fn read(&mut self) -> Reading {
        self.read_and_free(&[])
    }

    /// Frees what the kernel has of these cgroups, and reads the probe's maps.
    pub fn read_and_free(&mut self, freed: &[Subject]) -> Reading {
        Reading(self.0.collect(&Arc::default(), freed).expect("the maps can be read"))
    }
}

impl Reading {
    /// The sum of the numbers of a family that are about this subject and have these labels, and maybe others.
    #[must_use]
    pub fn number(&self, family: &str, subject: Subject, labels: &[(&str, &str)]) -> Option<f64> {
        let numbers = self.values(family, subject, labels).map(|value| match value {
            Value::Number(number) => *number,
            Value::Histogram(_) => panic!("{family} is a histogram"),
        });
        numbers.fold(None, |sum, number| Some(sum.unwrap_or(0.0) + number))
    }

    /// The one histogram of a family that is about this subject and has these labels, and maybe others.
    #[must_use]
    pub fn histogram(
        &self,
        family: &str,
        subject: Subject,
        labels: &[(&str, &str)],
    ) -> Option<Histogram> {
        let mut found = self.values(family, subject, labels);
        let Value::Histogram(histogram) = found.next()? else { panic!("{family} is a number") };
        assert!(found.next().is_none(), "{family} has more than one histogram with {labels:?}");
        Some(histogram.clone())
    }

    /// Whether no family says anything of this subject.
    #[must_use]
    pub fn is_silent_about(&self, subject: Subject) -> bool {
        let mut samples = self.0.families.iter().flat_map(|family| &family.samples);
        samples.all(|sample| sample.subject != subject)
    }

    /// What the probe says of itself.
    #[must_use]
    pub fn stats(&self) -> &ProbeStats {
        let SourceStats::Probe(stats) = &self.0.stats else { panic!("a probe's statistics") };
        stats
    }

    /// Events that are not where they belong, but for the reasons that are no loss.
    #[must_use]
    pub fn n_lost(&self, no_loss: &[&str]) -> u64 {
        let losses = self.stats().skipped.iter().filter(|(reason, _)| !no_loss.contains(reason));
        losses.map(|(_, n_events)| n_events).sum()
    }

    fn values<'a>(
        &'a self,
        name: &'a str,
        subject: Subject,
        labels: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = &'a Value> {
        let families = self.0.families.iter().filter(move |family| family.desc.name == name);
        let samples = families.flat_map(|family| &family.samples);
        let has = |own: &[(&'static str, Cow<'static, str>)], label: &(&str, &str)| {
            own.iter().any(|(name, value)| *name == label.0 && value == label.1)
        };
        let wanted = samples.filter(move |sample| {
            sample.subject == subject && labels.iter().all(|label| has(&sample.labels, label))
        });
        wanted.map(|sample| &sample.value)
    }
}
