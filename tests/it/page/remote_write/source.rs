//! A target whose pages are all known afterwards.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    net::SocketAddr,
    ops::RangeInclusive,
    process::ExitStatus,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use podmeter_tests::{
    exporter::Exporter,
    page_server::serve,
    receiver::{Kind, Labels, Samples, page_samples},
};

/// The job of the target.
pub(super) const JOB: &str = "source";

/// How long it is from one instant to the next, in milliseconds: see `config_of`.
const INTERVAL: i64 = 1000;

/// The number of a page and a value on it, in the order of the pages, by series.
pub(super) type Expected = BTreeMap<Labels, Vec<(usize, f64)>>;

/// A page, and when it was asked for, in milliseconds since the Unix epoch.
#[derive(Clone)]
struct Given {
    page: String,
    asked: i64,
}

/// A target that gives another page each time, and remembers it.
pub(super) struct Source {
    address: SocketAddr,
    given: Arc<Mutex<Vec<Given>>>,
    /// The numbers of the pages that were collected at a stop, at no instant of their own.
    at_stops: RefCell<BTreeSet<usize>>,
    /// The time of each page, as the first receiver that was asked has it.
    times: RefCell<BTreeMap<usize, i64>>,
}

impl Source {
    pub(super) fn start() -> Self {
        Self::start_slow(Duration::ZERO)
    }

    /// One that lets others wait for each page for so long.
    pub(super) fn start_slow(wait: Duration) -> Self {
        let given: Arc<Mutex<Vec<Given>>> = Arc::default();
        let served = Arc::clone(&given);
        let address = serve("text/plain; version=0.0.4", move |_| {
            let mut given = served.lock().unwrap_or_else(PoisonError::into_inner);
            let page = page(given.len() + 1);
            given.push(Given { page: page.clone(), asked: now() });
            drop(given);
            thread::sleep(wait);
            page.into_bytes()
        });
        Self { address, given, at_stops: RefCell::default(), times: RefCell::default() }
    }

    /// Its item in `scrape_configs`.
    pub(super) fn config(&self) -> String {
        format!("scrape_configs: [{{ job_name: {JOB}, url: 'http://{}/metrics' }}]\n", self.address)
    }

    /// How many pages it has given.
    pub(super) fn n_pages(&self) -> usize {
        self.given().len()
    }

    /// Ends Podmeter by SIGTERM, and remembers the page that it collects then.
    pub(super) fn terminate(&self, exporter: Exporter) -> (ExitStatus, String) {
        let ended = exporter.terminate();
        self.at_stops.borrow_mut().insert(self.n_pages());
        ended
    }

    /// What a receiver must have of all pages, with these labels more.
    pub(super) fn expected(&self, more: &[(&str, &str)]) -> Expected {
        self.expected_of(1..=self.n_pages(), more)
    }

    /// The same of the pages with these numbers.
    pub(super) fn expected_of(
        &self,
        numbers: RangeInclusive<usize>,
        more: &[(&str, &str)],
    ) -> Expected {
        let mut expected = Expected::new();
        let given = self.given();
        let pages = (1..).zip(&given).filter(|(number, _)| numbers.contains(number));
        for (number, Given { page, .. }) in pages {
            for (mut labels, value) in page_samples(page) {
                labels.extend(more.iter().map(|(name, value)| ((*name).into(), (*value).into())));
                expected.entry(labels).or_default().push((number, value));
            }
        }
        expected
    }

    /// Fails unless the receiver has exactly these values, each once and in order, and all of a page with its time.
    pub(super) fn assert_same(&self, kind: Kind, received: &Samples, expected: &Expected) {
        for (labels, values) in expected {
            let got = received.get(labels).unwrap_or_else(|| {
                panic!(
                    "{labels:?} has not come; what has: {:?}",
                    received.keys().take(5).collect::<Vec<_>>()
                )
            });
            let is_same = got.len() == values.len()
                && got.iter().zip(values).all(|((_, got), (_, given))| is_kept(kind, *got, *given));
            assert!(is_same, "{labels:?}:\n got {got:?},\n not {values:?}");
            let mut times = self.times.borrow_mut();
            for ((time, _), (number, _)) in got.iter().zip(values) {
                let known = *times.entry(*number).or_insert(*time);
                assert_eq!(*time, known, "page {number} has one time, not that of {labels:?}");
            }
        }
        let n_more = received.keys().filter(|labels| !expected.contains_key(*labels)).count();
        assert_eq!((received.len(), n_more), (expected.len(), 0));
        self.assert_instants();
    }

