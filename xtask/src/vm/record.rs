//! `docs/kernels.tsv`: what the last recorded run found on each kernel, from which docs/kernels.md is made.

use std::fs;

use anyhow::{Context as _, Result};

use super::{guest::Ran, kernel};
use crate::{cargo, console, machine, test::report};

const FILE: &str = "docs/kernels.tsv";
const HEAD: &str = "# Written by `cargo xtask test vm --record`; do not edit.\n\
    # kernel\tvariant\tdate\tkind\tcells\n";
/// The kinds of reports that are recorded.
const KINDS: &[&str] = &["hook", "truth"];

/// Replaces the lines about the guests that ran without a failure; all others stay.
pub(crate) fn record(ran: &[Ran]) -> Result<()> {
    let path = cargo::root().join(FILE);
    // There is no file before the first record.
    let before = fs::read_to_string(&path).unwrap_or_default();
    let (good, bad): (Vec<&Ran>, Vec<&Ran>) =
        ran.iter().partition(|ran| ran.count.failures.is_empty());
    for Ran { release, guest, .. } in bad {
        console::note(&format!("{release} {} failed, and is not recorded", guest.variant.name));
    }
    let text = merged(&before, &good, &machine::date());
    fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))?;
    console::say(&format!("{FILE} has {} guests of this run: now `cargo xtask docs`", good.len()));
    Ok(())
}

/// The file's new text.
fn merged(before: &str, ran: &[&Ran], date: &str) -> String {
    let is_replaced = |line: &str| {
        let mut fields = line.split('\t');
        let (release, variant) = (fields.next().unwrap_or_default(), fields.next());
        ran.iter().any(|ran| {
            Some(ran.guest.variant.name) == variant
                && kernel::is_version_prefix(&ran.guest.kernel, release)
        })
    };
    let kept = before.lines().filter(|line| !line.starts_with('#') && !is_replaced(line));
    let mut lines: Vec<String> = kept.map(Into::into).collect();
    for Ran { release, guest, reports, .. } in ran {
        for kind in KINDS {
            let cells = reports.iter().filter_map(|report| report::of_kind(kind, report));
            let line = |cells: Vec<String>| {
                format!("{release}\t{}\t{date}\t{kind}\t{}", guest.variant.name, cells.join("\t"))
            };
            lines.extend(cells.map(line));
        }
    }
    lines.sort_by_cached_key(|line| (kernel::numbers(release_of(line)), line.clone()));
    lines.dedup();
    let lines: String = lines.into_iter().map(|line| line + "\n").collect();
    format!("{HEAD}{lines}")
}

fn release_of(line: &str) -> &str {
    line.split('\t').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{super::matrix, HEAD, Ran, merged};
    use crate::test::count::Count;

    fn ran(release: &str, kernel: &str, reports: &[&str]) -> Ran {
        let variant = matrix::variant("v2").unwrap();
        Ran {
            release: release.into(),
            guest: matrix::Guest { kernel: kernel.into(), variant },
            count: Count::passed(1),
            reports: reports.iter().map(|&report| report.into()).collect(),
        }
    }

    #[test]
    fn only_the_kernels_that_ran_are_replaced() {
        let hook = "hook | a | fentry | ";
        let first = merged("", &[&ran("6.12.1-x", "6.12", &[hook, hook, "free | text"])], "1");
        assert_eq!(first, format!("{HEAD}6.12.1-x\tv2\t1\thook\ta\tfentry\t\n"));
        let truth = "truth | f | c | ours 1 | kernel 2 | -1";
        let second = merged(&first, &[&ran("6.1.9-x", "6.1", &[truth])], "2");
        let both = format!(
            "{HEAD}6.1.9-x\tv2\t2\ttruth\tf\tc\t1\t2\t-1\n6.12.1-x\tv2\t1\thook\ta\tfentry\t\n"
        );
        assert_eq!(second, both);
        let third = merged(&second, &[&ran("6.12.2-x", "6.12", &[])], "3");
        assert_eq!(third, format!("{HEAD}6.1.9-x\tv2\t2\ttruth\tf\tc\t1\t2\t-1\n"));
    }
}
