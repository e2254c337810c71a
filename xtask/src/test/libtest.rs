//! Reads what a Rust test binary prints (run with `--show-output`): verdicts, the output of each test, and reports.
//!
//! A test's own children may write in the middle of a verdict line: then the verdict stands on a later line, or cannot be
//! told from the noise, and is taken from the lists of names at the end.

use std::collections::BTreeMap;

/// How one test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Passed,
    Failed,
    Ignored,
}

impl Verdict {
    /// The word for it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "ok",
            Self::Failed => "FAILED",
            Self::Ignored => "ignored",
        }
    }
}

/// What was read so far.
#[derive(Debug, Default)]
pub(crate) struct Output {
    pub(crate) verdicts: BTreeMap<String, Verdict>,
    /// What each test printed; of those that ran to their end.
    pub(crate) captured: BTreeMap<String, String>,
    /// The lines `report: …`, without that.
    pub(crate) reports: Vec<String>,
    /// The test that has begun and not ended.
    pub(crate) running: Option<String>,
    /// Sums of cargo's closing lines.
    pub(crate) n_passed: usize,
    pub(crate) n_failed: usize,
    capturing: Option<String>,
    /// The verdict of the names that are being listed.
    listing: Option<Verdict>,
}

impl Output {
    /// Reads one line, and gives the verdict that it ends.
    pub(crate) fn line(&mut self, line: &str) -> Option<(String, Verdict)> {
        self.reports.extend(report(line).map(Into::into));
        if let Some(name) =
            line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----"))
        {
            self.capturing = Some(name.into());
            self.listing = None;
            return None;
        }
        if let Some(rest) = line.strip_prefix("test result: ") {
            self.capturing = None;
            self.listing = None;
            self.n_passed += count(rest, "passed");
            self.n_failed += count(rest, "failed");
            return None;
        }
        let listing = match line {
            "successes:" => Some(Verdict::Passed),
            "failures:" => Some(Verdict::Failed),
            _ => None,
        };
        if listing.is_some() {
            self.listing = listing;
            self.capturing = None;
            return None;
        }
        if let Some(name) = &self.capturing {
            let text = self.captured.entry(name.clone()).or_default();
            text.push_str(line);
            text.push('\n');
            return None;
        }
        if let Some(listed) = self.listing {
            let name =
                line.strip_prefix("    ").filter(|name| !self.verdicts.contains_key(*name))?;
            return Some(self.settle(name.into(), listed));
        }
        self.verdict(line)
    }

    /// The tests that lacked something and did not fail for it, and what they lacked, as tests/src/skip.rs prints it.
    pub(crate) fn skipped(&self) -> Vec<(&str, String)> {
        let why = |said: &str| {
            let whys = said.lines().filter_map(|line| report(line)?.strip_prefix("skipped |"));
            whys.map(str::trim).collect::<Vec<_>>().join("; ")
        };
        let passed = self
            .captured
            .iter()
            .filter(|(name, _)| self.verdicts.get(*name) != Some(&Verdict::Failed));
        let skipped = passed.map(|(name, said)| (name.as_str(), why(said)));
        skipped.filter(|(_, why)| !why.is_empty()).collect()
    }

    fn verdict(&mut self, line: &str) -> Option<(String, Verdict)> {
        let mut rest = line;
        if let Some((name, after)) =
            line.strip_prefix("test ").and_then(|test| test.split_once(" ... "))
        {
            // `test a::b - should panic ... ok`
            let name = name.split_once(" - ").map_or(name, |(name, _)| name);
            self.running = Some(name.into());
            rest = after;
        } else if let Some(name) =
            line.strip_prefix("test ").and_then(|test| test.strip_suffix(" ..."))
        {
            self.running = Some(name.into());
            return None;
        }
        let verdict = match rest.trim() {
            "ok" => Verdict::Passed,
            "FAILED" => Verdict::Failed,
            rest if rest == "ignored" || rest.starts_with("ignored, ") => Verdict::Ignored,
            _ => return None,
        };
        let name = self.running.take()?;
        Some(self.settle(name, verdict))
    }

    fn settle(&mut self, name: String, verdict: Verdict) -> (String, Verdict) {
        self.verdicts.insert(name.clone(), verdict);
        (name, verdict)
    }
}

/// What a line `report: …` reports.
pub(crate) fn report(line: &str) -> Option<&str> {
    line.strip_prefix("report: ").map(str::trim)
}

/// The number before a word, as in `3 passed; 1 failed`.
fn count(text: &str, word: &str) -> usize {
    let words: Vec<&str> = text.split([' ', ';']).filter(|word| !word.is_empty()).collect();
    let found = words.windows(2).find(|pair| pair.last() == Some(&word));
    found.and_then(|pair| pair.first()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{Output, Verdict};

    fn read(text: &str) -> Output {
        let mut output = Output::default();
        for line in text.lines() {
            output.line(line);
        }
        output
    }

    const TEXT: &str = "
running 5 tests
test kernel::a ... ok
test kernel::b ... podmeter: info: listening
more of it
FAILED
test kernel::c ... ignored, needs a disk
test kernel::d - should panic ... ok
test kernel::e ... noise without a line end, ok

successes:

---- kernel::a stdout ----
report: cfs | pod | events 242
test kernel::not_a_verdict ... ok

---- kernel::e stdout ----
report: skipped | there is no ip
report: skipped | no netem | Error: Unknown qdisc.
report: skipped events | none

successes:
    kernel::a
    kernel::e

failures:

---- kernel::b stdout ----
report: skipped | there is no tc
thread 'kernel::b' panicked
left: 1

failures:
    kernel::b

test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s
";

    #[test]
    fn verdicts_output_and_reports_are_read() {
        let output = read(TEXT);
        let verdicts: Vec<(&str, Verdict)> =
            output.verdicts.iter().map(|(name, verdict)| (name.as_str(), *verdict)).collect();
        let expected = [
            ("kernel::a", Verdict::Passed),
            ("kernel::b", Verdict::Failed),
            ("kernel::c", Verdict::Ignored),
            ("kernel::d", Verdict::Passed),
            ("kernel::e", Verdict::Passed),
        ];
        assert_eq!(verdicts, expected);
        let reports = [
            "cfs | pod | events 242",
            "skipped | there is no ip",
            "skipped | no netem | Error: Unknown qdisc.",
            "skipped events | none",
            "skipped | there is no tc",
        ];
        assert_eq!(output.reports, reports);
        let why = "there is no ip; no netem | Error: Unknown qdisc.";
        assert_eq!(output.skipped(), [("kernel::e", why.to_owned())]);
        assert!(output.captured["kernel::b"].contains("left: 1"));
        assert_eq!((output.n_passed, output.n_failed), (2, 1));
    }

    #[test]
    fn a_test_that_hangs_is_named() {
        let output = read("test kernel::a ... ok\ntest kernel::hangs ...");
        assert_eq!(output.running.as_deref(), Some("kernel::hangs"));
        assert_eq!(output.verdicts.len(), 1);
    }
}