    /// Fails unless the times of all pages are instants of one node, each page's the last one before it was asked for.
    fn assert_instants(&self) {
        let times = self.times.borrow();
        let (given, at_stops) = (self.given(), self.at_stops.borrow());
        let at_instants = times.iter().filter(|(number, _)| !at_stops.contains(*number));
        let offsets: BTreeSet<i64> =
            at_instants.map(|(_, time)| time.rem_euclid(INTERVAL)).collect();
        assert_eq!(offsets.len(), 1, "whole intervals apart, but at stops {at_stops:?}: {times:?}");
        let mut before = (0, 0);
        for (number, Given { asked, .. }) in (1..).zip(&given) {
            let Some(time) = times.get(&number) else { continue };
            let (last, last_asked) = before;
            assert!(last < *time, "times rise with pages: {times:?}");
            // A collection begins at its instant, or after it, and not before the one before is through.
            let is_own = last_asked <= *time && time <= asked;
            assert!(
                is_own,
                "page {number} has another's time: {time}, not {last_asked} to {asked}"
            );
            before = (*time, *asked);
        }
    }

    fn given(&self) -> Vec<Given> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The time as samples have it, in milliseconds since the Unix epoch.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    i64::try_from(since.as_millis()).expect("it is before the end of time")
}

/// The N-th page: counters, gauges that blink, numbers that no rounding survives, and a histogram; labels that are not in
/// order, with letters that are escaped.
fn page(n: usize) -> String {
    let mut page = String::new();
    let mut line = |text: std::fmt::Arguments<'_>| {
        writeln!(page, "{text}").expect("a string takes all");
    };
    line(format_args!("# HELP seen_total Pages that were seen.\n# TYPE seen_total counter"));
    for shard in 0..50 {
        line(format_args!(
            "seen_total{{z=\"{shard}\",Z=\"\\\"ä\\\\\\n\",a=\"b\"}} {}",
            n * 1000 + shard
        ));
    }
    line(format_args!("# TYPE level gauge\nlevel{{of=\"third\"}} {}", n as f64 / 3.0));
    line(format_args!("level{{of=\"huge\"}} {n}e300\nlevel{{of=\"less\"}} -{n}"));
    line(format_args!(
        "level{{of=\"endless\"}} {}",
        if n.is_multiple_of(2) { "+Inf" } else { "-Inf" }
    ));
    if n.is_multiple_of(3) {
        line(format_args!("level{{of=\"blinking\"}} {n}"));
    }
    line(format_args!("# TYPE took_seconds histogram"));
    line(format_args!(
        "took_seconds_bucket{{le=\"0.1\"}} {n}\ntook_seconds_bucket{{le=\"+Inf\"}} {}",
        2 * n
    ));
    line(format_args!("took_seconds_sum {}\ntook_seconds_count {}", n as f64 * 0.7, 2 * n));
    page
}

/// The numbers of the pages that a receiver has values of; fails unless they follow each other.
pub(super) fn numbers(received: &Samples) -> RangeInclusive<usize> {
    let numbers = all_numbers(received);
    let (first, last) = (numbers.first().expect("it has some"), numbers.last().expect("some"));
    let all = *first..=*last;
    assert_eq!(numbers, all.clone().collect::<Vec<_>>(), "each page once, and none is missing");
    all
}

/// The number of the last of them, nought if there is none.
pub(super) fn last_number(received: &Samples) -> usize {
    all_numbers(received).last().copied().unwrap_or_default()
}

fn all_numbers(received: &Samples) -> Vec<usize> {
    let is_counter = |labels: &Labels| labels["__name__"] == "seen_total" && labels["z"] == "0";
    let mut counters = received.iter().filter(|(labels, _)| is_counter(labels));
    let samples = counters.next().map(|(_, samples)| samples.as_slice()).unwrap_or_default();
    // See `page`.
    let number = |value: f64| (value / 1000.0).to_string().parse().expect("a whole number");
    samples.iter().map(|(_, value)| number(*value)).collect()
}

/// Whether a receiver keeps a value as it was given.
///
/// `VictoriaMetrics` keeps decimal numbers of some twelve digits; beyond them nobody can ask for more.
pub(super) fn is_kept(kind: Kind, got: f64, given: f64) -> bool {
    match kind {
        Kind::VictoriaMetrics if given.is_finite() => (got - given).abs() <= 1e-11 * given.abs(),
        Kind::Prometheus | Kind::VictoriaMetrics => got.to_bits() == given.to_bits(),
    }
}
