//! What is found at the end: figures, pictures, and whether anything grew.

use std::{fmt::Write as _, fs, path::Path, sync::atomic::Ordering};

use podmeter_tests::plot::{Line, Plot};

use super::{N_OTHERS, WARM_UP, from_to, load::LoadCount, pods::PodCount, record::Sample};

const MB: f64 = 1e6;

/// How much more of the heap may be in use in the last quarter than in the second, by the medians: a page is being made
/// whenever it is looked at, and what others do on the machine is on it.
///
/// In ten minutes a leak of some 10 kB for each pod that goes is more, or one of some 500 bytes for each other cgroup.
const MAX_HEAP_GROWTH: f64 = 0.15;

/// The same of what the kernel gives for it. The allocator keeps what lies free between pieces in use, and there is more of
/// that for some minutes, until what comes fits into what went.
const MAX_GROWTH: f64 = 0.20;

/// Connections that are kept for the next request, and descriptors of the page that is being made.
const N_FILES_MORE: f64 = 10.0;

/// Threads that wait for more blocking work, as the runtime has them for some seconds.
const N_THREADS_MORE: f64 = 8.0;

/// All that there is to judge by.
pub(super) struct Verdict<'a> {
    /// Pages while everything came and went, those before [`WARM_UP`] was over among them.
    pub(super) samples: &'a [Sample],
    /// The page before.
    pub(super) before: &'a Sample,
    /// The page when all of it was forgotten.
    pub(super) after: &'a Sample,
    pub(super) churned: Churned,
}

/// How much came and went.
pub(super) struct Churned {
    pub(super) pods: PodCount,
    pub(super) n_plain: u64,
    pub(super) load: LoadCount,
    pub(super) n_reloads: u64,
}

impl Churned {
    fn text(&self) -> String {
        let Self { pods: PodCount { pods, restarts, relabelled }, n_plain, load, n_reloads } = self;
        let n_connections = load.n_connections.load(Ordering::Relaxed);
        let n_kills = load.n_kills.load(Ordering::Relaxed);
        format!(
            "{pods} pods, {restarts} restarts, {relabelled} other labels, {n_plain} other cgroups, {n_connections} connections, {n_kills} processes out of memory, {n_reloads} reloads"
        )
    }
}

