//! A target whose pages are all known afterwards.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::SocketAddr,
    ops::RangeInclusive,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use podmeter_tests::{
    page_server::serve,
    receiver::{Kind, Labels, Samples, page_samples},
};

/// The job of the target.
pub(super) const JOB: &str = "source";

/// A target that gives another page each time, and remembers it.
pub(super) struct Source {
    address: SocketAddr,
    pages: Arc<Mutex<Vec<String>>>,
}

impl Source {
    pub(super) fn start() -> Self {
        Self::start_slow(Duration::ZERO)
    }

    /// One that lets others wait for each page for so long.
    pub(super) fn start_slow(wait: Duration) -> Self {
        let pages: Arc<Mutex<Vec<String>>> = Arc::default();
        let served = Arc::clone(&pages);
        let address = serve("text/plain; version=0.0.4", move |_| {
            let mut pages = served.lock().unwrap_or_else(PoisonError::into_inner);
            let page = page(pages.len() + 1);
            pages.push(page.clone());
            drop(pages);
            thread::sleep(wait);
            page.into_bytes()
        });
        Self { address, pages }
    }

    /// Its item in `scrape_configs`.
    pub(super) fn config(&self) -> String {
        format!("scrape_configs: [{{ job_name: {JOB}, url: 'http://{}/metrics' }}]\n", self.address)
    }

    /// How many pages it has given.
    pub(super) fn n_pages(&self) -> usize {
        self.pages().len()
    }

    /// What a receiver must have of them: values in the order of the pages, by series, with these labels more.
    pub(super) fn expected(&self, more: &[(&str, &str)]) -> BTreeMap<Labels, Vec<f64>> {
        self.expected_of(1..=self.n_pages(), more)
    }

    /// The same of the pages with these numbers.
    pub(super) fn expected_of(
        &self,
        numbers: RangeInclusive<usize>,
        more: &[(&str, &str)],
    ) -> BTreeMap<Labels, Vec<f64>> {
        let mut expected: BTreeMap<Labels, Vec<f64>> = BTreeMap::new();
        let pages = self.pages();
        for page in pages.iter().take(*numbers.end()).skip(numbers.start() - 1) {
            for (mut labels, value) in page_samples(page) {
                labels.extend(more.iter().map(|(name, value)| ((*name).into(), (*value).into())));
                expected.entry(labels).or_default().push(value);
            }
        }
        expected
    }

    fn pages(&self) -> Vec<String> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
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

/// Fails unless the receiver has exactly these values, each once and in order.
///
/// `VictoriaMetrics` keeps decimal numbers of some twelve digits; beyond them nobody can ask for more.
pub(super) fn assert_same(kind: Kind, received: &Samples, expected: &BTreeMap<Labels, Vec<f64>>) {
    let is_kept = |got: f64, given: f64| match kind {
        Kind::VictoriaMetrics if given.is_finite() => (got - given).abs() <= 1e-11 * given.abs(),
        Kind::Prometheus | Kind::VictoriaMetrics => got.to_bits() == given.to_bits(),
    };
    for (labels, values) in expected {
        let got = received.get(labels).unwrap_or_else(|| {
            panic!(
                "{labels:?} has not come; what has: {:?}",
                received.keys().take(5).collect::<Vec<_>>()
            )
        });
        let got: Vec<f64> = got.iter().map(|(_, value)| *value).collect();
        let is_same = got.len() == values.len()
            && got.iter().zip(values).all(|(got, given)| is_kept(*got, *given));
        assert!(is_same, "{labels:?}:\n got {got:?},\n not {values:?}");
    }
    let n_more = received.keys().filter(|labels| !expected.contains_key(*labels)).count();
    assert_eq!((received.len(), n_more), (expected.len(), 0));
}
