//! The table of the relay's costs, with the limits that Podmeter keeps: Markdown that goes into docs/overhead.md as it is.

use std::time::Duration;

use super::contestant::Contestant;
use crate::bench::measured::{Cpu, Memory, megabytes};

/// What was measured of one start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Round {
    /// Of the first scrape.
    pub(super) cold: Cpu,
    /// Of all scrapes that are counted.
    pub(super) used: Cpu,
    pub(super) n_scrapes: u32,
    /// After the last.
    pub(super) memory: Memory,
    pub(super) n_samples: f64,
}

/// Most CPU per scrape, as a part of vmagent's and of Prometheus'.
const OF_VMAGENT: f64 = 1.0 / 3.0;
const OF_PROMETHEUS: f64 = 1.0 / 10.0;
/// Most CPU of the first scrape, as a part of vmagent's.
const COLD_OF_VMAGENT: f64 = 1.0 / 2.0;
/// Most memory at any time.
const MAX_PEAK_BYTES: u64 = 64_000_000;

const HEAD: &str = "| | samples delivered | CPU per scrape (user + system) | rounds | of vmagent's | of Prometheus' | first scrape | of vmagent's | RSS | peak |
|---|---|---|---|---|---|---|---|---|---|
";

/// What all rounds of one contestant come to.
#[derive(Clone, Copy, Debug)]
struct Sum {
    user: f64,
    system: f64,
    /// The cheapest and the dearest round.
    range: (f64, f64),
    cold: f64,
    resident_bytes: u64,
    peak_bytes: u64,
    n_samples: f64,
}

fn sum(rounds: &[Round]) -> Sum {
    let n_scrapes: u32 = rounds.iter().map(|round| round.n_scrapes).sum();
    let per_scrape = |of: fn(&Round) -> Duration| {
        rounds.iter().map(of).sum::<Duration>().as_secs_f64() / f64::from(n_scrapes.max(1))
    };
    let of_round =
        |round: &Round| round.used.total().as_secs_f64() / f64::from(round.n_scrapes.max(1));
    let each = || rounds.iter().map(of_round);
    let mut cold: Vec<f64> = rounds.iter().map(|round| round.cold.total().as_secs_f64()).collect();
    cold.sort_by(f64::total_cmp);
    let most = |of: fn(&Memory) -> u64| rounds.iter().map(|round| of(&round.memory)).max();
    Sum {
        user: per_scrape(|round| round.used.user),
        system: per_scrape(|round| round.used.system),
        range: (each().fold(f64::INFINITY, f64::min), each().fold(0.0, f64::max)),
        cold: cold.get(cold.len() / 2).copied().unwrap_or(f64::NAN),
        resident_bytes: most(|memory| memory.resident_bytes).unwrap_or_default(),
        peak_bytes: most(|memory| memory.peak_bytes).unwrap_or_default(),
        n_samples: rounds.last().map_or(0.0, |round| round.n_samples),
    }
}

impl Sum {
    fn cpu(&self) -> f64 {
        self.user + self.system
    }
}

/// The table, and a line for each limit.
pub(super) fn written(all: &[(Contestant, Vec<Round>)]) -> String {
    let sums: Vec<(Contestant, Sum)> =
        all.iter().map(|(contestant, rounds)| (*contestant, sum(rounds))).collect();
    let of = |wanted: Contestant| {
        sums.iter().find(|(contestant, _)| *contestant == wanted).map(|(_, sum)| *sum)
    };
    let (Some(podmeter), Some(vmagent), Some(prometheus)) =
        (of(Contestant::Podmeter), of(Contestant::Vmagent), of(Contestant::Prometheus))
    else {
        return String::new();
    };
    let mut text = HEAD.to_owned();
    for (contestant, sum) in &sums {
        text.push_str(&row(contestant.name(), sum, &vmagent, &prometheus));
    }
    let ratio = |what: &str, is: f64, limit: f64| {
        format!("* {what}: {is:.2}, at most {limit:.2}: {}\n", verdict(is <= limit))
    };
    text.push('\n');
    text.push_str(&ratio(
        "CPU per scrape, of vmagent's",
        podmeter.cpu() / vmagent.cpu(),
        OF_VMAGENT,
    ));
    let of_prometheus = podmeter.cpu() / prometheus.cpu();
    text.push_str(&ratio("CPU per scrape, of Prometheus'", of_prometheus, OF_PROMETHEUS));
    if let Some(copier) = of(Contestant::Copier) {
        text.push_str(&of_sockets(copier.cpu(), prometheus.cpu()));
    }
    for (name, other) in [
        ("vmagent's", of(Contestant::VmagentOfGzip)),
        ("Prometheus'", of(Contestant::PrometheusOfGzip)),
    ] {
        if let Some(other) = other {
            text.push_str(&of_gzip(name, podmeter.cpu() / other.cpu()));
        }
    }
    text.push_str(&ratio(
        "first scrape, of vmagent's",
        podmeter.cold / vmagent.cold,
        COLD_OF_VMAGENT,
    ));
    let memory = format!(
        "* memory: {} at most, allowed {}: {}\n",
        megabytes(podmeter.peak_bytes),
        megabytes(MAX_PEAK_BYTES),
        verdict(podmeter.peak_bytes <= MAX_PEAK_BYTES)
    );
    text + &memory
}

