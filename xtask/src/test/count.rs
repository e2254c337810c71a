//! What the tests came to: how many passed, which failed and with what words, which passed only when run again, and which
//! were skipped.

use super::libtest::{self, Verdict};

/// How many lines of a failed test's output are repeated at the end: the panic and what led to it.
const N_SHOWN_LINES: usize = 30;

/// A part with more failures than this is broken, and is not run again.
const N_RUN_AGAIN: usize = 3;

/// A test that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// As the tests name it, or the part in which something failed that is no test.
    pub(crate) name: String,
    /// What it said.
    pub(crate) said: String,
}

/// A test that did not run, or not to its end, because it lacks something here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Skip {
    /// As the tests name it, or the part.
    pub(crate) name: String,
    pub(crate) why: String,
}

/// The verdicts of one part or more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) n_passed: usize,
    pub(crate) failures: Vec<Failure>,
    /// Failed, and passed when run again alone; counted as passed.
    pub(crate) flaky: Vec<Failure>,
    /// Neither passed nor failed.
    pub(crate) skipped: Vec<Skip>,
}

impl Count {
    pub(crate) const fn passed(n_passed: usize) -> Self {
        Self { n_passed, failures: Vec::new(), flaky: Vec::new(), skipped: Vec::new() }
    }

    pub(crate) fn skipped(name: &str, why: &str) -> Self {
        let mut count = Self::default();
        count.skip(name, why);
        count
    }

    pub(crate) fn failed(name: &str, said: &str) -> Self {
        let mut count = Self::default();
        count.fail(name, said);
        count
    }

    pub(crate) fn fail(&mut self, name: &str, said: &str) {
        self.failures.push(Failure { name: name.into(), said: said.into() });
    }

    pub(crate) fn skip(&mut self, name: &str, why: &str) {
        self.skipped.push(Skip { name: name.into(), why: why.into() });
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.n_passed += other.n_passed;
        self.skipped.extend(other.skipped);
        self.failures.extend(other.failures);
        self.flaky.extend(other.flaky);
    }

    /// The verdicts that were read from a test binary's output.
    pub(super) fn of(output: &libtest::Output) -> Self {
        let mut count = Self::default();
        for (name, why) in output.skipped() {
            count.skip(name, &why);
        }
        // For the test binary they have passed.
        count.n_passed = output.n_passed.saturating_sub(count.skipped.len());
        for (name, _) in output.verdicts.iter().filter(|(_, verdict)| **verdict == Verdict::Failed)
        {
            count.fail(name, output.captured.get(name).map_or("", String::as_str));
        }
        for _ in count.failures.len()..output.n_failed {
            count.fail("a test whose name was not seen", "");
        }
        count
    }

    /// The names of those to run again: few that failed may have failed by chance.
    pub(crate) fn to_run_again(&self) -> Vec<String> {
        // A name with a space is a remark of ours, not a test's.
        let is_test = |failure: &Failure| !failure.name.contains(' ');
        if self.failures.len() > N_RUN_AGAIN || !self.failures.iter().all(is_test) {
            return Vec::new();
        }
        self.failures.iter().map(|failure| failure.name.clone()).collect()
    }

    /// Takes those that were run again, and neither failed nor were skipped, for passed.
    pub(crate) fn settle(&mut self, again: &Self) {
        let Self { n_passed, failures, skipped, .. } = again;
        let passes = |name: &str| {
            failures.iter().all(|failure| failure.name != name)
                && skipped.iter().all(|skip| skip.name != name)
        };
        // None that was asked for is missing, and nothing failed that has no name here.
        if n_passed + failures.len() + skipped.len() < self.failures.len() {
            return;
        }
        let (flaky, failures) = self.failures.drain(..).partition(|failure| passes(&failure.name));
        self.failures = failures;
        self.n_passed += flaky.len();
        self.flaky.extend(flaky);
    }