impl Verdict<'_> {
    /// Prints the figures, and writes them and the pictures into a folder.
    pub(super) fn write(&self, folder: &Path) {
        let mut lines = String::new();
        for (what, figure) in self.figures() {
            println!("report: soak | {what} | {figure}");
            writeln!(lines, "{what}\t{figure}").expect("a string takes all");
        }
        let write = |name: &str, text: String| {
            fs::write(folder.join(name), text).expect("the folder takes it");
        };
        write("figures.tsv", lines);
        for (name, plot) in self.plots() {
            write(&format!("{name}.svg"), plot.svg());
        }
    }

    /// Fails the test if anything grew.
    pub(super) fn judge(&self) {
        let check = |what: &str, (before, after): (f64, f64), most: f64| {
            assert!(after <= most, "{what} grew from {before} to {after}, more than {most}");
        };
        let memory = self.medians(|sample| sample.resident_bytes);
        check("resident memory", memory, memory.0 * (1.0 + MAX_GROWTH));
        let anonymous = self.floors(|sample| sample.anonymous_bytes);
        check("anonymous memory", anonymous, anonymous.0 * (1.0 + MAX_GROWTH));
        let heap = self.medians(|sample| sample.heap_bytes);
        check("heap", heap, heap.0 * (1.0 + MAX_HEAP_GROWTH));
        let threads = self.floors(|sample| sample.n_threads);
        check("threads", threads, threads.0 + N_THREADS_MORE);
        let files = self.floors(|sample| sample.n_files);
        check("descriptors", files, files.0 + N_FILES_MORE);
        let files = (self.before.n_files, self.after.n_files);
        check("descriptors in all", files, files.0 + N_FILES_MORE);
        for (map, (n_entries, _)) in &self.after.maps {
            let n_before = self.before.maps.get(map).map_or(0.0, |(n_entries, _)| *n_entries);
            check(&format!("entries of {map}"), (n_before, *n_entries), n_before + N_OTHERS);
        }
    }

    fn figures(&self) -> Vec<(String, String)> {
        let samples = self.warm();
        let number = |what: &str, value: String| (what.to_owned(), value);
        let memory = |(from, to): (f64, f64)| format!("{} MB", from_to((from / MB, to / MB)));
        let whole = |(from, to): (f64, f64)| format!("{from:.0} -> {to:.0}");
        let pages = sorted(samples, |sample| sample.page_seconds * 1e3);
        let series = sorted(samples, |sample| sample.n_series);
        let first = samples.first().expect("there are pages");
        let last = samples.last().expect("there are pages");
        let cpu_seconds = last.cpu_seconds - first.cpu_seconds;
        let mut figures = vec![
            number(
                "pages",
                format!(
                    "{} in {:.0} s, {} of them before anything is compared",
                    self.samples.len(),
                    last.seconds,
                    self.samples.len() - samples.len()
                ),
            ),
            number("came and went", self.churned.text()),
            number(
                "series on a page",
                format!("median {:.0}, most {:.0}", at(&series, 0.5), at(&series, 1.0)),
            ),
            number(
                "cgroups known",
                format!(
                    "{:.0} alive, {:.0} dead",
                    at(&sorted(samples, |sample| sample.n_live), 0.5),
                    at(&sorted(samples, |sample| sample.n_dead), 0.5)
                ),
            ),
            number("resident memory, median", memory(self.medians(|sample| sample.resident_bytes))),
            number(
                "anonymous memory, at least",
                memory(self.floors(|sample| sample.anonymous_bytes)),
            ),
            number("heap in use, median", memory(self.medians(|sample| sample.heap_bytes))),
            number("descriptors, at least", whole(self.floors(|sample| sample.n_files))),
            number("threads, at least", whole(self.floors(|sample| sample.n_threads))),
            number(
                "descriptors before and after",
                whole((self.before.n_files, self.after.n_files)),
            ),
            number(
                "CPU",
                format!("{:.1} ms a second", cpu_seconds * 1e3 / (last.seconds - first.seconds)),
            ),
            number(
                "time of a page",
                format!(
                    "median {:.0} ms, 99 of 100 within {:.0} ms",
                    at(&pages, 0.5),
                    at(&pages, 0.99)
                ),
            ),
        ];
        figures.extend(self.map_figures());
        figures
    }

    /// How full each map of the kernel was.
    fn map_figures(&self) -> impl Iterator<Item = (String, String)> {
        self.after.maps.iter().map(|(map, (n_after, capacity))| {
            let n_of = |sample: &Sample| sample.maps.get(map).map_or(0.0, |(entries, _)| *entries);
            let (n_before, most) = (n_of(self.before), at(&sorted(self.warm(), n_of), 1.0));
            let found = format!("{n_before} before, at most {most}, {n_after} afterwards");
            (format!("map {map}, of {capacity}"), found)
        })
    }

    /// What is judged.
    fn warm(&self) -> &[Sample] {
        let is_cold = |sample: &Sample| sample.seconds < WARM_UP.as_secs_f64();
        self.samples.get(self.samples.partition_point(is_cold)..).expect("it is no more than all")
    }

    /// The medians of the second and the last quarter.
    fn medians(&self, value: impl Fn(&Sample) -> f64) -> (f64, f64) {
        self.quarters(0.5, value)
    }

    /// The least of the second and the last quarter: what a page needs is there for a moment only, and a leak stays.
    fn floors(&self, value: impl Fn(&Sample) -> f64) -> (f64, f64) {
        self.quarters(0.0, value)
    }

    fn quarters(&self, part: f64, value: impl Fn(&Sample) -> f64) -> (f64, f64) {
        let samples = self.warm();
        let n_samples = samples.len();
        let quarter = |from: usize, until: usize| {
            let samples = samples.get(n_samples * from / 4..n_samples * until / 4);
            at(&sorted(samples.expect("a quarter is a part"), &value), part)
        };
        (quarter(1, 2), quarter(3, 4))
    }

    fn plots(&self) -> Vec<(&'static str, Plot)> {
        let line = |name: &'static str, value: &dyn Fn(&Sample) -> f64| Line {
            name,
            points: self.samples.iter().map(|sample| (sample.seconds, value(sample))).collect(),
        };
        let plot = |title: &str, unit, lines| Plot { title: title.into(), unit, lines };
        vec![
            (
                "memory",
                plot(
                    "Memory",
                    "MB",
                    vec![
                        line("resident", &|sample| sample.resident_bytes / MB),
                        line("anonymous", &|sample| sample.anonymous_bytes / MB),
                        line("heap in use", &|sample| sample.heap_bytes / MB),
                    ],
                ),
            ),
            ("cpu", plot("CPU, mean of ten pages", "ms a second", vec![self.cpu()])),
            ("page", plot("Page", "ms", vec![line("time of a page", &|it| it.page_seconds * 1e3)])),
            ("series", plot("On a page", "series", vec![line("series", &|it| it.n_series)])),
            (
                "cgroups",
                plot(
                    "Cgroups known",
                    "cgroups",
                    vec![line("alive", &|it| it.n_live), line("dead", &|it| it.n_dead)],
                ),
            ),
            (
                "files",
                plot(
                    "Held by the process",
                    "number",
                    vec![
                        line("descriptors", &|it| it.n_files),
                        line("threads", &|it| it.n_threads),
                    ],
                ),
            ),
        ]
    }

    /// The kernel counts in hundredths of a second, so several pages are taken together.
    fn cpu(&self) -> Line {
        let points = self.samples.windows(10).filter_map(|window| {
            let (first, last) = (window.first()?, window.last()?);
            let seconds = last.seconds - first.seconds;
            Some((last.seconds, (last.cpu_seconds - first.cpu_seconds) * 1e3 / seconds))
        });
        Line { name: "user and system", points: points.collect() }
    }
}

fn sorted(samples: &[Sample], value: impl Fn(&Sample) -> f64) -> Vec<f64> {
    let mut values: Vec<f64> = samples.iter().map(value).collect();
    values.sort_unstable_by(f64::total_cmp);
    values
}

/// The value at a part of the way through sorted ones.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a place among some hundred values"
)]
fn at(sorted: &[f64], part: f64) -> f64 {
    let place = ((sorted.len() - 1) as f64 * part).round() as usize;
    *sorted.get(place).expect("it is one of them")
}
