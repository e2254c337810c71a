//! The table of the peers: Markdown that goes into docs/overhead.md as it is.

use std::time::Duration;

use super::latency::{Latency, SCRAPERS};
use crate::bench::measured::megabytes;

/// Which work is done; each is compared with the first of its own part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Hands a page on.
    Relay,
    /// Measures the machine.
    Exporter,
}

/// What was measured of one start.
#[derive(Clone, Debug)]
pub(super) struct Round {
    /// Of all scrapes that are counted.
    pub(super) cpu: Duration,
    pub(super) n_scrapes: u32,
    pub(super) n_samples: f64,
    /// After these.
    pub(super) resident_bytes: u64,
    /// The most, also while many asked at once.
    pub(super) peak_bytes: u64,
    /// Of those that are asked for a page.
    pub(super) latencies: Option<[Latency; 3]>,
}

/// All rounds of one of them on one node.
#[derive(Clone, Debug)]
pub(super) struct Row {
    part: Part,
    name: &'static str,
    n_pods: usize,
    rounds: Vec<Round>,
}

/// Takes a round in.
pub(super) fn add(
    rows: &mut Vec<Row>,
    part: Part,
    name: &'static str,
    n_pods: usize,
    round: Round,
) {
    let known =
        rows.iter_mut().find(|row| (row.part, row.name, row.n_pods) == (part, name, n_pods));
    match known {
        Some(row) => row.rounds.push(round),
        None => rows.push(Row { part, name, n_pods, rounds: vec![round] }),
    }
}

impl Row {
    /// Seconds.
    fn cpu(&self) -> f64 {
        let n_scrapes: u32 = self.rounds.iter().map(|round| round.n_scrapes).sum();
        let cpu: Duration = self.rounds.iter().map(|round| round.cpu).sum();
        cpu.as_secs_f64() / f64::from(n_scrapes.max(1))
    }

    fn most(&self, of: fn(&Round) -> u64) -> u64 {
        self.rounds.iter().map(of).max().unwrap_or_default()
    }

    fn resident_bytes(&self) -> u64 {
        self.most(|round| round.resident_bytes)
    }

    fn n_samples(&self) -> f64 {
        self.rounds.last().map_or(0.0, |round| round.n_samples)
    }

    /// Of all rounds; none if nobody asks it.
    fn latencies(&self) -> Option<[Latency; 3]> {
        let mut all: Option<[Latency; 3]> = None;
        for latencies in self.rounds.iter().filter_map(|round| round.latencies.as_ref()) {
            match &mut all {
                Some(all) => {
                    all.iter_mut().zip(latencies).for_each(|(all, more)| all.add(more));
                }
                None => all = Some(latencies.clone()),
            }
        }
        all
    }
}

/// The table, and below it how each grows.
pub(super) fn written(rows: &[Row]) -> String {
    let scrapers = SCRAPERS.map(|n_scrapers| match n_scrapers {
        1 => "page, 1 scraper: median, longest".to_owned(),
        n_scrapers => format!("{n_scrapers} at once"),
    });
    let mut text = format!(
        "| | pods | samples | CPU per scrape | of Podmeter's | RSS | peak | of Podmeter's RSS | {} |\n\
         |---|---|---|---|---|---|---|---|---|---|---|\n",
        scrapers.join(" | ")
    );
    for part in [Part::Relay, Part::Exporter] {
        let of_part = || rows.iter().filter(move |row| row.part == part);
        for row in of_part() {
            // The first of the part that stands for this node is Podmeter's.
            if let Some(podmeter) = of_part().find(|other| other.n_pods == row.n_pods) {
                text.push_str(&line(row, podmeter));
            }
        }
    }
    text.push('\n');
    text + &growth(rows)
}

fn line(row: &Row, podmeter: &Row) -> String {
    let cells = match row.latencies() {
        Some(latencies) => latencies.map(|latency| cell(&latency)),
        None => ["pushes", "", ""].map(str::to_owned),
    };
    format!(
        "| {} | {} | {:.0} | {} | {:.2} | {} | {} | {:.2} | {} |\n",
        row.name,
        row.n_pods,
        row.n_samples(),
        milliseconds(row.cpu()),
        row.cpu() / podmeter.cpu(),
        megabytes(row.resident_bytes()),
        megabytes(row.most(|round| round.peak_bytes)),
        number(row.resident_bytes()) / number(podmeter.resident_bytes()),
        cells.join(" | ")
    )
}

