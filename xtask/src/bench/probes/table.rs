//! The table of costs: from what was measured to Markdown that goes into docs/overhead.md as it is.

use super::{
    assigned::{Count, Event, Storm},
    page::{Run, Runs},
};

/// One workload with one probe.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) probe: String,
    pub(super) hook: String,
    pub(super) storm: &'static Storm,
    pub(super) done: Done,
    /// How much the workload did per second, the probe off and on, round by round.
    pub(super) rounds: Vec<Round>,
}

/// What the programs did while the kernel kept statistics.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) runs: Runs,
    /// What the probe counted, of an event that is one of these.
    pub(super) n_counted: f64,
    /// How long that took.
    pub(super) seconds: f64,
}

/// The workload without the probe and with it, one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Round {
    pub(super) off: f64,
    pub(super) on: f64,
}

/// The events per second for which the whole cost has a limit, and that limit in parts of a core.
const LIMIT_EVENTS: f64 = 20_000.0;
const LIMIT_CORE: f64 = 0.01;

const HEAD: &[&str] = &[
    "probe",
    "hook",
    "workload",
    "program",
    "runs/s",
    "ns per run",
    "ns per event",
    "target",
    "workload, probe off",
    "on",
    "on/off",
];

/// The whole table.
pub(super) fn costs(all: &[Measured]) -> String {
    let rows: Vec<Vec<String>> = all.iter().flat_map(rows).collect();
    markdown(HEAD, &rows)
}

/// One line for each program; what is of the workload as a whole stands in the first.
fn rows(measured: &Measured) -> Vec<Vec<String>> {
    let Measured { probe, hook, storm, done, rounds } = measured;
    let Event { name, target_ns, is } = storm.event;
    let cost = event_ns(&storm.event, done);
    let cost_of_run = match is {
        Count::Counted { run, .. } => format!(", {:.0} a {run}", run_ns(done)),
        Count::Run | Count::Whole => String::new(),
    };
    let target = target_ns.map_or_else(String::new, |target| {
        let verdict = if cost <= f64::from(target) { "met" } else { "MISSED" };
        format!("≤ {target}: {verdict}")
    });
    let (off, on) = (quartiles(rounds, |round| round.off), quartiles(rounds, |round| round.on));
    let ratio = quartiles(rounds, |round| round.on / round.off);
    let whole = [
        format!("{cost:.0} a {name}{cost_of_run}"),
        target,
        format!("{} {}/s", thousands(off.median), storm.unit),
        thousands(on.median),
        format!("{:.3} ({:.3} to {:.3})", ratio.median, ratio.lower, ratio.upper),
    ];
    let mut whole = Some(whole);
    let row = |(program, run): (&String, &Run)| {
        let mut row = vec![
            probe.clone(),
            hook.clone(),
            storm.name.into(),
            format!("`{program}`"),
            thousands(run.n_runs / done.seconds),
            format!("{:.0}", run.seconds / run.n_runs.max(1.0) * 1e9),
        ];
        row.extend(whole.take().into_iter().flatten());
        row.resize(HEAD.len(), String::new());
        row
    };
    done.runs.iter().map(row).collect()
}

/// What one event costs.
fn event_ns(event: &Event, done: &Done) -> f64 {
    match event.is {
        Count::Run => run_ns(done),
        Count::Whole => {
            let n_runs = done.runs.values().map(|run| run.n_runs);
            per_event_ns(done, n_runs.fold(0.0, f64::max))
        }
        Count::Counted { .. } => per_event_ns(done, done.n_counted),
    }
}

/// What one run of any program costs.
fn run_ns(done: &Done) -> f64 {
    per_event_ns(done, done.runs.values().map(|run| run.n_runs).sum())
}

fn per_event_ns(done: &Done, n_events: f64) -> f64 {
    let seconds: f64 = done.runs.values().map(|run| run.seconds).sum();
    seconds / f64::max(n_events, 1.0) * 1e9
}

/// What the costliest event takes of a core at the number of events for which there is a limit.
pub(super) fn of_a_core(all: &[Measured]) -> Option<String> {
    let cost = |measured: &Measured| event_ns(&measured.storm.event, &measured.done);
    let worst = all.iter().max_by(|a, b| cost(a).total_cmp(&cost(b)))?;
    let core = cost(worst) * LIMIT_EVENTS / 1e9;
    let verdict = if core <= LIMIT_CORE { "met" } else { "MISSED" };
    Some(format!(
        "{} events/s, all of the costliest kind ({} of {}): {:.2} % of a core; target ≤ {:.0} %: {verdict}",
        thousands(LIMIT_EVENTS),
        worst.storm.event.name,
        worst.probe,
        core * 100.0,
        LIMIT_CORE * 100.0,
    ))
}

