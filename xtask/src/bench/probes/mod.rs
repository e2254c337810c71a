//! `cargo xtask bench probes`: what each probe costs per event, and how much it slows down what causes the events.
//!
//! The exporter runs with one probe at a time. Nanoseconds are the kernel's own, from `kernel.bpf_stats_enabled=1`: the
//! difference of two scrapes of `podmeter_probe_program_run_seconds_total` with the workload in between; they hold what
//! the kernel takes to look at its clock. The workload's own speed is taken without these statistics, in rounds of off
//! and on; what is said of it is the median over the rounds, with the quartiles.

mod assigned;
mod page;
mod place;
mod statistics;
mod table;
mod workload;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context as _, Result, bail};

use self::{
    assigned::{Count, Load, Storm},
    page::Probe,
    place::Cpus,
    statistics::Statistics,
    table::{Done, Measured, Round},
    workload::Workload,
};
use super::exporter::Exporter;
use crate::{
    cargo::{self, Build},
    console, machine, process,
    setup::{self, Purpose},
};

/// What is measured, and how long.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Measure this probe only; may be given more than once.
    #[arg(long = "probe", value_name = "NAME")]
    probes: Vec<String>,
    /// How often each workload runs without the probe and with it.
    #[arg(long, default_value_t = 11, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How long each run takes.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
}

/// `cargo xtask bench probes`.
pub(super) fn run(options: &Options) -> Result<()> {
    if !process::is_root() {
        bail!(
            "the bench loads probes, which needs root: run `sudo --preserve-env cargo xtask bench probes`"
        );
    }
    place::refuse_emulation()?;
    setup::ensure(Purpose::Bench)?;
    let bench = Bench::new(cargo::build_podmeter(Build::Release)?, options)?;
    let wanted = wanted(&bench.probes, &options.probes)?;
    let mut costs = Vec::new();
    let mut remarks = Vec::new();
    for (probe, load) in wanted {
        match (bench.hook(probe)?, load) {
            (Err(reason), _) => remarks.push(format!("{probe}: not attachable here: {reason}")),
            (Ok(_), Load::Rare(why)) => remarks.push(format!("{probe}: rare: {why}")),
            (Ok(hook), Load::Storms(storms)) => {
                for storm in *storms {
                    costs.push(bench.measure(probe, &hook, storm)?);
                }
            }
        }
    }
    console::say(&table::costs(&costs));
    remarks.extend(table::of_a_core(&costs));
    for remark in &remarks {
        console::say(&format!("* {remark}"));
    }
    let Options { rounds, seconds, .. } = options;
    console::say(&format!("\n{}; {rounds} rounds of {seconds} s", machine::described()));
    Ok(())
}

/// The probes that are asked for, each with its load; an error if one does not exist or has none.
fn wanted<'a>(probes: &'a [String], names: &[String]) -> Result<Vec<(&'a String, &'static Load)>> {
    if let Some(unknown) = names.iter().find(|name| !probes.contains(name)) {
        bail!("there is no probe {unknown}, there is: {}", probes.join(", "));
    }
    let wanted = probes.iter().filter(|probe| names.is_empty() || names.contains(probe));
    wanted.map(|probe| Ok((probe, assigned::to(probe)?))).collect()
}

struct Bench<'a> {
    podmeter: PathBuf,
    /// The names of all probes.
    probes: Vec<String>,
    cpus: Cpus,
    options: &'a Options,
}

impl<'a> Bench<'a> {
    /// Asks the exporter which probes there are.
    fn new(podmeter: PathBuf, options: &'a Options) -> Result<Self> {
        let probes = names(&podmeter)?;
        Ok(Self { podmeter, probes, cpus: Cpus::allowed()?, options })
    }

    /// The hook that a probe attaches to here, or why it does not.
    fn hook(&self, probe: &str) -> Result<Result<String, String>> {
        let configuration = only(probe, &self.probes);
        let page = Exporter::start(&self.podmeter, &configuration)?.first_page()?;
        let attached = page::probes(&page).into_iter().find(|one| one.name == probe);
        match attached {
            Some(Probe { hook: Some(hook), .. }) => Ok(Ok(hook)),
            Some(Probe { hook: None, .. }) => Ok(Err(self.why_off(probe, &configuration)?)),
            None => bail!("the page does not say whether {probe} is attached"),
        }
    }

    /// What `podmeter check` says of a probe.
    fn why_off(&self, probe: &str, configuration: &str) -> Result<String> {
        let file = cargo::target_dir().join("bench/check.yaml");
        fs::write(&file, format!("listen: 127.0.0.1:0\n{configuration}"))
            .with_context(|| format!("failed to write {}", file.display()))?;
        let mut check = Command::new(&self.podmeter);
        check.args(["check", "--config"]).arg(&file);
        // It fails because the probe does.
        let output = check.output().context("failed to start podmeter check")?;
        let said = String::from_utf8_lossy(&output.stdout);
        reason(&said, probe).with_context(|| format!("podmeter check says nothing of {probe}"))
    }