fn of_sockets(copier: f64, prometheus: f64) -> String {
    format!(
        "* sockets alone, which a copy of the page costs: {:.1} ms, {:.2} of Prometheus'\n",
        copier * 1e3,
        copier / prometheus
    )
}

fn of_gzip(name: &str, ratio: f64) -> String {
    format!(
        "* CPU per scrape, of {name} with the page as a kubelet sends it, in gzip: {ratio:.2}\n"
    )
}

fn row(name: &str, sum: &Sum, vmagent: &Sum, prometheus: &Sum) -> String {
    let milliseconds = |seconds: f64| format!("{:.1}", seconds * 1e3);
    let (least, most) = sum.range;
    format!(
        "| {name} | {:.0} | {} ms ({} + {}) | {} to {} | {:.2} | {:.2} | {} ms | {:.2} | {} | {} |\n",
        sum.n_samples,
        milliseconds(sum.cpu()),
        milliseconds(sum.user),
        milliseconds(sum.system),
        milliseconds(least),
        milliseconds(most),
        sum.cpu() / vmagent.cpu(),
        sum.cpu() / prometheus.cpu(),
        milliseconds(sum.cold),
        sum.cold / vmagent.cold,
        megabytes(sum.resident_bytes),
        megabytes(sum.peak_bytes),
    )
}

fn verdict(is_kept: bool) -> &'static str {
    if is_kept { "OK" } else { "MISSED" }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Round, written};
    use crate::bench::{
        measured::{Cpu, Memory},
        relay::contestant::Contestant,
    };

    fn round(milliseconds: u64, cold: u64, peak_bytes: u64) -> Round {
        let cpu = |milliseconds| Cpu {
            user: Duration::from_millis(milliseconds),
            system: Duration::ZERO,
        };
        let memory = Memory { resident_bytes: 1_000_000, peak_bytes };
        Round { cold: cpu(cold), used: cpu(milliseconds), n_scrapes: 10, memory, n_samples: 7.0 }
    }

    #[test]
    fn limits_are_parts_of_what_the_others_take() {
        let rounds = |milliseconds, cold| vec![round(milliseconds, cold, 65_000_000)];
        let podmeter = vec![round(200, 90, 1), round(400, 100, 65_000_000), round(300, 95, 1)];
        let text = written(&[
            (Contestant::Podmeter, podmeter),
            (Contestant::Vmagent, rounds(1000, 180)),
            (Contestant::Prometheus, rounds(3000, 900)),
        ]);
        let first = "| Podmeter | 7 | 30.0 ms (30.0 + 0.0) | 20.0 to 40.0 | 0.30 | 0.10 | 95.0 ms | 0.53 | 1.0 MB | 65.0 MB |";
        assert!(text.contains(first), "{text}");
        let verdicts = [
            "of vmagent's: 0.30, at most 0.33: OK",
            "of Prometheus': 0.10, at most 0.10: OK",
            "first scrape, of vmagent's: 0.53, at most 0.50: MISSED",
            "memory: 65.0 MB at most, allowed 64.0 MB: MISSED",
        ];
        for verdict in verdicts {
            assert!(text.contains(verdict), "{verdict}: {text}");
        }
    }
}
