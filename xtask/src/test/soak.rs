//! `cargo xtask test soak`: the whole for minutes, with everything around it coming and going; `--record` keeps the figures
//! and pictures in docs/.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context as _, Result};

use super::{ONE_BY_ONE, Options, Part, as_root, count::Count};
use crate::{
    cargo::{self, Build},
    console, machine,
    setup::Setup,
};

/// The pictures that the test makes, and what each shows.
const PICTURES: &[(&str, &str)] = &[
    ("memory", "memory of the process"),
    ("cpu", "CPU time of the process"),
    ("page", "time of a page"),
    ("series", "series on a page"),
    ("cgroups", "cgroups known, alive and dead"),
    ("files", "descriptors and threads"),
];

const ABOUT: &str = "All of Podmeter runs with all probes that the kernel allows, and everything around it comes and goes: pods (cgroups, processes in network namespaces of their own, objects of the API server), containers that start again, labels, other cgroups, connections, processes that run out of memory; a target whose series change, one that is gone now and then, the API server and the receiver of remote write, too; and the configuration is loaded anew.
A page is scraped each second.
None has a series twice, a family in two pieces, or a counter that is less than it ever was; each map of the kernel is within its capacity, and has given back what is over at the end; all that was collected for the receiver has come.

The first minute is for warming up: it is in the pictures, and counts no further.
Of two numbers with an arrow, the first is of the second quarter of the time behind it, the other of the last.
";

/// Builds what it needs and runs it.
pub(super) fn run(setup: &Setup, options: &Options) -> Result<Count> {
    let is_recorded = options.record && options.part == Part::Soak;
    let folder = cargo::target_dir().join("soak");
    // What is written down is of what is released.
    let build = if is_recorded { Build::Release } else { Build::Debug };
    let podmeter = cargo::build_podmeter(build)?;
    let minutes = options.minutes.to_string();
    let variables = [
        ("PODMETER_SOAK_MINUTES", minutes.clone().into()),
        ("PODMETER_SOAK_FOLDER", folder.clone().into()),
    ];
    let count = as_root(setup, options, ("soak::", ONE_BY_ONE), &podmeter, &variables)?;
    if is_recorded && count.failures.is_empty() {
        record(&folder, &cargo::root().join("docs"), &minutes)?;
    } else {
        console::say(&format!("pictures are in {}", folder.display()));
    }
    Ok(count)
}

/// Writes what was found into the documentation.
fn record(from: &Path, docs: &Path, minutes: &str) -> Result<()> {
    let to = docs.join("soak");
    fs::create_dir_all(&to).with_context(|| format!("failed to make {}", to.display()))?;
    for (name, _) in PICTURES {
        let name = format!("{name}.svg");
        fs::copy(from.join(&name), to.join(&name))
            .with_context(|| format!("failed to copy {name}"))?;
    }
    let figures = fs::read_to_string(from.join("figures.tsv")).context("the test wrote none")?;
    let page = docs.join("soak.md");
    fs::write(&page, text(&figures, minutes, &machine::described()))
        .with_context(|| format!("failed to write {}", page.display()))
}

fn text(figures: &str, minutes: &str, machine: &str) -> String {
    let command = format!("cargo xtask test soak --minutes {minutes} --record");
    let mut text = format!(
        "<!-- Written by `{command}`; do not edit. -->\n\n# Minutes of churn\n\n{ABOUT}\n`{command}`, {machine}, release build:\n\n| what | found |\n|---|---|\n"
    );
    for (what, found) in figures.lines().filter_map(|line| line.split_once('\t')) {
        writeln!(text, "| {what} | {found} |").unwrap_or_default();
    }
    for (name, what) in PICTURES {
        writeln!(text, "\n![{what}](soak/{name}.svg)").unwrap_or_default();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{PICTURES, text};

    #[test]
    fn figures_become_a_table_with_the_machine_above_and_pictures_below() {
        let text = text("memory\t40.7 -> 40.9 MB\nthreads\t18 -> 18\n", "10", "2 cores, today");
        for part in [
            "--minutes 10 --record`, 2 cores, today, release build:\n\n| what | found |",
            "| memory | 40.7 -> 40.9 MB |\n| threads | 18 -> 18 |\n\n![",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert_eq!(text.matches("](soak/").count(), PICTURES.len());
    }
}