/// The middle of some numbers, and of their lower and upper half.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Quartiles {
    lower: f64,
    median: f64,
    upper: f64,
}

fn quartiles(rounds: &[Round], of: impl Fn(&Round) -> f64) -> Quartiles {
    let mut values: Vec<f64> = rounds.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    // In quarters of the distance from the first to the last; between two values, their mean.
    let at = |quarters: usize| {
        let value = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        f64::midpoint(value(last * quarters / 4), value((last * quarters).div_ceil(4)))
    };
    Quartiles { lower: at(1), median: at(2), upper: at(3) }
}

/// A whole number with commas between thousands.
fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn markdown(head: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: Vec<&str>| format!("| {} |\n", cells.join(" | "));
    let rule = vec!["---"; head.len()];
    let rows = rows.iter().map(|row| line(row.iter().map(String::as_str).collect()));
    [line(head.to_vec()), line(rule)].into_iter().chain(rows).collect()
}

#[cfg(test)]
mod tests {
    use super::{
        Done, Measured, Quartiles, Round, costs, event_ns, of_a_core, quartiles, thousands,
    };
    use crate::bench::probes::{
        assigned::{Count, Event, Storm},
        page::{Run, Runs},
    };

    static STORM: Storm = Storm {
        name: "storm",
        unit: "drops",
        prepare: |_| anyhow::bail!("it is not run"),
        event: Event { name: "drop", is: Count::Whole, target_ns: Some(100) },
    };

    fn done() -> Done {
        let run = |n_runs, seconds| Run { n_runs, seconds };
        let runs = Runs::from([("a".into(), run(4000.0, 2e-4)), ("b".into(), run(2000.0, 1e-4))]);
        Done { runs, n_counted: 60_000.0, seconds: 2.0 }
    }

    fn rounds(values: &[(f64, f64)]) -> Vec<Round> {
        values.iter().map(|&(off, on)| Round { off, on }).collect()
    }

    #[test]
    fn an_event_is_one_run_or_all_runs_about_one_thing_or_what_is_counted() {
        let check = |is, expected: f64| {
            let cost = event_ns(&Event { name: "", is, target_ns: None }, &done());
            assert!((cost - expected).abs() < 1e-6, "{cost}");
        };
        check(Count::Run, 50.0);
        check(Count::Whole, 75.0);
        check(Count::Counted { family: "f", run: "r" }, 5.0);
        let nothing = Done { runs: Runs::new(), n_counted: 0.0, seconds: 2.0 };
        assert!(event_ns(&STORM.event, &nothing).abs() < 1e-9);
    }

    #[test]
    fn quartiles_lie_between_the_values() {
        let check = |values: &[f64], lower, median, upper| {
            let rounds: Vec<Round> = values.iter().map(|&off| Round { off, on: 0.0 }).collect();
            let expected = Quartiles { lower, median, upper };
            assert_eq!(quartiles(&rounds, |round| round.off), expected);
        };
        check(&[5.0, 1.0, 3.0, 2.0, 4.0], 2.0, 3.0, 4.0);
        check(&[1.0, 2.0], 1.5, 1.5, 1.5);
        check(&[7.0], 7.0, 7.0, 7.0);
    }

    #[test]
    fn the_table_has_a_row_for_each_program() {
        let measured = Measured {
            probe: "p".into(),
            hook: "h".into(),
            storm: &STORM,
            done: done(),
            rounds: rounds(&[(1000.0, 900.0), (2000.0, 1900.0), (1000.0, 920.0)]),
        };
        let table = costs(std::slice::from_ref(&measured));
        let lines: Vec<&str> = table.lines().skip(2).collect();
        let first = "| p | h | storm | `a` | 2,000 | 50 | 75 a drop | ≤ 100: met | 1,000 drops/s | 920 \
                     | 0.920 (0.910 to 0.935) |";
        assert_eq!(lines, [first, "| p | h | storm | `b` | 1,000 | 50 |  |  |  |  |  |"]);
        let core = of_a_core(&[measured]).unwrap();
        assert!(core.starts_with("20,000 events/s") && core.contains("0.15 % of a core"), "{core}");
        assert!(core.ends_with("≤ 1 %: met"), "{core}");
    }

    #[test]
    fn thousands_are_parted() {
        let numbers = [0.4, 999.6, 20_000.0, 1_234_567.0].map(thousands);
        assert_eq!(numbers, ["0", "1,000", "20,000", "1,234,567"]);
    }
}