    fn measure(&self, probe: &str, hook: &str, storm: &'static Storm) -> Result<Measured> {
        console::note(&format!("{probe}: {}", storm.name));
        let configuration = only(probe, &self.probes);
        let mut workload = (storm.prepare)(self.cpus)?;
        // The first run of all fills caches.
        workload.run(1)?;
        let done = self.statistics(probe, &configuration, storm, workload.as_mut())?;
        let rounds = self.rounds(&configuration, workload.as_mut())?;
        let (probe, hook) = (probe.to_owned(), hook.to_owned());
        Ok(Measured { probe, hook, storm, done, rounds })
    }

    /// What the programs do while the workload runs, and for how long that was.
    fn statistics(
        &self,
        probe: &str,
        configuration: &str,
        storm: &Storm,
        workload: &mut dyn Workload,
    ) -> Result<Done> {
        let _on = Statistics::set("1")?;
        let mut exporter = Exporter::start(&self.podmeter, configuration)?;
        exporter.first_page()?;
        let before = exporter.scrape()?;
        let start = Instant::now();
        workload.run(self.options.seconds)?;
        let seconds = start.elapsed().as_secs_f64();
        let after = exporter.scrape()?;
        let runs = page::between(&page::runs(&before, probe), &page::runs(&after, probe));
        if runs.values().all(|run| run.n_runs < 1.0) {
            bail!(
                "the workload caused no event of {probe}: what was measured is not what was meant"
            );
        }
        let n_counted = match storm.event.is {
            Count::Counted { family, .. } => page::sum(&after, family) - page::sum(&before, family),
            Count::Run | Count::Whole => 0.0,
        };
        Ok(Done { runs, n_counted, seconds })
    }

    /// The speed of the workload, without the probe and with it in turn.
    fn rounds(&self, configuration: &str, workload: &mut dyn Workload) -> Result<Vec<Round>> {
        let _off = Statistics::set("0")?;
        let seconds = self.options.seconds;
        let round = |_| {
            let off = workload.run(seconds)?;
            let mut exporter = Exporter::start(&self.podmeter, configuration)?;
            exporter.first_page()?;
            Ok(Round { off, on: workload.run(seconds)? })
        };
        (0..self.options.rounds).map(round).collect()
    }
}

/// The configuration that leaves all probes off.
pub(super) fn none(podmeter: &Path) -> Result<String> {
    Ok(only("", &names(podmeter)?))
}

/// The names of all probes, as the exporter says them.
fn names(podmeter: &Path) -> Result<Vec<String>> {
    let page = Exporter::start(podmeter, "")?.first_page()?;
    Ok(page::probes(&page).into_iter().map(|probe| probe.name).collect())
}

/// The configuration with that probe, and none besides.
fn only(probe: &str, all: &[String]) -> String {
    let lines = all.iter().map(|name| format!("  {name}: {{ enabled: {} }}\n", name == probe));
    format!("probes:\n{}", lines.collect::<String>())
}

/// The text of a finding about a probe, in what `podmeter check` says.
fn reason(said: &str, probe: &str) -> Option<String> {
    let subject = format!("probe {probe} ");
    let text = said.lines().find_map(|line| line.split_once(&subject).map(|(_, text)| text));
    text.map(|text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::{only, reason, wanted};

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.into()).collect()
    }

    #[test]
    fn one_probe_is_on_and_all_others_are_off() {
        let expected = "probes:\n  a: { enabled: false }\n  b: { enabled: true }\n";
        assert_eq!(only("b", &owned(&["a", "b"])), expected);
    }

    #[test]
    fn the_reason_is_in_the_line_of_the_probe() {
        let said = "ok    kernel  Linux\nFAIL  probe cpu             fentry: no; kprobe: no\n";
        assert_eq!(reason(said, "cpu").as_deref(), Some("fentry: no; kprobe: no"));
        assert_eq!(reason(said, "cp"), None);
    }

    #[test]
    fn only_probes_with_a_load_are_measured() {
        let check = |probes: &[&str], names: &[&str], expected: Result<&[&str], &str>| {
            let (probes, names) = (owned(probes), owned(names));
            match (wanted(&probes, &names), expected) {
                (Ok(found), Ok(expected)) => {
                    let found: Vec<&str> = found.iter().map(|(probe, _)| probe.as_str()).collect();
                    assert_eq!(found, expected);
                }
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
                (found, _) => panic!("{probes:?} {names:?}: {found:?}"),
            }
        };
        check(&["oom", "tcp"], &[], Ok(&["oom", "tcp"]));
        check(&["oom", "tcp"], &["tcp"], Ok(&["tcp"]));
        check(&["oom"], &["tcp"], Err("there is no probe tcp, there is: oom"));
        check(&["unheard_of"], &[], Err("no workload for the probe unheard_of"));
    }
}