    /// `N passed, N failed, N skipped`, and how many of the first only when run again.
    pub(crate) fn summary(&self) -> String {
        let Self { n_passed, failures, flaky, skipped } = self;
        let again = match flaky.len() {
            0 => String::new(),
            n_flaky => format!(" ({n_flaky} of them when run again)"),
        };
        let skipped = match skipped.len() {
            0 => String::new(),
            n_skipped => format!(", {n_skipped} skipped"),
        };
        format!("{n_passed} passed{again}, {} failed{skipped}", failures.len())
    }

    /// Who was skipped and why, who failed, and the end of what each said: what a reader of the last lines needs.
    pub(crate) fn details(&self) -> String {
        let kinds =
            [("failed once, passed when run again", &self.flaky), ("FAILED", &self.failures)];
        let line = |Skip { name, why }: &Skip| format!("---- skipped: {name} {why}\n");
        let mut text: String = self.skipped.iter().map(line).collect();
        for (what, failures) in kinds {
            for Failure { name, said } in failures {
                // What the panic says stands before its backtrace, which the whole output has.
                let said = said.split("\nstack backtrace:").next().unwrap_or_default();
                text.extend(["---- ", what, ": ", name, "\n", &last_lines(said, N_SHOWN_LINES)]);
            }
        }
        text
    }
}

/// The last lines of a text, each with its end.
pub(crate) fn last_lines(said: &str, n_lines: usize) -> String {
    let lines: Vec<&str> = said.trim_end().lines().collect();
    let shown = lines.get(lines.len().saturating_sub(n_lines)..).unwrap_or_default();
    shown.iter().flat_map(|line| [line, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::{Count, last_lines, libtest::Output};

    fn count(n_passed: usize, failed: &[&str]) -> Count {
        let mut count = Count::passed(n_passed);
        for name in failed {
            count.fail(name, "left: 1\nstack backtrace:\n   0: main\n");
        }
        count
    }

    #[test]
    fn who_passes_when_run_again_has_passed_and_is_named() {
        let mut first = count(5, &["a", "b"]);
        assert_eq!(first.to_run_again(), ["a", "b"]);
        first.settle(&count(1, &["b"]));
        assert_eq!(first.summary(), "6 passed (1 of them when run again), 1 failed");
        let details =
            "---- failed once, passed when run again: a\nleft: 1\n---- FAILED: b\nleft: 1\n";
        assert_eq!(first.details(), details);
    }

    #[test]
    fn who_is_not_seen_again_has_failed() {
        let mut first = count(5, &["a", "b"]);
        first.settle(&count(1, &[]));
        assert_eq!(first, count(5, &["a", "b"]));
    }

    #[test]
    fn who_is_skipped_has_not_passed_and_is_named() {
        let text = "---- kernel::a stdout ----\nreport: skipped | there is no ip\n\n\
            successes:\n    kernel::a\n    kernel::b\n\ntest result: ok. 2 passed; 0 failed;\n";
        let mut output = Output::default();
        for line in text.lines() {
            output.line(line);
        }
        let mut total = Count::of(&output);
        assert_eq!(total.summary(), "1 passed, 0 failed, 1 skipped");
        total.add(Count::skipped("vagrant", "it is not here"));
        assert_eq!(total.summary(), "1 passed, 0 failed, 2 skipped");
        let details =
            "---- skipped: kernel::a there is no ip\n---- skipped: vagrant it is not here\n";
        assert_eq!(total.details(), details);
    }

    #[test]
    fn who_is_skipped_when_run_again_has_failed() {
        let mut first = count(5, &["a", "b"]);
        let mut again = count(1, &[]);
        again.skip("b", "there is no ip");
        first.settle(&again);
        assert_eq!(first.summary(), "6 passed (1 of them when run again), 1 failed");
        assert_eq!(first.to_run_again(), ["b"]);
    }

    #[test]
    fn many_failures_are_no_chance() {
        assert!(count(9, &["a", "b", "c", "d"]).to_run_again().is_empty());
    }

    #[test]
    fn a_long_text_is_shown_from_its_end() {
        assert_eq!(last_lines("a\nb\nc\n\n", 2), "b\nc\n");
        assert_eq!(last_lines("", 2), "");
    }
}
