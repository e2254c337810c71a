//! What the exporter's page says of its probes.

use std::collections::BTreeMap;

/// A probe in `podmeter_probe_attached`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Probe {
    pub(super) name: String,
    /// The hook in use; `None` where the probe is not attached.
    pub(super) hook: Option<String>,
}

/// How often the programs ran and for how long, by program.
pub(super) type Runs = BTreeMap<String, Run>;

/// What one program did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Run {
    pub(super) n_runs: f64,
    pub(super) seconds: f64,
}

/// All probes that there are, in the order of the page.
pub(super) fn probes(page: &str) -> Vec<Probe> {
    let probe = |sample: Sample<'_>| {
        // A label without a value is not on the page.
        let hook = sample.label("hook").filter(|_| sample.value > 0.0).map(Into::into);
        Some(Probe { name: sample.label("probe")?.to_owned(), hook })
    };
    samples(page, "podmeter_probe_attached").filter_map(probe).collect()
}

/// The runs of one probe's programs; empty while the kernel keeps no statistics.
pub(super) fn runs(page: &str, probe: &str) -> Runs {
    let mut runs = Runs::new();
    let mut add = |family: &str, set: fn(&mut Run, f64)| {
        for sample in samples(page, family).filter(|sample| sample.label("probe") == Some(probe)) {
            if let Some(program) = sample.label("program") {
                set(runs.entry(program.to_owned()).or_default(), sample.value);
            }
        }
    };
    add("podmeter_probe_program_runs_total", |run, value| run.n_runs = value);
    add("podmeter_probe_program_run_seconds_total", |run, value| run.seconds = value);
    runs
}

/// The sum of a family over all that it is counted of.
pub(super) fn sum(page: &str, family: &str) -> f64 {
    samples(page, family).map(|sample| sample.value).sum()
}

/// What was done between two looks.
pub(super) fn between(before: &Runs, after: &Runs) -> Runs {
    let less = |(program, after): (&String, &Run)| {
        let before = before.get(program).copied().unwrap_or_default();
        let (n_runs, seconds) = (after.n_runs - before.n_runs, after.seconds - before.seconds);
        (program.clone(), Run { n_runs, seconds })
    };
    after.iter().map(less).collect()
}

struct Sample<'a> {
    labels: &'a str,
    value: f64,
}

impl Sample<'_> {
    /// The value of a label; none of those that are asked for has a quote in it.
    fn label(&self, name: &str) -> Option<&str> {
        self.labels.split(',').find_map(|pair| {
            let (key, value) = pair.split_once('=')?;
            (key == name).then(|| value.trim_matches('"'))
        })
    }
}

fn samples<'a>(page: &'a str, family: &str) -> impl Iterator<Item = Sample<'a>> {
    page.lines().filter_map(move |line| {
        let labels = line.strip_prefix(family)?.strip_prefix('{')?;
        let (labels, value) = labels.split_once("} ")?;
        Some(Sample { labels, value: value.trim().parse().ok()? })
    })
}

#[cfg(test)]
mod tests {
    use super::{Probe, Run, Runs, between, probes, runs, sum};

    const PAGE: &str = "# TYPE podmeter_probe_attached gauge
podmeter_probe_attached{probe=\"a\",hook=\"fentry\"} 1
podmeter_probe_attached{probe=\"b\",reason=\"refused\"} 0
podmeter_probe_program_runs_total{probe=\"a\",program=\"one\"} 30
podmeter_probe_program_run_seconds_total{probe=\"a\",program=\"one\"} 3e-06
podmeter_probe_program_runs_total{probe=\"b\",program=\"other\"} 7
";

    #[test]
    fn attached_and_other_probes_are_listed() {
        let probe = |name: &str, hook: Option<&str>| Probe {
            name: name.into(),
            hook: hook.map(Into::into),
        };
        assert_eq!(probes(PAGE), [probe("a", Some("fentry")), probe("b", None)]);
    }

    #[test]
    fn a_family_is_summed_up_and_no_other() {
        assert!((sum(PAGE, "podmeter_probe_program_runs_total") - 37.0).abs() < 1e-9);
        assert!(sum(PAGE, "podmeter_probe_program_runs").abs() < 1e-9);
    }

    #[test]
    fn runs_are_those_of_one_probe_since_the_last_look() {
        let run = |n_runs, seconds| Runs::from([("one".to_owned(), Run { n_runs, seconds })]);
        let after = runs(PAGE, "a");
        assert_eq!(after, run(30.0, 3e-6));
        assert_eq!(between(&Runs::new(), &after), after);
        assert_eq!(between(&run(10.0, 0.5), &run(30.0, 2.0)), run(20.0, 1.5));
        assert!(runs(PAGE, "c").is_empty());
    }
}