fn cell(latency: &Latency) -> String {
    let n_asked = latency.times.len() + latency.n_refused;
    let refused = match latency.n_refused {
        0 => String::new(),
        n_refused => format!("; {n_refused} of {n_asked} got 503"),
    };
    match latency.middle_and_longest() {
        Some((middle, longest)) => format!(
            "{}, {}{refused}",
            milliseconds(middle.as_secs_f64()),
            milliseconds(longest.as_secs_f64())
        ),
        None => format!("none{refused}"),
    }
}

/// What more samples cost, from the smallest node to the largest.
fn growth(rows: &[Row]) -> String {
    let mut names: Vec<(Part, &str)> = Vec::new();
    for row in rows {
        if !names.contains(&(row.part, row.name)) {
            names.push((row.part, row.name));
        }
    }
    let of = |(part, name): (Part, &str)| {
        let mut of_it = rows.iter().filter(|row| (row.part, row.name) == (part, name));
        let first = of_it.next()?;
        Some(grown(first, of_it.next_back().unwrap_or(first)))
    };
    names.into_iter().filter_map(of).collect()
}

fn grown(first: &Row, last: &Row) -> String {
    let name = first.name;
    if first.n_pods == last.n_pods {
        return format!("* {name}: measured on one node alone\n");
    }
    let thousands = (last.n_samples() - first.n_samples()) / 1e3;
    if thousands < 1.0 {
        return format!("* {name}: its page does not grow with the pods\n");
    }
    let microseconds = (last.cpu() - first.cpu()) * 1e6 / thousands;
    let more_bytes = number(last.resident_bytes()) - number(first.resident_bytes());
    let kilobytes = more_bytes / 1e3 / thousands;
    format!(
        "* {name}: {microseconds:.0} µs of CPU per scrape and {kilobytes:.0} kB of RSS for each 1,000 samples more\n"
    )
}

fn milliseconds(seconds: f64) -> String {
    format!("{:.1} ms", seconds * 1e3)
}

#[expect(clippy::cast_precision_loss, reason = "no process has so much memory")]
fn number(n_bytes: u64) -> f64 {
    n_bytes as f64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Latency, Part, Round, add, written};

    fn round(milliseconds: u64, n_samples: f64, megabytes: u64, n_refused: usize) -> Round {
        let latency = Latency { times: vec![Duration::from_millis(milliseconds)], n_refused };
        Round {
            cpu: Duration::from_millis(10 * milliseconds),
            n_scrapes: 10,
            n_samples,
            resident_bytes: megabytes * 1_000_000,
            peak_bytes: 2 * megabytes * 1_000_000,
            latencies: Some([Latency::default(), latency.clone(), latency]),
        }
    }

    #[test]
    fn each_is_compared_with_podmeter_on_the_same_node_and_grows_with_the_samples() {
        let mut rows = Vec::new();
        for _ in 0..2 {
            for (n_pods, factor) in [(10, 1), (250, 5)] {
                let n_samples = 1e3 * f64::from(u32::try_from(factor).unwrap());
                let podmeter = round(2 * factor, n_samples, 10 * factor, 1);
                add(&mut rows, Part::Relay, "Podmeter", n_pods, podmeter);
                let pushes =
                    Round { latencies: None, ..round(8 * factor, n_samples, 30 * factor, 0) };
                add(&mut rows, Part::Relay, "vmagent", n_pods, pushes);
                add(&mut rows, Part::Exporter, "Podmeter's own", n_pods, round(1, 70.0, 10, 0));
            }
        }
        let text = written(&rows);
        for line in [
            "| Podmeter | 10 | 1000 | 2.0 ms | 1.00 | 10.0 MB | 20.0 MB | 1.00 | none | 2.0 ms, 2.0 ms; 2 of 4 got 503 | 2.0 ms, 2.0 ms; 2 of 4 got 503 |",
            "| vmagent | 250 | 5000 | 40.0 ms | 4.00 | 150.0 MB | 300.0 MB | 3.00 | pushes |  |  |",
            "| Podmeter's own | 250 | 70 | 1.0 ms | 1.00 |",
            "* Podmeter: 2000 µs of CPU per scrape and 10000 kB of RSS for each 1,000 samples more",
            "* Podmeter's own: its page does not grow with the pods",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
    }
}
